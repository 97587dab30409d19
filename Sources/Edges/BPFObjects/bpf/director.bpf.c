/* The director's data plane: finds the service and the flow of each frame, and sends it to the slot's owner or group by
 * a new destination address. It changes nothing above Ethernet. Its model in Swift is in Tests/BPFTests.
 */
#include "director_dispatch.h"
#include "director_duplicate.h"
#include "director_flood.h"
#include "director_maps.h"
#include "director_persistence.h"
#include "director_route.h"
#include "packet.h"

/* The interface's own address, set before load: frames that a bridge floods to us are not ours. All zeros: no check. */
const volatile __u8 interface_address[6] = {};

struct verdict {
    struct baton_director_counts *counts;
    struct baton_service *service;
    struct baton_service_counters *service_counts;
    struct baton_answer *answer;    /* of `baton_route`, which changes nothing; the compiler knows it to be 0 elsewhere */
};

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

/* A SYN that opens a connection: nothing else of note is set. */
static __always_inline bool is_opening(const struct baton_segment *segment)
{
    return (segment->flags & (BATON_TCP_SYN | BATON_TCP_ACK | BATON_TCP_RST | BATON_TCP_FIN)) == BATON_TCP_SYN;
}

static __always_inline struct baton_slot *find_slot(__u16 number)
{
    __u32 key = number;

    return bpf_map_lookup_elem(&slots, &key);
}

static __always_inline bool slot_is_up(const struct baton_slot *slot)
{
    return slot && (slot->flags & (BATON_SLOT_ACTIVE | BATON_SLOT_TAKEOVER));
}

/* An unknown one is left alone, rather than that another forwarding stands in for it. */
static __always_inline bool forwarding_is_known(const struct baton_service *service)
{
    return service->forwarding <= BATON_FORWARD_OWNER;
}

static __always_inline __u8 group_time(__u64 now)
{
    return now >> BATON_GROUP_TIME_SHIFT;
}

/* Whether a frame of the forwarding `selective` goes to the group: what changes a backup's picture of the connection.
 * The distance counts in both directions, so that one forged ACK cannot keep the true ones away from the backups. */
static __always_inline bool group_needs(const struct baton_segment *segment, const struct baton_flow *flow,
                                        __u64 now)
{
    if (segment->payload || (segment->flags & (BATON_TCP_SYN | BATON_TCP_FIN | BATON_TCP_RST)))
        return true;
    if (unlikely(!(flow->flags & BATON_FLOW_ESTABLISHED)))
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
        flags &= ~BATON_FLOW_ESTABLISHED;
    else if ((segment->flags & (BATON_TCP_ACK | BATON_TCP_RST)) == BATON_TCP_ACK)
        flags |= BATON_FLOW_ESTABLISHED;
    if (unlikely(segment->flags & (BATON_TCP_FIN | BATON_TCP_RST))) {
        if (!(flags & BATON_FLOW_CLOSING))
            closing(flow, key, verdict);
        flags |= BATON_FLOW_CLOSING;
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

static __always_inline int forward(struct ethhdr *link, __u32 frame,
                                   const struct verdict *verdict, const struct baton_slot *slot, bool to_group)
{
    const __u8 *address = to_group ? slot->group : slot->owner;

    if (to_group && unlikely(verdict->service->forwarding == BATON_FORWARD_DUPLICATE))
        return duplicate(link, frame, verdict, slot);
    __builtin_memcpy(link->h_source, link->h_dest, ETH_ALEN);
    __builtin_memcpy(link->h_dest, address, ETH_ALEN);
    if (to_group) {
        verdict->counts->values[BATON_COUNT_TO_GROUP]++;
        verdict->service_counts->frames_to_group++;
    } else {
        verdict->counts->values[BATON_COUNT_TO_OWNER]++;
        verdict->service_counts->frames_to_owner++;
    }
    verdict->service_counts->bytes += frame;
    return XDP_TX;
}

/* The slot for a new flow: the one that the client has been given before, or the plan's choice. */
static __always_inline __u16 choose_slot(const struct baton_segment *segment, const struct verdict *verdict)
{
    const struct baton_service *service = verdict->service;
    /* A copy, for functions that are called get addresses: the segment itself shall stay in registers. */
    struct baton_opening opening = {
        .client_port = segment->source_port,
        .destination_port = segment->destination_port,
        .asks = verdict->answer != 0,
    };
    __u16 slot;

    __builtin_memcpy(opening.client, segment->source, 16);
    __builtin_memcpy(opening.destination, segment->destination, 16);
    if (service->persistence_s) {
        slot = slot_of_client(opening.client, service);
        if (slot != BATON_NO_SLOT) {
            answer_flag(verdict->answer, BATON_ANSWER_PERSISTENT);
            return slot;
        }
    }
    slot = baton_dispatch(&opening, service);
    return likely(slot != BATON_NO_SLOT) ? slot : sorry_slot(service->id);
}

/* A SYN without a living flow; `former` is the flow whose place it takes. Returns 0, and why in `reason`, when there is
 * no slot for it. */
static __always_inline struct baton_slot *open_flow(const struct baton_segment *segment, const struct verdict *verdict,
                                                    const struct baton_flow_key *key, const struct baton_flow *former,
                                                    enum baton_director_counter *reason)
{
    struct baton_flow flow = {.slot = choose_slot(segment, verdict)};
    struct baton_slot *slot = find_slot(flow.slot);
    __u16 former_slot = former ? former->slot : BATON_NO_SLOT;
    __u8 former_flags = former ? former->flags : 0;
    struct baton_flow *winner;

    *reason = BATON_COUNT_NO_BACKEND;
    answer_slot(verdict->answer, flow.slot);
    if (!slot || (slot->flags & (BATON_SLOT_ACTIVE | BATON_SLOT_TAKEOVER)) != BATON_SLOT_ACTIVE)
        return 0;
    if (verdict->answer) {
        verdict->counts->values[BATON_COUNT_NEW_FLOWS]++;
        return slot;
    }
    flow.last_seen_ns = bpf_ktime_get_coarse_ns();
    flow.group_time = group_time(flow.last_seen_ns);
    if (former)
        bpf_map_delete_elem(&flows, key);
    if (likely(!bpf_map_update_elem(&half_open, key, &flow, former ? BPF_ANY : BPF_NOEXIST))) {
        verdict->counts->values[BATON_COUNT_NEW_FLOWS]++;
        verdict->service_counts->new_flows++;
        if (former)
            count_replaced(verdict->service->id, former_slot, former_flags);
        count_opened(verdict->service->id, flow.slot);
        if (verdict->service->persistence_s)
            remember_client(key->client_address, verdict->service, flow.slot);
        return slot;
    }
    /* Another CPU was faster with the same SYN, or the table has no place even after evicting. */
    *reason = BATON_COUNT_TABLE_FULL;
    winner = bpf_map_lookup_elem(&half_open, key);
    if (!winner)
        return 0;
    slot = find_slot(winner->slot);
    return slot_is_up(slot) ? slot : 0;
}

static __always_inline int serve(struct ethhdr *link, const struct baton_segment *segment, __u32 frame,
                                 const struct verdict *verdict)
{
    struct baton_flow_key key = {
        .client_port = segment->source_port,
        .service = verdict->service->id,
        .protocol = IPPROTO_TCP,
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
    if (unlikely(is_opening(segment)) && (!slot_is_up(slot) || (flow && (flow->flags & BATON_FLOW_CLOSING)))) {
        enum baton_director_counter reason;

        if (!verdict->answer && unlikely(!admits_flow(verdict->service->id)))
            return XDP_DROP;
        slot = open_flow(segment, verdict, &key, flow, &reason);
        if (!slot)
            return drop(verdict->counts, reason);
        /* Every forwarding for backups sends them a SYN; the new flow's fields stand as this SYN leaves them. */
        return forward(link, frame, verdict, slot,
                       verdict->service->forwarding != BATON_FORWARD_OWNER || (slot->flags & BATON_SLOT_TAKEOVER));
    }
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

/* Left to the stack, but for a mark as the destination: only `baton_duplicate` may meet that, and only from here. */
static __always_inline int pass_stranger(const struct ethhdr *link, struct baton_director_counts *counts)
{
    if (unlikely(is_mark(link->h_dest)))
        return drop(counts, BATON_COUNT_NOT_OURS);
    return pass(counts, BATON_COUNT_NOT_OURS);
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
    parsed = baton_parse(start, end, frame, &segment);
    if (parsed == BATON_PARSE_OTHER || unlikely(!is_for_us(start)))
        return pass_stranger(start, verdict.counts);
    if (unlikely(parsed == BATON_PARSE_FRAGMENT))
        return pass(verdict.counts, BATON_COUNT_FRAGMENTS);

    __builtin_memcpy(key.address, segment.destination, 16);
    key.port = segment.destination_port;
    verdict.service = bpf_map_lookup_elem(&services, &key);
    if (!verdict.service || unlikely(!forwarding_is_known(verdict.service)))
        return pass(verdict.counts, BATON_COUNT_NOT_OURS);
    verdict.counts->values[BATON_COUNT_FRAMES]++;
    if (unlikely(parsed == BATON_PARSE_MALFORMED))
        return drop(verdict.counts, BATON_COUNT_MALFORMED);
    id = verdict.service->id;
    answer_service(answer, id);
    verdict.service_counts =
        answer ? (void *)answer->service_counts : bpf_map_lookup_elem(&service_counters, &id);
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
