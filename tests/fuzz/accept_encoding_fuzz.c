/* accept_encoding_fuzz.c - Accept-Encoding: whatever the bytes, the choice is
 * one that the field names with a weight, and order or splitting of the fields
 * changes no weight.
 */
// SPDX-License-Identifier: MIT
#include "codec/accept.h"

#include <stdlib.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum codec_id order[] = {CODEC_ZSTD, CODEC_GZIP, CODEC_BROTLI, CODEC_DEFLATE};

static void check_choice(const struct accept *a)
{
    enum codec_id chosen = accept_choose(a, order, 4);
    check(chosen < CODEC_COUNT);
    for (enum codec_id id = CODEC_IDENTITY; id < CODEC_COUNT; id++)
        check(accept_weight(a, id) <= 1000);
    if (chosen != CODEC_IDENTITY)
        for (unsigned i = 0; i < 4; i++)
            check(accept_weight(a, chosen) >= accept_weight(a, order[i]) && accept_weight(a, chosen) > 0);
}

/* The same elements, last first, each as a field of its own. */
static struct accept backwards(struct str field)
{
    struct accept a = {0};
    while (field.len) {
        size_t at = field.len;
        while (at > 0 && field.p[at - 1] != ',')
            at--;
        accept_read(&a, (struct str){field.p + at, field.len - at});
        field.len = at ? at - 1 : 0;
    }
    return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = memcpy(malloc(size + 1), data, size); /* exact bounds for ASan */
    char *field = realloc(copy, size ? size : 1);
    struct accept a = {0};
    accept_read(&a, (struct str){field, size});
    check_choice(&a);
    struct accept b = backwards((struct str){field, size});
    for (enum codec_id id = CODEC_IDENTITY; id < CODEC_COUNT; id++)
        check(accept_weight(&a, id) == accept_weight(&b, id));
    free(field);
    return 0;
}
