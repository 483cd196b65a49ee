/* head.h - reads and judges the head of an HTTP/1 message.
 *
 * A head is judged as a whole, before any other parser sees it: what is
 * malformed or ambiguous is refused here with the reason, so nothing behind
 * this file ever meets it. llhttp then reads the same bytes as a second
 * opinion; where the two disagree the message is refused as well.
 *
 *     bytes > head_end() > head_parse_request() / head_parse_response()
 *           > framing decided here > body.h reads what follows
 *
 * Views in the result point into the given bytes, which must outlive it.
 *
 * Sources: RFC 9112 (syntax, framing), RFC 9110 (fields), RFC 3986 (target).
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { HEAD_FIELDS_MAX = 100 };

/* Fields that the engine itself looks at; the rest are FIELD_OTHER. */
#define HEAD_FIELD_LIST(X)                                                     \
    X(HOST, "host")                                                            \
    X(CONTENT_LENGTH, "content-length")                                        \
    X(TRANSFER_ENCODING, "transfer-encoding")                                  \
    X(CONNECTION, "connection")                                                \
    X(KEEP_ALIVE, "keep-alive")                                                \
    X(PROXY_CONNECTION, "proxy-connection")                                    \
    X(TE, "te")                                                                \
    X(TRAILER, "trailer")                                                      \
    X(UPGRADE, "upgrade")                                                      \
    X(EXPECT, "expect")                                                        \
    X(DATE, "date")                                                            \
    X(SERVER, "server")                                                        \
    X(CONTENT_TYPE, "content-type")                                            \
    X(CONTENT_ENCODING, "content-encoding")                                    \
    X(SERVER_TIMING, "server-timing")                                          \
    X(TRACEPARENT, "traceparent")                                              \
    X(FORWARDED, "forwarded")                                                  \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                      \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")                                  \
    X(X_FORWARDED_HOST, "x-forwarded-host")                                    \
    X(X_REAL_IP, "x-real-ip")                                                  \
    X(COOKIE, "cookie")                                                        \
    X(AUTHORIZATION, "authorization")                                          \
    X(PROXY_AUTHENTICATE, "proxy-authenticate")                                \
    X(PROXY_AUTHORIZATION, "proxy-authorization")                              \
    X(ACCEPT_ENCODING, "accept-encoding")

enum head_field_id {
    FIELD_OTHER = 0,
#define X(id, name) FIELD_##id,
    HEAD_FIELD_LIST(X)
#undef X
        FIELD_COUNT
};

enum http_method {
    METHOD_OTHER = 0, /* a valid token that is none of these */
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_PATCH,
    METHOD_CONNECT, /* always refused: 405 */
    METHOD_TRACE,   /* always refused: 405 */
};

enum http_framing {
    FRAMING_NONE,    /* no body */
    FRAMING_FIXED,   /* content_length bytes follow; 0 is FRAMING_NONE */
    FRAMING_CHUNKED, /* chunks follow */
    FRAMING_EOF,     /* responses only: the body ends with the connection */
};

struct head_field {
    struct str name;  /* as sent; compare with str_iequal or by id */
    struct str value; /* trimmed; no CR, LF, NUL or other control but HTAB */
    enum head_field_id id;
    bool nominated; /* named in Connection, hence hop-by-hop */
};

struct head {
    /* request */
    struct str method;
    enum http_method method_id;
    struct str target; /* as sent: origin-form, absolute-form or "*" */
    struct str path;   /* of the target, raw, begins with '/'; "*" for OPTIONS *; a
                        * constant where an absolute-form has none */
    struct str query;  /* behind '?', raw; p is NULL when there is no '?' */
    struct str host;   /* effective authority: absolute-form's wins over Host */
    bool expect_continue; /* HTTP/1.1 with a body to come */

    /* response */
    int status;
    struct str reason;

    /* both */
    unsigned minor; /* HTTP/1.minor: 0 or 1 */
    bool keep_alive; /* what version and Connection ask for; false with FRAMING_EOF */
    bool upgrade;    /* has an Upgrade field and Connection: upgrade, in HTTP/1.1 */
    enum http_framing framing;
    bool has_content_length; /* a HEAD or 304 answer may carry one, unframed */
    uint64_t content_length;
    unsigned field_count;
    unsigned char first[FIELD_COUNT]; /* 1 + index of the first such field, 0: none */
    struct head_field fields[HEAD_FIELDS_MAX];
};

struct head_limits {
    size_t head_bytes;   /* whole head; above: 431 */
    size_t target_bytes; /* request target; above: 414 */
    unsigned fields;     /* number of fields, up to HEAD_FIELDS_MAX; above: 431 */
};

struct head_refusal {
    int status;       /* to answer with: 400, 405, 414, 417, 431, 501, 505 */
    const char *what; /* one plain sentence without a byte of the input */
    const char *rfc;  /* "9112 6.3" */
};

/* Looks for the end of a head in bytes[0..len). `seen` is how many of them an
 * earlier call has looked at already (0 at first), so that feeding byte by
 * byte stays O(n). Returns the length of the head with its empty line; 0 when
 * it is incomplete. A bare LF, bare CR, NUL or leading whitespace line is not
 * an end; head_parse_* or head_hopeless() refuses it. */
size_t head_end(const char *bytes, size_t len, size_t seen);

/* Whether an incomplete head can be refused already (a bare LF or CR, a NUL,
 * too long), so that a bad peer does not wait for the deadline. True fills
 * *refusal. Judges all that head_parse_* would refuse about the bytes' line
 * structure, nothing else. `seen` as in head_end(). */
bool head_hopeless(const char *bytes, size_t len, size_t seen,
                   const struct head_limits *limits, struct head_refusal *refusal);

/* Reads a whole request head as delimited by head_end(). True fills *out,
 * false fills *refusal. Empty lines before the request line (at most 2 CRLF)
 * are skipped (RFC 9112 2.2). */
bool head_parse_request(const char *bytes, size_t len, const struct head_limits *limits,
                        struct head *out, struct head_refusal *refusal);

/* Reads a whole response head. `request_method` decides the framing (HEAD has
 * no body, RFC 9112 6.3). refusal->status is always 502. */
bool head_parse_response(const char *bytes, size_t len, const struct head_limits *limits,
                         enum http_method request_method, struct head *out,
                         struct head_refusal *refusal);

/* The value of the first field with this id, or p == NULL. */
static inline struct str head_get(const struct head *head, enum head_field_id id)
{
    unsigned at = head->first[id];
    return at ? head->fields[at - 1].value : (struct str){NULL, 0};
}

/* The same by name, any case; O(fields). */
struct str head_find(const struct head *head, struct str name);

/* Whether a hop-by-hop rule of RFC 9110 7.6.1 keeps this field from being
 * forwarded: Connection and what it nominates (but Host, Content-Length,
 * Transfer-Encoding, Cookie, Authorization, Forwarded, X-Real-IP and
 * X-Forwarded-* cannot be nominated away), Keep-Alive, Proxy-Connection, TE, Trailer,
 * Transfer-Encoding, Upgrade, Proxy-Authenticate, Proxy-Authorization. */
bool head_is_hop_by_hop(const struct head_field *field);

/* RFC 9110 5.6.2 token; RFC 9110 5.5 field value (no CR, LF, NUL, other controls). */
bool head_is_token(struct str s);
bool head_is_value(struct str s);

enum http_method head_method_id(struct str method);
const char *head_field_name(enum head_field_id id);
