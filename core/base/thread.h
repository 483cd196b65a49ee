/* thread.h - threads in the background: signals are not theirs, and they wait by the clock that is never set.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <pthread.h>
#include <stdbool.h>

/* As pthread_create(), with all signals blocked. `attributes`: NULL, or the thread's. */
bool thread_start(pthread_t *out, const pthread_attr_t *attributes, void *(*run)(void *), void *user);

/* A condition whose deadlines are thread_deadline()'s. */
void thread_cond_init(pthread_cond_t *cond);

/* So many milliseconds from now, for pthread_cond_timedwait(). */
struct timespec thread_deadline(unsigned ms);
