/* cpus.h - how many CPUs this process may really use.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "sys/sysfile.h"

/* The smaller of our CPU affinity and ceil(quota / period) over our control
 * group and all above it; at least 1. */
unsigned cpus_effective(void);

/* CPUs of the tightest quota, as in 1.5, and the group that has it. False
 * when nothing limits us. `root` as in sysfile.h; `group` may be NULL. */
bool cpus_quota(const char *root, double *cpus, struct cgroup *group);
