// SPDX-License-Identifier: MIT
/* Routes are registered without a lock and without duplicates: slots fill in
 * order, and nobody claims slot i before having seen slots 0 .. i-1 ready and
 * different. Two processes with the same new name meet at the same slot; the
 * loser waits for the winner and compares again. */
#include "board/board.h"

#include "base/clock.h"

#define XXH_INLINE_ALL
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

static const uint64_t BOARD_MAGIC = 0x31656e756c697265; /* "erilune1" */

enum {
    ROUTES_DEFAULT = 256,
    PEERS_DEFAULT = 256,
    /* The state of a slot: the low two bits, and while it is written the
     * process that does it in the bits above. */
    SLOT_FREE = 0,
    SLOT_WRITING = 1,
    SLOT_READY = 2,
    SLOT_BITS = 3,
    SPINS = 200,       /* yields before the first sleep */
    NAPS = 500,        /* of 0.2 ms each before giving up */
    NAP_NS = 200000,
};

static uint64_t round_up(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

static void register_fixed(struct board *board)
{
    static const struct {
        uint32_t index;
        const char *name;
    } fixed[] = {{ROUTE_OTHER, "(other)"}, {ROUTE_REFUSED, "(refused)"}, {ROUTE_NONE, "(none)"}, {ROUTE_BENCHMARK, "(benchmark)"}};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        uint32_t index = board_route(board, STR("*"), str_from(fixed[i].name));
        assert(index == fixed[i].index);
        (void)index;
    }
}

static void *map_private(uint64_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void *map_shared(uint64_t size, int *fd)
{
    *fd = memfd_create("perilune-board", MFD_CLOEXEC);
    if (*fd < 0)
        return MAP_FAILED;
    void *at = MAP_FAILED;
    if (ftruncate(*fd, (off_t)size) == 0)
        at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (at == MAP_FAILED)
        close(*fd);
    return at;
}

struct board *board_new(const struct board_opts *opts)
{
    uint32_t routes_max = opts->routes_max ? opts->routes_max : ROUTES_DEFAULT;
    assert(opts->workers >= 1 && opts->workers <= BOARD_WORKERS_MAX);
    assert(opts->guests <= GUESTS_MAX);
    assert(routes_max >= 8 && routes_max <= LANE_ROUTES_MAX);
    uint64_t lane_bytes =
        round_up(sizeof(struct lane) + routes_max * sizeof(struct route_lane), 4096);
    uint64_t lanes_offset = round_up(sizeof(struct board), 4096);
    uint32_t peers_max = opts->peers_max ? opts->peers_max : PEERS_DEFAULT;
    assert(peers_max <= PEERS_MAX);
    uint32_t lanes = opts->workers + opts->guests;
    uint64_t peers_offset = lanes_offset + lanes * lane_bytes;
    uint64_t size = round_up(peers_offset + peers_size(peers_max, opts->workers), 4096);

    int fd = -1;
    struct board *board = opts->is_private ? map_private(size) : map_shared(size, &fd);
    if (board == MAP_FAILED)
        return NULL;
    board->magic = BOARD_MAGIC;
    board->size_bytes = size;
    board->workers = opts->workers;
    board->lanes = lanes;
    atomic_store_explicit(&board->lanes_used, opts->workers, memory_order_relaxed);
    board->routes_max = routes_max;
    board->started_unix_ms = clock_unix_ms();
    board->fd = fd;
    board->lane_bytes = lane_bytes;
    board->lanes_offset = lanes_offset;
    board->peers_offset = peers_offset;
    peers_init(board_peers(board), peers_max, opts->workers);
    settings_init(&board->settings);
    own_init(&board->own);
    if (getrandom(&board->hash_seed, sizeof board->hash_seed, 0) < 0)
        board->hash_seed = clock_unix_ms();
    for (uint32_t i = 0; i < BOARD_PROCESSES; i++)
        atomic_store_explicit(&board->processes[i].role,
                              i == 0   ? ROLE_SUPERVISOR
                              : i == 1 ? ROLE_CONTROL
                                       : ROLE_WORKER,
                              memory_order_relaxed);
    register_fixed(board);
    return board;
}

uint64_t board_layout(void)
{
    const uint64_t parts[] = {
        BOARD_MAGIC, sizeof(struct board), sizeof(struct lane), sizeof(struct route_lane), sizeof(struct board_route),
        SKETCH_BUCKETS, SKETCH_SCALE, SKETCH_COARSE_BUCKETS, PHASE_COUNT, COUNTER_COUNT, SETTING_COUNT, LANE_ROUTES_MAX,
        offsetof(struct board, settings), offsetof(struct board, routes), offsetof(struct board, route_count),
        offsetof(struct board, lanes_offset), offsetof(struct lane, counters), offsetof(struct lane, slow), offsetof(struct lane, routes),
        offsetof(struct route_lane, latency), offsetof(struct route_lane, phases), offsetof(struct route_lane, compression),
    };
    return XXH3_64bits(parts, sizeof parts);
}

uint64_t board_hash(const struct board *board, struct str key, uint64_t scope)
{
    return XXH3_64bits_withSeed(key.p, key.len, board->hash_seed ^ scope);
}

void board_free(struct board *board)
{
    if (!board)
        return;
    int fd = board->fd;
    munmap(board, board->size_bytes);
    if (fd >= 0)
        close(fd);
}

/* What fits into a field, cut at the start of a UTF-8 sequence. */
static struct str fit(struct str s, size_t size)
{
    if (s.len < size)
        return s;
    s.len = size - 1;
    while (s.len && ((unsigned char)s.p[s.len] & 0xc0) == 0x80)
        s.len--;
    return s;
}

static void set_text(char *to, struct str s)
{
    memcpy(to, s.p, s.len);
    to[s.len] = 0;
}

/* Waits until a slot is written, and returns its state. A writer that died
 * leaves the slot free again; one that is merely stuck leaves it as it is. */
static uint32_t await_slot(struct board_route *slot)
{
    uint32_t state = 0;
    for (int i = 0; i < SPINS + NAPS; i++) {
        state = atomic_load_explicit(&slot->state, memory_order_acquire);
        if ((state & SLOT_BITS) != SLOT_WRITING)
            break;
        if (i < SPINS) {
            sched_yield();
            continue;
        }
        if (kill((pid_t)(state >> 2), 0) != 0 && errno == ESRCH)
            atomic_compare_exchange_strong(&slot->state, &state, SLOT_FREE);
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return state;
}

/* Whoever knows that a slot is ready says so; the writer may have died. */
static uint32_t publish(struct board *board, uint32_t index)
{
    uint32_t count = atomic_load_explicit(&board->route_count, memory_order_relaxed);
    while (count <= index && !atomic_compare_exchange_weak(&board->route_count, &count, index + 1))
        ;
    return index;
}

uint32_t board_route(struct board *board, struct str method, struct str name)
{
    method = fit(method, sizeof board->routes[0].method);
    name = fit(name, sizeof board->routes[0].name);
    for (uint32_t i = 0; i < board->routes_max;) {
        struct board_route *slot = &board->routes[i];
        uint32_t state = await_slot(slot);
        if ((state & SLOT_BITS) == SLOT_WRITING)
            return ROUTE_OTHER;
        if (state == SLOT_READY) {
            if (str_equal(str_from(slot->name), name) && str_equal(str_from(slot->method), method))
                return publish(board, i);
            i++;
            continue;
        }
        uint32_t writing = (uint32_t)getpid() << 2 | SLOT_WRITING;
        if (!atomic_compare_exchange_strong(&slot->state, &state, writing))
            continue; /* somebody was faster: look at it again */
        set_text(slot->method, method);
        set_text(slot->name, name);
        atomic_store_explicit(&slot->state, SLOT_READY, memory_order_release);
        return publish(board, i);
    }
    return ROUTE_OTHER;
}
