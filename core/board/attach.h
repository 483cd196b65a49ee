/* attach.h - how the segment gets from a running engine to a process that is not its child.
 *
 *     application                engine
 *        connect() to <state>/perilune.sock
 *                    <---------- hello + the segment's descriptor (SCM_RIGHTS), then end of file
 *        same layout? map it, claim a lane (guests.h)
 *
 * The socket is the engine user's alone: who may map the segment could as well stop the engine.
 * Both sides are built from the same headers or part: the hello has a fingerprint of the layout.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

enum { ATTACH_VERSION = 24, ATTACH_ADDRESS = 80, ATTACH_WHY = 300 };
static const uint64_t ATTACH_ALIVE_NS = 5000000000U; /* no process of it has turned its loop for so long: it has ended */

struct attach_hello {
    char magic[8];
    uint64_t layout;     /* board_layout() of the engine */
    uint64_t size_bytes; /* of the segment */
    char version[ATTACH_VERSION];
    char admin[ATTACH_ADDRESS]; /* address of the control API */
};

/* Says hello on a connection and hands the descriptor over. False when the peer has gone. */
bool attach_send(int socket, struct board *board, const char *admin);

struct attached {
    struct board *board;
    int fd;    /* a description of our own, which holds the lane's lock */
    int lane;
    struct attach_hello hello;
};

/* Maps the board of the engine behind a socket and claims a lane. Waits for at most a second.
 * False: `why` says what to do. */
bool attach_open(const char *path, struct attached *out, char why[ATTACH_WHY]);

/* Whether the engine behind it lives: one of its processes has turned its loop lately. */
bool attach_alive(const struct attached *a, uint64_t now_ns);

/* Takes another lane after a fork: the old one is the parent's. False: all are taken. */
bool attach_again(struct attached *a);

void attach_close(struct attached *a);
