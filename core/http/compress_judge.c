/* Whether an answer is compressed, how, and what its head says then. */
// SPDX-License-Identifier: MIT
#include "http/compress_parts.h"

enum { LEVEL_LIGHT = 1 }; /* where levels fall to under load: the knee of size against time */

/* The fields that matter here, of one pass over the head. */
struct fields {
    struct str type, etag;
    bool encoded, no_transform, set_cookie, partial;
};

static bool list_has(struct str list, struct str wanted)
{
    struct str element;
    while (str_next(&list, ',', &element))
        if (str_iequal(element, wanted))
            return true;
    return false;
}

static void read_fields(struct fields *f, const struct answer *a)
{
    *f = (struct fields){0};
    for (size_t i = 0; i < a->header_count; i++) {
        struct str name = a->headers[i].name, value = a->headers[i].value;
        switch (name.len) {
        case 4:
            if (str_iequal(name, STR("etag")))
                f->etag = value;
            break;
        case 10:
            f->set_cookie = f->set_cookie || str_iequal(name, STR("set-cookie"));
            break;
        case 12:
            if (str_iequal(name, STR("content-type")))
                f->type = value;
            break;
        case 13:
            if (str_iequal(name, STR("cache-control")))
                f->no_transform = f->no_transform || list_has(value, STR("no-transform"));
            else
                f->partial = f->partial || str_iequal(name, STR("content-range"));
            break;
        case 16:
            f->encoded = f->encoded || str_iequal(name, STR("content-encoding"));
            break;
        default:
            break;
        }
    }
}

/* "Text/HTML; charset=utf-8" -> "Text/HTML" */
static struct str media_type(struct str value)
{
    const char *semicolon = value.len ? memchr(value.p, ';', value.len) : NULL;
    return str_trim((struct str){value.p, semicolon ? (size_t)(semicolon - value.p) : value.len});
}

static bool type_matches(struct str type, struct str pattern)
{
    if (pattern.p[0] == '+') /* a suffix, RFC 6839 */
        return type.len > pattern.len &&
               str_iequal((struct str){type.p + type.len - pattern.len, pattern.len}, pattern);
    if (pattern.p[pattern.len - 1] == '/')
        return type.len > pattern.len && str_iequal((struct str){type.p, pattern.len}, pattern);
    return str_iequal(type, pattern);
}

static bool is_listed(const struct compress_rules *rules, struct str type)
{
    for (unsigned i = 0; type.len && i < rules->type_count; i++)
        if (type_matches(type, str_from(rules->types[i])))
            return true;
    return false;
}

/* The host of a URL: "https://a.example:8443/x" -> "a.example:8443". */
static struct str url_host(struct str url)
{
    const char *begin = url.len > 3 ? memmem(url.p, url.len, "://", 3) : NULL;
    if (!begin)
        return (struct str){NULL, 0};
    begin += 3;
    size_t len = 0, most = (size_t)(url.p + url.len - begin);
    while (len < most && begin[len] != '/' && begin[len] != '?' && begin[len] != '#')
        len++;
    return (struct str){begin, len};
}

/* A request with credentials that another site made: it may choose part of the
 * body, and read the length of the rest off the wire (BREACH). */
static bool is_cross_site(const struct head *head)
{
    if (!head->first[FIELD_COOKIE] && !head->first[FIELD_AUTHORIZATION])
        return false;
    if (str_iequal(head_find(head, STR("sec-fetch-site")), STR("cross-site")))
        return true;
    struct str referer = head_find(head, STR("referer"));
    return referer.len && !str_iequal(url_host(referer), head->host);
}

static void read_accept(struct accept *accept, const struct head *head)
{
    *accept = (struct accept){0};
    for (unsigned i = 0; i < head->field_count; i++)
        if (str_iequal(head->fields[i].name, STR("accept-encoding")))
            accept_read(accept, head->fields[i].value);
}

/* From cpu_high on levels fall evenly, to the lightest that is worth it at cpu_full. A share of 1 is never
 * too much: that turns it off. */
static void lower(struct verdict *v, const struct compress_rules *rules, double share)
{
    double span = rules->cpu_full - rules->cpu_high;
    if (v->level <= LEVEL_LIGHT || rules->cpu_high >= 1 || share < rules->cpu_high)
        return;
    double part = span > 0 && share < rules->cpu_full ? (share - rules->cpu_high) / span : 1;
    v->level -= (int)(part * (v->level - LEVEL_LIGHT) + 0.999);
    v->lowered = true;
}

/* The level for a body; one of unknown length is taken for the largest. */
static int level_for(const struct compress_rules *rules, enum codec_id id, int64_t length)
{
    const struct level_step *step = rules->steps[id];
    while (length < 0 ? step->up_to_bytes != UINT64_MAX : (uint64_t)length > step->up_to_bytes)
        step++;
    return step->level;
}

uint64_t compress_min_bytes(const struct compress_rules *rules, const struct settings *settings)
{
    return rules->min_bytes >= 0 ? (uint64_t)rules->min_bytes
                                 : setting_integer(settings, SETTING_COMPRESSION_MIN_BYTES);
}

/* If the client revalidates the weak tag that we made of a strong one, it is told the weak one again. */
static bool was_weakened(const struct head *head, struct str etag)
{
    struct str asked = head_find(head, STR("if-none-match"));
    if (!etag.len || etag.p[0] != '"')
        return false;
    for (const char *at = asked.p; at && (at = memmem(at, (size_t)(asked.p + asked.len - at), etag.p, etag.len)); at++)
        if (at - asked.p >= 2 && at[-1] == '/' && at[-2] == 'W')
            return true;
    return false;
}

static enum skip unfit(struct verdict *v, const struct exchange *ex, const struct compress_rules *rules,
                       const struct answer *a, const struct fields *f, struct str type)
{
    if (a->status == 304)
        v->weaken = was_weakened(ex->head, f->etag);
    if (a->status < 200 || a->status == 204 || a->status == 205 || a->status == 206 || a->status == 304 ||
        f->partial)
        return SKIP_STATUS;
    if (f->encoded)
        return SKIP_ENCODED;
    if (!is_listed(rules, type))
        return SKIP_TYPE;
    if (f->no_transform || list_has(head_find(ex->head, STR("cache-control")), STR("no-transform")))
        return SKIP_NO_TRANSFORM;
    if ((rules->skip_set_cookie && f->set_cookie) || (rules->skip_cross_site && is_cross_site(ex->head)))
        return SKIP_SECRET;
    return SKIP_NOT;
}

void compress_judge(struct verdict *v, const struct exchange *ex, const struct compress_rules *rules,
                    const struct settings *settings, const struct load *load,
                    const struct answer *answer, int64_t length)
{
    struct fields f;
    struct accept accept;
    read_fields(&f, answer);
    struct str type = media_type(f.type);
    *v = (struct verdict){.events = str_iequal(type, STR("text/event-stream"))};
    v->skip = unfit(v, ex, rules, answer, &f, type);
    if (v->skip != SKIP_NOT)
        return;
    read_accept(&accept, ex->head);
    v->needs_coding = accept_needs_coding(&accept);
    if (length == 0 || (length > 0 && (uint64_t)length < compress_min_bytes(rules, settings) && !v->needs_coding)) {
        v->skip = SKIP_SMALL;
        return;
    }
    v->vary = true;
    v->id = accept_choose(&accept, rules->order, rules->order_count);
    if (v->id == CODEC_IDENTITY) {
        v->skip = SKIP_NOT_ACCEPTED;
        return;
    }
    int most = (int)setting_integer(settings, SETTING_COMPRESSION_LEVEL), level = level_for(rules, v->id, length);
    v->level = v->full_level = codec_level(v->id, level < most ? level : most);
    if (rules->cpu_full < 1 && load->cpu_share >= rules->cpu_full && load->lag_ns >= rules->lag_full_ns) {
        v->skip = SKIP_CPU;
        return;
    }
    lower(v, rules, load->cpu_share);
}

/* ---- heads ---- */

/* Fields that speak about the bytes of the plain body. */
static bool is_of_plain_body(struct str name)
{
    static const char *const names[] = {"content-md5", "digest", "content-digest", "repr-digest",
                                        "accept-ranges"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_iequal(name, str_from(names[i])))
            return true;
    return false;
}

static struct str join(struct arena *arena, struct str a, struct str b)
{
    char *p = arena_alloc(arena, a.len + b.len);
    if (!p)
        return (struct str){NULL, 0};
    memcpy(mempcpy(p, a.p, a.len), b.p, b.len);
    return (struct str){p, a.len + b.len};
}

/* "Origin" -> "Origin, Accept-Encoding"; what names it already stays. */
static struct str with_accept_encoding(struct arena *arena, struct str vary)
{
    if (list_has(vary, STR("accept-encoding")) || list_has(vary, STR("*")))
        return vary;
    return vary.len ? join(arena, vary, STR(", Accept-Encoding")) : STR("Accept-Encoding");
}

bool compress_head(struct exchange *ex, const struct verdict *v, bool coded, const struct answer *in,
                   struct answer *out)
{
    struct http_header *h = arena_alloc(ex->arena, (in->header_count + 2) * sizeof *h);
    bool has_vary = false;
    size_t n = 0;
    *out = *in;
    if (!h)
        return false;
    for (size_t i = 0; i < in->header_count; i++) {
        struct http_header one = in->headers[i];
        if (coded && is_of_plain_body(one.name))
            continue;
        if ((coded || v->weaken) && str_iequal(one.name, STR("etag")) && one.value.len && one.value.p[0] == '"')
            one.value = join(ex->arena, STR("W/"), one.value);
        if (v->vary && !has_vary && str_iequal(one.name, STR("vary"))) {
            one.value = with_accept_encoding(ex->arena, one.value);
            has_vary = true;
        }
        if (one.value.len && !one.value.p)
            return false;
        h[n++] = one;
    }
    if (coded)
        h[n++] = (struct http_header){STR("Content-Encoding"), str_from(codec_name(v->id))};
    if (v->vary && !has_vary)
        h[n++] = (struct http_header){STR("Vary"), STR("Accept-Encoding")};
    out->headers = h;
    out->header_count = n;
    return true;
}

bool compress_keep_head(struct exchange *ex, const struct answer *in, struct answer *out)
{
    struct http_header *h = arena_alloc(ex->arena, (in->header_count + 1) * sizeof *h);
    *out = *in;
    if (!h)
        return false;
    out->reason = arena_copy(ex->arena, in->reason);
    for (size_t i = 0; i < in->header_count; i++) {
        h[i].name = arena_copy(ex->arena, in->headers[i].name);
        h[i].value = arena_copy(ex->arena, in->headers[i].value);
        if (!h[i].name.p || !h[i].value.p)
            return false;
    }
    out->headers = h;
    return out->reason.p != NULL;
}
