// SPDX-License-Identifier: MIT
#include "engine/door.h"

#include "base/log.h"
#include "board/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct door {
    uv_poll_t poll;
    struct engine *engine;
    int listener;
    int locks; /* description of the segment through which dead guests are noticed */
};

static void on_caller(uv_poll_t *poll, int status, int events)
{
    struct door *d = poll->data;
    int fd;
    (void)status;
    (void)events;
    while ((fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        attach_send(fd, d->engine->board, d->engine->admin_address);
        close(fd);
    }
}

/* A listening socket that only our user can connect to, or anyone; -1: errno says why. */
static int listen_at(const char *path, bool anyone)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path); /* NOLINT(clang-analyzer-security.insecureAPI.strcpy): it fits */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    unlink(path); /* of a control that has died */
    mode_t mask = umask(anyone ? 0111 : 0177);
    bool ok = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 64) == 0;
    int error = errno;
    umask(mask);
    if (ok)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

struct door *door_open(struct io *io, struct engine *engine)
{
    char path[sizeof engine->state + 20];
    const char *own = engine->config.key[CONFIG_ATTACH].text;
    bool anyone = setting_number(&engine->board->settings, SETTING_ATTACH_ANYONE) != 0;
    struct door *d;
    if (engine->board->lanes == engine->board->workers || !(d = calloc(1, sizeof *d)))
        return NULL;
    if (*own)
        snprintf(path, sizeof path, "%s", own);
    else
        snprintf(path, sizeof path, "%s/perilune.sock", engine->state);
    d->engine = engine;
    d->listener = listen_at(path, anyone);
    d->locks = guest_open(engine->board->fd);
    if (d->listener < 0 || d->locks < 0) {
        log_line(LOG_WARN, "applications cannot attach: %s: %s", path, strerror(errno));
        if (d->listener >= 0)
            close(d->listener);
        free(d);
        return NULL;
    }
    uv_poll_init(&io->loop, &d->poll, d->listener);
    d->poll.data = d;
    uv_poll_start(&d->poll, UV_READABLE, on_caller);
    return d;
}

void door_tick(struct door *d)
{
    if (d)
        guests_sweep(d->engine->board, d->locks);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void door_close(struct door *d)
{
    if (!d)
        return;
    close(d->locks);
    uv_close((uv_handle_t *)&d->poll, on_closed);
    close(d->listener);
}
