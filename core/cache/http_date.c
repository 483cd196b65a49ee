// SPDX-License-Identifier: MIT
#include "cache/http_date.h"

#include <time.h>

static bool digits(const char *p, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *out = *out * 10 + (p[i] - '0');
    }
    return true;
}

static bool month(const char *p, int *out)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (*out = 0; *out < 12; (*out)++)
        if (memcmp(p, names + 3 * (size_t)*out, 3) == 0)
            return true;
    return false;
}

static bool clock_of(const char *p, struct tm *tm)
{
    return digits(p, 2, &tm->tm_hour) && p[2] == ':' && digits(p + 3, 2, &tm->tm_min) &&
           p[5] == ':' && digits(p + 6, 2, &tm->tm_sec);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool imf_fixdate(const char *p, size_t len, struct tm *tm)
{
    return len == 29 && memcmp(p + 3, ", ", 2) == 0 && digits(p + 5, 2, &tm->tm_mday) &&
           p[7] == ' ' && month(p + 8, &tm->tm_mon) && p[11] == ' ' &&
           digits(p + 12, 4, &tm->tm_year) && p[16] == ' ' && clock_of(p + 17, tm) &&
           memcmp(p + 25, " GMT", 4) == 0;
}

/* "Sunday, 06-Nov-94 08:49:37 GMT" */
static bool rfc850(const char *p, size_t len, int this_year, struct tm *tm)
{
    const char *comma = memchr(p, ',', len);
    if (!comma || p + len - comma != 24)
        return false;
    p = comma;
    if (p[1] != ' ' || !digits(p + 2, 2, &tm->tm_mday) || p[4] != '-' ||
        !month(p + 5, &tm->tm_mon) || p[8] != '-' || !digits(p + 9, 2, &tm->tm_year) ||
        p[11] != ' ' || !clock_of(p + 12, tm) || memcmp(p + 20, " GMT", 4) != 0)
        return false;
    tm->tm_year += this_year / 100 * 100;
    if (tm->tm_year > this_year + 50)
        tm->tm_year -= 100;
    return true;
}

/* "Sun Nov  6 08:49:37 1994" */
static bool asctime_date(const char *p, size_t len, struct tm *tm)
{
    return len == 24 && p[3] == ' ' && month(p + 4, &tm->tm_mon) && p[7] == ' ' &&
           (p[8] == ' ' ? digits(p + 9, 1, &tm->tm_mday) : digits(p + 8, 2, &tm->tm_mday)) &&
           p[10] == ' ' && clock_of(p + 11, tm) && p[19] == ' ' && digits(p + 20, 4, &tm->tm_year);
}

bool http_date_read(struct str text, uint64_t now_ms, uint64_t *out_ms)
{
    time_t now = (time_t)(now_ms / 1000);
    struct tm tm = {0}, today;
    gmtime_r(&now, &today);
    if (!imf_fixdate(text.p, text.len, &tm) && !asctime_date(text.p, text.len, &tm) &&
        !rfc850(text.p, text.len, today.tm_year + 1900, &tm))
        return false;
    if (tm.tm_year < 1970 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    tm.tm_year -= 1900;
    *out_ms = (uint64_t)timegm(&tm) * 1000;
    return true;
}
