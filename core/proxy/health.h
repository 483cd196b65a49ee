/* health.h - looks after the peers of upstreams; in one process only (control).
 *
 * Active: asks each peer of an upstream with a health path in its interval;
 * some bad answers in a row take it out, some good ones bring it back.
 * Passive: compares the peers of an upstream now and then by what all workers
 * have counted, and ejects one that fails or dawdles where the others do not.
 * Failures in a row are the workers' own business (peer.c). All results are on
 * the board.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "proxy/upstream.h"

/* Does what is due for one upstream; called each tick for each upstream in force. */
void health_watch(struct upstream *u);

/* Gives up the checks under way. */
void health_stop(struct upstreams *all);
