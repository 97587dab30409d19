/* The keyed hash of dispatch plans. */
#ifndef BATON_DIRECTOR_HASH_H
#define BATON_DIRECTOR_HASH_H

#include "prelude.h"

/* One SipRound of HalfSipHash (Aumasson and Bernstein; lib/siphash.c, HSIPROUND). */
#define BATON_ROTATE(value, bits) ((value) << (bits) | (value) >> (32 - (bits)))

static __always_inline void baton_half_sip_round(__u32 v[4])
{
    v[0] += v[1];
    v[1] = BATON_ROTATE(v[1], 5) ^ v[0];
    v[0] = BATON_ROTATE(v[0], 16);
    v[2] += v[3];
    v[3] = BATON_ROTATE(v[3], 8) ^ v[2];
    v[0] += v[3];
    v[3] = BATON_ROTATE(v[3], 7) ^ v[0];
    v[2] += v[1];
    v[1] = BATON_ROTATE(v[1], 13) ^ v[2];
    v[2] = BATON_ROTATE(v[2], 16);
}

#define BATON_HASHED_WORDS 9

/* HalfSipHash-1-3 of nine words. Keyed, for clients choose what is hashed: with a plain hash they could choose their
 * slot too. The key is 32 bits long, its second half a fixed function of the first. */
static __always_inline __u32 baton_hash(const __u32 words[BATON_HASHED_WORDS], __u32 secret)
{
    __u32 key = secret ^ 0x9e3779b9;
    __u32 v[4] = {secret, key, 0x6c796765 ^ secret, 0x74656462 ^ key};
    __u32 last = (__u32)(BATON_HASHED_WORDS * 4) << 24;

#pragma unroll
    for (int index = 0; index < BATON_HASHED_WORDS; index++) {
        v[3] ^= words[index];
        baton_half_sip_round(v);
        v[0] ^= words[index];
    }
    v[3] ^= last;
    baton_half_sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    baton_half_sip_round(v);
    baton_half_sip_round(v);
    baton_half_sip_round(v);
    return v[1] ^ v[3];
}

#endif
