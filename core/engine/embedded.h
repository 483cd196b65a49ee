/* embedded.h - the Lua files that are part of the program.
 *
 * The table is made by the build from lua/ and rules/; it ends with a NULL path.
 *
 * Threads: any; read-only.
 */
// SPDX-License-Identifier: MIT
#pragma once

struct embedded {
    const char *path;  /* "lua/perilune/init.lua" */
    const char *start; /* its bytes */
    const char *end;   /* one past the last byte */
};

extern const struct embedded embedded_files[];
