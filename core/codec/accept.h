/* accept.h - Accept-Encoding: which codings a client takes, and how gladly.
 *
 * What cannot be read is left out, so a malformed element never makes a client
 * get what it may not understand; of two that name the same coding the lower
 * weight holds. No field at all means identity only: RFC 9110 would allow
 * anything, but those who do not send it are those who cannot decode.
 *
 * Source: RFC 9110 12.4.2 (weights), 12.5.3.
 * Threads: any; no state outside of the struct.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "codec/codec.h"

/* Zeroed before the first field is read. */
struct accept {
    uint16_t weight[CODEC_COUNT]; /* in thousandths, of the codings that are named */
    uint16_t any;                 /* of "*" */
    uint16_t named;               /* bit of each coding that has a weight */
    bool has_any;
};

/* Reads one field value; a message can have several. */
void accept_read(struct accept *a, struct str value);

/* In thousandths; 0: must not be sent. */
unsigned accept_weight(const struct accept *a, enum codec_id id);

/* Whether the client refuses the plain body, so that it wants any coding before none. */
bool accept_needs_coding(const struct accept *a);

/* The coding of the highest weight among `order`, the first of equals;
 * CODEC_IDENTITY when the client takes none, or likes the plain body better. */
enum codec_id accept_choose(const struct accept *a, const enum codec_id *order, unsigned count);
