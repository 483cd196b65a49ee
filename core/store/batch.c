// SPDX-License-Identifier: MIT
#include "store/batch.h"

#include <string.h>

struct taking {
    struct batch *batch;
    struct history *history;
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

/* A pool of the history as a thing of the batch; 0: memory is out. */
static uint32_t pool_thing(struct batch *b, const char *name)
{
    uint32_t n = (uint32_t)(buf_len(&b->pools) / POOL_NAME);
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(batch_pool(b, HISTORY_POOL + i), name) == 0)
            return HISTORY_POOL + i;
    buf_add(&b->pools, name, POOL_NAME);
    return buf_ok(&b->pools) ? HISTORY_POOL + n : 0;
}

static void on_frame(void *arg, uint32_t thing, const unsigned char *bytes, size_t size)
{
    const struct taking *t = arg;
    struct batch *b = t->batch;
    size_t n = batch_windows(b);
    if (b->windows.failed)
        return;
    if (thing >= HISTORY_POOL && !(thing = pool_thing(b, history_pool_name(t->history, thing))))
        return;
    struct batch_frame frame = {
        .thing = thing, .window = (uint32_t)n - 1, .at = b->bytes.end, .size = size};
    buf_add(&b->frames, &frame, sizeof frame);
    buf_add(&b->bytes, bytes, size);
    batch_window(b, n - 1)->frames++;
}

bool batch_take(struct batch *b, struct history *history, uint64_t after_ms, size_t most_bytes)
{
    struct taking t = {b, history, most_bytes};
    size_t windows = b->windows.end, frames = b->frames.end, bytes = b->bytes.end, names = b->pools.end;
    bool ok = history_windows(history, after_ms, on_window, on_frame, &t);
    if (ok && buf_ok(&b->windows) && buf_ok(&b->frames) && buf_ok(&b->bytes) && buf_ok(&b->pools))
        return true;
    b->windows.failed = b->frames.failed = b->bytes.failed = b->pools.failed = false;
    b->windows.end = windows;
    b->frames.end = frames;
    b->bytes.end = bytes;
    b->pools.end = names;
    return false;
}

void batch_clear(struct batch *b)
{
    buf_clear(&b->windows);
    buf_clear(&b->frames);
    buf_clear(&b->bytes);
    buf_clear(&b->pools);
}

void batch_done(struct batch *b)
{
    buf_done(&b->windows);
    buf_done(&b->frames);
    buf_done(&b->bytes);
    buf_done(&b->pools);
}
