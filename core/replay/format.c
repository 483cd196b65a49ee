// SPDX-License-Identifier: MIT
#include "replay/format.h"

#include "replay/json.h"

#define COMMON "$remote_addr $ident $remote_user [$time_local] \"$request\" $status $body_bytes_sent"
#define COMBINED COMMON " \"$http_referer\" \"$http_user_agent\""

/* https://caddyserver.com/docs/logging */
static const struct format_key caddy[] = {
    {"ts", FIELD_TIME}, {"request.method", FIELD_METHOD}, {"request.uri", FIELD_PATH}, {"status", FIELD_STATUS},
    {"size", FIELD_BYTES}, {"duration", FIELD_SECONDS}, {NULL, 0}};
/* https://doc.traefik.io/traefik/observability/access-logs/ */
static const struct format_key traefik[] = {
    {"StartUTC", FIELD_TIME}, {"time", FIELD_TIME}, {"RequestMethod", FIELD_METHOD}, {"RequestPath", FIELD_PATH},
    {"DownstreamStatus", FIELD_STATUS}, {"DownstreamContentSize", FIELD_BYTES}, {"Duration", FIELD_NS}, {NULL, 0}};
/* https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage */
static const struct format_key envoy[] = {
    {"start_time", FIELD_TIME}, {"method", FIELD_METHOD}, {"path", FIELD_PATH}, {"response_code", FIELD_STATUS},
    {"bytes_sent", FIELD_BYTES}, {"duration", FIELD_MS}, {NULL, 0}};
/* HAProxy writes what its log-format says; these are the names of its own variables and their usual aliases. */
static const struct format_key haproxy[] = {
    {"time", FIELD_TIME}, {"timestamp", FIELD_TIME}, {"date", FIELD_TIME}, {"t", FIELD_TIME}, {"tr", FIELD_TIME},
    {"request", FIELD_REQUEST}, {"r", FIELD_REQUEST}, {"method", FIELD_METHOD}, {"HM", FIELD_METHOD},
    {"http_method", FIELD_METHOD}, {"uri", FIELD_PATH}, {"path", FIELD_PATH}, {"HU", FIELD_PATH}, {"HP", FIELD_PATH},
    {"http_uri", FIELD_PATH}, {"status", FIELD_STATUS}, {"ST", FIELD_STATUS}, {"status_code", FIELD_STATUS},
    {"http_status", FIELD_STATUS}, {"bytes", FIELD_BYTES}, {"B", FIELD_BYTES}, {"bytes_read", FIELD_BYTES},
    {"Ta", FIELD_MS}, {"Tt", FIELD_MS}, {"ta", FIELD_MS}, {"tt", FIELD_MS}, {"time_active", FIELD_MS},
    {"time_total", FIELD_MS}, {"timers.Ta", FIELD_MS}, {"timers.Tt", FIELD_MS}, {NULL, 0}};
static const struct format_key nginx[] = {
    {"time", FIELD_TIME}, {"time_iso8601", FIELD_TIME}, {"time_local", FIELD_TIME}, {"msec", FIELD_TIME},
    {"timestamp", FIELD_TIME}, {"@timestamp", FIELD_TIME}, {"ts", FIELD_TIME}, {"request", FIELD_REQUEST},
    {"method", FIELD_METHOD}, {"request_method", FIELD_METHOD}, {"uri", FIELD_PATH}, {"request_uri", FIELD_PATH},
    {"path", FIELD_PATH}, {"url", FIELD_PATH}, {"status", FIELD_STATUS}, {"body_bytes_sent", FIELD_BYTES},
    {"bytes_sent", FIELD_BYTES}, {"bytes", FIELD_BYTES}, {"size", FIELD_BYTES}, {"request_time", FIELD_SECONDS},
    {"duration_ms", FIELD_MS}, {"latency_ms", FIELD_MS}, {NULL, 0}};
/* http://ltsv.org/ */
static const struct format_key ltsv[] = {
    {"time", FIELD_TIME}, {"req", FIELD_REQUEST}, {"request", FIELD_REQUEST}, {"method", FIELD_METHOD},
    {"uri", FIELD_PATH}, {"path", FIELD_PATH}, {"status", FIELD_STATUS}, {"size", FIELD_BYTES},
    {"reqtime", FIELD_SECONDS}, {"request_time", FIELD_SECONDS}, {"reqtime_microsec", FIELD_US},
    {"taken_sec", FIELD_SECONDS}, {NULL, 0}};

static const struct {
    const char *name, *shape;
    enum format_kind kind;
    const struct format_key *keys;
} known[] = {
    {"caddy", "JSON with ts, request.method, request.uri, status, duration (s)", FORMAT_JSON, caddy},
    {"traefik", "JSON with StartUTC or time, RequestMethod, RequestPath, DownstreamStatus, Duration (ns)", FORMAT_JSON, traefik},
    {"envoy", "JSON with start_time, method, path, response_code, duration (ms)", FORMAT_JSON, envoy},
    {"haproxy-json", "JSON with time, method, uri or request, status, Ta or Tt (ms)", FORMAT_JSON, haproxy},
    {"nginx-json", "JSON with time, request or method and uri, status, request_time (s)", FORMAT_JSON, nginx},
    {"ltsv", "LTSV with time, req or method and uri, status, reqtime (s)", FORMAT_LTSV, ltsv},
    {"alb", "$type $time_local $elb $client $target $request_time $request_time $request_time $status $target_status "
            "$received $bytes_sent \"$request\" \"$agent\" $rest", FORMAT_PATTERN, NULL},
    {"haproxy", "$prefix [$time_local] $frontend $server $Tq/$Tw/$Tc/$Tr/$request_time_ms $status $bytes_sent "
                "$cookie $set_cookie $termination $connections $queues $captures\"$request\"", FORMAT_PATTERN, NULL},
    {"combined-time", COMBINED " $request_time_dotted", FORMAT_PATTERN, NULL},
    {"combined-us", COMBINED " $request_time_us", FORMAT_PATTERN, NULL},
    {"combined-forwarded-time", COMBINED " \"$http_x_forwarded_for\" $request_time_dotted", FORMAT_PATTERN, NULL},
    {"combined-forwarded", COMBINED " \"$http_x_forwarded_for\"", FORMAT_PATTERN, NULL},
    {"combined", COMBINED, FORMAT_PATTERN, NULL},
    {"common-time", COMMON " $request_time_dotted", FORMAT_PATTERN, NULL},
    {"common-us", COMMON " $request_time_us", FORMAT_PATTERN, NULL},
    {"common", COMMON, FORMAT_PATTERN, NULL},
};

static const struct format_key variables[] = {
    {"time_local", FIELD_TIME}, {"time_iso8601", FIELD_TIME}, {"msec", FIELD_TIME}, {"request", FIELD_REQUEST},
    {"request_method", FIELD_METHOD}, {"request_uri", FIELD_PATH}, {"uri", FIELD_PATH}, {"status", FIELD_STATUS},
    {"bytes_sent", FIELD_BYTES}, {"body_bytes_sent", FIELD_BYTES}, {"request_time", FIELD_SECONDS},
    {"request_time_dotted", FIELD_DOTTED_SECONDS}, {"request_time_ms", FIELD_MS}, {"request_time_us", FIELD_US},
    {NULL, 0}};

bool format_known(unsigned index, struct format *out)
{
    const char *why;
    if (index >= sizeof known / sizeof *known)
        return false;
    if (known[index].kind == FORMAT_PATTERN)
        return format_compile(out, known[index].name, known[index].shape, &why);
    *out = (struct format){.name = known[index].name, .shape = known[index].shape, .kind = known[index].kind,
                           .keys = known[index].keys};
    return true;
}

bool format_suits(const struct format *f, const struct entry *e)
{
    return e->asked && (f->keys != haproxy || e->seconds >= 0);
}

static enum field field_of(const struct format_key *keys, struct str name)
{
    for (; keys->name; keys++)
        if (name.len && keys->name[0] == name.p[0] && str_equal(str_from(keys->name), name))
            return keys->field;
    return FIELD_IGNORED;
}

static size_t name_length(const char *p)
{
    return strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
}

bool format_compile(struct format *out, const char *name, const char *pattern, const char **why)
{
    unsigned seen = 0;
    bool after_variable = false;
    *out = (struct format){.name = name, .shape = pattern};
    while (*pattern) {
        if (out->count == FORMAT_ITEMS)
            return *why = "it has too many parts", false;
        struct format_item *item = &out->items[out->count++];
        if (*pattern != '$') {
            item->literal = (struct str){pattern, strcspn(pattern, "$")};
            pattern += item->literal.len;
            after_variable = false;
            continue;
        }
        size_t len = name_length(pattern + 1);
        if (!len)
            return *why = "a $ has no name behind it", false;
        if (after_variable)
            return *why = "two variables have nothing between them", false;
        item->field = field_of(variables, (struct str){pattern + 1, len});
        seen |= 1U << item->field;
        pattern += 1 + len;
        after_variable = true;
    }
    if (!(seen & 1U << FIELD_TIME) || !(seen & 1U << FIELD_STATUS) ||
        !(seen & (1U << FIELD_REQUEST | 1U << FIELD_PATH)))
        return *why = "it needs $time_local (or $time_iso8601, $msec), $request (or $request_uri) and $status", false;
    return true;
}

static bool escaped(const char *from, const char *at)
{
    size_t slashes = 0;
    while (at - slashes > from && at[-1 - (long)slashes] == '\\')
        slashes++;
    return slashes % 2;
}

/* Where the variable at `p` ends: where `literal` begins, which an escape may hide. When it is nowhere,
 * *nearest is where it at least could have begun. */
static const char *variable_end(const char *p, const char *end, struct str literal, const char **nearest)
{
    *nearest = NULL;
    for (const char *at = p; (at = memchr(at, literal.p[0], (size_t)(end - at))); at++) {
        if (literal.p[0] == '"' && escaped(p, at))
            continue;
        if ((size_t)(end - at) >= literal.len && (literal.len == 1 || memcmp(at, literal.p, literal.len) == 0))
            return at;
        if (!*nearest)
            *nearest = at;
    }
    return NULL;
}

static bool read_pattern(const struct format *f, struct str line, struct entry *out, size_t *bad)
{
    const char *p = line.p, *end = line.p + line.len, *nearest = NULL;
    for (unsigned i = 0; i < f->count; i++) {
        const struct format_item *item = &f->items[i];
        *bad = (size_t)(p - line.p);
        if (item->literal.p) {
            if (i == 0 && !str_starts(line, item->literal))
                return false;
            p += item->literal.len; /* behind a variable: it ended where this was found */
            continue;
        }
        const char *to = i + 1 < f->count ? variable_end(p, end, f->items[i + 1].literal, &nearest) : end;
        if (!to) {
            if (nearest)
                *bad = (size_t)(nearest - line.p);
            return false;
        }
        if (!entry_set(out, item->field, (struct str){p, (size_t)(to - p)}))
            return false;
        p = to;
    }
    *bad = (size_t)(p - line.p);
    return p == end;
}

static bool is_duration(enum field field)
{
    return field >= FIELD_SECONDS;
}

/* A value of a key table; of several that mean the same, the first counts. */
static bool take_value(const struct format *f, struct entry *e, struct json_value v, unsigned *seen)
{
    enum field field = field_of(f->keys, v.path);
    if (field == FIELD_IGNORED || (*seen & 1U << field) || (is_duration(field) && e->seconds >= 0))
        return true;
    if (v.escaped) {
        char *to = e->scratch + e->scratch_used;
        size_t len = json_plain(v.text, to, ENTRY_SCRATCH - e->scratch_used);
        e->scratch_used += len;
        v.text = (struct str){to, len};
    }
    if (!v.string && str_equal(v.text, STR("null")))
        return true;
    *seen |= 1U << field;
    return entry_set(e, field, v.text);
}

static bool answered(unsigned seen)
{
    return (seen & 1U << FIELD_TIME) && (seen & 1U << FIELD_STATUS);
}

static bool read_json(const struct format *f, struct str line, struct entry *out, size_t *bad)
{
    struct json j;
    struct json_value v;
    unsigned seen = 0;
    json_init(&j, line);
    while (json_next(&j, &v))
        if (!take_value(f, out, v, &seen))
            return *bad = (size_t)(v.text.p >= line.p && v.text.p < j.end ? v.text.p - line.p : j.p - line.p), false;
    *bad = (size_t)(j.p - line.p);
    return !j.failed && answered(seen); /* of a request that could not be read there is no path: its keys are left out */
}

static bool read_ltsv(const struct format *f, struct str line, struct entry *out, size_t *bad)
{
    const char *p = line.p, *end = line.p + line.len;
    unsigned seen = 0;
    for (*bad = 0; p < end;) {
        const char *tab = memchr(p, '\t', (size_t)(end - p)), *to = tab ? tab : end;
        const char *colon = memchr(p, ':', (size_t)(to - p));
        *bad = (size_t)(p - line.p);
        if (!colon)
            return false;
        struct json_value v = {.path = {p, (size_t)(colon - p)}, .text = {colon + 1, (size_t)(to - colon - 1)}, .string = true};
        *bad = (size_t)(colon + 1 - line.p);
        if (!take_value(f, out, v, &seen))
            return false;
        p = tab ? tab + 1 : end;
    }
    *bad = line.len;
    return answered(seen) && out->asked;
}

bool format_read(const struct format *f, struct str line, struct entry *out, size_t *bad)
{
    entry_init(out);
    switch (f->kind) {
    case FORMAT_JSON:
        return read_json(f, line, out, bad);
    case FORMAT_LTSV:
        return read_ltsv(f, line, out, bad);
    default:
        return read_pattern(f, line, out, bad);
    }
}
