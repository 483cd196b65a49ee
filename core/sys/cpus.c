// SPDX-License-Identifier: MIT
#include "sys/cpus.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

bool cpus_quota(const char *root, double *cpus, struct cgroup *group)
{
    struct cgroup g;
    bool found = false;
    if (!cgroup_own(&g, root))
        return false;
    do {
        char text[64];
        double quota, period = 100000;
        if (!cgroup_read(&g, "cpu.max", text, sizeof text))
            continue; /* the top has none */
        if (sscanf(text, "%lf %lf", &quota, &period) < 1 || !(quota > 0) || !(period > 0))
            continue; /* "max 100000" */
        if (found && quota / period >= *cpus)
            continue;
        found = true;
        *cpus = quota / period;
        if (group)
            *group = g;
    } while (cgroup_up(&g));
    return found;
}

static unsigned affinity(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

unsigned cpus_effective(void)
{
    unsigned cpus = affinity();
    double quota;
    if (cpus_quota("", &quota, NULL) && ceil(quota) < cpus)
        cpus = (unsigned)ceil(quota);
    return cpus;
}
