/* embedded.h - the files that are part of the program: Lua, and what browsers are given.
 *
 * The tables are made by the build from lua/ and rules/, and from the package that has the chart
 * library; they end with a NULL name.
 *
 * Threads: any; read-only.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

struct embedded {
    const char *path;  /* "lua/perilune/init.lua" */
    const char *start; /* its bytes */
    const char *end;   /* one past the last byte */
};

struct embedded_asset {
    const char *name;            /* "main.js" */
    const char *start;           /* its bytes */
    const char *end;             /* one past the last byte */
    const unsigned char *packed; /* the same by gzip */
    size_t packed_len;
};

extern const struct embedded embedded_files[];
extern const struct embedded_asset embedded_assets[];
