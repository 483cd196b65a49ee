/* resolver.h - addresses of host names, by DNS and the hosts file, with their TTL.
 *
 * getaddrinfo() tells no TTL and blocks a thread, so c-ares asks, on our loop.
 * A name that was resolved once is never waited for again: when its TTL is over
 * the old addresses serve until the new ones are there, and go on to serve when
 * the resolver fails.
 *
 * Owner:   struct upstreams; made when a first name needs it.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "io/io.h"

#include <stdbool.h>
#include <sys/socket.h>

enum { RESOLVED_MAX = 16 };

struct resolver;

/* `servers`: "HOST[:PORT],..." or "" for those of the system. NULL on failure. */
struct resolver *resolver_new(struct io *io, const char *servers, uint64_t timeout_ms);

/* Ends it; what is still asked for is told -1. */
void resolver_free(struct resolver *r);

/* Calls back, perhaps at once, with the addresses of one family and the shortest
 * TTL; count -1 and why when there are none. */
typedef void resolver_fn(void *arg, const struct sockaddr_storage *list, int count, uint64_t ttl_ms,
                         const char *why);
void resolver_ask(struct resolver *r, const char *host, uint16_t port, resolver_fn *fn, void *arg);
