/* own.h - settings that an upstream has for itself.
 *
 * What is of the scope "upstream" (settings.h) may be given for one of them:
 * "upstream.api.retries" is for the upstream api what "upstream.retries" is for all that
 * have none of their own. A trial may hold another value in force meanwhile, as of any
 * setting (trials.h).
 *
 *     slots[upstream][setting]    what is on trial, else the upstream's, else that of all
 *
 * Owner:   the board.
 * Threads: any reader; one writer, as of settings.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/settings.h"

enum { OWN_SLOTS = 256 /* upstreams */, OWN_NAME = 64 };

#define OWN_SETTING_LIST(X)                                                                        \
    X(KEEPALIVE_MS) X(KEEPALIVE_MAX) X(FIRST_BYTE_TIMEOUT_MS) X(TRY_TIMEOUT_MS) X(RETRIES)         \
    X(BUDGET_SHARE) X(HEDGE_SHARE) X(HEDGE_MIN_MS) X(OUTLIER_FACTOR) X(OUTLIER_ERRORS) X(DNS_MIN_MS)

enum own_setting {
#define X(id) OWN_##id,
    OWN_SETTING_LIST(X)
#undef X
        OWN_SETTINGS
};

struct own_slot {
    _Atomic uint32_t ready;               /* the name is whole */
    char name[OWN_NAME];                  /* of the upstream */
    _Atomic double stable[OWN_SETTINGS];  /* NaN: none of its own */
    _Atomic double tried[OWN_SETTINGS];   /* by a trial; NaN: none */
    _Atomic unsigned char origin[OWN_SETTINGS]; /* of the stable value */
};

struct own_settings {
    struct own_slot slots[OWN_SLOTS];
};

void own_init(struct own_settings *all);

/* What it is for all. */
extern const enum setting_id own_setting_ids[OWN_SETTINGS];

/* Reads "upstream.api.retries": of which upstream, and what. False: it is no such name. */
bool own_parse(struct str name, struct str *upstream, enum own_setting *which);

/* Writes that name. */
void own_name(const struct own_slot *slot, enum own_setting which, char *out, size_t size);

/* The slot of an upstream; NULL: it has none. */
const struct own_slot *own_find(const struct own_settings *all, struct str upstream);

/* The same, made when new. NULL: there are too many. */
struct own_slot *own_open(struct own_settings *all, struct str upstream);

/* The upstream is no more: its slot may be another's. */
void own_drop(struct own_slot *slot);

/* A new stable value, NaN for none. Another than before ends a trial of it. */
void own_set(struct own_slot *slot, enum own_setting which, double value, enum setting_origin origin);

/* Without what is on trial. */
double own_stable(const struct own_slot *slot, const struct settings *settings, enum own_setting which);

/* Holds a trial's value in force, and lets it go. */
void own_try(struct own_slot *slot, enum own_setting which, double value);
void own_untry(struct own_slot *slot, enum own_setting which);
bool own_is_tried(const struct own_slot *slot, enum own_setting which);

/* Lets go of all that is on trial. True: something was. */
bool own_untry_all(struct own_settings *all);

/* In force for an upstream; `slot` NULL: as for all. */
static inline double own_number(const struct own_slot *slot, const struct settings *settings, enum own_setting which)
{
    double value;
    if (slot) {
        value = atomic_load_explicit(&slot->tried[which], memory_order_relaxed);
        if (value == value)
            return value;
        value = atomic_load_explicit(&slot->stable[which], memory_order_relaxed);
        if (value == value)
            return value;
    }
    return setting_number(settings, own_setting_ids[which]);
}

static inline uint64_t own_integer(const struct own_slot *slot, const struct settings *settings, enum own_setting which)
{
    return (uint64_t)(int64_t)own_number(slot, settings, which);
}
