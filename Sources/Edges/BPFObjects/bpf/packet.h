/* Bounded parsing of one frame; nothing here writes to it. Every number read here comes from the network.
 *
 * The parser takes two pointers, as XDP and tc both give them. Only the headers have to lie in the linear part.
 */
#ifndef BATON_PACKET_H
#define BATON_PACKET_H

#include "prelude.h"

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

/* Byte 13 of the TCP header (RFC 9293 3.1). */
#define BATON_TCP_FIN 0x01
#define BATON_TCP_SYN 0x02
#define BATON_TCP_RST 0x04
#define BATON_TCP_ACK 0x10

#define BATON_MAX_VLAN_TAGS 2
#define BATON_MAX_EXTENSION_HEADERS 4

struct baton_vlan_tag {
    __be16 control;
    __be16 type;
};

/* IPv6 extension header of the common form (RFC 8200 4.2): length in units of eight bytes, the first not counted. */
struct baton_extension_header {
    __u8 next;
    __u8 length;
};

enum baton_parse_result {
    BATON_PARSE_TCP = 0,       /* all fields of `struct baton_segment` are set and agree with one another */
    BATON_PARSE_OTHER = 1,     /* not TCP over IP, too short, or a chain of headers that is not followed */
    BATON_PARSE_FRAGMENT = 2,  /* a fragment of a TCP segment; only the addresses are set */
    BATON_PARSE_MALFORMED = 3, /* TCP, ports are set, but the lengths contradict one another */
};

/* One TCP segment. Addresses and ports in network byte order, the rest in host order. */
struct baton_segment {
    __u8 source[16];
    __u8 destination[16];
    __be16 source_port;
    __be16 destination_port;
    __u32 acknowledgment;
    __u32 payload;      /* bytes, from the IP length: Ethernet pads short frames */
    __u8 flags;         /* byte 13 of the TCP header */
};

static __always_inline void baton_map_ipv4(__u8 to[16], __be32 address)
{
    __u32 words[4] = {0, 0, bpf_htonl(0xffff), address};

    __builtin_memcpy(to, words, 16);
}

/* Where a frame's network header starts, behind up to two VLAN tags; `type` in network byte order. */
static __always_inline void *baton_parse_link(void *start, void *end, __be16 *type)
{
    struct ethhdr *link = start;
    void *cursor = link + 1;

    if (cursor > end)
        return 0;
    *type = link->h_proto;
#pragma unroll
    for (int tags = 0; tags < BATON_MAX_VLAN_TAGS; tags++) {
        struct baton_vlan_tag *tag = cursor;

        if (likely(*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD)))
            break;
        if ((void *)(tag + 1) > end)
            return 0;
        *type = tag->type;
        cursor = tag + 1;
    }
    return cursor;
}

/* The TCP header at `header`; `space` is what the IP header leaves for TCP, `frame` the length of the whole frame. */
static __always_inline int baton_parse_tcp(void *start, void *end, void *header, int space, __u32 frame,
                                           struct baton_segment *segment)
{
    struct tcphdr *tcp = header;
    __u64 offset;
    int length;

    if ((void *)(tcp + 1) > end)
        return BATON_PARSE_OTHER;
    segment->source_port = tcp->source;
    segment->destination_port = tcp->dest;
    segment->acknowledgment = bpf_ntohl(tcp->ack_seq);
    segment->flags = ((__u8 *)tcp)[13];
    length = tcp->doff * 4;
    segment->payload = space - length;
    if (unlikely(length < (int)sizeof(*tcp) || space < length))
        return BATON_PARSE_MALFORMED;
    /* The barrier keeps the compiler from subtracting a pointer from a number, which the verifier refuses. */
    offset = header - start;
    barrier_var(offset);
    if (unlikely(offset + space > frame))
        return BATON_PARSE_MALFORMED;
    return BATON_PARSE_TCP;
}

static __always_inline int baton_parse_ipv4(void *start, void *end, void *header, __u32 frame,
                                            struct baton_segment *segment)
{
    struct iphdr *ip = header;
    __u32 length;

    if ((void *)(ip + 1) > end || ip->version != 4 || ip->protocol != IPPROTO_TCP)
        return BATON_PARSE_OTHER;
    length = ip->ihl * 4;
    if (unlikely(length < sizeof(*ip)))
        return BATON_PARSE_OTHER;
    baton_map_ipv4(segment->source, ip->saddr);
    baton_map_ipv4(segment->destination, ip->daddr);
    /* More fragments, or an offset. */
    if (unlikely(ip->frag_off & bpf_htons(0x3fff)))
        return BATON_PARSE_FRAGMENT;
    return baton_parse_tcp(start, end, header + length, (int)bpf_ntohs(ip->tot_len) - (int)length, frame, segment);
}

static __always_inline int baton_parse_ipv6(void *start, void *end, void *header, __u32 frame,
                                            struct baton_segment *segment)
{
    struct ipv6hdr *ip = header;
    void *cursor = ip + 1;
    __u8 next;
    int space;

    if (cursor > end || ip->version != 6)
        return BATON_PARSE_OTHER;
    __builtin_memcpy(segment->source, &ip->saddr, 16);
    __builtin_memcpy(segment->destination, &ip->daddr, 16);
    next = ip->nexthdr;
    space = bpf_ntohs(ip->payload_len);
    for (int count = 0; count < BATON_MAX_EXTENSION_HEADERS; count++) {
        struct baton_extension_header *extension = cursor;
        int length;

        if (likely(next == IPPROTO_TCP))
            break;
        if (next == IPPROTO_FRAGMENT)
            return BATON_PARSE_FRAGMENT;
        /* A routing header says that this is not the last destination: the stack's business. */
        if ((next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS) || (void *)(extension + 1) > end)
            return BATON_PARSE_OTHER;
        next = extension->next;
        length = (extension->length + 1) * 8;
        cursor += length;
        space -= length;
    }
    if (next != IPPROTO_TCP)
        return BATON_PARSE_OTHER;
    return baton_parse_tcp(start, end, cursor, space, frame, segment);
}

/* Reads one frame's headers. `frame` is the length of the whole frame, non-linear parts included. */
static __always_inline int baton_parse(void *start, void *end, __u32 frame, struct baton_segment *segment)
{
    __be16 type = 0;
    void *header = baton_parse_link(start, end, &type);

    if (unlikely(!header))
        return BATON_PARSE_OTHER;
    if (type == bpf_htons(ETH_P_IP))
        return baton_parse_ipv4(start, end, header, frame, segment);
    if (type == bpf_htons(ETH_P_IPV6))
        return baton_parse_ipv6(start, end, header, frame, segment);
    return BATON_PARSE_OTHER;
}

#endif
