/* template.h - the route a path belongs to: "/users/123" is "/users/:id".
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { TEMPLATE_SIZE = 160 };

/* Writes the route of a path, cut to TEMPLATE_SIZE. Segments of digits, uuids and
 * hashes become ":id". */
struct str template_of(struct str path, char out[TEMPLATE_SIZE]);
