// SPDX-License-Identifier: MIT
#include "http/trace.h"

/* "00-<32 hex>-<16 hex>-<2 hex>" */
enum { ID_AT = 3, PARENT_AT = 36, FLAGS_AT = 53 };

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_hex(const char *p, size_t len, bool not_zero)
{
    bool zero = true;
    for (size_t i = 0; i < len; i++) {
        if (digit(p[i]) < 0)
            return false;
        zero = zero && p[i] == '0';
    }
    return !(not_zero && zero);
}

bool trace_parse(struct str v, struct trace *out)
{
    if (v.len < TRACEPARENT || !is_hex(v.p, 2, false) || v.p[2] != '-' || v.p[35] != '-' || v.p[52] != '-' ||
        !is_hex(v.p + ID_AT, TRACE_ID, true) || !is_hex(v.p + PARENT_AT, TRACE_PARENT_ID, true) ||
        !is_hex(v.p + FLAGS_AT, 2, false))
        return false;
    bool is_first = v.p[0] == '0' && v.p[1] == '0';
    if (v.p[0] == 'f' && v.p[1] == 'f')
        return false;
    if (v.len > TRACEPARENT && (is_first || v.p[TRACEPARENT] != '-')) /* later versions may go on behind a '-' */
        return false;
    out->id = (struct str){v.p + ID_AT, TRACE_ID};
    out->flags = (unsigned)digit(v.p[FLAGS_AT + 1]) & 3;
    return true;
}

void trace_hex(char out[16], uint64_t value)
{
    for (int i = 15; i >= 0; i--, value >>= 4)
        out[i] = "0123456789abcdef"[value & 15];
}

void trace_write(char out[TRACEPARENT], const char *id, uint64_t parent, unsigned flags)
{
    memcpy(out, "00-", 3);
    memcpy(out + ID_AT, id, TRACE_ID);
    out[35] = '-';
    trace_hex(out + PARENT_AT, parent);
    memcpy(out + 52, "-00", 3);
    out[54] = (char)('0' + (flags & 3));
}
