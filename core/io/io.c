// SPDX-License-Identifier: MIT
#include "io/io.h"

#include "base/clock.h"
#include "base/err.h"

static void refresh_date(struct io *io)
{
    uint64_t unix_ns = clock_unix_ns();
    io->unix_ms = unix_ns / 1000000;
    io->wall_ahead_ns = (int64_t)(unix_ns - io->now_ns);
    if (io->unix_ms / 1000 == io->date_second)
        return;
    io->date_second = io->unix_ms / 1000;
    clock_http_date(io->unix_ms, io->date);
}

static void on_ticker(uv_timer_t *ticker)
{
    struct io *io = ticker->data;
    io_now(io);
    refresh_date(io);
    if (io->on_tick)
        io->on_tick(io);
    wheel_run(&io->wheel, io->now_ms);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct io *io = prepare->data;
    struct arrivals *a = &io->arrivals;
    if (a->fresh) /* the turn before has read nothing: its poll ended some time after it began */
        a->polled_ns = a->prepared_ns;
    a->prepared_ns = io_now(io);
    a->fresh = true;
}

void io_begin_reads(struct io *io)
{
    struct arrivals *a = &io->arrivals;
    uint64_t now = io_now(io), turn = a->prepared_ns - a->polled_ns;
    bool blocked = now - a->prepared_ns > ARRIVAL_BLOCKED_NS;
    a->fresh = false;
    a->slow = turn > ARRIVAL_SLOW_NS || now < a->watch_ns;
    a->estimate_ns = blocked ? now : now - turn / 2;
    a->polled_ns = now;
}

int io_init(struct io *io)
{
    if (uv_loop_init(&io->loop) < 0)
        return ERR_NOMEM;
    io->loop.data = io;
    io_now(io);
    refresh_date(io);
    wheel_init(&io->wheel, io->now_ms);
    uv_prepare_init(&io->loop, &io->prepare);
    io->prepare.data = io;
    uv_prepare_start(&io->prepare, on_prepare);
    uv_unref((uv_handle_t *)&io->prepare);
    io->arrivals.prepared_ns = io->now_ns;
    uv_timer_init(&io->loop, &io->ticker);
    io->ticker.data = io;
    uv_timer_start(&io->ticker, on_ticker, WHEEL_TICK_MS, WHEEL_TICK_MS);
    return 0;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void io_done(struct io *io)
{
    uv_walk(&io->loop, close_handle, NULL);
    while (uv_run(&io->loop, UV_RUN_DEFAULT) != 0)
        ;
    uv_loop_close(&io->loop);
    buf_done(&io->plain);
    while (io->spare_count)
        buf_done(&io->spare[--io->spare_count]);
}
