/* websocket.h - judges the two sides of a WebSocket handshake.
 *
 * Nothing but a handshake that is valid on both sides opens a tunnel: a proxy
 * that believes in a half of one can be made to pass requests unseen.
 *
 * Source:  RFC 6455 4.1 and 4.2, RFC 9110 7.8.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/head.h"

enum { WEBSOCKET_KEY = 25 }; /* 24 characters and a NUL */

/* Whether a request asks for a WebSocket and nothing else. Other upgrades (h2c)
 * are not passed on: such a request goes its way as plain HTTP/1.1. */
bool websocket_is_asked(const struct head *request);

struct websocket_refusal {
    int status;         /* 400, or 426: then Sec-WebSocket-Version tells which we know */
    const char *detail;
};

/* The key of a request that asks for one, or p == NULL and why not. */
struct str websocket_key(const struct head *request, struct websocket_refusal *refusal);

/* Whether a 101 answers that key. */
bool websocket_is_accepted(const struct head *response, const char *key);
