/* machine.h - how busy the machine is, as far as it is ours to use.
 *
 * In a container shares are of its limits, not of the host. What a restricted
 * host does not tell is marked as not available, never made up.
 *
 * Owner:   whoever holds the struct; nothing to free.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct machine {
    /* Read-only. Shares are 0 to 1. */
    double cpu_share; /* since the sample before; first known with the second one */
    double memory_share;
    double disk_share;
    double load[3]; /* of 1, 5 and 15 minutes */
    bool cpu_available, memory_available, disk_available, load_available;

    /* Private. */
    char root[256];
    char disk_path[256];
    uint64_t last_ns;
    double last_busy, last_total; /* seconds, or the kernel's ticks */
    bool last_from_cgroup;
};

/* `root` as in sysfile.h; `disk_path` is on the file system of interest, NULL:
 * none. */
void machine_init(struct machine *m, const char *root, const char *disk_path);

void machine_sample(struct machine *m, uint64_t now_ns);
