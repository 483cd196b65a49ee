/* The key of a request as text, a line each:
 *
 *     http://host/path?query
 *     h:name:value            declared headers
 *     c:name=value            declared cookies
 *     name:value              what Vary named, in variants only
 *
 * The host is in lower case without a default port, the path canonical.
 */
// SPDX-License-Identifier: MIT
#include "cache/parts.h"

#include "cache/vary.h"
#include "http/path.h"

static bool list_has(const char *list, struct str name)
{
    struct str rest = str_from(list), one;
    while (str_next(&rest, ',', &one))
        if (str_equal(one, name))
            return true;
    return false;
}

static void add_host(struct buf *out, struct str host, bool secure)
{
    struct str port = secure ? STR(":443") : STR(":80");
    if (host.len > port.len && memcmp(host.p + host.len - port.len, port.p, port.len) == 0)
        host.len -= port.len;
    for (size_t i = 0; i < host.len; i++)
        buf_add_char(out, ascii_lower(host.p[i]));
}

/* The parameters that count, as sent and in their order. */
static struct str filter_query(struct cache_visit *v)
{
    const struct cache_policy *p = v->policy;
    struct str rest = v->ex->head->query, one;
    char *to = arena_alloc(v->ex->arena, rest.len + 1);
    struct str out = {to, 0};
    if (!to)
        return (struct str){NULL, 0};
    while (rest.len) {
        const char *end = memchr(rest.p, '&', rest.len);
        one = (struct str){rest.p, end ? (size_t)(end - rest.p) : rest.len};
        rest.p += one.len + (end != NULL);
        rest.len -= one.len + (end != NULL);
        const char *equal = memchr(one.p, '=', one.len);
        struct str name = path_decode(v->ex->arena, (struct str){one.p, equal ? (size_t)(equal - one.p) : one.len}, true);
        if (!one.len || !name.p || list_has(p->query_names, name) != (p->query == QUERY_KEEP))
            continue;
        if (out.len)
            to[out.len++] = '&';
        memcpy(to + out.len, one.p, one.len);
        out.len += one.len;
    }
    return out.len ? out : (struct str){NULL, 0};
}

static struct str query_of(struct cache_visit *v)
{
    struct str query = v->ex->head->query;
    if (!query.p || v->policy->query == QUERY_ALL)
        return query;
    return v->policy->query == QUERY_NONE ? (struct str){NULL, 0} : filter_query(v);
}

static void add_headers(const struct head *head, const char *names, struct buf *out)
{
    struct str rest = str_from(names), name;
    while (str_next(&rest, ',', &name)) {
        buf_add_str(out, STR("\nh:"));
        buf_add_str(out, name);
        buf_add_char(out, ':');
        vary_value(head, name, out);
    }
}

static void add_cookies(const struct head *head, const char *names, struct buf *out)
{
    struct str rest = str_from(names), name, pair;
    while (str_next(&rest, ',', &name)) {
        struct str cookies = head_get(head, FIELD_COOKIE);
        buf_add_str(out, STR("\nc:"));
        buf_add_str(out, name);
        while (cookies.p && str_next(&cookies, ';', &pair))
            if (pair.len > name.len && pair.p[name.len] == '=' && !memcmp(pair.p, name.p, name.len))
                buf_add_str(out, (struct str){pair.p + name.len, pair.len - name.len});
    }
}

bool key_write(struct cache_visit *v, struct buf *out)
{
    const struct head *head = v->ex->head;
    const struct cache_policy *p = v->policy;
    bool secure = exchange_is_secure(v->ex);
    v->query = query_of(v);
    buf_add_str(out, secure ? STR("https://") : STR("http://"));
    add_host(out, head->host, secure);
    buf_add_str(out, v->ex->path);
    if (v->query.p) {
        buf_add_char(out, '?');
        buf_add_str(out, v->query);
    }
    add_headers(head, p->key_headers, out);
    add_cookies(head, p->key_cookies, out);
    if (setting_number(&v->cache->board->settings, SETTING_SERVER_TRUST_FORWARDED) != 0)
        add_headers(head, "x-forwarded-host,x-forwarded-proto", out); /* the origin sees them */
    return buf_ok(out) && buf_len(out) <= KEY_BYTES_MAX;
}

void key_vary(const struct head *head, struct str names, struct buf *out)
{
    buf_add_char(out, '\n');
    vary_values(head, names, out);
}
