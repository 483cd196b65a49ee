/* process_info.h - what the kernel tells about one process.
 *
 * All return false when it is not available (no such process, no /proc, not
 * ours to see). `root` as in sysfile.h.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Resident memory. Shared memory that it touched (the board) counts as well. */
bool process_rss_bytes(const char *root, pid_t pid, uint64_t *out);

/* CPU time that it has used, user and system. */
bool process_cpu_s(const char *root, pid_t pid, double *out);

/* Time that its threads were ready to run and waited for a CPU, in sum. What a thread that has ended waited is no longer in it. */
bool process_cpu_wait_s(const char *root, pid_t pid, double *out);

/* What it calls itself: its arguments with blanks between them, cut to fit. PostgreSQL writes what a session does there. */
bool process_title(const char *root, pid_t pid, char *out, size_t size);

/* Open descriptors. */
bool process_open_fds(const char *root, pid_t pid, uint64_t *out);

/* Most descriptors this process may open. */
bool process_fd_limit(uint64_t *out);
