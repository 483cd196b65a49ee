/* What control and workers have in common. */
// SPDX-License-Identifier: MIT
#include "engine/engine.h"

#include "base/log.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

void engine_close_listeners(struct engine *engine)
{
    close(engine->listen_fd);
    if (engine->tls_fd >= 0)
        close(engine->tls_fd);
}

void child_begin(struct engine *engine, const char *name)
{
    sigset_t none;
    sigemptyset(&none);
    log_name(name);
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of write(), as a full disk is */
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C reaches all; the supervisor decides */
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (getppid() != engine->supervisor_pid)
        _exit(0); /* it died before we asked to be told */
}
