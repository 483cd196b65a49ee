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

/* Eight digits at a time, a byte for each: those above nine are moved on to the letters. */
static void hex_of_32(char out[8], uint64_t value)
{
    value = (value | value << 16) & 0x0000ffff0000ffffULL;
    value = (value | value << 8) & 0x00ff00ff00ff00ffULL;
    value = (value | value << 4) & 0x0f0f0f0f0f0f0f0fULL;
    uint64_t letters = (value + 0x0606060606060606ULL) >> 4 & 0x0101010101010101ULL;
    value = __builtin_bswap64(value + 0x3030303030303030ULL + letters * ('a' - '0' - 10));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    memcpy(out, &value, 8);
}

void trace_hex(char out[16], uint64_t value)
{
    hex_of_32(out, value >> 32);
    hex_of_32(out + 8, value & UINT32_MAX);
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
