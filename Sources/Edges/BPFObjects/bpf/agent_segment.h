/* Reading one TCP segment from an skb, on its way in or out. */
#ifndef BATON_AGENT_SEGMENT_H
#define BATON_AGENT_SEGMENT_H

enum {
    ETHERNET_BYTES = 14,
    TCP_BYTES = 20,
    TIMESTAMP_OPTION_BYTES = 12, /* NOP NOP kind length TSval TSecr */
    HEADER_BYTES_MAX = 14 + 40 + 60,
    FLAG_FIN = 1,
    FLAG_SYN = 2,
    FLAG_RST = 4,
    FLAG_ACK = 16,
};

enum direction { INCOMING, OUTGOING };

struct segment {
    struct baton_connection_key key;
    __u32 sequence;
    __u32 acknowledgment;
    __u32 payload_bytes;
    __u32 tsval;
    __u32 tsecr;
    __u16 window;           /* as in the header */
    __u16 tcp_offset;       /* from the start of the skb */
    __u8 tcp_header_bytes;
    __u8 flags;
    __u8 has_timestamps;
    __u8 is_ipv6;
};

enum parse_result { PARSED, NOT_IP, NOT_TCP };

static __always_inline void ipv4_as_ipv6(__u8 *out, __be32 address)
{
    __builtin_memset(out, 0, 10);
    out[10] = 0xff;
    out[11] = 0xff;
    __builtin_memcpy(out + 12, &address, 4);
}

/* The timestamp option at its usual place (RFC 7323 appendix A), which is where every common stack puts it. */
static __always_inline void parse_timestamps(struct segment *segment, void *tcp, void *data_end)
{
    __be32 *option = tcp + TCP_BYTES;

    segment->has_timestamps = 0;
    if (segment->tcp_header_bytes < TCP_BYTES + TIMESTAMP_OPTION_BYTES)
        return;
    if ((void *)(option + 3) > data_end || option[0] != bpf_htonl(0x0101080a))
        return;
    segment->tsval = bpf_ntohl(option[1]);
    segment->tsecr = bpf_ntohl(option[2]);
    segment->has_timestamps = 1;
}

static __always_inline int parse_tcp(struct segment *segment, struct __sk_buff *skb, __u32 tcp_offset,
                                     __u32 ip_payload_bytes, enum direction direction)
{
    void *data = (void *)(long)skb->data;
    void *data_end = (void *)(long)skb->data_end;
    struct tcphdr *tcp = data + tcp_offset;

    if ((void *)(tcp + 1) > data_end)
        return NOT_TCP;
    segment->tcp_offset = tcp_offset;
    segment->tcp_header_bytes = tcp->doff * 4;
    if (segment->tcp_header_bytes < TCP_BYTES || segment->tcp_header_bytes > ip_payload_bytes)
        return NOT_TCP;
    segment->payload_bytes = ip_payload_bytes - segment->tcp_header_bytes;
    segment->sequence = bpf_ntohl(tcp->seq);
    segment->acknowledgment = bpf_ntohl(tcp->ack_seq);
    segment->window = bpf_ntohs(tcp->window);
    segment->flags = ((__u8 *)tcp)[13];
    segment->key.client_port = direction == INCOMING ? tcp->source : tcp->dest;
    segment->key.service_port = direction == INCOMING ? tcp->dest : tcp->source;
    parse_timestamps(segment, tcp, data_end);
    return PARSED;
}

static __always_inline int parse_ipv4(struct segment *segment, struct __sk_buff *skb, __u32 offset,
                                      enum direction direction)
{
    void *data = (void *)(long)skb->data;
    void *data_end = (void *)(long)skb->data_end;
    struct iphdr *ip = data + offset;
    __u32 header_bytes, total_bytes;

    if ((void *)(ip + 1) > data_end)
        return NOT_IP;
    segment->is_ipv6 = 0;
    ipv4_as_ipv6(segment->key.client_address, direction == INCOMING ? ip->saddr : ip->daddr);
    ipv4_as_ipv6(segment->key.service_address, direction == INCOMING ? ip->daddr : ip->saddr);
    header_bytes = ip->ihl * 4;
    total_bytes = bpf_ntohs(ip->tot_len);
    if (total_bytes == 0) /* BIG TCP: the length does not fit, the skb knows */
        total_bytes = skb->len - offset;
    if (ip->protocol != IPPROTO_TCP || ip->frag_off & bpf_htons(0x3fff) || header_bytes < sizeof(*ip) ||
        header_bytes > total_bytes)
        return NOT_TCP;
    return parse_tcp(segment, skb, offset + header_bytes, total_bytes - header_bytes, direction);
}

static __always_inline int parse_ipv6(struct segment *segment, struct __sk_buff *skb, __u32 offset,
                                      enum direction direction)
{
    void *data = (void *)(long)skb->data;
    void *data_end = (void *)(long)skb->data_end;
    struct ipv6hdr *ip = data + offset;
    __u32 payload_bytes;

    if ((void *)(ip + 1) > data_end)
        return NOT_IP;
    segment->is_ipv6 = 1;
    __builtin_memcpy(segment->key.client_address, direction == INCOMING ? &ip->saddr : &ip->daddr, 16);
    __builtin_memcpy(segment->key.service_address, direction == INCOMING ? &ip->daddr : &ip->saddr, 16);
    payload_bytes = bpf_ntohs(ip->payload_len);
    if (payload_bytes == 0)
        payload_bytes = skb->len - offset - sizeof(*ip);
    if (ip->nexthdr != IPPROTO_TCP)
        return NOT_TCP;
    return parse_tcp(segment, skb, offset + sizeof(*ip), payload_bytes, direction);
}

/* `offset` is where the IP header starts: 14 on an Ethernet device, 0 on a TUN. With NOT_TCP the addresses of the
 * key are valid all the same. */
static __always_inline int parse_segment(struct segment *segment, struct __sk_buff *skb, __u32 offset,
                                         enum direction direction)
{
    __builtin_memset(segment, 0, sizeof(*segment));
    if (skb->data_end - skb->data < HEADER_BYTES_MAX)
        bpf_skb_pull_data(skb, skb->len < HEADER_BYTES_MAX ? skb->len : HEADER_BYTES_MAX);
    if (skb->protocol == bpf_htons(ETH_P_IP))
        return parse_ipv4(segment, skb, offset, direction);
    if (skb->protocol == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(segment, skb, offset, direction);
    return NOT_IP;
}

/* The 64-bit place of a 32-bit sequence number of the reply, nearest to a place that is known. */
static __always_inline __s64 place_of(const struct baton_connection *connection, __u64 near, __u32 sequence)
{
    __u32 near_sequence = connection->iss + 1 + (__u32)near;
    return (__s64)near + (__s32)(sequence - near_sequence);
}

#endif
