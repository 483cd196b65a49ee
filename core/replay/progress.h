/* progress.h - a bar on stderr while a log is read: share, rate, time left. Nothing when stderr is no terminal.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on, shown;
    int64_t expected, before; /* bytes of all files; of those already read */
    bool endless;             /* stdin or a pipe: nobody knows how much comes */
    uint64_t start_ns, next_ns;
};

void progress_start(struct progress *p);

/* A file that will be read. */
void progress_expect(struct progress *p, const char *path);

/* `offset`: bytes of the file read so far, as stored (a gz file's own). */
void progress_show(struct progress *p, int64_t offset, uint64_t lines);
void progress_file_done(struct progress *p, int64_t size);

/* Takes the bar away, so that something else can be written. */
void progress_clear(struct progress *p);
