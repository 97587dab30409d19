/* Dispatch of a new flow: the service's plan kind turns a SYN into a place of its plan. */
#ifndef BATON_DIRECTOR_DISPATCH_H
#define BATON_DIRECTOR_DISPATCH_H

#include "director_maps.h"
#include "packet.h"

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

/* What a plan's hash covers, as nine words: client address, service address, both ports; the rest is zero. */
static __always_inline __u32 baton_hash_segment(const struct baton_segment *segment,
                                                const struct baton_service *service)
{
    __u32 words[BATON_HASHED_WORDS] = {};

    if (service->plan_kind != BATON_PLAN_HASH_DESTINATION)
        __builtin_memcpy(&words[0], segment->source, 16);
    if (service->plan_kind != BATON_PLAN_HASH_SOURCE)
        __builtin_memcpy(&words[4], segment->destination, 16);
    if (service->plan_kind == BATON_PLAN_HASH_FLOW)
        words[8] = (__u32)segment->source_port << 16 | segment->destination_port;
    return baton_hash(words, service->hash_secret);
}

/* The slot for a new flow, or BATON_NO_SLOT. */
static __always_inline __u16 baton_dispatch(const struct baton_segment *segment, const struct baton_service *service)
{
    __u32 id = service->id, place, number;
    __u32 *cursor;
    __u16 *slot;

    if (!service->plan_length)
        return BATON_NO_SLOT;
    if (service->plan_kind == BATON_PLAN_COUNTER) {
        cursor = bpf_map_lookup_elem(&service_cursor, &id);
        if (!cursor)
            return BATON_NO_SLOT;
        /* Only a new flow pays for the atomic. */
        number = __sync_fetch_and_add(cursor, 1);
    } else {
        number = baton_hash_segment(segment, service);
    }
    place = service->plan_offset + number % service->plan_length;
    slot = bpf_map_lookup_elem(&plan, &place);
    return slot ? *slot : BATON_NO_SLOT;
}

#endif
