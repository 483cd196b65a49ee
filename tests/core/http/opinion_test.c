// SPDX-License-Identifier: MIT
#include "http/opinion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct head_limits limits = {.head_bytes = 16384, .target_bytes = 8192, .fields = 100};

static bool request_agrees(const char *bytes)
{
    static struct head head;
    struct head_refusal refusal;
    if (!head_parse_request(bytes, strlen(bytes), &limits, &head, &refusal))
        fail_msg("%s: %s", refusal.what, bytes);
    return opinion_agrees(bytes, strlen(bytes), &head, false);
}

static bool response_agrees(const char *bytes, enum http_method method)
{
    static struct head head;
    struct head_refusal refusal;
    if (!head_parse_response(bytes, strlen(bytes), &limits, method, &head, &refusal))
        fail_msg("%s: %s", refusal.what, bytes);
    return opinion_agrees(bytes, strlen(bytes), &head, true);
}

#define HOST "Host: a.example\r\n"

static void agrees_about_ordinary_requests(void **state)
{
    static const char *const cases[] = {
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        "GET /index.html?a=b HTTP/1.1\r\n" HOST "Connection: keep-alive\r\n"
        "sec-ch-ua: \"Chromium\";v=\"110\", \"Not A(Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n"
        "Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nCookie: a=\"b\"; c=d\r\n"
        "If-None-Match: W/\"x\"\r\nDNT: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: a\r\nUser-Agent: "
        "ApacheBench/2.3\r\n\r\n",
        "POST /form HTTP/1.1\r\n" HOST "Content-Length: 27\r\nExpect: 100-continue\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        "PUT /f HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
        "DELETE /f HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
        "HEAD /f HTTP/1.0\r\n\r\n",
        "PATCH /f HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n" HOST "\r\n",
        "GET http://a.example/x?y HTTP/1.1\r\n" HOST "\r\n",
        "GET http://[::1]:8000/ HTTP/1.1\r\n" HOST "\r\n",
        "GET /%7B|\"<>{}[]^`~ HTTP/1.1\r\n" HOST "X-Latin: \xe9\r\nX-Tab: a\tb\r\nX-Empty:\r\n\r\n",
        "GET /ws HTTP/1.1\r\n" HOST "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!request_agrees(cases[i]))
            fail_msg("disagrees: %s", cases[i]);
}

static void does_not_ask_about_methods_without_an_id(void **state)
{
    assert_true(request_agrees("BREW /pot HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(request_agrees("PROPFIND / HTTP/1.1\r\n" HOST "\r\n"));
}

static void agrees_about_ordinary_responses(void **state)
{
    static const char *const cases[] = {
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        "Content-Type: text/html\r\nContent-Length: 615\r\nConnection: keep-alive\r\n"
        "ETag: \"5f-3\"\r\nAccept-Ranges: bytes\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 200 \r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 599 Whatever \xe9\r\nContent-Length: 0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!response_agrees(cases[i], METHOD_GET) || !response_agrees(cases[i], METHOD_HEAD))
            fail_msg("disagrees: %s", cases[i]);
}

/* Parses one message, then asks about another. */
static bool agrees_with_other(const char *read, const char *asked, bool response)
{
    static struct head head;
    struct head_refusal refusal;
    bool ok = response
                  ? head_parse_response(read, strlen(read), &limits, METHOD_GET, &head, &refusal)
                  : head_parse_request(read, strlen(read), &limits, &head, &refusal);
    assert_true(ok);
    return opinion_agrees(asked, strlen(asked), &head, response);
}

static void disagrees_about_every_difference(void **state)
{
    const char *sized = "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n";
    assert_true(agrees_with_other(sized, sized, false));
    static const char *const others[] = {
        "PUT / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n",
        "POST / HTTP/1.0\r\n" HOST "Content-Length: 5\r\n\r\n",
        "POST / HTTP/2.1\r\n" HOST "Content-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (agrees_with_other(sized, others[i], false))
            fail_msg("agrees: %s", others[i]);
    const char *ok = "HTTP/1.1 200 OK\r\n\r\n";
    assert_true(agrees_with_other(ok, ok, true));
    assert_false(agrees_with_other(ok, "HTTP/1.1 201 OK\r\n\r\n", true));
    assert_false(agrees_with_other(ok, "HTTP/1.0 200 OK\r\n\r\n", true));
    assert_false(agrees_with_other(ok, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_about_ordinary_requests),
        cmocka_unit_test(does_not_ask_about_methods_without_an_id),
        cmocka_unit_test(agrees_about_ordinary_responses),
        cmocka_unit_test(disagrees_about_every_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
