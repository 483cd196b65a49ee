/* generator.h - asks a server again and again, and measures without flattering it.
 *
 * Closed loop: each connection asks anew when it was answered; what the server takes
 * longer for is asked less often, so a stall hides all the requests that would have come
 * meanwhile. Open loop: requests come at times that nobody can delay, evenly or as a
 * Poisson process; one for which no connection is free waits, and its response time counts
 * from when it should have been sent. The service time counts from when it was sent; both
 * are kept whole, in sketches.
 *
 *     arrivals > waiting > connection: sent > answered (llhttp) > both sketches
 *
 * One read and one write a request: a connection stays registered for reading, edge
 * triggered, and is written to directly.
 *
 * Source:  Schroeder, Wierman, Harchol-Balter: Open versus closed, NSDI 2006; G. Tene on
 *          coordinated omission.
 * Owner:   the caller. Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "bench/blocks.h"
#include "stats/sketch.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>

enum { BENCH_CONNECTIONS = 4096 };

struct bench_request {
    struct str bytes; /* of the whole request, keep-alive */
    bool head;        /* it is a HEAD: its answer has no body */
};

struct bench_opts {
    struct sockaddr_storage address;
    socklen_t address_len;
    const struct bench_request *requests; /* sent by turns */
    size_t request_count;    /* at least 1 */
    struct str expect_body;  /* what each body has in it; empty: anything */
    unsigned connections;    /* 1 to BENCH_CONNECTIONS */
    double rate;             /* requests a second, open loop; 0: closed loop */
    bool poisson;            /* gaps of an open loop are exponential, not equal */
    double duration_s;       /* measured time, behind the warm-up; 0: until `iterations` */
    uint64_t iterations;     /* requests; 0: until duration_s */
    double warmup_s;         /* not counted */
    double timeout_s;        /* of one request; 0: 10 */
    uint64_t seed;
    int expect_status;       /* 0: any below 400 */
    volatile sig_atomic_t *stop; /* set: end early. May be NULL */
    struct bench_blocks *blocks; /* where response times go by their second, too; empty ones. May be NULL */
};

struct bench_result {
    uint64_t scheduled; /* open loop: should have been sent */
    uint64_t sent, answered, late /* sent more than 1 ms after its time */, dropped /* never sent */;
    uint64_t queued;  /* of those that were late: because no connection was free */
    uint64_t starved; /* of those that were dropped: for the same reason */
    uint64_t timeouts, refused /* connections */, broken /* connections or answers */;
    uint64_t status[6]; /* by hundreds; [0] others */
    uint64_t unexpected; /* status */
    int unexpected_status; /* the first of them; 0: none */
    uint64_t unmatched;  /* without expect_body in it, of those with the right status */
    uint64_t differing;  /* length of the body other than that of the first answer to the same request */
    uint64_t bytes;
    double seconds, cpu_s;
    uint64_t max_response_ns, max_service_ns;
    double response_sum_ns;
    uint32_t response[SKETCH_BUCKETS], service[SKETCH_BUCKETS];
    uint32_t half[2][SKETCH_BUCKETS]; /* response, by which half of the time it came in */
};

/* Runs to its end. False: no connection could be made, errno says why, or no memory. */
bool bench_run(const struct bench_opts *opts, struct bench_result *out);
