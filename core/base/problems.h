/* problems.h - what is wrong with a set of scripts or a configuration: a list,
 * so that all of it is told at once.
 *
 * Owner:   whoever holds the struct; ends with problems_done().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"

struct problem {
    char *file; /* as the user would open it; "" when it concerns none */
    int line;   /* 0: the file as a whole */
    char *text; /* what, and how to fix it */
};

struct problems {
    struct problem *list;
    size_t count;
};

void problems_add(struct problems *p, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds a message that begins with "file:line: ", as Lua writes it; `file` is
 * used when it does not, and when it is what Lua cut to "...end". */
void problems_add_message(struct problems *p, const char *file, const char *message);

/* Whether `cut` is "...end", as Lua writes a name of 60 bytes or more, and
 * `name` ends so. */
bool problem_name_is(struct str cut, const char *name);

/* "file:line: text", with what there is of it. */
void problem_print(const struct problem *one, struct buf *out);

/* The same with a line end, for each. */
void problems_print(const struct problems *p, struct buf *out);
void problems_done(struct problems *p);
