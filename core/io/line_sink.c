// SPDX-License-Identifier: MIT
#include "io/line_sink.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    GATHER_NS = 100000000, /* after the first line, until a batch is written */
    LOOK_MS = 1000,        /* between looks whether the file was moved */
    COMPLAIN_MS = 60000,
};

struct line_sink {
    char *path;
    int fd;
    size_t mask;                   /* size - 1 */
    _Atomic size_t head, tail;     /* written by: put, thread */
    _Atomic uint64_t lost;
    _Atomic bool idle, stop;
    uint64_t looked_ms, complained_ms;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    char ring[];
};

/* ---- the thread ---- */

static int open_file(const char *path)
{
    if (strcmp(path, "-") == 0)
        return STDOUT_FILENO;
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

static void close_file(struct line_sink *s)
{
    if (s->fd > STDOUT_FILENO)
        close(s->fd);
    s->fd = -1;
}

/* Opens the file anew when what is at its path is another one, or none. */
static void look(struct line_sink *s)
{
    struct stat now, open_one;
    uint64_t now_ms = clock_now_ns() / 1000000;
    if (s->fd == STDOUT_FILENO || now_ms < s->looked_ms + LOOK_MS)
        return;
    s->looked_ms = now_ms;
    bool same = s->fd >= 0 && stat(s->path, &now) == 0 && fstat(s->fd, &open_one) == 0 && now.st_ino == open_one.st_ino &&
                now.st_dev == open_one.st_dev;
    if (same)
        return;
    int fd = open_file(s->path);
    if (fd >= 0) {
        close_file(s);
        s->fd = fd;
    }
}

static void lose(struct line_sink *s, const char *p, size_t len)
{
    uint64_t lines = 0, now_ms = clock_now_ns() / 1000000;
    int error = errno;
    for (size_t i = 0; i < len; i++)
        lines += p[i] == '\n';
    atomic_fetch_add(&s->lost, lines);
    if (!s->complained_ms || now_ms > s->complained_ms + COMPLAIN_MS) {
        s->complained_ms = now_ms;
        log_line(LOG_WARN, "%s: lines are lost: %s", s->path, strerror(error));
    }
}

/* Writes whole lines; what the file does not take is lost. */
static void write_out(struct line_sink *s, const char *p, size_t len)
{
    while (len) {
        ssize_t n = s->fd < 0 ? -1 : write(s->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            lose(s, p, len);
            return;
        }
        p += n;
        len -= (size_t)n;
    }
}

/* The ring's content in one or two pieces, cut behind a newline unless it wraps there. */
static void drain(struct line_sink *s)
{
    size_t tail = atomic_load_explicit(&s->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&s->head, memory_order_acquire);
    size_t size = s->mask + 1, at = tail & s->mask, len = head - tail;
    if (!len)
        return;
    if (at + len <= size) {
        write_out(s, s->ring + at, len);
    } else { /* a line across the end is put together */
        char *whole = malloc(len);
        if (whole) {
            memcpy(whole, s->ring + at, size - at);
            memcpy(whole + (size - at), s->ring, len - (size - at));
            write_out(s, whole, len);
            free(whole);
        } else {
            errno = ENOMEM;
            lose(s, s->ring + at, size - at);
            lose(s, s->ring, len - (size - at));
        }
    }
    atomic_store_explicit(&s->tail, head, memory_order_release);
}

static void await_lines(struct line_sink *s)
{
    struct timespec until = thread_deadline(LOOK_MS);
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->idle, true);
    while (!atomic_load(&s->stop) && atomic_load(&s->idle) && atomic_load(&s->head) == atomic_load(&s->tail))
        if (pthread_cond_timedwait(&s->wake, &s->lock, &until) == ETIMEDOUT)
            break;
    atomic_store(&s->idle, false);
    pthread_mutex_unlock(&s->lock);
}

static void *run(void *user)
{
    struct line_sink *s = user;
    while (!atomic_load(&s->stop)) {
        await_lines(s);
        look(s);
        if (!atomic_load(&s->stop) && atomic_load(&s->head) != atomic_load(&s->tail))
            nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
        drain(s);
    }
    drain(s);
    return NULL;
}

/* ---- the other side ---- */

bool line_sink_put(struct line_sink *s, struct str line)
{
    size_t head = atomic_load_explicit(&s->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&s->tail, memory_order_acquire);
    size_t size = s->mask + 1, at = head & s->mask, first = size - at;
    if (line.len > size - (head - tail))
        return false;
    if (first > line.len)
        first = line.len;
    memcpy(s->ring + at, line.p, first);
    memcpy(s->ring, line.p + first, line.len - first);
    atomic_store(&s->head, head + line.len);
    if (atomic_load(&s->idle) && atomic_exchange(&s->idle, false)) {
        pthread_mutex_lock(&s->lock);
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
    }
    return true;
}

uint64_t line_sink_lost(struct line_sink *s)
{
    return atomic_load_explicit(&s->lost, memory_order_relaxed) ? atomic_exchange(&s->lost, 0) : 0;
}

static bool start(struct line_sink *s)
{
    pthread_mutex_init(&s->lock, NULL);
    thread_cond_init(&s->wake);
    return thread_start(&s->thread, NULL, run, s);
}

struct line_sink *line_sink_new(const char *path, size_t bytes, char why[LINE_SINK_WHY])
{
    size_t size = 4096;
    while (size < bytes)
        size *= 2;
    struct line_sink *s = calloc(1, sizeof *s + size);
    why[0] = 0;
    if (!s || !(s->path = strdup(path)) || (s->fd = open_file(path)) < 0)
        snprintf(why, LINE_SINK_WHY, "%.120s: %s", path, strerror(errno));
    else if ((s->mask = size - 1, start(s)))
        return s;
    else
        snprintf(why, LINE_SINK_WHY, "no thread for %.120s", path);
    if (s)
        free(s->path);
    free(s);
    return NULL;
}

void line_sink_free(struct line_sink *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stop, true);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    close_file(s);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s->path);
    free(s);
}
