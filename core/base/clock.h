/* clock.h - the clocks. Everything below the engine takes time as `now`.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void) /* CLOCK_MONOTONIC */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}
uint64_t clock_unix_ms(void); /* CLOCK_REALTIME */
double clock_cpu_ms(void);     /* of the calling thread */
uint64_t clock_unix_ns(void);

enum { CLOCK_TEXT = 32 };

/* RFC 3339 in UTC with milliseconds: "2026-01-02T03:04:05.678Z". */
void clock_rfc3339(uint64_t unix_ms, char out[CLOCK_TEXT]);

/* RFC 9110 5.6.7 IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT" (29 bytes). */
void clock_http_date(uint64_t unix_ms, char out[CLOCK_TEXT]);
