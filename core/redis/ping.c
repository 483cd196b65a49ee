// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A connected socket, or -1 with errno; times of waiting are bounded (socket(7), SO_SNDTIMEO holds for connect too). */
static int connect_to(const struct sockaddr *address, socklen_t len)
{
    const struct timeval most = {.tv_sec = REDIS_PING_S};
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    if (connect(fd, address, len) == 0)
        return fd;
    int err = errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = err;
    return -1;
}

static int connect_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return connect_to((struct sockaddr *)&address, sizeof address);
}

static int connect_host(const struct redis_address *a, char why[REDIS_WHY])
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    snprintf(port, sizeof port, "%u", a->port);
    int fd = -1, err = getaddrinfo(a->host, port, &hints, &list);
    if (err) {
        snprintf(why, REDIS_WHY, "the name has no address: %s", gai_strerror(err));
        return -1;
    }
    for (const struct addrinfo *one = list; one && fd < 0; one = one->ai_next)
        fd = connect_to(one->ai_addr, one->ai_addrlen);
    if (fd < 0)
        snprintf(why, REDIS_WHY, "%s", strerror(errno));
    freeaddrinfo(list);
    return fd;
}

const char *redis_ping(const char *url, char why[REDIS_WHY])
{
    struct redis_address a;
    char reply[64] = "";
    if (!redis_address_parse(&a, url, why)) {
        redis_address_done(&a);
        return why;
    }
    int fd = a.path ? connect_socket(a.path) : connect_host(&a, why);
    if (fd < 0 && a.path)
        snprintf(why, REDIS_WHY, "%s", strerror(errno));
    redis_address_done(&a);
    if (fd < 0)
        return why;
    ssize_t n = send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 ? recv(fd, reply, sizeof reply - 1, 0) : -1;
    close(fd);
    if (n > 0 && (strncmp(reply, "+PONG", 5) == 0 || strncmp(reply, "-NOAUTH", 7) == 0))
        return NULL;
    snprintf(why, REDIS_WHY, n > 0 ? "it does not speak as Redis does" : "it does not answer");
    return why;
}
