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
    size_t own;    /* how many are the user's; those of the program are not copies */
    uint64_t hash; /* of the user's names and texts */
};

/* ---- put together by parts (collect.h) ---- */

/* Adds a copy of a text. False: out of memory. */
bool bundle_add(struct bundle *b, const char *path, const char *name, struct str text);

/* Adds a file under a path. What is wrong with it is a problem. */
void bundle_read(struct bundle *b, const char *file, const char *path, struct problems *problems);

/* The same for all Lua files of a folder; a missing one has none. */
void bundle_read_folder(struct bundle *b, const char *folder, struct problems *problems);

/* Sorts, hashes and adds the files of the program. False: out of memory. */
bool bundle_complete(struct bundle *b);
void bundle_clear(struct bundle *b);

/* Mixes what tells that a file was touched into a hash: name, size, time and inode. */
void bundle_sign(uint64_t *hash, const char *file);
void bundle_sign_folder(uint64_t *hash, const char *folder); /* NULL: none */

/* ---- whole ---- */

struct bundle *bundle_load(const char *path, struct problems *problems);

/* Writes the file in one step. Returns 0 or ERR_IO. */
int bundle_save(const struct bundle *b, const char *path);
void bundle_free(struct bundle *b);

/* A user's file by path, or NULL. */
const struct source *bundle_find(const struct bundle *b, const char *path);
