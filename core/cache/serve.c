/* A record becomes an answer: conditions, ranges, age (RFC 9110 13, 14; RFC 9111 4). */
// SPDX-License-Identifier: MIT
#include "cache/parts.h"

#include "cache/http_date.h"

#include <stdio.h>

enum { SPARE_HEADERS = 4 };

/* ---- conditions ---- */

bool serve_is_not_modified(const struct head *head, struct str etag, uint64_t last_modified_ms,
                           uint64_t now_ms)
{
    uint64_t since_ms;
    bool seen = false;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *f = &head->fields[i];
        if (f->name.len != 13 || !str_iequal(f->name, STR("if-none-match")))
            continue;
        seen = true;
        if (etag_list_has(f->value, etag, false))
            return true;
    }
    if (seen || !last_modified_ms)
        return false; /* RFC 9110 13.1.3: If-None-Match decides alone */
    struct str since = head_find(head, STR("if-modified-since"));
    return since.p && http_date_read(since, now_ms, &since_ms) && last_modified_ms <= since_ms;
}

/* What a 304 shows of an answer's fields (RFC 9110 15.4.5). */
static bool is_for_304(struct str name)
{
    return !(name.len > 8 && str_iequal((struct str){name.p, 8}, STR("content-"))) ||
           str_iequal(name, STR("content-location"));
}

/* ---- ranges ---- */

enum range { RANGE_NONE, RANGE_PART, RANGE_UNSATISFIABLE };

/* One range of bytes; several, or what is malformed, is answered whole. */
static enum range read_range(struct str value, uint64_t size, uint64_t *from, uint64_t *to)
{
    if (value.len < 7 || !str_iequal((struct str){value.p, 6}, STR("bytes=")))
        return RANGE_NONE;
    value = str_trim((struct str){value.p + 6, value.len - 6});
    const char *dash = memchr(value.p, '-', value.len);
    if (!dash || memchr(value.p, ',', value.len))
        return RANGE_NONE;
    struct str first = {value.p, (size_t)(dash - value.p)};
    struct str last = {dash + 1, (size_t)(value.p + value.len - dash - 1)};
    uint64_t n;
    if (!first.len) { /* the last n bytes */
        if (!str_to_u64(last, &n))
            return RANGE_NONE;
        if (!n || !size)
            return RANGE_UNSATISFIABLE;
        *from = n < size ? size - n : 0;
        *to = size - 1;
        return RANGE_PART;
    }
    if (!str_to_u64(first, from) || (last.len && (!str_to_u64(last, to) || *to < *from)))
        return RANGE_NONE;
    if (*from >= size)
        return RANGE_UNSATISFIABLE;
    if (!last.len || *to >= size)
        *to = size - 1;
    return RANGE_PART;
}

/* RFC 9110 13.1.5: a strong tag, or a date that is exactly ours and old enough to be strong. */
static bool if_range_holds(const struct head *head, const struct record_view *v, uint64_t now_ms)
{
    struct str value = head_find(head, STR("if-range"));
    uint64_t ms;
    if (!value.p)
        return true;
    if (value.len && (value.p[value.len - 1] == '"'))
        return v->etag.len && !str_starts(value, STR("W/")) && etag_list_has(value, v->etag, true);
    return http_date_read(value, now_ms, &ms) && v->r.last_modified_ms && ms == v->r.last_modified_ms &&
           v->r.last_modified_ms + 1000 <= v->r.responded_ms;
}

static enum range range_of(const struct head *head, const struct record_view *v, uint64_t now_ms,
                           uint64_t *from, uint64_t *to)
{
    struct str value = head_find(head, STR("range"));
    if (!value.p || head->method_id != METHOD_GET || v->r.status != 200 || !if_range_holds(head, v, now_ms))
        return RANGE_NONE;
    return read_range(value, v->body.len, from, to);
}

/* ---- answering ---- */

static struct str cache_status(struct exchange *ex, const struct record_view *v,
                               const struct serve_opts *o, uint64_t now_ms)
{
    char *p = arena_alloc(ex->arena, 96);
    long long ttl = ((long long)v->r.fresh_until_ms - (long long)now_ms) / 1000;
    int n = 0;
    if (!p)
        return (struct str){NULL, 0};
    switch (o->how) {
    case SERVE_HIT:
        n = snprintf(p, 96, "perilune; hit; ttl=%lld", ttl);
        break;
    case SERVE_STALE:
        n = snprintf(p, 96, o->forward ? "perilune; hit; ttl=%lld; fwd=%s" : "perilune; hit; ttl=%lld", ttl,
                     o->forward);
        break;
    case SERVE_REVALIDATED:
        n = snprintf(p, 96, "perilune; fwd=%s; fwd-status=304; ttl=%lld", o->forward, ttl);
        break;
    case SERVE_COLLAPSED:
        n = snprintf(p, 96, "perilune; fwd=uri-miss; collapsed; ttl=%lld", ttl);
        break;
    }
    return (struct str){p, (size_t)n};
}

static struct str age_of(struct exchange *ex, const struct record_view *v, uint64_t now_ms)
{
    char *p = arena_alloc(ex->arena, 24);
    uint64_t resident_s = now_ms > v->r.responded_ms ? (now_ms - v->r.responded_ms) / 1000 : 0;
    return (struct str){p, p ? (size_t)snprintf(p, 24, "%llu", v->r.initial_age_s + (unsigned long long)resident_s) : 0};
}

static void say(struct exchange *ex, const struct serve_opts *o, const struct answer *a, struct str body)
{
    if (o->in_filter)
        filter_answer(ex, o->through, a, body);
    else
        exchange_answer(ex, a, body);
}

/* With every field as a view of its own: for other answers than the whole one, and for filters. */
static void serve_apart(struct exchange *ex, const struct record_view *v, const struct serve_opts *o,
                        struct answer *a, struct str body)
{
    struct http_header stored[RECORD_HEADERS_MAX], all[RECORD_HEADERS_MAX + SPARE_HEADERS];
    size_t count = record_headers(v->head, stored, RECORD_HEADERS_MAX), n = 0;
    for (size_t i = 0; i < count; i++)
        if (a->status != 304 || is_for_304(stored[i].name))
            if (a->status != 416 || !str_iequal(stored[i].name, STR("content-type")))
                all[n++] = stored[i];
    for (size_t i = 0; i < a->header_count; i++)
        all[n++] = a->headers[i];
    a->headers = all;
    a->header_count = n;
    a->prepared = (struct str){NULL, 0};
    say(ex, o, a, body);
}

void serve_record(struct cache *c, struct exchange *ex, const struct record_view *v,
                  const struct serve_opts *o)
{
    uint64_t now_ms = c->io->unix_ms, from = 0, to = 0;
    struct http_header extra[SPARE_HEADERS];
    struct answer a = {.status = v->r.status, .headers = extra, .length = (int64_t)v->body.len,
                       .prepared = v->head};
    struct str body = v->body;
    char text[80];
    extra[a.header_count++] = (struct http_header){STR("Age"), age_of(ex, v, now_ms)};
    if (o->policy->status_header)
        extra[a.header_count++] = (struct http_header){STR("Cache-Status"), cache_status(ex, v, o, now_ms)};
    if (v->r.status == 200 && serve_is_not_modified(o->head, v->etag, v->r.last_modified_ms, now_ms)) {
        a.status = 304;
        a.length = 0;
        serve_apart(ex, v, o, &a, (struct str){NULL, 0});
        return;
    }
    switch (range_of(o->head, v, now_ms, &from, &to)) {
    case RANGE_PART:
        snprintf(text, sizeof text, "bytes %llu-%llu/%zu", (unsigned long long)from, (unsigned long long)to, body.len);
        extra[a.header_count++] = (struct http_header){STR("Content-Range"), str_from(text)};
        body = (struct str){body.p + from, (size_t)(to - from + 1)};
        a.status = 206;
        a.length = (int64_t)body.len;
        serve_apart(ex, v, o, &a, body);
        return;
    case RANGE_UNSATISFIABLE:
        snprintf(text, sizeof text, "bytes */%zu", body.len);
        extra[a.header_count++] = (struct http_header){STR("Content-Range"), str_from(text)};
        a.status = 416;
        a.length = 0;
        serve_apart(ex, v, o, &a, (struct str){NULL, 0});
        return;
    case RANGE_NONE:
        break;
    }
    if (o->in_filter ? o->through != NULL : ex->filters != NULL) {
        coded_offer(c, ex, v);
        serve_apart(ex, v, o, &a, body);
    } else {
        say(ex, o, &a, body);
    }
}
