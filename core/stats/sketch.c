// SPDX-License-Identifier: MIT
/* How an index is found without a logarithm:
 *
 *     ns = 2^e * m, 1 <= m < 2      e from a count of leading zeros
 *     e picks the octave, m the bucket within it
 *
 * The bounds inside an octave, 2^(k/64), are irrational, so as integers they
 * never meet a duration: comparing with the rounded-down bound is exact. The
 * upper 7 bits of m cut an octave into 128 equal steps of 0.0078; the
 * narrowest bucket is 0.0109 wide, so a step holds one bound at most. One
 * look-up tells the bounds below the step, one comparison decides the rest.
 * Only the powers of two themselves are whole numbers; they belong to the
 * bucket they close, hence the correction by one.
 *
 * The coarse scale divides by 8: every coarse bucket is 8 fine ones. */
#include "stats/sketch.h"

#include <math.h>

/* floor(2^(63 + k/64)) for k = 1 .. 63; the last one is never passed. */
const uint64_t sketch_bound[64] = {
    0x8164d1f3bc030773U, 0x82cd8698ac2ba1d7U, 0x843a28c3acde4046U, 0x85aac367cc487b14U,
    0x871f61969e8d1010U, 0x88980e8092da8527U, 0x8a14d575496efd9aU, 0x8b95c1e3ea8bd6e6U,
    0x8d1adf5b7e5ba9e5U, 0x8ea4398b45cd53c0U, 0x9031dc431466b1dcU, 0x91c3d373ab11c336U,
    0x935a2b2f13e6e92bU, 0x94f4efa8fef70961U, 0x96942d3720185a00U, 0x9837f0518db8a96fU,
    0x99e0459320b7fa64U, 0x9b8d39b9d54e5538U, 0x9d3ed9a72cffb750U, 0x9ef5326091a111adU,
    0xa0b0510fb9714fc2U, 0xa27043030c496818U, 0xa43515ae09e6809eU, 0xa5fed6a9b15138eaU,
    0xa7cd93b4e9653569U, 0xa9a15ab4ea7c0ef8U, 0xab7a39b5a93ed337U, 0xad583eea42a14ac6U,
    0xaf3b78ad690a4374U, 0xb123f581d2ac258fU, 0xb311c412a9112489U, 0xb504f333f9de6484U,
    0xb6fd91e328d17791U, 0xb8fbaf4762fb9ee9U, 0xbaff5ab2133e45fbU, 0xbd08a39f580c36beU,
    0xbf1799b67a731082U, 0xc12c4cca66709456U, 0xc346ccda24976407U, 0xc5672a115506daddU,
    0xc78d74c8abb9b15cU, 0xc9b9bd866e2f27a2U, 0xcbec14fef2727c5cU, 0xce248c151f8480e3U,
    0xd06333daef2b2594U, 0xd2a81d91f12ae45aU, 0xd4f35aabcfedfa1fU, 0xd744fccad69d6af4U,
    0xd99d15c278afd7b5U, 0xdbfbb797daf23755U, 0xde60f4825e0e9123U, 0xe0ccdeec2a94e111U,
    0xe33f8972be8a5a51U, 0xe5b906e77c8348a8U, 0xe8396a503c4bdc68U, 0xeac0c6e7dd24392eU,
    0xed4f301ed9942b84U, 0xefe4b99bdcdaf5cbU, 0xf281773c59ffb139U, 0xf5257d152486cc2cU,
    0xf7d0df730ad13bb8U, 0xfa83b2db722a033aU, 0xfd3e0c0cf486c174U, 0xffffffffffffffffU,
};

/* How many of the bounds lie below step j of an octave. */
const unsigned char sketch_below[128] = {
    0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10,
    10, 11, 12, 12, 13, 14, 14, 15, 15, 16, 17, 17, 18, 18, 19, 20,
    20, 21, 21, 22, 22, 23, 24, 24, 25, 25, 26, 26, 27, 27, 28, 28,
    29, 29, 30, 30, 31, 31, 32, 33, 33, 34, 34, 35, 35, 35, 36, 36,
    37, 37, 38, 38, 39, 39, 40, 40, 41, 41, 42, 42, 43, 43, 43, 44,
    44, 45, 45, 46, 46, 47, 47, 47, 48, 48, 49, 49, 50, 50, 50, 51,
    51, 52, 52, 52, 53, 53, 54, 54, 54, 55, 55, 56, 56, 56, 57, 57,
    58, 58, 58, 59, 59, 59, 60, 60, 61, 61, 61, 62, 62, 62, 63, 63,
};

double sketch_upper_ns(unsigned index, unsigned scale)
{
    return exp2(SKETCH_LOW_EXPONENT + (double)(index + 1) / (double)(1U << scale));
}

double sketch_quantile_ns(const uint32_t *counts, unsigned buckets, unsigned scale, double q)
{
    uint64_t total = 0, seen = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < buckets; i++) {
        total += counts[i];
        if (counts[i])
            last = i;
    }
    if (!total)
        return 0;
    if (q >= 1)
        return sketch_upper_ns(last, scale);
    double wanted = ceil(q * (double)total);
    uint64_t rank = wanted >= 1 ? (uint64_t)wanted : 1;
    unsigned i = 0;
    while (i < last && (seen += counts[i]) < rank)
        i++;
    return sketch_upper_ns(i, scale) * exp2(-0.5 / (double)(1U << scale));
}
