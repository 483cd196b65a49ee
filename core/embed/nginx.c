// SPDX-License-Identifier: MIT
#include "embed/nginx.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* As nginx declares them, src/core/ngx_string.h and src/http/ngx_http_variables.c. */
struct ngx_str {
    size_t len;
    const char *data;
};
struct ngx_value {
    unsigned len : 28, valid : 1, no_cacheable : 1, not_found : 1, escape : 1;
    const char *data;
};

static struct {
    struct ngx_value *(*get)(void *request, struct ngx_str *name, uintptr_t hash);
    double (*started_s)(void *request);
    double (*now_s)(void);
    int (*status)(void *request);
} nginx;

struct variable {
    struct ngx_str name;
    uintptr_t hash;
};
enum { METHOD, URI, BYTES_SENT, REQUEST_LENGTH, CONNECT_TIME, HEADER_TIME, RESPONSE_TIME, TRACEPARENT, VARIABLE_COUNT };
#define VARIABLE(text) {{sizeof text - 1, text}, 0}
static struct variable variables[VARIABLE_COUNT] = {
    [METHOD] = VARIABLE("request_method"),
    [URI] = VARIABLE("uri"),
    [BYTES_SENT] = VARIABLE("bytes_sent"),
    [REQUEST_LENGTH] = VARIABLE("request_length"),
    [CONNECT_TIME] = VARIABLE("upstream_connect_time"),
    [HEADER_TIME] = VARIABLE("upstream_header_time"),
    [RESPONSE_TIME] = VARIABLE("upstream_response_time"),
    [TRACEPARENT] = VARIABLE("http_traceparent"),
};

/* dlsym() gives a pointer to data; POSIX says that it can be called. */
static bool find(void *function, const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static void look_up(void)
{
    for (struct variable *v = variables; v < variables + VARIABLE_COUNT; v++)
        for (size_t i = 0; i < v->name.len; i++)
            v->hash = v->hash * 31 + (unsigned char)v->name.data[i]; /* ngx_hash_key() */
    if (!find(&nginx.started_s, "ngx_http_lua_ffi_req_start_time") || !find(&nginx.now_s, "ngx_http_lua_ffi_now") ||
        !find(&nginx.status, "ngx_http_lua_ffi_get_resp_status") || !find(&nginx.get, "ngx_http_get_variable"))
        nginx.get = NULL;
}

bool nginx_here(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, look_up);
    return nginx.get != NULL;
}

static struct str value_of(void *request, int which)
{
    struct variable *v = &variables[which];
    const struct ngx_value *value = nginx.get(request, &v->name, v->hash);
    return value && !value->not_found ? (struct str){value->data, value->len} : (struct str){0};
}

static uint64_t count_of(void *request, int which)
{
    struct str text = value_of(request, which);
    uint64_t n = 0;
    for (size_t i = 0; i < text.len && text.p[i] >= '0' && text.p[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(text.p[i] - '0');
    return n;
}

/* nginx lists one time, in seconds with three decimals, for each upstream that was tried ("0.004, 0.120 : 0.003"), and a
 * dash for one that gave none. */
static uint64_t sum_ns(struct str text)
{
    uint64_t total_ms = 0;
    for (size_t i = 0; i < text.len;) {
        uint64_t ms = 0;
        int decimals = -1; /* -1: before the point */
        size_t began = i;
        for (; i < text.len && ((text.p[i] >= '0' && text.p[i] <= '9') || text.p[i] == '.'); i++) {
            if (text.p[i] == '.')
                decimals = 0;
            else if (decimals < 3) {
                ms = ms * 10 + (uint64_t)(text.p[i] - '0');
                decimals += decimals >= 0;
            }
        }
        for (decimals = decimals < 0 ? 0 : decimals; decimals < 3; decimals++)
            ms *= 10;
        total_ms += ms;
        i += i == began;
    }
    return total_ms * 1000000;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

static bool is_id(struct str segment)
{
    size_t digits = 0, hex = 0, words = 0;
    for (size_t i = 0; i < segment.len; i++) {
        digits += is_digit(segment.p[i]);
        hex += is_hex(segment.p[i]) || segment.p[i] == '-';
        words += is_word(segment.p[i]);
    }
    return segment.len && (digits == segment.len || (segment.len >= 32 && hex == segment.len) || (segment.len >= 16 && digits && words == segment.len));
}

size_t nginx_template(struct str path, char out[NGINX_ROUTE_BYTES])
{
    size_t len = 0;
    for (size_t i = 0; i < path.len && len < NGINX_ROUTE_BYTES;) {
        if (path.p[i] == '/') {
            out[len++] = path.p[i++];
            continue;
        }
        const char *end = memchr(path.p + i, '/', path.len - i);
        struct str segment = {path.p + i, end ? (size_t)(end - path.p) - i : path.len - i};
        i += segment.len;
        if (is_id(segment))
            segment = STR(":id");
        if (segment.len > NGINX_ROUTE_BYTES - len)
            segment.len = NGINX_ROUTE_BYTES - len;
        memcpy(out + len, segment.p, segment.len);
        len += segment.len;
    }
    return len;
}

/* The phases of the upstream. Where it was asked several times, the sum. */
static void read_upstream(void *request, uint64_t phase_ns[PHASE_COUNT])
{
    uint64_t response = sum_ns(value_of(request, RESPONSE_TIME));
    if (!response)
        return;
    uint64_t connect = sum_ns(value_of(request, CONNECT_TIME)), header = sum_ns(value_of(request, HEADER_TIME));
    phase_ns[PHASE_CONNECT] = connect;
    phase_ns[PHASE_FIRST_BYTE] = header > connect ? header - connect : 0;
    phase_ns[PHASE_BODY] = response > header ? response - header : 0;
}

/* The 32 hexadecimal digits in "00-<trace>-<span>-01", or NULL. */
static const char *trace_of(void *request)
{
    enum { TRACE_AT = 3, TRACE_LEN = 32 };
    struct str text = value_of(request, TRACEPARENT);
    if (text.len < TRACE_AT + TRACE_LEN + 1 || text.p[2] != '-' || text.p[TRACE_AT + TRACE_LEN] != '-')
        return NULL;
    for (int i = TRACE_AT; i < TRACE_AT + TRACE_LEN; i++)
        if (!is_hex(text.p[i]))
            return NULL;
    return text.p + TRACE_AT;
}

static uint32_t status_of(void *request)
{
    enum { CLIENT_CLOSED = 499 };
    int status = nginx.status(request);
    if (status == CLIENT_CLOSED)
        return 0;
    return status >= 100 && status <= 599 ? (uint32_t)status : 500;
}

void nginx_record(struct recorder *r, void *request, const char *route, size_t route_len)
{
    if (!recorder_follow(r))
        return;
    char name[NGINX_ROUTE_BYTES];
    if (!route_len) {
        route = name;
        route_len = nginx_template(value_of(request, URI), name);
    }
    double ms = (nginx.now_s() - nginx.started_s(request)) * 1000;
    uint64_t phase_ns[PHASE_COUNT] = {0};
    read_upstream(request, phase_ns);
    struct span_result result = {
        .status = status_of(request),
        .bytes_in = count_of(request, REQUEST_LENGTH),
        .bytes_out = count_of(request, BYTES_SENT),
        .latency_ns = (uint64_t)((ms > 0 ? ms : 0.5) * 1e6), /* nginx counts in whole milliseconds: what took less is taken for half of one */
    };
    if (recorder_is_slow(r, result.latency_ns))
        result.trace_id = trace_of(request);
    lane_add(&r->lane->started, 1);
    recorder_record(r, recorder_route(r, value_of(request, METHOD), (struct str){route, route_len}), phase_ns, &result);
}
