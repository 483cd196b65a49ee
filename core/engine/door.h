/* door.h - where applications attach: <state>/perilune.sock, or the configuration's `attach`; see board/attach.h.
 *
 * Owner:   control. Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/engine.h"
#include "io/io.h"

struct door;

/* Opens the socket. NULL when there can be none (the path is too long, no guests are wanted): the log says why. */
struct door *door_open(struct io *io, struct engine *engine);

/* About once a second. */
void door_tick(struct door *d);

/* Closes it; the memory goes with the loop. */
void door_close(struct door *d);
