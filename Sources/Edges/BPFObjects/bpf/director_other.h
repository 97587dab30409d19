/* Frames that are no whole TCP segments: UDP, ICMP errors, fragments. Nothing here runs for a TCP segment. */
#ifndef BATON_DIRECTOR_OTHER_H
#define BATON_DIRECTOR_OTHER_H

#include "director_open.h"
#include "director_read.h"
#include "director_services.h"

/* Finds the service of `single`, and its counters. */
static __always_inline bool find_service(struct baton_other *other, struct verdict *verdict)
{
    __u32 id;

    verdict->service = bpf_map_lookup_elem(&services, &other->single);
    if (!verdict->service)
        verdict->service = find_ranged_service(&other->single);
    if (!verdict->service || !forwarding_is_known(verdict->service))
        return false;
    id = verdict->service->id;
    other->flow.service = id;
    answer_service(verdict->answer, id);
    verdict->service_counts = counters_of(id, verdict->answer);
    return verdict->service_counts;
}

/* The slot of a datagram, opening a flow where it belongs to none that lives; BATON_NOT_OPENED and the reason where
 * there is no slot. A flow of UDP has no state to be taken over: it leaves a slot as soon as that has no owner. */
static __always_inline __u32 slot_of_datagram(struct baton_other *other, const struct verdict *verdict)
{
    struct baton_flow *flow = bpf_map_lookup_elem(&datagram_flows, &other->flow);
    __u64 now = bpf_ktime_get_coarse_ns();
    struct baton_opening *opening;

    if (flow && now - flow->last_seen_ns < verdict->service->idle_s * BATON_SECOND_NS && slot_has_owner(flow->slot)) {
        answer_flag(verdict->answer, BATON_ANSWER_EXISTING);
        answer_slot(verdict->answer, flow->slot);
        if (!verdict->answer && now - flow->last_seen_ns >= BATON_SECOND_NS)
            flow->last_seen_ns = now;
        return flow->slot;
    }
    if (!verdict->answer && unlikely(!admits_flow(verdict->service->id)))
        return BATON_REFUSED;
    opening = prepare_opening(&other->flow, other->fragment.destination, flow, verdict->answer != 0);
    if (!opening)
        return BATON_NOT_OPENED | BATON_COUNT_TABLE_FULL;
    opening->flags = BATON_FLOW_ESTABLISHED;
    return open_or_ask(opening, verdict);
}

/* What begins a datagram, or is one whole; the slot of a first fragment is noted for those that follow. */
static __always_inline int forward_first(struct ethhdr *link, __u32 frame, struct baton_other *other,
                                         const struct verdict *verdict, __u16 number)
{
    struct baton_slot *slot = find_slot(number);

    if (!slot)
        return drop(verdict->counts, BATON_COUNT_NO_BACKEND);
    if (!verdict->answer && other->is_first_fragment) {
        other->value.seen_ns = bpf_ktime_get_coarse_ns();
        other->value.slot = number;
        other->value.service = verdict->service->id;
        other->value.padding = 0;
        bpf_map_update_elem(&fragmented, &other->fragment, &other->value, BPF_ANY);
    }
    return forward(link, frame, verdict, slot, false);
}

static __always_inline int serve_datagram(struct ethhdr *link, __u32 frame, struct baton_other *other,
                                          const struct verdict *verdict)
{
    __u32 number = slot_of_datagram(other, verdict);

    if (number == BATON_REFUSED)
        return XDP_DROP;
    if (number & BATON_NOT_OPENED)
        return drop(verdict->counts, why_not_opened(number));
    return forward_first(link, frame, other, verdict, number);
}

static __always_inline struct baton_flow *known_flow(const struct baton_flow_key *key)
{
    struct baton_flow *flow;

    if (key->protocol == IPPROTO_UDP)
        return bpf_map_lookup_elem(&datagram_flows, key);
    flow = bpf_map_lookup_elem(&flows, key);
    return flow ? flow : bpf_map_lookup_elem(&half_open, key);
}

/* To the owner of a flow that is forwarded only. Where backups follow the flow it is dropped: they could make nothing of
 * it, and the stack here would answer the segment with an RST. The client's TCP sends it again, and in the end smaller. */
static __always_inline int serve_tcp_fragment(struct ethhdr *link, __u32 frame, struct baton_other *other,
                                              const struct verdict *verdict)
{
    struct baton_flow *flow = known_flow(&other->flow);

    if (verdict->service->forwarding != BATON_FORWARD_OWNER || !flow || !slot_has_owner(flow->slot))
        return drop(verdict->counts, BATON_COUNT_FRAGMENTS);
    return forward_first(link, frame, other, verdict, flow->slot);
}

/* To the flow's owner alone: it is its kernel that has to send smaller packets, or to give up. */
static __always_inline int serve_error(struct ethhdr *link, __u32 frame, struct baton_other *other,
                                       const struct verdict *verdict)
{
    struct baton_flow *flow = known_flow(&other->flow);
    struct baton_slot *slot;

    if (!flow)
        return pass(verdict->counts, BATON_COUNT_NO_FLOW);
    slot = find_slot(flow->slot);
    if (!slot || !slot_has_owner(flow->slot))
        return pass(verdict->counts, BATON_COUNT_SLOT_DOWN);
    verdict->counts->values[BATON_COUNT_ERRORS_FORWARDED]++;
    return forward(link, frame, verdict, slot, false);
}

/* A frame that is not served. What was sent to a mark, but for TCP in fragments, goes no further: see `pass_stranger`. */
static __always_inline int leave_to_stack(const struct ethhdr *link, struct baton_director_counts *counts,
                                          enum baton_director_counter reason)
{
    return reason == BATON_COUNT_NOT_OURS ? pass_stranger(link, counts) : pass(counts, reason);
}

/* A fragment goes where its first one went. Where that has not come yet, or is long past, it is left to the stack. */
static __always_inline int serve_later_fragment(struct ethhdr *link, __u32 frame, struct baton_other *other,
                                                struct verdict *verdict, enum baton_director_counter reason)
{
    struct baton_fragmented *first = bpf_map_lookup_elem(&fragmented, &other->fragment);
    struct baton_slot *slot;
    __u32 id;

    if (!first || bpf_ktime_get_coarse_ns() - first->seen_ns >= BATON_FRAGMENT_LIFETIME_S * BATON_SECOND_NS)
        return leave_to_stack(link, verdict->counts, reason);
    slot = find_slot(first->slot);
    if (!slot || !(slot->flags & BATON_SLOT_ACTIVE))
        return leave_to_stack(link, verdict->counts, reason);
    id = first->service;
    __builtin_memset(&other->single, 0, sizeof(other->single));
    other->single.port = id;
    verdict->service = bpf_map_lookup_elem(&services, &other->single);
    verdict->service_counts = counters_of(id, verdict->answer);
    if (!verdict->service || !verdict->service_counts)
        return leave_to_stack(link, verdict->counts, reason);
    verdict->counts->values[BATON_COUNT_FRAMES]++;
    verdict->counts->values[BATON_COUNT_FRAGMENTS_FORWARDED]++;
    return forward(link, frame, verdict, slot, false);
}

/* `reason`: how a frame is counted that is none of all that. */
static __always_inline int serve_other(struct xdp_md *context, struct verdict *verdict,
                                       enum baton_director_counter reason)
{
    __u32 zero = 0, frame = bpf_xdp_get_buff_len(context);
    struct baton_other *other = bpf_map_lookup_elem(&other_scratch, &zero);
    int kind = other ? read_other(context, other) : BATON_OTHER_NONE;
    struct ethhdr *link = (void *)(long)context->data;

    if ((void *)(link + 1) > (void *)(long)context->data_end)
        return XDP_DROP;
    if (!other || kind == BATON_OTHER_NONE)
        return leave_to_stack(link, verdict->counts, reason);
    if (kind == BATON_OTHER_LATER)
        return serve_later_fragment(link, frame, other, verdict, reason);
    if (!find_service(other, verdict))
        return leave_to_stack(link, verdict->counts, reason);
    verdict->counts->values[BATON_COUNT_FRAMES]++;
    if (kind == BATON_OTHER_MALFORMED)
        return drop(verdict->counts, BATON_COUNT_MALFORMED);
    if (kind == BATON_OTHER_ERROR)
        return serve_error(link, frame, other, verdict);
    if (kind == BATON_OTHER_TCP)
        return serve_tcp_fragment(link, frame, other, verdict);
    return serve_datagram(link, frame, other, verdict);
}

#endif
