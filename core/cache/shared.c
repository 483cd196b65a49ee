// SPDX-License-Identifier: MIT
#include "cache/shared.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USES_LEAST = 65536, USES_MOST = 16777216, BYTES_PER_USE = 1024, BOOT_ID = 37 };

const char *const cache_count_names[CACHE_COUNTS] = {
#define X(id, name) [CACHE_##id] = name,
    CACHE_COUNT_LIST(X)
#undef X
};

static bool read_small(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

static void write_small(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        log_line(LOG_WARN, "cannot write %s: %s", path, strerror(errno));
    close(fd);
}

static void wipe(const char *folder)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char path[SHARED_FOLDER + 16];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
}

static void marker_path(const char *folder, char *out, size_t size)
{
    snprintf(out, size, "%s/boot", folder);
}

static void boot_id(char out[BOOT_ID])
{
    if (!read_small("/proc/sys/kernel/random/boot_id", out, BOOT_ID))
        strcpy(out, "unknown");
}

/* Throws away what nobody can vouch for, and says that the store is in use. */
static void begin(const char *folder)
{
    char path[SHARED_FOLDER + 16], before[BOOT_ID + 8], now[BOOT_ID];
    marker_path(folder, path, sizeof path);
    boot_id(now);
    if (!read_small(path, before, sizeof before) ||
        (strcmp(before, "synced") != 0 && strcmp(before, now) != 0))
        wipe(folder);
    write_small(path, now);
}

/* Whether the store opens; if not, a fresh one takes its place. */
static bool probe(struct cache_shared *s)
{
    char why[160];
    struct store *store;
    struct store_opts opts = cache_shared_store(s);
    for (int i = 0; i < 2; i++) {
        if (store_open(&store, &opts, why, sizeof why) == 0) {
            store_close(store);
            return true;
        }
        log_line(LOG_WARN, "the cache in %s cannot be opened (%s)%s", s->folder, why,
                 i ? "; serving without a cache" : "; starting an empty one");
        wipe(s->folder);
    }
    return false;
}

static struct cache_shared *map(uint64_t bytes, uint32_t workers, uint32_t routes_max)
{
    uint64_t uses = USES_LEAST;
    while (uses < bytes / BYTES_PER_USE && uses < USES_MOST)
        uses *= 2;
    uint64_t uses_offset = (sizeof(struct cache_shared) + 63) / 64 * 64;
    uint64_t counts_offset = uses_offset + uses;
    uint64_t curves_offset = counts_offset + (uint64_t)workers * routes_max * CACHE_COUNTS * sizeof(uint64_t);
    uint64_t size = curves_offset + routes_max * sizeof(struct curve);
    struct cache_shared *s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return NULL;
    s->size_bytes = size;
    s->bytes = bytes;
    s->workers = workers;
    s->routes_max = routes_max;
    s->uses_mask = uses - 1;
    s->uses_offset = uses_offset;
    s->counts_offset = counts_offset;
    s->curves_offset = curves_offset;
    return s;
}

struct cache_shared *cache_shared_new(const char *folder, uint64_t bytes, uint32_t workers,
                                      uint32_t routes_max)
{
    struct cache_shared *s = bytes && strlen(folder) < SHARED_FOLDER ? map(bytes, workers, routes_max) : NULL;
    if (!s)
        return NULL;
    strcpy(s->folder, folder);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        log_line(LOG_WARN, "cannot make the cache folder %s: %s", folder, strerror(errno));
    begin(folder);
    if (probe(s))
        return s;
    munmap(s, s->size_bytes);
    return NULL;
}

void cache_shared_free(struct cache_shared *s)
{
    char path[SHARED_FOLDER + 16], why[160];
    struct store *store;
    struct store_opts opts = cache_shared_store(s);
    if (atomic_load(&s->broken)) {
        wipe(s->folder);
    } else if (store_open(&store, &opts, why, sizeof why) == 0) {
        store_sync(store);
        store_close(store);
        marker_path(s->folder, path, sizeof path);
        write_small(path, "synced");
    }
    munmap(s, s->size_bytes);
}

void cache_shared_died(struct cache_shared *s, unsigned process, int signal)
{
    bool inside = process < 80 && atomic_exchange(&s->inside[process], 0);
    if (!inside || (signal != SIGSEGV && signal != SIGBUS && signal != SIGABRT))
        return;
    if (!atomic_exchange(&s->broken, 1))
        log_line(LOG_ERROR, "a process died inside the cache's store; serving without a cache until "
                            "the next start, which begins with an empty one");
}

uint64_t cache_shared_count(struct cache_shared *s, uint32_t route, enum cache_count what)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < s->workers; w++)
        sum += atomic_load_explicit(&cache_shared_counts(s, w)[route * CACHE_COUNTS + what],
                                    memory_order_relaxed);
    return sum;
}
