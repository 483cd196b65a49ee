/* Disks, network and files: what the host has. */
// SPDX-License-Identifier: MIT
#include "sys/resources_parts.h"

#include "sys/process_info.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { SECTOR_BYTES = 512 }; /* in /proc/diskstats, whatever the disk has */

void resources_disk(struct resources *r)
{
    struct statvfs fs;
    if (!*r->disk_path || statvfs(r->disk_path, &fs) != 0) {
        resources_missing(r, RESOURCE_DISK_TOTAL, RESOURCE_DISK_INODES, "the file system of the state folder does not tell");
        return;
    }
    double unit = (double)fs.f_frsize, used = (double)(fs.f_blocks - fs.f_bfree), usable = used + (double)fs.f_bavail;
    resource_set(r, RESOURCE_DISK_TOTAL, (double)fs.f_blocks * unit);
    resource_set(r, RESOURCE_DISK_FREE, (double)fs.f_bavail * unit);
    if (usable > 0)
        resource_set(r, RESOURCE_DISK_SHARE, used / usable); /* as df counts */
    else
        resource_missing(r, RESOURCE_DISK_SHARE, "the file system has no size");
    if (fs.f_files > 0)
        resource_set(r, RESOURCE_DISK_INODES, (double)(fs.f_files - fs.f_ffree) / (double)fs.f_files);
    else
        resource_missing(r, RESOURCE_DISK_INODES, "the file system does not count inodes");
}

/* ---- disks ---- */

/* Whole disks only: parts and what is made of disks would count twice. */
static bool is_disk(const struct resources *r, const char *name)
{
    char path[128], text[32];
    static const char *const layered[] = {"loop", "ram", "zram", "dm-", "md", "sr", "fd"};
    for (size_t i = 0; i < sizeof layered / sizeof *layered; i++)
        if (strncmp(name, layered[i], strlen(layered[i])) == 0)
            return false;
    snprintf(path, sizeof path, "/sys/block/%s/size", name);
    return sysfile_read(r->root, path, text, sizeof text);
}

/* Milliseconds that a disk had work since the sample before; NAN: it was not there. */
static double grew(struct resources *r, const char *name, double busy_ms)
{
    for (unsigned i = 0; i < r->disk_count; i++)
        if (strcmp(r->disks[i].name, name) == 0) {
            double before = r->disks[i].busy_ms;
            r->disks[i].busy_ms = busy_ms;
            return busy_ms - before;
        }
    if (r->disk_count < RESOURCE_DISKS) {
        snprintf(r->disks[r->disk_count].name, RESOURCE_DISK_NAME, "%s", name);
        r->disks[r->disk_count++].busy_ms = busy_ms;
    }
    return NAN;
}

static void set_busiest(struct resources *r, double most_ms)
{
    double span_ms = (double)(r->now_ns - r->disks_ns) / 1e6;
    if (isnan(most_ms) || !r->disks_ns || span_ms <= 0)
        resource_missing(r, RESOURCE_IO_BUSY, "known from the second sample on");
    else
        resource_set(r, RESOURCE_IO_BUSY, most_ms < span_ms ? most_ms / span_ms : 1);
    r->disks_ns = r->now_ns;
}

void resources_io(struct resources *r)
{
    char *text = malloc(RESOURCE_FILE_BYTES), *rest = text, *line;
    double sums[4] = {0}, most_ms = NAN;
    unsigned disks = 0;
    bool readable = text && sysfile_read(r->root, "/proc/diskstats", text, RESOURCE_FILE_BYTES);
    while (readable && (line = strsep(&rest, "\n"))) {
        char name[RESOURCE_DISK_NAME];
        double reads, read, writes, written, busy_ms;
        if (sscanf(line, "%*u %*u %31s %lf %*f %lf %*f %lf %*f %lf %*f %*f %lf", name, &reads, &read, &writes, &written,
                   &busy_ms) != 6 ||
            !is_disk(r, name))
            continue;
        disks++;
        sums[0] += read;
        sums[1] += written;
        sums[2] += reads;
        sums[3] += writes;
        double more_ms = grew(r, name, busy_ms);
        if (isnan(most_ms) || more_ms > most_ms)
            most_ms = more_ms;
    }
    free(text);
    if (!disks) {
        resources_missing(r, RESOURCE_IO_READ, RESOURCE_IO_BUSY,
                          readable ? "/proc/diskstats shows no disk here" : "/proc/diskstats cannot be read");
        return;
    }
    resource_rate(r, RESOURCE_IO_READ, sums[0], SECTOR_BYTES);
    resource_rate(r, RESOURCE_IO_WRITTEN, sums[1], SECTOR_BYTES);
    resource_rate(r, RESOURCE_IO_READS, sums[2], 1);
    resource_rate(r, RESOURCE_IO_WRITES, sums[3], 1);
    set_busiest(r, most_ms);
}

/* ---- network ---- */

static void sample_interfaces(struct resources *r)
{
    char *text = malloc(RESOURCE_FILE_BYTES), *rest = text, *line;
    double sums[6] = {0}, in[4], out[4];
    bool readable = text && sysfile_read(r->root, "/proc/net/dev", text, RESOURCE_FILE_BYTES);
    while (readable && (line = strsep(&rest, "\n"))) {
        char *name = line + strspn(line, " "), *colon = strchr(name, ':');
        if (!colon || (colon - name == 2 && strncmp(name, "lo", 2) == 0) ||
            sscanf(colon + 1, "%lf %lf %lf %lf %*f %*f %*f %*f %lf %lf %lf %lf", &in[0], &in[1], &in[2], &in[3], &out[0],
                   &out[1], &out[2], &out[3]) != 8)
            continue;
        sums[0] += in[0];
        sums[1] += out[0];
        sums[2] += in[1];
        sums[3] += out[1];
        sums[4] += in[2] + out[2];
        sums[5] += in[3] + out[3];
    }
    free(text);
    if (!readable) {
        resources_missing(r, RESOURCE_NET_RECEIVED, RESOURCE_NET_DROPS, "/proc/net/dev cannot be read");
        return;
    }
    for (int i = 0; i < 6; i++)
        resource_rate(r, (enum resource_id)(RESOURCE_NET_RECEIVED + i), sums[i], 1);
}

/* The value under a name in a file of pairs of lines: "Tcp: A B C", then "Tcp: 1 2 3". */
static bool column(char *text, const char *prefix, const char *name, double *out)
{
    char *head = strstr(text, prefix), *values = head ? strchr(head, '\n') : NULL;
    if (!values || strncmp(++values, prefix, strlen(prefix)) != 0)
        return false;
    char *h = head, *v = values;
    size_t len = strlen(name);
    for (;;) {
        h += strcspn(h, " \n");
        v += strcspn(v, " \n");
        if (*h != ' ' || *v != ' ')
            return false;
        h++;
        v++;
        if (strncmp(h, name, len) == 0 && (h[len] == ' ' || h[len] == '\n'))
            return sscanf(v, "%lf", out) == 1;
    }
}

static void sample_tcp(struct resources *r, enum resource_id id, const char *file, const char *prefix, const char *name)
{
    char *text = malloc(RESOURCE_FILE_BYTES);
    double value;
    if (text && sysfile_read(r->root, file, text, RESOURCE_FILE_BYTES) && column(text, prefix, name, &value))
        resource_rate(r, id, value, 1);
    else
        resource_missing(r, id, "the kernel does not tell this of TCP here");
    free(text);
}

void resources_network(struct resources *r)
{
    sample_interfaces(r);
    sample_tcp(r, RESOURCE_NET_RETRANSMITS, "/proc/net/snmp", "Tcp:", "RetransSegs");
    sample_tcp(r, RESOURCE_NET_OVERFLOWS, "/proc/net/netstat", "TcpExt:", "ListenOverflows");
}

/* ---- files ---- */

void resources_files(struct resources *r)
{
    char text[128];
    double open, most;
    uint64_t limit;
    if (sysfile_read(r->root, "/proc/sys/fs/file-nr", text, sizeof text) && sscanf(text, "%lf %*f %lf", &open, &most) == 2) {
        resource_set(r, RESOURCE_FILES_OPEN, open);
        resource_set(r, RESOURCE_FILES_MAX, most);
    } else {
        resources_missing(r, RESOURCE_FILES_OPEN, RESOURCE_FILES_MAX, "/proc/sys/fs/file-nr cannot be read");
    }
    if (process_fd_limit(&limit))
        resource_set(r, RESOURCE_FILES_LIMIT, (double)limit);
    else
        resource_missing(r, RESOURCE_FILES_LIMIT, "the system does not tell");
}
