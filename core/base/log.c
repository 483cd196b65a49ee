// SPDX-License-Identifier: MIT
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_BYTES = 8192 };

/* The one exception to "no mutable file-scope state": a process has one
 * stderr and one name on it. */
static const char *name = "perilune";
static enum log_level limit = LOG_INFO;

void log_name(const char *who)
{
    name = who;
}

void log_limit(enum log_level level)
{
    limit = level;
}

/* Escapes control bytes but keeps newlines of tracebacks as "\n\t". */
static size_t escape(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text && n + 5 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n')
            n += (size_t)snprintf(out + n, size - n, "\\n");
        else if (c == '\t')
            out[n++] = ' ';
        else if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
        else
            out[n++] = (char)c;
    }
    return n;
}

void log_line(enum log_level level, const char *format, ...)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};
    if (level > limit)
        return;
    char text[LINE_BYTES], line[LINE_BYTES + 256], stamp[CLOCK_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    clock_rfc3339(clock_unix_ms(), stamp);
    size_t n = (size_t)snprintf(line, 128, "%s %s %s: ", stamp, words[level], name);
    n += escape(line + n, sizeof line - n - 1, text);
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to say so */
}
