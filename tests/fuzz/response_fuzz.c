/* response_fuzz.c - response heads: any cut gives the same verdict, llhttp
 * agrees with what we accept, framing follows status and method.
 */
// SPDX-License-Identifier: MIT
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

static bool accepts_whole(const char *bytes, size_t len, enum http_method method, struct head *head,
                          size_t *end)
{
    struct head_refusal refusal = {0};
    *end = head_end(bytes, len, 0);
    if (!*end)
        return !head_hopeless(bytes, len, 0, &limits, &refusal);
    bool ok = head_parse_response(bytes, *end, &limits, method, head, &refusal);
    check(ok || (refusal.status == 502 && refusal.what && refusal.rfc));
    return ok;
}

static bool accepts_cut(const char *bytes, size_t len, enum http_method method, struct head *head,
                        size_t *end)
{
    struct head_refusal refusal = {0};
    *end = 0;
    for (size_t i = 1; i <= len && !*end; i++) {
        *end = head_end(bytes, i, i - 1);
        if (!*end && head_hopeless(bytes, i, i - 1, &limits, &refusal))
            return false;
    }
    return !*end || head_parse_response(bytes, *end, &limits, method, head, &refusal);
}

static void check_framing(const struct head *h, enum http_method method)
{
    bool bodiless =
        h->status < 200 || h->status == 204 || h->status == 304 || method == METHOD_HEAD;
    check(h->status >= 100 && h->status <= 599 && h->minor <= 1);
    check(!bodiless || h->framing == FRAMING_NONE);
    check(h->framing != FRAMING_FIXED || (h->has_content_length && h->content_length));
    check(h->framing != FRAMING_CHUNKED || (h->minor == 1 && !h->has_content_length));
    check(h->framing != FRAMING_EOF || !h->keep_alive);
    check(head_is_value(h->reason));
    for (unsigned i = 0; i < h->field_count; i++)
        check(head_is_token(h->fields[i].name) && head_is_value(h->fields[i].value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct head head, other;
    if (size == 0 || size > 6000)
        return 0;
    enum http_method method = data[--size] & 1 ? METHOD_HEAD : METHOD_GET;
    char *bytes = malloc(size + !size);
    memcpy(bytes, data, size);
    size_t end, cut_end;
    bool accepted = accepts_whole(bytes, size, method, &head, &end);
    check(accepted == accepts_cut(bytes, size, method, &other, &cut_end));
    if (accepted && end) {
        check(end == cut_end && head.status == other.status && head.framing == other.framing);
        check_framing(&head, method);
        /* llhttp does not trim HTAB */
        check(opinion_agrees(bytes, end, &head, true) || memchr(bytes, '\t', end));
    }
    free(bytes);
    return 0;
}
