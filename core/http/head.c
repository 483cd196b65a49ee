/* head.c - the first line of a message, and the order in which a head is judged.
 *
 *     too long > first line > fields > Host > Connection > framing
 *
 * Each step may refuse. Broken line structure (head_scan.c) beats any other
 * reason, so it is looked for again when a step refused: the common case, a
 * sound head, is read once.
 */
// SPDX-License-Identifier: MIT
#include "http/head_parts.h"

enum http_method head_method_id(struct str method)
{
#define IS(name) (memcmp(method.p, name, sizeof name - 1) == 0)
    switch (method.len) {
    case 3:
        return IS("GET") ? METHOD_GET : IS("PUT") ? METHOD_PUT : METHOD_OTHER;
    case 4:
        return IS("POST") ? METHOD_POST : IS("HEAD") ? METHOD_HEAD : METHOD_OTHER;
    case 5:
        return IS("PATCH") ? METHOD_PATCH : IS("TRACE") ? METHOD_TRACE : METHOD_OTHER;
    case 6:
        return IS("DELETE") ? METHOD_DELETE : METHOD_OTHER;
    case 7:
        return IS("OPTIONS") ? METHOD_OPTIONS : IS("CONNECT") ? METHOD_CONNECT : METHOD_OTHER;
    default:
        return METHOD_OTHER;
    }
#undef IS
}

static bool read_method(struct head_cursor *c)
{
    struct head *out = c->out;
    const char *p = c->p;
    while (head_class(*p, CLASS_TOKEN))
        p++;
    out->method = (struct str){c->p, (size_t)(p - c->p)};
    if (out->method.len == 0 || *p != ' ')
        return head_refuse(c->refusal, 400,
                           "the request line does not begin with a method and a space", "9112 3");
    c->p = p + 1;
    out->method_id = head_method_id(out->method);
    if (out->method_id == METHOD_CONNECT || out->method_id == METHOD_TRACE)
        return head_refuse(c->refusal, 405, "CONNECT and TRACE are not served", "9110 9.3");
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads "HTTP/1.x". False on anything else; `status` is then 505 for another
 * version in the right form and 400 otherwise. */
static bool read_version(struct head_cursor *c, int *status)
{
    const char *p = c->p;
    *status = 400;
    if (c->end - p < 10 || memcmp(p, "HTTP/", 5) != 0 || !is_digit(p[5]) || p[6] != '.' ||
        !is_digit(p[7]))
        return false;
    if (p[5] != '1' || p[7] > '1') {
        *status = p[8] == '\r' || p[8] == ' ' ? 505 : 400;
        return false;
    }
    c->out->minor = (unsigned)(p[7] - '0');
    c->p = p + 8;
    return true;
}

static bool read_line_end(struct head_cursor *c)
{
    if (c->p[0] != '\r' || c->p[1] != '\n')
        return head_refuse(c->refusal, 400, "the first line does not end where it should",
                           "9112 2.2");
    c->p += 2;
    return true;
}

static bool read_request_line(struct head_cursor *c)
{
    int status;
    if (!read_method(c) || !head_read_target(c))
        return false;
    if (!read_version(c, &status))
        return status == 505 ? head_refuse(c->refusal, 505,
                                           "the version is not HTTP/1.0 or HTTP/1.1", "9110 2.5")
                             : head_refuse(c->refusal, 400,
                                           "the request line does not end in a version", "9112 3");
    return read_line_end(c) && head_judge_target(c);
}

static bool read_reason(struct head_cursor *c)
{
    if (*c->p == ' ') {
        c->out->reason.p = ++c->p;
        while (!head_class(*c->p, CLASS_CONTROL))
            c->p++;
        c->out->reason.len = (size_t)(c->p - c->out->reason.p);
    }
    return read_line_end(c);
}

static bool read_status_line(struct head_cursor *c)
{
    int status;
    if (!read_version(c, &status))
        return head_refuse(c->refusal, 502, "the status line is not HTTP/1.0 or HTTP/1.1",
                           "9112 4");
    const char *p = c->p;
    if (c->end - p < 6 || p[0] != ' ' || p[1] < '1' || p[1] > '5' || !is_digit(p[2]) ||
        !is_digit(p[3]))
        return head_refuse(c->refusal, 502, "the status is not three digits from 100 to 599",
                           "9112 4");
    c->out->status = (p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0');
    c->p = p + 4;
    return read_reason(c);
}

/* Makes ready to read; refuses what is too long or not a whole head. */
static bool start(struct head_cursor *c, const char *bytes, size_t len)
{
    memset(c->out, 0, offsetof(struct head, fields));
    if (len > c->limits->head_bytes)
        return head_too_long(bytes, c->limits->head_bytes, c->limits, c->refusal);
    if (len < 4 || memcmp(bytes + len - 4, "\r\n\r\n", 4) != 0)
        return head_refuse(c->refusal, 400, "the head does not end in an empty line", "9112 2.1");
    return true;
}

static void prefer_broken_lines(const struct head_cursor *c, const char *bytes, size_t len)
{
    if (len > c->limits->head_bytes)
        len = c->limits->head_bytes;
    head_lines_sound(bytes, len, 0, c->refusal);
}

bool head_parse_request(const char *bytes, size_t len, const struct head_limits *limits,
                        struct head *out, struct head_refusal *refusal)
{
    struct head_cursor c = {.p = bytes + head_empty_lines(bytes, len),
                            .end = bytes + len,
                            .limits = limits,
                            .out = out,
                            .refusal = refusal};
    if (start(&c, bytes, len) && read_request_line(&c) && head_read_fields(&c) &&
        head_judge_host(&c) && head_judge_connection(&c) && head_frame_request(&c))
        return true;
    prefer_broken_lines(&c, bytes, len);
    return false;
}

bool head_parse_response(const char *bytes, size_t len, const struct head_limits *limits,
                         enum http_method request_method, struct head *out,
                         struct head_refusal *refusal)
{
    struct head_cursor c = {
        .p = bytes, .end = bytes + len, .limits = limits, .out = out, .refusal = refusal};
    if (start(&c, bytes, len) && read_status_line(&c) && head_read_fields(&c) &&
        head_judge_connection(&c) && head_frame_response(&c, request_method))
        return true;
    prefer_broken_lines(&c, bytes, len);
    refusal->status = 502;
    return false;
}
