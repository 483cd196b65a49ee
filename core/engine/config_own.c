/* Settings of one upstream, in any layer of settings:
 *
 *     settings = { ["upstream.retries"] = 2, ["upstream.api.retries"] = 0 }
 *
 * What the table of an upstream says itself (retries, try_timeout_ms) lies below them.
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <math.h>

bool config_find_setting(struct str name, struct config_setting *out)
{
    *out = (struct config_setting){.id = setting_find(name)};
    if (out->id < 0 && own_parse(name, &out->upstream, &out->which)) {
        out->is_own = true;
        out->id = (int)own_setting_ids[out->which];
    }
    return out->id >= 0;
}

void config_give_own(struct config *c, struct str name, const struct config_setting *setting, double value, enum setting_origin origin,
                     int line, struct problems *problems)
{
    const char *copy = arena_copy(&c->arena, name).p, *upstream = arena_copy(&c->arena, setting->upstream).p;
    if (c->own_count == CONFIG_OWN_MAX || !copy || !upstream) {
        problems_add(problems, "", 0, "too many settings of single upstreams: at most %d", CONFIG_OWN_MAX);
        return;
    }
    c->own[c->own_count++] = (struct config_own){copy, upstream, setting->which, value, origin, line};
}

static bool is_upstream(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->upstream_count; i++)
        if (strcmp(c->upstreams[i].name, name) == 0)
            return true;
    return false;
}

static const char *nearest_upstream(const struct config *c, const char *name)
{
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < c->upstream_count; i++) {
        unsigned distance = str_distance(str_from(c->upstreams[i].name), str_from(name));
        near = distance < best ? c->upstreams[i].name : near;
        best = distance < best ? distance : best;
    }
    return near;
}

void config_check_own(const struct config *c, const char *file, struct problems *problems)
{
    for (size_t i = 0; i < c->own_count; i++) {
        const struct config_own *own = &c->own[i];
        if (own->origin == ORIGIN_API || is_upstream(c, own->upstream))
            continue;
        const char *near = nearest_upstream(c, own->upstream);
        problems_add(problems, own->origin == ORIGIN_FILE ? file : "", own->line, "setting %s: there is no upstream '%s'%s%s%s", own->name,
                     own->upstream, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
}

static bool is_same(const struct config_own *a, const struct config_own *b)
{
    return a->which == b->which && strcmp(a->upstream, b->upstream) == 0;
}

bool config_own_counts(const struct config *c, size_t i)
{
    for (size_t later = i + 1; later < c->own_count; later++)
        if (is_same(&c->own[i], &c->own[later]))
            return false;
    return is_upstream(c, c->own[i].upstream);
}

static void apply(const struct config *c, const struct upstream_spec *u, struct own_slot *slot)
{
    double value[OWN_SETTINGS];
    enum setting_origin origin[OWN_SETTINGS];
    for (int k = 0; k < OWN_SETTINGS; k++) {
        value[k] = NAN;
        origin[k] = ORIGIN_FILE;
    }
    if (u->retries >= 0)
        value[OWN_RETRIES] = u->retries;
    if (u->try_timeout_ms >= 0)
        value[OWN_TRY_TIMEOUT_MS] = (double)u->try_timeout_ms;
    for (size_t i = 0; i < c->own_count; i++)
        if (strcmp(c->own[i].upstream, u->name) == 0) {
            value[c->own[i].which] = c->own[i].value;
            origin[c->own[i].which] = c->own[i].origin;
        }
    for (int k = 0; k < OWN_SETTINGS; k++)
        own_set(slot, (enum own_setting)k, value[k], origin[k]);
}

void config_apply_own(const struct config *c, struct own_settings *all)
{
    for (int i = 0; i < OWN_SLOTS; i++)
        if (atomic_load(&all->slots[i].ready) && !is_upstream(c, all->slots[i].name))
            own_drop(&all->slots[i]);
    for (size_t i = 0; i < c->upstream_count; i++) {
        struct own_slot *slot = own_open(all, str_from(c->upstreams[i].name));
        if (slot)
            apply(c, &c->upstreams[i], slot);
    }
}

_Static_assert((int)OWN_SLOTS >= (int)CONFIG_UPSTREAMS_MAX && (int)OWN_NAME >= (int)PEER_UPSTREAM_NAME,
               "each upstream of a configuration has a slot");
