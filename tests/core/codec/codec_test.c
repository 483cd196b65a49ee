// SPDX-License-Identifier: MIT
#include "codec/codec.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <brotli/decode.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

enum { LARGE = 1 << 20 };

static uint64_t seed = 1;

static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005U + 1442695040888963407U; /* Knuth's MMIX */
    return (uint32_t)(seed >> 33);
}

static char *make_text(size_t len)
{
    static const char *const words[] = {"\"id\":", "\"name\":\"", "user", "},{", "false", "0.25", "order", " "};
    char *text = malloc(len + 16);
    for (size_t at = 0; at < len;)
        at += (size_t)snprintf(text + at, 16, "%s%u", words[rnd() % 8], rnd() % 100);
    return text;
}

static char *make_noise(size_t len)
{
    char *noise = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        noise[i] = (char)rnd();
    return noise;
}

/* The reference decoder of each coding, given exactly the right room. */
static void assert_decodes(enum codec_id id, struct str coded, struct str expected)
{
    char *plain = malloc(expected.len + 1);
    size_t made = expected.len + 1;
    struct libdeflate_decompressor *inflater = libdeflate_alloc_decompressor();
    switch (id) {
    case CODEC_GZIP:
        assert_int_equal(libdeflate_gzip_decompress(inflater, coded.p, coded.len, plain, made, &made), 0);
        break;
    case CODEC_DEFLATE:
        assert_int_equal(libdeflate_zlib_decompress(inflater, coded.p, coded.len, plain, made, &made), 0);
        break;
    case CODEC_ZSTD: {
        ZSTD_DCtx *d = ZSTD_createDCtx();
        ZSTD_inBuffer in = {coded.p, coded.len, 0};
        ZSTD_outBuffer out = {plain, made, 0};
        assert_int_equal(ZSTD_decompressStream(d, &out, &in), 0);
        assert_int_equal(in.pos, in.size);
        made = out.pos;
        ZSTD_freeDCtx(d);
        break;
    }
    default:
        assert_int_equal(BrotliDecoderDecompress(coded.len, (const uint8_t *)coded.p, &made, (uint8_t *)plain),
                         BROTLI_DECODER_RESULT_SUCCESS);
    }
    assert_int_equal(made, expected.len);
    assert_memory_equal(plain, expected.p, made);
    libdeflate_free_decompressor(inflater);
    free(plain);
}

static void every_level_of_every_coding_decodes_to_what_it_was(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 100, 1500, 65535, 65536, 200000};
    struct codec *c = codec_new();
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        char *bodies[] = {make_text(sizes[n]), make_noise(sizes[n])};
        for (int kind = 0; kind < 2; kind++)
            for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++)
                for (int level = codec_level_min(id); level <= codec_level_max(id); level++) {
                    struct buf out = {0};
                    struct str body = {bodies[kind], sizes[n]};
                    buf_add_str(&out, STR("kept"));
                    assert_int_equal(codec_compress(c, id, level, body, 0, &out), 0);
                    assert_memory_equal(out.data, "kept", 4);
                    assert_decodes(id, (struct str){out.data + 4, out.end - 4}, body);
                    buf_done(&out);
                }
        free(bodies[0]);
        free(bodies[1]);
    }
    codec_free(c);
}

static void a_megabyte_is_compressed_whole(void **state)
{
    (void)state;
    struct codec *c = codec_new();
    struct str body = {make_text(LARGE), LARGE};
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++) {
        struct buf out = {0};
        assert_int_equal(codec_compress(c, id, 1, body, 0, &out), 0);
        assert_true(buf_len(&out) < LARGE / 2);
        assert_decodes(id, buf_str(&out), body);
        buf_done(&out);
    }
    free((void *)body.p);
    codec_free(c);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct codec *c = codec_new();
    struct str noise = {make_noise(50000), 50000}, text = {make_text(50000), 50000};
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++)
        for (int level = codec_level_min(id); level <= codec_level_max(id); level++) {
            struct buf out = {0};
            assert_int_equal(codec_compress(c, id, level, noise, noise.len - 1, &out), ERR_TOO_LARGE);
            assert_int_equal(buf_len(&out), 0);
            assert_int_equal(codec_compress(c, id, level, text, 100, &out), ERR_TOO_LARGE);
            assert_int_equal(codec_compress(c, id, level, text, text.len - 1, &out), 0);
            assert_true(buf_len(&out) < text.len);
            assert_decodes(id, buf_str(&out), text); /* the context is as good as new */
            buf_done(&out);
        }
    free((void *)noise.p);
    free((void *)text.p);
    codec_free(c);
}

static void denser_levels_are_smaller(void **state)
{
    (void)state;
    struct codec *c = codec_new();
    struct str body = {make_text(100000), 100000};
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++) {
        struct buf fast = {0}, dense = {0};
        assert_int_equal(codec_compress(c, id, codec_level_min(id), body, 0, &fast), 0);
        assert_int_equal(codec_compress(c, id, codec_level_max(id), body, 0, &dense), 0);
        assert_true(buf_len(&dense) < buf_len(&fast));
        /* beyond the ends: the nearest */
        struct buf beyond = {0};
        assert_int_equal(codec_compress(c, id, 1000, body, 0, &beyond), 0);
        assert_int_equal(buf_len(&beyond), buf_len(&dense));
        buf_done(&fast);
        buf_done(&dense);
        buf_done(&beyond);
    }
    free((void *)body.p);
    codec_free(c);
}

/* ---- streams ---- */

static void stream_in_random_pieces(const struct codec_stream_opts *opts, struct str body)
{
    struct codec_stream *s = codec_stream_new(opts);
    struct codec_limits none = {0};
    struct codec_decoder *d = codec_decoder_new(opts->id, &none);
    struct buf coded = {0}, all = {0}, plain = {0};
    size_t at = 0;
    while (at < body.len) {
        size_t len = rnd() % 3 ? rnd() % 100 : rnd() % 40000;
        enum codec_flush flush = rnd() % 4 ? CODEC_RUN : CODEC_FLUSH;
        len = len < body.len - at ? len : body.len - at;
        buf_clear(&coded);
        assert_int_equal(codec_stream_write(s, (struct str){body.p + at, len}, flush, &coded), 0);
        buf_add_str(&all, buf_str(&coded));
        at += len;
        assert_int_equal(codec_decode(d, buf_str(&coded), &plain), 0);
        if (flush == CODEC_FLUSH) /* all of it is there */
            assert_int_equal(buf_len(&plain), at);
        assert_memory_equal(plain.data, body.p, buf_len(&plain));
    }
    buf_clear(&coded);
    assert_int_equal(codec_stream_write(s, (struct str){NULL, 0}, CODEC_END, &coded), 0);
    assert_false(codec_decoder_done(d));
    assert_int_equal(codec_decode(d, buf_str(&coded), &plain), 0);
    assert_true(codec_decoder_done(d));
    assert_int_equal(buf_len(&plain), body.len);
    buf_add_str(&all, buf_str(&coded));
    assert_decodes(opts->id, buf_str(&all), body);
    assert_true(codec_stream_bytes(s) > 1000 && codec_stream_bytes(s) < 5 << 20);
    buf_done(&coded);
    buf_done(&all);
    buf_done(&plain);
    codec_decoder_free(d);
    codec_stream_free(s);
}

static void a_stream_can_be_decoded_up_to_each_flush(void **state)
{
    (void)state;
    struct str bodies[] = {{make_text(300000), 300000}, {make_noise(100000), 100000}, {"", 0}, {"x", 1}};
    for (int kind = 0; kind < 4; kind++)
        for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++)
            for (int level = codec_level_min(id); level <= 9 && level <= codec_level_max(id); level++)
                for (int how = 0; how < 4; how++) {
                    struct codec_stream_opts opts = {.id = id, .level = level, .small = how & 1,
                                                     .size_bytes = how & 2 ? bodies[kind].len : 0};
                    stream_in_random_pieces(&opts, bodies[kind]);
                }
    free((void *)bodies[0].p);
    free((void *)bodies[1].p);
}

static void small_streams_hold_little_memory(void **state)
{
    (void)state;
    struct str text = {make_text(100000), 100000};
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++) {
        struct codec_stream_opts opts = {.id = id, .level = 1, .small = true};
        struct codec_stream *s = codec_stream_new(&opts);
        struct buf out = {0};
        assert_int_equal(codec_stream_write(s, text, CODEC_FLUSH, &out), 0);
        assert_true(codec_stream_bytes(s) < 256 << 10);
        size_t len = buf_len(&out);
        assert_int_equal(codec_stream_write(s, (struct str){NULL, 0}, CODEC_FLUSH, &out), 0);
        assert_int_equal(buf_len(&out), len); /* nothing new: nothing to say */
        buf_done(&out);
        codec_stream_free(s);
    }
    free((void *)text.p);
}

/* ---- decoding ---- */

static void decoding_stops_at_its_limits(void **state)
{
    (void)state;
    struct codec *c = codec_new();
    struct str zeros = {calloc(1, 10 << 20), 10 << 20};
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++) {
        struct buf bomb = {0}, plain = {0};
        struct codec_limits bytes = {.max_bytes = 1 << 20}, ratio = {.max_ratio = 100};
        assert_int_equal(codec_compress(c, id, 3, zeros, 0, &bomb), 0);
        struct codec_decoder *d = codec_decoder_new(id, &bytes);
        assert_int_equal(codec_decode(d, buf_str(&bomb), &plain), ERR_TOO_LARGE);
        assert_true(buf_len(&plain) <= (1 << 20) + (64 << 10));
        codec_decoder_free(d);
        buf_clear(&plain);
        d = codec_decoder_new(id, &ratio);
        assert_int_equal(codec_decode(d, buf_str(&bomb), &plain), ERR_TOO_LARGE);
        codec_decoder_free(d);
        buf_done(&plain);
        buf_done(&bomb);
    }
    free((void *)zeros.p);
    codec_free(c);
}

static void malformed_and_cut_bodies_are_told_apart_from_whole_ones(void **state)
{
    (void)state;
    struct codec *c = codec_new();
    struct str text = {make_text(5000), 5000};
    struct codec_limits none = {0};
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++) {
        struct buf coded = {0}, plain = {0};
        assert_int_equal(codec_compress(c, id, 1, text, 0, &coded), 0);
        struct codec_decoder *d = codec_decoder_new(id, &none);
        assert_int_equal(codec_decode(d, (struct str){coded.data, coded.end - 1}, &plain), 0);
        assert_false(codec_decoder_done(d));
        codec_decoder_free(d);
        d = codec_decoder_new(id, &none);
        assert_int_equal(codec_decode(d, STR("this is not compressed at all"), &plain), ERR_PROTOCOL);
        codec_decoder_free(d);
        d = codec_decoder_new(id, &none);
        assert_int_equal(codec_decode(d, buf_str(&coded), &plain), 0);
        assert_true(codec_decoder_done(d));
        assert_int_equal(codec_decode(d, STR("garbage behind"), &plain), ERR_PROTOCOL);
        codec_decoder_free(d);
        buf_done(&coded);
        buf_done(&plain);
    }
    free((void *)text.p);
    codec_free(c);
}

static void names_are_those_of_http(void **state)
{
    (void)state;
    assert_int_equal(codec_from_name(STR("GZip")), CODEC_GZIP);
    assert_int_equal(codec_from_name(STR("x-gzip")), CODEC_GZIP);
    assert_int_equal(codec_from_name(STR("br")), CODEC_BROTLI);
    assert_int_equal(codec_from_name(STR("zstd")), CODEC_ZSTD);
    assert_int_equal(codec_from_name(STR("deflate")), CODEC_DEFLATE);
    assert_int_equal(codec_from_name(STR("identity")), CODEC_IDENTITY);
    assert_int_equal(codec_from_name(STR("")), CODEC_COUNT);
    assert_int_equal(codec_from_name(STR("compress")), CODEC_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_of_every_coding_decodes_to_what_it_was),
        cmocka_unit_test(a_megabyte_is_compressed_whole),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(denser_levels_are_smaller),
        cmocka_unit_test(a_stream_can_be_decoded_up_to_each_flush),
        cmocka_unit_test(small_streams_hold_little_memory),
        cmocka_unit_test(decoding_stops_at_its_limits),
        cmocka_unit_test(malformed_and_cut_bodies_are_told_apart_from_whole_ones),
        cmocka_unit_test(names_are_those_of_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
