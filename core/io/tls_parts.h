/* tls_parts.h - inside of TLS: what a context holds, for tls.c and tls_context.c only. */
// SPDX-License-Identifier: MIT
#pragma once

#include "io/tls.h"

#include <openssl/ssl.h>

struct tls_context {
    unsigned references;
    bool is_server;
    SSL_CTX *ctx[TLS_CERTIFICATES_MAX]; /* by certificate; a client has one */
    size_t count;
    struct tls_tickets *tickets;
};
