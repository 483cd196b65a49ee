// SPDX-License-Identifier: MIT
#include "engine/client.h"

#include "base/clock.h"
#include "engine/collect.h"
#include "engine/embedded.h"
#include "engine/remote.h"
#include "script/json.h"
#include "script/limits.h"
#include "script/text.h"

#include <errno.h>
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { FILE_MOST = 1 << 20 };

struct client {
    const struct options *options;
    const struct config *config;
    char address[300]; /* "": not yet known */
};

static struct client *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int fail(lua_State *L, const char *format, const char *what)
{
    lua_pushnil(L);
    lua_pushfstring(L, format, what);
    return 2;
}

/* request(method, path, body or nil): status, text of the body; or nil and why there is no answer. */
static int lua_request(lua_State *L)
{
    struct client *c = self(L);
    const char *state = c->config->key[CONFIG_STATE].text, *token = c->config->key[CONFIG_ADMIN_TOKEN].text;
    const char *method = luaL_checkstring(L, 1), *path = luaL_checkstring(L, 2);
    struct str body = {NULL, 0};
    struct buf answer = {0};
    int status = 0;
    if (!lua_isnoneornil(L, 3))
        body.p = luaL_checklstring(L, 3, &body.len);
    if (!*c->address && c->options->admin)
        snprintf(c->address, sizeof c->address, "%s", c->options->admin);
    if (!*c->address && !remote_address(state, c->address, sizeof c->address))
        return fail(L, "no engine runs on %s (there is no ports.json); name its folder with --state, or its address with --admin", state);
    struct remote to = {c->address, token};
    bool ok = remote_ask(&to, method, path, body, &answer);
    buf_add_char(&answer, 0);
    const char *whole = ok && buf_ok(&answer) ? buf_str(&answer).p : "", *text = strstr(whole, "\r\n\r\n");
    ok = text && sscanf(whole, "HTTP/1.1 %d", &status) == 1;
    if (ok) {
        lua_pushinteger(L, status);
        lua_pushlstring(L, text + 4, buf_len(&answer) - 1 - (size_t)(text + 4 - whole));
    }
    buf_done(&answer);
    return ok ? 2 : fail(L, "the control API at %s does not answer; does the engine run?", c->address);
}

/* read(path): a file's text; or nil and why. */
static int lua_read(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct buf text = {0};
    if (!remote_read_file(path, FILE_MOST, &text)) {
        buf_done(&text);
        lua_pushnil(L);
        lua_pushfstring(L, "%s cannot be read: %s", path, strerror(errno));
        return 2;
    }
    lua_pushlstring(L, buf_len(&text) ? buf_str(&text).p : "", buf_len(&text));
    buf_done(&text);
    return 1;
}

/* ---- the terminal of `top` ---- */

static struct termios cooked;
static volatile sig_atomic_t raw, resized;

static void restore(void)
{
    static const char leave[] = "\033[?25h\033[?1049l";
    if (!raw)
        return;
    raw = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &cooked);
    if (write(STDOUT_FILENO, leave, sizeof leave - 1) < 0)
        return;
}

static void on_end(int number)
{
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

static void on_resize(int number)
{
    (void)number;
    resized = 1;
}

/* screen(): takes the terminal over until the end of the program, whichever it is. Columns and rows; nil when it is none. */
static int lua_screen(lua_State *L)
{
    static const char enter[] = "\033[?1049h\033[?25l";
    struct winsize size;
    if (!isatty(STDIN_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return 0;
    if (!raw && tcgetattr(STDIN_FILENO, &cooked) == 0) {
        struct termios keys = cooked;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        keys.c_cc[VMIN] = 0;
        keys.c_cc[VTIME] = 0;
        atexit(restore);
        signal(SIGINT, on_end);
        signal(SIGTERM, on_end);
        signal(SIGHUP, on_end);
        signal(SIGWINCH, on_resize);
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
        raw = 1;
        if (write(STDOUT_FILENO, enter, sizeof enter - 1) < 0)
            return 0;
    }
    resized = 0;
    lua_pushinteger(L, size.ws_col ? size.ws_col : 80); /* some terminals do not know theirs */
    lua_pushinteger(L, size.ws_row ? size.ws_row : 24);
    return 2;
}

/* key(seconds): waits for a key, at most so long: the key, or nil. */
static int lua_key(lua_State *L)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    double seconds = luaL_checknumber(L, 1);
    char key;
    if (poll(&in, raw ? 1 : 0, (int)(seconds * 1000)) <= 0 || read(STDIN_FILENO, &key, 1) != 1)
        return 0;
    lua_pushlstring(L, &key, 1);
    return 1;
}

/* ---- waiting for an operation ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* wait(seconds): false when somebody wants the end (SIGINT, SIGTERM), from the first call on. */
static int lua_wait(lua_State *L)
{
    struct sigaction end = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    double seconds = luaL_checknumber(L, 1);
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    if (!interrupted)
        poll(NULL, 0, (int)(seconds * 1000));
    lua_pushboolean(L, !interrupted);
    return 1;
}

/* ---- running ---- */

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (text)
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
    lua_setfield(L, -2, name);
}

/* The options of bench as they were written, by their names; headers is a list. */
static void set_bench(lua_State *L, const struct options *o)
{
    const struct {
        const char *name, *text;
    } texts[] = {{"target", o->bench.target}, {"connections", o->bench.connections}, {"rate", o->bench.rate}, {"duration", o->bench.duration},
                 {"iterations", o->bench.iterations}, {"warmup", o->bench.warmup}, {"repeats", o->bench.repeats}, {"method", o->bench.method},
                 {"body", o->bench.body}, {"expect-status", o->bench.expect}, {"expect-body", o->bench.expect_body}, {"script", o->bench.script},
                 {"slo", o->bench.slo}, {"seed", o->bench.seed}, {"compare", o->bench.compare}, {"pairs", o->bench.pairs}, {"block", o->bench.block},
                 {"output", o->replay.output}, {"poisson", o->bench.poisson ? "" : NULL}, {"find-capacity", o->bench.find_capacity ? "" : NULL}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        set_text(L, texts[i].name, texts[i].text);
    lua_newtable(L);
    for (unsigned i = 0; i < o->bench.header_count; i++) {
        lua_pushstring(L, o->bench.headers[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "headers");
    lua_setfield(L, -2, "bench");
}

static void make_core(lua_State *L, struct client *c)
{
    static const luaL_Reg functions[] = {{"request", lua_request}, {"read", lua_read}, {"screen", lua_screen}, {"key", lua_key}, {"wait", lua_wait}, {0}};
    static const char *const commands[] = {[COMMAND_TOP] = "top", [COMMAND_SUGGEST] = "suggest", [COMMAND_CONFIG] = "config", [COMMAND_ALERTS] = "alerts",
                                           [COMMAND_BENCH] = "bench"};
    const struct options *o = c->options;
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, c);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    json_open(L);
    lua_setfield(L, -2, "json");
    text_nearest_open(L);
    set_text(L, "command", commands[o->command]);
    set_text(L, "shape", o->shape);
    set_text(L, "reason", o->reason);
    set_text(L, "policy", o->policy);
    set_text(L, "from", o->from);
    set_bench(L, o);
    lua_pushboolean(L, isatty(STDOUT_FILENO));
    lua_setfield(L, -2, "is_terminal");
    lua_newtable(L);
    for (unsigned i = 0; i < o->word_count; i++) {
        lua_pushstring(L, o->words[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "words");
}

static const struct embedded *find(const char *path)
{
    for (const struct embedded *f = embedded_files; f->path; f++)
        if (strcmp(f->path, path) == 0)
            return f;
    return NULL;
}

static int run(lua_State *L)
{
    const struct embedded *file = find("lua/perilune/cli.lua");
    if (!file || luaL_loadbuffer(L, file->start, (size_t)(file->end - file->start), "@lua/perilune/cli.lua") != 0)
        return file ? lua_error(L) : luaL_error(L, "the program lacks its own Lua files");
    make_core(L, lua_touserdata(L, 1));
    lua_call(L, 1, 1);
    return 1;
}

static int in_lua(struct client *c)
{
    lua_State *L = luaL_newstate();
    int code = 1;
    if (!L)
        return 1;
    luaL_openlibs(L);
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* a compiled pairs() may end early: LuaJIT issue 827 */
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 1, 1, 0) == 0)
        code = (int)lua_tointeger(L, -1);
    else
        fprintf(stderr, "perilune: %s\n", lua_tostring(L, -1));
    restore();
    lua_close(L);
    return code;
}

int client_run(const struct options *o)
{
    struct problems problems = {0};
    struct config config = {0};
    limits_start();
    struct bundle *b = config_collect(o, &problems);
    struct config_texts texts = b ? bundle_texts(b) : (struct config_texts){0};
    bool ok = b && config_read(&config, o, &texts, &problems);
    limits_stop();
    for (size_t i = 0; i < problems.count; i++) {
        const struct problem *p = &problems.list[i];
        fprintf(stderr, "perilune: %s%s%s\n", p->file, *p->file ? ": " : "", p->text);
    }
    struct client client = {.options = o, .config = &config};
    int code = ok ? in_lua(&client) : 2;
    bundle_free(b);
    config_done(&config);
    problems_done(&problems);
    return code;
}
