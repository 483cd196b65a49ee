/* tls.h - TLS 1.2 and 1.3 below a stream, by OpenSSL.
 *
 * A context holds what connections share: certificates chosen by name (SNI,
 * RFC 6066 3), ALPN, ticket keys, what to trust. A session is one connection's.
 * It does no input or output: bytes go in and come out, so that everything that
 * is said in one event still leaves in one write.
 *
 * A context is never changed; new certificates are a new context, and sessions
 * keep the one they began with alive.
 *
 * Owner:   counted references. Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"

#include <stdatomic.h>

struct tls_context;
struct tls;

enum {
    TLS_CERTIFICATES_MAX = 64,
    TLS_TICKET_KEYS = 3,
    TLS_WHY = 512, /* room for a message */
};

/* Keys that session tickets are sealed with (RFC 5077 4), shared by all workers.
 * The newest seals, all of them open. Lives on the board; one writer rotates. */
struct tls_ticket_key {
    unsigned char name[16], cipher[32], mac[32];
};
struct tls_tickets {
    _Atomic uint32_t newest; /* index; a key is whole before it becomes the newest */
    _Atomic uint64_t rotated_ms; /* unix time */
    struct tls_ticket_key keys[TLS_TICKET_KEYS];
};

/* Fills all keys anew. False without randomness. */
bool tls_tickets_init(struct tls_tickets *tickets, uint64_t unix_ms);

/* Makes a new newest key; the oldest one is forgotten. */
void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t unix_ms);

struct tls_files {
    const char *certificate; /* PEM: the certificate and what leads to its root */
    const char *key;         /* PEM */
};

struct tls_server_opts {
    const struct tls_files *files; /* the first is for names that no other has */
    size_t count;
    bool require_1_3;            /* nothing below TLS 1.3 */
    struct tls_tickets *tickets; /* NULL: none are given out */
};

struct tls_client_opts {
    const char *ca_file;   /* PEM of what to trust; NULL: the system's */
    struct tls_files own;  /* for peers that want a certificate; NULLs: none */
    bool no_verify;
};

/* A context, or NULL and in `why` what is wrong with which file and how to mend
 * it. `warning` (TLS_WHY bytes, or NULL) gets what is suspicious but works: a
 * certificate that is out of date or names nobody. */
struct tls_context *tls_server_context(const struct tls_server_opts *opts, char *why, char *warning);
struct tls_context *tls_client_context(const struct tls_client_opts *opts, char *why);
struct tls_context *tls_context_retain(struct tls_context *context);
void tls_context_release(struct tls_context *context);

/* A session. Of a client: `name` is sent as SNI and must be in the certificate;
 * an IP address is compared as one. NULL without memory. */
struct tls *tls_new(struct tls_context *context, const char *name);
void tls_free(struct tls *tls);

enum tls_state { TLS_SHAKING, TLS_OPEN, TLS_ENDED, TLS_FAILED };

/* Takes ciphertext from the peer; appends plaintext to `plain` and what must be
 * answered to `wire`. Returns the state; TLS_ENDED: the peer has closed in order. */
enum tls_state tls_receive(struct tls *tls, struct str cipher, struct buf *plain, struct buf *wire);

/* Seals plaintext into `wire`; only when TLS_OPEN. False: the session is broken. */
bool tls_seal(struct tls *tls, struct str plain, struct buf *wire);

/* Says that nothing more will come (close_notify, RFC 8446 6.1). */
void tls_end(struct tls *tls, struct buf *wire);

enum tls_state tls_state(const struct tls *tls);

/* Why it failed, for a person; "" when it has not. */
const char *tls_trouble(const struct tls *tls);

/* The peer spoke HTTP without TLS. */
bool tls_got_plain_http(const struct tls *tls);

/* "TLSv1.3". */
const char *tls_version(const struct tls *tls);
bool tls_resumed(const struct tls *tls);
