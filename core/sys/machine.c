// SPDX-License-Identifier: MIT
#include "sys/machine.h"

#include "sys/cpus.h"
#include "sys/sysfile.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

void machine_init(struct machine *m, const char *root, const char *disk_path)
{
    memset(m, 0, sizeof *m);
    snprintf(m->root, sizeof m->root, "%s", root);
    snprintf(m->disk_path, sizeof m->disk_path, "%s", disk_path ? disk_path : "");
}

static double clamp_share(double share)
{
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

/* Seconds used and seconds usable, under a quota. */
static bool cpu_of_cgroup(const struct machine *m, uint64_t now_ns, double *busy, double *total)
{
    struct cgroup g;
    double cpus;
    char text[1024];
    uint64_t used;
    if (!cpus_quota(m->root, &cpus, &g) || !cgroup_read(&g, "cpu.stat", text, sizeof text) ||
        !sysfile_number(text, "usage_usec", &used))
        return false;
    /* The time since the last sample; what came before cancels out. */
    *busy = (double)used / 1e6;
    *total = m->last_total + (double)(now_ns - m->last_ns) / 1e9 * cpus;
    return true;
}

/* Ticks of the CPUs that we may run on. */
static bool cpu_of_proc(const struct machine *m, double *busy, double *total)
{
    enum { BYTES = 64 << 10 };
    cpu_set_t ours;
    bool all = *m->root || sched_getaffinity(0, sizeof ours, &ours) != 0;
    char *text = malloc(BYTES), *rest = text, *line;
    bool found = false;
    *busy = *total = 0;
    if (text && sysfile_read(m->root, "/proc/stat", text, BYTES))
        while ((line = strsep(&rest, "\n"))) {
            unsigned cpu;
            uint64_t t[8];
            /* "cpu " with a space is the sum; %u would skip it. */
            if (strncmp(line, "cpu", 3) != 0 || line[3] < '0' || line[3] > '9' ||
                sscanf(line,
                       "cpu%u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                       " %" SCNu64 " %" SCNu64,
                       &cpu, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) != 9)
                continue;
            if (!all && (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &ours)))
                continue;
            found = true;
            for (int i = 0; i < 8; i++) {
                *total += (double)t[i];
                *busy += i == 3 || i == 4 ? 0 : (double)t[i]; /* idle, iowait */
            }
        }
    free(text);
    return found;
}

static void sample_cpu(struct machine *m, uint64_t now_ns)
{
    double busy, total;
    bool from_cgroup = cpu_of_cgroup(m, now_ns, &busy, &total);
    m->cpu_available = false;
    if (!from_cgroup && !cpu_of_proc(m, &busy, &total)) {
        m->last_ns = 0;
        return;
    }
    if (m->last_ns && m->last_from_cgroup == from_cgroup && total > m->last_total) {
        m->cpu_share = clamp_share((busy - m->last_busy) / (total - m->last_total));
        m->cpu_available = true;
    }
    m->last_ns = now_ns;
    m->last_busy = busy;
    m->last_total = total;
    m->last_from_cgroup = from_cgroup;
}

/* Bytes of a file with one number; "max" is none. */
static bool cgroup_bytes(const struct cgroup *g, const char *file, double *out)
{
    char text[64];
    return cgroup_read(g, file, text, sizeof text) && sscanf(text, "%lf", out) == 1;
}

/* The tightest limit over our group and those above it, and what counts
 * against it; the page cache that can go at once does not. */
static bool memory_of_cgroup(const char *root, double total, double *share)
{
    struct cgroup g, tightest;
    double limit = total;
    bool found = false;
    if (!cgroup_own(&g, root))
        return false;
    do {
        static const char *const files[] = {"memory.max", "memory.high"};
        for (int i = 0; i < 2; i++) {
            double bytes;
            if (cgroup_bytes(&g, files[i], &bytes) && bytes > 0 && (limit <= 0 || bytes < limit)) {
                limit = bytes;
                tightest = g;
                found = true;
            }
        }
    } while (cgroup_up(&g));
    double used;
    if (!found || !cgroup_bytes(&tightest, "memory.current", &used))
        return false;
    char text[8192];
    uint64_t cache = 0;
    if (cgroup_read(&tightest, "memory.stat", text, sizeof text))
        sysfile_number(text, "inactive_file", &cache);
    *share = clamp_share((used - (double)cache) / limit);
    return true;
}

static void sample_memory(struct machine *m)
{
    char text[4096];
    uint64_t total = 0, available = 0;
    bool known = sysfile_read(m->root, "/proc/meminfo", text, sizeof text) &&
                 sysfile_number(text, "MemTotal", &total) &&
                 sysfile_number(text, "MemAvailable", &available) && total > 0;
    m->memory_available = memory_of_cgroup(m->root, (double)total * 1024, &m->memory_share);
    if (!m->memory_available && known) {
        m->memory_share = clamp_share(1 - (double)available / (double)total);
        m->memory_available = true;
    }
}

static void sample_disk(struct machine *m)
{
    struct statvfs fs;
    m->disk_available = false;
    if (!*m->disk_path || statvfs(m->disk_path, &fs) != 0)
        return;
    /* As df counts: of what users may have. */
    double used = (double)(fs.f_blocks - fs.f_bfree), usable = used + (double)fs.f_bavail;
    if (usable <= 0)
        return;
    m->disk_share = clamp_share(used / usable);
    m->disk_available = true;
}

void machine_sample(struct machine *m, uint64_t now_ns)
{
    char text[128];
    sample_cpu(m, now_ns);
    sample_memory(m);
    sample_disk(m);
    m->load_available = sysfile_read(m->root, "/proc/loadavg", text, sizeof text) &&
                        sscanf(text, "%lf %lf %lf", &m->load[0], &m->load[1], &m->load[2]) == 3;
}
