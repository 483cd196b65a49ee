/* notify.h - tells systemd how we are: sd_notify(3), Type=notify.
 *
 *     READY=1, STATUS=..., RELOADING=1, STOPPING=1, WATCHDOG=1
 *
 * Without NOTIFY_SOCKET in the environment nothing is done.
 *
 * Owner:   the supervisor. Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>

/* Reads the environment and takes it away from the children. */
void notify_open(void);

/* Sends lines such as "READY=1\nSTATUS=serves". Never waits; what cannot be sent is lost. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Half of the time within which systemd wants a sign of life; 0: it wants none. */
uint64_t notify_watchdog_ms(void);
