/* A new flow: by a SYN, or by a datagram that belongs to no living one. */
#ifndef BATON_DIRECTOR_OPEN_H
#define BATON_DIRECTOR_OPEN_H

#include "director_dispatch.h"
#include "director_flood.h"
#include "director_forward.h"
#include "director_persistence.h"

/* What `open_flow` returns besides a slot: this and why there is none, an `enum baton_director_counter`. */
#define BATON_NOT_OPENED 0x10000

/* Likewise, of a flow that came too soon after others: counted where it was refused. */
#define BATON_REFUSED 0x20000

static __always_inline struct baton_slot *find_slot(__u16 number)
{
    __u32 key = number;

    return bpf_map_lookup_elem(&slots, &key);
}

static __always_inline bool slot_is_up(const struct baton_slot *slot)
{
    return slot && (slot->flags & (BATON_SLOT_ACTIVE | BATON_SLOT_TAKEOVER));
}

static __always_inline __u8 group_time(__u64 now)
{
    return now >> BATON_GROUP_TIME_SHIFT;
}

/* The room for a new flow whose place is `key`; `former` is the flow that has this place, 0 for none. `asks`: it is not
 * to be opened. */
static __always_inline struct baton_opening *prepare_opening(const struct baton_flow_key *key,
                                                             const __u8 destination[16],
                                                             const struct baton_flow *former, bool asks)
{
    __u32 zero = 0;
    struct baton_opening *opening = bpf_map_lookup_elem(&opening_scratch, &zero);

    if (!opening)
        return 0;
    opening->key = *key;
    __builtin_memcpy(opening->destination, destination, 16);
    opening->flags = 0;
    opening->asks = asks;
    opening->is_persistent = false;
    opening->replaces = former;
    opening->former_slot = former ? former->slot : BATON_NO_SLOT;
    opening->former_flags = former ? former->flags : 0;
    return opening;
}

/* The slot for a new flow: the one that the client has been given before, or the plan's choice. */
static __always_inline __u16 choose_slot(struct baton_opening *opening, const struct baton_service *service)
{
    __u16 slot;

    if (service->persistence_s) {
        slot = slot_of_client(opening->key.client_address, service);
        if (slot != BATON_NO_SLOT) {
            opening->is_persistent = true;
            return slot;
        }
    }
    slot = baton_dispatch(opening, service);
    return likely(slot != BATON_NO_SLOT) ? slot : sorry_slot(service->id);
}

/* Half-open flows have a table of their own, and so have those of UDP. */
static __always_inline long insert_flow(struct baton_opening *opening)
{
    __u64 mode = opening->replaces ? BPF_ANY : BPF_NOEXIST;

    if (opening->key.protocol == IPPROTO_UDP)
        return bpf_map_update_elem(&datagram_flows, &opening->key, &opening->flow, mode);
    if (opening->replaces)
        bpf_map_delete_elem(&flows, &opening->key);
    return bpf_map_update_elem(&half_open, &opening->key, &opening->flow, mode);
}

/* Another CPU was faster with the same flow, or the table has no place even after evicting. */
static __always_inline __u32 join_winner(const struct baton_opening *opening)
{
    struct baton_flow *winner;
    __u16 slot;

    if (opening->key.protocol == IPPROTO_UDP)
        winner = bpf_map_lookup_elem(&datagram_flows, &opening->key);
    else
        winner = bpf_map_lookup_elem(&half_open, &opening->key);
    if (!winner)
        return BATON_NOT_OPENED | BATON_COUNT_TABLE_FULL;
    slot = winner->slot;
    return slot_is_up(find_slot(slot)) ? slot : BATON_NOT_OPENED | BATON_COUNT_TABLE_FULL;
}

/* The counter of a flow that was not opened. */
static __always_inline enum baton_director_counter why_not_opened(__u32 result)
{
    return result == (BATON_NOT_OPENED | BATON_COUNT_TABLE_FULL) ? BATON_COUNT_TABLE_FULL : BATON_COUNT_NO_BACKEND;
}

/* Makes the flow, unless it is only asked for. Returns its slot, or BATON_NOT_OPENED and the reason. */
static __noinline __u32 open_flow(struct baton_opening *opening, const struct baton_service *service,
                                  struct baton_service_counters *service_counts, struct baton_director_counts *counts)
{
    __u16 number = choose_slot(opening, service);
    struct baton_flow *flow = &opening->flow;

    flow->slot = number;
    if (!takes_new_flows(service->id, number))
        return BATON_NOT_OPENED | BATON_COUNT_NO_BACKEND;
    if (opening->asks) {
        counts->values[BATON_COUNT_NEW_FLOWS]++;
        return number;
    }
    flow->flags = opening->flags;
    flow->group_ack = 0;
    flow->last_seen_ns = bpf_ktime_get_coarse_ns();
    flow->group_time = group_time(flow->last_seen_ns);
    if (unlikely(insert_flow(opening)))
        return join_winner(opening);
    counts->values[BATON_COUNT_NEW_FLOWS]++;
    service_counts->new_flows++;
    if (opening->replaces)
        count_replaced(service->id, opening->former_slot, opening->former_flags);
    count_opened(service->id, number);
    if (service->persistence_s)
        remember_client(opening->key.client_address, service, number);
    return number;
}

/* `open_flow`, and what `baton_route` wants to know of it. */
static __always_inline __u32 open_or_ask(struct baton_opening *opening, const struct verdict *verdict)
{
    __u32 number = open_flow(opening, verdict->service, verdict->service_counts, verdict->counts);

    if (opening->is_persistent)
        answer_flag(verdict->answer, BATON_ANSWER_PERSISTENT);
    answer_slot(verdict->answer, opening->flow.slot);
    return number;
}

#endif
