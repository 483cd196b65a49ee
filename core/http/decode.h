/* decode.h - takes the content coding off a request body before its reader sees
 * it: handler and upstream get plain bytes, and a head that speaks of those.
 *
 * A kilobyte can decode to a gigabyte, so the plain body is bounded like any
 * other (server.body_bytes) and by its ratio (compression.decode_ratio), and is
 * made piece by piece as its reader takes it.
 *
 * Sources: RFC 9110 8.4, 15.5.16; RFC 7694.
 * Owner:   the exchange.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/server.h"

enum { DECODE_PIECE = 4096 }; /* coded bytes at a time */

/* To be called before the body is read. False: answered, since the coding is
 * none that is known (415) or memory is short (503). */
bool decode_request(struct exchange *ex);

/* The next coded bytes to plain ones, valid until the next call; `end`: they are
 * the last. Returns 0, or what to refuse with, and why in *what. */
int decode_piece(struct exchange *ex, struct str bytes, bool end, struct str *plain, const char **what);
