// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "http/body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct reading {
    struct buf payload;
    size_t used;
    bool done;
    const char *error;
};

/* Feeds `piece` bytes at a time. */
static struct reading read_body(enum http_framing framing, uint64_t length, struct str in,
                                size_t piece)
{
    struct reading out = {0};
    struct body_reader r;
    body_init(&r, framing, length);
    while (out.used < in.len && !r.done && !r.error) {
        struct str payload;
        size_t rest = in.len - out.used;
        size_t used = body_feed(&r, in.p + out.used, rest < piece ? rest : piece, &payload);
        assert_in_range(used, 1, piece);
        buf_add_str(&out.payload, payload);
        out.used += used;
    }
    assert_int_equal(r.payload_bytes, buf_len(&out.payload));
    assert_int_equal(body_eof(&r), framing == FRAMING_EOF || r.done);
    out.done = r.done;
    out.error = r.error;
    return out;
}

/* In one piece, in threes and byte by byte the same: the payload, and `left`
 * bytes of the input untouched. */
static void expect_body(struct str in, const char *payload, size_t left)
{
    static const size_t pieces[] = {1 << 20, 3, 1};
    for (int i = 0; i < 3; i++) {
        struct reading out = read_body(FRAMING_CHUNKED, 0, in, pieces[i]);
        if (out.error || !out.done)
            fail_msg("refused (%s): %.*s", out.error ? out.error : "not done", STR_ARG(in));
        assert_int_equal(out.used, in.len - left);
        assert_int_equal(buf_len(&out.payload), strlen(payload));
        if (*payload)
            assert_memory_equal(out.payload.data, payload, strlen(payload));
        buf_done(&out.payload);
    }
}

static void expect_refused(struct str in)
{
    struct reading whole = read_body(FRAMING_CHUNKED, 0, in, 1 << 20);
    struct reading cut = read_body(FRAMING_CHUNKED, 0, in, 1);
    if (!whole.error || !cut.error)
        fail_msg("accepted: %.*s", STR_ARG(in));
    assert_string_equal(whole.error, cut.error);
    assert_int_equal(whole.used, cut.used);
    assert_false(whole.done || cut.done);
    assert_int_equal(buf_len(&whole.payload), buf_len(&cut.payload));
    buf_done(&whole.payload);
    buf_done(&cut.payload);
}

static void reads_chunks(void **state)
{
    expect_body(STR("0\r\n\r\n"), "", 0);
    expect_body(STR("5\r\nhello\r\n0\r\n\r\n"), "hello", 0);
    expect_body(STR("1\r\na\r\n2\r\nbc\r\n00\r\n\r\n"), "abc", 0);
    expect_body(STR("A\r\n0123456789\r\n0\r\n\r\n"), "0123456789", 0);
    expect_body(STR("000000000000000a\r\n0123456789\r\n0\r\n\r\n"), "0123456789", 0);
    expect_body(STR("4\r\n\r\n\r\n\r\n0\r\n\r\n"), "\r\n\r\n", 0);
}

static void stops_at_the_end_of_the_message(void **state)
{
    expect_body(STR("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), "a", 16);
    expect_body(STR("0\r\n\r\n\r\n"), "", 2);
    struct reading fixed = read_body(FRAMING_FIXED, 3, STR("abcGET /"), 1 << 20);
    assert_true(fixed.done);
    assert_int_equal(fixed.used, 3);
    buf_done(&fixed.payload);
}

static void reads_past_extensions_and_trailers(void **state)
{
    expect_body(STR("1;a\r\nx\r\n0;b=c;d=\"e;f\"\r\n\r\n"), "x", 0);
    expect_body(STR("1; a = \"\\\"\\\\\"\r\nx\r\n0\r\n\r\n"), "x", 0);
    expect_body(STR("1\r\nx\r\n0\r\nA: b\r\nB:\r\nContent-Length: 7\r\n\r\nZ"), "x", 1);
}

static void refuses_bad_sizes(void **state)
{
    expect_refused(STR("+1\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("-1\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("0x1\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1_0\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR(" 1\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1 \r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1 ;a\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1\t\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR(";a\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("g\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1h\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1,1\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("00000000000000001\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("10000000000000000\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("\0"
                       "1\r\nx\r\n0\r\n\r\n"));
}

static void refuses_bad_line_ends(void **state)
{
    expect_refused(STR("1\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1\rx\r\n0\r\n\r\n"));
    expect_refused(STR("1\r\rx\r\n0\r\n\r\n"));
    expect_refused(STR("1\r\nx\n0\r\n\r\n"));
    expect_refused(STR("1\r\nx\r0\r\n\r\n"));
    expect_refused(STR("1\r\nx0\r\n\r\n"));
    expect_refused(STR("1\r\nxy\r\n0\r\n\r\n"));
    expect_refused(STR("2\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1\r\nx\r\n0\n\r\n"));
    expect_refused(STR("1\r\nx\r\n0\r\n\n"));
    expect_refused(STR("1\r\nx\r\n0\r\n\rX"));
}

static void refuses_bad_extensions(void **state)
{
    expect_refused(STR("1;a\nb\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a\rb\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a\0b\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a\tb\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a\x7f\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a=\"b\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a=\"\r\n\"\r\nx\r\n0\r\n\r\n"));
    expect_refused(STR("1;a=\"\\\r\n\"\r\nx\r\n0\r\n\r\n"));
}

static void refuses_bad_trailers(void **state)
{
    expect_refused(STR("0\r\nA\r\n\r\n"));
    expect_refused(STR("0\r\n: b\r\n\r\n"));
    expect_refused(STR("0\r\nA : b\r\n\r\n"));
    expect_refused(STR("0\r\n A: b\r\n\r\n"));
    expect_refused(STR("0\r\nA: b\r\n c\r\n\r\n"));
    expect_refused(STR("0\r\nA: b\n\n"));
    expect_refused(STR("0\r\nA: b\n\r\n"));
    expect_refused(STR("0\r\nA: b\rc\r\n\r\n"));
    expect_refused(STR("0\r\nA: \0\r\n\r\n"));
    expect_refused(STR("0\r\nA: \x01\r\n\r\n"));
}

static struct buf repeat(const char *before, const char *text, size_t times, const char *after)
{
    struct buf b = {0};
    buf_add_str(&b, str_from(before));
    for (size_t i = 0; i < times; i++)
        buf_add_str(&b, str_from(text));
    buf_add_str(&b, str_from(after));
    return b;
}

static void keeps_its_limits(void **state)
{
    struct buf b = repeat("1;", "a", 4095, "\r\nx\r\n0\r\n\r\n");
    expect_body(buf_str(&b), "x", 0);
    buf_done(&b);
    b = repeat("1;", "a", 4096, "\r\nx\r\n0\r\n\r\n");
    expect_refused(buf_str(&b));
    buf_done(&b);
    b = repeat("", "1;0123456789\r\nx\r\n", 400,
               "0\r\n\r\n"); /* 11 bytes each, over 4 KiB in all */
    expect_refused(buf_str(&b));
    buf_done(&b);
    b = repeat("0\r\nA: ", "b", 8192 - 6, "\r\n\r\n");
    expect_body(buf_str(&b), "", 0);
    buf_done(&b);
    b = repeat("0\r\nA: ", "b", 8192 - 5, "\r\n\r\n");
    expect_refused(buf_str(&b));
    buf_done(&b);
    b = repeat("", "1\r\nx\r\n", 10000, "0\r\n\r\n");
    expect_refused(buf_str(&b));
    buf_done(&b);
    b = repeat("", "6\r\nabcdef\r\n", 10000, "0\r\n\r\n");
    struct reading out = read_body(FRAMING_CHUNKED, 0, buf_str(&b), 1 << 20);
    assert_true(out.done && buf_len(&out.payload) == 60000);
    buf_done(&out.payload);
    buf_done(&b);
}

static void counts_what_is_left(void **state)
{
    struct body_reader r;
    struct str payload;
    body_init(&r, FRAMING_FIXED, UINT64_MAX);
    assert_int_equal(body_feed(&r, "abc", 3, &payload), 3);
    assert_int_equal(payload.len, 3);
    assert_true(r.left == UINT64_MAX - 3);
    assert_false(r.done);
    assert_false(body_eof(&r));
    body_init(&r, FRAMING_CHUNKED, 0);
    assert_int_equal(body_feed(&r, "ffffffffffffffff\r\nabc", 21, &payload), 21);
    assert_int_equal(payload.len, 3);
    assert_true(r.left == UINT64_MAX - 3);
    assert_false(body_eof(&r));
}

static void hands_back_one_run_at_a_time(void **state)
{
    struct body_reader r;
    struct str payload, in = STR("1\r\na\r\n2\r\nbc\r\n0\r\n\r\nX");
    body_init(&r, FRAMING_CHUNKED, 0);
    size_t used = body_feed(&r, in.p, in.len, &payload);
    assert_int_equal(used, 9);
    assert_true(str_equal(payload, STR("a")));
    used += body_feed(&r, in.p + used, in.len - used, &payload);
    assert_int_equal(used, in.len - 1);
    assert_true(str_equal(payload, STR("bc")));
    assert_true(r.done);
    assert_int_equal(body_feed(&r, in.p + used, 1, &payload), 0);
    assert_int_equal(payload.len, 0);
}

static void ends_with_the_connection_only_where_it_may(void **state)
{
    struct body_reader r;
    struct str payload;
    body_init(&r, FRAMING_EOF, 0);
    assert_int_equal(body_feed(&r, "abc", 3, &payload), 3);
    assert_false(r.done);
    assert_true(body_eof(&r));
    assert_true(r.done);
    body_init(&r, FRAMING_NONE, 0);
    assert_true(r.done && body_eof(&r));
    body_init(&r, FRAMING_FIXED, 0);
    assert_true(r.done);
    body_init(&r, FRAMING_CHUNKED, 0);
    body_feed(&r, "0\r\n\r", 4, &payload);
    assert_false(body_eof(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_chunks),
        cmocka_unit_test(stops_at_the_end_of_the_message),
        cmocka_unit_test(reads_past_extensions_and_trailers),
        cmocka_unit_test(refuses_bad_sizes),
        cmocka_unit_test(refuses_bad_line_ends),
        cmocka_unit_test(refuses_bad_extensions),
        cmocka_unit_test(refuses_bad_trailers),
        cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(counts_what_is_left),
        cmocka_unit_test(hands_back_one_run_at_a_time),
        cmocka_unit_test(ends_with_the_connection_only_where_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
