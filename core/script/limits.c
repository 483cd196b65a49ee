// SPDX-License-Identifier: MIT
#include "script/limits.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = LIMITS_TICK_MS, STACK_BYTES = 64 << 20 };

/* ThreadSanitizer keeps every signal that cannot be a fault until the next call that it
 * knows of, and an endless loop of a script makes none. */
#ifdef __SANITIZE_THREAD__
#define TICK_SIGNAL SIGSYS
#else
#define TICK_SIGNAL (SIGRTMIN + 3)
#endif

/* File-scope, because a signal handler has no other way to its state. In the
 * executable itself, so a handler's access allocates nothing. */
static _Thread_local struct {
    timer_t timer;
    bool started;
    struct heap *volatile heap; /* of the state that runs; NULL: none */
    volatile sig_atomic_t run;  /* number of the run */
    volatile sig_atomic_t seen; /* run that the last tick saw */
    volatile sig_atomic_t ticks;
    volatile sig_atomic_t budget_ticks;
    volatile sig_atomic_t expired;
    volatile sig_atomic_t memory;
    volatile sig_atomic_t armed;
    volatile sig_atomic_t spared; /* the next full collection does not count */
    unsigned budget_ms;
    const char *setting; /* that the budget comes from; NULL: none */
    const _Atomic bool *volatile stop; /* set: the run is not wanted any more; NULL: it is */
    volatile sig_atomic_t stopped;
} limits;

static const char *const cpu_setting = "script.cpu_ms (script.load_ms while loading)";

static void timed_gc(struct heap *heap, lua_State *L, int what)
{
    uint64_t began = clock_now_ns();
    lua_gc(L, what, 0);
    uint64_t took = clock_now_ns() - began;
    if (took > heap->gc_pause_ns)
        heap->gc_pause_ns = took;
}

static void disarm(lua_State *L)
{
    lua_sethook(L, NULL, 0, 0);
    limits.armed = limits.memory = limits.expired = limits.stopped = 0;
}

/* Raises an error that begins with the line the script is at. */
static void interrupt(lua_State *L, lua_Debug *ar, const char *format, int number, const char *word)
{
    lua_getinfo(L, "Sl", ar);
    lua_pushfstring(L, "%s:%d: ", ar->short_src, ar->currentline);
    lua_pushfstring(L, format, number, word);
    lua_concat(L, 2);
    lua_error(L);
}

static void on_hook(lua_State *L, lua_Debug *ar)
{
    struct heap *heap = limits.heap;
    if (!heap) {
        disarm(L);
        return;
    }
    if (limits.stopped)
        interrupt(L, ar, "the script was interrupted: nobody waits for it any more", 0, NULL);
    if (limits.memory && !limits.expired) {
        sig_atomic_t ticks = limits.ticks;
        timed_gc(heap, L, LUA_GCCOLLECT);
        if (limits.spared) { /* the garbage is that of all parts */
            limits.ticks = ticks;
            limits.spared = limits.expired = 0;
        }
        if (heap->used_bytes < heap->soft_bytes) {
            disarm(L);
            return;
        }
        interrupt(L, ar,
                  "the script was interrupted: the Lua heap is above script.memory_bytes (%d MiB); "
                  "keep less in memory or raise the setting",
                  (int)(heap->soft_bytes >> 20), NULL);
    }
    if (!limits.setting)
        interrupt(L, ar,
                  "the script was interrupted: it used more than the %d ms of CPU time that it "
                  "had; do less",
                  (int)limits.budget_ms, NULL);
    interrupt(
        L, ar,
        "the script was interrupted: it used more than %d ms of CPU time without yielding; do "
        "less, or raise %s",
        (int)limits.budget_ms, limits.setting);
}

/* Setting a hook is what LuaJIT allows a signal handler to do. */
static void arm(struct heap *heap)
{
    limits.armed = 1;
    lua_sethook(heap->L, on_hook, LUA_MASKCOUNT, 1);
}

static void on_tick(int sig)
{
    struct heap *heap = limits.heap;
    (void)sig;
    if (!heap)
        return;
    if (limits.seen != limits.run) {
        limits.seen = limits.run;
        limits.ticks = 0;
    }
    const _Atomic bool *stop = limits.stop;
    if (stop && !limits.stopped && atomic_load_explicit(stop, memory_order_relaxed)) {
        limits.stopped = 1;
        arm(heap);
    }
    if (++limits.ticks > limits.budget_ticks && !limits.expired) {
        limits.expired = 1;
        arm(heap);
    }
}

static void *count_alloc(void *user, void *p, size_t old_size, size_t new_size)
{
    struct heap *heap = user;
    size_t used = heap->used_bytes - (p ? old_size : 0) + new_size;
    bool grows = new_size > (p ? old_size : 0);
    if (grows && used > heap->hard_bytes)
        return NULL;
    void *out = heap->alloc(heap->alloc_user, p, old_size, new_size);
    if (out || !new_size)
        heap->used_bytes = used;
    if (grows && used > heap->soft_bytes && limits.heap == heap && !limits.armed) {
        limits.memory = 1;
        arm(heap);
    }
    return out;
}

/* ---- collections ---- */

struct gc_mark {
    struct heap *heap;
};

static int mark_gc(lua_State *L);

/* A thing that nobody refers to is found once a collection, and lays down the next. */
static int lay_mark(lua_State *L)
{
    struct heap *heap = lua_touserdata(L, 1);
    struct gc_mark *mark = lua_newuserdata(L, sizeof *mark);
    mark->heap = heap;
    if (luaL_newmetatable(L, "perilune.gc_mark")) {
        lua_pushcfunction(L, mark_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return 0;
}

static int mark_gc(lua_State *L)
{
    struct heap *heap = ((struct gc_mark *)lua_touserdata(L, 1))->heap;
    heap->gc_cycles++;
    if (!heap->closing && lua_cpcall(L, lay_mark, heap) != 0)
        lua_pop(L, 1); /* out of memory: no more counting */
    return 0;
}

static int one_step(lua_State *L)
{
    timed_gc(lua_touserdata(L, 1), L, LUA_GCSTEP);
    return 0;
}

uint64_t heap_gc_pause(struct heap *heap)
{
    if (lua_cpcall(heap->L, one_step, heap) != 0)
        lua_pop(heap->L, 1);
    uint64_t longest = heap->gc_pause_ns;
    heap->gc_pause_ns = 0;
    return longest;
}

void heap_open(struct heap *heap, lua_State *L, size_t soft_bytes, size_t hard_bytes)
{
    memset(heap, 0, sizeof *heap);
    heap->L = L;
    heap->soft_bytes = soft_bytes;
    heap->hard_bytes = hard_bytes;
    heap->used_bytes = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024;
    heap->alloc = lua_getallocf(L, &heap->alloc_user);
    lua_setallocf(L, count_alloc, heap);
    if (lua_cpcall(L, lay_mark, heap) != 0)
        lua_pop(L, 1);
}

void heap_close(struct heap *heap)
{
    heap->closing = true;
    /* LuaJIT frees its arenas only when it finds its own allocator in place. */
    if (heap->alloc)
        lua_setallocf(heap->L, heap->alloc, heap->alloc_user);
    heap->alloc = NULL;
}

/* LuaJIT bounds the depth of calls by the 65,500 slots of its own stack only. A
 * recursion through string.format and __tostring is 16,000 levels deep by then and
 * needs about 8 MB of the C stack: with the usual limit that is a crash, not an
 * error. The main thread's stack grows up to the limit of the moment; those of
 * others were made large enough. */
static void raise_stack(void)
{
    struct rlimit limit;
    if (syscall(SYS_gettid) != getpid() || getrlimit(RLIMIT_STACK, &limit) < 0 ||
        limit.rlim_cur >= STACK_BYTES)
        return;
    limit.rlim_cur = limit.rlim_max < STACK_BYTES ? limit.rlim_max : STACK_BYTES;
    setrlimit(RLIMIT_STACK, &limit);
}

int limits_start(void)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL};
    struct itimerspec every = {.it_interval = {0, TICK_MS * 1000000L},
                               .it_value = {0, TICK_MS * 1000000L}};
    sigset_t ours;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    memset(&limits, 0, sizeof limits);
    raise_stack();
    sigemptyset(&ours);
    sigaddset(&ours, TICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
    if (sigaction(TICK_SIGNAL, &action, NULL) < 0 ||
        timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &limits.timer) < 0)
        return ERR_IO;
    limits.started = true;
    return timer_settime(limits.timer, 0, &every, NULL) < 0 ? ERR_IO : 0;
}

void limits_stop(void)
{
    if (limits.started)
        timer_delete(limits.timer);
    limits.started = false;
}

void limits_enter(struct heap *heap, unsigned budget_ms)
{
    limits_enter_task(heap, budget_ms, cpu_setting, NULL);
}

static void give(unsigned budget_ms, const char *setting)
{
    limits.setting = setting;
    limits.budget_ms = budget_ms;
    limits.budget_ticks = (sig_atomic_t)((budget_ms + TICK_MS - 1) / TICK_MS);
}

void limits_enter_task(struct heap *heap, unsigned budget_ms, const char *setting,
                       const _Atomic bool *stop)
{
    give(budget_ms, setting);
    limits.stop = stop;
    limits.run = limits.run + 1;
    limits.heap = heap;
}

bool limits_leave(void)
{
    struct heap *heap = limits.heap;
    limits.heap = NULL;
    limits.stop = NULL;
    if (!limits.armed)
        return false;
    disarm(heap->L);
    return true;
}

/* The ticks of the run so far; from here on they are counted as `ticks`. */
static int count_from(int ticks)
{
    int before = limits.seen == limits.run ? limits.ticks : 0;
    limits.ticks = ticks;
    limits.seen = limits.run;
    return before;
}

void limits_begin_part(struct limits_part *part, unsigned budget_ms)
{
    part->over = limits.expired || limits.stopped; /* armed for memory, it is the part that collects */
    part->budget_ticks = limits.budget_ticks;
    part->budget_ms = limits.budget_ms;
    part->setting = limits.setting;
    part->ticks = count_from(0);
    give(budget_ms, NULL);
    limits.spared = 1;
}

bool limits_end_part(const struct limits_part *part, unsigned *used_ms)
{
    struct heap *heap = limits.heap;
    bool interrupted = limits.armed && !part->over;
    *used_ms = (unsigned)count_from(part->ticks) * TICK_MS;
    give(part->budget_ms, part->setting);
    limits.spared = 0;
    if (interrupted && heap)
        disarm(heap->L); /* a stop that is still wanted is seen again by the next tick */
    return interrupted;
}
