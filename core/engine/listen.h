/* listen.h - listening sockets, made by the supervisor and shared by its children.
 *
 * Threads: one, at start.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

/* Binds and listens. Returns the descriptor, or -1 with the reason and what to
 * do about it in `why`. `chosen` gets the address with its real port. */
int listen_on(const char *address, char *chosen, size_t chosen_size, char *why, size_t why_size);
