/* The director's data plane: finds the service and the flow of each frame, and sends it to the slot's owner or group by
 * a new destination address. It changes nothing above Ethernet. Its model in Swift is in Tests/BPFTests.
 */
#include "director_forward.h"
#include "director_open.h"
#include "director_other.h"
#include "director_services.h"
#include "packet.h"

/* A SYN that opens a connection: nothing else of note is set. */
static __always_inline bool is_opening(const struct baton_segment *segment)
{
    return (segment->flags & (BATON_TCP_SYN | BATON_TCP_ACK | BATON_TCP_RST | BATON_TCP_FIN)) == BATON_TCP_SYN;
}

/* Whether a frame of the forwarding `selective` goes to the group: what changes a backup's picture of the connection.
 * The distance counts in both directions, so that one forged ACK cannot keep the true ones away from the backups. */
static __always_inline bool group_needs(const struct baton_segment *segment, const struct baton_flow *flow,
                                        __u64 now)
{
    if (segment->payload || (segment->flags & (BATON_TCP_SYN | BATON_TCP_FIN | BATON_TCP_RST)))
        return true;
    if (unlikely((flow->flags & (BATON_FLOW_ESTABLISHED | BATON_FLOW_OPENING)) != BATON_FLOW_ESTABLISHED))
        return true;
    if (unlikely((__u8)(group_time(now) - flow->group_time) >= 2))
        return true;
    return segment->acknowledgment - flow->group_ack + BATON_GROUP_ACK_DISTANCE - 1 > 2 * BATON_GROUP_ACK_DISTANCE - 2;
}

/* During a take-over no machine's stack may see a frame of the slot, whatever the forwarding. */
static __always_inline bool goes_to_group(const struct baton_service *service, const struct baton_slot *slot,
                                          const struct baton_segment *segment, const struct baton_flow *flow,
                                          __u64 now)
{
    if (unlikely(slot->flags & BATON_SLOT_TAKEOVER))
        return true;
    if (likely(service->forwarding == BATON_FORWARD_SELECTIVE))
        return group_needs(segment, flow, now);
    return service->forwarding != BATON_FORWARD_OWNER;
}

/* Whether a frame shows that the flow is not over: data, which nobody sends after a FIN, or anything after an RST. */
static __always_inline bool belies_the_end(const struct baton_segment *segment, __u8 flags)
{
    return segment->payload || flags & BATON_FLOW_RESET;
}

/* Whether a SYN opens another flow in the place of this one. */
static __always_inline bool is_over(const struct baton_flow *flow)
{
    return (flow->flags & (BATON_FLOW_CLOSING | BATON_FLOW_RESET)) == BATON_FLOW_CLOSING;
}

/* The first FIN or RST of a flow. */
static __always_inline void closing(const struct baton_flow *flow, const struct baton_flow_key *key,
                                    const struct verdict *verdict)
{
    count_closing(verdict->service->id, flow->slot);
    if (verdict->service->persistence_s)
        refresh_client(key->client_address, verdict->service, flow->slot);
}

/* What the flow remembers of this frame. Written only when it changes: other CPUs read the same cache line. */
static __always_inline void update_flow(struct baton_flow *flow, const struct baton_segment *segment, bool to_group,
                                        __u64 now, const struct baton_flow_key *key, const struct verdict *verdict)
{
    __u8 flags = flow->flags;

    if (segment->flags & BATON_TCP_SYN)
        flags |= BATON_FLOW_OPENING;
    else if ((segment->flags & (BATON_TCP_ACK | BATON_TCP_RST)) == BATON_TCP_ACK)
        flags = (flags | BATON_FLOW_ESTABLISHED) & ~BATON_FLOW_OPENING;
    if (unlikely(segment->flags & (BATON_TCP_FIN | BATON_TCP_RST))) {
        if (!(flags & BATON_FLOW_CLOSING)) {
            closing(flow, key, verdict);
            flags |= segment->flags & BATON_TCP_RST ? BATON_FLOW_RESET : 0;
        }
        flags |= BATON_FLOW_CLOSING;
        if (segment->flags & BATON_TCP_FIN)
            flags &= ~BATON_FLOW_RESET;
    } else if (unlikely(flags & BATON_FLOW_CLOSING) && belies_the_end(segment, flags)) {
        count_reopened(verdict->service->id, flow->slot);
        flags &= ~(BATON_FLOW_CLOSING | BATON_FLOW_RESET);
    }
    if (flow->flags != flags)
        flow->flags = flags;
    if (to_group && (segment->flags & BATON_TCP_ACK) && flow->group_ack != segment->acknowledgment)
        flow->group_ack = segment->acknowledgment;
    if (to_group && flow->group_time != group_time(now))
        flow->group_time = group_time(now);
    if (now - flow->last_seen_ns >= BATON_SECOND_NS)
        flow->last_seen_ns = now;
}

/* A SYN without a living flow; `former` is the flow whose place it takes. */
static __always_inline int serve_opening(struct ethhdr *link, const struct baton_segment *segment, __u32 frame,
                                         const struct verdict *verdict, const struct baton_flow_key *key,
                                         const struct baton_flow *former)
{
    struct baton_opening *opening;
    struct baton_slot *slot;
    __u32 number;

    if (!verdict->answer && unlikely(!admits_flow(verdict->service->id)))
        return XDP_DROP;
    opening = prepare_opening(key, segment->destination, former, verdict->answer != 0);
    if (!opening)
        return drop(verdict->counts, BATON_COUNT_TABLE_FULL);
    number = open_or_ask(opening, verdict);
    if (number & BATON_NOT_OPENED)
        return drop(verdict->counts, why_not_opened(number));
    slot = find_slot(number);
    if (!slot)
        return drop(verdict->counts, BATON_COUNT_NO_BACKEND);
    /* Every forwarding for backups sends them a SYN; the new flow's fields stand as this SYN leaves them. */
    return forward(link, frame, verdict, slot,
                   verdict->service->forwarding != BATON_FORWARD_OWNER || (slot->flags & BATON_SLOT_TAKEOVER));
}

static __always_inline int serve(struct ethhdr *link, const struct baton_segment *segment, __u32 frame,
                                 const struct verdict *verdict)
{
    struct baton_flow_key key = {
        .client_port = segment->source_port,
        .service = verdict->service->id,
        .protocol = IPPROTO_TCP,
        .service_port = segment->destination_port,
    };
    struct baton_slot *slot = 0;
    struct baton_flow *flow;
    bool to_group;
    __u64 now;

    __builtin_memcpy(key.client_address, segment->source, 16);
    flow = bpf_map_lookup_elem(&flows, &key);
    if (unlikely(!flow))
        flow = verdict->answer ? bpf_map_lookup_elem(&half_open, &key) : half_open_flow(&key, segment->flags);
    if (likely(flow))
        slot = find_slot(flow->slot);
    if (unlikely(is_opening(segment)) && (!slot_is_up(slot) || (flow && is_over(flow))))
        return serve_opening(link, segment, frame, verdict, &key, flow);
    if (unlikely(!flow))
        return pass(verdict->counts, BATON_COUNT_NO_FLOW);
    answer_flag(verdict->answer, BATON_ANSWER_EXISTING);
    answer_slot(verdict->answer, flow->slot);
    if (unlikely(!slot_is_up(slot)))
        return pass(verdict->counts, BATON_COUNT_SLOT_DOWN);
    now = bpf_ktime_get_coarse_ns();
    to_group = goes_to_group(verdict->service, slot, segment, flow, now);
    if (!verdict->answer)
        update_flow(flow, segment, to_group, now, &key, verdict);
    return forward(link, frame, verdict, slot, to_group);
}

/* `answer`: 0, or where `baton_route` wants to know what would be done. */
static __always_inline int balance(struct xdp_md *context, struct baton_answer *answer)
{
    void *start = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    __u32 frame = bpf_xdp_get_buff_len(context);
    struct baton_segment segment;
    struct baton_service_key key = {.protocol = IPPROTO_TCP};
    struct verdict verdict = {.answer = answer};
    __u32 zero = 0, id;
    int parsed;

    verdict.counts = answer ? (void *)answer->counts : bpf_map_lookup_elem(&counters, &zero);
    if (unlikely(!verdict.counts || start + sizeof(struct ethhdr) > end))
        return XDP_PASS;
    if (unlikely(!is_for_us(start)))
        return pass_stranger(start, verdict.counts);
    parsed = baton_parse(start, end, frame, &segment);
    if (parsed == BATON_PARSE_OTHER || unlikely(parsed == BATON_PARSE_FRAGMENT))
        return serve_other(context, &verdict,
                           parsed == BATON_PARSE_FRAGMENT ? BATON_COUNT_FRAGMENTS : BATON_COUNT_NOT_OURS);

    __builtin_memcpy(key.address, segment.destination, 16);
    key.port = segment.destination_port;
    verdict.service = bpf_map_lookup_elem(&services, &key);
    if (!verdict.service)
        verdict.service = find_ranged_service(&key);
    if (!verdict.service || unlikely(!forwarding_is_known(verdict.service)))
        return pass(verdict.counts, BATON_COUNT_NOT_OURS);
    verdict.counts->values[BATON_COUNT_FRAMES]++;
    if (unlikely(parsed == BATON_PARSE_MALFORMED))
        return drop(verdict.counts, BATON_COUNT_MALFORMED);
    id = verdict.service->id;
    answer_service(answer, id);
    verdict.service_counts = counters_of(id, answer);
    if (unlikely(!verdict.service_counts))
        return XDP_PASS;
    return serve(start, &segment, frame, &verdict);
}

SEC("xdp.frags")
int baton_director(struct xdp_md *context)
{
    return balance(context, 0);
}

/* Never attached, only run on made-up frames: the program above, but it changes no map that anybody else reads. (A look-up
 * in an LRU marks the entry as used.) */
SEC("xdp.frags")
int baton_route(struct xdp_md *context)
{
    __u32 zero = 0;
    struct baton_answer *answer = bpf_map_lookup_elem(&answers, &zero);
    int result;

    if (!answer)
        return XDP_ABORTED;
    __builtin_memset(answer, 0, sizeof(*answer));
    result = balance(context, answer);
    return write_answer(context, answer) ? result : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "GPL";
