// SPDX-License-Identifier: MIT
#include "embed/recorder.h"

#include "base/clock.h"

#include <pthread.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static unsigned forks; /* written by the only thread of a child, before it does anything else */

static void on_fork(void)
{
    forks++;
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, on_fork); /* gone with the library, when it is unloaded */
}

unsigned recorder_forks(void)
{
    return forks;
}

void recorder_init(struct recorder *r, struct board *board, uint32_t lane, struct attached *attached)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    memset(r, 0, sizeof *r);
    r->board = board;
    r->lane = board_lane(board, lane);
    r->attached = attached;
    r->forks = forks;
}

void recorder_move(struct recorder *r, struct board *board, uint32_t lane)
{
    memset(r->names, 0, sizeof r->names);
    r->board = board;
    r->lane = board_lane(board, lane);
    r->forks = forks;
    r->moves++;
}

/* A child of an attached application must not write where its parent does. */
static __attribute__((noinline)) void take_lane(struct recorder *r)
{
    r->forks = forks;
    if (r->on_fork)
        r->on_fork(r->on_fork_user);
    if (r->attached)
        r->lane = attach_again(r->attached) ? board_lane(r->board, (uint32_t)r->attached->lane) : NULL;
}

uint32_t recorder_route(struct recorder *r, struct str method, struct str name)
{
    uint64_t hash = XXH3_64bits_withSeed(name.p, name.len, XXH3_64bits_withSeed(method.p, method.len, r->board->hash_seed)) | 1;
    for (unsigned i = 0; i < 8; i++) {
        unsigned at = (unsigned)(hash >> 20) + i;
        at %= RECORDER_NAMES;
        if (r->names[at].hash == hash)
            return r->names[at].route;
        if (r->names[at].hash)
            continue;
        r->names[at].route = board_route(r->board, method, name);
        r->names[at].hash = hash;
        return r->names[at].route;
    }
    return board_route(r->board, method, name);
}

bool recorder_follow(struct recorder *r)
{
    if (r->forks != forks)
        take_lane(r);
    if (!r->lane)
        r->lost++;
    return r->lane != NULL;
}

void recorder_close(struct recorder *r)
{
    r->lane = NULL;
    r->attached = NULL;
    r->on_fork = NULL;
}

static uint64_t slow_after_ns(const struct recorder *r)
{
    return (uint64_t)(int64_t)(setting_number(&r->board->settings, SETTING_STATS_SLOW_MS) * 1e6);
}

bool recorder_is_slow(const struct recorder *r, uint64_t latency_ns)
{
    return latency_ns > slow_after_ns(r);
}

void span_begin(struct recorder *r, uint32_t route, struct span *out)
{
    if (r->forks != forks)
        take_lane(r);
    memset(out->phase_ns, 0, sizeof out->phase_ns);
    out->recorder = r;
    out->route = route;
    out->moves = r->moves;
    out->began_ns = clock_now_ns();
    if (r->lane)
        lane_add(&r->lane->started, 1);
}

void span_end(struct span *s, const struct span_result *result)
{
    struct recorder *r = s->recorder;
    if (!r)
        return;
    s->recorder = NULL;
    if (!recorder_follow(r))
        return;
    if (s->moves != r->moves) {
        r->lost++;
        return;
    }
    struct span_result took = *result;
    if (!took.latency_ns)
        took.latency_ns = clock_now_ns() - s->began_ns;
    recorder_record(r, s->route, s->phase_ns, &took);
}

void recorder_record(struct recorder *r, uint32_t route, const uint64_t phase_ns[PHASE_COUNT], const struct span_result *result)
{
    uint64_t slow_ns = slow_after_ns(r);
    struct sample sample = {
        .route = route,
        .status = result->status,
        .latency_ns = result->latency_ns,
        .bytes_in = result->bytes_in,
        .bytes_out = result->bytes_out,
        .body_out = result->bytes_out,
        .phase_ns = phase_ns,
        .trace_id = result->trace_id,
    };
    if (result->latency_ns > slow_ns) {
        sample.at_unix_ms = clock_unix_ms();
        sample.method = str_from(r->board->routes[route].method);
    }
    lane_record(r->lane, &sample, r->board->routes_max, slow_ns);
}
