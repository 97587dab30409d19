/* Dispatch of a new flow: the service's plan names its slot. Nothing here runs for the frames of a flow that is known.
 * docs/design/0010-dispatch-plans.md
 */
#ifndef BATON_DIRECTOR_DISPATCH_H
#define BATON_DIRECTOR_DISPATCH_H

#include "director_hash.h"
#include "director_load.h"
#include "director_maps.h"
#include "packet.h"

#define BATON_SECOND_NS 1000000000ull

/* A flow that is being opened, and the room for it; addresses and ports in network byte order. In a map, for the stack of
 * all functions together is 512 bytes. */
struct baton_opening {
    /* What is known. */
    struct baton_flow_key key;
    __u8 destination[16];
    __u8 flags;             /* enum baton_flow_flags, of the new flow */
    bool asks;              /* nothing may be changed: `baton_route` */
    bool replaces;          /* the place of a flow that is over, which had: */
    __u8 former_flags;
    bool is_persistent;     /* the slot is the one of the client's last flow */
    __u16 former_slot;
    /* What is made of it. */
    struct baton_flow flow;
    __u32 words[BATON_HASHED_WORDS];
    struct baton_client_key cached;
    struct baton_destination known;
};

/* What it holds lasts for one frame. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, struct baton_opening);
} opening_scratch SEC(".maps");

/* What a plan's hash covers, as nine words: client address, service address, both ports; the rest is zero. */
static __always_inline __u32 *hashed_words(struct baton_opening *opening, __u8 kind)
{
    bool whole = kind == BATON_PLAN_HASH_FLOW || kind == BATON_PLAN_TWO_CHOICES;
    __u32 *words = opening->words;

    __builtin_memset(words, 0, sizeof(opening->words));
    if (kind != BATON_PLAN_HASH_DESTINATION)
        __builtin_memcpy(&words[0], opening->key.client_address, 16);
    if (whole || kind == BATON_PLAN_HASH_DESTINATION)
        __builtin_memcpy(&words[4], opening->destination, 16);
    if (whole || kind == BATON_PLAN_HASH_CLIENT)
        words[8] = (__u32)opening->key.client_port << 16;
    if (whole)
        words[8] |= opening->key.service_port;
    return words;
}

/* What stands at a number's place of the table. */
static __always_inline __u16 table_entry(const struct baton_service *service, __u32 number)
{
    __u32 place = service->plan_offset + number % service->plan_length;
    __u32 row = place / BATON_PLAN_ROW;
    struct baton_plan_row *found = bpf_map_lookup_elem(&plan, &row);

    return found ? found->slots[place % BATON_PLAN_ROW] : BATON_NO_SLOT;
}

/* The least loaded candidate. Also where a table has shown nothing but slots that are full or down: those of little
 * weight may stand nowhere near. */
static __always_inline __u16 dispatch_by_load(const struct baton_service *service)
{
    struct baton_scan *scan = prepare_scan(service);

    if (!scan)
        return BATON_NO_SLOT;
    run_scan(scan, service, 0, false);
    return scan->best.slot;
}

/* A table by the service's counter. A slot that is down is passed over. */
static __always_inline __u16 dispatch_by_counter(const struct baton_opening *opening,
                                                 const struct baton_service *service)
{
    __u32 id = service->id;
    __u32 *cursor = bpf_map_lookup_elem(&service_cursor, &id);

    if (!cursor)
        return BATON_NO_SLOT;
    for (int attempt = 0; attempt < BATON_PLAN_TRIES; attempt++) {
        /* Only a new flow pays for the atomic. */
        __u16 slot = table_entry(service, opening->asks ? *cursor + attempt : __sync_fetch_and_add(cursor, 1));

        if (takes_new_flows(service->id, slot))
            return slot;
    }
    return dispatch_by_load(service);
}

/* A table by a hash. Where the slot is down, another only if the plan says so. */
static __always_inline __u16 dispatch_by_hash(struct baton_opening *opening, const struct baton_service *service)
{
    const __u32 *words = hashed_words(opening, service->plan_kind);

    for (__u32 attempt = 0; attempt < BATON_PLAN_TRIES; attempt++) {
        __u16 slot = table_entry(service, baton_hash(words, service->hash_secret + attempt));

        if (takes_new_flows(service->id, slot))
            return slot;
        if (!(service->plan_flags & BATON_PLAN_FALLBACK))
            return BATON_NO_SLOT;
    }
    return dispatch_by_load(service);
}

/* Two different places, if four draws give two, and the lesser of them; all are weighed where both are down. */
static __always_inline __u16 dispatch_by_two_choices(struct baton_opening *opening,
                                                     const struct baton_service *service)
{
    const __u32 *words = hashed_words(opening, service->plan_kind);
    struct baton_scan *scan = prepare_scan(service);
    __u16 first, second;

    if (!scan)
        return BATON_NO_SLOT;
    first = table_entry(service, baton_hash(words, service->hash_secret));
    second = first;
    for (__u32 attempt = 1; attempt < 4 && second == first; attempt++)
        second = table_entry(service, baton_hash(words, service->hash_secret + attempt));
    run_scan(scan, service, first, true);
    if (second != first)
        run_scan(scan, service, second, true);
    if (scan->best.slot == BATON_NO_SLOT)
        run_scan(scan, service, 0, false);
    return scan->best.slot;
}

/* Frees the places of a destination's set that are not among `places`. */
static __always_inline void keep_places(struct baton_destination *known, __u32 places)
{
#pragma unroll
    for (int index = 0; index < BATON_MAX_REPLICAS; index++)
        known->slots[index] |= (__u16)((places >> index & 1) - 1);
}

/* One more slot for a destination, if there is a place for it and it has none. */
static __always_inline void add_slot(struct baton_destination *known, __u16 slot, __u64 now)
{
    if (places_of(known->slots, slot))
        return;
    for (__u32 index = 0; index < BATON_MAX_REPLICAS; index++) {
        if (known->slots[index] != BATON_NO_SLOT)
            continue;
        known->slots[index] = slot;
        known->changed_ns = now;
        return;
    }
}

/* IPVS lblc and lblcr (net/netfilter/ipvs/ip_vs_lblc.c, ip_vs_lblcr.c). */
static __always_inline __u16 dispatch_by_destination(struct baton_opening *opening,
                                                     const struct baton_service *service)
{
    bool replicates = service->plan_kind == BATON_PLAN_CACHE_SET;
    struct baton_client_key *key = &opening->cached;
    struct baton_destination *known = &opening->known, *found;
    __u64 now = bpf_ktime_get_coarse_ns(), lifetime = service->cache_s * BATON_SECOND_NS;
    struct baton_scan *scan = prepare_scan(service);
    __u32 kept;
    __u16 slot;

    if (!scan)
        return BATON_NO_SLOT;
    key->service = service->id;
    key->padding = 0;
    __builtin_memcpy(key->address, opening->destination, 16);
    known->last_used_ns = 0;
    known->changed_ns = 0;
    __builtin_memset(known->slots, 0xff, sizeof(known->slots));
    found = bpf_map_lookup_elem(&destinations, key);
    if (found && now - found->last_used_ns < lifetime)
        *known = *found;
    __builtin_memcpy(scan->set, known->slots, sizeof(scan->set));
    run_scan(scan, service, 0, false);
    slot = scan->least_member.slot;
    kept = scan->present;
    if (replicates && (kept & (kept - 1)) && now - known->changed_ns > lifetime) {
        kept &= ~scan->most_place;
        known->changed_ns = now;
    }
    if (slot == BATON_NO_SLOT || (scan->member_active > scan->least_member.weight && scan->half_idle)) {
        slot = scan->best.slot;
        if (slot == BATON_NO_SLOT)
            return slot;
        keep_places(known, replicates ? kept : 0);
        add_slot(known, slot, now);
    } else {
        keep_places(known, kept);
    }
    known->last_used_ns = now;
    if (!opening->asks)
        bpf_map_update_elem(&destinations, key, known, BPF_ANY);
    return slot;
}

/* The slot for a new flow by the service's plan alone, or BATON_NO_SLOT. Not static: the verifier looks at it once, for
 * whatever frame. */
__noinline __u32 baton_dispatch(struct baton_opening *opening, const struct baton_service *service)
{
    if (!opening || !service)
        return BATON_NO_SLOT;
    switch (service->plan_kind) {
    case BATON_PLAN_LEAST:
    case BATON_PLAN_FIRST:
        return dispatch_by_load(service);
    case BATON_PLAN_CACHE:
    case BATON_PLAN_CACHE_SET:
        return dispatch_by_destination(opening, service);
    }
    if (!service->plan_length)
        return BATON_NO_SLOT;
    switch (service->plan_kind) {
    case BATON_PLAN_COUNTER:
        return dispatch_by_counter(opening, service);
    case BATON_PLAN_TWO_CHOICES:
        return dispatch_by_two_choices(opening, service);
    case BATON_PLAN_HASH_SOURCE:
    case BATON_PLAN_HASH_DESTINATION:
    case BATON_PLAN_HASH_FLOW:
    case BATON_PLAN_HASH_CLIENT:
        return dispatch_by_hash(opening, service);
    }
    return BATON_NO_SLOT;
}

#endif
