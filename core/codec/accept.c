// SPDX-License-Identifier: MIT
#include "codec/accept.h"

enum { ONE = 1000, BAD = 0xffff };

/* "1", "0.5", "0.333": thousandths, further digits cut off. */
static unsigned read_weight(struct str s)
{
    unsigned value, step = 100;
    if (!s.len || (s.p[0] != '0' && s.p[0] != '1') || (s.len > 1 && s.p[1] != '.'))
        return BAD;
    value = s.p[0] == '1' ? ONE : 0;
    for (size_t i = 2; i < s.len; i++, step /= 10) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return BAD;
        value += (unsigned)(s.p[i] - '0') * step;
    }
    return value <= ONE ? value : BAD;
}

/* The weight among the parameters of an element. */
static unsigned weight_of(struct str parameters)
{
    struct str parameter;
    unsigned weight = ONE;
    while (str_next(&parameters, ';', &parameter))
        if (parameter.len >= 2 && ascii_lower(parameter.p[0]) == 'q' && parameter.p[1] == '=')
            weight = read_weight((struct str){parameter.p + 2, parameter.len - 2});
        else if (ascii_lower(parameter.p[0]) == 'q' && (parameter.len == 1 || parameter.p[1] == ' '))
            return BAD;
    return weight;
}

static void set(uint16_t *weight, bool known, unsigned value)
{
    if (!known || value < *weight)
        *weight = (uint16_t)value;
}

void accept_read(struct accept *a, struct str value)
{
    struct str element;
    while (str_next(&value, ',', &element)) {
        const char *semicolon = memchr(element.p, ';', element.len);
        size_t len = semicolon ? (size_t)(semicolon - element.p) : element.len;
        struct str name = str_trim((struct str){element.p, len});
        unsigned weight = weight_of((struct str){element.p + len, element.len - len});
        enum codec_id id = codec_from_name(name);
        if (weight == BAD)
            continue;
        if (name.len == 1 && *name.p == '*') {
            set(&a->any, a->has_any, weight);
            a->has_any = true;
        } else if (id < CODEC_COUNT) {
            set(&a->weight[id], a->named >> id & 1, weight);
            a->named |= (uint16_t)(1 << id);
        }
    }
}

unsigned accept_weight(const struct accept *a, enum codec_id id)
{
    if (a->named >> id & 1)
        return a->weight[id];
    if (a->has_any && (id != CODEC_IDENTITY || !a->any))
        return a->any;
    return id == CODEC_IDENTITY ? 1 : 0; /* taken, but less gladly than what is named */
}

bool accept_needs_coding(const struct accept *a)
{
    return accept_weight(a, CODEC_IDENTITY) == 0;
}

enum codec_id accept_choose(const struct accept *a, const enum codec_id *order, unsigned count)
{
    enum codec_id best = CODEC_IDENTITY;
    unsigned weight = 0;
    for (unsigned i = 0; i < count; i++)
        if (accept_weight(a, order[i]) > weight) {
            best = order[i];
            weight = accept_weight(a, best);
        }
    return weight >= accept_weight(a, CODEC_IDENTITY) ? best : CODEC_IDENTITY;
}
