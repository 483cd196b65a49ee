/* forward.h - the reverse proxy: an exchange answered by an upstream.
 *
 * Streams both ways with back-pressure, removes what belongs to one hop, sets
 * X-Forwarded-*, answers 502 or 504 as long as nothing has been sent, and cuts
 * the connection visibly after that. When the client goes, so does the call.
 *
 * Owner:   the exchange; it ends with it.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "proxy/call.h"

struct forward_opts {
    struct upstreams *all;
    struct upstream *upstream; /* held by the caller until the call begins */
    struct str target;     /* path and query to ask for */
    struct str host;       /* Host for the upstream; empty: the client's */
    uint64_t timeout_ms;   /* to the first byte; 0: the setting */
    bool buffer_request;   /* read the body before asking the upstream */
};

/* Starts forwarding; the answer comes by itself. Sets ex->user and ex->on_gone. */
void forward_start(struct exchange *ex, const struct forward_opts *opts);
