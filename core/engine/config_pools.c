// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <stdio.h>

void config_pool_complain(struct file_job *job, const struct pool_table *t, const char *name, const char *what)
{
    problems_add(job->problems, job->name, config_line_of(job, name), "%s.%s: %s", t->section, name, what);
}

static bool is_listed(const char *const *list, const char *key)
{
    for (; *list; list++)
        if (strcmp(*list, key) == 0)
            return true;
    return false;
}

static void take_number(lua_State *L, struct file_job *job, const struct pool_table *t, const char *name,
                        const struct pool_number *number, void *spec)
{
    char what[160];
    double value = lua_tonumber(L, -1);
    if (lua_type(L, -1) == LUA_TNUMBER && value >= number->min && value <= number->max && value == (double)(int64_t)value) {
        *(int64_t *)((char *)spec + number->offset) = (int64_t)value;
        return;
    }
    snprintf(what, sizeof what, "'%s' is a whole number from %.0f to %.0f", number->name, number->min, number->max);
    config_pool_complain(job, t, name, what);
}

bool config_pool_option(lua_State *L, struct file_job *job, const struct pool_table *t, const char *name, const char *key, void *spec)
{
    for (size_t i = 0; i < t->number_count; i++)
        if (strcmp(key, t->numbers[i].name) == 0) {
            take_number(L, job, t, name, &t->numbers[i], spec);
            return true;
        }
    return is_listed(t->words, key) || (job->origin == ORIGIN_API && strcmp(key, "made_by_api") == 0);
}

static void consider(const char *key, const char *known, unsigned *best, const char **near)
{
    unsigned distance = str_distance(str_from(key), str_from(known));
    if (distance < *best) {
        *best = distance;
        *near = known;
    }
}

void config_pool_refuse(struct file_job *job, const struct pool_table *t, const char *name, const char *key)
{
    char what[256];
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < t->number_count; i++)
        consider(key, t->numbers[i].name, &best, &near);
    for (const char *const *word = t->words; *word; word++)
        consider(key, *word, &best, &near);
    for (const char *const *other = t->others; *other; other++)
        consider(key, *other, &best, &near);
    snprintf(what, sizeof what, "unknown key '%.100s'%s%s%s", key, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    config_pool_complain(job, t, name, what);
}
