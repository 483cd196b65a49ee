/* head_target.c - request targets and authorities.
 *
 * Stricter than RFC 3986 where a second reader might see something else: no
 * '#', no backslash, no %00, no escapes in a host name. Looser where browsers
 * are: any other visible ASCII passes unescaped.
 */
// SPDX-License-Identifier: MIT
#include "http/head_parts.h"

#include <arpa/inet.h>

/* "%41": two digits, not both zero. */
static bool is_escape(const char *p)
{
    return head_class(p[1], CLASS_HEX) && head_class(p[2], CLASS_HEX) &&
           (p[1] != '0' || p[2] != '0');
}

static const char *byte_fault(char c)
{
    switch (c) {
    case '%':
        return "the request target contains a broken escape or %00";
    case '#':
        return "the request target contains a fragment";
    case '\\':
        return "the request target contains a backslash";
    default:
        return "the request line is not method, target and version between single spaces";
    }
}

bool head_read_target(struct head_cursor *c)
{
    const char *p = c->p;
    struct head *out = c->out;
    for (;;) {
        if (head_class(*p, CLASS_TARGET))
            p++;
        else if (*p == '?') {
            if (!out->query.p)
                out->query.p = p + 1;
            p++;
        } else if (*p == '%' && is_escape(p))
            p += 3;
        else
            break;
    }
    out->target = (struct str){c->p, (size_t)(p - c->p)};
    if (out->target.len > c->limits->target_bytes)
        return head_refuse(c->refusal, 414, "the request target is too long", "9110 15.5.15");
    if (*p != ' ' || out->target.len == 0)
        return head_refuse(c->refusal, 400, byte_fault(*p), "9112 3.2");
    c->p = p + 1;
    return true;
}

static bool is_port(struct str port)
{
    unsigned number = 0;
    if (!port.len || port.len > 5)
        return false;
    for (const char *p = port.p, *end = p + port.len; p < end; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (digit > 9)
            return false;
        number = number * 10 + digit;
    }
    return number <= 65535;
}

/* "[::1]" with something behind it; cuts it off *rest. Rare: kept out of the way. */
static __attribute__((noinline)) bool take_ipv6(struct str *rest)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *end = memchr(rest->p, ']', rest->len);
    size_t len = end ? (size_t)(end - rest->p) - 1 : 0;
    if (len == 0 || len >= sizeof text)
        return false;
    memcpy(text, rest->p + 1, len);
    text[len] = 0;
    rest->p += len + 2;
    rest->len -= len + 2;
    return strlen(text) == len && inet_pton(AF_INET6, text, &address) == 1;
}

/* RFC 3986 3.2 without userinfo: host [":" port]. */
static bool judge_authority(struct str s)
{
    if (s.len && *s.p == '[') {
        if (!take_ipv6(&s))
            return false;
    } else {
        const char *p = s.p, *end = s.p + s.len;
        while (p < end && head_class(*p, CLASS_HOST))
            p++;
        if (p == s.p)
            return false;
        s = (struct str){p, (size_t)(end - p)};
    }
    return s.len == 0 || (*s.p == ':' && is_port((struct str){s.p + 1, s.len - 1}));
}

/* Clients name few hosts: the last good one is known again. */
static bool is_authority(struct str s)
{
    static _Thread_local struct {
        size_t len;
        char text[64];
    } last;
    if (s.len == last.len && s.len && memcmp(s.p, last.text, s.len) == 0)
        return true;
    if (!judge_authority(s))
        return false;
    if (s.len <= sizeof last.text) {
        last.len = s.len;
        memcpy(last.text, s.p, s.len);
    }
    return true;
}

/* Length of "http://" or "https://" at the start, or 0. */
static size_t scheme_len(struct str target)
{
    if (target.len > 7 && str_iequal((struct str){target.p, 7}, STR("http://")))
        return 7;
    if (target.len > 8 && str_iequal((struct str){target.p, 8}, STR("https://")))
        return 8;
    return 0;
}

/* Path and query from here to the end of the target. */
static void split_path(struct head *out, const char *path)
{
    const char *end = out->target.p + out->target.len;
    const char *path_end = end;
    if (out->query.p) {
        out->query.len = (size_t)(end - out->query.p);
        path_end = out->query.p - 1;
    }
    out->path = (struct str){path, (size_t)(path_end - path)};
}

static bool judge_absolute(struct head_cursor *c)
{
    struct head *out = c->out;
    size_t scheme = scheme_len(out->target);
    if (!scheme)
        return head_refuse(c->refusal, 400, "the request target is neither a path nor an http URL",
                           "9112 3.2");
    const char *end = out->target.p + out->target.len, *p = out->target.p + scheme;
    while (p < end && *p != '/' && *p != '?')
        p++;
    out->host = (struct str){out->target.p + scheme, (size_t)(p - out->target.p) - scheme};
    if (!is_authority(out->host))
        return head_refuse(c->refusal, 400, "the authority in the request target is malformed",
                           "9112 3.2.2");
    split_path(out, p);
    if (out->path.len == 0) /* RFC 9112 3.2.4 */
        out->path = out->method_id == METHOD_OPTIONS && !out->query.p ? STR("*") : STR("/");
    return true;
}

bool head_judge_target(struct head_cursor *c)
{
    struct head *out = c->out;
    if (*out->target.p == '/') {
        split_path(out, out->target.p);
        return true;
    }
    if (!str_equal(out->target, STR("*")))
        return judge_absolute(c);
    if (out->method_id != METHOD_OPTIONS)
        return head_refuse(c->refusal, 400, "the target * goes with OPTIONS only", "9112 3.2.4");
    out->path = out->target;
    return true;
}

bool head_judge_host(struct head_cursor *c)
{
    struct head *out = c->out;
    if (!out->first[FIELD_HOST])
        return out->minor == 0 ||
               head_refuse(c->refusal, 400, "the Host field is missing", "9112 3.2");
    if (head_repeats(c, FIELD_HOST))
        return head_refuse(c->refusal, 400, "there is more than one Host field", "9112 3.2");
    struct str host = head_get(out, FIELD_HOST);
    if (!is_authority(host))
        return head_refuse(c->refusal, 400, "the Host field is malformed", "9112 3.2");
    if (!out->host.p)
        out->host = host;
    return true;
}
