/* A route's signals together: hours in which nothing may be said, and a change that no single signal shows. */
// SPDX-License-Identifier: MIT
#include "../ml/simulate.h"
#include "watch/company.h"
#include "watch/series.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { RPS, MEAN, P50, P95, P99, ERRORS, BYTES, DB, LUA, CACHE /* constant */, REDIS /* never known */, COLS };

static const double floors[COLS] = {.10, .10, .10, .10, .15, .005, .10, .15, .15, .15, .15};
static const struct company_opts opts = {.adopt_ms = 1800000};

/* A service behind a route: load, work, tail and size of answers remember (AR(1)), counts are Poisson's, percentiles
 * are as uncertain as so many requests make them, and latency follows load. */
struct service {
    struct random random;
    struct ar1 load, work, tail, size, other;
    double rate, span_s, time_s;
    bool day;    /* a curve between .45 and 2.2 of the rate */
    bool broken; /* latency follows something else, by as much */
};

static struct service service(uint64_t seed, double rate, double span_s, bool day)
{
    struct service s = {.random = {seed}, .rate = rate, .span_s = span_s, .day = day};
    s.load = ar1_start(&s.random, .9, .15);
    s.other = ar1_start(&s.random, .9, .15);
    s.work = ar1_start(&s.random, .8, .08);
    s.tail = ar1_start(&s.random, .5, .08);
    s.size = ar1_start(&s.random, .7, .05);
    return s;
}

static double poisson(struct random *r, double mean)
{
    return mean < 50 ? draw_poisson(r, mean) : fmax(0, floor(mean + sqrt(mean) * draw_normal(r) + .5));
}

static void next(struct service *s, double row[COLS])
{
    struct random *r = &s->random;
    s->time_s += s->span_s;
    double curve = s->day ? .8 * sin(s->time_s / 86400 * 6.2831853) : 0;
    double load = ar1_next(&s->load, r), other = ar1_next(&s->other, r), work = ar1_next(&s->work, r);
    double tail = ar1_next(&s->tail, r), size = ar1_next(&s->size, r);
    double n = fmax(1, poisson(r, s->rate * s->span_s * exp(load + curve))), e = 1 / sqrt(n);
    double mean = log(5) + .8 * (s->broken ? other : load) + .4 * curve + .3 * work;
    row[RPS] = log(n / s->span_s + .1);
    row[MEAN] = mean + .3 * e * draw_normal(r);
    row[P50] = mean - .2 + .3 * e * draw_normal(r);
    row[P95] = mean + .9 + .5 * tail + .8 * e * draw_normal(r);
    row[P99] = mean + 1.4 + .8 * tail + 1.5 * e * draw_normal(r);
    row[ERRORS] = poisson(r, n * .002) / n;
    row[BYTES] = log(2000) + size + .3 * e * draw_normal(r);
    row[DB] = mean - .7 + work + .4 * e * draw_normal(r);
    row[LUA] = log(.5) + .02 * draw_normal(r) + .2 * e * draw_normal(r);
    row[CACHE] = log(.05);
    row[REDIS] = NAN;
}

/* What rules/issues/unusual.lua asks for, of rules/thresholds.lua. */
enum { LONG_MS = 600000, LONG_SAMPLES = 150 };
static const double STRONG = 2;

static bool would_open(const struct company_state *s, uint64_t now_ms)
{
    return s->unusual && s->samples >= LONG_SAMPLES && now_ms - s->since_ms >= LONG_MS && s->severity >= STRONG;
}

static struct company_state feed(struct company *c, struct service *s, double row[COLS])
{
    company_add(c, &opts, row, true, (uint64_t)(s->time_s * 1000));
    if (company_due(c))
        company_fit(c);
    return company_state(c);
}

static struct company_state pass(struct company *c, struct service *s, unsigned samples)
{
    double row[COLS];
    struct company_state state = company_state(c);
    for (unsigned i = 0; i < samples; i++) {
        next(s, row);
        state = feed(c, s, row);
    }
    return state;
}

/* ---- ordinary hours ---- */

struct tally {
    unsigned judged, alarms, unusual, events, openings, longest;
};

static void add_to(struct tally *t, const struct company_state *before, const struct company_state *now, uint64_t now_ms)
{
    t->judged += now->fits > 0;
    t->alarms += now->alarm;
    t->unusual += now->unusual;
    t->events += now->unusual && !before->unusual;
    t->openings += would_open(now, now_ms);
    t->longest = now->samples > t->longest ? now->samples : t->longest;
}

static void fifty_hours(double rate, double span_s, bool day)
{
    struct company *c = company_new(COLS, floors);
    struct service s = service(1, rate, span_s, day);
    struct tally t = {0};
    double row[COLS];
    struct company_state before = company_state(c);
    while (s.time_s < 50 * 3600) {
        next(&s, row);
        struct company_state now = feed(c, &s, row);
        add_to(&t, &before, &now, (uint64_t)(s.time_s * 1000));
        before = now;
    }
    print_message("%g a second%s: %.2f %% alarm, unusual %.2f %% of the time in %u events of at most %u samples, %u openings\n", rate,
                  day ? ", a day's curve" : "", 100.0 * t.alarms / t.judged, 100.0 * t.unusual / t.judged, t.events, t.longest, t.openings);
    assert_int_equal(t.openings, 0);
    assert_true(t.longest < LONG_SAMPLES * 9 / 10);
    assert_true(t.alarms > 0.005 * t.judged && t.alarms < 0.02 * t.judged); /* alpha is 1 % */
    assert_true(t.unusual < 0.01 * t.judged);
    company_free(c);
}

static void nothing_is_said_of_ordinary_hours(void **state)
{
    (void)state;
    for (int day = 0; day < 2; day++) {
        fifty_hours(2, 10, day);
        fifty_hours(5, 5, day);
        fifty_hours(2000, 1, day);
    }
}

/* ---- what no signal shows ---- */

static bool is_at_fault(uint32_t column)
{
    return column == RPS || column == MEAN || column == P50 || column == P95;
}

/* Samples from the break until it is called unusual, and until an issue would open, 0: in a thousand it did not. */
static void break_apart(uint64_t seed, unsigned *unusual, unsigned *open, unsigned moved[2])
{
    static const struct series_opts alone = {.alpha = .1, .floor = .1, .least = 100, .adopt_ms = 1800000};
    struct company *c = company_new(COLS, floors);
    struct service s = service(seed, 2000, 1, false);
    struct series rps, p95;
    struct company_part parts[3];
    double row[COLS];
    assert_true(series_init(&rps, 100) && series_init(&p95, 100));
    *unusual = *open = 0;
    for (unsigned i = 0; i < 3000 && !*open; i++) {
        s.broken = i >= 2000;
        next(&s, row);
        struct company_state now = feed(c, &s, row);
        series_add(&rps, &alone, row[RPS], (uint64_t)i * 1000);
        series_add(&p95, &alone, row[P95], (uint64_t)i * 1000);
        if (i >= 1400 && i < 2600)
            moved[s.broken] += rps.moved || p95.moved;
        if (s.broken && !*unusual && now.unusual) {
            *unusual = i - 2000;
            assert_int_equal(now.channel, DETECTOR_PATTERN);
            assert_int_equal(company_parts(c, parts, 3), 3);
            assert_true(is_at_fault(parts[0].column));
            assert_true(parts[0].share >= parts[1].share && parts[1].share >= parts[2].share && parts[0].share < 1);
        }
        if (s.broken && would_open(&now, (uint64_t)(s.time_s * 1000))) {
            *open = i - 2000;
            company_parts(c, parts, 3);
            assert_true(is_at_fault(parts[0].column) && is_at_fault(parts[1].column));
            assert_true(parts[0].column == RPS || parts[1].column == RPS || parts[2].column == RPS);
        }
    }
    series_done(&rps);
    series_done(&p95);
    company_free(c);
}

static void a_broken_bond_is_unusual_though_no_signal_moved(void **state)
{
    (void)state;
    unsigned moved[2] = {0}, opened = 0; /* samples in which a signal had, of 6000 before and after */
    for (uint64_t seed = 1; seed <= 10; seed++) {
        unsigned unusual, open;
        break_apart(seed, &unusual, &open, moved);
        print_message("latency leaves load: unusual after %u samples, an issue after %u\n", unusual, open);
        assert_in_range(unusual, 1, 80);
        opened += open > 0;
    }
    print_message("a signal alone had moved in %u of 6000 samples before, in %u after\n", moved[0], moved[1]);
    assert_true(moved[1] <= moved[0] + 120);
    assert_true(opened >= 7); /* an issue wants it strong for ten minutes on end */
}

/* ---- what is learnt ---- */

/* A tail that left its mean by `more`. */
static struct company_state pass_with_tail(struct company *c, struct service *s, unsigned samples, double more, unsigned *unusual)
{
    double row[COLS];
    struct company_state state = company_state(c);
    *unusual = 0;
    for (unsigned i = 0; i < samples; i++) {
        next(s, row);
        row[P95] += more;
        state = feed(c, s, row);
        *unusual += state.unusual;
    }
    return state;
}

static void an_event_is_not_learnt_until_it_is_here_to_stay(void **state)
{
    (void)state;
    struct company *c = company_new(COLS, floors);
    struct service s = service(3, 2000, 1, false);
    unsigned unusual;
    struct company_state before = pass(c, &s, 2000);
    assert_false(before.unusual);
    struct company_state during = pass_with_tail(c, &s, 1500, 1.2, &unusual);
    assert_true(during.unusual && unusual >= 1480);
    assert_int_equal(during.fits, before.fits);
    assert_true(during.since_ms >= 2000000 && during.since_ms <= 2020000);
    assert_false(pass(c, &s, 300).unusual);
    assert_true(pass_with_tail(c, &s, 100, 1.2, &unusual).unusual); /* as odd as it was */
    assert_int_equal(pass_with_tail(c, &s, 2000, 1.2, &unusual).fits > before.fits, true);
    pass_with_tail(c, &s, 2000, 1.2, &unusual);
    assert_true(unusual < 100); /* half an hour later it is usual */
    company_free(c);
}

static void an_experiment_leaves_nothing_behind(void **state)
{
    (void)state;
    struct company *c = company_new(COLS, floors);
    struct service s = service(4, 2000, 1, false);
    unsigned unusual;
    pass(c, &s, 1000);
    assert_true(pass_with_tail(c, &s, 60, 1.2, &unusual).unusual);
    company_pause(c);
    struct company_state now = company_state(c);
    assert_false(now.unusual || now.since_ms || now.samples);
    company_free(c);
}

/* ---- odd data ---- */

static void bears_gaps_constants_and_giants(void **state)
{
    (void)state;
    struct company *c = company_new(COLS, floors);
    struct service s = service(5, 2000, 1, false);
    double row[COLS];
    struct company_state now = pass(c, &s, COMPANY_NEEDED - 1);
    assert_true(isnan(now.severity) && !now.unusual && now.learnt == COMPANY_NEEDED - 1 && now.fits == 0 && now.p == 1);
    now = pass(c, &s, 1000);
    assert_true(now.fits > 0 && isfinite(now.severity));
    const double giants[] = {1e300, -1e300, INFINITY, -INFINITY, 1e30, NAN};
    for (unsigned i = 0; i < 6 * 200; i++) {
        next(&s, row);
        if (i % 200 == 0)
            row[i % COLS] = giants[i / 200];
        now = feed(c, &s, row);
        assert_true(isfinite(now.severity) && now.samples < LONG_SAMPLES / 2); /* it is felt as long as it is in a lag */
    }
    for (int j = 0; j < COLS; j++)
        row[j] = NAN;
    for (int i = 0; i < 100; i++)
        assert_true(isfinite(feed(c, &s, row).severity)); /* nobody asks: nothing is known */
    assert_false(pass(c, &s, 100).unusual);
    unsigned unusual;
    pass_with_tail(c, &s, 60, 1.2, &unusual);
    assert_true(unusual > 20); /* and nothing of that was learnt */
    company_free(c);
}

static void learns_nothing_from_constants(void **state)
{
    (void)state;
    struct company *c = company_new(COLS, floors);
    struct service s = {.time_s = 0};
    double row[COLS];
    for (int i = 0; i < 2000; i++) {
        for (int j = 0; j < COLS; j++)
            row[j] = j % 2 ? NAN : j;
        assert_false(feed(c, &s, row).unusual);
    }
    struct company_part parts[3];
    assert_int_equal(company_state(c).fits, 0);
    assert_int_equal(company_parts(c, parts, 3), 0);
    assert_null(company_new(COMPANY_COLS_MOST + 1, floors));
    assert_null(company_new(0, floors));
    company_free(c);
    company_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_of_ordinary_hours),
        cmocka_unit_test(a_broken_bond_is_unusual_though_no_signal_moved),
        cmocka_unit_test(an_event_is_not_learnt_until_it_is_here_to_stay),
        cmocka_unit_test(an_experiment_leaves_nothing_behind),
        cmocka_unit_test(bears_gaps_constants_and_giants),
        cmocka_unit_test(learns_nothing_from_constants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
