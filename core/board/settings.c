// SPDX-License-Identifier: MIT
#include "board/settings.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

const struct setting_info setting_infos[SETTING_COUNT] = {
#define X(id, name, type, unit, def, min, max, live, env, doc)                                     \
    [SETTING_##id] = {name, SETTING_##type, unit, def, min, max, live, env, doc},
    SETTING_LIST(X)
#undef X
};

struct suffix {
    const char *name;
    double factor;
};

/* The suffixes a value may carry, by the unit of its setting. */
static const struct suffix byte_suffixes[] = {
    {"B", 1},        {"kB", 1e3},         {"KB", 1e3},         {"MB", 1e6},
    {"GB", 1e9},     {"TB", 1e12},        {"KiB", 1024},       {"MiB", 1048576},
    {"GiB", 1 << 30}, {"TiB", 1099511627776.0}, {NULL, 0},
};
static const struct suffix ms_suffixes[] = {
    {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {NULL, 0},
};
static const struct suffix s_suffixes[] = {
    {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {NULL, 0},
};
static const struct suffix no_suffixes[] = {{NULL, 0}};

static const struct suffix *suffixes_of(struct str unit, const char **example)
{
    if (str_equal(unit, STR("bytes")) || str_equal(unit, STR("bytes/s"))) {
        *example = "64KiB";
        return byte_suffixes;
    }
    if (str_equal(unit, STR("ms"))) {
        *example = "1.5s";
        return ms_suffixes;
    }
    if (str_equal(unit, STR("s"))) {
        *example = "2m";
        return s_suffixes;
    }
    *example = NULL;
    return no_suffixes;
}

uint64_t settings_reader;

void settings_init(struct settings *settings)
{
    atomic_store_explicit(&settings->canary, 0, memory_order_relaxed);
    for (int i = 0; i < SETTING_COUNT; i++) { /* whatever the memory held before */
        settings_untry(settings, i);
        settings_set(settings, i, setting_infos[i].fallback, ORIGIN_DEFAULT);
    }
}

void settings_set(struct settings *settings, int id, double value, enum setting_origin origin)
{
    bool same = atomic_load_explicit(&settings->stable[id], memory_order_relaxed) == value;
    atomic_store_explicit(&settings->stable[id], value, memory_order_relaxed);
    atomic_store_explicit(&settings->origin[id], (unsigned char)origin, memory_order_relaxed);
    if (!same || !atomic_load_explicit(&settings->tried[id], memory_order_relaxed))
        settings_untry(settings, id);
}

void settings_try(struct settings *settings, int id, double value, bool canary_only)
{
    double others = canary_only ? atomic_load_explicit(&settings->stable[id], memory_order_relaxed) : value;
    atomic_store_explicit(&settings->tried[id], 1, memory_order_relaxed);
    atomic_store_explicit(&settings->value[FOR_CANARY][id], value, memory_order_relaxed);
    atomic_store_explicit(&settings->value[FOR_ALL][id], others, memory_order_relaxed);
}

void settings_untry(struct settings *settings, int id)
{
    double stable = atomic_load_explicit(&settings->stable[id], memory_order_relaxed);
    for (int row = 0; row < SETTINGS_ROWS; row++)
        atomic_store_explicit(&settings->value[row][id], stable, memory_order_relaxed);
    atomic_store_explicit(&settings->tried[id], 0, memory_order_relaxed);
}

const struct setting_tuning *setting_tuning(int id)
{
    static const struct setting_tuning tunings[SETTING_COUNT] = {
#define X(id, scope, group, step, settle) [SETTING_##id] = {scope, group, step, settle},
        SETTING_TUNING_LIST(X)
#undef X
    };
    return tunings[id].scope ? &tunings[id] : NULL;
}

int setting_find(struct str name)
{
    for (int i = 0; i < SETTING_COUNT; i++)
        if (str_equal(str_from(setting_infos[i].name), name))
            return i;
    return -1;
}

/* "server.head_bytes" -> "head_bytes" */
static struct str last_component(struct str name)
{
    for (size_t i = name.len; i > 0; i--)
        if (name.p[i - 1] == '.')
            return (struct str){name.p + i, name.len - i};
    return name;
}

const char *setting_nearest(struct str name)
{
    const char *nearest = NULL;
    unsigned best = 99;
    struct str wanted = last_component(name);
    for (int i = 0; i < SETTING_COUNT; i++) {
        struct str known = str_from(setting_infos[i].name);
        unsigned whole = str_distance(known, name);
        /* A wrong or missing prefix costs as much as one wrong letter. */
        unsigned last = str_distance(last_component(known), wanted) + 1;
        unsigned distance = whole < last ? whole : last;
        if (distance < best) {
            best = distance;
            nearest = setting_infos[i].name;
        }
    }
    size_t near = wanted.len / 3 + 1;
    return best <= near ? nearest : NULL;
}

/* "1024", "0.1", "1073741824": never with an exponent. */
static void print_number(char out[32], double value)
{
    if (value == floor(value))
        snprintf(out, 32, "%.0f", value);
    else
        snprintf(out, 32, "%.10g", value);
}

/* Appends " <min> to <max> <unit>". */
static void print_range(char out[96], const struct setting_info *info)
{
    char min[32], max[32];
    print_number(min, info->min);
    print_number(max, info->max);
    snprintf(out, 96, "%s to %s%s%s", min, max, *info->unit ? " " : "", info->unit);
}

__attribute__((format(printf, 3, 4))) static bool refuse(char *why, size_t why_size,
                                                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (why_size)
        vsnprintf(why, why_size, format, args);
    va_end(args);
    return false;
}

bool setting_check(int id, double value, char *why, size_t why_size)
{
    if (id < 0 || id >= SETTING_COUNT)
        return refuse(why, why_size, "there is no such setting");
    const struct setting_info *info = &setting_infos[id];
    char range[96], got[32];
    print_range(range, info);
    print_number(got, value);
    if (!isfinite(value))
        return refuse(why, why_size, "%s must be a finite number; give %s", info->name, range);
    if (info->type == SETTING_BOOLEAN && value != 0 && value != 1)
        return refuse(why, why_size, "%s must be true or false, not %s", info->name, got);
    if (info->type == SETTING_INTEGER && value != floor(value))
        return refuse(why, why_size, "%s must be a whole number, not %s; give %s", info->name, got,
                      range);
    if (value < info->min || value > info->max)
        return refuse(why, why_size, "%s is out of bounds: %s; give %s", info->name, got, range);
    return true;
}

static bool parse_boolean(struct str text, double *out)
{
    static const char *const yes[] = {"true", "on", "yes", "1"};
    static const char *const no[] = {"false", "off", "no", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (str_iequal(text, str_from(yes[i]))) {
            *out = 1;
            return true;
        }
        if (str_iequal(text, str_from(no[i]))) {
            *out = 0;
            return true;
        }
    }
    return false;
}

/* A number and one of the suffixes, as in "1.5s" or "64 KiB". */
static bool parse_quantity(struct str text, const struct suffix *suffixes, double *out)
{
    size_t split = text.len;
    while (split && ((text.p[split - 1] | 0x20) >= 'a' && (text.p[split - 1] | 0x20) <= 'z'))
        split--;
    struct str suffix = {text.p + split, text.len - split};
    if (!str_to_double(str_trim((struct str){text.p, split}), out))
        return str_to_double(text, out); /* "1e6" */
    if (!suffix.len)
        return true;
    for (; suffixes->name; suffixes++)
        if (str_equal(suffix, str_from(suffixes->name))) {
            /* 0.3 s is 300 ms, not 299.99999999999994 */
            double value = *out * suffixes->factor, whole = nearbyint(value);
            *out = fabs(value - whole) < 1e-9 * fabs(value) ? whole : value;
            return true;
        }
    return false;
}

bool setting_parse(int id, struct str text, double *out, char *why, size_t why_size)
{
    if (id < 0 || id >= SETTING_COUNT)
        return refuse(why, why_size, "there is no such setting");
    const struct setting_info *info = &setting_infos[id];
    double value;
    text = str_trim(text);
    int shown = text.len > 40 ? 40 : (int)text.len;
    if (info->type == SETTING_BOOLEAN) {
        if (!parse_boolean(text, &value))
            return refuse(why, why_size, "%s: \"%.*s\" is neither true nor false; write true, false, "
                          "on, off, 1 or 0", info->name, shown, text.p);
    } else {
        const char *example;
        const struct suffix *suffixes = suffixes_of(str_from(info->unit), &example);
        if (!parse_quantity(text, suffixes, &value)) {
            char range[96];
            print_range(range, info);
            return refuse(why, why_size, "%s: \"%.*s\" is not a number%s%s; give %s%s%s%s", info->name,
                          shown, text.p, *info->unit ? " of " : "", info->unit, range,
                          example ? ", as in \"" : "", example ? example : "", example ? "\"" : "");
        }
    }
    if (!setting_check(id, value, why, why_size))
        return false;
    *out = value;
    return true;
}

const char *setting_origin_name(enum setting_origin origin)
{
    switch (origin) {
    case ORIGIN_DEFAULT:
        return "default";
    case ORIGIN_FILE:
        return "file";
    case ORIGIN_API:
        return "api";
    case ORIGIN_ENV:
        return "environment";
    case ORIGIN_FLAG:
        return "flag";
    }
    return "unknown";
}
