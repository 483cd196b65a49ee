// SPDX-License-Identifier: MIT
#include "http/timing.h"

#include <arpa/inet.h>
#include <stdio.h>

/* RFC 1918, RFC 4193, loopback, link-local. */
static bool is_private(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET6, address, &v6) == 1) {
        if (!IN6_IS_ADDR_V4MAPPED(&v6))
            return IN6_IS_ADDR_LOOPBACK(&v6) || (v6.s6_addr[0] & 0xfe) == 0xfc || IN6_IS_ADDR_LINKLOCAL(&v6);
        memcpy(&v4, v6.s6_addr + 12, sizeof v4);
    } else if (inet_pton(AF_INET, address, &v4) != 1) {
        return false;
    }
    uint32_t a = ntohl(v4.s_addr);
    return a >> 24 == 127 || a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 || a >> 16 == 0xa9fe;
}

bool timing_may_know(const struct exchange *ex, uint64_t who)
{
    return who == TIMING_ALL || (who == TIMING_PRIVATE && is_private(exchange_peer(ex)));
}

char *timing_put(char *to, const struct exchange *ex, uint64_t now_ns)
{
    char *end = to + TIMING_ROOM;
    to += snprintf(to, (size_t)(end - to), "Server-Timing: total;dur=%.3f", (double)(now_ns - ex->started_ns) / 1e6);
    for (int i = 0; i < PHASE_COUNT; i++)
        if (ex->phase_ns[i])
            to += snprintf(to, (size_t)(end - to), ", %s;dur=%.3f", phase_name((enum phase)i), (double)ex->phase_ns[i] / 1e6);
    to += snprintf(to, (size_t)(end - to), "\r\n");
    return to;
}
