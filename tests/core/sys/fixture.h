/* fixture.h - a tree of files in place of /proc and /sys.
 *
 * Owner:   a test's set-up makes it, its tear-down removes it.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fixture_root[64];

static inline int fixture_new(void **state)
{
    (void)state;
    strcpy(fixture_root, "/tmp/perilune-fixture-XXXXXX");
    return mkdtemp(fixture_root) ? 0 : -1;
}

static inline int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline int fixture_free(void **state)
{
    (void)state;
    return nftw(fixture_root, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes root + path, making its folders. */
static inline void fixture_write_bytes(const char *path, const char *bytes, size_t count)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", fixture_root, path);
    for (char *slash = full + strlen(fixture_root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file) != 0)
        abort();
}

static inline void fixture_write(const char *path, const char *text)
{
    fixture_write_bytes(path, text, strlen(text));
}
