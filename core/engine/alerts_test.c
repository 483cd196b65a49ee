/* One blocking request: an address from ports.json, a body made and an answer read with the JSON of
 * the scripts.
 */
// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/alerts_test.h"

#include "base/buf.h"
#include "engine/engine.h"
#include "script/json.h"
#include "script/limits.h"

#include <errno.h>
#include <lauxlib.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { POLICY_MOST = 256 << 10, ANSWER_MOST = 64 << 20, WAIT_S = 120 };

#define PATH "/api/v1/performance-optimization/alerts/test"

__attribute__((format(printf, 2, 3))) static int fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "perilune: ");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

/* Appends a file. False with errno. */
static bool read_file(const char *path, size_t most, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    size_t n = 0;
    if (!f)
        return false;
    while (buf_len(out) <= most) {
        char *room = buf_room(out, 4096);
        if (!room || (n = fread(room, 1, 4096, f)) == 0)
            break;
        buf_wrote(out, n);
    }
    bool ok = !ferror(f) && buf_len(out) <= most;
    int err = ferror(f) ? errno : EFBIG;
    fclose(f);
    errno = ok ? 0 : err;
    return ok;
}

/* The address that the engine of a state folder has written down. */
static bool admin_address(const char *state, char *out, size_t size)
{
    static const char key[] = "\"admin\": \"";
    char path[4096];
    struct buf text = {0};
    snprintf(path, sizeof path, "%s/ports.json", state);
    bool ok = read_file(path, 4096, &text);
    buf_add_char(&text, 0);
    const char *at = ok && buf_ok(&text) ? strstr(buf_str(&text).p, key) : NULL;
    size_t len = at ? strcspn(at + sizeof key - 1, "\"") : 0;
    ok = at && len > 0 && len < size;
    if (ok)
        snprintf(out, size, "%.*s", (int)len, at + sizeof key - 1);
    buf_done(&text);
    return ok;
}

static int dial(const char *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    char host[256], port[8];
    uint16_t number;
    int fd = -1;
    if (!config_address(address, host, sizeof host, &number))
        return -1;
    snprintf(port, sizeof port, "%u", number);
    const char *name = strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1"
                       : strcmp(host, "::") == 0    ? "::1"
                                                    : host;
    if (getaddrinfo(name, port, &hints, &list) != 0)
        return -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

static bool send_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* Sends a body, appends the whole answer. */
static bool exchange_texts(const char *address, const char *token, struct str body,
                           struct buf *answer)
{
    struct buf head = {0};
    struct timeval wait = {.tv_sec = WAIT_S};
    int fd = dial(address);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    buf_printf(&head,
               "POST " PATH
               " HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\n",
               address, body.len);
    if (*token)
        buf_printf(&head, "Authorization: Bearer %s\r\n", token);
    buf_printf(&head, "\r\n");
    bool ok = send_all(fd, buf_str(&head).p, buf_len(&head)) && send_all(fd, body.p, body.len);
    for (ssize_t n = 1; ok && n > 0;) {
        char *room = buf_room(answer, 65536);
        n = room ? recv(fd, room, 65536, 0) : -1;
        ok = n >= 0 && buf_len(answer) <= ANSWER_MOST;
        if (n > 0)
            buf_wrote(answer, (size_t)n);
    }
    close(fd);
    buf_done(&head);
    return ok && buf_len(answer) > 0;
}

/* What is asked, as JSON. False: --policy or --from are wrong, and that was said. */
static bool make_body(lua_State *L, const struct options *o, struct buf *out)
{
    const char *why;
    lua_newtable(L);
    if (o->policy) {
        struct buf text = {0};
        if (!read_file(o->policy, POLICY_MOST, &text)) {
            fail(2, "%s cannot be read: %s", o->policy,
                 errno == EFBIG ? "it has more than 256 KiB" : strerror(errno));
            buf_done(&text);
            return false;
        }
        struct str whole = buf_str(&text);
        lua_pushlstring(L, whole.len ? whole.p : "", whole.len);
        lua_setfield(L, -2, "text");
        const char *slash = strrchr(o->policy, '/');
        lua_pushstring(L, slash ? slash + 1 : o->policy);
        lua_setfield(L, -2, "name");
        buf_done(&text);
    }
    if (o->from) {
        char *end;
        double from = strtod(o->from, &end);
        if (*end || end == o->from) {
            fail(2, "--from takes seconds, as -3600 for the last hour, not '%s'", o->from);
            return false;
        }
        lua_pushnumber(L, from);
        lua_setfield(L, -2, "from");
    }
    return json_encode(L, -1, out, &why);
}

static const char *text_of(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table holds it */
    return text ? text : "";
}

static void print_things(lua_State *L)
{
    lua_getfield(L, -1, "things");
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        lua_getfield(L, -1, "fired");
        double fired = lua_tonumber(L, -1);
        lua_pop(L, 1);
        if (fired > 0)
            printf("    %-30s %.0f\n", text_of(L, "thing"), fired);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* The answer's object is on top. */
static int print_answer(lua_State *L, int status)
{
    if (status != 200) {
        const char *detail = text_of(L, "detail");
        return fail(status >= 400 && status < 500 ? 2 : 1, "%s",
                    *detail ? detail : "the engine answered with an error");
    }
    lua_getfield(L, -1, "data");
    if (!lua_istable(L, -1))
        return fail(1, "the engine's answer cannot be read");
    lua_getfield(L, -1, "policies");
    for (int i = 1, n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        printf("%-20s %-9s %s\n", text_of(L, "policy"), text_of(L, "severity"), text_of(L, "text"));
        print_things(L);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    printf("%s to %s: %s\n", text_of(L, "from"), text_of(L, "to"), text_of(L, "text"));
    return 0;
}

static int read_answer(lua_State *L, struct buf *answer)
{
    char why[200];
    int status = 0;
    buf_add_char(answer, 0);
    const char *whole = buf_ok(answer) ? buf_str(answer).p : "", *body = strstr(whole, "\r\n\r\n");
    if (!body || sscanf(whole, "HTTP/1.1 %d", &status) != 1 ||
        json_decode(L, body + 4, strlen(body + 4), JSON_DEPTH_MAX, why, sizeof why) < 0 ||
        !lua_istable(L, -1))
        return fail(1, "the engine's answer cannot be read");
    return print_answer(L, status);
}

static int ask(lua_State *L, const struct options *o, const struct config *c)
{
    char address[300];
    struct buf body = {0}, answer = {0};
    int code = 2;
    if (make_body(L, o, &body)) {
        if (!admin_address(c->key[CONFIG_STATE].text, address, sizeof address))
            code = fail(
                1, "no engine runs on %s (there is no ports.json); name its folder with --state",
                c->key[CONFIG_STATE].text);
        else if (!exchange_texts(address, c->key[CONFIG_ADMIN_TOKEN].text, buf_str(&body), &answer))
            code = fail(1, "the control API at %s does not answer; does the engine run?", address);
        else
            code = read_answer(L, &answer);
    }
    buf_done(&body);
    buf_done(&answer);
    return code;
}

int alerts_test_run(const struct options *o)
{
    struct problems problems = {0};
    struct config config = {0};
    limits_start();
    struct bundle *b = config_collect(o, &problems);
    struct config_texts texts = b ? bundle_texts(b) : (struct config_texts){0};
    bool ok = b && config_read(&config, o, &texts, &problems);
    limits_stop();
    int code = 2;
    for (size_t i = 0; i < problems.count; i++)
        fprintf(stderr, "perilune: %s\n", problems.list[i].text);
    lua_State *L = ok ? luaL_newstate() : NULL;
    if (L) {
        json_open(L);
        code = ask(L, o, &config);
        lua_close(L);
    }
    bundle_free(b);
    config_done(&config);
    problems_done(&problems);
    return code;
}
