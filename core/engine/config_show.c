// SPDX-License-Identifier: MIT
#include "engine/offline.h"

#include "base/json_text.h"
#include "script/limits.h"

#include <stdio.h>

static void print_number(char *out, size_t size, const struct setting_info *info, double value)
{
    if (info->type == SETTING_BOOLEAN)
        snprintf(out, size, "%s", value != 0 ? "true" : "false");
    else
        snprintf(out, size, "%.15g", value);
}

struct shown {
    bool json, origin;
    unsigned count;
};

/* A line: a name, its value, a unit, and where that comes from (NULL: from the file, which alone can have it). */
static void show(struct shown *s, const char *name, const char *value, const char *unit, const char *origin)
{
    if (s->json) {
        fputs(s->count++ ? ",\n {\"name\": " : "[{\"name\": ", stdout);
        json_text(stdout, name);
        fputs(", \"value\": ", stdout);
        json_text(stdout, value);
        fputs(", \"unit\": ", stdout);
        json_text(stdout, *unit ? unit : NULL);
        fputs(", \"origin\": ", stdout);
        json_text(stdout, origin ? origin : "file");
        fputs("}", stdout);
    } else {
        printf("%-34s %-14s %-7s", name, *value ? value : "-", unit);
        printf(s->origin && origin ? " %s\n" : "\n", origin);
    }
}

/* What only the file can have: tokens, upstreams, databases. */
static void show_lists(struct shown *s, const struct config *c)
{
    char name[300], value[300], database[PG_WHY], redis[REDIS_WHY];
    for (size_t i = 0; i < c->token_count; i++) {
        snprintf(name, sizeof name, "admin_tokens.%s", c->tokens[i].name);
        show(s, name, config_role_name(c->tokens[i].role), "", NULL);
    }
    for (size_t i = 0; i < c->upstream_count; i++)
        for (size_t j = 0; j < c->upstreams[i].peer_count; j++) {
            snprintf(name, sizeof name, "upstreams.%s", c->upstreams[i].name);
            snprintf(value, sizeof value, "%.*s:%u", STR_ARG(c->upstreams[i].peers[j].host), c->upstreams[i].peers[j].port);
            show(s, name, value, "", NULL);
        }
    for (size_t i = 0; i < c->database_count; i++) {
        snprintf(name, sizeof name, "postgres.%s", c->databases[i].name);
        pg_dsn_show(c->databases[i].dsn, database, sizeof database); /* without the password */
        show(s, name, database, "", NULL);
    }
    for (size_t i = 0; i < c->redis_count; i++) {
        snprintf(name, sizeof name, "redis.%s", c->redises[i].name);
        redis_url_show(c->redises[i].url, redis, sizeof redis); /* without the password */
        show(s, name, redis, "", NULL);
    }
}

int config_show_run(const struct options *o)
{
    struct problems problems = {0};
    struct config c = {0};
    struct shown s = {options_want_json(o), o->show_origin, 0};
    limits_start();
    bool ok = offline_config(o, &c, &problems);
    limits_stop();
    offline_print(&problems, stderr);
    for (int i = 0; ok && i < CONFIG_KEYS; i++) {
        const char *text = i == CONFIG_ADMIN_TOKEN && *c.key[i].text ? "***" : c.key[i].text;
        show(&s, config_key_name((enum config_key)i), text, "", setting_origin_name(c.key[i].origin));
    }
    if (ok)
        show_lists(&s, &c);
    for (int i = 0; ok && i < SETTING_COUNT; i++) {
        const struct setting_info *info = &setting_infos[i];
        char value[32];
        print_number(value, sizeof value, info, c.setting[i]);
        show(&s, info->name, value, info->unit, setting_origin_name((enum setting_origin)c.setting_origin[i]));
    }
    for (size_t i = 0; ok && i < c.own_count; i++) {
        const struct setting_info *info = &setting_infos[own_setting_ids[c.own[i].which]];
        char value[32];
        print_number(value, sizeof value, info, c.own[i].value);
        if (config_own_counts(&c, i))
            show(&s, c.own[i].name, value, info->unit, setting_origin_name(c.own[i].origin));
    }
    if (ok && s.json)
        puts("]");
    config_done(&c);
    problems_done(&problems);
    return ok ? 0 : 2;
}
