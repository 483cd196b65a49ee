/* remote.h - spans of this process for an engine on another machine.
 *
 *     recorder > lane of a private board > once a second a parcel (stats/parcel.h) > POST to its control API
 *
 * A thread of its own sends, so that the host never waits for the network. While the engine is away nothing is lost but
 * the traces of older slow requests: a parcel that was not answered is sent again as it is, and the next one has all that came
 * meanwhile. A child of a fork sends for itself, from nothing on.
 *
 * Owner:   the engine object of the application; ends with remote_close().
 * Threads: one at a time.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

enum { REMOTE_WHY = 400, REMOTE_ADDRESS = 280 };

struct remote;

/* Where an engine's control API is: "http://host:port". Sends an empty parcel first, and waits for its answer for a second or
 * two; not so if `lazy`, for hosts that must not wait. NULL: `why` says what to do. `token`: NULL, or one of at least the role
 * operate. */
struct remote *remote_open(const char *url, const char *token, unsigned routes_max, bool lazy, char why[REMOTE_WHY]);

/* What has not been sent yet is sent once more, within a second or two. */
void remote_close(struct remote *r);

struct board *remote_board(struct remote *r);
const char *remote_address(const struct remote *r); /* "host:port" */

/* Whether the last parcel was taken; if not, why. */
bool remote_state(struct remote *r, char why[REMOTE_WHY]);

/* In the child of a fork, before its first span: for recorder.on_fork. */
void remote_after_fork(void *remote);
