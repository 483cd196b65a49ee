// SPDX-License-Identifier: MIT
#include "engine/notify.h"

#include "base/str.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    int fd; /* 0: none */
    struct sockaddr_un to;
    socklen_t length;
    uint64_t watchdog_ms;
} notify;

static void read_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t number, wanted;
    bool for_us = !pid || (str_to_u64(str_from(pid), &wanted) && (pid_t)wanted == getpid());
    if (usec && for_us && str_to_u64(str_from(usec), &number))
        notify.watchdog_ms = number / 2000;
}

void notify_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path ? strlen(path) : 0;
    if (len > 1 && len < sizeof notify.to.sun_path && (*path == '/' || *path == '@')) {
        notify.to.sun_family = AF_UNIX;
        memcpy(notify.to.sun_path, path, len);
        if (*path == '@') /* an abstract one */
            notify.to.sun_path[0] = 0;
        notify.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        notify.fd = fd > 0 ? fd : 0;
        read_watchdog();
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_send(const char *format, ...)
{
    char text[500];
    va_list args;
    if (!notify.fd)
        return;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0)
        sendto(notify.fd, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1, MSG_NOSIGNAL,
               (struct sockaddr *)&notify.to, notify.length);
}

uint64_t notify_watchdog_ms(void)
{
    return notify.watchdog_ms;
}
