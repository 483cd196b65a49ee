// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

void generation_file(const struct engine *engine, uint64_t number, char *out, size_t size)
{
    snprintf(out, size, "%s/generations/%06llu.bundle", engine->state, (unsigned long long)number);
}

struct script *generation_load(const struct generation_opts *opts, const struct bundle *bundle,
                               struct config *config, struct problems *problems)
{
    struct config_texts texts = bundle_texts(bundle);
    struct config own;
    struct config *c = config ? config : &own;
    struct script *script = NULL;
    if (config_read(c, opts->options, &texts, problems)) {
        struct script_opts script_opts = {
            .io = opts->io,
            .board = opts->board,
            .process = opts->process,
            .lane = opts->lane,
            .upstreams = opts->upstreams,
            .compress = opts->compress,
            .tasks = opts->tasks,
            .cache = opts->cache,
            .generation = opts->number,
            .sources = bundle->files,
            .source_count = bundle->count,
            .routes_under = opts->control ? "routes/admin/" : "routes/",
            .routes_except = opts->control ? NULL : "routes/admin/",
            .policies = !opts->control,
            .named = c->upstreams,
            .named_count = c->upstream_count,
            .default_upstream = opts->control ? NULL : c->default_upstream,
            .pg = opts->pg,
            .databases = c->databases,
            .database_count = c->database_count,
            .redis = opts->redis,
            .redises = c->redises,
            .redis_count = c->redis_count,
            .bind = opts->bind,
            .bind_user = opts->bind_user,
        };
        script = script_new(&script_opts, problems);
    }
    if (!config)
        config_done(&own);
    return script;
}

bool generation_check(const struct options *options, const struct bundle *bundle, size_t *routes,
                      struct problems *problems)
{
    struct board_opts board_opts = {.workers = 1};
    struct board *board = board_new(&board_opts);
    size_t before = problems->count;
    *routes = 0;
    if (!board) {
        problems_add(problems, "", 0, "out of memory");
        return false;
    }
    /* The scripts are looked at even when the configuration is wrong, so that
     * everything is told at once; its own problems are told once. */
    struct config config;
    struct config_texts texts = bundle_texts(bundle);
    config_read(&config, options, &texts, problems);
    config_apply(&config, board, false);
    for (int control = 0; control < 2; control++) {
        struct script_opts opts = {
            .board = board,
            .process = board_worker(board, 0),
            .lane = board_lane(board, 0),
            .sources = bundle->files,
            .source_count = bundle->count,
            .routes_under = control ? "routes/admin/" : "routes/",
            .routes_except = control ? NULL : "routes/admin/",
            .policies = !control,
            .named = config.upstreams,
            .named_count = config.upstream_count,
            .default_upstream = control ? NULL : config.default_upstream,
            .databases = config.databases,
            .database_count = config.database_count,
            .redises = config.redises,
            .redis_count = config.redis_count,
        };
        struct script *script = script_new(&opts, problems);
        if (script && !control)
            *routes = script_route_count(script);
        if (script)
            script_retire(script);
    }
    config_done(&config);
    board_free(board);
    return problems->count == before;
}
