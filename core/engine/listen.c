// SPDX-License-Identifier: MIT
#include "engine/listen.h"

#include "engine/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t parse(const char *host, uint16_t port, union address *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return sizeof out->v4;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return sizeof out->v6;
    }
    return 0;
}

static const char *advice(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "another program listens there; stop it, or choose another port";
    case EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE";
    case EADDRNOTAVAIL:
        return "this machine has no such address";
    default:
        return strerror(error);
    }
}

int listen_on(const char *text, char *chosen, size_t chosen_size, char *why, size_t why_size)
{
    union address address;
    char host[64];
    uint16_t port;
    int on = 1;
    socklen_t len = config_address(text, host, sizeof host, &port) ? parse(host, port, &address) : 0;
    if (!len) {
        snprintf(why, why_size, "cannot listen on %s: the host must be an IP address or localhost", text);
        return -1;
    }
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, &address.any, len) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, &address.any, &len) < 0) {
        snprintf(why, why_size, "cannot listen on %s: %s", text, advice(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    port = ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
    snprintf(chosen, chosen_size, address.any.sa_family == AF_INET ? "%s:%u" : "[%s]:%u", host, port);
    return fd;
}
