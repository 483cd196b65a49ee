// SPDX-License-Identifier: MIT
#include "replay/format.h"

#include <stdlib.h>

#define COMMON "$remote_addr $ident $remote_user [$time_local] \"$request\" $status $body_bytes_sent"
#define COMBINED COMMON " \"$http_referer\" \"$http_user_agent\""

static const struct {
    const char *name, *pattern;
} known[] = {
    {"combined with $request_time", COMBINED " $request_time"},
    {"combined", COMBINED},
    {"common with $request_time", COMMON " $request_time"},
    {"common", COMMON},
};

static const struct {
    const char *name;
    enum field field;
} variables[] = {
    {"time_local", FIELD_TIME},   {"request", FIELD_REQUEST},  {"status", FIELD_STATUS},
    {"bytes_sent", FIELD_BYTES},  {"body_bytes_sent", FIELD_BYTES},
    {"request_time", FIELD_SECONDS},
};

const char *format_known(unsigned index, const char **pattern)
{
    if (index >= sizeof known / sizeof *known)
        return NULL;
    *pattern = known[index].pattern;
    return known[index].name;
}

static enum field field_of(struct str name)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (str_equal(name, str_from(variables[i].name)))
            return variables[i].field;
    return FIELD_IGNORED;
}

static size_t name_length(const char *p)
{
    return strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
}

bool format_compile(struct format *out, const char *name, const char *pattern, const char **why)
{
    bool request = false, after_variable = false;
    *out = (struct format){.name = name};
    while (*pattern) {
        struct format_item *item = &out->items[out->count++];
        if (out->count == FORMAT_ITEMS)
            return *why = "it has too many parts", false;
        if (*pattern != '$') {
            item->literal = (struct str){pattern, strcspn(pattern, "$")};
            pattern += item->literal.len;
            after_variable = false;
            continue;
        }
        size_t len = name_length(pattern + 1);
        if (!len)
            return *why = "a $ has no name behind it", false;
        if (after_variable)
            return *why = "two variables have nothing between them", false;
        item->field = field_of((struct str){pattern + 1, len});
        request |= item->field == FIELD_REQUEST;
        out->has_time |= item->field == FIELD_TIME;
        out->has_status |= item->field == FIELD_STATUS;
        out->has_seconds |= item->field == FIELD_SECONDS;
        pattern += 1 + len;
        after_variable = true;
    }
    if (!request || !out->has_time || !out->has_status)
        return *why = "it needs $time_local, $request and $status", false;
    return true;
}

static bool digits(const char *p, unsigned n, unsigned *out)
{
    *out = 0;
    for (unsigned i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *out = *out * 10 + (unsigned)(p[i] - '0');
    }
    return true;
}

static int month_of(const char *p)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (memcmp(names + (size_t)i * 3, p, 3) == 0)
            return i + 1;
    return 0;
}

/* Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t y, int m, unsigned d)
{
    y -= m <= 2;
    int64_t era = y / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + (int64_t)d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* "10/Oct/2000:13:55:36 -0700" */
static bool read_time(struct str s, int64_t *out)
{
    unsigned day, year, hour, minute, second, zone_hour, zone_minute;
    if (s.len != 26 || !digits(s.p, 2, &day) || !digits(s.p + 7, 4, &year) || !digits(s.p + 12, 2, &hour) ||
        !digits(s.p + 15, 2, &minute) || !digits(s.p + 18, 2, &second) || !digits(s.p + 22, 2, &zone_hour) ||
        !digits(s.p + 24, 2, &zone_minute) || (s.p[21] != '+' && s.p[21] != '-'))
        return false;
    int month = month_of(s.p + 3);
    if (!month || !day || day > 31 || year < 1970 || hour > 23 || minute > 59 || second > 60)
        return false;
    int64_t zone = (int64_t)zone_hour * 3600 + (int64_t)zone_minute * 60;
    *out = days_of(year, month, day) * 86400 + (int64_t)hour * 3600 + (int64_t)minute * 60 + second;
    *out -= s.p[21] == '-' ? -zone : zone;
    return true;
}

/* "GET /path HTTP/1.1"; anything else is what a scanner sent: no path. */
static void read_request(struct str s, struct entry *out)
{
    const char *space = memchr(s.p, ' ', s.len);
    out->method = (struct str){s.p, space ? (size_t)(space - s.p) : 0};
    out->path = (struct str){NULL, 0};
    if (!space || space + 1 == s.p + s.len || space[1] != '/')
        return;
    struct str rest = {space + 1, (size_t)(s.p + s.len - space - 1)};
    size_t len = 0;
    while (len < rest.len && rest.p[len] != ' ' && rest.p[len] != '?')
        len++;
    out->path = (struct str){rest.p, len};
}

static bool read_field(enum field field, struct str s, struct entry *out)
{
    unsigned status;
    switch (field) {
    case FIELD_TIME:
        return read_time(s, &out->at_s);
    case FIELD_REQUEST:
        if (s.len == 0)
            return false;
        read_request(s, out);
        return true;
    case FIELD_STATUS:
        if (s.len != 3 || !digits(s.p, 3, &status) || status > 599)
            return false;
        out->status = status;
        return true;
    case FIELD_BYTES:
        out->bytes = 0;
        return str_equal(s, STR("-")) || str_to_u64(s, &out->bytes);
    case FIELD_SECONDS:
        return str_equal(s, STR("-")) || (str_to_double(s, &out->seconds) && out->seconds >= 0);
    default:
        return true;
    }
}

/* Where the variable at `p` ends: at `stop`, which an escape may hide. */
static const char *variable_end(const char *p, const char *end, char stop)
{
    for (const char *at = p; (at = memchr(at, stop, (size_t)(end - at))); at++) {
        size_t escapes = 0;
        while (at - escapes > p && at[-1 - (long)escapes] == '\\')
            escapes++;
        if (stop != '"' || escapes % 2 == 0)
            return at;
    }
    return NULL;
}

bool format_read(const struct format *f, struct str line, struct entry *out, size_t *bad)
{
    const char *p = line.p, *end = line.p + line.len;
    *out = (struct entry){.seconds = -1};
    for (unsigned i = 0; i < f->count; i++) {
        const struct format_item *item = &f->items[i];
        *bad = (size_t)(p - line.p);
        if (item->literal.p) {
            if ((size_t)(end - p) < item->literal.len || memcmp(p, item->literal.p, item->literal.len) != 0)
                return false;
            p += item->literal.len;
            continue;
        }
        const char *to = i + 1 < f->count ? variable_end(p, end, *f->items[i + 1].literal.p) : end;
        if (!to || !read_field(item->field, (struct str){p, (size_t)(to - p)}, out))
            return false;
        p = to;
    }
    *bad = (size_t)(p - line.p);
    return p == end;
}
