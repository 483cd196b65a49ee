/* Addresses of servers:
 *
 *     redis://[[user]:password@]host[:port][/database]
 *     unix://[[user]:password@]/path/of/the.sock[?db=1]
 *
 * User, password and path may be percent-encoded.
 */
// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include <stdio.h>
#include <stdlib.h>

enum { PORT = 6379, URL_MAX = 2048, DATABASE_MAX = 1000000, SOCKET_PATH_MAX = 107 };

static int hex(char c)
{
    c = ascii_lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A copy without percent-encoding; NULL: that is broken, or memory is out. */
static char *decode(struct str s)
{
    char *out = malloc(s.len + 1), *to = out;
    for (size_t i = 0; out && i < s.len; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = s.len - i > 2 ? hex(s.p[i + 1]) : -1, low = s.len - i > 2 ? hex(s.p[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) { /* %00 is no part of a name */
                free(out);
                return NULL;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        *to++ = c;
    }
    if (out)
        *to = 0;
    return out;
}

static bool wrong(char why[REDIS_WHY], const char *text)
{
    snprintf(why, REDIS_WHY, "%s", text);
    return false;
}

static bool take_user(struct redis_address *a, struct str user, char why[REDIS_WHY])
{
    const char *colon = memchr(user.p, ':', user.len);
    if (!colon)
        return wrong(why, "it has a user without a password; write user:password@, or :password@ for the default user");
    struct str name = {user.p, (size_t)(colon - user.p)};
    a->password = decode((struct str){colon + 1, user.len - name.len - 1});
    a->user = name.len ? decode(name) : NULL;
    if (!a->password || (name.len && !a->user))
        return wrong(why, "user or password has a '%' that is not followed by two hexadecimal digits");
    return true;
}

static bool take_database(struct redis_address *a, struct str text, char why[REDIS_WHY])
{
    uint64_t number = 0;
    if (!text.len)
        return true;
    if (!str_to_u64(text, &number) || number > DATABASE_MAX)
        return wrong(why, "the database is a number, like redis://host:6379/0");
    a->database = (unsigned)number;
    return true;
}

/* "?db=1" is all that a query may say. */
static bool take_query(struct redis_address *a, struct str query, char why[REDIS_WHY])
{
    struct str item;
    while (str_next(&query, '&', &item)) {
        if (!str_starts(item, STR("db=")))
            return wrong(why, "behind '?' only db=NUMBER is understood");
        if (!take_database(a, (struct str){item.p + 3, item.len - 3}, why))
            return false;
    }
    return true;
}

static bool take_host(struct redis_address *a, struct str host, char why[REDIS_WHY])
{
    const char *close = host.len && host.p[0] == '[' ? memchr(host.p, ']', host.len) : NULL;
    const char *colon = close ? (close + 1 < host.p + host.len ? close + 1 : NULL) : memchr(host.p, ':', host.len);
    uint64_t port = PORT;
    struct str name = close ? (struct str){host.p + 1, (size_t)(close - host.p) - 1}
                            : (struct str){host.p, colon ? (size_t)(colon - host.p) : host.len};
    if (colon) {
        struct str digits = {colon + 1, (size_t)(host.p + host.len - colon) - 1};
        if (*colon != ':' || !str_to_u64(digits, &port) || port < 1 || port > 65535)
            return wrong(why, "the port is a number from 1 to 65535");
    }
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.p[i] <= ' ' || (unsigned char)name.p[i] >= 0x7f || strchr("[]%", name.p[i]))
            return wrong(why, "the host has characters that no host has");
    a->port = (unsigned)port;
    a->host = name.len ? strndup(name.p, name.len) : strdup("127.0.0.1");
    return a->host || wrong(why, "out of memory");
}

static struct str cut_before(struct str *rest, char mark)
{
    const char *at = rest->len ? memchr(rest->p, mark, rest->len) : NULL;
    struct str before = {rest->p, at ? (size_t)(at - rest->p) : rest->len};
    size_t taken = before.len + (at != NULL);
    *rest = (struct str){rest->p + taken, rest->len - taken};
    return before;
}

static bool take_socket(struct redis_address *a, struct str path, char why[REDIS_WHY])
{
    a->path = decode(path);
    if (!a->path || !path.len || a->path[0] != '/' || strlen(a->path) > SOCKET_PATH_MAX)
        return wrong(why, "a Unix socket is an absolute path of at most 107 bytes, like unix:///run/redis/redis.sock");
    return true;
}

bool redis_address_parse(struct redis_address *a, const char *url, char why[REDIS_WHY])
{
    struct str s = str_from(url);
    *a = (struct redis_address){0};
    if (s.len > URL_MAX)
        return wrong(why, "it is longer than 2048 bytes");
    if (str_starts(s, STR("rediss://")))
        return wrong(why, "rediss:// is Redis over TLS, which is not available: the Redis client of this build (hiredis 0.14) cannot "
                          "encrypt. Use redis:// to a local stunnel or a proxy that encrypts, or a Unix socket");
    bool local = str_starts(s, STR("unix://"));
    size_t scheme = local ? 7 : 8;
    if (!local && !str_starts(s, STR("redis://")))
        return wrong(why, "it cannot be read; write redis://user:password@host:port/database or unix:///path/of/the.sock");
    struct str rest = {s.p + scheme, s.len - scheme};
    struct str query = rest, address = cut_before(&query, '?');
    const char *at = address.len ? memrchr(address.p, '@', address.len) : NULL;
    if (at && !take_user(a, (struct str){address.p, (size_t)(at - address.p)}, why))
        return false;
    if (at)
        address = (struct str){at + 1, (size_t)(address.p + address.len - at) - 1};
    if (local)
        return take_socket(a, address, why) && take_query(a, query, why);
    struct str database = address, host = cut_before(&database, '/');
    return take_host(a, host, why) && take_database(a, database, why) && take_query(a, query, why);
}

void redis_address_done(struct redis_address *a)
{
    free(a->host);
    free(a->path);
    free(a->user);
    if (a->password)
        explicit_bzero(a->password, strlen(a->password));
    free(a->password);
    *a = (struct redis_address){0};
}

void redis_address_show(const struct redis_address *a, char *out, size_t size)
{
    const char *user = a->user ? a->user : "", *mark = a->user ? "@" : "";
    if (a->host)
        snprintf(out, size, "%s%s%s:%u/%u", user, mark, a->host, a->port, a->database);
    else
        snprintf(out, size, "%s%s%s?db=%u", user, mark, a->path ? a->path : "?", a->database);
}

const char *redis_url_wrong(const char *url, char why[REDIS_WHY])
{
    struct redis_address a;
    bool good = redis_address_parse(&a, url, why);
    redis_address_done(&a);
    return good ? NULL : why;
}

void redis_url_show(const char *url, char *out, size_t size)
{
    struct redis_address a;
    char why[REDIS_WHY];
    if (redis_address_parse(&a, url, why))
        redis_address_show(&a, out, size);
    else
        snprintf(out, size, "?");
    redis_address_done(&a);
}
