/* collect.h - everything a generation is made of, from the places where it is.
 *
 * Owner:   the caller ends what it gets with bundle_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/bundle.h"
#include "engine/config.h"

/* Where the files are. */
struct bundle_from {
    const char *config; /* NULL: none */
    const char *state;  /* folder of the overlay; NULL, or none there: no overlay */
    const char *rules;  /* folder; NULL or missing: no files */
    const struct config_tls *tls; /* or NULL: of certificates and keys only a hash is
                                   * kept, so that new ones make a new generation */
};

struct bundle *bundle_collect(const struct bundle_from *from, struct problems *problems);

/* The configuration without the scripts. Where the overlay is, the file may say. */
struct bundle *config_collect(const struct options *options, struct problems *problems);

/* The texts of a configuration's layers. */
struct config_texts bundle_texts(const struct bundle *b);

/* Changes whenever a file of the folder or the configuration is touched: names,
 * sizes, times and inodes, no contents. Certificates count, too. */
uint64_t bundle_signature(const struct bundle_from *from);
