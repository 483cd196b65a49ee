// SPDX-License-Identifier: MIT
#include "http/head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct head_limits limits = {.head_bytes = 16384, .target_bytes = 8192, .fields = 100};

#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: a.example\r\n"
#define GET LINE HOST
#define POST "POST / HTTP/1.1\r\n" HOST

/* A request of `len` bytes and the status it is refused with; 0: accepted. */
struct request_case {
    const char *bytes;
    size_t len;
    int status;
};
#define CASE(status, bytes)             \
    {                                   \
        bytes, sizeof bytes - 1, status \
    }

static int parse_status(const char *bytes, size_t len, const struct head_limits *with,
                        struct head *out)
{
    struct head_refusal refusal = {0};
    size_t end = head_end(bytes, len, 0);
    if (!end)
        return head_hopeless(bytes, len, 0, with, &refusal) ? refusal.status : -1;
    return head_parse_request(bytes, end, with, out, &refusal) ? 0 : refusal.status;
}

static int byte_by_byte_status(const char *bytes, size_t len, const struct head_limits *with)
{
    static struct head out;
    struct head_refusal refusal = {0};
    for (size_t i = 1; i <= len; i++) {
        size_t end = head_end(bytes, i, i - 1);
        if (end)
            return head_parse_request(bytes, end, with, &out, &refusal) ? 0 : refusal.status;
        if (head_hopeless(bytes, i, i - 1, with, &refusal))
            return refusal.status;
    }
    return -1;
}

static void expect_cases(const struct request_case *cases, size_t count)
{
    static struct head out;
    for (size_t i = 0; i < count; i++) {
        int whole = parse_status(cases[i].bytes, cases[i].len, &limits, &out);
        int cut = byte_by_byte_status(cases[i].bytes, cases[i].len, &limits);
        if (whole != cases[i].status || cut != cases[i].status)
            fail_msg("case %zu: wanted %d, whole gives %d, byte by byte %d:\n%s", i,
                     cases[i].status, whole, cut, cases[i].bytes);
    }
}
#define EXPECT(cases) expect_cases(cases, sizeof cases / sizeof *cases)

static struct head *accept_request(const char *bytes)
{
    static struct head out;
    int status = parse_status(bytes, strlen(bytes), &limits, &out);
    if (status)
        fail_msg("refused with %d: %s", status, bytes);
    return &out;
}

#define assert_str(s, text)                          \
    do {                                             \
        struct str got_ = (s);                       \
        assert_int_equal(got_.len, strlen(text));    \
        assert_memory_equal(got_.p, text, got_.len); \
    } while (0)

static void reads_a_typical_request(void **state)
{
    struct head *h = accept_request("GET /a/b?c=d%20e HTTP/1.1\r\nHost: a.example:8000\r\n"
                                    "User-Agent: curl/7.88.1\r\nAccept:*/*\r\nX-Empty:\r\n"
                                    "Cookie: \t a=b; c=d \t\r\n\r\n");
    assert_int_equal(h->method_id, METHOD_GET);
    assert_str(h->method, "GET");
    assert_str(h->target, "/a/b?c=d%20e");
    assert_str(h->path, "/a/b");
    assert_str(h->query, "c=d%20e");
    assert_str(h->host, "a.example:8000");
    assert_int_equal(h->minor, 1);
    assert_true(h->keep_alive);
    assert_false(h->upgrade);
    assert_int_equal(h->framing, FRAMING_NONE);
    assert_int_equal(h->field_count, 5);
    assert_str(head_get(h, FIELD_COOKIE), "a=b; c=d");
    assert_str(head_find(h, STR("user-AGENT")), "curl/7.88.1");
    assert_str(h->fields[2].value, "*/*");
    assert_str(h->fields[3].value, "");
    assert_null(head_get(h, FIELD_EXPECT).p);
    assert_null(head_find(h, STR("nothing")).p);
}

static void knows_every_field_it_lists_in_any_case(void **state)
{
    for (int id = 1; id < FIELD_COUNT; id++) {
        static struct head out;
        struct head_refusal refusal;
        char bytes[200], name[32];
        snprintf(name, sizeof name, "%s", head_field_name((enum head_field_id)id));
        for (char *p = name; *p; p += 2) {
            if (*p >= 'a' && *p <= 'z')
                *p = (char)(*p - 32);
            if (!p[1])
                break;
        }
        const char *value = id == FIELD_TRANSFER_ENCODING ? "chunked" : "1";
        int len = snprintf(bytes, sizeof bytes, "HTTP/1.1 200 OK\r\n%s: %s\r\n\r\n", name, value);
        assert_true(head_parse_response(bytes, (size_t)len, &limits, METHOD_GET, &out, &refusal));
        assert_int_equal(out.fields[0].id, id);
        assert_int_equal(out.first[id], 1);
    }
}

static void tells_methods_apart(void **state)
{
    static const struct {
        const char *name;
        enum http_method id;
    } cases[] = {{"GET", METHOD_GET},
                 {"HEAD", METHOD_HEAD},
                 {"POST", METHOD_POST},
                 {"PUT", METHOD_PUT},
                 {"DELETE", METHOD_DELETE},
                 {"OPTIONS", METHOD_OPTIONS},
                 {"PATCH", METHOD_PATCH},
                 {"CONNECT", METHOD_CONNECT},
                 {"TRACE", METHOD_TRACE},
                 {"PROPFIND", METHOD_OTHER},
                 {"get", METHOD_OTHER},
                 {"GETS", METHOD_OTHER},
                 {"M!#$%&'*+-.^_`|~9", METHOD_OTHER}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(head_method_id(str_from(cases[i].name)), cases[i].id);
    assert_int_equal(accept_request("M!#$%&'*+-.^_`|~9 / HTTP/1.1\r\n" HOST "\r\n")->method_id,
                     METHOD_OTHER);
}

static void refuses_malformed_request_lines(void **state)
{
    static const struct request_case cases[] = {
        CASE(400, "GET /\r\n" HOST "\r\n"),
        CASE(400, "GET\r\n" HOST "\r\n"),
        CASE(400, " GET / HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "GET  / HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "GET /  HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "GET / HTTP/1.1 \r\n" HOST "\r\n"),
        CASE(400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "GET /a b HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "G(T / HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "G\xc3\xa9T / HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "GET / http/1.1\r\n" HOST "\r\n"),
        CASE(400, "GET / HTTP/1\r\n" HOST "\r\n"),
        CASE(400, "GET / HTTP/1.10\r\n" HOST "\r\n"),
        CASE(400, "GET / HTTP/11.1\r\n" HOST "\r\n"),
        CASE(400, "GET / HTTP 1.1\r\n" HOST "\r\n"),
        CASE(400, "GET / ICY/1.1\r\n" HOST "\r\n"),
        CASE(505, "GET / HTTP/2.0\r\n" HOST "\r\n"),
        CASE(505, "GET / HTTP/0.9\r\n" HOST "\r\n"),
        CASE(505, "GET / HTTP/1.2\r\n" HOST "\r\n"),
        CASE(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        CASE(405, "CONNECT a.example:443 HTTP/1.1\r\n" HOST "\r\n"),
        CASE(405, "TRACE / HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "\r\n\r\n\r\n" GET "\r\n"),
        CASE(400, "\r\n\r\n\r\n\r\n"),
        CASE(0, "\r\n\r\n" GET "\r\n"),
        CASE(0, "\r\n" GET "\r\n"),
        CASE(-1, GET),
        CASE(-1, GET "\r"),
        CASE(-1, ""),
    };
    EXPECT(cases);
}

static void judges_targets(void **state)
{
#define TARGET(status, target) CASE(status, "GET " target " HTTP/1.1\r\n" HOST "\r\n")
    static const struct request_case cases[] = {
        TARGET(0, "/"),
        TARGET(0, "//a//../b/%2e%2E/%2f%41"),
        TARGET(0, "/a?b?c&d=/?%7e"),
        TARGET(0, "/\"<>[]^`{|}~!$&'()*+,;=:@"),
        TARGET(400, "/#f"),
        TARGET(400, "/a?b#f"),
        TARGET(400, "/a\\b"),
        TARGET(400, "/%"),
        TARGET(400, "/%4"),
        TARGET(400, "/%zz"),
        TARGET(400, "/%00"),
        TARGET(400, "/?a=%00"),
        TARGET(400, "/?a=100%"),
        TARGET(400, "/\x7f"),
        TARGET(400, "/\x01"),
        TARGET(400, "/\xc3\xa9"),
        TARGET(400, "/\t"),
        TARGET(400, "a"),
        TARGET(400, "?a"),
        TARGET(400, "*"),
        TARGET(400, "*a"),
        TARGET(400, "a.example:443"),
        TARGET(400, "ftp://a.example/"),
        TARGET(400, "http:/a.example/"),
        TARGET(400, "http://"),
        TARGET(400, "http:///a"),
        TARGET(400, "http://?a"),
        TARGET(400, "http://u@a.example/"),
        TARGET(400, "http://u:p@a.example/"),
        TARGET(400, "http://a.example:x/"),
        TARGET(400, "http://a.example:/"),
        TARGET(400, "http://a.example:65536/"),
        TARGET(400, "http://a,b/"),
        TARGET(400, "http://a%41/"),
        TARGET(400, "https://[::1/"),
        TARGET(0, "http://b.example:65535/x"),
        TARGET(0, "HTTPS://[2001:db8::1]:443/x"),
        CASE(0, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "OPTIONS *? HTTP/1.1\r\n" HOST "\r\n"),
    };
    EXPECT(cases);
}

static void takes_targets_apart(void **state)
{
    struct head *h = accept_request("GET http://b.example:81/x/y?z HTTP/1.1\r\n" HOST "\r\n");
    assert_str(h->host, "b.example:81");
    assert_str(h->path, "/x/y");
    assert_str(h->query, "z");
    h = accept_request("GET https://b.example?/z? HTTP/1.0\r\n\r\n");
    assert_str(h->host, "b.example");
    assert_str(h->path, "/");
    assert_str(h->query, "/z?");
    h = accept_request("GET http://b.example HTTP/1.1\r\n" HOST "\r\n");
    assert_str(h->path, "/");
    assert_null(h->query.p);
    h = accept_request("OPTIONS http://b.example HTTP/1.1\r\n" HOST "\r\n");
    assert_str(h->path, "*");
    h = accept_request("OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
    assert_str(h->path, "*");
    assert_str(h->host, "a.example");
    h = accept_request("GET /? HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(h->query.p);
    assert_int_equal(h->query.len, 0);
}

static void judges_hosts(void **state)
{
#define WITH_HOST(status, host) CASE(status, LINE "Host: " host "\r\n\r\n")
    static const struct request_case cases[] = {
        WITH_HOST(0, "a"),
        WITH_HOST(0, "A-b_c.example.:0"),
        WITH_HOST(0, "127.0.0.1:8000"),
        WITH_HOST(0, "[::1]"),
        WITH_HOST(0, "[::ffff:1.2.3.4]:65535"),
        WITH_HOST(400, ""),
        WITH_HOST(400, " \t "),
        WITH_HOST(400, ":80"),
        WITH_HOST(400, "a:"),
        WITH_HOST(400, "a:b"),
        WITH_HOST(400, "a:65536"),
        WITH_HOST(400, "a:000080"),
        WITH_HOST(400, "a:80:80"),
        WITH_HOST(400, "a b"),
        WITH_HOST(400, "a,b"),
        WITH_HOST(400, "a, a"),
        WITH_HOST(400, "u@a"),
        WITH_HOST(400, "a/b"),
        WITH_HOST(400, "http://a"),
        WITH_HOST(400, "a?b"),
        WITH_HOST(400, "a#b"),
        WITH_HOST(400, "a\\b"),
        WITH_HOST(400, "a%41"),
        WITH_HOST(400, "a\"b"),
        WITH_HOST(400, "<a>"),
        WITH_HOST(400, "\xe9"),
        WITH_HOST(400, "[::1"),
        WITH_HOST(400, "::1"),
        WITH_HOST(400, "[]"),
        WITH_HOST(400, "[::g]"),
        WITH_HOST(400, "[1.2.3.4]"),
        WITH_HOST(400, "[::1%25eth0]"),
        WITH_HOST(400, "[v1.a]"),
        WITH_HOST(400, "[::1]a"),
        WITH_HOST(400, "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa]"),
        CASE(400, LINE "\r\n"),
        CASE(400, GET HOST "\r\n"),
        CASE(400, GET "host: b\r\n\r\n"),
        CASE(400, "GET http://b/ HTTP/1.1\r\n\r\n"),
        CASE(400, "GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n"),
        CASE(0, "GET / HTTP/1.0\r\n\r\n"),
        CASE(400, "GET / HTTP/1.0\r\nHost: \r\n\r\n"),
        CASE(400, "GET / HTTP/1.0\r\n" HOST HOST "\r\n"),
    };
    EXPECT(cases);
}

static void refuses_broken_lines_and_fields(void **state)
{
    static const struct request_case cases[] = {
        CASE(400, "GET / HTTP/1.1\n" HOST "\r\n"),
        CASE(400, LINE "Host: a\n\r\n"),
        CASE(400, LINE "Host: a\n\n"),
        CASE(400, "GET / HTTP/1.1\nHost: a\n\n"),
        CASE(400, GET "A: b\rc\r\n\r\n"),
        CASE(400, GET "A: b\r\rc\r\n\r\n"),
        CASE(400, GET "\rX: y\r\n\r\n"),
        CASE(400, GET "\r\r\n\r\n"),
        CASE(400, GET "A: b\nc: d\r\n\r\n"),
        CASE(400, GET "A: b\0c\r\n\r\n"),
        CASE(400, GET "A\0: b\r\n\r\n"),
        CASE(400, "GET /\0 HTTP/1.1\r\n" HOST "\r\n"),
        CASE(400, "\0" GET "\r\n"),
        CASE(400, "\n" GET "\r\n"),
        CASE(400, GET "A: b\r\n c\r\n\r\n"),
        CASE(400, GET "A: b\r\n\tc\r\n\r\n"),
        CASE(400, GET " \r\n\r\n"),
        CASE(400, LINE " Host: a\r\n\r\n"),
        CASE(400, LINE "\tX: a\r\n" HOST "\r\n"),
        CASE(400, GET ": b\r\n\r\n"),
        CASE(400, GET "A : b\r\n\r\n"),
        CASE(400, GET "A\t: b\r\n\r\n"),
        CASE(400, GET "A b: c\r\n\r\n"),
        CASE(400, GET "A\r\n\r\n"),
        CASE(400, GET "A(: b\r\n\r\n"),
        CASE(400, GET "A\xe9: b\r\n\r\n"),
        CASE(400, GET "A\x7f: b\r\n\r\n"),
        CASE(400, GET "\"A\": b\r\n\r\n"),
        CASE(400, GET "A: b\x01\r\n\r\n"),
        CASE(400, GET "A: 0123456789\x0b"
                      "0123456789\r\n\r\n"),
        CASE(400, GET "A: 0123456789\x7f"
                      "0123456789\r\n\r\n"),
        CASE(400, GET "A: \x1b[31m\r\n\r\n"),
        CASE(0, GET "A: b\tc \x80\xff\xe9 0123456789 \xa0\r\n\r\n"),
        CASE(0, GET "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n"),
        /* broken lines win over whatever else is wrong */
        CASE(400, "TRACE / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n"),
        CASE(400, "GET / HTTP/2.0\r\n" HOST "A: b\nc\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: gzip\r\nA: \0\r\n\r\n"),
    };
    EXPECT(cases);
}

static void judges_framing(void **state)
{
    static const struct request_case cases[] = {
        CASE(400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding:\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: ,chunked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked,\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked, chunked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked, gzip\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: \"chunked\"\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chunked;a=b\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: \x0b"
                       "chunked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: \xa0"
                       "chunked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding: chun ked\r\n\r\n"),
        CASE(400, POST "Transfer-Encoding : chunked\r\n\r\n"),
        CASE(501, POST "Transfer-Encoding: gzip\r\n\r\n"),
        CASE(501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
        CASE(501, POST "Transfer-Encoding: xchunked\r\n\r\n"),
        CASE(501, POST "Transfer-Encoding: identity\r\n\r\n"),
        CASE(400, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"),
        CASE(400, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n"),
        CASE(0, POST "Transfer-Encoding: CHUNKED \r\n\r\n"),
#define WITH_LENGTH(status, value) CASE(status, POST "Content-Length:" value "\r\n\r\n")
        WITH_LENGTH(400, ""),
        WITH_LENGTH(400, " "),
        WITH_LENGTH(400, " +1"),
        WITH_LENGTH(400, " -1"),
        WITH_LENGTH(400, " 0x1"),
        WITH_LENGTH(400, " 1 1"),
        WITH_LENGTH(400, " 1,1"),
        WITH_LENGTH(400, " 1_0"),
        WITH_LENGTH(400, " 1.0"),
        WITH_LENGTH(400, " a"),
        WITH_LENGTH(400, " \xd9\xa1"),
        WITH_LENGTH(400, " 18446744073709551616"),
        WITH_LENGTH(400, " 99999999999999999999999999"),
        WITH_LENGTH(400, " 1\r\nContent-Length: 1"),
        WITH_LENGTH(400, " 1\r\ncontent-length: 2"),
        WITH_LENGTH(0, "18446744073709551615"),
        WITH_LENGTH(0, " 007\t"),
    };
    EXPECT(cases);
}

static void decides_framing(void **state)
{
    assert_int_equal(accept_request(POST "Transfer-Encoding: Chunked\r\n\r\n")->framing,
                     FRAMING_CHUNKED);
    struct head *h = accept_request(POST "Content-Length: 18446744073709551615\r\n\r\n");
    assert_int_equal(h->framing, FRAMING_FIXED);
    assert_true(h->has_content_length && h->content_length == UINT64_MAX);
    h = accept_request(POST "Content-Length: 0\r\n\r\n");
    assert_int_equal(h->framing, FRAMING_NONE);
    assert_true(h->has_content_length);
    assert_int_equal(accept_request(GET "Content-Length: 3\r\n\r\n")->framing, FRAMING_FIXED);
    h = accept_request(POST "\r\n");
    assert_int_equal(h->framing, FRAMING_NONE);
    assert_false(h->has_content_length);
}

static void judges_expectations(void **state)
{
    static const struct request_case cases[] = {
        CASE(417, POST "Expect: 200-ok\r\n\r\n"),
        CASE(417, POST "Expect:\r\n\r\n"),
        CASE(417, POST "Expect: 100-continue, x\r\n\r\n"),
        CASE(417, POST "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n"),
    };
    EXPECT(cases);
    assert_true(
        accept_request(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n")->expect_continue);
    assert_false(accept_request(POST "Expect: 100-continue\r\n\r\n")->expect_continue);
    assert_false(
        accept_request("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
            ->expect_continue);
}

static void reads_connection(void **state)
{
    assert_false(accept_request(GET "Connection: close\r\n\r\n")->keep_alive);
    assert_false(
        accept_request(GET "Connection: keep-alive\r\nconnection: x, CLOSE\r\n\r\n")->keep_alive);
    assert_true(accept_request(GET "Connection: Keep-Alive\r\n\r\n")->keep_alive);
    assert_false(accept_request("GET / HTTP/1.0\r\n\r\n")->keep_alive);
    assert_true(accept_request("GET / HTTP/1.0\r\nConnection: a,keep-alive\r\n\r\n")->keep_alive);
    assert_true(accept_request(GET "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")->upgrade);
    assert_false(accept_request(GET "Upgrade: websocket\r\n\r\n")->upgrade);
    assert_false(accept_request(GET "Connection: upgrade\r\n\r\n")->upgrade);
    assert_false(
        accept_request("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n")->upgrade);
    static const struct request_case cases[] = {
        CASE(400, POST "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n"),
        CASE(400, POST "Connection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        CASE(0, POST "Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 0\r\n\r\n"),
    };
    EXPECT(cases);
}

static void keeps_hop_by_hop_fields_apart(void **state)
{
    struct head *h = accept_request(
        GET
        "Connection: close, X-A, host, cookie, x-forwarded-for, X-Forwarded-Port, authorization\r\n"
        "X-A: 1\r\nx-a: 2\r\nX-B: 3\r\nCookie: a\r\nAuthorization: b\r\nX-Forwarded-For: c\r\n"
        "X-Forwarded-Port: 1\r\nKeep-Alive: d\r\nTE: trailers\r\nTrailer: e\r\nUpgrade: f\r\n"
        "Proxy-Connection: g\r\nProxy-Authorization: h\r\nProxy-Authenticate: i\r\n\r\n");
    static const bool hop[] = {false, true, true, true, false, false, false, false,
                               false, true, true, true, true,  true,  true,  true};
    assert_int_equal(h->field_count, sizeof hop);
    for (unsigned i = 0; i < h->field_count; i++)
        if (head_is_hop_by_hop(&h->fields[i]) != hop[i])
            fail_msg("field %u (%.*s)", i, STR_ARG(h->fields[i].name));
    h = accept_request(
        POST "Connection: content-length, transfer-encoding\r\nContent-Length: 1\r\n\r\n");
    assert_false(head_is_hop_by_hop(&h->fields[2]));
    assert_int_equal(h->framing, FRAMING_FIXED);
}

static void append(char *bytes, const char *text, size_t times)
{
    size_t len = strlen(bytes);
    for (size_t i = 0; i < times; i++, len += strlen(text))
        strcpy(bytes + len, text);
}

static void expect_long(const char *before, const char *repeat, size_t times, const char *after,
                        int status)
{
    static struct head out;
    char *bytes = calloc(1, strlen(before) + times * strlen(repeat) + strlen(after) + 1);
    strcpy(bytes, before);
    append(bytes, repeat, times);
    append(bytes, after, 1);
    size_t len = strlen(bytes);
    assert_int_equal(parse_status(bytes, len, &limits, &out), status);
    assert_int_equal(byte_by_byte_status(bytes, len, &limits), status);
    free(bytes);
}

static void keeps_its_limits(void **state)
{
    expect_long(GET, "A: b\r\n", 99, "\r\n", 0);
    expect_long(GET, "A: b\r\n", 100, "\r\n", 431);
    expect_long("GET /", "a", 8191, " HTTP/1.1\r\n" HOST "\r\n", 0);
    expect_long("GET /", "a", 8192, " HTTP/1.1\r\n" HOST "\r\n", 414);
    expect_long("GET /", "a", 70000, " HTTP/1.1\r\n" HOST "\r\n", 414);
    expect_long("GET /", "a", 70000, "", 414);
    expect_long(GET "A: ", "a", 16384, "\r\n\r\n", 431);
    expect_long(GET "A: ", "a", 70000, "", 431);
    expect_long(GET "A: ", "a", 16384 - strlen(GET "A: \r\n\r\n"), "\r\n\r\n", 0);
    expect_long(GET "A: ", "a", 16385 - strlen(GET "A: \r\n\r\n"), "\r\n\r\n", 431);
    expect_long("", "A", 70000, "", 431);
    expect_long(GET "Connection: ", "x,", 100, "\r\n\r\n", 0);
    expect_long(GET "Connection: ", "x,", 101, "\r\n\r\n", 431);
    expect_long("GET / HTTP/1.1\n", "a", 70000, "\r\n\r\n", 400);
}

static int response_framing(const char *bytes, enum http_method method, struct head *out)
{
    struct head_refusal refusal = {0};
    size_t len = strlen(bytes);
    assert_int_equal(head_end(bytes, len, 0), len);
    if (head_parse_response(bytes, len, &limits, method, out, &refusal))
        return (int)out->framing;
    assert_int_equal(refusal.status, 502);
    assert_non_null(refusal.what);
    return -1;
}

static void frames_responses(void **state)
{
    static const struct {
        const char *bytes;
        enum http_method method;
        int framing;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", METHOD_GET, FRAMING_FIXED},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", METHOD_GET, FRAMING_NONE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", METHOD_HEAD, FRAMING_NONE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_GET, FRAMING_CHUNKED},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_HEAD, FRAMING_NONE},
        {"HTTP/1.1 200 OK\r\n\r\n", METHOD_GET, FRAMING_EOF},
        {"HTTP/1.0 200 OK\r\n\r\n", METHOD_GET, FRAMING_EOF},
        {"HTTP/1.1 200 OK\r\n\r\n", METHOD_HEAD, FRAMING_NONE},
        {"HTTP/1.1 200\r\n\r\n", METHOD_GET, FRAMING_EOF},
        {"HTTP/1.1 200 \r\n\r\n", METHOD_GET, FRAMING_EOF},
        {"HTTP/1.1 599 a b\t\xe9\r\n\r\n", METHOD_GET, FRAMING_EOF},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", METHOD_GET, FRAMING_NONE},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", METHOD_GET, FRAMING_NONE},
        {"HTTP/1.1 100 Continue\r\n\r\n", METHOD_POST, FRAMING_NONE},
        {"HTTP/1.1 101 Switching\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n", METHOD_GET,
         FRAMING_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct head out;
        if (response_framing(cases[i].bytes, cases[i].method, &out) != cases[i].framing)
            fail_msg("case %zu: %s", i, cases[i].bytes);
    }
}

static void reads_a_typical_response(void **state)
{
    static struct head h;
    response_framing("HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 12\r\n"
                     "Connection: keep-alive, X-A\r\nX-A: 1\r\n\r\n",
                     METHOD_GET, &h);
    assert_int_equal(h.status, 404);
    assert_str(h.reason, "Not Found");
    assert_int_equal(h.content_length, 12);
    assert_true(h.keep_alive);
    assert_true(h.fields[3].nominated);
    response_framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", METHOD_GET, &h);
    assert_true(h.has_content_length && h.content_length == 5);
    response_framing("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", METHOD_GET, &h);
    assert_false(h.has_content_length);
    response_framing("HTTP/1.1 200 OK\r\n\r\n", METHOD_GET, &h);
    assert_false(h.keep_alive);
}

static void refuses_malformed_responses(void **state)
{
    static const char *const cases[] = {
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 \r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "<html>\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5,5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 304 OK\r\nContent-Length: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct head out;
        struct head_refusal refusal = {0};
        if (head_parse_response(cases[i], strlen(cases[i]), &limits, METHOD_GET, &out, &refusal) ||
            refusal.status != 502)
            fail_msg("case %zu: %s", i, cases[i]);
    }
}

static void refuses_what_is_not_one_whole_head(void **state)
{
    static const char *const cases[] = {GET "\r\nX", GET, "", "\r\n", "GET", GET "\r\n" GET "\r\n"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct head out;
        struct head_refusal refusal = {0};
        assert_false(head_parse_request(cases[i], strlen(cases[i]), &limits, &out, &refusal));
        assert_int_equal(refusal.status, 400);
    }
}

static void judges_names_and_values(void **state)
{
    assert_true(head_is_token(STR("X-a_1")));
    assert_false(head_is_token(STR("")));
    assert_false(head_is_token(STR("a b")));
    assert_false(head_is_token(STR("a\r\n")));
    assert_false(head_is_token(STR("a:")));
    assert_true(head_is_value(STR("")));
    assert_true(head_is_value(STR("a\tb \xe9 and more than eight")));
    assert_false(head_is_value(STR("a\r\nX: b")));
    assert_false(head_is_value(STR("a\nb")));
    assert_false(head_is_value(STR("0123456\0")));
    assert_false(head_is_value(STR("01234567\x7f")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_typical_request),
        cmocka_unit_test(knows_every_field_it_lists_in_any_case),
        cmocka_unit_test(tells_methods_apart),
        cmocka_unit_test(refuses_malformed_request_lines),
        cmocka_unit_test(judges_targets),
        cmocka_unit_test(takes_targets_apart),
        cmocka_unit_test(judges_hosts),
        cmocka_unit_test(refuses_broken_lines_and_fields),
        cmocka_unit_test(judges_framing),
        cmocka_unit_test(decides_framing),
        cmocka_unit_test(judges_expectations),
        cmocka_unit_test(reads_connection),
        cmocka_unit_test(keeps_hop_by_hop_fields_apart),
        cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(frames_responses),
        cmocka_unit_test(reads_a_typical_response),
        cmocka_unit_test(refuses_malformed_responses),
        cmocka_unit_test(refuses_what_is_not_one_whole_head),
        cmocka_unit_test(judges_names_and_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
