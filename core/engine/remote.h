/* remote.h - one blocking request to the control API of a running engine.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"

struct remote {
    const char *address; /* HOST:PORT */
    const char *token;   /* "": none */
};

/* The address that the engine of a state folder has written down (ports.json). */
bool remote_address(const char *state, char *out, size_t size);

/* Sends a request (body.p NULL: without a body) and appends the whole answer, head included. */
bool remote_ask(const struct remote *to, const char *method, const char *path, struct str body, struct buf *answer);

/* Appends a file of at most so many bytes. False with errno. */
bool remote_read_file(const char *path, size_t most, struct buf *out);
