// SPDX-License-Identifier: MIT
#include "stats/parcel.h"

#include "base/err.h"
#include "board/board.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char MAGIC[4] = "PLF1";
enum { METHOD_SIZE = sizeof((struct slow_sample *)0)->method, TRACE = sizeof((struct slow_sample *)0)->trace_id - 1, MARK_ROUTE = 'r', MARK_SLOW = 's' };

uint64_t parcel_format(void)
{
    static const uint64_t parts[] = {SKETCH_BUCKETS, SKETCH_SCALE, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, PHASE_COUNT, SIZE_COUNT};
    return XXH3_64bits(parts, sizeof parts);
}

/* ---- writing ---- */

static void add_number(struct buf *out, uint64_t value)
{
    unsigned char *to = (unsigned char *)buf_room(out, FRAME_VARINT_MOST);
    if (to)
        buf_wrote(out, (size_t)(varint_put(to, value) - to));
}

static void add_text(struct buf *out, struct str text)
{
    add_number(out, text.len);
    buf_add_str(out, text);
}

void parcel_begin(struct buf *out, const struct parcel_head *head)
{
    uint64_t format = parcel_format();
    buf_add(out, MAGIC, sizeof MAGIC);
    buf_add(out, &format, sizeof format);
    buf_add(out, head->sender, sizeof head->sender);
    add_number(out, head->sequence);
    add_number(out, head->started);
    add_number(out, head->finished);
    add_number(out, head->aborted);
    add_number(out, head->last);
}

void parcel_add_route(struct buf *out, struct str method, struct str name, const struct stats_route *before, const struct stats_route *now)
{
    unsigned char frame[FRAME_BYTES_MOST];
    buf_add_char(out, MARK_ROUTE);
    add_text(out, method);
    add_text(out, name);
    add_text(out, (struct str){(const char *)frame, frame_put(frame, before, now)});
}

void parcel_add_slow(struct buf *out, struct str name, const struct slow_sample *slow)
{
    buf_add_char(out, MARK_SLOW);
    add_text(out, str_from(slow->method));
    add_text(out, name);
    add_text(out, str_from(slow->trace_id));
    add_number(out, slow->status);
    add_number(out, slow->at_unix_ms);
    add_number(out, slow->latency_ns);
    add_number(out, slow->bytes_out);
    for (int i = 0; i < PHASE_COUNT; i++)
        add_number(out, slow->phase_ns[i]);
}

/* ---- reading ---- */

static bool take(struct str *bytes, void *to, size_t size)
{
    if (bytes->len < size)
        return false;
    memcpy(to, bytes->p, size);
    bytes->p += size;
    bytes->len -= size;
    return true;
}

static bool take_number(struct str *bytes, uint64_t *out)
{
    const unsigned char *from = (const unsigned char *)bytes->p, *end = varint_get(from, from + bytes->len, out);
    if (!end)
        return false;
    bytes->len -= (size_t)(end - from);
    bytes->p = (const char *)end;
    return true;
}

static bool take_text(struct str *bytes, size_t most, struct str *out)
{
    uint64_t len;
    if (!take_number(bytes, &len) || len > most || len > bytes->len)
        return false;
    *out = (struct str){bytes->p, (size_t)len};
    bytes->p += len;
    bytes->len -= (size_t)len;
    return true;
}

int parcel_open(struct str *bytes, struct parcel_head *head)
{
    char magic[sizeof MAGIC];
    uint64_t format, last = 0;
    if (!take(bytes, magic, sizeof magic) || memcmp(magic, MAGIC, sizeof magic) != 0 || !take(bytes, &format, sizeof format))
        return ERR_INVAL;
    if (format != parcel_format())
        return ERR_PROTOCOL;
    bool whole = take(bytes, head->sender, sizeof head->sender) && take_number(bytes, &head->sequence) && take_number(bytes, &head->started) &&
                 take_number(bytes, &head->finished) && take_number(bytes, &head->aborted) && take_number(bytes, &last);
    head->last = last != 0;
    return whole ? 0 : ERR_INVAL;
}

static bool take_slow(struct str *bytes, struct parcel_entry *out)
{
    struct slow_sample *slow = &out->slow;
    struct str trace;
    uint64_t status;
    memset(slow, 0, sizeof *slow);
    if (!take_text(bytes, TRACE, &trace) || !take_number(bytes, &status) || status > 599 || !take_number(bytes, &slow->at_unix_ms) ||
        !take_number(bytes, &slow->latency_ns) || !take_number(bytes, &slow->bytes_out))
        return false;
    for (int i = 0; i < PHASE_COUNT; i++)
        if (!take_number(bytes, &slow->phase_ns[i]))
            return false;
    slow->status = (uint32_t)status;
    for (size_t i = 0; i < trace.len; i++)
        if (!((trace.p[i] >= '0' && trace.p[i] <= '9') || (trace.p[i] >= 'a' && trace.p[i] <= 'f') || (trace.p[i] >= 'A' && trace.p[i] <= 'F')))
            return false;
    memcpy(slow->trace_id, trace.p, trace.len);
    memcpy(slow->method, out->method.p, out->method.len);
    return true;
}

static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.p[i] < ' ' || name.p[i] == 127)
            return false;
    return name.len > 0;
}

static bool take_route(struct str *bytes, struct parcel_entry *out)
{
    struct str frame;
    memset(&out->counts, 0, sizeof out->counts);
    if (!take_text(bytes, FRAME_BYTES_MOST, &frame))
        return false;
    const unsigned char *from = (const unsigned char *)frame.p;
    return frame_add(from, from + frame.len, &out->counts) == from + frame.len;
}

int parcel_next(struct str *bytes, struct parcel_entry *out)
{
    char mark;
    out->kind = PARCEL_END;
    if (!bytes->len)
        return 0;
    if (!take(bytes, &mark, 1) || (mark != MARK_ROUTE && mark != MARK_SLOW) || !take_text(bytes, METHOD_SIZE - 1, &out->method) ||
        !take_text(bytes, BOARD_ROUTE_NAME - 1, &out->name) || !is_name(out->method) || !is_name(out->name))
        return ERR_INVAL;
    out->kind = mark == MARK_ROUTE ? PARCEL_ROUTE : PARCEL_SLOW;
    return (mark == MARK_ROUTE ? take_route(bytes, out) : take_slow(bytes, out)) ? 0 : ERR_INVAL;
}
