/* log.h - one line per event on stderr, written with one system call.
 *
 *     2026-01-02T03:04:05.678Z error worker 2: what happened
 *
 * Control bytes are escaped, so nothing a peer sends can forge a line or move
 * a terminal's cursor. Lines above 8 KiB are cut.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Names this process in its lines ("worker 2"); kept by pointer. */
void log_name(const char *who);

/* Lines above this level are dropped; LOG_INFO at first. */
void log_limit(enum log_level level);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
