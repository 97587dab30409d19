/* Reading one TCP segment from an skb, on its way in or out.
 *
 * The director's packet.h reads frames as XDP sees them; here the kernel has taken the VLAN tag off already (and on the
 * way out not yet put it on), an skb may be larger than what its headers can say, and more of the TCP header is needed.
 */
#ifndef BATON_AGENT_SEGMENT_H
#define BATON_AGENT_SEGMENT_H

enum {
    ETHERNET_BYTES = 14,
    TCP_BYTES = 20,
    TIMESTAMP_OPTION_BYTES = 12, /* NOP NOP kind length TSval TSecr */
    HEADER_BYTES_MAX = 14 + 40 + 60,
    EXTENSION_HEADERS_MAX = 4,
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

enum parse_result {
    PARSED,
    NOT_IP,
    NOT_TCP,    /* the addresses of the key are valid */
    UNREADABLE, /* TCP, or what may be, in fragments, behind headers that are not followed, or malformed; likewise */
};

/* IPv6 extension header (RFC 8200 4.2): length in units of eight bytes, the first not counted. */
struct extension_header {
    __u8 next;
    __u8 length;
};

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
        return UNREADABLE;
    segment->tcp_offset = tcp_offset;
    segment->tcp_header_bytes = tcp->doff * 4;
    if (segment->tcp_header_bytes < TCP_BYTES || segment->tcp_header_bytes > ip_payload_bytes)
        return UNREADABLE;
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

/* BIG TCP: the length of an skb that is to be cut, or was put together, may not fit its field (skb_ip_totlen()). */
static __always_inline __u32 bytes_from(struct __sk_buff *skb, __u32 offset, __u32 field)
{
    return field == 0 && skb->gso_size ? skb->len - offset : field;
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
    if (ip->protocol != IPPROTO_TCP)
        return NOT_TCP;
    header_bytes = ip->ihl * 4;
    total_bytes = bytes_from(skb, offset, bpf_ntohs(ip->tot_len));
    if (ip->frag_off & bpf_htons(0x3fff) || header_bytes < sizeof(*ip) || header_bytes > total_bytes)
        return UNREADABLE;
    if (direction == INCOMING && total_bytes > skb->len - offset)
        return UNREADABLE;
    return parse_tcp(segment, skb, offset + header_bytes, total_bytes - header_bytes, direction);
}

static __always_inline int parse_ipv6(struct segment *segment, struct __sk_buff *skb, __u32 offset,
                                      enum direction direction)
{
    void *data = (void *)(long)skb->data;
    void *data_end = (void *)(long)skb->data_end;
    struct ipv6hdr *ip = data + offset;
    __u32 header_bytes = sizeof(*ip), payload_bytes;
    __u8 next;

    if ((void *)(ip + 1) > data_end)
        return NOT_IP;
    segment->is_ipv6 = 1;
    __builtin_memcpy(segment->key.client_address, direction == INCOMING ? &ip->saddr : &ip->daddr, 16);
    __builtin_memcpy(segment->key.service_address, direction == INCOMING ? &ip->daddr : &ip->saddr, 16);
    payload_bytes = bytes_from(skb, offset + sizeof(*ip), bpf_ntohs(ip->payload_len));
    next = ip->nexthdr;
    /* BIG TCP has a hop-by-hop header here (RFC 2675) up to Linux 6.18; later kernels leave it out. */
    for (int count = 0; count < EXTENSION_HEADERS_MAX && next != IPPROTO_TCP; count++) {
        struct extension_header *extension = data + offset + header_bytes;

        /* Fragments of datagrams: no TCP socket can be met by them. */
        if (next == IPPROTO_FRAGMENT && (void *)(extension + 1) <= data_end && extension->next == IPPROTO_UDP)
            return NOT_TCP;
        if (next == IPPROTO_FRAGMENT || next == IPPROTO_ROUTING || next == IPPROTO_AH)
            return UNREADABLE;
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS)
            return NOT_TCP;
        if ((void *)(extension + 1) > data_end)
            return UNREADABLE;
        next = extension->next;
        header_bytes += (extension->length + 1) * 8;
    }
    if (next != IPPROTO_TCP || header_bytes - sizeof(*ip) > payload_bytes)
        return UNREADABLE;
    if (direction == INCOMING && payload_bytes > skb->len - offset - sizeof(*ip))
        return UNREADABLE;
    return parse_tcp(segment, skb, offset + header_bytes, payload_bytes + sizeof(*ip) - header_bytes, direction);
}

/* `offset` is where the IP header starts: 14 on an Ethernet device, 0 on a TUN. */
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
