/* body.h - reads the body of an HTTP/1 message, strictly, as it arrives.
 *
 * The caller feeds bytes; the reader hands back spans of payload that point
 * into them and stops at the end of the message, so what follows (the next
 * pipelined request) is never touched. No allocation, any cut of the input
 * gives the same payload.
 *
 * Refused in chunked framing (RFC 9112 7.1): a bare LF or CR anywhere, signs,
 * prefixes, blanks or more than 16 digits in a size, overflow, control bytes in
 * an extension, more than 4 KiB of extensions in one message, more bytes of
 * chunk overhead than payload beyond an allowance of 16 KiB, trailers over 8 KiB or
 * malformed. Trailers are judged and dropped.
 *
 * Owner:   a plain struct, no end needed.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/head.h"

struct body_reader {
    enum http_framing framing;
    uint64_t left;           /* payload bytes left in the body or chunk */
    uint64_t payload_bytes;  /* payload seen so far */
    uint64_t overhead_bytes; /* chunked: bytes that were not payload */
    uint32_t extension_bytes;
    uint32_t trailer_bytes;
    uint8_t state;     /* private */
    uint8_t digits;    /* private */
    bool done;         /* the message is complete */
    const char *error; /* why it was refused, or NULL */
};

void body_init(struct body_reader *r, enum http_framing framing, uint64_t content_length);

/* Takes bytes[0..len): returns how many it used (always at least 1 unless done
 * or failed) and sets *payload to the payload among them (possibly empty).
 * Call again with the rest until all is used, r->done or r->error. */
size_t body_feed(struct body_reader *r, const char *bytes, size_t len, struct str *payload);

/* The connection ended. True if that ends the body properly (FRAMING_EOF, or
 * already done); otherwise the body is truncated. */
bool body_eof(struct body_reader *r);
