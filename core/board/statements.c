// SPDX-License-Identifier: MIT
#include "board/statements.h"

#include <stdio.h>

enum { FREE, WRITING, READY };

struct lexer {
    const char *p, *end;
    char *out;
    size_t len;
};

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char last_of(const struct lexer *x)
{
    return x->len ? x->out[x->len - 1] : ' ';
}

static void put(struct lexer *x, char c)
{
    if (c != ' ' || last_of(x) != ' ')
        x->out[x->len++] = c;
}

/* A literal; several in a list become one. */
static void put_literal(struct lexer *x)
{
    size_t n = x->len;
    while (n && x->out[n - 1] == ' ')
        n--;
    if (n && x->out[n - 1] == ',') {
        n--;
        while (n && x->out[n - 1] == ' ')
            n--;
        if (n && x->out[n - 1] == '?') {
            x->len = n;
            return;
        }
    }
    put(x, '?');
}

static void skip_line(struct lexer *x)
{
    while (x->p < x->end && *x->p != '\n')
        x->p++;
}

static void skip_block(struct lexer *x)
{
    unsigned depth = 0;
    do {
        bool two = x->p + 1 < x->end;
        bool opens = two && x->p[0] == '/' && x->p[1] == '*', closes = two && x->p[0] == '*' && x->p[1] == '/';
        depth = depth + opens - closes;
        x->p += opens || closes ? 2 : 1;
    } while (depth && x->p < x->end);
}

static void skip_quoted(struct lexer *x, bool escapes)
{
    for (x->p++; x->p < x->end; x->p++) {
        if (escapes && *x->p == '\\' && x->p + 1 < x->end)
            x->p++;
        else if (*x->p == '\'' && x->p + 1 < x->end && x->p[1] == '\'')
            x->p++;
        else if (*x->p == '\'')
            break;
    }
    x->p += x->p < x->end;
}

/* $tag$ ... $tag$; false: not one, but a parameter. */
static bool skip_dollar(struct lexer *x)
{
    const char *tag = x->p + 1;
    while (tag < x->end && is_word(*tag))
        tag++;
    if (tag >= x->end || *tag != '$' || is_digit(x->p[1]))
        return false;
    size_t n = (size_t)(tag - x->p) + 1;
    const char *close = memmem(tag + 1, (size_t)(x->end - tag - 1), x->p, n);
    x->p = close ? close + n : x->end;
    return true;
}

static void take(struct lexer *x)
{
    char c = *x->p, next = x->p + 1 < x->end ? x->p[1] : 0;
    bool in_word = is_word(last_of(x)) || last_of(x) == '$';
    if (c == '-' && next == '-') {
        skip_line(x);
    } else if (c == '/' && next == '*') {
        skip_block(x);
    } else if (c == '\'') {
        bool escapes = last_of(x) == 'e' || last_of(x) == 'E';
        skip_quoted(x, escapes);
        put_literal(x);
    } else if (c == '$' && !in_word && skip_dollar(x)) {
        put_literal(x);
    } else if (is_digit(c) && !in_word) {
        while (x->p < x->end && (is_word(*x->p) || *x->p == '.'))
            x->p++;
        put_literal(x);
    } else if (c == '"') {
        do
            put(x, *x->p++);
        while (x->p < x->end && *x->p != '"');
        if (x->p < x->end)
            put(x, *x->p++);
    } else {
        put(x, strchr(" \t\r\n\f\v", c) && c ? ' ' : c);
        x->p++;
    }
}

size_t statement_shape(struct str sql, char *out)
{
    struct lexer x = {sql.p, sql.p + sql.len, out, 0};
    while (x.p < x.end)
        take(&x);
    while (x.len && (out[x.len - 1] == ' ' || out[x.len - 1] == ';'))
        x.len--;
    out[x.len] = 0;
    return x.len;
}

/* Cut at the start of a UTF-8 sequence. */
static void set_text(char *to, size_t size, struct str s)
{
    if (s.len >= size) {
        s.len = size - 1;
        while (s.len && ((unsigned char)s.p[s.len] & 0xc0) == 0x80)
            s.len--;
    }
    snprintf(to, size, "%.*s", STR_ARG(s));
}

uint32_t statements_open(struct statements *all, uint64_t hash, struct str pool, struct str shape)
{
    for (uint32_t i = 1; i < STATEMENTS_MAX; i++) {
        struct board_statement *s = &all->list[i];
        uint32_t state = atomic_load_explicit(&s->state, memory_order_acquire);
        if (state == READY && s->hash == hash)
            return i;
        /* Two workers with the same new shape may both register it: readers add them up. */
        if (state != FREE || !atomic_compare_exchange_strong(&s->state, &state, WRITING))
            continue;
        s->hash = hash;
        set_text(s->pool, sizeof s->pool, pool);
        set_text(s->text, sizeof s->text, shape);
        atomic_store_explicit(&s->state, READY, memory_order_release);
        return i;
    }
    return 0;
}
