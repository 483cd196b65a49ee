// SPDX-License-Identifier: MIT
#include "board/attach.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static const char MAGIC[8] = "perilun1";

union rights {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

bool attach_send(int socket, struct board *board, const char *admin)
{
    struct attach_hello hello = {.layout = board_layout(), .size_bytes = board->size_bytes};
    memcpy(hello.magic, MAGIC, sizeof MAGIC);
    snprintf(hello.version, sizeof hello.version, "%s", PERILUNE_VERSION);
    snprintf(hello.admin, sizeof hello.admin, "%s", admin);
    union rights rights = {0};
    struct iovec part = {&hello, sizeof hello};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = rights.bytes, .msg_controllen = sizeof rights.bytes};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &board->fd, sizeof(int));
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof hello;
}

/* ---- the application's side ---- */

static int connect_to(const char *path, char *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, ATTACH_WHY, "the path of a socket has at most %zu bytes: %.120s...", sizeof address.sun_path - 1, path);
        return -1;
    }
    strcpy(address.sun_path, path); /* NOLINT(clang-analyzer-security.insecureAPI.strcpy): it fits */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = 1};
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        close(fd);
    }
    int error = errno;
    snprintf(why, ATTACH_WHY, "no engine answers at %.160s (%s): %s", path, strerror(error),
             error == EACCES ? "run both as the same user" : "is it running? its socket is perilune.sock in its state folder");
    return -1;
}

/* The descriptor that came with the hello, or -1. */
static int receive(int socket, struct attach_hello *hello)
{
    union rights rights = {0};
    struct iovec part = {hello, sizeof *hello};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = rights.bytes, .msg_controllen = sizeof rights.bytes};
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    int fd = -1;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(head), sizeof fd);
    if (fd >= 0 && (n != sizeof *hello || memcmp(hello->magic, MAGIC, sizeof MAGIC) != 0)) {
        close(fd);
        fd = -1;
    }
    hello->version[ATTACH_VERSION - 1] = hello->admin[ATTACH_ADDRESS - 1] = 0;
    return fd;
}

static bool claim(struct attached *a, char *why)
{
    a->lane = guest_claim(a->board, a->fd);
    if (a->lane < 0)
        snprintf(why, ATTACH_WHY, "%u applications are attached to this engine, which is all it has place for: raise attach.guests",
                 a->board->lanes - a->board->workers);
    return a->lane >= 0;
}

bool attach_open(const char *path, struct attached *out, char why[ATTACH_WHY])
{
    *out = (struct attached){.fd = -1, .lane = -1};
    int socket = connect_to(path, why);
    if (socket < 0)
        return false;
    int shared = receive(socket, &out->hello);
    close(socket);
    if (shared < 0) {
        snprintf(why, ATTACH_WHY, "what answers at %.160s is not an engine of ours", path);
        return false;
    }
    if (out->hello.layout != board_layout()) {
        snprintf(why, ATTACH_WHY, "the engine is version %s and this library is %s: their memory differs; install the same version",
                 out->hello.version, PERILUNE_VERSION);
        close(shared);
        return false;
    }
    out->fd = guest_open(shared);
    close(shared);
    void *at = out->fd < 0 ? MAP_FAILED : mmap(NULL, out->hello.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, out->fd, 0);
    if (at == MAP_FAILED) {
        snprintf(why, ATTACH_WHY, "the engine's memory cannot be mapped: %s", strerror(errno));
        attach_close(out);
        return false;
    }
    out->board = at;
    if (claim(out, why))
        return true;
    attach_close(out);
    return false;
}

bool attach_alive(const struct attached *a, uint64_t now_ns)
{
    uint64_t last_ns = 0;
    for (uint32_t i = 0; i < a->board->workers + 2; i++) {
        uint64_t beat_ns = atomic_load_explicit(&a->board->processes[i].heartbeat_ns, memory_order_relaxed);
        last_ns = beat_ns > last_ns ? beat_ns : last_ns;
    }
    return now_ns < last_ns + ATTACH_ALIVE_NS;
}

bool attach_again(struct attached *a)
{
    char why[ATTACH_WHY];
    int fd = guest_open(a->fd);
    if (fd < 0)
        return false;
    close(a->fd); /* the parent has its own copy of this description */
    a->fd = fd;
    return claim(a, why);
}

void attach_close(struct attached *a)
{
    if (a->board)
        munmap(a->board, a->hello.size_bytes);
    if (a->fd >= 0)
        close(a->fd);
    *a = (struct attached){.fd = -1, .lane = -1};
}
