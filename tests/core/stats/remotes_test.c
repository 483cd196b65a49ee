// SPDX-License-Identifier: MIT
#include "stats/remotes.h"

#include "base/err.h"
#include "board/guests.h"
#include "stats/readings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GUESTS = 2 };
static const uint64_t SECOND = UINT64_C(1000000000);

static struct board *board;
static struct remotes *remotes;
static struct stats_route nothing, counts;
static struct buf parcel;
static size_t boundaries[2]; /* in the last parcel: behind its head, and behind its route */

static int set_up(void **state)
{
    (void)state;
    board = board_new(&(struct board_opts){.workers = 1, .guests = GUESTS});
    remotes = remotes_new(board);
    memset(&counts, 0, sizeof counts);
    counts.requests = 7;
    counts.status[2] = 5;
    counts.status[5] = 2;
    counts.bytes_out = 700;
    counts.sizes[SIZE_SMALL] = 7;
    counts.latency_sum_ns = 7000000;
    counts.latency[100] = 4;
    counts.latency[200] = 3;
    counts.phase_count[PHASE_DB] = 7;
    counts.phase_sum_ns[PHASE_DB] = 3500000;
    counts.phases[PHASE_DB][20] = 7;
    return board && remotes ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    remotes_free(remotes);
    board_free(board);
    buf_done(&parcel);
    return 0;
}

static struct str made(unsigned char sender, uint64_t sequence)
{
    struct parcel_head head = {.sender = {sender}, .sequence = sequence, .started = 8, .finished = 7};
    struct slow_sample slow = {.status = 503, .at_unix_ms = 1700000000000, .latency_ns = 5 * SECOND, .bytes_out = 9};
    strcpy(slow.method, "GET");
    strcpy(slow.trace_id, "0123456789abcdef0123456789abcdef");
    slow.phase_ns[PHASE_DB] = SECOND;
    buf_clear(&parcel);
    parcel_begin(&parcel, &head);
    boundaries[0] = buf_len(&parcel);
    parcel_add_route(&parcel, STR("GET"), STR("/far/:id"), &nothing, &counts);
    boundaries[1] = buf_len(&parcel);
    parcel_add_slow(&parcel, STR("/far/:id"), &slow);
    assert_true(buf_ok(&parcel));
    return buf_str(&parcel);
}

static struct stats_route total(void)
{
    static struct stats_route out;
    reading_route(board, LANES_ALL, board_route(board, STR("GET"), STR("/far/:id")), &out);
    out.route = 0;
    return out;
}

static void counts_a_parcel_once(void **state)
{
    (void)state;
    assert_int_equal(remotes_take(remotes, made(1, 1), SECOND), 0);
    struct stats_route sum = total();
    assert_memory_equal(&sum, &counts, sizeof sum);
    assert_int_equal(remotes_take(remotes, made(1, 1), SECOND), 0); /* its answer was lost */
    assert_int_equal(total().requests, 7);
    assert_int_equal(remotes_take(remotes, made(1, 2), SECOND), 0);
    assert_int_equal(total().requests, 14);
    assert_int_equal(total().latency[200], 6);
    struct lane *lane = board_lane(board, 1);
    assert_int_equal(lane_in_flight(lane), 2);
    struct slow_sample slow;
    assert_true(lane_slow_read(&lane->slow[0], &slow));
    assert_string_equal(slow.trace_id, "0123456789abcdef0123456789abcdef");
    assert_int_equal(slow.status, 503);
    assert_int_equal(slow.phase_ns[PHASE_DB], SECOND);
}

/* Whole or not at all, whatever comes. */
static void takes_no_part_of_a_damaged_one(void **state)
{
    (void)state;
    struct str whole = made(1, 1);
    for (size_t len = 0; len < whole.len; len++) {
        char *copy = malloc(len + 1); /* its end is watched by AddressSanitizer */
        memcpy(copy, whole.p, len);
        bool is_parcel = len == boundaries[0] || len == boundaries[1]; /* with nothing in it, or less */
        if (!is_parcel)
            assert_int_equal(remotes_take(remotes, (struct str){copy, len}, SECOND), ERR_INVAL);
        free(copy);
    }
    assert_int_equal(total().requests, 0);
    assert_int_equal(remotes_count(remotes), 0);
    uint32_t noise = 1;
    for (int i = 0; i < 20000; i++) {
        struct str bytes = made(3, 1);
        char *copy = malloc(bytes.len);
        memcpy(copy, bytes.p, bytes.len);
        for (int k = 0; k < 1 + i % 3; k++) {
            noise = noise * 1664525 + 1013904223;
            copy[(noise >> 8) % bytes.len] = (char)(noise >> 24);
        }
        struct parcel_head ignored;
        struct parcel_entry *entry = malloc(sizeof *entry);
        struct str rest = {copy, bytes.len};
        if (parcel_open(&rest, &ignored) == 0)
            while (parcel_next(&rest, entry) == 0 && entry->kind != PARCEL_END)
                ;
        free(entry);
        free(copy);
    }
}

static void refuses_another_version(void **state)
{
    (void)state;
    struct str bytes = made(1, 1);
    parcel.data[5] ^= 1;
    assert_int_equal(remotes_take(remotes, bytes, SECOND), ERR_PROTOCOL);
    assert_int_equal(remotes_take(remotes, STR("{\"json\": true}"), SECOND), ERR_INVAL);
    assert_int_equal(remotes_take(remotes, (struct str){0}, SECOND), ERR_INVAL);
}

static void gives_the_lane_back_with_the_last_parcel(void **state)
{
    (void)state;
    struct parcel_head head = {.sender = {1}, .sequence = 2, .last = true};
    assert_int_equal(remotes_take(remotes, made(1, 1), SECOND), 0);
    assert_int_equal(remotes_count(remotes), 1);
    buf_clear(&parcel);
    parcel_begin(&parcel, &head);
    assert_int_equal(remotes_take(remotes, buf_str(&parcel), SECOND), 0);
    assert_int_equal(remotes_count(remotes), 0);
}

static void gives_the_lane_of_a_silent_sender_to_the_next(void **state)
{
    (void)state;
    assert_int_equal(remotes_take(remotes, made(1, 1), SECOND), 0);
    assert_int_equal(remotes_take(remotes, made(2, 1), 50 * SECOND), 0);
    assert_int_equal(remotes_take(remotes, made(3, 1), 50 * SECOND), ERR_BUSY);
    remotes_tick(remotes, 62 * SECOND);
    assert_int_equal(remotes_count(remotes), 1);
    int fd = guest_open(board->fd);
    guests_sweep(board, fd);
    assert_int_equal(lane_in_flight(board_lane(board, 1)), 0); /* what it had begun is over */
    assert_int_equal(lane_in_flight(board_lane(board, 2)), 1);
    close(fd);
    assert_int_equal(remotes_take(remotes, made(3, 1), 62 * SECOND), 0);
    assert_int_equal(total().requests, 21); /* counted on in the same lane */
    assert_int_equal(remotes_take(remotes, made(1, 2), 62 * SECOND), ERR_BUSY);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(counts_a_parcel_once),
        UNIT(takes_no_part_of_a_damaged_one),
        UNIT(refuses_another_version),
        UNIT(gives_the_lane_back_with_the_last_parcel),
        UNIT(gives_the_lane_of_a_silent_sender_to_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
