// SPDX-License-Identifier: MIT
#include "engine/remote.h"

#include "engine/config.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_MOST = 64 << 20, WAIT_S = 120 };

bool remote_read_file(const char *path, size_t most, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    size_t n = 0;
    if (!f)
        return false;
    while (buf_len(out) <= most) {
        char *room = buf_room(out, 4096);
        if (!room || (n = fread(room, 1, 4096, f)) == 0)
            break;
        buf_wrote(out, n);
    }
    bool ok = !ferror(f) && buf_len(out) <= most;
    int err = ferror(f) ? errno : EFBIG;
    fclose(f);
    errno = ok ? 0 : err;
    return ok;
}

bool remote_address(const char *state, char *out, size_t size)
{
    static const char key[] = "\"admin\": \"";
    char path[4096];
    struct buf text = {0};
    snprintf(path, sizeof path, "%s/ports.json", state);
    bool ok = remote_read_file(path, 4096, &text);
    buf_add_char(&text, 0);
    const char *at = ok && buf_ok(&text) ? strstr(buf_str(&text).p, key) : NULL;
    size_t len = at ? strcspn(at + sizeof key - 1, "\"") : 0;
    ok = at && len > 0 && len < size;
    if (ok)
        snprintf(out, size, "%.*s", (int)len, at + sizeof key - 1);
    buf_done(&text);
    return ok;
}

static int dial(const char *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    char host[256], port[8];
    uint16_t number;
    int fd = -1;
    if (!config_address(address, host, sizeof host, &number))
        return -1;
    snprintf(port, sizeof port, "%u", number);
    const char *name = strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1"
                       : strcmp(host, "::") == 0    ? "::1"
                                                    : host;
    if (getaddrinfo(name, port, &hints, &list) != 0)
        return -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

static bool send_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}


bool remote_ask(const struct remote *to, const char *method, const char *path, struct str body, struct buf *answer)
{
    struct buf head = {0};
    struct timeval wait = {.tv_sec = WAIT_S};
    int fd = dial(to->address);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    buf_printf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, path, to->address);
    if (body.p)
        buf_printf(&head, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    if (*to->token)
        buf_printf(&head, "Authorization: Bearer %s\r\n", to->token);
    buf_printf(&head, "\r\n");
    bool ok = buf_ok(&head) && send_all(fd, buf_str(&head).p, buf_len(&head)) && send_all(fd, body.p, body.len);
    for (ssize_t n = 1; ok && n > 0;) {
        char *room = buf_room(answer, 65536);
        n = room ? recv(fd, room, 65536, 0) : -1;
        ok = n >= 0 && buf_len(answer) <= ANSWER_MOST;
        if (n > 0)
            buf_wrote(answer, (size_t)n);
    }
    close(fd);
    buf_done(&head);
    return ok && buf_len(answer) > 0;
}
