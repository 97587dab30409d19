/* What keeps a flood of SYNs away from the flows that are established, and the new ones within bounds.
 *
 * A flow of which only SYNs were seen lives in a table of its own, and comes into the table of flows with the ACK that
 * completes its handshake: SYNs, however many, drive out half-open flows alone. How many new flows begin in a second is
 * bounded for each service and in all. docs/design/0011-health-thresholds-floods.md
 */
#ifndef BATON_DIRECTOR_FLOOD_H
#define BATON_DIRECTOR_FLOOD_H

#include "director_load.h"
#include "director_maps.h"
#include "packet.h"

/* `max_entries` is set at load. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_HALF_OPEN);
    __type(key, struct baton_flow_key);
    __type(value, struct baton_flow);
} half_open SEC(".maps");

/* By service id, and BATON_LIMIT_OF_ALL; written by the daemon alone. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_FLOW_LIMITS);
    __type(key, baton_u32);
    __type(value, struct baton_flow_limit);
} flow_limits SEC(".maps");

/* Likewise, for the program alone: when the flows that were let in would have come, at the rate. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_FLOW_LIMITS);
    __type(key, baton_u32);
    __type(value, baton_u64);
} flow_buckets SEC(".maps");

/* By service id. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_flood_counters);
} flood_counters SEC(".maps");

/* Takes a token, if there is one: a bucket that fills at the rate, kept as the one instant up to which it is empty. */
static __noinline bool take_token(__u32 number)
{
    const struct baton_flow_limit *limit = bpf_map_lookup_elem(&flow_limits, &number);
    __u64 *bucket = bpf_map_lookup_elem(&flow_buckets, &number);
    __u64 now, former, begin;

    if (!limit || !bucket || !limit->interval_ns)
        return true;
    now = bpf_ktime_get_ns();
    for (int attempt = 0; attempt < 4; attempt++) {
        former = *(volatile __u64 *)bucket;
        begin = former > now ? former : now;
        if (begin - now > limit->burst_ns)
            return false;
        if (__sync_val_compare_and_swap(bucket, former, begin + limit->interval_ns) == former)
            return true;
    }
    /* So many CPUs at once are a flood. */
    return false;
}

/* Whether a flow of the service may begin now. */
static __noinline bool admits_flow(__u32 service)
{
    struct baton_flood_counters *counts;
    bool within_own = take_token(service);

    if (within_own && take_token(BATON_LIMIT_OF_ALL))
        return true;
    counts = bpf_map_lookup_elem(&flood_counters, &service);
    if (counts) {
        if (within_own)
            counts->refused_by_all++;
        else
            counts->refused_by_service++;
    }
    return false;
}

/* The flow of a key that is not in the table of flows. The client's ACK brings it there. */
static __noinline struct baton_flow *half_open_flow(const struct baton_flow_key *key, __u32 tcp_flags)
{
    struct baton_flow *flow = bpf_map_lookup_elem(&half_open, key), *established;
    struct baton_flood_counters *counts;
    __u32 service = key->service;

    if (!flow || (tcp_flags & (BATON_TCP_SYN | BATON_TCP_ACK | BATON_TCP_RST)) != BATON_TCP_ACK)
        return flow;
    bpf_map_update_elem(&flows, key, flow, BPF_NOEXIST);
    established = bpf_map_lookup_elem(&flows, key);
    if (!established)
        return flow;
    bpf_map_delete_elem(&half_open, key);
    counts = bpf_map_lookup_elem(&flood_counters, &service);
    if (counts)
        counts->completed++;
    return established;
}

/* The slot that serves when nobody else does, or BATON_NO_SLOT. */
static __noinline __u32 sorry_slot(__u32 service)
{
    const struct baton_flow_limit *limit = bpf_map_lookup_elem(&flow_limits, &service);
    __u32 slot;

    if (!limit || !limit->sorry)
        return BATON_NO_SLOT;
    slot = limit->sorry - 1;
    return takes_new_flows(service, slot) ? slot : BATON_NO_SLOT;
}

#endif
