/* err.h - the one list of errors: code, name that Lua sees, text for people.
 *
 * Functions that can fail in several ways return 0 or one of these, negative.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#define ERR_LIST(X)                                                            \
    X(INVAL, "invalid", "invalid argument")                                    \
    X(NOMEM, "no_memory", "out of memory")                                     \
    X(TIMEOUT, "timeout", "timed out")                                         \
    X(CONNECT, "connect", "cannot connect")                                    \
    X(RESOLVE, "resolve", "cannot resolve the host name")                      \
    X(TLS, "tls", "the TLS handshake failed")                                  \
    X(CLOSED, "closed", "the peer closed the connection")                      \
    X(PROTOCOL, "protocol", "the peer broke the protocol")                     \
    X(TOO_LARGE, "too_large", "too large")                                     \
    X(CANCELLED, "cancelled", "cancelled")                                     \
    X(BUSY, "busy", "busy")                                                    \
    X(SCRIPT, "script", "a script failed")                                     \
    X(INTERRUPTED, "interrupted", "a script was interrupted")                  \
    X(IO, "io", "input or output failed")

enum err {
    ERR_NONE = 0,
#define X(name, word, text) ERR_POS_##name,
    ERR_LIST(X)
#undef X
#define X(name, word, text) ERR_##name = -ERR_POS_##name,
        ERR_LIST(X)
#undef X
};

/* The stable word for a program ("timeout"); "ok" for 0. */
const char *err_word(int err);

/* The sentence for a person ("timed out"). */
const char *err_text(int err);
