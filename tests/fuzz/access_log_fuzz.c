/* access_log_fuzz.c - access log lines: whatever the bytes, in every known format, what is read lies within
 * the line or the entry's own memory, its figures are in range, and its route is short.
 */
// SPDX-License-Identifier: MIT
#include "replay/format.h"
#include "replay/routes.h"
#include "replay/timeline.h"

#include <stdlib.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(struct str view, const char *p, size_t len)
{
    return !view.p || !view.len || (view.p >= p && view.p + view.len <= p + len);
}

static void check_entry(const struct entry *e, struct str line)
{
    static struct timeline timeline;
    static struct templates templates;
    char route[TEMPLATE_SIZE];
    check(within(e->method, line.p, line.len) || within(e->method, e->scratch, sizeof e->scratch));
    check(within(e->path, line.p, line.len) || within(e->path, e->scratch, sizeof e->scratch) || str_equal(e->path, STR("/")));
    check(e->status < 600 && e->at_s >= 0 && e->scratch_used <= sizeof e->scratch);
    check(!(e->seconds != e->seconds));
    if (e->path.p)
        check(templates_apply(&templates, e->path, route) <= TEMPLATE_SIZE);
    timeline_add(&timeline, e->at_s, e->status >= 500, e->seconds);
    check(timeline.used <= TIMELINE_BUCKETS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size ? size : 1); /* exact bounds for ASan */
    struct entry *e = malloc(sizeof *e);
    struct format f;
    size_t bad;
    if (size)
        memcpy(line, data, size);
    for (unsigned i = 0; format_known(i, &f); i++) {
        if (format_read(&f, (struct str){line, size}, e, &bad))
            check_entry(e, (struct str){line, size});
        check(bad <= size);
    }
    free(e);
    free(line);
    return 0;
}
