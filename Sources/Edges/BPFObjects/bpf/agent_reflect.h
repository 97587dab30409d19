/* Reflect: turn a segment that the client already has into the client's acknowledgment of it, and hand it back to
 * our own TCP. The kernel then runs through the old part of a reply at memory speed, and nobody stays in the path
 * afterwards. */
#ifndef BATON_AGENT_REFLECT_H
#define BATON_AGENT_REFLECT_H

/* On frames that come back from egress, so that ingress does not take them for the client's. */
#define REFLECTED_MARK 0xba70c0deu

struct reflection {
    __be16 client_port;
    __be16 service_port;
    __u32 sequence;         /* of the ACK: what our socket expects next from the client */
    __u32 acknowledgment;   /* end of the segment that is swallowed */
    __u16 window;           /* field, scaled */
    __u8 has_timestamps;
    __u32 tsval;
    __u32 tsecr;
};

static __always_inline __u32 sum16(const void *bytes, __u32 count, __u32 sum)
{
    const __u16 *words = bytes;
#pragma unroll
    for (__u32 i = 0; i < count / 2; i++)
        sum += words[i];
    return sum;
}

static __always_inline __u16 fold(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static __always_inline void swap_macs(struct ethhdr *ethernet)
{
    __u8 other[6];
    __builtin_memcpy(other, ethernet->h_dest, 6);
    __builtin_memcpy(ethernet->h_dest, ethernet->h_source, 6);
    __builtin_memcpy(ethernet->h_source, other, 6);
}

static __always_inline void write_tcp(struct tcphdr *tcp, const struct reflection *reflection, __u32 tcp_bytes,
                                      __u32 pseudo_sum)
{
    __be32 *option = (void *)(tcp + 1);

    tcp->source = reflection->client_port;
    tcp->dest = reflection->service_port;
    tcp->seq = bpf_htonl(reflection->sequence);
    tcp->ack_seq = bpf_htonl(reflection->acknowledgment);
    ((__u8 *)tcp)[12] = tcp_bytes / 4 << 4;
    ((__u8 *)tcp)[13] = FLAG_ACK;
    tcp->window = bpf_htons(reflection->window);
    tcp->urg_ptr = 0;
    tcp->check = 0;
    if (tcp_bytes > TCP_BYTES) {
        option[0] = bpf_htonl(0x0101080a);
        option[1] = bpf_htonl(reflection->tsval);
        option[2] = bpf_htonl(reflection->tsecr);
        tcp->check = fold(sum16(tcp, TCP_BYTES + TIMESTAMP_OPTION_BYTES, pseudo_sum));
    } else {
        tcp->check = fold(sum16(tcp, TCP_BYTES, pseudo_sum));
    }
}

static __always_inline int reflect_ipv4(struct __sk_buff *skb, const struct reflection *reflection)
{
    __u32 tcp_bytes = TCP_BYTES + (reflection->has_timestamps ? TIMESTAMP_OPTION_BYTES : 0);
    __u32 ip_bytes = sizeof(struct iphdr) + tcp_bytes;
    void *data, *data_end;
    struct iphdr *ip;
    __be32 address;

    if (bpf_skb_change_tail(skb, ETHERNET_BYTES + ip_bytes, 0))
        return TC_ACT_SHOT;
    data = (void *)(long)skb->data;
    data_end = (void *)(long)skb->data_end;
    ip = data + ETHERNET_BYTES;
    if ((void *)(ip + 1) + TCP_BYTES + TIMESTAMP_OPTION_BYTES > data_end && tcp_bytes > TCP_BYTES)
        return TC_ACT_SHOT;
    if ((void *)(ip + 1) + TCP_BYTES > data_end)
        return TC_ACT_SHOT;
    swap_macs(data);
    address = ip->saddr;
    ip->saddr = ip->daddr;
    ip->daddr = address;
    ip->ihl = sizeof(*ip) / 4;
    ip->tot_len = bpf_htons(ip_bytes);
    ip->tos = 0;
    ip->check = 0;
    ip->check = fold(sum16(ip, sizeof(*ip), 0));
    write_tcp((void *)(ip + 1), reflection, tcp_bytes,
              sum16(&ip->saddr, 8, bpf_htons(IPPROTO_TCP) + bpf_htons(tcp_bytes)));
    skb->mark = REFLECTED_MARK;
    return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

static __always_inline int reflect_ipv6(struct __sk_buff *skb, const struct reflection *reflection)
{
    __u32 tcp_bytes = TCP_BYTES + (reflection->has_timestamps ? TIMESTAMP_OPTION_BYTES : 0);
    void *data, *data_end;
    struct ipv6hdr *ip;
    struct in6_addr_bytes {
        __u8 bytes[16];
    } address;

    if (bpf_skb_change_tail(skb, ETHERNET_BYTES + sizeof(*ip) + tcp_bytes, 0))
        return TC_ACT_SHOT;
    data = (void *)(long)skb->data;
    data_end = (void *)(long)skb->data_end;
    ip = data + ETHERNET_BYTES;
    if ((void *)(ip + 1) + TCP_BYTES + TIMESTAMP_OPTION_BYTES > data_end && tcp_bytes > TCP_BYTES)
        return TC_ACT_SHOT;
    if ((void *)(ip + 1) + TCP_BYTES > data_end)
        return TC_ACT_SHOT;
    swap_macs(data);
    __builtin_memcpy(&address, &ip->saddr, 16);
    __builtin_memcpy(&ip->saddr, &ip->daddr, 16);
    __builtin_memcpy(&ip->daddr, &address, 16);
    ip->nexthdr = IPPROTO_TCP;
    ip->payload_len = bpf_htons(tcp_bytes);
    write_tcp((void *)(ip + 1), reflection, tcp_bytes,
              sum16(&ip->saddr, 32, bpf_htons(IPPROTO_TCP) + bpf_htons(tcp_bytes)));
    skb->mark = REFLECTED_MARK;
    return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* The window field of an ACK that stands below the client's own.
 *
 * Its right edge is the client's, rounded up: rounded down it would lie below SND.UNA for a client whose window is
 * closed, and that would never be caught up with. In catch-up it also lies two segments beyond SND.UNA, because a
 * sender does not cut a segment for a smaller rest (tcp_snd_wnd_test) and would sit out its persist timer there. What
 * lies beyond the client's window the client refuses, with an ACK that says the true one. */
static __always_inline __u16 window_field(const struct baton_connection *connection, __u64 acknowledged)
{
    __u8 scale = connection->snd_wscale & 15;
    __u64 edge = connection->right_edge, least = connection->snd_una + 2 * connection->mss, field;

    if (connection->state == BATON_CONNECTION_CATCHING_UP && edge < least)
        edge = least;
    field = edge > acknowledged ? (edge - acknowledged + (1ull << scale) - 1) >> scale : 0;
    return field > 0xffff ? 0xffff : field;
}

static __always_inline int reflect(struct __sk_buff *skb, const struct segment *segment,
                                   const struct baton_connection *connection, __u64 acknowledged)
{
    __u32 headers = ETHERNET_BYTES + (segment->is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
    struct reflection reflection = {
        .client_port = segment->key.client_port,
        .service_port = segment->key.service_port,
        .sequence = segment->acknowledgment,
        .acknowledgment = connection->iss + 1 + (__u32)acknowledged,
        .window = window_field(connection, acknowledged),
        .has_timestamps = segment->has_timestamps,
        .tsval = connection->client_tsval,
        .tsecr = segment->tsval,
    };

    count(BATON_COUNT_REFLECTED);
    count_by(BATON_COUNT_REFLECTED_BYTES, segment->payload_bytes);
    /* Options and extension headers go: BIG TCP's tells a length that is not true any more. */
    if (segment->tcp_offset > headers &&
        bpf_skb_adjust_room(skb, (__s32)headers - (__s32)segment->tcp_offset, BPF_ADJ_ROOM_NET, 0))
        return TC_ACT_SHOT;
    return segment->is_ipv6 ? reflect_ipv6(skb, &reflection) : reflect_ipv4(skb, &reflection);
}

#endif
