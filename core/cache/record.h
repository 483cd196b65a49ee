/* record.h - one stored answer as bytes: numbers, then its texts.
 *
 *     +---------+-----+------+------+---------------+------+------+------+
 *     | numbers | key | vary | etag | last-modified | tags | head | body |
 *     +---------+-----+------+------+---------------+------+------+------+
 *
 * `head` is the header lines as they go out, Date among them, without Age,
 * Content-Length and what belongs to one connection. A record of kind
 * RECORD_VARY has no answer: it names the fields that tell the variants of its
 * key apart; one of RECORD_CODED_BODY is the body of an answer in a content
 * coding. A checksum tells what a disk has damaged; the key as text tells
 * two keys with one hash apart.
 *
 * Owner:   whoever holds the bytes. Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "cache/facts.h"

enum { RECORD_MAGIC = 0x334c5250, RECORD_HEADERS_MAX = 128 };

enum record_kind { RECORD_ANSWER, RECORD_VARY, RECORD_CODED_BODY };

enum record_flag {
    RECORD_NEVER_STALE = 1,
    RECORD_ALWAYS_VALIDATE = 2,
    RECORD_CODED = 4,       /* has a Content-Encoding */
    RECORD_NO_TRANSFORM = 8,
};

struct record {
    uint32_t magic;
    uint32_t total_bytes; /* numbers included */
    uint64_t id;          /* given by the store; not part of the checksum */
    uint64_t checksum;    /* XXH3 of all behind this field */
    uint64_t requested_ms, responded_ms; /* unix time */
    uint64_t fresh_until_ms, stale_while_ms, stale_error_ms;
    uint64_t last_modified_ms; /* 0: none */
    uint64_t body_hash;        /* XXH3 of the body, filled in when written */
    uint32_t initial_age_s;
    uint32_t fetch_ms; /* what it took to get it, for early refresh */
    uint16_t kind, status, flags, reserved;
    uint32_t key_len, vary_len, etag_len, last_modified_len, tags_len, head_len, body_len;
    uint32_t reserved_too;
};

struct record_view {
    struct record r; /* copied: stored bytes are not aligned */
    struct str key, vary, etag, last_modified, tags, head, body;
    struct str bytes;
};

struct cache_key {
    uint64_t low, high; /* XXH3, 128 bit */
};

struct cache_key record_key(struct str text);

/* Takes stored bytes apart. False: they are no record, or not one of `key`. */
bool record_read(struct str bytes, struct str key, struct record_view *out);

/* Whether the checksum holds. */
bool record_is_sound(const struct record_view *v);

/* Writes a record from a view whose numbers and texts are set; lengths, magic
 * and checksum are filled in. False: out of memory or too large. */
bool record_write(const struct record_view *v, struct buf *out);

/* The header lines of a head block as views. Returns how many. */
size_t record_headers(struct str head, struct http_header *out, size_t max);
