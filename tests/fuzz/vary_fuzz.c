/* vary_fuzz.c - Vary: whatever the bytes, the names come out small, sorted and
 * each once, and reading what came out gives the same again.
 */
// SPDX-License-Identifier: MIT
#include "cache/vary.h"

#include <stdlib.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_names(struct str names)
{
    struct str rest = names, name, before = {NULL, 0};
    unsigned count = 0;
    while (str_next(&rest, ',', &name)) {
        check(head_is_token(name) && ++count <= VARY_NAMES_MAX);
        for (size_t i = 0; i < name.len; i++)
            check(name.p[i] == ascii_lower(name.p[i]));
        if (before.p) {
            size_t least = before.len < name.len ? before.len : name.len;
            int order = memcmp(before.p, name.p, least);
            check(order < 0 || (order == 0 && before.len < name.len));
        }
        before = name;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *field = malloc(size ? size : 1); /* exact bounds for ASan */
    if (size)
        memcpy(field, data, size);
    struct buf once = {0}, again = {0};
    if (vary_names((struct str){field, size}, &once) && buf_len(&once)) {
        check_names(buf_str(&once));
        check(vary_names(buf_str(&once), &again));
        check(str_equal(buf_str(&once), buf_str(&again)));
    }
    check(vary_codings((struct str){field, size}) <= (CODING_GZIP | CODING_BR | CODING_ZSTD | CODING_DEFLATE));
    buf_done(&once);
    buf_done(&again);
    free(field);
    return 0;
}
