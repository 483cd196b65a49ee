/* bind_counts.h - what requests were, counted: for whoever judges by counts rather than by what is usual.
 *
 *     core.counts.window(span_s)          { span_s, routes = { { name, method, route, index, requests, signal = value } } }
 *     core.counts.after(ms, bounds_ms)    { to_ms, routes = { { name, requests, errors, slow = { n } } } }
 *
 * A window has all signals of a route (watch/signals.h), over the last span_s seconds at once. after() is what
 * ended behind a time and by how many requests each bound was missed, so that none is counted twice.
 *
 * Threads: control's loop.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/history.h"

#include <lua.h>

/* Sets the field `counts` of the table on top. */
void bind_counts_open(lua_State *L, struct board *board, struct history *history);
