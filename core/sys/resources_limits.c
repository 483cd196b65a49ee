/* Processor, memory and pressure: what control groups limit. */
// SPDX-License-Identifier: MIT
#include "sys/resources_parts.h"

#include "sys/cpus.h"

#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- control groups of version 1 ---- */

static bool names(const char *list, size_t len, const char *controller)
{
    size_t n = strlen(controller);
    for (size_t at = 0; at + n <= len; at++)
        if ((at == 0 || list[at - 1] == ',') && strncmp(list + at, controller, n) == 0 &&
            (at + n == len || list[at + n] == ','))
            return true;
    return false;
}

/* Our group under a controller; inside of a container its path may be that of the host,
 * and the mount point is what is ours. */
static bool cgroup_v1(struct cgroup *g, const char *root, const char *controller)
{
    char text[4096], *rest = text, *line;
    if (!sysfile_read(root, "/proc/self/cgroup", text, sizeof text))
        return false;
    while ((line = strsep(&rest, "\n"))) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path || !names(list + 1, (size_t)(path - list - 1), controller))
            continue;
        int top = snprintf(g->path, sizeof g->path, "%s/sys/fs/cgroup/%.*s", root, (int)(path - list - 1), list + 1);
        if (top < 0 || (size_t)top + strlen(path) >= sizeof g->path)
            return false;
        if (access(g->path, F_OK) != 0)
            top = snprintf(g->path, sizeof g->path, "%s/sys/fs/cgroup/%s", root, controller);
        g->top = (size_t)top;
        size_t before = g->top;
        if (path[2])
            strcpy(g->path + before, path + 1);
        if (access(g->path, F_OK) != 0)
            g->path[before] = 0;
        return access(g->path, F_OK) == 0;
    }
    return false;
}

static bool group_number(const struct cgroup *g, const char *file, double *out)
{
    char text[64];
    return cgroup_read(g, file, text, sizeof text) && sscanf(text, "%lf", out) == 1;
}

/* ---- processor ---- */

struct cpu_group {
    struct cgroup group;
    double quota; /* NAN: none */
    bool v1;
};

/* The group with the tightest quota; false: nothing limits us. */
static bool quota_of(const struct resources *r, struct cpu_group *out)
{
    struct cgroup g;
    double quota, period;
    if (cpus_quota(r->root, &out->quota, &out->group)) {
        out->v1 = false;
        return true;
    }
    bool found = false;
    if (!cgroup_v1(&g, r->root, "cpu"))
        return false;
    do {
        if (!group_number(&g, "cpu.cfs_quota_us", &quota) || !group_number(&g, "cpu.cfs_period_us", &period) ||
            quota <= 0 || period <= 0 || (found && quota / period >= out->quota))
            continue;
        *out = (struct cpu_group){.group = g, .quota = quota / period, .v1 = true};
        found = true;
    } while (cgroup_up(&g));
    return found;
}

/* Whether a line of /proc/stat is about one CPU that we may run on. */
static bool is_ours(const struct resources *r, const char *line)
{
    cpu_set_t ours;
    if (strncmp(line, "cpu", 3) != 0 || line[3] < '0' || line[3] > '9')
        return false;
    unsigned long cpu = strtoul(line + 3, NULL, 10);
    return *r->root || sched_getaffinity(0, sizeof ours, &ours) != 0 || (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &ours));
}

struct ticks {
    unsigned cpus; /* that we may run on */
    double busy, steal, total;
};

static void read_ticks(const struct resources *r, struct ticks *out)
{
    char *text = malloc(RESOURCE_FILE_BYTES), *rest = text, *line;
    *out = (struct ticks){0};
    if (text && sysfile_read(r->root, "/proc/stat", text, RESOURCE_FILE_BYTES))
        while ((line = strsep(&rest, "\n"))) {
            double t[8] = {0};
            if (!is_ours(r, line) || sscanf(line, "%*s %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4],
                                            &t[5], &t[6], &t[7]) < 4)
                continue;
            out->cpus++;
            out->steal += t[7];
            for (int i = 0; i < 8; i++) {
                out->total += t[i];
                out->busy += i == 3 || i == 4 ? 0 : t[i]; /* idle, iowait */
            }
        }
    free(text);
}

static void sample_throttling(struct resources *r, const struct cpu_group *g)
{
    char text[1024];
    uint64_t periods, throttled, held;
    if (!cgroup_read(&g->group, "cpu.stat", text, sizeof text) || !sysfile_number(text, "nr_periods", &periods) ||
        !sysfile_number(text, "nr_throttled", &throttled)) {
        resources_missing(r, RESOURCE_CPU_THROTTLED, RESOURCE_CPU_THROTTLED_TIME, "cpu.stat of the control group cannot be read");
        return;
    }
    resource_share(r, RESOURCE_CPU_THROTTLED, r->last_throttled, (double)throttled, (double)periods);
    if (sysfile_number(text, g->v1 ? "throttled_time" : "throttled_usec", &held))
        resource_rate(r, RESOURCE_CPU_THROTTLED_TIME, (double)held, g->v1 ? 1e-9 : 1e-6);
    else
        resource_missing(r, RESOURCE_CPU_THROTTLED_TIME, "cpu.stat does not tell");
}

/* CPU seconds that what shares the quota has used. */
static bool group_seconds(const struct resources *r, const struct cpu_group *g, double *out)
{
    char text[1024];
    struct cgroup accounting;
    uint64_t used;
    if (!g->v1) {
        if (!cgroup_read(&g->group, "cpu.stat", text, sizeof text) || !sysfile_number(text, "usage_usec", &used))
            return false;
        *out = (double)used / 1e6;
        return true;
    }
    if (!cgroup_v1(&accounting, r->root, "cpuacct") || !group_number(&accounting, "cpuacct.usage", out))
        return false;
    *out /= 1e9;
    return true;
}

static void sample_load(struct resources *r)
{
    char text[128];
    double load[3];
    if (!sysfile_read(r->root, "/proc/loadavg", text, sizeof text) ||
        sscanf(text, "%lf %lf %lf", &load[0], &load[1], &load[2]) != 3) {
        resources_missing(r, RESOURCE_LOAD_1, RESOURCE_LOAD_15, "/proc/loadavg cannot be read");
        return;
    }
    for (int i = 0; i < 3; i++)
        resource_set(r, (enum resource_id)(RESOURCE_LOAD_1 + i), load[i]);
}

static void sample_used(struct resources *r, const struct cpu_group *g, bool limited, const struct ticks *ticks)
{
    double used_s, tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
    bool of_group = limited && group_seconds(r, g, &used_s);
    if (of_group != r->used_of_group)
        r->last[RESOURCE_CPU_USED] = NAN; /* another counter */
    r->used_of_group = of_group;
    bool stands_still = ticks->cpus && ticks->total <= r->last_steal[1];
    if (of_group)
        resource_rate(r, RESOURCE_CPU_USED, used_s, 1);
    else if (stands_still)
        resource_missing(r, RESOURCE_CPU_USED, "the counters of /proc/stat stand still");
    else if (ticks->cpus)
        resource_rate(r, RESOURCE_CPU_USED, ticks->busy, tick_s);
    else
        resource_missing(r, RESOURCE_CPU_USED, "neither /proc/stat nor cpu.stat of a control group can be read");
    if (!resource_known(r, RESOURCE_CPU_USED) || !resource_known(r, RESOURCE_CPU_USABLE)) {
        resource_missing(r, RESOURCE_CPU_SHARE, r->why[resource_known(r, RESOURCE_CPU_USED) ? RESOURCE_CPU_USABLE : RESOURCE_CPU_USED]);
        return;
    }
    double share = r->value[RESOURCE_CPU_USED] / r->value[RESOURCE_CPU_USABLE];
    resource_set(r, RESOURCE_CPU_SHARE, share < 1 ? share : 1);
}

void resources_cpu(struct resources *r)
{
    struct cpu_group g = {.quota = NAN};
    struct ticks ticks;
    bool limited = quota_of(r, &g);
    read_ticks(r, &ticks);
    double cpus = ticks.cpus;
    if (limited) {
        resource_set(r, RESOURCE_CPU_QUOTA, g.quota);
        cpus = cpus > 0 && cpus < g.quota ? cpus : g.quota;
        sample_throttling(r, &g);
    } else {
        resource_missing(r, RESOURCE_CPU_QUOTA, "no control group of ours has a CPU quota");
        resources_missing(r, RESOURCE_CPU_THROTTLED, RESOURCE_CPU_THROTTLED_TIME, "no control group of ours has a CPU quota");
    }
    if (cpus > 0)
        resource_set(r, RESOURCE_CPU_USABLE, cpus);
    else
        resource_missing(r, RESOURCE_CPU_USABLE, "/proc/stat cannot be read");
    sample_used(r, &g, limited, &ticks);
    if (ticks.cpus && ticks.total <= r->last_steal[1])
        resource_missing(r, RESOURCE_CPU_STEAL, "the counters of /proc/stat stand still");
    else if (ticks.cpus)
        resource_share(r, RESOURCE_CPU_STEAL, r->last_steal, ticks.steal, ticks.total);
    else
        resource_missing(r, RESOURCE_CPU_STEAL, "/proc/stat cannot be read");
    sample_load(r);
}

/* ---- memory ---- */

struct memory_files {
    const char *limits[2]; /* the second may be NULL */
    const char *used, *cache; /* cache: key in memory.stat */
};

static const struct memory_files files_v2 = {{"memory.max", "memory.high"}, "memory.current", "inactive_file"};
static const struct memory_files files_v1 = {{"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_inactive_file"};

/* The tightest limit below `*limit` over a group and those above it. */
static bool tightest(struct cgroup g, const struct memory_files *files, double *limit, struct cgroup *out)
{
    bool found = false;
    do {
        for (int i = 0; i < 2 && files->limits[i]; i++) {
            double bytes;
            if (!group_number(&g, files->limits[i], &bytes) || bytes <= 0 || bytes >= *limit)
                continue;
            *limit = bytes;
            *out = g;
            found = true;
        }
    } while (cgroup_up(&g));
    return found;
}

static void set_memory(struct resources *r, double limit, double used, double cache)
{
    double set = used > cache ? used - cache : 0;
    resource_set(r, RESOURCE_MEMORY_LIMIT, limit);
    resource_set(r, RESOURCE_MEMORY_USED, used);
    resource_set(r, RESOURCE_MEMORY_WORKING_SET, set);
    resource_set(r, RESOURCE_MEMORY_SHARE, set < limit ? set / limit : 1);
}

static bool memory_of_group(struct resources *r, double total)
{
    struct cgroup own, g;
    double limit = total > 0 ? total : INFINITY, used;
    const struct memory_files *files = &files_v2;
    bool found = cgroup_own(&own, r->root) && tightest(own, files, &limit, &g);
    if (!found) {
        files = &files_v1;
        found = cgroup_v1(&own, r->root, "memory") && tightest(own, files, &limit, &g);
    }
    if (!found || !group_number(&g, files->used, &used))
        return false;
    char text[8192];
    uint64_t cache = 0;
    if (cgroup_read(&g, "memory.stat", text, sizeof text))
        sysfile_number(text, files->cache, &cache);
    set_memory(r, limit, used, (double)cache);
    return true;
}

/* Of our own group under version 2, else of the host. */
static void sample_oom(struct resources *r)
{
    struct cgroup own;
    char text[16384];
    uint64_t kills;
    if ((cgroup_own(&own, r->root) && cgroup_read(&own, "memory.events", text, sizeof text) &&
         sysfile_number(text, "oom_kill", &kills)) ||
        (sysfile_read(r->root, "/proc/vmstat", text, sizeof text) && sysfile_number(text, "oom_kill", &kills)))
        resource_set(r, RESOURCE_MEMORY_OOM_KILLS, (double)kills);
    else
        resource_missing(r, RESOURCE_MEMORY_OOM_KILLS, "neither memory.events of the control group nor /proc/vmstat tells");
}

void resources_memory(struct resources *r)
{
    char text[4096];
    uint64_t total = 0, available = 0, swap = 0, swap_free = 0;
    bool host = sysfile_read(r->root, "/proc/meminfo", text, sizeof text) && sysfile_number(text, "MemTotal", &total) &&
                sysfile_number(text, "MemAvailable", &available) && total > 0;
    if (host) {
        resource_set(r, RESOURCE_MEMORY_TOTAL, (double)total * 1024);
        resource_set(r, RESOURCE_MEMORY_AVAILABLE, (double)available * 1024);
    } else {
        resources_missing(r, RESOURCE_MEMORY_TOTAL, RESOURCE_MEMORY_AVAILABLE, "/proc/meminfo cannot be read");
    }
    if (host && sysfile_number(text, "SwapTotal", &swap) && sysfile_number(text, "SwapFree", &swap_free))
        resource_set(r, RESOURCE_MEMORY_SWAP, ((double)swap - (double)swap_free) * 1024);
    else
        resource_missing(r, RESOURCE_MEMORY_SWAP, "/proc/meminfo does not tell");
    if (!memory_of_group(r, (double)total * 1024)) {
        if (host)
            set_memory(r, (double)total * 1024, (double)(total - available) * 1024, 0);
        else
            resources_missing(r, RESOURCE_MEMORY_LIMIT, RESOURCE_MEMORY_SHARE,
                              "neither a control group nor /proc/meminfo can be read");
    }
    sample_oom(r);
}

/* ---- pressure ---- */

static bool read_pressure(const struct resources *r, const char *what, char *out, size_t size)
{
    char path[64];
    struct cgroup own;
    snprintf(path, sizeof path, "%s.pressure", what);
    if (cgroup_own(&own, r->root) && cgroup_read(&own, path, out, size) && *out)
        return true;
    snprintf(path, sizeof path, "/proc/pressure/%s", what);
    return sysfile_read(r->root, path, out, size) && *out;
}

/* Sets two figures from the line that begins with `kind`. */
static void set_pressure(struct resources *r, enum resource_id first, const char *text, const char *kind)
{
    const char *line = strstr(text, kind);
    double avg[2];
    if (!line || sscanf(line + strlen(kind), " avg10=%lf avg60=%lf", &avg[0], &avg[1]) != 2) {
        resources_missing(r, first, (enum resource_id)(first + 1), "the kernel does not tell this pressure");
        return;
    }
    resource_set(r, first, avg[0] / 100);
    resource_set(r, (enum resource_id)(first + 1), avg[1] / 100);
}

void resources_pressure(struct resources *r)
{
    static const struct {
        const char *what;
        enum resource_id some, full;
    } all[] = {{"cpu", RESOURCE_PSI_CPU_SOME_10, RESOURCE_COUNT},
               {"memory", RESOURCE_PSI_MEMORY_SOME_10, RESOURCE_PSI_MEMORY_FULL_10},
               {"io", RESOURCE_PSI_IO_SOME_10, RESOURCE_PSI_IO_FULL_10}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char text[512];
        enum resource_id last = all[i].full == RESOURCE_COUNT ? all[i].some : all[i].full;
        if (!read_pressure(r, all[i].what, text, sizeof text)) {
            resources_missing(r, all[i].some, (enum resource_id)(last + 1),
                              "the kernel has no pressure stall information, or it is turned off (psi=1 turns it on)");
            continue;
        }
        set_pressure(r, all[i].some, text, "some");
        if (all[i].full != RESOURCE_COUNT)
            set_pressure(r, all[i].full, text, "full");
    }
}
