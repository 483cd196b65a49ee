/* head_parts.h - what the files that implement head.h share; nobody else includes it.
 *
 *     head_scan.c    where a head ends, and whether its lines are sound
 *     head.c         the first line, and the order of judgement
 *     head_target.c  request targets and authorities
 *     head_fields.c  field lines, names, Connection
 *     head_framing.c what follows the head
 *
 * All of them read without bounds checks: head.c makes sure first that the
 * bytes end in CRLF CRLF, and a CR stops every loop.
 *
 * Threads: any; no state but a thread's last good host name.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/head.h"

enum {
    CLASS_TOKEN = 1,   /* RFC 9110 5.6.2 tchar */
    CLASS_TARGET = 2,  /* visible ASCII but '#', '%', '?' and the backslash */
    CLASS_HOST = 4,    /* RFC 3986 3.2.2 reg-name but ',' and '%' */
    CLASS_CONTROL = 8, /* not allowed in a field value; HTAB is allowed */
    CLASS_HEX = 16,    /* hexadecimal digit */
};

extern const unsigned char head_classes[256];

static inline bool head_class(char c, unsigned classes)
{
    return head_classes[(unsigned char)c] & classes;
}

/* One reading of one head. */
struct head_cursor {
    const char *p;   /* next byte to read */
    const char *end; /* behind the final CRLF CRLF */
    const struct head_limits *limits;
    struct head *out;
    struct head_refusal *refusal;
    uint32_t repeated; /* bit per head_field_id: there is more than one */
};

static inline bool head_refuse(struct head_refusal *refusal, int status, const char *what,
                               const char *rfc)
{
    *refusal = (struct head_refusal){status, what, rfc};
    return false;
}

static inline bool head_repeats(const struct head_cursor *c, enum head_field_id id)
{
    return c->repeated >> id & 1;
}

/* head_scan.c */
size_t head_empty_lines(const char *bytes, size_t len); /* leading CRLFs, at most two, in bytes */
bool head_lines_sound(const char *bytes, size_t len, size_t from, struct head_refusal *refusal);
bool head_too_long(const char *bytes, size_t len, const struct head_limits *limits,
                   struct head_refusal *refusal); /* refuses: false */

/* head_target.c: reads up to the space behind the target; then, once method
 * and version are known, takes it apart. */
bool head_read_target(struct head_cursor *c);
bool head_judge_target(struct head_cursor *c);
bool head_judge_host(struct head_cursor *c);

/* head_fields.c */
bool head_read_fields(struct head_cursor *c);
bool head_judge_connection(struct head_cursor *c);

/* head_framing.c */
bool head_frame_request(struct head_cursor *c);
bool head_frame_response(struct head_cursor *c, enum http_method request_method);
