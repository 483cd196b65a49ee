/* vary.h - which request fields an answer depends on, and their values.
 *
 * Accept-Encoding is reduced to the set of codings the client takes, so that
 * clients who differ in spelling share an entry (RFC 9111 4.1).
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "http/head.h"

enum { VARY_NAMES_MAX = 16 };

enum coding { CODING_GZIP = 1, CODING_BR = 2, CODING_ZSTD = 4, CODING_DEFLATE = 8 };

/* Adds the names of Vary values (joined by commas) to *out: lower case,
 * sorted, each once, joined by ','. False: "*", no token, or too many names. */
bool vary_names(struct str value, struct buf *out);

/* The codings that an Accept-Encoding value allows, a set of enum coding. */
unsigned vary_codings(struct str accept_encoding);

/* Appends "name:value\n" for each of `names` (as vary_names() wrote them). */
void vary_values(const struct head *head, struct str names, struct buf *out);

/* Appends the value of one field, its lines joined by ", ". */
void vary_value(const struct head *head, struct str name, struct buf *out);
