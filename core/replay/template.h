/* template.h - the route a path belongs to: "/users/123" is "/users/:id".
 *
 * Segments of digits, uuids and hashes are ids by their looks. Names are ids when their folder has more than
 * TEMPLATE_CHILDREN of them: "/u/ann", "/u/bob", .. become "/u/:name". Folders and the names seen in them are
 * hashes in fixed tables; when those are full, nothing new is learned.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { TEMPLATE_SIZE = 160, TEMPLATE_FOLDERS = 1024, TEMPLATE_NAMES = 8192, TEMPLATE_CHILDREN = 100 };

struct templates {
    bool settled; /* nothing more is learned */
    unsigned folder_count, name_count;
    struct template_folder {
        uint64_t hash; /* 0: free */
        unsigned children;
    } folders[TEMPLATE_FOLDERS];
    uint64_t names[TEMPLATE_NAMES];
};

/* Writes the route of a path, cut to TEMPLATE_SIZE. Returns its length. From zeroed memory. */
size_t templates_apply(struct templates *t, struct str path, char out[TEMPLATE_SIZE]);
