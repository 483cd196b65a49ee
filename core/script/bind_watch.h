/* bind_watch.h - what is watched and how it is, as Lua tables.
 *
 *     watch.things()    list of { kind = "host"|"route"|"pool", name, method, index, samples,
 *                       learnt, needed, knows, requests, span_s, at_ms, errors (of a route, see watch.h),
 *                       now = { signal = value }, usual = { signal = median },
 *                       moved = { signal = { direction, since_ms, spreads, p } },
 *                       company = { severity, p, channel = "edge"|"shift"|"pattern", unusual, since_ms,
 *                       samples, learnt, needed, signals = { { name, share } } }, held_ms }
 *     watch.signals()   list of { kind, name, unit, scale, doc }
 *     watch.cost()      { bytes, company_bytes, companies, fits, fit_ms, ticks, tick_ms, mean_ms }
 *     watch.span(routes or nil, from_ms, to_ms, arm or nil)   { span_s, requests, errors, cpu_share, and with requests
 *                       rps, error_rate, mean_ms, p50_ms, p95_ms, p99_ms, bytes_out, phases in ms }; arm: "canary" or
 *                       "control", nil when they are not measured apart (core/stats/arms.h)
 *     watch.series(route or nil, from_ms, to_ms, step_s, slow_ms or nil)   columns of the history; with slow_ms
 *                       also "slow": requests that took longer
 *
 * `now` is over the last four samples, in the units of the registry; a signal that has
 * no value is absent. `company` is absent for all but the busiest routes (watch/companies.h); severity, p
 * and channel until it has learnt, since_ms and samples unless it is unusual, held_ms unless an experiment ran.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/arms.h"
#include "watch/watch.h"

#include <lua.h>

/* Sets the field `signals` of the table on top, watch.signals() for those that watch nothing. */
void bind_watch_signals(lua_State *L);

/* Sets the field `watch` of the table on top. All must outlive the state; without arms there are none. */
void bind_watch_open(lua_State *L, struct watch *watch, struct board *board, struct history *history, struct arms *arms);
