/* A backtracking interpreter that walks the pattern's text directly.
 *
 * match() recurses only where it may have to come back: after a capture
 * opens or closes, and once per try of a quantifier. All else is a loop, so
 * the depth follows the pattern's length, never the subject's, and DEPTH_MAX
 * bounds the C stack.
 *
 * Each turn of that loop and each comparison of one byte is a step. Items
 * whose cost depends on their length ([sets], %b, back references) pay by
 * length, so the time per step has an upper bound too.
 */
// SPDX-License-Identifier: MIT
#include "script/pattern.h"

#include "base/str.h"

#include <lauxlib.h>

enum {
    CAPTURES_MAX = 32,
    DEPTH_MAX = 200,
    SET_BYTES_PER_STEP = 8, /* looking through this much of a [set] costs as much as a step */
    COPY_BYTES_PER_STEP = 64,
};

enum { CAPTURE_OPEN = -1, CAPTURE_POSITION = -2 };

struct capture {
    const char *start;
    ptrdiff_t len; /* or CAPTURE_OPEN, CAPTURE_POSITION */
};

struct matcher {
    lua_State *L;
    const char *subject, *subject_end;
    const char *pattern, *pattern_end; /* behind a leading ^ */
    bool anchored;
    double steps_max;
    uint64_t steps_left;
    int depth;
    int captures;
    struct capture capture[CAPTURES_MAX];
};

static const char *match(struct matcher *m, const char *s, const char *p);

static void out_of_steps(struct matcher *m)
{
    luaL_error(m->L,
               "pattern did more than %f steps on %f bytes; make it simpler (anchor it, avoid "
               "repeated .*) or use perilune.text",
               m->steps_max, (double)(m->subject_end - m->subject));
}

static inline void spend(struct matcher *m, size_t steps)
{
    if (m->steps_left < steps)
        out_of_steps(m);
    m->steps_left -= steps;
}

/* ---- one byte against one item ------------------------------------------- */

static inline bool between(unsigned char c, unsigned char low, unsigned char high)
{
    return c >= low && c <= high;
}

static bool is_alpha(unsigned char c)
{
    return between(c | 0x20, 'a', 'z');
}

static bool is_alnum(unsigned char c)
{
    return is_alpha(c) || between(c, '0', '9');
}

/* %a and the like, in ASCII whatever the locale. A letter that names no class
 * stands for itself. */
static bool class_has(unsigned char class, unsigned char c)
{
    bool has;
    switch (class | 0x20) {
    case 'a':
        has = is_alpha(c);
        break;
    case 'c':
        has = c < 0x20 || c == 0x7f;
        break;
    case 'd':
        has = between(c, '0', '9');
        break;
    case 'g':
        has = between(c, 0x21, 0x7e);
        break;
    case 'l':
        has = between(c, 'a', 'z');
        break;
    case 'p':
        has = between(c, 0x21, 0x7e) && !is_alnum(c);
        break;
    case 's':
        has = c == ' ' || between(c, '\t', '\r');
        break;
    case 'u':
        has = between(c, 'A', 'Z');
        break;
    case 'w':
        has = is_alnum(c);
        break;
    case 'x':
        has = between(c, '0', '9') || between(c | 0x20, 'a', 'f');
        break;
    case 'z':
        has = c == 0;
        break;
    default:
        return class == c;
    }
    if (!is_alpha(class)) /* '!' | 0x20 and its like are no letters */
        return class == c;
    return between(class, 'A', 'Z') ? !has : has;
}

/* Whether the set holds c; p is at "[" and last at the closing "]". */
static bool set_has(const char *p, const char *last, unsigned char c)
{
    bool found = true;
    if (*++p == '^') {
        found = false;
        p++;
    }
    while (p < last) {
        if (*p == '%') {
            if (class_has((unsigned char)p[1], c))
                return found;
            p += 2;
        } else if (last - p > 2 && p[1] == '-') {
            if (between(c, (unsigned char)p[0], (unsigned char)p[2]))
                return found;
            p += 3;
        } else if ((unsigned char)*p++ == c) {
            return found;
        }
    }
    return !found;
}

/* Returns the end of the single-character item at p. */
static const char *item_end(struct matcher *m, const char *p)
{
    char first = *p++;
    if (first == '%') {
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (first != '[')
        return p;
    if (p < m->pattern_end && *p == '^')
        p++;
    /* The first byte never closes the set: "[]]" holds a bracket. */
    for (bool content = false;; content = true) {
        if (p >= m->pattern_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p == ']' && content)
            return p + 1;
        p += *p == '%' && p + 1 < m->pattern_end ? 2 : 1;
    }
}

static inline bool one(struct matcher *m, const char *s, const char *p, const char *end)
{
    spend(m, 1);
    if (s == m->subject_end)
        return false;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return class_has((unsigned char)p[1], (unsigned char)*s);
    case '[':
        spend(m, (size_t)(end - p) / SET_BYTES_PER_STEP);
        return set_has(p, end - 1, (unsigned char)*s);
    default:
        return *p == *s;
    }
}

/* ---- items that look at more than one byte --------------------------------- */

/* %bxy: returns the end of the balanced run, or NULL; p is at x. */
static const char *balanced(struct matcher *m, const char *s, const char *p)
{
    if (m->pattern_end - p < 2)
        luaL_error(m->L, "unbalanced pattern");
    if (s == m->subject_end || *s != p[0])
        return NULL;
    size_t open = 1;
    while (++s < m->subject_end) {
        spend(m, 1);
        if (*s == p[1]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

/* %f[set]: whether s stands between a byte outside and one inside the set;
 * both ends of the subject count as "\0". */
static bool frontier(struct matcher *m, const char *s, const char *p, const char *end)
{
    unsigned char before = s == m->subject ? 0 : (unsigned char)s[-1];
    unsigned char after = s == m->subject_end ? 0 : (unsigned char)*s;
    spend(m, (size_t)(end - p) / SET_BYTES_PER_STEP);
    return !set_has(p, end - 1, before) && set_has(p, end - 1, after);
}

static const char *back_reference(struct matcher *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->captures || m->capture[i].len == CAPTURE_OPEN)
        luaL_error(m->L, "invalid capture index");
    ptrdiff_t len = m->capture[i].len;
    if (len < 0 || m->subject_end - s < len)
        return NULL;
    spend(m, (size_t)len / COPY_BYTES_PER_STEP);
    return memcmp(m->capture[i].start, s, (size_t)len) == 0 ? s + len : NULL;
}

/* ---- items that may come back ------------------------------------------------ */

static const char *open_capture(struct matcher *m, const char *s, const char *p, ptrdiff_t len)
{
    if (m->captures == CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->capture[m->captures++] = (struct capture){s, len};
    const char *end = match(m, s, p);
    if (!end)
        m->captures--;
    return end;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p)
{
    int i = m->captures - 1;
    while (i >= 0 && m->capture[i].len != CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->capture[i].len = s - m->capture[i].start;
    const char *end = match(m, s, p);
    if (!end)
        m->capture[i].len = CAPTURE_OPEN;
    return end;
}

/* x* and x+: takes all there is, then gives back one by one. */
static const char *greedy(struct matcher *m, const char *s, const char *p, const char *end,
                          ptrdiff_t least)
{
    ptrdiff_t n = 0;
    while (one(m, s + n, p, end))
        n++;
    if (end + 1 == m->pattern_end) /* nothing follows that could object */
        return n >= least ? s + n : NULL;
    for (; n >= least; n--) {
        const char *found = match(m, s + n, end + 1);
        if (found)
            return found;
    }
    return NULL;
}

static const char *lazy(struct matcher *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *found = match(m, s, end + 1);
        if (found)
            return found;
        if (!one(m, s, p, end))
            return NULL;
    }
}

/* ---- the interpreter ------------------------------------------------------------ */

/* The items that start with % and are longer than one character. Moves *s and
 * *p behind such an item; *s is NULL when it does not match. Returns whether
 * there was one. */
static bool long_item(struct matcher *m, const char **s, const char **p)
{
    const char *at = *p + 1;
    if (at == m->pattern_end)
        return false;
    if (*at == 'b') {
        *s = balanced(m, *s, at + 1);
        *p += 4;
    } else if (*at == 'f') {
        if (++at == m->pattern_end || *at != '[')
            luaL_error(m->L, "missing '[' after '%%f' in pattern");
        *p = item_end(m, at);
        if (!frontier(m, *s, at, *p))
            *s = NULL;
    } else if (between((unsigned char)*at, '0', '9')) {
        *s = back_reference(m, *s, *at);
        *p += 2;
    } else {
        return false;
    }
    return true;
}

static const char *match_items(struct matcher *m, const char *s, const char *p)
{
    while (p < m->pattern_end) {
        spend(m, 1);
        if (*p == '(') {
            if (p + 1 < m->pattern_end && p[1] == ')')
                return open_capture(m, s, p + 2, CAPTURE_POSITION);
            return open_capture(m, s, p + 1, CAPTURE_OPEN);
        }
        if (*p == ')')
            return close_capture(m, s, p + 1);
        if (*p == '$' && p + 1 == m->pattern_end)
            return s == m->subject_end ? s : NULL;
        if (*p == '%' && long_item(m, &s, &p)) {
            if (!s)
                return NULL;
            continue;
        }
        const char *end = item_end(m, p), *found;
        switch (end < m->pattern_end ? *end : 0) {
        case '?':
            if (one(m, s, p, end) && (found = match(m, s + 1, end + 1)))
                return found;
            p = end + 1;
            break;
        case '*':
            return greedy(m, s, p, end, 0);
        case '+':
            return greedy(m, s, p, end, 1);
        case '-':
            return lazy(m, s, p, end);
        default:
            if (!one(m, s, p, end))
                return NULL;
            s++;
            p = end;
        }
    }
    return s;
}

static const char *match(struct matcher *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    const char *end = match_items(m, s, p);
    m->depth--;
    return end;
}

/* Returns the end of a match that starts at s, or NULL. */
static const char *match_at(struct matcher *m, const char *s)
{
    m->captures = m->depth = 0;
    spend(m, 1);
    return match(m, s, m->pattern);
}

/* Looks from `from` on; sets *start. */
static const char *search(struct matcher *m, const char *from, const char **start)
{
    for (const char *s = from; s <= m->subject_end; s++) {
        const char *end = match_at(m, s);
        if (end) {
            *start = s;
            return end;
        }
        if (m->anchored)
            break;
    }
    return NULL;
}

/* ---- Lua ------------------------------------------------------------------------- */

static void matcher_init(struct matcher *m, lua_State *L, struct str subject, struct str pattern)
{
    const _Atomic double *steps = lua_touserdata(L, lua_upvalueindex(1));
    m->L = L;
    m->subject = subject.p;
    m->subject_end = subject.p + subject.len;
    m->pattern = pattern.p;
    m->pattern_end = pattern.p + pattern.len;
    m->anchored = false;
    /* Linear work is always allowed, however long the subject is. */
    m->steps_max = *steps + 8.0 * (double)subject.len;
    m->steps_left = m->steps_max > 0 ? (uint64_t)m->steps_max : 0;
    m->captures = m->depth = 0;
}

static void take_anchor(struct matcher *m)
{
    m->anchored = m->pattern < m->pattern_end && *m->pattern == '^';
    m->pattern += m->anchored;
}

static struct str check_str(lua_State *L, int arg)
{
    struct str s;
    s.p = luaL_checklstring(L, arg, &s.len);
    return s;
}

/* Pushes capture i; without captures, number 0 is the whole match. */
static void push_capture(struct matcher *m, int i, const char *start, const char *end)
{
    if (i >= m->captures) {
        if (i)
            luaL_error(m->L, "invalid capture index");
        lua_pushlstring(m->L, start, (size_t)(end - start));
        return;
    }
    const struct capture *c = &m->capture[i];
    if (c->len == CAPTURE_OPEN)
        luaL_error(m->L, "unfinished capture");
    if (c->len == CAPTURE_POSITION)
        lua_pushinteger(m->L, c->start - m->subject + 1);
    else
        lua_pushlstring(m->L, c->start, (size_t)c->len);
}

/* Pushes all captures; without any, the whole match when `whole`. */
static int push_captures(struct matcher *m, const char *start, const char *end, bool whole)
{
    int n = m->captures || !whole ? m->captures : 1;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        push_capture(m, i, start, end);
    return n;
}

/* Where the optional argument `init` points to: 0-based, inside s or at its end. */
static size_t check_init(lua_State *L, int arg, size_t len)
{
    ptrdiff_t init = luaL_optinteger(L, arg, 1);
    if (init > 0)
        return (size_t)init - 1 < len ? (size_t)init - 1 : len;
    if (init == 0 || (size_t)-init > len)
        return 0;
    return len - (size_t)-init;
}

static bool is_plain(struct str pattern)
{
    for (size_t i = 0; i < pattern.len; i++)
        if (pattern.p[i] && strchr("^$*+?.([%-", pattern.p[i]))
            return false;
    return true;
}

static int find_plain(lua_State *L, struct str s, size_t init, struct str needle)
{
    const char *found = memmem(s.p + init, s.len - init, needle.p, needle.len);
    if (!found)
        return 0;
    lua_pushinteger(L, found - s.p + 1);
    lua_pushinteger(L, found - s.p + (ptrdiff_t)needle.len);
    return 2;
}

static int string_find(lua_State *L)
{
    struct str s = check_str(L, 1), pattern = check_str(L, 2);
    size_t init = check_init(L, 3, s.len);
    if (lua_toboolean(L, 4) || is_plain(pattern)) {
        int n = find_plain(L, s, init, pattern);
        return n ? n : (lua_pushnil(L), 1);
    }
    struct matcher m;
    const char *start, *end;
    matcher_init(&m, L, s, pattern);
    take_anchor(&m);
    if (!(end = search(&m, s.p + init, &start))) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, start - s.p + 1);
    lua_pushinteger(L, end - s.p);
    return 2 + push_captures(&m, start, end, false);
}

static int string_match(lua_State *L)
{
    struct str s = check_str(L, 1), pattern = check_str(L, 2);
    size_t init = check_init(L, 3, s.len);
    struct matcher m;
    const char *start, *end;
    matcher_init(&m, L, s, pattern);
    take_anchor(&m);
    if ((end = search(&m, s.p + init, &start)))
        return push_captures(&m, start, end, true);
    lua_pushnil(L);
    return 1;
}

/* Upvalues: the step limit, subject, pattern, where to go on. A ^ is an
 * ordinary character here, as an anchor would make no sense. */
static int gmatch_next(lua_State *L)
{
    struct str s = check_str(L, lua_upvalueindex(2)), pattern = check_str(L, lua_upvalueindex(3));
    size_t from = (size_t)lua_tointeger(L, lua_upvalueindex(4));
    if (from > s.len)
        return 0;
    struct matcher m;
    const char *start, *end;
    matcher_init(&m, L, s, pattern);
    if (!(end = search(&m, s.p + from, &start)))
        return 0;
    lua_pushinteger(L, end - s.p + (end == start)); /* an empty match must move on too */
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(&m, start, end, true);
}

static int string_gmatch(lua_State *L)
{
    check_str(L, 1);
    check_str(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* Adds the replacement string, with %0 to %9 filled in. */
static void add_template(struct matcher *m, luaL_Buffer *out, struct str with, const char *start,
                         const char *end)
{
    for (size_t i = 0; i < with.len; i++) {
        if (with.p[i] != '%') {
            luaL_addchar(out, with.p[i]);
            continue;
        }
        char c = ++i < with.len ? with.p[i] : 0; /* a lone % at the end adds "\0", as in 5.1 */
        if (c == '0') {
            luaL_addlstring(out, start, (size_t)(end - start));
        } else if (between((unsigned char)c, '1', '9')) {
            push_capture(m, c - '1', start, end);
            luaL_addvalue(out);
        } else {
            luaL_addchar(out, c);
        }
    }
}

/* Adds what replaces the match: argument 3, looked up or called if need be. */
static void add_replacement(struct matcher *m, luaL_Buffer *out, const char *start, const char *end)
{
    lua_State *L = m->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, start, end, true), 1);
        break;
    case LUA_TTABLE:
        push_capture(m, 0, start, end);
        lua_gettable(L, 3);
        break;
    default:
        add_template(m, out, check_str(L, 3), start, end);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        lua_pushlstring(L, start, (size_t)(end - start));
    } else if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    luaL_addvalue(out);
}

/* LuaJIT bounds the depth of calls by the slots of its own stack, and a level of
 * gsub takes few of those but 9 KB of the C stack. Taking this many keeps
 * 65,000 slots of recursion within 3 MB of C stack. */
enum { CALLBACK_SLOTS = 200 };

static int string_gsub(lua_State *L)
{
    struct str s = check_str(L, 1), pattern = check_str(L, 2);
    int type = lua_type(L, 3);
    luaL_argcheck(L,
                  type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TTABLE ||
                      type == LUA_TFUNCTION,
                  3, "string/function/table expected");
    ptrdiff_t n_max = luaL_optinteger(L, 4, (ptrdiff_t)s.len + 1), n = 0;
    if (type == LUA_TFUNCTION || type == LUA_TTABLE) {
        luaL_checkstack(L, CALLBACK_SLOTS, "nested too deep in gsub");
        lua_settop(L, CALLBACK_SLOTS);
    }
    struct matcher m;
    matcher_init(&m, L, s, pattern);
    take_anchor(&m);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    const char *at = s.p;
    while (n < n_max) {
        const char *end = match_at(&m, at);
        if (end) {
            n++;
            add_replacement(&m, &out, at, end);
        }
        if (end && end > at)
            at = end;
        else if (at < m.subject_end)
            luaL_addchar(&out, *at++); /* NOLINT(clang-analyzer-core.NullDereference): not empty */
        else
            break;
        if (m.anchored)
            break;
    }
    luaL_addlstring(&out, at, (size_t)(m.subject_end - at));
    luaL_pushresult(&out);
    lua_pushinteger(L, n);
    return 2;
}

void pattern_open(lua_State *L, const _Atomic double *steps)
{
    static const luaL_Reg functions[] = {
        {"find", string_find},
        {"match", string_match},
        {"gmatch", string_gmatch},
        {"gsub", string_gsub},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushlightuserdata(L, (void *)steps);
        lua_pushcclosure(L, functions[i].func, 1);
        lua_setfield(L, -2, functions[i].name);
    }
    lua_pushnil(L);
    lua_setfield(L, -2, "gfind");
}
