/* http_date.h - reads the three date forms of RFC 9110 5.6.7.
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

/* Unix time in ms. False: no date. A two-digit year more than 50 years ahead
 * of now_ms is of the last century. */
bool http_date_read(struct str text, uint64_t now_ms, uint64_t *out_ms);
