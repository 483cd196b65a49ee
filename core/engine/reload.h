/* reload.h - the life of generations, driven by control.
 *
 *     changed, asked > collected > saved > checked in a process of its own
 *         good: active, watched for a while, perhaps rolled back
 *         bad:  refused, reported; the old one keeps serving
 *
 * Owner:   control.
 * Threads: control's loop.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/engine.h"

struct reload;

struct reload_record {
    uint64_t ticket;      /* counts attempts, 1.. */
    uint64_t generation;  /* 0: nothing had changed */
    uint64_t at_unix_ms;
    const char *result;   /* "active", "refused", "unchanged", "rolled_back", "restored" */
    const char *cause;    /* "start", "file", "signal", "api", "errors", "worker" */
    struct problems problems;
};

enum { RELOAD_RECORDS = 32, RELOAD_KEEP = 8 };

struct reload *reload_new(struct engine *engine, struct io *io);
void reload_free(struct reload *r);

/* Called every tick. */
void reload_tick(struct reload *r);

/* Asks for an attempt; its ticket. Asking while one runs joins the next. */
uint64_t reload_ask(struct reload *r, const char *cause);

/* The attempt with this ticket, or NULL while it is not over. */
const struct reload_record *reload_result(const struct reload *r, uint64_t ticket);

/* The newest records, `index` 0 first; NULL behind the last. */
const struct reload_record *reload_record_at(const struct reload *r, unsigned index);

/* Puts a kept generation in force. Returns 0 or ERR_INVAL (not kept). */
int reload_restore(struct reload *r, uint64_t generation, const char *result, const char *cause);

/* Whether a generation's file is still there. */
bool reload_is_kept(const struct reload *r, uint64_t generation);
