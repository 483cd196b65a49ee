// SPDX-License-Identifier: MIT
#include "replay/entry.h"

#include <math.h>

void entry_init(struct entry *e)
{
    e->method = e->path = (struct str){NULL, 0};
    e->status = 0;
    e->bytes = 0;
    e->at_s = 0;
    e->seconds = -1;
    e->asked = false;
    e->scratch_used = 0;
}

static bool digits(const char *p, unsigned n, unsigned *out)
{
    unsigned value = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned digit = (unsigned char)p[i] - '0';
        if (digit > 9)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static unsigned month_of(const char *p)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (unsigned i = 0; i < 12; i++)
        if (memcmp(names + (size_t)i * 3, p, 3) == 0)
            return i + 1;
    return 0;
}

struct date {
    unsigned year, month, day, hour, minute, second;
};

/* Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t y, int m, unsigned d)
{
    y -= m <= 2;
    int64_t era = y / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + (int64_t)d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool date_seconds(const struct date *d, int64_t *out)
{
    if (!d->month || d->month > 12 || !d->day || d->day > 31 || d->year < 1970 || d->hour > 23 || d->minute > 59 ||
        d->second > 60)
        return false;
    *out = days_of(d->year, (int)d->month, d->day) * 86400 + (int64_t)d->hour * 3600 + (int64_t)d->minute * 60 +
           d->second;
    return true;
}

/* What may follow the seconds: a fraction, then "Z", " +0200", "+02:00" or nothing. */
static bool read_zone(struct str s, int64_t *at)
{
    size_t i = 0;
    unsigned hour, minute;
    if (i < s.len && (s.p[i] == '.' || s.p[i] == ',')) /* ISO 8601 allows both */
        for (i++; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
            ;
    if (i == s.len || (i + 1 == s.len && s.p[i] == 'Z'))
        return true;
    i += s.p[i] == ' ';
    if (s.len - i < 5 || (s.p[i] != '+' && s.p[i] != '-') || !digits(s.p + i + 1, 2, &hour))
        return false;
    size_t colon = s.p[i + 3] == ':';
    if (s.len - i != 5 + colon || !digits(s.p + i + 3 + colon, 2, &minute) || hour > 24 || minute > 59)
        return false;
    int64_t zone = (int64_t)hour * 3600 + (int64_t)minute * 60;
    *at += s.p[i] == '-' ? zone : -zone;
    return true;
}

static bool read_clf(struct str s, int64_t *out)
{
    struct date d;
    if (s.len < 20 || s.p[6] != '/' || s.p[11] != ':' || s.p[14] != ':' || s.p[17] != ':' || !digits(s.p, 2, &d.day) ||
        !digits(s.p + 7, 4, &d.year) || !digits(s.p + 12, 2, &d.hour) || !digits(s.p + 15, 2, &d.minute) ||
        !digits(s.p + 18, 2, &d.second))
        return false;
    d.month = month_of(s.p + 3);
    return date_seconds(&d, out) && read_zone((struct str){s.p + 20, s.len - 20}, out);
}

static bool read_iso(struct str s, int64_t *out)
{
    struct date d;
    if (s.len < 19 || s.p[7] != '-' || (s.p[10] != 'T' && s.p[10] != ' ') || s.p[13] != ':' || s.p[16] != ':' ||
        !digits(s.p, 4, &d.year) || !digits(s.p + 5, 2, &d.month) || !digits(s.p + 8, 2, &d.day) ||
        !digits(s.p + 11, 2, &d.hour) || !digits(s.p + 14, 2, &d.minute) || !digits(s.p + 17, 2, &d.second))
        return false;
    return date_seconds(&d, out) && read_zone((struct str){s.p + 19, s.len - 19}, out);
}

static bool read_time(struct str s, int64_t *out)
{
    if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']')
        s = (struct str){s.p + 1, s.len - 2};
    if (s.len > 2 && s.p[2] == '/')
        return read_clf(s, out);
    if (s.len > 4 && s.p[4] == '-')
        return read_iso(s, out);
    double number;
    if (!str_to_double(s, &number) || number < 0 || number > 1e14)
        return false;
    *out = (int64_t)(number > 1e11 ? number / 1000 : number); /* 1e11 s is the year 5138: milliseconds */
    return true;
}

/* The path of "/a?b", "http://host/a?b"; none in "*" or what a scanner sent. */
static struct str path_of(struct str s)
{
    if (s.len && s.p[0] != '/') {
        const char *colon = memchr(s.p, ':', s.len < 16 ? s.len : 16), *end = s.p + s.len;
        if (!colon || end - colon < 3 || colon[1] != '/' || colon[2] != '/')
            return (struct str){NULL, 0};
        const char *slash = memchr(colon + 3, '/', (size_t)(end - colon - 3));
        if (!slash)
            return STR("/");
        s = (struct str){slash, (size_t)(end - slash)};
    }
    if (!s.len)
        return (struct str){NULL, 0};
    const char *query = memchr(s.p, '?', s.len);
    return (struct str){s.p, query ? (size_t)(query - s.p) : s.len};
}

static bool is_method(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((s.p[i] < 'A' || s.p[i] > 'Z') && s.p[i] != '-')
            return false;
    return s.len && s.len <= 16;
}

/* "GET /path HTTP/1.1"; anything else is what a scanner sent: no path. */
static void read_request(struct str s, struct entry *e)
{
    const char *space = memchr(s.p, ' ', s.len);
    e->method = (struct str){s.p, space ? (size_t)(space - s.p) : 0};
    if (!space || !is_method(e->method))
        return;
    struct str rest = {space + 1, (size_t)(s.p + s.len - space - 1)};
    const char *end = memchr(rest.p, ' ', rest.len);
    if (end)
        rest.len = (size_t)(end - rest.p);
    e->path = path_of(rest);
}

static bool read_status(struct str s, unsigned *out)
{
    if (str_equal(s, STR("-")) || str_equal(s, STR("-1")) || str_equal(s, STR("0")))
        return *out = 0, true;
    return s.len == 3 && digits(s.p, 3, out) && *out < 600;
}

/* Plain decimals, by far the most, without a call to strtod. */
static bool read_number(struct str s, double *out)
{
    uint64_t value = 0, scale = 1;
    size_t i = s.len && s.p[0] == '+'; /* HAProxy's "still going on" */
    bool dot = false;
    if (s.len > i && s.len < 18) {
        for (; i < s.len; i++) {
            unsigned digit = (unsigned char)s.p[i] - '0';
            if (digit <= 9) {
                value = value * 10 + digit;
                scale *= dot ? 10 : 1;
            } else if (s.p[i] == '.' && !dot && i + 1 < s.len) {
                dot = true;
            } else {
                break;
            }
        }
        if (i == s.len)
            return *out = (double)value / (double)scale, true;
    }
    return str_to_double(s, out);
}

static bool add_seconds(struct entry *e, struct str s, double unit)
{
    double number;
    if (str_equal(s, STR("-")) || s.len == 0)
        return true;
    if (!read_number(s, &number) || !isfinite(number))
        return false;
    if (number >= 0)
        e->seconds = (e->seconds < 0 ? 0 : e->seconds) + number * unit;
    return true;
}

bool entry_set(struct entry *e, enum field field, struct str s)
{
    switch (field) {
    case FIELD_TIME:
        return read_time(s, &e->at_s) && e->at_s >= 0;
    case FIELD_REQUEST:
        e->asked = true;
        read_request(s, e);
        return true;
    case FIELD_METHOD:
        e->method = is_method(s) ? s : (struct str){NULL, 0};
        return true;
    case FIELD_PATH:
        e->asked = true;
        e->path = path_of(s);
        return true;
    case FIELD_STATUS:
        return read_status(s, &e->status);
    case FIELD_BYTES:
        e->bytes = 0;
        return str_equal(s, STR("-")) || str_to_u64(s, &e->bytes);
    case FIELD_SECONDS:
        return add_seconds(e, s, 1);
    case FIELD_DOTTED_SECONDS:
        return (str_equal(s, STR("-")) || memchr(s.p, '.', s.len)) && add_seconds(e, s, 1);
    case FIELD_MS:
        return add_seconds(e, s, 1e-3);
    case FIELD_US:
        return add_seconds(e, s, 1e-6);
    case FIELD_NS:
        return add_seconds(e, s, 1e-9);
    default:
        return true;
    }
}
