/* resources.h - everything that is known of the machine, one list of figures.
 *
 * In a container the figures are of its limits: of our control group and all above it
 * the tightest counts. Version 2 of control groups is looked at first, version 1 where
 * the controllers are still there. What a host does not tell has no value but a
 * reason; nothing is made up, and nothing is 0 for want of knowing.
 *
 * Owner:   whoever holds the struct; nothing to free.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*    id, section, name, unit, doc */
#define RESOURCE_LIST(X)                                                                           \
    X(CPU_USABLE, "cpu", "usable_cpus", "cpus", "CPUs that affinity and quota leave us")           \
    X(CPU_QUOTA, "cpu", "quota_cpus", "cpus", "tightest CPU quota of our control groups")          \
    X(CPU_USED, "cpu", "used_cpus", "cpus", "CPUs in use by what shares the quota, else by all")   \
    X(CPU_SHARE, "cpu", "share", "ratio", "used_cpus of usable_cpus")                              \
    X(CPU_STEAL, "cpu", "steal_share", "ratio", "CPU time that the hypervisor gave to others")     \
    X(CPU_THROTTLED, "cpu", "throttled_share", "ratio", "periods in which the quota ran out")      \
    X(CPU_THROTTLED_TIME, "cpu", "throttled_time_share", "ratio", "time that threads were held up by the quota, may pass 1") \
    X(LOAD_1, "cpu", "load_1", "", "load average of one minute")                                   \
    X(LOAD_5, "cpu", "load_5", "", "load average of five minutes")                                 \
    X(LOAD_15, "cpu", "load_15", "", "load average of fifteen minutes")                            \
    X(MEMORY_LIMIT, "memory", "limit_bytes", "bytes", "tightest memory limit, else all memory")    \
    X(MEMORY_USED, "memory", "used_bytes", "bytes", "in use by what shares the limit, page cache included") \
    X(MEMORY_WORKING_SET, "memory", "working_set_bytes", "bytes", "used_bytes less what can go at once") \
    X(MEMORY_SHARE, "memory", "share", "ratio", "working_set_bytes of limit_bytes")                \
    X(MEMORY_TOTAL, "memory", "host_total_bytes", "bytes", "memory of the host")                   \
    X(MEMORY_AVAILABLE, "memory", "host_available_bytes", "bytes", "memory that the host could still give") \
    X(MEMORY_SWAP, "memory", "swap_used_bytes", "bytes", "swap in use by the host")                \
    X(MEMORY_OOM_KILLS, "memory", "oom_kills", "events", "processes killed for want of memory")    \
    X(PSI_CPU_SOME_10, "pressure", "cpu_some_10s", "ratio", "time that somebody waited for a CPU, 10 s") \
    X(PSI_CPU_SOME_60, "pressure", "cpu_some_60s", "ratio", "the same, 60 s")                      \
    X(PSI_MEMORY_SOME_10, "pressure", "memory_some_10s", "ratio", "time that somebody waited for memory, 10 s") \
    X(PSI_MEMORY_SOME_60, "pressure", "memory_some_60s", "ratio", "the same, 60 s")                \
    X(PSI_MEMORY_FULL_10, "pressure", "memory_full_10s", "ratio", "time that all waited for memory, 10 s") \
    X(PSI_MEMORY_FULL_60, "pressure", "memory_full_60s", "ratio", "the same, 60 s")                \
    X(PSI_IO_SOME_10, "pressure", "io_some_10s", "ratio", "time that somebody waited for a disk, 10 s") \
    X(PSI_IO_SOME_60, "pressure", "io_some_60s", "ratio", "the same, 60 s")                        \
    X(PSI_IO_FULL_10, "pressure", "io_full_10s", "ratio", "time that all waited for a disk, 10 s") \
    X(PSI_IO_FULL_60, "pressure", "io_full_60s", "ratio", "the same, 60 s")                        \
    X(DISK_TOTAL, "disk", "total_bytes", "bytes", "size of the file system of the state folder")   \
    X(DISK_FREE, "disk", "free_bytes", "bytes", "of it, free for users")                           \
    X(DISK_SHARE, "disk", "share", "ratio", "used, of what users may have")                        \
    X(DISK_INODES, "disk", "inodes_share", "ratio", "inodes in use")                               \
    X(IO_READ, "io", "read_bytes_per_second", "bytes/s", "read from all disks")                    \
    X(IO_WRITTEN, "io", "written_bytes_per_second", "bytes/s", "written to all disks")             \
    X(IO_READS, "io", "reads_per_second", "1/s", "reads from all disks")                           \
    X(IO_WRITES, "io", "writes_per_second", "1/s", "writes to all disks")                          \
    X(IO_BUSY, "io", "busiest_disk_share", "ratio", "time that the busiest disk had work")         \
    X(NET_RECEIVED, "network", "received_bytes_per_second", "bytes/s", "received on all interfaces but lo") \
    X(NET_SENT, "network", "sent_bytes_per_second", "bytes/s", "sent on all interfaces but lo")    \
    X(NET_PACKETS_IN, "network", "received_packets_per_second", "1/s", "the same in packets")      \
    X(NET_PACKETS_OUT, "network", "sent_packets_per_second", "1/s", "the same in packets")         \
    X(NET_ERRORS, "network", "errors_per_second", "1/s", "packets with errors, both ways")         \
    X(NET_DROPS, "network", "drops_per_second", "1/s", "packets dropped, both ways")               \
    X(NET_RETRANSMITS, "network", "retransmits_per_second", "1/s", "TCP segments sent again")      \
    X(NET_OVERFLOWS, "network", "listen_overflows_per_second", "1/s", "connections lost to full listen queues") \
    X(FILES_OPEN, "descriptors", "host_open", "files", "open files of the host")                   \
    X(FILES_MAX, "descriptors", "host_max", "files", "most open files of the host")                \
    X(FILES_LIMIT, "descriptors", "process_max", "files", "most descriptors of each of our processes")

enum resource_id {
#define X(id, section, name, unit, doc) RESOURCE_##id,
    RESOURCE_LIST(X)
#undef X
        RESOURCE_COUNT
};

struct resource_info {
    const char *section, *name, *unit, *doc;
};

extern const struct resource_info resource_infos[RESOURCE_COUNT];

enum { RESOURCE_DISKS = 64, RESOURCE_DISK_NAME = 32 };

struct resources {
    double value[RESOURCE_COUNT];    /* NAN: not available */
    const char *why[RESOURCE_COUNT]; /* then; a literal */
    /* private */
    char root[256], disk_path[256];
    uint64_t now_ns;
    double last[RESOURCE_COUNT]; /* counters of the sample before; NAN: none */
    uint64_t last_ns[RESOURCE_COUNT];
    bool used_of_group;          /* where used_cpus came from in the sample before */
    double last_steal[2], last_throttled[2]; /* part, whole; the whole NAN: none */
    struct {
        char name[RESOURCE_DISK_NAME];
        double busy_ms;
    } disks[RESOURCE_DISKS];
    unsigned disk_count;
    uint64_t disks_ns;
};

/* `root` as in sysfile.h; `disk_path` is on the file system of interest, NULL: none. */
void resources_init(struct resources *r, const char *root, const char *disk_path);

/* Rates and shares of time are over the time since the sample before. */
void resources_sample(struct resources *r, uint64_t now_ns);

static inline bool resource_known(const struct resources *r, enum resource_id id)
{
    return r->value[id] == r->value[id];
}
