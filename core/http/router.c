// SPDX-License-Identifier: MIT
#include "http/router.h"

#include "http/head.h"

#include <stdio.h>
#include <stdlib.h>

struct end {
    struct end *next;
    struct str method; /* owned */
    void *target;
    struct str names[ROUTER_PARAMS_MAX]; /* owned */
};

struct node {
    struct str segment; /* owned; empty for parameters */
    struct node *next;  /* sibling */
    struct node *fixed; /* children */
    struct node *param;
    struct end *ends;      /* targets of a path that ends here */
    struct end *rest_ends; /* targets that take all that is left */
};

struct router {
    struct node root;
};

static struct str copy(struct str s)
{
    char *p = malloc(s.len + 1);
    if (p)
        memcpy(p, s.p, s.len);
    return (struct str){p, p ? s.len : 0};
}

struct router *router_new(void)
{
    return calloc(1, sizeof(struct router));
}

static void free_ends(struct end *end)
{
    for (struct end *next; end; end = next) {
        next = end->next;
        free((char *)end->method.p);
        for (int i = 0; i < ROUTER_PARAMS_MAX; i++)
            free((char *)end->names[i].p);
        free(end);
    }
}

static void free_node(struct node *node)
{
    for (struct node *child = node->fixed, *next; child; child = next) {
        next = child->next;
        free_node(child);
        free(child);
    }
    if (node->param) {
        free_node(node->param);
        free(node->param);
    }
    free_ends(node->ends);
    free_ends(node->rest_ends);
    free((char *)node->segment.p);
}

void router_free(struct router *r)
{
    if (!r)
        return;
    free_node(&r->root);
    free(r);
}

static struct node *child_for(struct node *node, struct str segment)
{
    bool is_param = segment.len && segment.p[0] == ':';
    if (is_param && node->param)
        return node->param;
    if (!is_param)
        for (struct node *child = node->fixed; child; child = child->next)
            if (str_equal(child->segment, segment))
                return child;
    struct node *child = calloc(1, sizeof *child);
    if (!child)
        return NULL;
    if (is_param) {
        node->param = child;
    } else {
        child->segment = copy(segment);
        child->next = node->fixed;
        node->fixed = child;
    }
    return child;
}

static const char *add_end(struct end **list, struct str method, void *target,
                           const struct str *names, unsigned count)
{
    for (struct end *end = *list; end; end = end->next)
        if (str_equal(end->method, method))
            return "this method and path are taken by an earlier route";
    struct end *end = calloc(1, sizeof *end);
    if (!end)
        return "out of memory";
    end->method = copy(method);
    end->target = target;
    for (unsigned i = 0; i < count; i++)
        end->names[i] = copy(names[i]);
    end->next = *list;
    *list = end;
    return NULL;
}

/* Cuts the next segment off a path that begins with '/'. */
static struct str next_segment(struct str *path)
{
    struct str rest = {path->p + 1, path->len - 1};
    const char *slash = memchr(rest.p, '/', rest.len);
    size_t len = slash ? (size_t)(slash - rest.p) : rest.len;
    *path = (struct str){rest.p + len, rest.len - len};
    return (struct str){rest.p, len};
}

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = ascii_lower(s.p[i]);
        if (!((c >= 'a' && c <= 'z') || c == '_' || (i && c >= '0' && c <= '9')))
            return false;
    }
    return s.len > 0;
}

const char *router_add(struct router *r, struct str method, struct str pattern, void *target)
{
    struct str names[ROUTER_PARAMS_MAX];
    unsigned count = 0, depth = 0;
    struct node *node = &r->root;
    if (!pattern.len || pattern.p[0] != '/')
        return "a path must begin with '/'";
    while (pattern.len) {
        struct str segment = next_segment(&pattern);
        bool marked = segment.len && (segment.p[0] == ':' || segment.p[0] == '*');
        if (++depth > ROUTER_SEGMENTS_MAX)
            return "a path has at most 64 segments";
        if (marked) {
            struct str name = {segment.p + 1, segment.len - 1};
            if (!is_name(name))
                return "a parameter needs a name of letters, digits and '_' behind ':' or '*'";
            if (count == ROUTER_PARAMS_MAX)
                return "a path has at most 16 parameters";
            for (unsigned i = 0; i < count; i++)
                if (str_equal(names[i], name))
                    return "two parameters of one path have the same name";
            names[count++] = name;
            if (segment.p[0] == '*')
                return pattern.len ? "'*' takes all that is left, so it must come last"
                                   : add_end(&node->rest_ends, method, target, names, count);
        }
        node = child_for(node, segment);
        if (!node)
            return "out of memory";
    }
    return add_end(&node->ends, method, target, names, count);
}

struct search {
    struct str method;
    struct router_match *out;
    unsigned allow_len;
};

static void add_allow(struct search *s, struct str method)
{
    char *allow = s->out->allow;
    if (str_equal(method, STR("*")) || s->allow_len + method.len + 3 >= sizeof s->out->allow)
        return;
    for (struct str rest = {allow, s->allow_len}, one; str_next(&rest, ',', &one);)
        if (str_equal(one, method))
            return;
    s->allow_len += (unsigned)snprintf(allow + s->allow_len, sizeof s->out->allow - s->allow_len,
                                       "%s%.*s", s->allow_len ? ", " : "", STR_ARG(method));
}

/* str_equal() without a call, for the few bytes of a segment or method. */
static inline bool is_same(struct str a, struct str b)
{
    uint32_t x, y;
    if (a.len != b.len || a.len < 4)
        return a.len == b.len && (!a.len || (a.p[0] == b.p[0] && a.p[a.len / 2] == b.p[a.len / 2] &&
                                             a.p[a.len - 1] == b.p[a.len - 1]));
    for (size_t at = 0; at + 4 < a.len; at += 4) {
        memcpy(&x, a.p + at, 4);
        memcpy(&y, b.p + at, 4);
        if (x != y)
            return false;
    }
    memcpy(&x, a.p + a.len - 4, 4);
    memcpy(&y, b.p + a.len - 4, 4);
    return x == y;
}

static bool take(struct search *s, struct end *ends, unsigned params)
{
    struct end *any = NULL, *get = NULL;
    for (struct end *end = ends; end; end = end->next) {
        if (is_same(end->method, s->method)) {
            any = end;
            break;
        }
        if (str_equal(end->method, STR("*")))
            any = end;
        if (str_equal(end->method, STR("GET")) && str_equal(s->method, STR("HEAD")))
            get = end;
    }
    struct end *found = get && (!any || str_equal(any->method, STR("*"))) ? get : any;
    if (found) {
        s->out->target = found->target;
        s->out->names = found->names;
        s->out->params = params;
        s->out->automatic_head = found == get && get;
        return true;
    }
    for (struct end *end = ends; end; end = end->next) {
        s->out->path_known = true;
        add_allow(s, end->method);
        if (str_equal(end->method, STR("GET")))
            add_allow(s, STR("HEAD"));
    }
    return false;
}

static bool walk(struct search *s, const struct node *node, struct str path, unsigned params)
{
    struct str whole = path;
    if (!path.len)
        return take(s, node->ends, params);
    struct str segment = next_segment(&path);
    for (const struct node *child = node->fixed; child; child = child->next)
        if (is_same(child->segment, segment)) {
            if (walk(s, child, path, params))
                return true;
            break;
        }
    if (params < ROUTER_PARAMS_MAX) {
        if (node->param && segment.len) {
            s->out->values[params] = segment;
            if (walk(s, node->param, path, params + 1))
                return true;
        }
        if (node->rest_ends) {
            s->out->values[params] = (struct str){whole.p + 1, whole.len - 1};
            return take(s, node->rest_ends, params + 1);
        }
    }
    return false;
}

bool router_find(const struct router *r, struct str method, struct str path,
                 struct router_match *out)
{
    struct search s = {.method = method, .out = out};
    out->target = NULL;
    out->params = 0;
    out->path_known = out->automatic_head = false;
    out->allow[0] = 0;
    if (!path.len || path.p[0] != '/')
        return false;
    if (walk(&s, &r->root, path, 0))
        return true;
    if (out->path_known)
        add_allow(&s, STR("OPTIONS"));
    return false;
}
