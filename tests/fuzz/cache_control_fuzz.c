/* cache_control_fuzz.c - Cache-Control and targeted fields: whatever the bytes,
 * numbers stay in their range, the case of letters and saying it twice change
 * nothing, and nothing takes back a no-store.
 */
// SPDX-License-Identifier: MIT
#include "cache/directives.h"

#include <ctype.h>
#include <stdlib.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_numbers(const struct directives *d)
{
    const int64_t seconds[] = {d->max_age,   d->s_maxage, d->min_fresh, d->max_stale, d->stale_while_revalidate,
                               d->stale_if_error};
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++)
        check(seconds[i] >= DIRECTIVE_ABSENT && seconds[i] <= DIRECTIVE_MOST_S);
}

static struct directives read_field(struct str value)
{
    struct directives d;
    memset(&d, 0, sizeof d); /* padding too: compared as bytes */
    directives_init(&d);
    directives_read(&d, value);
    check_numbers(&d);
    return d;
}

static bool same(const struct directives *a, const struct directives *b)
{
    return a->present == b->present && a->no_store == b->no_store && a->no_cache == b->no_cache &&
           a->is_private == b->is_private && a->is_public == b->is_public && a->must_revalidate == b->must_revalidate &&
           a->max_age == b->max_age && a->s_maxage == b->s_maxage && a->max_stale == b->max_stale &&
           a->stale_while_revalidate == b->stale_while_revalidate && a->stale_if_error == b->stale_if_error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *field = malloc(size ? size : 1); /* exact bounds for ASan */
    if (size)
        memcpy(field, data, size);
    struct str value = {field, size};
    struct directives once = read_field(value), twice = once, targeted;
    directives_read(&twice, value);
    check(same(&once, &twice));
    directives_read(&twice, STR("no-store"));
    directives_read(&twice, value);
    check(twice.no_store);
    if (directives_read_targeted(&targeted, value)) {
        check(targeted.present);
        check_numbers(&targeted);
    }
    for (size_t i = 0; i < size; i++)
        field[i] = (char)toupper((unsigned char)field[i]);
    struct directives upper = read_field(value);
    check(same(&once, &upper));
    free(field);
    return 0;
}
