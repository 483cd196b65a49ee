/* watch.h - frames become signals, and signals know what is usual for them.
 *
 *     lanes, pools, machine > sample of a thing > series per signal > moved?
 *
 * Things are the host, each route and each connection pool. Each second adds to the
 * open sample of each; that of the host and of a pool ends at once, that of a route
 * when it holds enough requests to have a percentile or is old enough. So a route of
 * one request a second is judged every ten seconds, one of a thousand every second.
 *
 * What a sample means (which issue, whose fault) is not known here: it is Lua's.
 *
 * Owner:   control; ends with watch_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "stats/history.h"
#include "sys/resources.h"
#include "watch/companies.h"
#include "watch/series.h"
#include "watch/signals.h"

enum {
    ROUTE_SIGNALS = ROUTE_PHASES + PHASE_COUNT,
    SIGNALS_MOST = (int)ROUTE_SIGNALS > (int)HOST_SIGNALS ? (int)ROUTE_SIGNALS : (int)HOST_SIGNALS,
};
_Static_assert((int)POOL_SIGNALS <= SIGNALS_MOST, "there is room for the signals of each kind");

enum watch_kind { WATCH_HOST, WATCH_ROUTE, WATCH_POOL };

/* One thing. */
struct watched {
    enum watch_kind kind;
    uint32_t index;      /* route or pool on the board; 0 for the host */
    uint32_t samples;    /* ended so far */
    uint32_t learnt;     /* usual ones that its best known signal has */
    uint64_t requests;   /* of the last sample; of a pool: calls */
    double span_s;       /* of the last sample */
    uint64_t sample_ms;  /* when it ended, unix time */
    uint64_t held_ms;    /* when the last one did that an experiment kept from being judged; 0: none */
    double busy;         /* routes: seconds spent in requests a second, over some samples */
    double errors;       /* routes: answers of 500 and above lately, one of half a minute ago counting 1/e */
    struct company *company; /* the signals together; NULL: not one of the busiest */
    struct series signals[SIGNALS_MOST];
    struct stats_route *open; /* routes: the sample being filled */
    uint64_t open_ms;    /* since when; 0: it is empty */
    double open_s;       /* time it covers */
};

struct watch;

/* `resources` is sampled by the caller. NULL: no memory. */
struct watch *watch_new(struct board *board, struct history *history, const struct resources *resources);
void watch_free(struct watch *w);

/* Each second, after history_tick(). */
void watch_tick(struct watch *w, uint64_t now_unix_ms);

/* Until then nothing is learnt and nothing is judged: the traffic is an experiment. */
void watch_hold(struct watch *w, uint64_t until_unix_ms);

/* Samples of a route from frames of long ago, cut as watch_tick() cuts them; the last ones. */
enum { WATCH_RECALLED = 256 };
struct watch_samples {
    double values[WATCH_RECALLED][ROUTE_SIGNALS]; /* a ring */
    uint32_t count;           /* of all that were cut */
    struct stats_route open;
    double open_s;
};
void watch_samples_add(struct watch_samples *s, const struct settings *settings,
                       const struct stats_route *frame, double span_s);

/* A route that has not learnt enough yet takes these as usual. Returns how many. */
unsigned watch_recall(struct watch *w, uint32_t route, const struct watch_samples *samples);

/* The things, the host first; NULL behind the last. Until the next tick. */
const struct watched *watch_at(const struct watch *w, unsigned i);

/* The registry of what a kind of thing has. */
unsigned watch_signals(enum watch_kind kind);
struct signal_info watch_signal(enum watch_kind kind, unsigned i);

/* A value in its unit, of one in its signal's scale. NaN stays NaN. */
double watch_value(enum watch_kind kind, unsigned i, double scaled);

/* Whether a signal is how much of something has come together: it creeps for days and has no usual value to be in company
 * with. A jump of it is seen by itself, its growth by the rules of memory. */
bool watch_accumulates(enum watch_kind kind, unsigned i);

struct series_opts watch_series_opts(const struct watch *w, enum watch_kind kind, unsigned i);

struct watch_cost {
    size_t bytes;      /* held */
    size_t company_bytes; /* of them, by companies */
    uint32_t companies, fits; /* held now; since the start */
    double fit_ms;     /* the longest fit's CPU time */
    uint64_t ticks;
    double tick_ms;    /* the last one's CPU time */
    double mean_ms;    /* of all */
};
void watch_cost(const struct watch *w, struct watch_cost *out);
