/* url.h - reads the URL of a peer or of a request.
 *
 * Source:  RFC 3986, the part of it that http:// and https:// need.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

struct url {
    struct str host; /* without brackets */
    uint16_t port;    /* 80 or 443 when none is written */
    bool is_tls;      /* https */
    struct str path;      /* behind the authority, with query; "" when there is none */
    struct str authority; /* "host:port" as written, for Host */
};

/* Reads "http://host[:port][/path]" or https. NULL, or what is wrong and how to fix it. */
const char *url_parse(struct str text, struct url *out);
