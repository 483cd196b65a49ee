// SPDX-License-Identifier: MIT
#include "codec/codec.h"

static const struct {
    const char *name;
    int min, max;
} infos[CODEC_COUNT] = {
    [CODEC_IDENTITY] = {"identity", 0, 0},
    [CODEC_GZIP] = {"gzip", 0, 12},
    [CODEC_DEFLATE] = {"deflate", 0, 12},
    [CODEC_ZSTD] = {"zstd", -7, 19},
    [CODEC_BROTLI] = {"br", 0, 11},
};

const char *codec_name(enum codec_id id)
{
    return infos[id].name;
}

enum codec_id codec_from_name(struct str name)
{
    for (enum codec_id id = CODEC_IDENTITY; id < CODEC_COUNT; id++)
        if (str_iequal(name, str_from(infos[id].name)))
            return id;
    return str_iequal(name, STR("x-gzip")) ? CODEC_GZIP : CODEC_COUNT;
}

int codec_level_min(enum codec_id id)
{
    return infos[id].min;
}

int codec_level_max(enum codec_id id)
{
    return infos[id].max;
}

int codec_level(enum codec_id id, int wanted)
{
    return wanted < infos[id].min ? infos[id].min : wanted > infos[id].max ? infos[id].max : wanted;
}
