// SPDX-License-Identifier: MIT
#include "watch/watch.h"

#include <math.h>

#define X(id, name, unit, scale, low, floor, doc) {name, unit, scale, low, floor, doc},
static const struct signal_info route_infos[] = {ROUTE_SIGNAL_LIST(X)};
static const struct signal_info host_infos[] = {HOST_SIGNAL_LIST(X)};
static const struct signal_info pool_infos[] = {POOL_SIGNAL_LIST(X)};
#undef X

unsigned watch_signals(enum watch_kind kind)
{
    return kind == WATCH_HOST ? HOST_SIGNALS : kind == WATCH_ROUTE ? ROUTE_SIGNALS : POOL_SIGNALS;
}

struct signal_info watch_signal(enum watch_kind kind, unsigned i)
{
    if (kind == WATCH_HOST)
        return host_infos[i];
    if (kind == WATCH_POOL)
        return pool_infos[i];
    if (i < ROUTE_PHASES)
        return route_infos[i];
    return (struct signal_info){phase_name((enum phase)(i - ROUTE_PHASES)), "ms", SCALE_LOG, 0.05, 0.15,
                                "time of this phase, per request of the route"};
}

bool watch_accumulates(enum watch_kind kind, unsigned i)
{
    return kind == WATCH_HOST && (i == HOST_RSS_BYTES || i == HOST_LUA_BYTES || i == HOST_MEMORY_SHARE || i == HOST_DISK_SHARE);
}

double watch_value(enum watch_kind kind, unsigned i, double scaled)
{
    struct signal_info info = watch_signal(kind, i);
    double value = info.scale == SCALE_LOG ? exp(scaled) - info.low : scaled;
    return info.scale == SCALE_LOG && value < 0 ? 0 : value;
}
