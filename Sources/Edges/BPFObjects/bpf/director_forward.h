/* What becomes of a frame: left to the stack, dropped, or sent on by a new destination address. */
#ifndef BATON_DIRECTOR_FORWARD_H
#define BATON_DIRECTOR_FORWARD_H

#include "director_duplicate.h"
#include "director_maps.h"
#include "director_route.h"

/* The interface's own address, set before load: frames that a bridge floods to us are not ours. All zeros: no check. */
const volatile __u8 interface_address[6] = {};

/* Two-armed: the address of the interface `leaving_interface`, where the back-ends are. */
const volatile __u8 leaving_address[6] = {};

struct verdict {
    struct baton_director_counts *counts;
    struct baton_service *service;
    struct baton_service_counters *service_counts;
    struct baton_answer *answer;    /* of `baton_route`, which changes nothing; the compiler knows it to be 0 elsewhere */
};

/* Where the frames of a service are counted. */
static __always_inline struct baton_service_counters *counters_of(__u32 service, struct baton_answer *answer)
{
    return answer ? (void *)answer->service_counts : bpf_map_lookup_elem(&service_counters, &service);
}

static __always_inline int pass(struct baton_director_counts *counts, enum baton_director_counter reason)
{
    counts->values[reason]++;
    return XDP_PASS;
}

static __always_inline int drop(struct baton_director_counts *counts, enum baton_director_counter reason)
{
    counts->values[reason]++;
    return XDP_DROP;
}

/* Whether the frame was sent to this machine. A group address never is: IP unicast in it is not ours to forward, and
 * forwarding it could make a loop. */
static __always_inline bool is_for_us(const struct ethhdr *link)
{
    /* Volatile still: the compiler would take the zeros above for the value. */
    const volatile __u8 *own = interface_address;

    if (unlikely(link->h_dest[0] & 1))
        return false;
    if (!(own[0] | own[1] | own[2] | own[3] | own[4] | own[5]))
        return true;
    return link->h_dest[0] == own[0] && link->h_dest[1] == own[1] && link->h_dest[2] == own[2]
        && link->h_dest[3] == own[3] && link->h_dest[4] == own[4] && link->h_dest[5] == own[5];
}

/* Left to the stack, but for a mark as the destination: only `baton_duplicate` may meet that, and only from here. */
static __always_inline int pass_stranger(const struct ethhdr *link, struct baton_director_counts *counts)
{
    if (unlikely(is_mark(link->h_dest)))
        return drop(counts, BATON_COUNT_NOT_OURS);
    return pass(counts, BATON_COUNT_NOT_OURS);
}

/* To the group in unicast copies; counted as a frame to the group, the copies where they are made. */
static __always_inline int duplicate(struct ethhdr *link, __u32 frame, const struct verdict *verdict,
                                     const struct baton_slot *slot)
{
    name_for_copies(link, slot, verdict->service);
    verdict->counts->values[BATON_COUNT_TO_GROUP]++;
    verdict->service_counts->frames_to_group++;
    verdict->service_counts->bytes += frame;
    return XDP_PASS;
}

/* One-armed: back by the interface that it came in on. Two-armed: on by the other one. */
static __always_inline int leave(struct ethhdr *link)
{
    __u32 other = leaving_interface;

    if (likely(!other)) {
        __builtin_memcpy(link->h_source, link->h_dest, ETH_ALEN);
        return XDP_TX;
    }
    for (int index = 0; index < ETH_ALEN; index++)
        link->h_source[index] = leaving_address[index];
    return bpf_redirect(other, 0);
}

static __always_inline int forward(struct ethhdr *link, __u32 frame,
                                   const struct verdict *verdict, const struct baton_slot *slot, bool to_group)
{
    const __u8 *address = to_group ? slot->group : slot->owner;
    int action;

    if (to_group && unlikely(verdict->service->forwarding == BATON_FORWARD_DUPLICATE))
        return duplicate(link, frame, verdict, slot);
    action = leave(link);
    __builtin_memcpy(link->h_dest, address, ETH_ALEN);
    if (to_group) {
        verdict->counts->values[BATON_COUNT_TO_GROUP]++;
        verdict->service_counts->frames_to_group++;
    } else {
        verdict->counts->values[BATON_COUNT_TO_OWNER]++;
        verdict->service_counts->frames_to_owner++;
    }
    verdict->service_counts->bytes += frame;
    return action;
}

#endif
