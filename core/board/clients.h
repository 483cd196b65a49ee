/* clients.h - open connections by client, over all workers.
 *
 * A count-min sketch (Cormode and Muthukrishnan, 2005) a worker: two rows of
 * counters, an address has one in each, and the smaller sum over all workers is
 * how many connections it has. A flood of addresses can make a count too high
 * by a few, never use memory. Only its worker writes a table, so what a killed
 * worker held is given back by clearing its table.
 *
 * Owner:   the board. Threads: any process reads; a table has one writer.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum { CLIENT_ROWS = 2, CLIENT_SLOTS = 16384 };

struct clients {
    _Atomic uint16_t rows[CLIENT_ROWS][CLIENT_SLOTS];
};

/* The key of a client is board_hash() of its address. */
void clients_enter(struct clients *mine, uint64_t key);
void clients_leave(struct clients *mine, uint64_t key);

/* Connections of a client in the tables of `workers` workers. */
uint32_t clients_count(const struct clients *all, uint32_t workers, uint64_t key);

void clients_clear(struct clients *mine);
