/* request_fuzz.c - request heads: any cut gives the same verdict, llhttp agrees
 * with what we accept, and a head written from the result reads the same.
 */
// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "http/head.h"
#include "http/opinion.h"

#include <stdlib.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct head_limits limits = {.head_bytes = 4096, .target_bytes = 1024, .fields = 40};

struct verdict {
    size_t end; /* 0: incomplete */
    int status; /* 0: accepted or incomplete */
};

static struct verdict judge_whole(const char *bytes, size_t len, struct head *head)
{
    struct head_refusal refusal = {0};
    struct verdict v = {.end = head_end(bytes, len, 0)};
    if (!v.end)
        v.status = head_hopeless(bytes, len, 0, &limits, &refusal) ? refusal.status : 0;
    else if (!head_parse_request(bytes, v.end, &limits, head, &refusal))
        v.status = refusal.status;
    check(!v.status || (refusal.what && refusal.rfc));
    return v;
}

/* Each prefix lies in memory of its own, so that reading past it is seen. */
static struct verdict judge_byte_by_byte(const char *bytes, size_t len, struct head *head)
{
    struct head_refusal refusal = {0};
    struct verdict v = {0};
    for (size_t i = 1; i <= len; i++) {
        char *prefix = memcpy(malloc(i), bytes, i);
        v.end = head_end(prefix, i, i - 1);
        bool hopeless = !v.end && head_hopeless(prefix, i, i - 1, &limits, &refusal);
        free(prefix);
        if (hopeless)
            v.status = refusal.status;
        if (v.end || hopeless)
            break;
    }
    if (v.end && !head_parse_request(bytes, v.end, &limits, head, &refusal))
        v.status = refusal.status;
    return v;
}

static void check_invariants(const struct head *h)
{
    check(h->minor <= 1 && h->field_count <= limits.fields);
    check(h->method_id != METHOD_CONNECT && h->method_id != METHOD_TRACE);
    check(h->path.len && (*h->path.p == '/' || str_equal(h->path, STR("*"))));
    check(h->minor == 0 || h->host.len);
    check(h->framing == FRAMING_NONE || h->framing == FRAMING_FIXED ||
          h->framing == FRAMING_CHUNKED);
    check((h->framing == FRAMING_FIXED) == (h->content_length > 0));
    for (unsigned i = 0; i < h->field_count; i++)
        check(head_is_token(h->fields[i].name) && head_is_value(h->fields[i].value));
}

static void write_head(struct buf *out, const struct head *h)
{
    buf_add_str(out, h->method);
    buf_add_char(out, ' ');
    buf_add_str(out, h->target);
    buf_printf(out, " HTTP/1.%u\r\n", h->minor);
    for (unsigned i = 0; i < h->field_count; i++) {
        buf_add_str(out, h->fields[i].name);
        buf_add(out, ": ", 2);
        buf_add_str(out, h->fields[i].value);
        buf_add(out, "\r\n", 2);
    }
    buf_add(out, "\r\n", 2);
}

static void check_same(const struct head *a, const struct head *b)
{
    check(str_equal(a->method, b->method) && str_equal(a->target, b->target));
    check(str_equal(a->path, b->path) && a->query.len == b->query.len);
    check(a->host.len == b->host.len && a->framing == b->framing);
    check(a->content_length == b->content_length && a->keep_alive == b->keep_alive);
    check(a->upgrade == b->upgrade && a->expect_continue == b->expect_continue);
    check(a->field_count == b->field_count && !memcmp(a->first, b->first, sizeof a->first));
    for (unsigned i = 0; i < a->field_count; i++)
        check(a->fields[i].nominated == b->fields[i].nominated &&
              str_equal(a->fields[i].value, b->fields[i].value));
}

static void check_rewritten(const struct head *h)
{
    const struct head_limits roomy = {.head_bytes = 8192, .target_bytes = 1024, .fields = 40};
    static struct head again;
    struct head_refusal refusal;
    struct buf out = {0};
    write_head(&out, h);
    struct str s = buf_str(&out);
    check(head_end(s.p, s.len, 0) == s.len);
    check(head_parse_request(s.p, s.len, &roomy, &again, &refusal));
    check(opinion_agrees(s.p, s.len, &again, false));
    check_same(h, &again);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct head head, other;
    if (size > 6000)
        return 0;
    char *bytes = malloc(size + !size);
    memcpy(bytes, data, size);
    struct verdict whole = judge_whole(bytes, size, &head);
    struct verdict cut = judge_byte_by_byte(bytes, size, &other);
    check(whole.status == cut.status);
    if (!whole.status && whole.end) {
        check(whole.end == cut.end);
        check_invariants(&head);
        check_same(&head, &other);
        /* llhttp does not trim HTAB; the rewritten head has none to trim */
        check(opinion_agrees(bytes, whole.end, &head, false) || memchr(bytes, '\t', whole.end));
        check_rewritten(&head);
    }
    free(bytes);
    return 0;
}
