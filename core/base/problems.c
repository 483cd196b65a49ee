// SPDX-License-Identifier: MIT
#include "base/problems.h"

#include <stdio.h>
#include <stdlib.h>

enum { PROBLEMS_MAX = 1000 };

void problems_add(struct problems *p, const char *file, int line, const char *format, ...)
{
    struct buf text = {0};
    va_list args;
    if (p->count >= PROBLEMS_MAX)
        return;
    struct problem *list = realloc(p->list, (p->count + 1) * sizeof *list);
    if (!list)
        return;
    p->list = list;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    struct str s = buf_str(&text);
    list[p->count].file = strdup(file ? file : "");
    list[p->count].line = line;
    list[p->count].text = strndup(s.len ? s.p : "out of memory", s.len ? s.len : 13);
    for (char *c = list[p->count].text; c && *c; c++)
        if (*c == '\n') /* a problem is one line, here and in every list of them */
            *c = ' ';
    p->count++;
    buf_done(&text);
}

bool problem_name_is(struct str cut, const char *name)
{
    size_t len = strlen(name);
    if (cut.len < 4 || memcmp(cut.p, "...", 3) != 0)
        return false;
    size_t end = cut.len - 3;
    return len >= end && memcmp(name + len - end, cut.p + 3, end) == 0;
}

void problems_add_message(struct problems *p, const char *file, const char *message)
{
    const char *colon = strchr(message, ':');
    int line = 0, used = 0;
    if (colon && sscanf(colon, ":%d: %n", &line, &used) == 1 && used) {
        struct str cut = {message, (size_t)(colon - message)};
        char *name = strndup(message, cut.len);
        problems_add(p, problem_name_is(cut, file) ? file : name, line, "%s", colon + used);
        free(name);
        return;
    }
    problems_add(p, file, 0, "%s", message);
}

void problem_print(const struct problem *one, struct buf *out)
{
    if (one->file[0] && one->line)
        buf_printf(out, "%s:%d: %s", one->file, one->line, one->text);
    else if (one->file[0])
        buf_printf(out, "%s: %s", one->file, one->text);
    else
        buf_printf(out, "%s", one->text);
}

void problems_print(const struct problems *p, struct buf *out)
{
    for (size_t i = 0; i < p->count; i++) {
        problem_print(&p->list[i], out);
        buf_add_char(out, '\n');
    }
}

void problems_done(struct problems *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->list[i].file);
        free(p->list[i].text);
    }
    free(p->list);
    *p = (struct problems){0};
}
