/* balance.h - which peer of an upstream gets the next attempt.
 *
 * two_choices  of two random peers the one with fewer requests in flight, over
 *              all workers and per weight; on a tie rather the one with the lower
 *              latency, by lot
 * round_robin  smooth and weighted
 * hash         the same key meets the same peer, and when a peer comes or goes
 *              only its share of the keys moves; a peer above its bound of load
 *              passes keys on to the next
 *
 * Peers that are drained, down or ejected are left out. One whose ejection is
 * over is preferred once, as a probe, by a request that can be tried elsewhere.
 * When none is left, those that are down or ejected are tried all the same.
 *
 * Sources: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"
 *          (2001); nginx, ngx_http_upstream_round_robin.c (smooth weighted);
 *          Thaler and Ravishankar (1998) and Schindelhauer and Schomaker (2005),
 *          weighted rendezvous hashing; Mirrokni, Thorup and Zadimoghaddam,
 *          "Consistent Hashing with Bounded Loads" (2016).
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "proxy/parts.h"

struct balance_choice {
    struct peer *const *tried; /* not again */
    unsigned tried_count;
    struct str key;    /* of BALANCE_HASH; p NULL: as two_choices */
    bool may_probe;    /* the request can be tried elsewhere */
};

/* NULL when no peer is left. *probe: the peer is ejected, so the outcome decides
 * whether it comes back. */
struct peer *balance_choose(struct upstream *u, const struct balance_choice *choice, bool *probe);
