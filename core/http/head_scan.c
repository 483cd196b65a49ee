/* head_scan.c - where a head ends, and whether its lines are sound.
 *
 * Line structure is judged with priority over everything else, so that a head
 * gets the same verdict whether it arrived in one piece (head_parse_*) or byte
 * by byte (head_hopeless).
 */
// SPDX-License-Identifier: MIT
#include "http/head_parts.h"

enum { EMPTY_LINES_BYTES = 4 }; /* two CRLF before a request line */

size_t head_empty_lines(const char *bytes, size_t len)
{
    size_t at = 0;
    while (at < EMPTY_LINES_BYTES && len - at >= 2 && memcmp(bytes + at, "\r\n", 2) == 0)
        at += 2;
    return at;
}

size_t head_end(const char *bytes, size_t len, size_t seen)
{
    size_t start = head_empty_lines(bytes, len);
    if (seen > start + 3)
        start = seen - 3;
    const char *end = bytes + len;
    for (const char *p = bytes + start; end - p >= 4; p++) {
        p = memchr(p, '\r', (size_t)(end - p) - 3);
        if (!p)
            return 0;
        if (memcmp(p, "\r\n\r\n", 4) == 0)
            return (size_t)(p - bytes) + 4;
    }
    return 0;
}

/* Judges the byte at `at` by its neighbours; a final CR gets the benefit of
 * the doubt. */
static bool byte_sound(const char *bytes, size_t len, size_t at, size_t first_line,
                       struct head_refusal *refusal)
{
    switch (bytes[at]) {
    case '\0':
        return head_refuse(refusal, 400, "the head contains a NUL byte", "9110 5.5");
    case '\r':
        if (at + 1 < len && bytes[at + 1] != '\n')
            return head_refuse(refusal, 400, "the head contains a CR without LF", "9112 2.2");
        return true;
    case '\n':
        if (at == 0 || bytes[at - 1] != '\r')
            return head_refuse(refusal, 400, "a line ends in LF without CR", "9112 2.2");
        return true;
    case ' ':
    case '\t':
        if (at == first_line || (at > 0 && bytes[at - 1] == '\n'))
            return head_refuse(refusal, 400, "a line begins with whitespace", "9112 5.2");
        return true;
    default:
        return true;
    }
}

bool head_lines_sound(const char *bytes, size_t len, size_t from, struct head_refusal *refusal)
{
    size_t first_line = head_empty_lines(bytes, len);
    for (size_t at = from; at < len; at++)
        if (bytes[at] <= ' ' && !byte_sound(bytes, len, at, first_line, refusal))
            return false;
    if (first_line == EMPTY_LINES_BYTES && len >= first_line + 2 &&
        memcmp(bytes + first_line, "\r\n", 2) == 0)
        return head_refuse(refusal, 400, "too many empty lines before the message", "9112 2.2");
    return true;
}

/* Length of the request target as far as these bytes show it. */
static size_t target_len(const char *bytes, size_t len)
{
    size_t first_line = head_empty_lines(bytes, len);
    struct str line = {bytes + first_line, len - first_line};
    if (str_starts(line, STR("HTTP/")))
        return 0; /* a status line */
    const char *end = memchr(line.p, '\r', line.len);
    if (end)
        line.len = (size_t)(end - line.p);
    const char *space = memchr(line.p, ' ', line.len);
    if (!space)
        return 0;
    struct str target = {space + 1, line.len - (size_t)(space + 1 - line.p)};
    end = memchr(target.p, ' ', target.len);
    return end ? (size_t)(end - target.p) : target.len;
}

bool head_too_long(const char *bytes, size_t len, const struct head_limits *limits,
                   struct head_refusal *refusal)
{
    if (target_len(bytes, len) > limits->target_bytes)
        return head_refuse(refusal, 414, "the request target is too long", "9110 15.5.15");
    return head_refuse(refusal, 431, "the head is too long", "6585 5");
}

bool head_hopeless(const char *bytes, size_t len, size_t seen, const struct head_limits *limits,
                   struct head_refusal *refusal)
{
    size_t judged = len < limits->head_bytes ? len : limits->head_bytes;
    /* the last byte seen may have been a CR that waited for its LF */
    if (!head_lines_sound(bytes, judged, seen ? seen - 1 : 0, refusal))
        return true;
    return len >= limits->head_bytes && !head_too_long(bytes, judged, limits, refusal);
}
