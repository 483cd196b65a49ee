// SPDX-License-Identifier: MIT
#include "proxy/server_timing.h"

#include "stats/lane.h"

static int phase_of(struct str name)
{
    static const enum phase taken[] = {PHASE_QUEUE, PHASE_LUA,   PHASE_POOL_WAIT, PHASE_DB,
                                       PHASE_REDIS, PHASE_TASK,  PHASE_CACHE,     PHASE_COMPRESS};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (str_iequal(name, str_from(phase_name(taken[i]))))
            return (int)taken[i];
    return -1;
}

void server_timing_read(struct str value, uint64_t *phase_ns)
{
    struct str metric, part;
    while (str_next(&value, ',', &metric)) {
        double ms = -1;
        if (!str_next(&metric, ';', &part))
            continue;
        int phase = phase_of(part);
        while (str_next(&metric, ';', &part))
            if (part.len > 4 && str_iequal((struct str){part.p, 4}, STR("dur="))) {
                struct str number = {part.p + 4, part.len - 4};
                char padded[32] = "0";
                if (number.p[0] == '.' && number.len < 30) { /* ".4" is usual here */
                    memcpy(padded + 1, number.p, number.len);
                    number = (struct str){padded, number.len + 1};
                }
                if (!str_to_double(number, &ms))
                    ms = -1;
            }
        if (phase >= 0 && ms > 0 && ms < 3600e3)
            phase_ns[phase] += (uint64_t)(ms * 1e6);
    }
}
