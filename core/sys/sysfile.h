/* sysfile.h - the kernel's text files: read one, find a number in it, and walk
 * our control groups (cgroup v2) upwards.
 *
 * Paths take a root in front, "" on a real system, so that tests use a tree of
 * files they have written.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SYSFILE_PATH = 1024 };

/* Reads up to size - 1 bytes and ends them with NUL. False when it cannot. */
bool sysfile_read(const char *root, const char *path, char *out, size_t size);

/* The number behind `key` at the start of a line ("usage_usec 12", "MemTotal: 12 kB"). */
bool sysfile_number(const char *text, const char *key, uint64_t *out);

struct cgroup {
    char path[SYSFILE_PATH]; /* of the group's folder, with the root */
    size_t top;              /* length of the mount point in it */
};

/* The group this process is in. False without cgroup v2. */
bool cgroup_own(struct cgroup *g, const char *root);

/* Goes to the parent; false at the top. */
bool cgroup_up(struct cgroup *g);

bool cgroup_read(const struct cgroup *g, const char *file, char *out, size_t size);
