// SPDX-License-Identifier: MIT
#include "stats/counters.h"

const struct counter_info counter_infos[COUNTER_COUNT] = {
#define X(id, name, doc) [COUNTER_##id] = {name, doc},
    COUNTER_LIST(X)
#undef X
};
