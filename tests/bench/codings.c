/* codings FILE... - size against time of every coding and level on whole bodies,
 * and of zlib, which nginx and HAProxy's peers compress with. One line each:
 *
 *     coding level file bytes us
 *
 * Time is CPU time of this thread, the least of several rounds. */
// SPDX-License-Identifier: MIT
#include "codec/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zlib.h>

enum { ROUNDS = 5, ROUND_US = 20000 };

struct work {
    struct codec *codec;
    enum codec_id id; /* CODEC_IDENTITY: zlib */
    int level;
    struct str body;
    struct buf out;
    z_stream zlib;
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* As a server does it that keeps its context. */
static void zlib_once(struct work *w)
{
    size_t most = compressBound(w->body.len) + 32;
    char *to = buf_room(&w->out, most);
    deflateReset(&w->zlib);
    w->zlib.next_in = (Bytef *)w->body.p;
    w->zlib.avail_in = (uInt)w->body.len;
    w->zlib.next_out = (Bytef *)to;
    w->zlib.avail_out = (uInt)most;
    if (!to || deflate(&w->zlib, Z_FINISH) != Z_STREAM_END)
        abort();
    buf_wrote(&w->out, w->zlib.total_out);
}

static void once(struct work *w)
{
    buf_clear(&w->out);
    if (w->id == CODEC_IDENTITY)
        zlib_once(w);
    else if (codec_compress(w->codec, w->id, w->level, w->body, 0, &w->out))
        abort();
}

static double least_us(struct work *w)
{
    double least = 1e12;
    for (int round = 0; round < ROUNDS; round++) {
        double began = now_us(), took;
        int n = 0;
        do {
            once(w);
            n++;
            took = now_us() - began;
        } while (took < ROUND_US);
        least = took / n < least ? took / n : least;
    }
    return least;
}

static struct str read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct buf b = {0};
    char piece[65536];
    if (!f) {
        perror(path);
        exit(1);
    }
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        buf_add(&b, piece, n);
    fclose(f);
    return buf_str(&b);
}

static void print_one(struct work *w, const char *name, const char *path)
{
    double us = least_us(w);
    printf("%s %d %s %zu %.1f\n", name, w->level, path, buf_len(&w->out), us);
}

int main(int argc, char **argv)
{
    struct work w = {.codec = codec_new()};
    for (int i = 1; i < argc; i++) {
        w.body = read_file(argv[i]);
        for (w.level = 1; w.level <= 9; w.level++) {
            w.id = CODEC_IDENTITY;
            w.zlib = (z_stream){0};
            deflateInit2(&w.zlib, w.level, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
            print_one(&w, "zlib", argv[i]);
            deflateEnd(&w.zlib);
        }
        for (w.id = CODEC_GZIP; w.id < CODEC_COUNT; w.id++)
            for (w.level = codec_level_min(w.id); w.id != CODEC_DEFLATE && w.level <= codec_level_max(w.id); w.level++)
                print_one(&w, codec_name(w.id), argv[i]);
    }
    return 0;
}
