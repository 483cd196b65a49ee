/* head_framing.c - what follows a head: RFC 9112 6.3 with every doubt refused.
 *
 * Request smuggling is two readers disagreeing about this file's subject, so
 * nothing is repaired here: two lengths, a length beside a coding, or a coding
 * in HTTP/1.0 end the message.
 */
// SPDX-License-Identifier: MIT
#include "http/head_parts.h"

/* 0 when chunked is the one coding; else the status to refuse with: 501 for a
 * well-formed list of codings that we do not know, 400 for the rest. */
static int judge_codings(struct str value)
{
    if (str_iequal(value, STR("chunked")))
        return 0;
    struct str rest = value;
    unsigned chunked = 0;
    for (;;) {
        const char *comma = memchr(rest.p, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.p) : rest.len;
        struct str coding = str_trim((struct str){rest.p, len});
        if (!head_is_token(coding) || chunked)
            return 400; /* not a token, or behind chunked, which must be last */
        chunked += str_iequal(coding, STR("chunked"));
        if (!comma)
            return 501;
        rest = (struct str){comma + 1, rest.len - len - 1};
    }
}

static bool read_codings(struct head_cursor *c)
{
    if (c->out->first[FIELD_CONTENT_LENGTH])
        return head_refuse(c->refusal, 400, "there is Content-Length beside Transfer-Encoding",
                           "9112 6.1");
    if (c->out->minor == 0)
        return head_refuse(c->refusal, 400, "there is Transfer-Encoding in HTTP/1.0", "9112 6.1");
    if (head_repeats(c, FIELD_TRANSFER_ENCODING))
        return head_refuse(c->refusal, 400, "there is more than one Transfer-Encoding field",
                           "9112 6.1");
    int status = judge_codings(head_get(c->out, FIELD_TRANSFER_ENCODING));
    if (status == 501)
        return head_refuse(c->refusal, 501, "the transfer coding is unknown", "9112 6.1");
    return !status ||
           head_refuse(c->refusal, 400, "the Transfer-Encoding field is malformed", "9112 6.3");
}

/* Judges the framing fields and, without regard to status and method, what
 * they ask for. */
static bool read_framing(struct head_cursor *c)
{
    struct head *out = c->out;
    if (out->first[FIELD_TRANSFER_ENCODING]) {
        out->framing = FRAMING_CHUNKED;
        return read_codings(c);
    }
    if (!out->first[FIELD_CONTENT_LENGTH])
        return true;
    if (head_repeats(c, FIELD_CONTENT_LENGTH))
        return head_refuse(c->refusal, 400, "there is more than one Content-Length field",
                           "9112 6.3");
    if (!str_to_u64(head_get(out, FIELD_CONTENT_LENGTH), &out->content_length))
        return head_refuse(c->refusal, 400, "the Content-Length is not a number", "9112 6.3");
    out->has_content_length = true;
    out->framing = out->content_length ? FRAMING_FIXED : FRAMING_NONE;
    return true;
}

static bool judge_expect(struct head_cursor *c)
{
    struct head *out = c->out;
    if (!out->first[FIELD_EXPECT])
        return true;
    if (head_repeats(c, FIELD_EXPECT) ||
        !str_iequal(head_get(out, FIELD_EXPECT), STR("100-continue")))
        return head_refuse(c->refusal, 417, "the expectation is unknown", "9110 10.1.1");
    out->expect_continue = out->minor == 1 && out->framing != FRAMING_NONE;
    return true;
}

bool head_frame_request(struct head_cursor *c)
{
    if (!read_framing(c) || !judge_expect(c))
        return false;
    if (c->out->first[FIELD_UPGRADE] && c->out->framing != FRAMING_NONE)
        return head_refuse(c->refusal, 400, "a request to upgrade has a body", "9110 7.8");
    return true;
}

bool head_frame_response(struct head_cursor *c, enum http_method request_method)
{
    struct head *out = c->out;
    if (!read_framing(c))
        return false;
    if (out->status < 200 || out->status == 204) { /* RFC 9110 8.6: must not have a length */
        out->has_content_length = false;
        out->content_length = 0;
        out->framing = FRAMING_NONE;
    } else if (out->status == 304 || request_method == METHOD_HEAD) {
        out->framing = FRAMING_NONE;
    } else if (out->framing == FRAMING_NONE && !out->has_content_length) {
        out->framing = FRAMING_EOF;
        out->keep_alive = false;
    }
    return true;
}
