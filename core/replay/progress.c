// SPDX-License-Identifier: MIT
#include "replay/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BAR = 30, EVERY_NS = 200000000 };

void progress_start(struct progress *p)
{
    *p = (struct progress){.on = isatty(2), .start_ns = clock_now_ns()};
    p->next_ns = p->start_ns + EVERY_NS;
}

void progress_expect(struct progress *p, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
        p->expected += info.st_size;
    else
        p->endless = true;
}

void progress_show(struct progress *p, int64_t offset, uint64_t lines)
{
    uint64_t now = clock_now_ns();
    if (!p->on || now < p->next_ns)
        return;
    p->next_ns = now + EVERY_NS;
    p->shown = true;
    double seconds = (double)(now - p->start_ns) / 1e9, done = (double)(p->before + offset);
    fprintf(stderr, "\r\033[K");
    if (!p->endless && p->expected > 0) {
        double share = done < (double)p->expected ? done / (double)p->expected : 1;
        fprintf(stderr, "[");
        for (int i = 0; i < BAR; i++)
            fputc(i < share * BAR ? '#' : '.', stderr);
        fprintf(stderr, "] %3.0f %%, %.0f s left, ", 100 * share, share > 0 ? seconds / share - seconds : 0);
    }
    fprintf(stderr, "%.1f MB/s, %.0f lines/s", done / seconds / 1e6, (double)lines / seconds);
    fflush(stderr);
}

void progress_file_done(struct progress *p, int64_t size)
{
    p->before += size;
}

void progress_clear(struct progress *p)
{
    if (p->shown)
        fprintf(stderr, "\r\033[K");
    p->shown = false;
}
