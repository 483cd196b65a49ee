// SPDX-License-Identifier: MIT
/* Slots are claimed as routes are (see board.c), but with one more way: when
 * all are taken, one that is stale changes hands. Its new owner writes the
 * names between two states, so a reader that sees SLOT_READY twice has read one
 * peer's names. */
#include "board/peers.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

enum { SLOT_FREE = 0, SLOT_WRITING = 1, SLOT_READY = 2, SLOT_BITS = 3, SPINS = 2000 };

const char *peer_cause_name(unsigned cause)
{
    static const char *const names[CAUSE_COUNT] = {
#define X(id, name) name,
        PEER_CAUSE_LIST(X)
#undef X
    };
    return cause < CAUSE_COUNT ? names[cause] : names[CAUSE_NONE];
}

static uint64_t header_size(uint32_t max)
{
    return (sizeof(struct peers) + max * sizeof(struct board_peer) + 63) / 64 * 64;
}

uint64_t peers_size(uint32_t max, uint32_t workers)
{
    return header_size(max) + (uint64_t)workers * max * sizeof(struct peer_lane);
}

void peers_init(struct peers *t, uint32_t max, uint32_t workers)
{
    t->max = max;
    t->workers = workers;
    t->lanes_offset = header_size(max);
}

static bool is_ready(const struct board_peer *p)
{
    return atomic_load_explicit(&p->state, memory_order_acquire) == SLOT_READY;
}

static bool is_named(const struct board_peer *p, struct str upstream, struct str address)
{
    return str_equal(str_from(p->address), address) && str_equal(str_from(p->upstream), upstream);
}

int peers_find(const struct peers *t, struct str upstream, struct str address)
{
    uint32_t count = atomic_load_explicit(&t->count, memory_order_acquire);
    for (uint32_t i = 0; i < count && i < t->max; i++)
        if (is_ready(&t->list[i]) && is_named(&t->list[i], upstream, address))
            return (int)i;
    return -1;
}

/* A writer that died leaves its slot to the next. */
static uint32_t await_slot(struct board_peer *p)
{
    uint32_t state = 0;
    for (int i = 0; i < SPINS; i++) {
        state = atomic_load_explicit(&p->state, memory_order_acquire);
        if ((state & SLOT_BITS) != SLOT_WRITING)
            return state;
        if (kill((pid_t)(state >> 2), 0) != 0 && errno == ESRCH)
            atomic_compare_exchange_strong(&p->state, &state, SLOT_FREE);
        else
            sched_yield();
    }
    return state;
}

static void forget(struct peers *t, uint32_t index)
{
    struct board_peer *p = &t->list[index];
    atomic_store(&p->weight, 1);
    atomic_store(&p->draining, 0);
    atomic_store(&p->health, HEALTH_UNKNOWN);
    atomic_store(&p->breaker, BREAKER_CLOSED);
    atomic_store(&p->failures, 0);
    atomic_store(&p->level, 0);
    atomic_store(&p->cause, CAUSE_NONE);
    atomic_store(&p->ejections, 0);
    atomic_store(&p->open_until_ms, 0);
    atomic_store(&p->probe_until_ms, 0);
    atomic_store(&p->since_ms, 0);
    atomic_store(&p->latency_ns, 0);
    for (uint32_t w = 0; w < t->workers; w++)
        memset((void *)peers_lane(t, w, index), 0, sizeof(struct peer_lane));
}

static bool claim(struct peers *t, uint32_t index, uint32_t from, struct str upstream, struct str address,
                  uint64_t now_ms)
{
    struct board_peer *p = &t->list[index];
    if (!atomic_compare_exchange_strong(&p->state, &from, (uint32_t)getpid() << 2 | SLOT_WRITING))
        return false;
    forget(t, index);
    memcpy(p->upstream, upstream.p, upstream.len);
    p->upstream[upstream.len] = 0;
    memcpy(p->address, address.p, address.len);
    p->address[address.len] = 0;
    atomic_store(&p->touched_ms, now_ms);
    atomic_store_explicit(&p->state, SLOT_READY, memory_order_release);
    uint32_t count = atomic_load(&t->count);
    while (count <= index && !atomic_compare_exchange_weak(&t->count, &count, index + 1))
        ;
    return true;
}

static int claim_stale(struct peers *t, struct str upstream, struct str address, uint64_t now_ms)
{
    for (uint32_t i = 0; i < t->max; i++)
        if (is_ready(&t->list[i]) && lane_get(&t->list[i].touched_ms) + PEER_STALE_MS < now_ms &&
            claim(t, i, SLOT_READY, upstream, address, now_ms))
            return (int)i;
    return -1;
}

int peers_open(struct peers *t, struct str upstream, struct str address, uint64_t now_ms)
{
    if (upstream.len >= PEER_UPSTREAM_NAME || address.len >= PEER_ADDRESS)
        return -1;
    /* In order and without passing a free slot, so that two processes with the
     * same new peer meet at the same one. */
    for (uint32_t i = 0; i < t->max;) {
        struct board_peer *p = &t->list[i];
        uint32_t state = await_slot(p);
        if (state == SLOT_FREE) {
            if (claim(t, i, SLOT_FREE, upstream, address, now_ms))
                return (int)i;
            continue;
        }
        if (state == SLOT_READY && is_named(p, upstream, address)) {
            atomic_store_explicit(&p->touched_ms, now_ms, memory_order_relaxed);
            return (int)i;
        }
        i++;
    }
    return claim_stale(t, upstream, address, now_ms);
}

uint32_t peers_in_flight(const struct peers *t, uint32_t peer)
{
    uint32_t sum = 0;
    for (uint32_t w = 0; w < t->workers; w++)
        sum += atomic_load_explicit(&peers_lane(t, w, peer)->in_flight, memory_order_relaxed);
    return sum;
}

void peers_clear_worker(struct peers *t, uint32_t worker)
{
    for (uint32_t i = 0; i < t->max; i++)
        atomic_store_explicit(&peers_lane(t, worker, i)->in_flight, 0, memory_order_relaxed);
}
