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

/* The same for the hashes of certificates and keys. */
#define BUNDLE_TLS "tls"

struct bundle {
    struct source *files; /* sorted by path; builtin ones of the program last */
    size_t count;
    size_t own;    /* how many are the user's */
    uint64_t hash; /* of the user's names and texts */
};

/* Reads configuration (NULL: none) and rules folder (missing: empty). Of the
 * certificates and keys of `tls` (or NULL) only a hash is kept, so that new ones
 * make a new generation. */
struct bundle *bundle_collect(const char *config, const char *rules, const struct config_tls *tls,
                              struct problems *problems);
struct bundle *bundle_load(const char *path, struct problems *problems);

/* Writes the file in one step. Returns 0 or ERR_IO. */
int bundle_save(const struct bundle *b, const char *path);
void bundle_free(struct bundle *b);

/* A user's file by path, or NULL. */
const struct source *bundle_find(const struct bundle *b, const char *path);

/* Changes whenever a file of the folder or the configuration is touched: names,
 * sizes, times and inodes, no contents. Certificates count, too. */
uint64_t bundle_signature(const char *config, const char *rules, const struct config_tls *tls);
