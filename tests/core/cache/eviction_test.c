/* The store's eviction (S3-FIFO) beside LRU: one Zipf trace with scans in it,
 * the same room for both. Prints both hit ratios. */
// SPDX-License-Identifier: MIT
#include "cache/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    KEYS = 20000,
    REQUESTS = 120000,
    SCAN_EVERY = 20000, /* requests between the begins of two scans */
    SCAN_LENGTH = 4000, /* keys that are asked for once and never again */
    ROOM = 2000,        /* entries */
    BODY = 100,
    BATCH = 64,
    USES = 65536,
};

static char folder[] = "/tmp/perilune-eviction-XXXXXX";
static _Atomic uint8_t uses[USES];
static uint32_t trace[REQUESTS * 2];
static size_t trace_length;

/* xorshift64*: the same trace on every machine. */
static double uniform(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0;
}

static void make_trace(double skew, bool scans)
{
    static double sums[KEYS];
    uint64_t state = 88172645463325252ULL;
    uint32_t next = KEYS;
    double sum = 0;
    for (int i = 0; i < KEYS; i++)
        sums[i] = sum += 1 / pow(i + 1, skew);
    trace_length = 0;
    for (int n = 0; n < REQUESTS; n++) {
        double u = uniform(&state) * sum;
        int low = 0, high = KEYS - 1;
        while (low < high) {
            int middle = (low + high) / 2;
            if (sums[middle] < u)
                low = middle + 1;
            else
                high = middle;
        }
        trace[trace_length++] = (uint32_t)low;
        if (scans && n % SCAN_EVERY > SCAN_EVERY - SCAN_LENGTH)
            trace[trace_length++] = next++;
    }
}

/* ---- LRU, exact: a list through an array ---- */

static double lru(size_t room)
{
    enum { ALL = KEYS + REQUESTS + 1, END = ALL - 1 };
    uint32_t *newer = calloc(ALL, sizeof *newer), *older = calloc(ALL, sizeof *older);
    bool *in = calloc(ALL, sizeof *in);
    size_t count = 0, hits = 0;
    newer[END] = older[END] = END;
    for (size_t i = 0; i < trace_length; i++) {
        uint32_t k = trace[i];
        if (in[k]) {
            hits++;
        } else if (count == room) {
            uint32_t last = newer[END]; /* the oldest */
            newer[END] = newer[last];
            older[newer[last]] = END;
            in[last] = false;
        } else {
            count++;
        }
        if (in[k]) {
            newer[older[k]] = newer[k];
            older[newer[k]] = older[k];
        }
        in[k] = true;
        older[k] = older[END];
        newer[k] = END;
        newer[older[END]] = k;
        older[END] = k;
    }
    free(newer);
    free(older);
    free(in);
    return (double)hits / (double)trace_length;
}

/* ---- ours ---- */

static void write_record(uint32_t key, struct buf *out)
{
    static const char body[BODY];
    char text[32];
    struct record_view v = {.body = {body, BODY}};
    v.key = (struct str){text, (size_t)snprintf(text, sizeof text, "http://h/%u", key)};
    assert_true(record_write(&v, out));
}

static struct cache_key key_of(uint32_t key)
{
    char text[32];
    return record_key((struct str){text, (size_t)snprintf(text, sizeof text, "http://h/%u", key)});
}

static void remove_files(void)
{
    char path[64];
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
}

static struct store *open_store(uint64_t bytes)
{
    char why[160];
    struct store *s;
    struct store_opts opts = {folder, bytes, uses, USES - 1};
    remove_files();
    for (size_t i = 0; i < USES; i++)
        atomic_store(&uses[i], 0);
    assert_int_equal(store_open(&s, &opts, why, sizeof why), 0);
    return s;
}

/* What one entry counts against the room. */
static uint64_t bytes_of_one(void)
{
    struct store *s = open_store(16 << 20);
    struct store_usage usage;
    struct buf record = {0};
    write_record(1, &record);
    assert_true(store_write_begin(s) && store_put(s, buf_str(&record)) && store_write_commit(s));
    assert_true(store_usage(s, &usage));
    assert_int_equal(usage.entries, 1);
    buf_done(&record);
    store_close(s);
    return usage.bytes;
}

static void flush(struct store *s, struct buf *batch, size_t count)
{
    assert_true(store_write_begin(s));
    for (size_t i = 0; i < count; i++) {
        assert_true(store_put(s, buf_str(&batch[i])));
        buf_clear(&batch[i]);
    }
    assert_true(store_write_commit(s));
}

/* Misses are written in batches, as the writer does. */
static double ours(size_t room, uint64_t most)
{
    struct store *s = open_store(most);
    static struct buf batch[BATCH];
    struct store_usage usage;
    size_t waiting = 0, hits = 0;
    for (size_t i = 0; i < trace_length; i++) {
        struct cache_key key = key_of(trace[i]);
        struct str bytes;
        assert_true(store_begin(s));
        bool hit = store_get(s, key, &bytes);
        store_end(s);
        if (hit) {
            hits++;
            store_used(s, key);
            continue;
        }
        write_record(trace[i], &batch[waiting++]);
        if (waiting == BATCH) {
            flush(s, batch, waiting);
            waiting = 0;
        }
    }
    flush(s, batch, waiting);
    assert_true(store_usage(s, &usage));
    assert_true(usage.bytes <= most && usage.entries <= room);
    store_close(s);
    for (size_t i = 0; i < BATCH; i++)
        buf_done(&batch[i]);
    return (double)hits / (double)trace_length;
}

static void compare(double skew, bool scans, double least_gain)
{
    make_trace(skew, scans);
    uint64_t one = bytes_of_one();
    double theirs = lru(ROOM), own = ours(ROOM, one * ROOM + one / 2);
    printf("Zipf %.1f%s, %d of %d keys fit: S3-FIFO hits %.1f %%, LRU %.1f %%\n", skew, scans ? " with scans" : "", ROOM,
           KEYS, own * 100, theirs * 100);
    assert_true(own >= theirs + least_gain);
}

static void a_scan_takes_less_from_s3_fifo_than_from_lru(void **state)
{
    (void)state;
    compare(0.8, true, 0.03);
    compare(1.0, true, 0.02);
}

static void without_scans_it_is_no_worse(void **state)
{
    (void)state;
    compare(0.8, false, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_takes_less_from_s3_fifo_than_from_lru),
        cmocka_unit_test(without_scans_it_is_no_worse),
    };
    if (!mkdtemp(folder))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_files();
    rmdir(folder);
    return failed;
}
