// SPDX-License-Identifier: MIT
#include "http/opinion.h"

#include "llhttp.h"

#if !LLHTTP_STRICT_MODE
#error "llhttp must be strict: its loose mode accepts request smuggling"
#endif

static int pause_behind_head(llhttp_t *parser)
{
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {.on_headers_complete = pause_behind_head};

static const uint8_t methods[] = {
    [METHOD_GET] = HTTP_GET,     [METHOD_HEAD] = HTTP_HEAD,       [METHOD_POST] = HTTP_POST,
    [METHOD_PUT] = HTTP_PUT,     [METHOD_DELETE] = HTTP_DELETE,   [METHOD_OPTIONS] = HTTP_OPTIONS,
    [METHOD_PATCH] = HTTP_PATCH, [METHOD_CONNECT] = HTTP_CONNECT, [METHOD_TRACE] = HTTP_TRACE,
};

static bool same_first_line(const llhttp_t *parser, const struct head *head, bool response)
{
    if (parser->http_major != 1 || parser->http_minor != head->minor)
        return false;
    return response ? parser->status_code == head->status
                    : parser->method == methods[head->method_id];
}

/* Compares the framing fields; whether status or method overrule them is ours
 * to say, llhttp does not know the request that a response answers. */
static bool same_framing(const llhttp_t *parser, const struct head *head)
{
    bool chunked = head->first[FIELD_TRANSFER_ENCODING];
    bool sized = head->first[FIELD_CONTENT_LENGTH];
    if (!(parser->flags & F_CHUNKED) != !chunked || !(parser->flags & F_CONTENT_LENGTH) != !sized)
        return false;
    return !head->has_content_length || parser->content_length == head->content_length;
}

bool opinion_agrees(const char *bytes, size_t len, const struct head *head, bool response)
{
    if (!response && head->method_id == METHOD_OTHER)
        return true;
    llhttp_t parser;
    llhttp_init(&parser, response ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
    if (llhttp_execute(&parser, bytes, len) != HPE_PAUSED)
        return false;
    return same_first_line(&parser, head, response) && same_framing(&parser, head);
}
