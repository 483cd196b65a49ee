/* An answer becomes a record: the filter that watches what the origin says.
 *
 *     begin  304 to our validators   keep the old body, with its new fields
 *            an error                the old answer, if it may be stale for that
 *            storable                pass on, and gather
 *            anything else           pass on
 *     end    a record for the writer's queue and for those who wait
 *
 * The client's own conditions are taken off the request, so that the origin
 * sends the whole; they are judged here.
 */
// SPDX-License-Identifier: MIT
#include "cache/parts.h"

#include "base/clock.h"
#include "cache/vary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum mode { MODE_PASS, MODE_CAPTURE, MODE_VALIDATED, MODE_FALLBACK };

struct fetch {
    struct filter filter;
    struct cache *cache;
    struct cache_policy policy; /* the route's may be gone before the answer */
    struct str key;
    const struct head *asked;   /* as the client sent it */
    const char *forward;
    struct buf *old;
    uint64_t requested_ms;
    enum mode mode;
    bool leads, capture, invalidates;
    bool landed;
    bool swallow;               /* the client got a 304 or gets something else */
    int status;
    struct http_header *headers; /* in the arena */
    size_t header_count;
    struct facts facts;
    struct fresh fresh;
    struct buf body;
};

static void land(struct fetch *f, enum landing how, struct str record, bool committing)
{
    if (f->leads && !f->landed)
        flight_land(f->cache, f->key, how, record, committing);
    f->landed = true;
}

/* ---- the request on its way out ---- */

static bool is_condition(struct str name)
{
    return str_iequal(name, STR("if-none-match")) || str_iequal(name, STR("if-modified-since")) ||
           str_iequal(name, STR("if-range"));
}

/* Fields that some handlers let speak about the answer, and that are no part of any key. */
static bool is_unkeyed(const struct head_field *f, const struct cache_policy *p, bool trusted)
{
    static const char *const names[] = {
        "x-forwarded-host", "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-port", "x-forwarded-server",
        "x-forwarded-prefix", "x-host", "x-original-url", "x-original-host", "x-rewrite-url",
        "x-http-method-override", "x-http-method", "x-method-override", "forwarded",
    };
    struct str keyed = str_from(p->key_headers), name;
    while (str_next(&keyed, ',', &name))
        if (str_iequal(name, f->name))
            return false;
    if (trusted && (f->id == FIELD_X_FORWARDED_HOST || f->id == FIELD_X_FORWARDED_PROTO))
        return false; /* part of the key then */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_iequal(f->name, str_from(names[i])))
            return true;
    return false;
}

static void add_field(struct head *head, struct head_field field)
{
    if (head->field_count == HEAD_FIELDS_MAX)
        return;
    if (!head->first[field.id])
        head->first[field.id] = (unsigned char)(head->field_count + 1);
    head->fields[head->field_count++] = field;
}

static void add_validators(struct head *head, const struct fetch *f)
{
    struct record_view old;
    if (!f->old || !record_read(buf_str(f->old), (struct str){NULL, 0}, &old))
        return;
    if (old.etag.len)
        add_field(head, (struct head_field){STR("If-None-Match"), old.etag, FIELD_OTHER, false});
    if (old.last_modified.len)
        add_field(head, (struct head_field){STR("If-Modified-Since"), old.last_modified, FIELD_OTHER, false});
}

/* The head that the origin sees; NULL without memory. */
static const struct head *rewrite(struct cache_visit *v, const struct fetch *f)
{
    const struct head *from = v->ex->head;
    bool trusted = setting_number(&v->cache->board->settings, SETTING_SERVER_TRUST_FORWARDED) != 0;
    struct head *to = arena_alloc(v->ex->arena, sizeof *to);
    if (!to)
        return NULL;
    memcpy(to, from, offsetof(struct head, fields));
    memset(to->first, 0, sizeof to->first);
    to->field_count = 0;
    for (unsigned i = 0; i < from->field_count; i++) {
        const struct head_field *field = &from->fields[i];
        bool cookie = field->id == FIELD_COOKIE && v->policy->cookies == COOKIES_STRIP && !v->policy->key_cookies[0];
        if (!is_condition(field->name) && !cookie && !is_unkeyed(field, v->policy, trusted) &&
            !(v->background && str_iequal(field->name, STR("range"))))
            add_field(to, *field);
    }
    add_validators(to, f);
    to->query = v->query;
    return to;
}

/* ---- the answer's lines ---- */

/* What belongs to one message, to this hop, or is set anew. */
static bool is_dropped(struct str name)
{
    static const char *const names[] = {
        "content-length", "transfer-encoding", "connection",      "keep-alive",
        "age",            "date",              "cache-status",    "perilune-cache-control",
        "server-timing",  "trailer",           "proxy-connection", "upgrade",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_iequal(name, str_from(names[i])))
            return true;
    return false;
}

static struct http_header *copy_headers(struct exchange *ex, const struct answer *a)
{
    struct http_header *to = arena_alloc(ex->arena, (a->header_count + 1) * sizeof *to);
    for (size_t i = 0; to && i < a->header_count; i++) {
        to[i].name = arena_copy(ex->arena, a->headers[i].name);
        to[i].value = arena_copy(ex->arena, a->headers[i].value);
        if (!to[i].name.p || !to[i].value.p)
            return NULL;
    }
    return to;
}

static void write_lines(const struct http_header *headers, size_t count, uint64_t date_ms, struct buf *out)
{
    char date[CLOCK_TEXT];
    clock_http_date(date_ms, date);
    buf_printf(out, "Date: %.29s\r\n", date);
    for (size_t i = 0; i < count; i++) {
        if (is_dropped(headers[i].name))
            continue;
        buf_add_str(out, headers[i].name);
        buf_add_str(out, STR(": "));
        buf_add_str(out, headers[i].value);
        buf_add_str(out, STR("\r\n"));
    }
}

static bool read_vary(const struct http_header *headers, size_t count, struct buf *names)
{
    struct buf all = {0};
    for (size_t i = 0; i < count; i++)
        if (str_iequal(headers[i].name, STR("vary"))) {
            buf_add_str(&all, headers[i].value);
            buf_add_char(&all, ',');
        }
    bool ok = vary_names(buf_str(&all), names) && buf_ok(&all) && buf_ok(names);
    buf_done(&all);
    return ok;
}

static void read_tags(const struct fetch *f, const struct http_header *headers, size_t count, struct buf *tags)
{
    for (size_t i = 0; f->policy.tag_header[0] && i < count; i++)
        if (str_iequal(headers[i].name, str_from(f->policy.tag_header))) {
            buf_add_str(tags, headers[i].value);
            buf_add_char(tags, ' ');
        }
}

/* ---- the record ---- */

struct made {
    struct buf record;
    struct buf primary; /* key without what Vary adds */
    struct buf names;   /* of Vary; empty: none */
};

static void made_done(struct made *m)
{
    buf_done(&m->record);
    buf_done(&m->primary);
    buf_done(&m->names);
}

static struct record numbers(const struct fetch *f, int status, const struct facts *facts, const struct fresh *fresh,
                             uint64_t now_ms)
{
    struct record r = {
        .kind = RECORD_ANSWER,
        .status = (uint16_t)status,
        .requested_ms = f->requested_ms,
        .responded_ms = now_ms,
        .fresh_until_ms = fresh->fresh_until_ms,
        .stale_while_ms = fresh->stale_while_ms,
        .stale_error_ms = fresh->stale_error_ms,
        .last_modified_ms = facts->last_modified_ms,
        .initial_age_s = (uint32_t)fmin(fresh->initial_age_s, DIRECTIVE_MOST_S),
        .fetch_ms = (uint32_t)(now_ms - f->requested_ms),
    };
    r.flags = (uint16_t)((fresh->never_stale ? RECORD_NEVER_STALE : 0) |
                         (fresh->always_validate ? RECORD_ALWAYS_VALIDATE : 0) |
                         (facts->has_content_encoding ? RECORD_CODED : 0) |
                         (facts->control.no_transform ? RECORD_NO_TRANSFORM : 0));
    return r;
}

/* The key is that of what the client asked for, not of what the origin was sent. */
static bool make_key(struct fetch *f, struct exchange *ex, struct made *m, struct buf *key)
{
    struct cache_visit like = {.cache = f->cache, .ex = ex, .policy = &f->policy};
    const struct head *sent = ex->head;
    ex->head = f->asked;
    bool ok = key_write(&like, &m->primary);
    ex->head = sent;
    buf_add_str(key, buf_str(&m->primary));
    if (buf_len(&m->names))
        key_vary(f->asked, buf_str(&m->names), key);
    return ok && buf_ok(key) && buf_len(key) <= KEY_BYTES_MAX;
}

/* False: it cannot be a record. */
static bool make(struct fetch *f, struct exchange *ex, int status, const struct http_header *headers, size_t count,
                 struct str body, struct made *m)
{
    struct buf key = {0}, lines = {0}, tags = {0};
    uint64_t now_ms = clock_unix_ms();
    bool ok = read_vary(headers, count, &m->names) && make_key(f, ex, m, &key);
    write_lines(headers, count, f->facts.has_date ? f->facts.date_ms : now_ms, &lines);
    read_tags(f, headers, count, &tags);
    struct record_view v = {
        .r = numbers(f, status, &f->facts, &f->fresh, now_ms),
        .key = buf_str(&key), .vary = buf_str(&m->names), .etag = f->facts.etag,
        .last_modified = f->facts.last_modified, .tags = buf_str(&tags), .head = buf_str(&lines), .body = body,
    };
    ok = ok && buf_ok(&lines) && buf_ok(&tags) && record_write(&v, &m->record);
    buf_done(&key);
    buf_done(&lines);
    buf_done(&tags);
    return ok;
}

static void put(struct fetch *f, struct buf *record, uint32_t slot, uint64_t lease)
{
    uint64_t most = setting_integer(&f->cache->board->settings, SETTING_CACHE_QUEUE_BYTES);
    if (writer_put(f->cache->writer, record, most, slot, lease))
        return;
    lane_add(&f->cache->lane->counters[COUNTER_CACHE_DROPPED], 1);
    if (lease)
        atomic_compare_exchange_strong(&f->cache->shared->leases[slot], &lease, 0);
}

/* The record that says by which fields the variants of a key differ. */
static void put_vary(struct fetch *f, const struct made *m)
{
    struct buf out = {0};
    struct record_view v = {.key = buf_str(&m->primary), .vary = buf_str(&m->names)};
    v.r.kind = RECORD_VARY;
    v.r.requested_ms = f->requested_ms;
    v.r.responded_ms = clock_unix_ms();
    if (record_write(&v, &out))
        put(f, &out, 0, 0);
    buf_done(&out);
}

/* Only now the route's miss-ratio curve can know. */
static void note_size(struct fetch *f, struct exchange *ex, size_t record_bytes)
{
    struct cache_shared *shared = f->cache->shared;
    uint64_t hash = record_key(f->key).low;
    if (ex->route < shared->routes_max && curve_follows(cache_shared_curve(shared, ex->route), hash))
        curve_size(cache_shared_curve(shared, ex->route), hash, store_size(record_bytes), f->cache->io->now_ms);
}

/* Hands a record to the writer and to those who wait. */
static void store(struct fetch *f, struct exchange *ex, struct made *m)
{
    struct buf copy = {0};
    uint32_t slot = 0;
    uint64_t lease = 0;
    if (f->leads && !f->landed)
        flight_lease(f->cache, f->key, &slot, &lease);
    if (buf_len(&m->names))
        put_vary(f, m);
    buf_add_str(&copy, buf_str(&m->record));
    note_size(f, ex, buf_len(&m->record));
    put(f, &m->record, slot, lease);
    cache_count(f->cache, ex, CACHE_STORED);
    land(f, buf_ok(&copy) ? LAND_RECORD : LAND_FAILED, buf_str(&copy), true);
    buf_done(&copy);
}

/* ---- invalidation ---- */

/* RFC 9111 4.4: a successful unsafe request makes what is stored of its target wrong,
 * and of Location and Content-Location when they are of the same origin. */
static void invalidate(struct fetch *f, struct str target)
{
    writer_purge(f->cache->writer, PURGE_KEY, target);
    lane_add(&f->cache->lane->counters[COUNTER_CACHE_INVALIDATED], 1);
}

static void invalidate_linked(struct fetch *f, struct exchange *ex, struct str origin, struct str link)
{
    struct buf target = {0};
    if (link.len && link.p[0] == '/' && !(link.len > 1 && link.p[1] == '/')) {
        buf_add_str(&target, origin);
        buf_add_str(&target, link);
    } else if (str_starts(link, origin) && link.len > origin.len && link.p[origin.len] == '/') {
        buf_add_str(&target, link);
    }
    (void)ex;
    const char *end = buf_len(&target) ? memchr(target.data, '#', buf_len(&target)) : NULL;
    if (buf_ok(&target) && buf_len(&target) && !memchr(target.data, '\n', buf_len(&target)))
        invalidate(f, (struct str){target.data, end ? (size_t)(end - target.data) : buf_len(&target)});
    buf_done(&target);
}

static void invalidate_all(struct fetch *f, struct exchange *ex, const struct answer *a)
{
    struct buf key = {0};
    struct cache_visit like = {.cache = f->cache, .ex = ex, .policy = &f->policy};
    if (a->status >= 200 && a->status < 400 && key_write(&like, &key)) {
        struct str target = cache_target(buf_str(&key));
        const char *slash = memchr(target.p + 8, '/', target.len - 8);
        struct str origin = {target.p, slash ? (size_t)(slash - target.p) : target.len};
        invalidate(f, target);
        for (size_t i = 0; i < a->header_count; i++)
            if (str_iequal(a->headers[i].name, STR("location")) ||
                str_iequal(a->headers[i].name, STR("content-location")))
                invalidate_linked(f, ex, origin, a->headers[i].value);
    }
    buf_done(&key);
}

/* ---- what the origin says ---- */

static bool is_error(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

static bool may_fall_back(const struct fetch *f)
{
    struct record_view old;
    return f->old && record_read(buf_str(f->old), (struct str){NULL, 0}, &old) && old.r.stale_error_ms &&
           clock_unix_ms() < old.r.fresh_until_ms + old.r.stale_error_ms;
}

static const char *judge(struct fetch *f, const struct answer *a)
{
    struct fresh_opts opts = f->policy.fresh;
    uint64_t now_ms = clock_unix_ms();
    struct buf names = {0};
    facts_read(&f->facts, f->headers, f->header_count, now_ms);
    opts.status = a->status;
    opts.authorized = f->asked->first[FIELD_AUTHORIZATION] != 0;
    opts.requested_ms = f->requested_ms;
    opts.responded_ms = now_ms;
    const char *why = facts_judge(&f->facts, &opts, &f->fresh);
    if (!why && f->facts.has_vary && !read_vary(f->headers, f->header_count, &names))
        why = "vary";
    if (!why && a->length > 0 && (uint64_t)a->length > f->policy.max_object_bytes)
        why = "too-large";
    buf_done(&names);
    return why;
}

static struct str status_line(struct exchange *ex, const struct fetch *f, int status, const char *why)
{
    char *p = arena_alloc(ex->arena, 120);
    int n;
    if (!p)
        return (struct str){NULL, 0};
    if (f->mode == MODE_CAPTURE)
        n = snprintf(p, 120, "perilune; fwd=%s; fwd-status=%d; stored", f->forward, status);
    else if (why)
        n = snprintf(p, 120, "perilune; fwd=%s; fwd-status=%d; detail=%s", f->forward, status, why);
    else
        n = snprintf(p, 120, "perilune; fwd=%s", f->forward);
    return (struct str){p, (size_t)n};
}

/* Says the answer to the client, as a 304 when its conditions ask for one. */
static void pass_begin(struct exchange *ex, struct fetch *f, const struct answer *a, const char *why)
{
    struct http_header *headers = arena_alloc(ex->arena, (a->header_count + 2) * sizeof *headers);
    struct answer out = *a;
    if (!headers) {
        filter_begin(ex, f->filter.next, a);
        return;
    }
    bool unchanged = f->capture && a->status == 200 &&
                     serve_is_not_modified(f->asked, f->facts.etag, f->facts.last_modified_ms, f->cache->io->unix_ms);
    size_t n = 0;
    for (size_t i = 0; i < a->header_count; i++) {
        struct str name = a->headers[i].name;
        if (str_iequal(name, STR("perilune-cache-control")) ||
            (unchanged && name.len > 8 && str_iequal((struct str){name.p, 8}, STR("content-"))))
            continue;
        headers[n++] = a->headers[i];
    }
    if (f->policy.status_header)
        headers[n++] = (struct http_header){STR("Cache-Status"), status_line(ex, f, a->status, why)};
    out.headers = headers;
    out.header_count = n;
    if (unchanged) {
        out.status = 304;
        out.reason = (struct str){NULL, 0};
        out.length = 0;
        f->swallow = true;
    }
    filter_begin(ex, f->filter.next, &out);
}

static void on_begin(struct exchange *ex, struct filter *filter, const struct answer *a)
{
    struct fetch *f = (struct fetch *)filter;
    const char *why = NULL;
    if (f->invalidates)
        invalidate_all(f, ex, a);
    f->status = a->status;
    f->headers = copy_headers(ex, a);
    f->header_count = f->headers ? a->header_count : 0;
    if (f->capture && f->headers && f->old && a->status == 304)
        f->mode = MODE_VALIDATED;
    else if (f->capture && is_error(a->status) && may_fall_back(f))
        f->mode = MODE_FALLBACK;
    else if (f->capture && f->headers && !(why = judge(f, a)))
        f->mode = MODE_CAPTURE;
    else if (!f->capture && f->headers)
        facts_read(&f->facts, f->headers, f->header_count, clock_unix_ms());
    f->swallow = ex->detached || f->mode == MODE_VALIDATED || f->mode == MODE_FALLBACK;
    if (f->mode == MODE_PASS)
        land(f, LAND_UNCACHEABLE, (struct str){NULL, 0}, false);
    if (!f->swallow)
        pass_begin(ex, f, a, why);
}

static void on_send(struct exchange *ex, struct filter *filter, struct str bytes)
{
    struct fetch *f = (struct fetch *)filter;
    if (f->mode == MODE_CAPTURE) {
        if (buf_len(&f->body) + bytes.len > f->policy.max_object_bytes) {
            f->mode = MODE_PASS;
            buf_done(&f->body);
            land(f, LAND_UNCACHEABLE, (struct str){NULL, 0}, false);
        } else {
            buf_add_str(&f->body, bytes);
        }
    }
    if (!f->swallow)
        filter_send(ex, f->filter.next, bytes);
}

static void on_flush(struct exchange *ex, struct filter *filter)
{
    struct fetch *f = (struct fetch *)filter;
    if (!f->swallow)
        filter_flush(ex, f->filter.next);
}

/* The stored fields with those of the 304 in their place (RFC 9111 3.2). */
static size_t merge(const struct fetch *f, const struct record_view *old, struct http_header *out)
{
    struct http_header stored[RECORD_HEADERS_MAX];
    size_t count = record_headers(old->head, stored, RECORD_HEADERS_MAX), n = 0;
    for (size_t i = 0; i < count; i++) {
        bool replaced = str_iequal(stored[i].name, STR("date"));
        for (size_t k = 0; k < f->header_count; k++)
            replaced = replaced || str_iequal(stored[i].name, f->headers[k].name);
        bool content = stored[i].name.len > 8 && str_iequal((struct str){stored[i].name.p, 8}, STR("content-"));
        if (!replaced || content)
            out[n++] = stored[i];
    }
    for (size_t k = 0; k < f->header_count && n < RECORD_HEADERS_MAX + HEAD_FIELDS_MAX; k++) {
        struct str name = f->headers[k].name;
        if (!(name.len > 8 && str_iequal((struct str){name.p, 8}, STR("content-"))))
            out[n++] = f->headers[k];
    }
    return n;
}

static void serve(struct exchange *ex, struct fetch *f, struct str record, enum serve_how how)
{
    struct record_view view;
    struct serve_opts opts = {.policy = &f->policy, .head = f->asked, .in_filter = true, .through = f->filter.next,
                              .how = how, .forward = f->forward};
    if (ex->detached) {
        exchange_detached_over(ex);
        return;
    }
    record_read(record, (struct str){NULL, 0}, &view);
    serve_record(f->cache, ex, &view, &opts);
}

/* The origin said that the old body is still the one. */
static void end_validated(struct exchange *ex, struct fetch *f)
{
    struct http_header merged[RECORD_HEADERS_MAX + HEAD_FIELDS_MAX];
    struct record_view old;
    struct made made = {0};
    record_read(buf_str(f->old), (struct str){NULL, 0}, &old);
    struct str tag = old.etag;
    size_t n = merge(f, &old, merged);
    struct answer like = {.status = old.r.status, .length = (int64_t)old.body.len};
    f->headers = merged;
    f->header_count = n;
    const char *why = judge(f, &like);
    if (!why && tag.len && !etag_list_has(tag, f->facts.etag, false))
        why = "other-entity"; /* RFC 9111 4.3.4: not the one that was asked about */
    if (why)
        f->fresh = (struct fresh){.fresh_until_ms = clock_unix_ms(), .never_stale = true};
    cache_count(f->cache, ex, CACHE_REVALIDATED);
    if (!make(f, ex, old.r.status, merged, n, old.body, &made)) {
        land(f, LAND_FAILED, (struct str){NULL, 0}, false);
        serve(ex, f, buf_str(f->old), SERVE_REVALIDATED);
        made_done(&made);
        return;
    }
    struct buf copy = {0};
    buf_add_str(&copy, buf_str(&made.record));
    if (why) {
        invalidate(f, cache_target(old.key));
        land(f, LAND_UNCACHEABLE, (struct str){NULL, 0}, false);
    } else {
        store(f, ex, &made);
    }
    serve(ex, f, buf_ok(&copy) ? buf_str(&copy) : buf_str(f->old), SERVE_REVALIDATED);
    buf_done(&copy);
    made_done(&made);
}

static void end_captured(struct exchange *ex, struct fetch *f)
{
    struct made made = {0};
    if (buf_ok(&f->body) && make(f, ex, f->status, f->headers, f->header_count, buf_str(&f->body), &made))
        store(f, ex, &made);
    else
        land(f, LAND_UNCACHEABLE, (struct str){NULL, 0}, false);
    made_done(&made);
}

static void on_end(struct exchange *ex, struct filter *filter)
{
    struct fetch *f = (struct fetch *)filter;
    if (f->mode == MODE_VALIDATED) {
        end_validated(ex, f);
        return;
    }
    if (f->mode == MODE_FALLBACK) {
        cache_count(f->cache, ex, CACHE_STALE);
        land(f, LAND_RECORD, buf_str(f->old), false);
        serve(ex, f, buf_str(f->old), SERVE_STALE);
        return;
    }
    if (f->mode == MODE_CAPTURE)
        end_captured(ex, f);
    if (ex->detached)
        exchange_detached_over(ex);
    else
        filter_end(ex, f->filter.next);
}

/* The origin broke off inside of its error: that is one as well. */
static bool on_broken(struct exchange *ex, struct filter *filter)
{
    struct fetch *f = (struct fetch *)filter;
    if (f->mode != MODE_FALLBACK || ex->detached)
        return false;
    on_end(ex, filter);
    return true;
}

static void on_done(struct exchange *ex, struct filter *filter)
{
    struct fetch *f = (struct fetch *)filter;
    (void)ex;
    land(f, LAND_FAILED, (struct str){NULL, 0}, false);
    if (f->old)
        buf_done(f->old);
    free(f->old);
    buf_done(&f->body);
}

static const struct filter_ops ops = {
    .begin = on_begin, .send = on_send, .flush = on_flush, .end = on_end, .broken = on_broken, .done = on_done};

void cache_fetch(struct cache_visit *v)
{
    struct exchange *ex = v->ex;
    struct fetch *f = arena_alloc(ex->arena, sizeof *f);
    struct str key = v->key;
    if (!f) {
        if (v->leads)
            flight_land(v->cache, key, LAND_FAILED, (struct str){NULL, 0}, false);
        if (v->old)
            buf_done(v->old);
        free(v->old);
        return;
    }
    memset(f, 0, sizeof *f);
    f->filter.ops = &ops;
    f->cache = v->cache;
    f->policy = *v->policy;
    f->key = key;
    f->asked = ex->head;
    f->forward = v->forward;
    f->old = v->old;
    f->leads = v->leads;
    f->capture = v->capture;
    f->invalidates = v->invalidates;
    f->requested_ms = clock_unix_ms();
    if (v->capture) {
        const struct head *head = rewrite(v, f);
        ex->head = head ? head : ex->head;
        cache_count(v->cache, ex, v->background ? CACHE_REFRESHED : CACHE_MISSES);
    }
    filter_push(ex, &f->filter);
}
