/* bundle.h - the files of a generation, read once and kept together.
 *
 * What was checked is what is served: control reads the folder once, saves it
 * as one file below the state folder, and everybody loads that file. It is
 * also what makes an old generation restorable.
 *
 * File:    "perilune-bundle 1\n", then per file "path\nname\nbytes\n", the bytes, "\n".
 * Owner:   whoever collected or loaded it; ends with bundle_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/problems.h"
#include "engine/config.h"
#include "script/script.h"

enum {
    BUNDLE_FILES_MAX = 2000,
    BUNDLE_FILE_BYTES = 4 * 1024 * 1024,
};

/* Path under which the configuration stands in a bundle. */
#define BUNDLE_CONFIG "perilune.lua"

/* The same for what the API was told to keep. */
#define BUNDLE_OVERLAY "overlay.json"

/* The same for the hashes of certificates and keys. */
#define BUNDLE_TLS "tls"

struct bundle {
    struct source *files; /* sorted by path; builtin ones of the program last */
    size_t count;
    size_t own;    /* how many are the user's */
    uint64_t hash; /* of the user's names and texts */
};

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
struct bundle *bundle_load(const char *path, struct problems *problems);

/* Writes the file in one step. Returns 0 or ERR_IO. */
int bundle_save(const struct bundle *b, const char *path);
void bundle_free(struct bundle *b);

/* A user's file by path, or NULL. */
const struct source *bundle_find(const struct bundle *b, const char *path);

/* Changes whenever a file of the folder or the configuration is touched: names,
 * sizes, times and inodes, no contents. Certificates count, too. */
uint64_t bundle_signature(const struct bundle_from *from);
