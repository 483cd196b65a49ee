// SPDX-License-Identifier: MIT
#include "sys/process_info.h"

#include "sys/sysfile.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

bool process_rss_bytes(const char *root, pid_t pid, uint64_t *out)
{
    char path[64], text[256];
    uint64_t pages;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    if (!sysfile_read(root, path, text, sizeof text) || sscanf(text, "%*u %" SCNu64, &pages) != 1)
        return false;
    *out = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

bool process_cpu_s(const char *root, pid_t pid, double *out)
{
    char path[64], text[1024];
    uint64_t user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    const char *rest = sysfile_read(root, path, text, sizeof text) ? strrchr(text, ')') : NULL; /* a name may hold spaces */
    if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user, &system) != 2)
        return false;
    *out = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

bool process_cpu_wait_s(const char *root, pid_t pid, double *out)
{
    char path[SYSFILE_PATH], text[128];
    uint64_t wait_ns, sum_ns = 0;
    bool any = false;
    if ((size_t)snprintf(path, sizeof path, "%s/proc/%d/task", root, (int)pid) >= sizeof path)
        return false;
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    for (struct dirent *entry; (entry = readdir(dir));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", (int)pid, entry->d_name);
        if (entry->d_name[0] == '.' || !sysfile_read(root, path, text, sizeof text) || sscanf(text, "%*u %" SCNu64, &wait_ns) != 1)
            continue;
        sum_ns += wait_ns;
        any = true;
    }
    closedir(dir);
    *out = (double)sum_ns / 1e9;
    return any;
}

bool process_title(const char *root, pid_t pid, char *out, size_t size)
{
    char path[64], full[SYSFILE_PATH];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
        return false;
    FILE *f = fopen(full, "re");
    if (!f)
        return false;
    size_t n = fread(out, 1, size - 1, f);
    fclose(f);
    while (n > 0 && (out[n - 1] == 0 || out[n - 1] == ' '))
        n--;
    out[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (out[i] == 0)
            out[i] = ' ';
    return n > 0;
}

bool process_open_fds(const char *root, pid_t pid, uint64_t *out)
{
    char path[SYSFILE_PATH];
    if ((size_t)snprintf(path, sizeof path, "%s/proc/%d/fd", root, (int)pid) >= sizeof path)
        return false;
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    uint64_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    /* Counting our own sees the descriptor it counts with. */
    if (pid == getpid() && count && !*root)
        count--;
    *out = count;
    return true;
}

bool process_fd_limit(uint64_t *out)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    *out = limit.rlim_cur;
    return true;
}
