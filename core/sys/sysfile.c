// SPDX-License-Identifier: MIT
#include "sys/sysfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sysfile_read(const char *root, const char *path, char *out, size_t size)
{
    char full[SYSFILE_PATH + 64];
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
        return false;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t used = 0;
    ssize_t n = 1;
    while (used < size - 1 && n > 0) {
        n = read(fd, out + used, size - 1 - used);
        if (n > 0)
            used += (size_t)n;
        else if (n < 0 && errno == EINTR)
            n = 1;
    }
    close(fd);
    out[used] = 0;
    return n >= 0;
}

bool sysfile_number(const char *text, const char *key, uint64_t *out)
{
    size_t len = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) != 0)
            continue;
        const char *value = line + len;
        if (*value != ' ' && *value != '\t' && *value != ':')
            continue;
        value += strspn(value, ": \t");
        if (*value < '0' || *value > '9')
            return false;
        *out = strtoull(value, NULL, 10);
        return true;
    }
    return false;
}

bool cgroup_own(struct cgroup *g, const char *root)
{
    char text[4096], mark[SYSFILE_PATH + 64];
    if (!sysfile_read(root, "/proc/self/cgroup", text, sizeof text))
        return false;
    char *own = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    if (!own)
        return false;
    own = strchr(own, '/');
    own[strcspn(own, "\n")] = 0;
    /* Its own mount, or beside the hierarchies of version 1. */
    const char *mount = "/sys/fs/cgroup";
    snprintf(mark, sizeof mark, "%s%s/cgroup.controllers", root, mount);
    if (access(mark, F_OK) != 0)
        mount = "/sys/fs/cgroup/unified";
    int len = snprintf(g->path, sizeof g->path, "%s%s", root, mount);
    if (len < 0 || (size_t)len + strlen(own) >= sizeof g->path)
        return false;
    g->top = (size_t)len;
    if (own[1])
        strcpy(g->path + len, own);
    return access(g->path, F_OK) == 0 || cgroup_up(g);
}

bool cgroup_up(struct cgroup *g)
{
    char *slash = strrchr(g->path + g->top, '/');
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

bool cgroup_read(const struct cgroup *g, const char *file, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/%s", file);
    return sysfile_read(g->path, path, out, size);
}
