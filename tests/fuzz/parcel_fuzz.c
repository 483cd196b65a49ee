/* parcel_fuzz.c - parcels of applications elsewhere: whatever the bytes behind the head, they are refused, or what was read is
 * written, read and written again to the same bytes.
 */
// SPDX-License-Identifier: MIT
#include "stats/parcel.h"

#include <stdlib.h>
#include <string.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(struct buf *out, struct parcel_entry *e)
{
    static const struct stats_route nothing;
    if (e->kind == PARCEL_ROUTE)
        parcel_add_route(out, e->method, e->name, &nothing, &e->counts);
    else
        parcel_add_slow(out, e->name, &e->slow);
}

/* What was written is read, and written again, to the same bytes. */
static void check_same(struct str bytes)
{
    static struct parcel_entry again;
    struct str rest = bytes;
    struct buf copy = {0};
    check(parcel_next(&rest, &again) == 0 && again.kind != PARCEL_END && rest.len == 0);
    write_again(&copy, &again);
    check(str_equal(buf_str(&copy), bytes));
    buf_done(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct parcel_entry entry;
    struct parcel_head head = {.sequence = 1}, seen;
    struct buf whole = {0}, one = {0};
    parcel_begin(&whole, &head);
    buf_add(&whole, data, size);
    struct str rest = buf_str(&whole);
    check(parcel_open(&rest, &seen) == 0 && seen.sequence == 1);
    while (parcel_next(&rest, &entry) == 0 && entry.kind != PARCEL_END) {
        buf_clear(&one);
        write_again(&one, &entry);
        check_same(buf_str(&one));
    }
    buf_done(&whole);
    buf_done(&one);
    return 0;
}
