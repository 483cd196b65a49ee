// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/offline.h"

#include "base/log.h"
#include "engine/engine.h"
#include "script/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool offline_config(const struct options *o, struct config *config, struct problems *problems)
{
    struct bundle *b = config_collect(o, problems);
    struct config_texts texts = b ? bundle_texts(b) : (struct config_texts){0};
    bool ok = b && config_read(config, o, &texts, problems);
    bundle_free(b);
    return ok;
}

void offline_print(const struct problems *problems, FILE *to)
{
    struct buf text = {0};
    problems_print(problems, &text);
    fprintf(to, "%.*s", (int)buf_len(&text), text.data ? text.data : "");
    buf_done(&text);
}

/* For the process that reads it: file and line on every line, even when they
 * say nothing. */
static void print_for_control(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        printf("%s:%d: %s\n", problems->list[i].file, problems->list[i].line, problems->list[i].text);
}

int check_run(const struct options *o)
{
    struct problems problems = {0}, ignored = {0};
    struct config config = {0};
    struct bundle *b;
    size_t routes = 0, files = 0;
    limits_start();
    if (o->bundle) {
        b = bundle_load(o->bundle, &problems);
    } else {
        offline_config(o, &config, &ignored);
        const char *rules = config.key[CONFIG_RULES].text;
        struct bundle_from from = {config_path(o), config.key[CONFIG_STATE].text, rules ? rules : "rules", NULL};
        b = bundle_collect(&from, &problems);
        if (rules && config.key[CONFIG_RULES].origin != ORIGIN_DEFAULT && access(rules, R_OK) < 0)
            problems_add(&problems, rules, 0, "there is no such folder; create it or choose another with --rules");
    }
    bool ok = b && generation_check(o, b, &routes, &problems) && !problems.count;
    files = b ? b->own : 0;
    limits_stop();
    if (o->bundle)
        print_for_control(&problems);
    else
        offline_print(&problems, stdout);
    if (ok && !o->bundle)
        printf("ok: %zu file%s, %zu route%s\n", files, files == 1 ? "" : "s", routes, routes == 1 ? "" : "s");
    bundle_free(b);
    config_done(&config);
    problems_done(&problems);
    problems_done(&ignored);
    return ok ? 0 : 2;
}
