// SPDX-License-Identifier: MIT
#include "http/access_log.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "http/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ITEMS = 64, VALUE_BYTES = 8192 };

/* id, name of the variable */
#define VARIABLE_LIST(X)                                                                                    \
    X(REMOTE_ADDR, "remote_addr") X(REMOTE_USER, "remote_user") X(TIME_LOCAL, "time_local")                 \
    X(TIME_ISO8601, "time_iso8601") X(MSEC, "msec") X(REQUEST, "request") X(REQUEST_METHOD, "request_method") \
    X(REQUEST_URI, "request_uri") X(URI, "uri") X(ARGS, "args") X(SERVER_PROTOCOL, "server_protocol")       \
    X(STATUS, "status") X(BODY_BYTES_SENT, "body_bytes_sent") X(BYTES_SENT, "bytes_sent")                   \
    X(REQUEST_LENGTH, "request_length") X(REQUEST_TIME, "request_time") X(HOST, "host") X(ROUTE, "route")   \
    X(TRACE_ID, "trace_id") X(UPSTREAM_CONNECT_TIME, "upstream_connect_time")                               \
    X(UPSTREAM_HEADER_TIME, "upstream_header_time") X(UPSTREAM_RESPONSE_TIME, "upstream_response_time")

enum variable {
#define X(id, name) VAR_##id,
    VARIABLE_LIST(X)
#undef X
        VAR_HTTP, /* a field of the request */
    VAR_PHASE,
    VAR_LITERAL,
};

struct item {
    enum variable variable;
    struct str text; /* the literal, or the name of a field */
    int phase;
};

enum kind { KIND_JSON, KIND_TEXT };

struct access_log {
    enum kind kind;
    struct line_sink *sink;
    char *format; /* items point into it */
    struct item items[ITEMS];
    unsigned count;
    struct buf line;
};

static const char combined[] = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/* ---- formats ---- */

static const char *const names[] = {
#define X(id, name) name,
    VARIABLE_LIST(X)
#undef X
};

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static bool resolve(struct item *item, struct str name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_equal(name, str_from(names[i]))) {
            item->variable = (enum variable)i;
            return true;
        }
    if (name.len > 5 && memcmp(name.p, "http_", 5) == 0) {
        *item = (struct item){VAR_HTTP, {name.p + 5, name.len - 5}, 0};
        return true;
    }
    for (int i = 0; name.len > 6 && memcmp(name.p, "phase_", 6) == 0 && i < PHASE_COUNT; i++)
        if (str_equal((struct str){name.p + 6, name.len - 6}, str_from(phase_name((enum phase)i)))) {
            *item = (struct item){VAR_PHASE, {NULL, 0}, i};
            return true;
        }
    return false;
}

static bool unknown(struct str name, char *why)
{
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unsigned distance = str_distance(name, str_from(names[i]));
        if (distance < best) {
            best = distance;
            near = names[i];
        }
    }
    snprintf(why, LINE_SINK_WHY, "there is no variable '$%.*s'%s%s%s", (int)(name.len < 40 ? name.len : 40), name.p,
             near ? ", did you mean '$" : "; see the README for what there is", near ? near : "", near ? "'?" : "");
    return false;
}

static bool compile(struct access_log *log, const char *p, char *why)
{
    while (*p) {
        struct item *item = &log->items[log->count++];
        const char *start = p;
        if (log->count == ITEMS) {
            snprintf(why, LINE_SINK_WHY, "more than %d parts", ITEMS - 1);
            return false;
        }
        if (*p != '$') {
            while (*p && *p != '$')
                p++;
            *item = (struct item){VAR_LITERAL, {start, (size_t)(p - start)}, 0};
            continue;
        }
        while (is_name(*++p))
            ;
        struct str name = {start + 1, (size_t)(p - start - 1)};
        if (!resolve(item, name))
            return unknown(name, why);
    }
    if (log->count)
        return true;
    snprintf(why, LINE_SINK_WHY, "it is empty");
    return false;
}

static struct access_log *prepare(const char *format, char *why)
{
    struct access_log *log = calloc(1, sizeof *log);
    bool is_combined = strcmp(format, "combined") == 0;
    if (!log)
        return NULL;
    log->kind = strcmp(format, "json") == 0 ? KIND_JSON : KIND_TEXT;
    log->format = strdup(is_combined ? combined : format);
    if (log->format && (log->kind == KIND_JSON || compile(log, log->format, why)))
        return log;
    access_log_free(log);
    return NULL;
}

bool access_log_check(const char *format, char why[LINE_SINK_WHY])
{
    struct access_log *log = prepare(format, why);
    access_log_free(log);
    return log != NULL;
}

struct access_log *access_log_new(const char *path, const char *format, size_t buffer_bytes, char why[LINE_SINK_WHY])
{
    struct access_log *log = prepare(format, why);
    if (log && (log->sink = line_sink_new(path, buffer_bytes, why)))
        return log;
    access_log_free(log);
    return NULL;
}

void access_log_free(struct access_log *log)
{
    if (!log)
        return;
    line_sink_free(log->sink);
    buf_done(&log->line);
    free(log->format);
    free(log);
}

/* ---- values ---- */

static void add_escaped(struct buf *out, struct str s)
{
    if (!s.len) {
        buf_add_char(out, '-');
        return;
    }
    if (s.len > VALUE_BYTES)
        s.len = VALUE_BYTES;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
            buf_printf(out, "\\x%02X", c);
        else
            buf_add_char(out, (char)c);
    }
}

static void add_json(struct buf *out, struct str s)
{
    const char *p = s.p, *end = s.p + (s.len < VALUE_BYTES ? s.len : VALUE_BYTES);
    buf_add_char(out, '"');
    while (p < end) {
        unsigned char c = (unsigned char)*p;
        size_t len = utf8_len(p, end);
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20)
            buf_printf(out, "\\u%04x", c);
        else if (len)
            buf_add(out, p, len);
        else
            buf_add_str(out, STR("\\ufffd"));
        p += len ? len : 1;
    }
    buf_add_char(out, '"');
}

static void add_time_local(struct buf *out, uint64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;
    char text[40];
    size_t len = strftime(text, sizeof text, "%d/%b/%Y:%H:%M:%S %z", localtime_r(&seconds, &tm));
    buf_add(out, text, len);
}

static void add_rfc3339(struct buf *out, uint64_t unix_ms)
{
    char text[CLOCK_TEXT];
    clock_rfc3339(unix_ms, text);
    buf_add_str(out, str_from(text));
}

static struct str header(const struct exchange *ex, struct str name)
{
    for (unsigned i = 0; ex->head && i < ex->head->field_count; i++) {
        const struct head_field *field = &ex->head->fields[i];
        bool same = field->name.len == name.len;
        for (size_t k = 0; same && k < name.len; k++) {
            char c = field->name.p[k];
            c = c == '-' ? '_' : (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
            same = c == name.p[k];
        }
        if (same)
            return field->value;
    }
    return (struct str){NULL, 0};
}

static struct str protocol(const struct exchange *ex)
{
    return !ex->head ? (struct str){NULL, 0} : ex->head->minor ? STR("HTTP/1.1") : STR("HTTP/1.0");
}

static struct str route(const struct exchange *ex, const struct sample *sample)
{
    const struct board *board = ex->server->board;
    return sample->route < board->routes_max ? str_from(board->routes[sample->route].name) : STR("(other)");
}

static void add_seconds(struct buf *out, uint64_t ns)
{
    buf_printf(out, "%.3f", (double)ns / 1e9);
}

/* Of the answer of an upstream, since it was asked; "-" when none was. */
static void add_upstream(struct buf *out, const struct sample *sample, enum phase until)
{
    uint64_t ns = 0;
    for (int i = PHASE_CONNECT; i <= (int)until; i++)
        ns += sample->phase_ns[i];
    if (sample->phase_ns[PHASE_FIRST_BYTE] || sample->phase_ns[PHASE_CONNECT])
        add_seconds(out, ns);
    else
        buf_add_char(out, '-');
}

static void add_variable(struct buf *out, const struct item *item, const struct exchange *ex, const struct sample *sample)
{
    const struct head *head = ex->head;
    switch (item->variable) {
    case VAR_LITERAL:
        buf_add_str(out, item->text);
        break;
    case VAR_REMOTE_ADDR:
        add_escaped(out, str_from(exchange_peer(ex)));
        break;
    case VAR_REMOTE_USER:
        buf_add_char(out, '-');
        break;
    case VAR_TIME_LOCAL:
        add_time_local(out, sample->at_unix_ms);
        break;
    case VAR_TIME_ISO8601:
        add_rfc3339(out, sample->at_unix_ms);
        break;
    case VAR_MSEC:
        buf_printf(out, "%.3f", (double)sample->at_unix_ms / 1000);
        break;
    case VAR_REQUEST:
        if (!head) {
            buf_add_char(out, '-');
            break;
        }
        add_escaped(out, head->method);
        buf_add_char(out, ' ');
        add_escaped(out, head->target);
        buf_add_char(out, ' ');
        buf_add_str(out, protocol(ex));
        break;
    case VAR_REQUEST_METHOD:
        add_escaped(out, sample->method);
        break;
    case VAR_REQUEST_URI:
        add_escaped(out, head ? head->target : (struct str){NULL, 0});
        break;
    case VAR_URI:
        add_escaped(out, ex->path);
        break;
    case VAR_ARGS:
        add_escaped(out, head && head->query.p ? head->query : (struct str){NULL, 0});
        break;
    case VAR_SERVER_PROTOCOL:
        add_escaped(out, protocol(ex));
        break;
    case VAR_STATUS:
        buf_printf(out, "%u", sample->status ? sample->status : 499);
        break;
    case VAR_BODY_BYTES_SENT:
        buf_add_u64(out, sample->body_out);
        break;
    case VAR_BYTES_SENT:
        buf_add_u64(out, sample->bytes_out);
        break;
    case VAR_REQUEST_LENGTH:
        buf_add_u64(out, sample->bytes_in);
        break;
    case VAR_REQUEST_TIME:
        add_seconds(out, sample->latency_ns);
        break;
    case VAR_HOST:
        add_escaped(out, head ? head->host : (struct str){NULL, 0});
        break;
    case VAR_ROUTE:
        add_escaped(out, route(ex, sample));
        break;
    case VAR_TRACE_ID:
        add_escaped(out, str_from(ex->trace_id));
        break;
    case VAR_UPSTREAM_CONNECT_TIME:
        add_upstream(out, sample, PHASE_CONNECT);
        break;
    case VAR_UPSTREAM_HEADER_TIME:
        add_upstream(out, sample, PHASE_FIRST_BYTE);
        break;
    case VAR_UPSTREAM_RESPONSE_TIME:
        add_upstream(out, sample, PHASE_BODY);
        break;
    case VAR_HTTP:
        add_escaped(out, header(ex, item->text));
        break;
    case VAR_PHASE:
        buf_printf(out, "%.3f", (double)sample->phase_ns[item->phase] / 1e6);
        break;
    }
}

static void add_member(struct buf *out, const char *name, struct str value)
{
    if (!value.len)
        return;
    buf_printf(out, ",\"%s\":", name);
    add_json(out, value);
}

/* Names as replay and others read them. */
static void add_object(struct buf *out, const struct exchange *ex, const struct sample *sample)
{
    const struct head *head = ex->head;
    buf_add_str(out, STR("{\"time_iso8601\":\""));
    add_rfc3339(out, sample->at_unix_ms);
    buf_add_char(out, '"');
    add_member(out, "remote_addr", str_from(exchange_peer(ex)));
    add_member(out, "request_method", sample->method);
    add_member(out, "request_uri", head ? head->target : (struct str){NULL, 0});
    add_member(out, "server_protocol", protocol(ex));
    add_member(out, "host", head ? head->host : (struct str){NULL, 0});
    add_member(out, "route", route(ex, sample));
    buf_printf(out, ",\"status\":%u,\"body_bytes_sent\":%llu,\"bytes_sent\":%llu,\"request_length\":%llu,\"request_time\":%.6f",
               sample->status ? sample->status : 499, (unsigned long long)sample->body_out, (unsigned long long)sample->bytes_out,
               (unsigned long long)sample->bytes_in, (double)sample->latency_ns / 1e9);
    add_member(out, "http_referer", header(ex, STR("referer")));
    add_member(out, "http_user_agent", header(ex, STR("user_agent")));
    add_member(out, "trace_id", str_from(ex->trace_id));
    bool first = true;
    for (int i = 0; i < PHASE_COUNT; i++)
        if (sample->phase_ns[i]) {
            buf_printf(out, "%s\"%s\":%.3f", first ? ",\"phases_ms\":{" : ",", phase_name((enum phase)i), (double)sample->phase_ns[i] / 1e6);
            first = false;
        }
    buf_add_str(out, first ? STR("}") : STR("}}"));
}

void access_log_add(struct access_log *log, const struct exchange *ex, const struct sample *sample, struct lane *lane)
{
    buf_clear(&log->line);
    if (log->kind == KIND_JSON)
        add_object(&log->line, ex, sample);
    else
        for (unsigned i = 0; i < log->count; i++)
            add_variable(&log->line, &log->items[i], ex, sample);
    buf_add_char(&log->line, '\n');
    bool kept = buf_ok(&log->line) && line_sink_put(log->sink, buf_str(&log->line));
    uint64_t lost = line_sink_lost(log->sink) + !kept;
    if (kept)
        lane_add(&lane->counters[COUNTER_LOG_LINES], 1);
    if (lost)
        lane_add(&lane->counters[COUNTER_LOG_LOST], lost);
}
