// SPDX-License-Identifier: MIT
#include "cache/facts.h"

#include "cache/http_date.h"

#include <math.h>

static void join(struct buf *to, struct str value)
{
    if (buf_len(to))
        buf_add_str(to, STR(", "));
    buf_add_str(to, value);
}

static void read_etag(struct facts *f, struct str value)
{
    struct str opaque = value;
    bool weak = str_starts(value, STR("W/"));
    if (weak)
        opaque = (struct str){value.p + 2, value.len - 2};
    if (opaque.len < 2 || opaque.p[0] != '"' || opaque.p[opaque.len - 1] != '"' ||
        memchr(opaque.p + 1, '"', opaque.len - 2))
        return;
    f->etag = value;
    f->etag_weak = weak;
}

static void read_field(struct facts *f, struct str name, struct str value, uint64_t now_ms)
{
    if (str_iequal(name, STR("expires"))) {
        uint64_t ms = 0;
        bool valid = http_date_read(value, now_ms, &ms);
        /* of two the earlier one holds, and what is no date is in the past */
        f->expires_ms = f->has_expires && f->expires_ms < ms ? f->expires_ms : ms;
        f->expires_valid = valid;
        f->has_expires = true;
    } else if (str_iequal(name, STR("date"))) {
        f->has_date = http_date_read(value, now_ms, &f->date_ms);
    } else if (str_iequal(name, STR("age"))) {
        struct str first = value;
        uint64_t s;
        str_next(&value, ',', &first);
        if (str_to_u64(first, &s))
            f->age_s = s < DIRECTIVE_MOST_S ? s : DIRECTIVE_MOST_S;
    } else if (str_iequal(name, STR("etag"))) {
        read_etag(f, value);
    } else if (str_iequal(name, STR("last-modified"))) {
        if (http_date_read(value, now_ms, &f->last_modified_ms))
            f->last_modified = value;
    } else if (str_iequal(name, STR("vary"))) {
        f->has_vary = true;
    } else if (str_iequal(name, STR("set-cookie"))) {
        f->has_set_cookie = true;
    } else if (str_iequal(name, STR("content-encoding"))) {
        f->has_content_encoding = !str_iequal(value, STR("identity"));
    } else if (str_iequal(name, STR("content-range"))) {
        f->has_content_range = true;
    }
}

void facts_read(struct facts *f, const struct http_header *headers, size_t count, uint64_t now_ms)
{
    struct buf own = {0}, cdn = {0};
    struct directives general, targeted;
    *f = (struct facts){0};
    directives_init(&general);
    for (size_t i = 0; i < count; i++) {
        struct str name = headers[i].name, value = headers[i].value;
        if (str_iequal(name, STR("cache-control")))
            directives_read(&general, value);
        else if (str_iequal(name, STR("perilune-cache-control")))
            join(&own, value);
        else if (str_iequal(name, STR("cdn-cache-control")))
            join(&cdn, value);
        else
            read_field(f, name, value, now_ms);
    }
    f->control = general;
    if (directives_read_targeted(&targeted, buf_str(&own)) ||
        directives_read_targeted(&targeted, buf_str(&cdn))) {
        f->control = targeted;
        f->has_expires = false; /* RFC 9213 2.2 */
    }
    if (!buf_ok(&own) || !buf_ok(&cdn))
        f->control.no_store = true;
    buf_done(&own);
    buf_done(&cdn);
    if (!f->has_date)
        f->date_ms = now_ms;
}

/* What may be stored when it says so itself. Errors that a strange request can
 * provoke (400, 413, 414, 431) are never among them, or one client could make
 * a page fail for all (cache-poisoned denial of service). */
static bool is_storable(int status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 300:
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
    case 404:
    case 410:
    case 451:
        return true;
    default:
        return false;
    }
}

static bool is_never(int status)
{
    return status < 200 || status == 206 || status == 304 || status == 400 || status == 413 ||
           status == 414 || status == 431;
}

static double ttl_of_status(const struct fresh_opts *o)
{
    for (unsigned i = 0; i < o->by_status_count; i++)
        if (o->by_status[i].status == o->status)
            return o->by_status[i].ttl_s;
    return -1;
}

/* Freshness lifetime in seconds, RFC 9111 4.2.1; negative: nothing says one. */
static double lifetime(const struct facts *f, const struct fresh_opts *o)
{
    const struct directives *c = &f->control;
    double by_status = ttl_of_status(o);
    if (o->force_ttl_s >= 0)
        return o->force_ttl_s;
    if (c->s_maxage != DIRECTIVE_ABSENT)
        return (double)c->s_maxage;
    if (c->max_age != DIRECTIVE_ABSENT)
        return (double)c->max_age;
    if (f->has_expires)
        return f->expires_valid && f->expires_ms > f->date_ms
                   ? (double)(f->expires_ms - f->date_ms) / 1e3
                   : 0;
    if (by_status >= 0)
        return by_status;
    if (o->heuristic > 0 && f->last_modified.p && f->last_modified_ms < f->date_ms &&
        (o->status == 200 || c->is_public))
        return fmin((double)(f->date_ms - f->last_modified_ms) / 1e3 * o->heuristic,
                    o->heuristic_most_s);
    return o->status < 400 ? o->ttl_s : -1;
}

/* RFC 9111 4.2.3 */
static double initial_age(const struct facts *f, const struct fresh_opts *o)
{
    double apparent = o->responded_ms > f->date_ms ? (double)(o->responded_ms - f->date_ms) / 1e3 : 0;
    double delay = o->responded_ms > o->requested_ms
                       ? (double)(o->responded_ms - o->requested_ms) / 1e3
                       : 0;
    return fmax(apparent, (double)f->age_s + delay);
}

static uint64_t window_ms(int64_t said_s, double policy_s)
{
    if (said_s != DIRECTIVE_ABSENT)
        return (uint64_t)said_s * 1000;
    return policy_s > 0 ? (uint64_t)(policy_s * 1e3) : 0;
}

static const char *refusal(const struct facts *f, const struct fresh_opts *o)
{
    const struct directives *c = &f->control;
    if (c->no_store && !(c->must_understand && is_storable(o->status)))
        return "no-store";
    if (c->is_private)
        return "private";
    if (f->has_set_cookie)
        return "set-cookie";
    if (f->has_content_range || is_never(o->status))
        return "status";
    if (!is_storable(o->status) && ttl_of_status(o) < 0)
        return "status";
    if (o->authorized && !c->is_public && !c->must_revalidate && c->s_maxage == DIRECTIVE_ABSENT)
        return "authorization"; /* RFC 9111 3.5 */
    return NULL;
}

const char *facts_judge(const struct facts *f, const struct fresh_opts *o, struct fresh *out)
{
    const struct directives *c = &f->control;
    const char *why = refusal(f, o);
    if (why)
        return why;
    double lasts_s = lifetime(f, o);
    bool validator = f->etag.p || f->last_modified.p;
    if (lasts_s < 0 && !(c->no_cache && validator))
        return "no-lifetime";
    *out = (struct fresh){
        .initial_age_s = initial_age(f, o),
        .always_validate = c->no_cache,
        .never_stale = c->must_revalidate || c->proxy_revalidate || c->no_cache,
    };
    double left_s = fmax(0, lasts_s - (o->force_ttl_s >= 0 ? 0 : out->initial_age_s));
    out->fresh_until_ms = o->responded_ms + (c->no_cache ? 0 : (uint64_t)(left_s * 1e3));
    if (!out->never_stale) {
        /* s-maxage forbids stale answers (RFC 9111 5.2.2.10) unless the answer allows them itself */
        bool shared = c->s_maxage != DIRECTIVE_ABSENT;
        out->stale_while_ms = window_ms(c->stale_while_revalidate, shared ? 0 : o->stale_while_s);
        out->stale_error_ms = window_ms(c->stale_if_error, shared ? 0 : o->stale_error_s);
    }
    if (out->fresh_until_ms == o->responded_ms && !validator && !out->stale_while_ms &&
        !out->stale_error_ms)
        return "stale";
    return NULL;
}

static struct str opaque_of(struct str tag)
{
    return str_starts(tag, STR("W/")) ? (struct str){tag.p + 2, tag.len - 2} : tag;
}

bool etag_list_has(struct str list, struct str etag, bool strong)
{
    const char *p = list.p, *end = list.p + list.len;
    if (str_equal(str_trim(list), STR("*")))
        return true;
    if (!etag.len || (strong && str_starts(etag, STR("W/"))))
        return false;
    while (p < end) {
        if (*p == ' ' || *p == '\t' || *p == ',') {
            p++;
            continue;
        }
        const char *from = p;
        bool weak = end - p > 2 && p[0] == 'W' && p[1] == '/';
        p += weak ? 2 : 0;
        const char *close = p < end && *p == '"' ? memchr(p + 1, '"', (size_t)(end - p - 1)) : NULL;
        if (!close)
            return false;
        struct str one = {from, (size_t)(close + 1 - from)};
        if (!(strong && weak) && str_equal(opaque_of(one), opaque_of(etag)))
            return true;
        p = close + 1;
    }
    return false;
}
