// SPDX-License-Identifier: MIT
#include "script/task_states.h"

#include "base/err.h"
#include "script/plain.h"
#include "script/state.h"

#include <stdio.h>
#include <stdlib.h>

enum { STATES_KEPT = 3 };

struct task_code {
    _Atomic unsigned references;
    _Atomic bool retired;
    struct board *board;
    struct board_process *process;
    uint64_t generation;
    struct source *sources;
    size_t count;
    struct pg_spec *databases; /* their names only: a module may name one when it loads */
    size_t database_count;
    struct redis_spec *redises; /* the same */
    size_t redis_count;
};

struct task_states {
    bool watched; /* this thread has its CPU timer */
    unsigned count;
    struct {
        struct task_code *code;
        struct script *script;
    } list[STATES_KEPT]; /* the last one used first */
};

/* ---- code ---- */

static bool is_wanted(const struct source *source)
{
    return strncmp(source->path, source->builtin ? "lua/" : "lib/", 4) == 0;
}

static bool copy_source(struct task_code *code, const struct source *from)
{
    char *text = malloc(from->text.len + 1);
    struct source *to = &code->sources[code->count++];
    *to = (struct source){strdup(from->path), strdup(from->name), {text, from->text.len}, from->builtin};
    if (text)
        memcpy(text, from->text.p, from->text.len);
    return text && to->path && to->name;
}

struct task_code *task_code_new(const struct script_opts *opts)
{
    struct task_code *code = calloc(1, sizeof *code);
    if (!code)
        return NULL;
    code->references = 1;
    code->board = opts->board;
    code->process = opts->process;
    code->generation = opts->generation;
    code->sources = calloc(opts->source_count + 1, sizeof *code->sources);
    code->databases = calloc(opts->database_count + 1, sizeof *code->databases);
    code->redises = calloc(opts->redis_count + 1, sizeof *code->redises);
    bool ok = code->sources && code->databases && code->redises;
    for (size_t i = 0; ok && i < opts->source_count; i++)
        ok = !is_wanted(&opts->sources[i]) || copy_source(code, &opts->sources[i]);
    for (size_t i = 0; ok && i < opts->database_count; i++)
        ok = (code->databases[code->database_count++].name = strdup(opts->databases[i].name)) != NULL;
    for (size_t i = 0; ok && i < opts->redis_count; i++)
        ok = (code->redises[code->redis_count++].name = strdup(opts->redises[i].name)) != NULL;
    if (ok)
        return code;
    task_code_put(code);
    return NULL;
}

struct task_code *task_code_hold(struct task_code *code)
{
    atomic_fetch_add(&code->references, 1);
    return code;
}

void task_code_put(struct task_code *code)
{
    if (!code || atomic_fetch_sub(&code->references, 1) > 1)
        return;
    for (size_t i = 0; i < code->count; i++) {
        free((char *)code->sources[i].path);
        free((char *)code->sources[i].name);
        free((char *)code->sources[i].text.p);
    }
    for (size_t i = 0; i < code->database_count; i++)
        free((char *)code->databases[i].name);
    for (size_t i = 0; i < code->redis_count; i++)
        free((char *)code->redises[i].name);
    free(code->databases);
    free(code->redises);
    free(code->sources);
    free(code);
}

void task_code_retire(struct task_code *code)
{
    atomic_store(&code->retired, true);
}

bool task_code_has(const struct task_code *code, const char *module)
{
    char path[300];
    size_t len = (size_t)snprintf(path, sizeof path, "%s.lua", module);
    if (len >= sizeof path)
        return false;
    for (size_t i = 0; i + 4 < len; i++)
        if (path[i] == '.')
            path[i] = '/';
    for (size_t i = 0; i < code->count; i++)
        if (!code->sources[i].builtin && strcmp(code->sources[i].path, path) == 0)
            return true;
    return false;
}

/* ---- states ---- */

void *task_states_new(void)
{
    return calloc(1, sizeof(struct task_states));
}

static void drop(struct task_states *states, unsigned at)
{
    script_end(states->list[at].script);
    task_code_put(states->list[at].code);
    states->count--;
    memmove(&states->list[at], &states->list[at + 1], (states->count - at) * sizeof *states->list);
}

void task_states_tidy(void *user)
{
    struct task_states *states = user;
    for (unsigned i = states->count; i-- > 0;)
        if (atomic_load(&states->list[i].code->retired))
            drop(states, i);
}

void task_states_free(void *user)
{
    struct task_states *states = user;
    while (states->count)
        drop(states, states->count - 1);
    if (states->watched)
        limits_stop();
    free(states);
}

static struct script_opts options_of(const struct task_code *code)
{
    return (struct script_opts){
        .board = code->board,
        .process = code->process,
        .generation = code->generation,
        .sources = code->sources,
        .source_count = code->count,
        .routes_under = "/", /* none: paths begin with a name */
        .databases = code->databases,
        .database_count = code->database_count,
        .redises = code->redises,
        .redis_count = code->redis_count,
        .in_task = true,
    };
}

static char *copy_text(const char *text)
{
    return strdup(text ? text : "out of memory");
}

/* The state for this code, made when there is none; NULL: *why says what is wrong. */
static struct script *state_for(struct task_states *states, struct task_code *code, char **why)
{
    unsigned at = 0;
    while (at < states->count && states->list[at].code != code)
        at++;
    if (at == states->count) {
        struct problems problems = {0};
        struct script_opts opts = options_of(code);
        struct script *script = script_new(&opts, &problems);
        if (!script)
            *why = copy_text(problems.count ? problems.list[0].text : NULL);
        problems_done(&problems);
        if (!script)
            return NULL;
        if (at == STATES_KEPT)
            drop(states, --at);
        states->list[at].script = script;
        states->list[at].code = task_code_hold(code);
        states->count++;
    }
    __typeof__(states->list[0]) found = states->list[at];
    memmove(&states->list[1], &states->list[0], at * sizeof *states->list);
    states->list[0] = found;
    return found.script;
}

/* ---- calls ---- */

struct calling {
    struct script *s;
    const struct script_opts *opts;
    struct task_call *call;
    int err;
    char why[PLAIN_WHY];
};

static int load_module(lua_State *L)
{
    struct calling *c = lua_touserdata(L, 1);
    loader_push_module(c->s, c->opts, c->call->module);
    return 0;
}

static int call_function(lua_State *L)
{
    struct calling *c = lua_touserdata(L, 1);
    loader_push_module(c->s, c->opts, c->call->module);
    c->err = task_call_run(L, c->call, c->why);
    return 0;
}

/* Runs one step under its budget; false: call->why says why not. */
static bool step(struct calling *c, lua_CFunction fn, unsigned budget_ms, const char *setting)
{
    lua_State *L = c->s->L;
    limits_enter_task(&c->s->heap, budget_ms, setting, c->call->stop);
    int status = lua_cpcall(L, fn, c);
    c->call->interrupted = limits_leave() || c->call->interrupted;
    if (status == 0)
        return true;
    c->call->why = copy_text(lua_isstring(L, -1) ? lua_tostring(L, -1) : "the error raised is not a string");
    lua_pop(L, 1);
    return false;
}

static int run(struct calling *c)
{
    const struct settings *settings = &c->s->board->settings;
    unsigned load_ms = (unsigned)setting_integer(settings, SETTING_SCRIPT_LOAD_MS);
    unsigned cpu_ms = (unsigned)setting_integer(settings, SETTING_TASKS_CPU_MS);
    if (!step(c, load_module, load_ms, "script.load_ms") || !step(c, call_function, cpu_ms, "tasks.cpu_ms"))
        return c->call->interrupted ? ERR_INTERRUPTED : ERR_SCRIPT;
    if (c->err < 0)
        c->call->why = copy_text(c->why);
    return c->err == ERR_INVAL ? ERR_SCRIPT : c->err;
}

int task_states_call(struct task_states *states, struct task_code *code, struct task_call *call)
{
    if (!states->watched && limits_start() < 0) {
        call->why = copy_text("the CPU timer of a task thread cannot be made");
        return ERR_IO;
    }
    states->watched = true;
    struct script_opts opts = options_of(code);
    struct calling c = {.s = state_for(states, code, &call->why), .opts = &opts, .call = call};
    if (!c.s)
        return ERR_SCRIPT;
    int err = run(&c);
    loader_push_over(c.s);
    if (call->interrupted || atomic_load(&code->retired))
        drop(states, 0); /* who knows what state its modules are in; or the last task of an old generation */
    return err;
}
