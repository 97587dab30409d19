/* For `baton-lab bench xdp`: gives each run of a program another flow's frame, and the programs that the director's is
 * held against. Never attached.
 */
#include "prelude.h"

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

/* Which flows the runs are of, written between them: client addresses 11.0.0.0 + 0 ... flows - 1, in an order without a
 * pattern; where `flows` is 0, new ones, one after the other. */
struct bench_turns {
    __u32 flows;
    __u32 next;
} turns = {};

const volatile __u8 own_address[6] = {};

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, baton_u32);
} measured SEC(".maps");

/* The same kind of map as `flows`, of the same size and with the same keys. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_FLOWS);
    __type(key, struct baton_flow_key);
    __type(value, struct baton_flow);
} bench_flows SEC(".maps");

struct frame {
    struct ethhdr link;
    struct iphdr ip;
    struct tcphdr tcp;
} __attribute__((packed));

/* Turns the frame into that of the next flow, addressed to us again, and goes on with the program that is measured. */
SEC("xdp.frags")
int bench_drive(struct xdp_md *context)
{
    struct frame *frame = (void *)(long)context->data;
    __u32 number = turns.next++, flows = turns.flows;
    /* Volatile still: the compiler would take the zeros above for the value. */
    const volatile __u8 *own = own_address;

    if ((void *)(frame + 1) > (void *)(long)context->data_end)
        return XDP_ABORTED;
#pragma unroll
    for (int index = 0; index < ETH_ALEN; index++)
        frame->link.h_dest[index] = own[index];
    /* A multiplication by an odd number goes through all of 2^32 (Knuth's). */
    if (flows)
        number = (__u32)(((__u64)(number * 2654435761u) * flows) >> 32);
    frame->ip.saddr = bpf_htonl(0x0b000000 + number);
    bpf_tail_call(context, &measured, 0);
    return XDP_ABORTED;
}

SEC("xdp.frags")
int bench_empty(struct xdp_md *context)
{
    return XDP_TX;
}

SEC("xdp.frags")
int bench_lookup(struct xdp_md *context)
{
    struct frame *frame = (void *)(long)context->data;
    struct baton_flow_key key = {.protocol = IPPROTO_TCP};
    __u32 *address = (__u32 *)key.client_address;

    if ((void *)(frame + 1) > (void *)(long)context->data_end)
        return XDP_ABORTED;
    address[2] = bpf_htonl(0xffff);
    address[3] = frame->ip.saddr;
    key.client_port = frame->tcp.source;
    key.service_port = frame->tcp.dest;
    return bpf_map_lookup_elem(&bench_flows, &key) ? XDP_TX : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
