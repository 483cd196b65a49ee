// SPDX-License-Identifier: MIT
#include "store/archive.h"

#include "base/err.h"
#include "base/log.h"
#include "store/chunk.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x4c756e61, /* "Luna": this file is ours */
    SCHEMA = 1,
    ROW_BYTES = 64,       /* what a row takes besides its frames, about */
    EVICTED_AT_ONCE = 64, /* chunk starts in one transaction */
    BUSY_MS = 2000,
};

static const char schema[] =
    "CREATE TABLE thing (id INTEGER PRIMARY KEY, method TEXT NOT NULL, name TEXT NOT NULL,"
    "  UNIQUE (method, name));"
    "CREATE TABLE chunk (tier INTEGER NOT NULL, start_s INTEGER NOT NULL, thing INTEGER NOT NULL,"
    "  frames BLOB NOT NULL, PRIMARY KEY (tier, start_s, thing));"
    "CREATE TABLE state (newest_ms INTEGER NOT NULL);"
    "INSERT INTO thing VALUES (0, '', '');"
    "INSERT INTO state VALUES (0);";

enum statement { FIND_THING, ADD_THING, FIND_CHUNK, PUT_CHUNK, OLDEST, WEIGH, DROP, NEWEST, STATEMENTS };

static const char *const texts[STATEMENTS] = {
    [FIND_THING] = "SELECT id FROM thing WHERE method = ?1 AND name = ?2",
    [ADD_THING] = "INSERT INTO thing (method, name) VALUES (?1, ?2)",
    [FIND_CHUNK] = "SELECT frames FROM chunk WHERE tier = ?1 AND start_s = ?2 AND thing = ?3",
    [PUT_CHUNK] = "INSERT INTO chunk VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET frames = excluded.frames",
    [OLDEST] = "SELECT min(start_s) FROM chunk WHERE tier = ?1",
    [WEIGH] = "SELECT total(length(frames)), count(*) FROM chunk WHERE tier = ?1 AND start_s = ?2",
    [DROP] = "DELETE FROM chunk WHERE tier = ?1 AND start_s = ?2",
    [NEWEST] = "UPDATE state SET newest_ms = ?1",
};

/* A window of the thing that is being written. */
struct item {
    const struct batch_window *window;
    const unsigned char *bytes; /* its frame */
    size_t size;
};

struct archive {
    char *path;
    const struct board *board;
    sqlite3 *db; /* NULL: not open */
    sqlite3_stmt *statement[STATEMENTS];
    sqlite3_int64 route[LANE_ROUTES_MAX]; /* ids by index on the board; 0: not known yet */
    struct archive_usage usage;
    struct buf row, slots, totals; /* scratch */
    struct item *items;            /* scratch, of items_size */
    size_t items_size;
    struct chunk_sum sum; /* scratch */
    bool damaged;
    char why[256];
};

struct archive *archive_new(const char *path, const struct board *board)
{
    struct archive *a = calloc(1, sizeof *a);
    if (a && !(a->path = strdup(path))) {
        free(a);
        return NULL;
    }
    if (a)
        a->board = board;
    return a;
}

static void shut(struct archive *a)
{
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(a->statement[i]);
        a->statement[i] = NULL;
    }
    sqlite3_close(a->db);
    a->db = NULL;
    memset(a->route, 0, sizeof a->route);
}

void archive_free(struct archive *a)
{
    if (!a)
        return;
    shut(a);
    buf_done(&a->row);
    buf_done(&a->slots);
    buf_done(&a->totals);
    free(a->items);
    free(a->path);
    free(a);
}

const char *archive_why(const struct archive *a)
{
    return a->why;
}

void archive_usage(const struct archive *a, struct archive_usage *out)
{
    *out = a->usage;
}

/* Notes what SQLite says. Returns our code. */
static int failed(struct archive *a, int rc)
{
    int os = a->db ? sqlite3_system_errno(a->db) : 0;
    snprintf(a->why, sizeof a->why, "%s: %s%s%s%s", a->path, a->db ? sqlite3_errmsg(a->db) : sqlite3_errstr(rc), os ? " (" : "",
             os ? strerror(os) : "", os ? ")" : "");
    a->damaged = (rc & 255) == SQLITE_CORRUPT || (rc & 255) == SQLITE_NOTADB;
    return (rc & 255) == SQLITE_NOMEM ? ERR_NOMEM : ERR_IO;
}

static int run(struct archive *a, const char *sql)
{
    int rc = sqlite3_exec(a->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : failed(a, rc);
}

/* The number that a statement answers with; 0 where it has none. */
static int number(struct archive *a, const char *sql, sqlite3_int64 *out)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(a->db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : failed(a, rc);
}

/* ---- opening -------------------------------------------------------------- */

static int set_aside(struct archive *a, const char *what)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    char from[4200], to[4200];
    shut(a);
    for (int i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%s%s", a->path, parts[i]);
        snprintf(to, sizeof to, "%s.%s%s", a->path, what, parts[i]);
        unlink(to);
        if (rename(from, to) < 0 && i == 0) {
            snprintf(a->why, sizeof a->why, "%s is %s and cannot be set aside: %s", a->path, what, strerror(errno));
            return ERR_IO;
        }
    }
    log_line(LOG_WARN, "%s is %s: set aside as %s.%s; the history on disk begins anew", a->path, what, a->path, what);
    return 0;
}

/* Whose file is it? NULL: ours, or empty; else what it is. */
static int inspect(struct archive *a, const char **what, bool *empty)
{
    sqlite3_int64 application, version, tables;
    *what = NULL;
    int err = number(a, "PRAGMA application_id", &application);
    if (!err)
        err = number(a, "PRAGMA user_version", &version);
    if (!err)
        err = number(a, "SELECT count(*) FROM sqlite_master", &tables);
    if (err)
        return err;
    *empty = tables == 0;
    if (*empty)
        return 0;
    if (application != APPLICATION_ID)
        *what = "foreign";
    else if (version > SCHEMA)
        *what = "newer";
    return 0;
}

static int create(struct archive *a)
{
    char sql[1024];
    snprintf(sql, sizeof sql, "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", schema,
             APPLICATION_ID, SCHEMA);
    return run(a, sql);
}

static int prepare(struct archive *a)
{
    for (int i = 0; i < STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(a->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &a->statement[i], NULL);
        if (rc != SQLITE_OK)
            return failed(a, rc);
    }
    return 0;
}

static int weigh_tiers(struct archive *a)
{
    sqlite3_int64 n;
    for (int i = 0; i < ARCHIVE_TIERS; i++) {
        char sql[160];
        snprintf(sql, sizeof sql, "SELECT ifnull(sum(length(frames) + %d), 0) FROM chunk WHERE tier = %d", ROW_BYTES, i);
        int err = number(a, sql, &n);
        if (err)
            return err;
        a->usage.tier_bytes[i] = (uint64_t)n;
    }
    int err = number(a, "SELECT newest_ms FROM state", &n);
    a->usage.newest_ms = (uint64_t)n;
    return err;
}

static void weigh_file(struct archive *a)
{
    struct stat st;
    a->usage.file_bytes = stat(a->path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* *what is set where the file is to be set aside. */
static int try_open(struct archive *a, const char **what)
{
    bool empty;
    a->damaged = false;
    int rc = sqlite3_open_v2(a->path, &a->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return failed(a, rc);
    sqlite3_busy_timeout(a->db, BUSY_MS);
    int err = inspect(a, what, &empty);
    if (!err && *what)
        return 0;
    if (!err)
        err = run(a, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                     "PRAGMA cache_size = -4096");
    if (!err && empty)
        err = create(a);
    if (!err)
        err = prepare(a);
    return err ? err : weigh_tiers(a);
}

int archive_open(struct archive *a)
{
    for (int attempt = 0; !a->db; attempt++) {
        const char *what = NULL;
        int err = try_open(a, &what);
        if (err && a->damaged)
            what = "damaged";
        if (what && attempt == 0) {
            if (set_aside(a, what) < 0)
                return ERR_IO;
        } else if (err || what) {
            shut(a);
            return err ? err : ERR_IO;
        }
    }
    weigh_file(a);
    return 0;
}

/* ---- writing -------------------------------------------------------------- */

/* Steps a statement that answers with at most one row, which can be read until the next use. */
static int step(struct archive *a, enum statement which, bool *row)
{
    int rc = sqlite3_step(a->statement[which]);
    *row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : failed(a, rc);
}

static sqlite3_stmt *fresh(struct archive *a, enum statement which)
{
    sqlite3_reset(a->statement[which]);
    return a->statement[which];
}

static sqlite3_stmt *with_chunk(struct archive *a, enum statement which, int tier, uint64_t start_ms, sqlite3_int64 thing)
{
    sqlite3_stmt *s = fresh(a, which);
    sqlite3_bind_int(s, 1, tier);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)(start_ms / 1000));
    if (thing >= 0)
        sqlite3_bind_int64(s, 3, thing);
    return s;
}

static int named(struct archive *a, const char *method, const char *name, sqlite3_int64 *id)
{
    bool row = false;
    *id = 0;
    for (enum statement which = FIND_THING; !*id; which = ADD_THING) {
        sqlite3_stmt *s = fresh(a, which);
        sqlite3_bind_text(s, 1, method, -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
        int err = step(a, which, &row);
        *id = row ? sqlite3_column_int64(s, 0) : which == ADD_THING ? sqlite3_last_insert_rowid(a->db) : 0;
        sqlite3_reset(s);
        if (err)
            return err;
    }
    return 0;
}

static int thing_of(struct archive *a, const struct batch *batch, uint32_t thing, sqlite3_int64 *id)
{
    if (thing >= HISTORY_POOL)
        return named(a, ARCHIVE_POOL, batch_pool(batch, thing), id);
    const struct board_route *r = &a->board->routes[thing < a->board->routes_max ? thing : ROUTE_OTHER];
    int err = 0;
    *id = a->route[thing];
    if (!*id)
        err = named(a, r->method, r->name, id);
    if (!err)
        a->route[thing] = *id;
    return err;
}

/* The row as it is, in a->row. */
static int load(struct archive *a, int tier, uint64_t start_ms, sqlite3_int64 thing)
{
    bool row;
    sqlite3_stmt *s = with_chunk(a, FIND_CHUNK, tier, start_ms, thing);
    int err = step(a, FIND_CHUNK, &row);
    buf_clear(&a->row);
    if (row)
        buf_add(&a->row, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
    sqlite3_reset(s);
    return err ? err : buf_ok(&a->row) ? 0 : ERR_NOMEM;
}

static int save(struct archive *a, int tier, uint64_t start_ms, sqlite3_int64 thing, const struct chunk *chunk)
{
    bool row;
    size_t before = buf_len(&a->row);
    struct buf text = {0};
    chunk_write(chunk, &text);
    if (!buf_ok(&text)) {
        buf_done(&text);
        return ERR_NOMEM;
    }
    sqlite3_stmt *s = with_chunk(a, PUT_CHUNK, tier, start_ms, thing);
    sqlite3_bind_blob64(s, 4, text.data, buf_len(&text), SQLITE_STATIC);
    int err = step(a, PUT_CHUNK, &row);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    if (!err)
        a->usage.tier_bytes[tier] += buf_len(&text) - before + (before ? 0 : ROW_BYTES);
    buf_done(&text);
    return err;
}

/* Adds windows of one slot to what is there of it, and writes the sum behind a->slots. */
static void fill_slot(struct archive *a, const struct chunk_view *old, bool whole, const struct item *items, size_t n)
{
    struct chunk_sum *sum = &a->sum;
    if (n == 1 && !old->bytes && !whole) { /* as it came */
        buf_add(&a->slots, items->bytes, items->size);
        return;
    }
    memset(sum, 0, sizeof *sum);
    if (old->bytes && !chunk_sum_slot(sum, old, whole))
        memset(sum, 0, sizeof *sum);
    for (size_t i = 0; i < n; i++) {
        const struct batch_window *w = items[i].window;
        if (whole)
            chunk_sum_window(sum, w->from_ms, w->to_ms, w->to_ms - w->from_ms, &w->host);
        frame_add(items[i].bytes, items[i].bytes + items[i].size, &sum->counts);
    }
    chunk_sum_write(sum, whole, &a->slots);
}

static int write_chunk(struct archive *a, int tier, uint64_t start_ms, sqlite3_int64 thing, const struct item *items, size_t n)
{
    struct chunk chunk;
    size_t at[CHUNK_SLOTS], size[CHUNK_SLOTS] = {0};
    int err = load(a, tier, start_ms, thing);
    if (err)
        return err;
    chunk_read(&chunk, (unsigned char *)a->row.data, buf_len(&a->row));
    buf_clear(&a->slots);
    for (size_t i = 0, end; i < n; i = end) {
        uint64_t slot_ms = chunk_slot_ms(tier, items[i].window->to_ms);
        unsigned slot = chunk_slot(tier, slot_ms);
        for (end = i + 1; end < n && chunk_slot_ms(tier, items[end].window->to_ms) == slot_ms;)
            end++;
        at[slot] = buf_len(&a->slots);
        fill_slot(a, &chunk.slot[slot], thing == 0, &items[i], end - i);
        size[slot] = buf_len(&a->slots) - at[slot];
    }
    if (!buf_ok(&a->slots)) {
        buf_done(&a->slots);
        return ERR_NOMEM;
    }
    for (unsigned i = 0; i < CHUNK_SLOTS; i++)
        if (size[i])
            chunk.slot[i] = (struct chunk_view){(unsigned char *)a->slots.data + at[i], size[i]};
    return save(a, tier, start_ms, thing, &chunk);
}

static uint64_t chunk_of(int tier, const struct item *item)
{
    return chunk_start_ms(tier, chunk_slot_ms(tier, item->window->to_ms));
}

/* Items are in order; where a clock was set back, a chunk is written twice. */
static int write_thing(struct archive *a, sqlite3_int64 thing, size_t n)
{
    int err = 0;
    for (int tier = 0; tier < ARCHIVE_TIERS; tier++)
        for (size_t i = 0, end; i < n && !err; i = end) {
            uint64_t start_ms = chunk_of(tier, &a->items[i]);
            for (end = i + 1; end < n && chunk_of(tier, &a->items[end]) == start_ms;)
                end++;
            err = write_chunk(a, tier, start_ms, thing, &a->items[i], end - i);
        }
    return err;
}

/* A frame's bytes without what is behind its end. */
static size_t real_size(struct archive *a, const unsigned char *bytes, size_t size)
{
    memset(&a->sum.counts, 0, sizeof a->sum.counts);
    const unsigned char *end = frame_add(bytes, bytes + size, &a->sum.counts);
    return end ? (size_t)(end - bytes) : 0;
}

static int write_all(struct archive *a, const struct batch *batch)
{
    static const struct stats_route nothing;
    size_t n = batch_windows(batch);
    buf_clear(&a->totals);
    for (size_t i = 0; i < n; i++) {
        const struct batch_window *w = batch_window(batch, i);
        memset(&a->sum.counts, 0, sizeof a->sum.counts);
        for (uint32_t k = 0; k < w->frames; k++) {
            const struct batch_frame *f = batch_frame(batch, w->first_frame + k);
            const unsigned char *bytes = (unsigned char *)batch->bytes.data + f->at;
            if (f->thing < HISTORY_POOL)
                frame_add(bytes, bytes + f->size, &a->sum.counts);
        }
        unsigned char *to = (unsigned char *)buf_room(&a->totals, FRAME_BYTES_MOST);
        if (!to) {
            buf_done(&a->totals);
            return ERR_NOMEM;
        }
        a->items[i] = (struct item){.window = w, .size = frame_put(to, &nothing, &a->sum.counts)};
        buf_wrote(&a->totals, a->items[i].size);
    }
    const unsigned char *bytes = (unsigned char *)a->totals.data;
    for (size_t i = 0; i < n; bytes += a->items[i++].size)
        a->items[i].bytes = bytes;
    return write_thing(a, 0, n);
}

static int by_thing(const void *left, const void *right)
{
    const struct batch_frame *x = left, *y = right;
    return x->thing != y->thing ? (x->thing < y->thing ? -1 : 1) : x->window < y->window ? -1 : x->window > y->window;
}

static int write_things(struct archive *a, const struct batch *batch)
{
    size_t count = batch_frames(batch);
    struct batch_frame *frames = malloc((count ? count : 1) * sizeof *frames);
    int err = frames ? 0 : ERR_NOMEM;
    if (frames && count) {
        memcpy(frames, batch_frame(batch, 0), count * sizeof *frames);
        qsort(frames, count, sizeof *frames, by_thing);
    }
    for (size_t i = 0; i < count && !err;) {
        uint32_t thing = frames[i].thing;
        sqlite3_int64 id;
        size_t n = 0;
        for (; i < count && frames[i].thing == thing; i++) {
            const struct batch_window *w = batch_window(batch, frames[i].window);
            const unsigned char *bytes = (unsigned char *)batch->bytes.data + frames[i].at;
            if (!n || a->items[n - 1].window != w) /* one each */
                a->items[n++] = (struct item){w, bytes, real_size(a, bytes, frames[i].size)};
        }
        err = thing_of(a, batch, thing, &id);
        if (!err)
            err = write_thing(a, id, n);
    }
    free(frames);
    return err;
}

static int make_items(struct archive *a, size_t n)
{
    if (n <= a->items_size)
        return 0;
    struct item *more = realloc(a->items, n * sizeof *more);
    if (!more)
        return ERR_NOMEM;
    a->items = more;
    a->items_size = n;
    return 0;
}

static int write_newest(struct archive *a, const struct batch *batch)
{
    bool row;
    sqlite3_stmt *s = fresh(a, NEWEST);
    sqlite3_bind_int64(s, 1, (sqlite3_int64)batch_window(batch, batch_windows(batch) - 1)->to_ms);
    int err = step(a, NEWEST, &row);
    sqlite3_reset(s);
    return err;
}

static int write_batch(struct archive *a, const struct batch *batch)
{
    struct archive_usage before = a->usage;
    int err = make_items(a, batch_windows(batch));
    if (!err)
        err = run(a, "BEGIN IMMEDIATE");
    if (err)
        return err;
    err = write_all(a, batch);
    if (!err)
        err = write_things(a, batch);
    if (!err)
        err = write_newest(a, batch);
    if (!err)
        err = run(a, "COMMIT");
    if (!err) {
        a->usage.newest_ms = batch_window(batch, batch_windows(batch) - 1)->to_ms;
        return 0;
    }
    sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL); /* keeps the reason in a->why */
    memset(a->route, 0, sizeof a->route);
    a->usage = before;
    return err;
}

/* ---- the budget ----------------------------------------------------------- */

static int furthest_above(const struct archive *a)
{
    int worst = 0;
    for (int i = 1; i < ARCHIVE_TIERS; i++)
        if (a->usage.tier_bytes[i] * chunk_tiers[worst].share_eighths >
            a->usage.tier_bytes[worst] * chunk_tiers[i].share_eighths)
            worst = i;
    return worst;
}

static int evict_one(struct archive *a)
{
    bool row;
    int tier = furthest_above(a);
    sqlite3_stmt *s = fresh(a, OLDEST);
    sqlite3_bind_int(s, 1, tier);
    int err = step(a, OLDEST, &row);
    uint64_t start_ms = row ? (uint64_t)sqlite3_column_int64(s, 0) * 1000 : 0;
    sqlite3_reset(s);
    uint64_t bytes = 0;
    if (!err) {
        s = with_chunk(a, WEIGH, tier, start_ms, -1);
        err = step(a, WEIGH, &row);
        bytes = row ? (uint64_t)sqlite3_column_double(s, 0) + ROW_BYTES * (uint64_t)sqlite3_column_int64(s, 1) : 0;
        sqlite3_reset(s);
    }
    if (!err) {
        s = with_chunk(a, DROP, tier, start_ms, -1);
        err = step(a, DROP, &row);
        sqlite3_reset(s);
    }
    if (!err) {
        uint64_t *left = &a->usage.tier_bytes[tier];
        *left = bytes && bytes < *left ? *left - bytes : 0;
        a->usage.evicted++;
    }
    return err;
}

static int used_bytes(struct archive *a, uint64_t *used, uint64_t *file)
{
    sqlite3_int64 pages = 0, unused = 0, size = 0;
    int err = number(a, "PRAGMA page_count", &pages);
    if (!err)
        err = number(a, "PRAGMA freelist_count", &unused);
    if (!err)
        err = number(a, "PRAGMA page_size", &size);
    *file = (uint64_t)(pages * size);
    *used = (uint64_t)((pages - unused) * size);
    return err;
}

static bool holds_frames(const struct archive *a)
{
    for (int i = 0; i < ARCHIVE_TIERS; i++)
        if (a->usage.tier_bytes[i])
            return true;
    return false;
}

/* An eighth of the budget is left to the log beside the file. */
static int trim(struct archive *a, uint64_t budget_bytes)
{
    uint64_t used, file, most = budget_bytes - budget_bytes / 8;
    int err = used_bytes(a, &used, &file);
    while (!err && file > most) {
        struct archive_usage usage = a->usage;
        err = run(a, "BEGIN IMMEDIATE");
        for (int i = 0; i < EVICTED_AT_ONCE && !err && used > most && holds_frames(a); i++) {
            err = evict_one(a);
            if (!err)
                err = used_bytes(a, &used, &file);
        }
        if (!err)
            err = run(a, "PRAGMA incremental_vacuum; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
        if (err) {
            sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
            a->usage = usage;
            return err;
        }
        uint64_t before = file;
        err = used_bytes(a, &used, &file);
        if (file >= before && !holds_frames(a))
            break;
    }
    return err;
}

int archive_write(struct archive *a, const struct batch *batch, uint64_t budget_bytes)
{
    int err = archive_open(a);
    if (!err && batch_windows(batch))
        err = write_batch(a, batch);
    if (!err)
        err = trim(a, budget_bytes);
    /* Behind it all is in the file, and on disk: once a minute that costs nothing. Readers
     * may be in the way, then the next one does it. */
    if (!err)
        sqlite3_wal_checkpoint_v2(a->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (err && a->db && a->damaged)
        set_aside(a, "damaged");
    weigh_file(a);
    return err;
}
