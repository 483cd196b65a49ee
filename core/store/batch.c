// SPDX-License-Identifier: MIT
#include "store/batch.h"

struct taking {
    struct batch *batch;
    size_t most_bytes;
};

static bool on_window(void *arg, const struct history_window *w)
{
    struct taking *t = arg;
    struct batch_window window = {.from_ms = w->from_ms,
                                  .to_ms = w->to_ms,
                                  .host = *w->host,
                                  .first_frame = (uint32_t)batch_frames(t->batch)};
    if (batch_bytes(t->batch) >= t->most_bytes)
        return false;
    buf_add(&t->batch->windows, &window, sizeof window);
    return true;
}

static void on_frame(void *arg, uint32_t route, const unsigned char *bytes, size_t size)
{
    struct batch *b = ((struct taking *)arg)->batch;
    size_t n = batch_windows(b);
    struct batch_frame frame = {
        .route = route, .window = (uint32_t)n - 1, .at = b->bytes.end, .size = size};
    if (b->windows.failed)
        return;
    buf_add(&b->frames, &frame, sizeof frame);
    buf_add(&b->bytes, bytes, size);
    batch_window(b, n - 1)->frames++;
}

bool batch_take(struct batch *b, struct history *history, uint64_t after_ms, size_t most_bytes)
{
    struct taking t = {b, most_bytes};
    size_t windows = b->windows.end, frames = b->frames.end, bytes = b->bytes.end;
    bool ok = history_windows(history, after_ms, on_window, on_frame, &t);
    if (ok && buf_ok(&b->windows) && buf_ok(&b->frames) && buf_ok(&b->bytes))
        return true;
    b->windows.failed = b->frames.failed = b->bytes.failed = false;
    b->windows.end = windows;
    b->frames.end = frames;
    b->bytes.end = bytes;
    return false;
}

void batch_clear(struct batch *b)
{
    buf_clear(&b->windows);
    buf_clear(&b->frames);
    buf_clear(&b->bytes);
}

void batch_done(struct batch *b)
{
    buf_done(&b->windows);
    buf_done(&b->frames);
    buf_done(&b->bytes);
}
