/* Reads frames that are no whole TCP segments: UDP, ICMP errors, fragments. What becomes of them: director_other.h */
#ifndef BATON_DIRECTOR_READ_H
#define BATON_DIRECTOR_READ_H

#include "director_maps.h"
#include "packet.h"

#include <linux/udp.h>

#define BATON_IPPROTO_ICMPV6 58

/* What the frame turned out to be. */
enum baton_other_kind {
    BATON_OTHER_NONE = 0,       /* the stack's */
    BATON_OTHER_UDP,            /* `flow` and `single` are set, the service's number and the flow's slot are not */
    BATON_OTHER_MALFORMED,      /* the same, but the lengths contradict one another */
    BATON_OTHER_ERROR,          /* the same, for the flow that an ICMP error quotes */
    BATON_OTHER_TCP,            /* the same, for the first fragment of a TCP segment */
    BATON_OTHER_LATER,          /* a fragment after the first one: `fragment` is set */
};

/* In a map, for the stack is short. */
struct baton_other {
    struct baton_flow_key flow;
    struct baton_service_key single;
    struct baton_fragment_key fragment;
    struct baton_fragmented value;
    bool is_first_fragment;
    __u8 padding[7];
};

/* What it holds lasts for one frame. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, struct baton_other);
} other_scratch SEC(".maps");

/* The fragment header of IPv6 (RFC 8200 4.5). */
struct baton_fragment_header {
    __u8 next;
    __u8 reserved;
    __be16 offset;      /* thirteen bits, two of zero, "more fragments" */
    __be32 identification;
};

static __always_inline void name_flow(struct baton_other *other, __u8 protocol, const __u8 client[16],
                                      __be16 client_port, const __u8 service[16], __be16 service_port)
{
    __builtin_memset(&other->flow, 0, sizeof(other->flow));
    __builtin_memset(&other->single, 0, sizeof(other->single));
    __builtin_memcpy(other->flow.client_address, client, 16);
    other->flow.client_port = client_port;
    other->flow.protocol = protocol;
    other->flow.service_port = service_port;
    __builtin_memcpy(other->single.address, service, 16);
    other->single.port = service_port;
    other->single.protocol = protocol;
}

/* `space`: what the IP header leaves. The first fragment's UDP length is that of the whole datagram. */
static __always_inline int read_udp(void *start, void *end, void *header, int space, __u32 frame,
                                    struct baton_other *other)
{
    struct udphdr *udp = header;
    __u64 offset;
    int length;

    if ((void *)(udp + 1) > end)
        return BATON_OTHER_NONE;
    name_flow(other, IPPROTO_UDP, other->fragment.source, udp->source, other->fragment.destination, udp->dest);
    length = bpf_ntohs(udp->len);
    offset = header - start;
    barrier_var(offset);
    if (space < (int)sizeof(*udp) || offset + space > frame || length < (int)sizeof(*udp)
        || (length > space && !other->is_first_fragment))
        return BATON_OTHER_MALFORMED;
    return BATON_OTHER_UDP;
}

/* The first fragment of a TCP segment has the ports, if it has eight bytes. */
static __always_inline int read_tcp(void *end, void *header, struct baton_other *other)
{
    __be16 *ports = header;

    if ((void *)(ports + 4) > end)
        return BATON_OTHER_NONE;
    name_flow(other, IPPROTO_TCP, other->fragment.source, ports[0], other->fragment.destination, ports[1]);
    return BATON_OTHER_TCP;
}

/* The quoted packet went from the service to the client. Its first eight bytes behind IP have the ports (RFC 792,
 * RFC 4443 2.4 c). Extension headers in the quotation are not followed. */
static __always_inline int read_quotation(void *end, void *quotation, bool is_ipv6, struct baton_other *other)
{
    __u8 service[16], client[16], protocol;
    __be16 *ports;

    if (is_ipv6) {
        struct ipv6hdr *ip = quotation;

        if ((void *)(ip + 1) > end || ip->version != 6)
            return BATON_OTHER_NONE;
        __builtin_memcpy(service, &ip->saddr, 16);
        __builtin_memcpy(client, &ip->daddr, 16);
        protocol = ip->nexthdr;
        ports = (void *)(ip + 1);
    } else {
        struct iphdr *ip = quotation;

        if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
            return BATON_OTHER_NONE;
        baton_map_ipv4(service, ip->saddr);
        baton_map_ipv4(client, ip->daddr);
        protocol = ip->protocol;
        ports = quotation + ip->ihl * 4;
    }
    if ((void *)(ports + 2) > end || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
        return BATON_OTHER_NONE;
    /* The error goes to whom the quoted packet came from. */
    if (__builtin_memcmp(other->fragment.destination, service, 16))
        return BATON_OTHER_NONE;
    name_flow(other, protocol, client, ports[1], service, ports[0]);
    return BATON_OTHER_ERROR;
}

/* Destination unreachable (with "fragmentation needed"), time exceeded, parameter problem; for IPv6 also packet too
 * big. The rest, such as an echo request, is the stack's. */
static __always_inline int read_icmp(void *end, void *header, bool is_ipv6, struct baton_other *other)
{
    __u8 *icmp = header;

    if ((void *)(icmp + 8) > end)
        return BATON_OTHER_NONE;
    if (is_ipv6 ? icmp[0] < 1 || icmp[0] > 4 : icmp[0] != 3 && icmp[0] != 11 && icmp[0] != 12)
        return BATON_OTHER_NONE;
    return read_quotation(end, icmp + 8, is_ipv6, other);
}

/* Behind the headers of IP. `offset` of a fragment in units of eight bytes. */
static __always_inline int read_transport(void *start, void *end, void *header, int space, __u32 frame, __u32 offset,
                                          __u8 protocol, bool is_ipv6, struct baton_other *other)
{
    if (offset)
        return BATON_OTHER_LATER;
    if (protocol == IPPROTO_UDP)
        return read_udp(start, end, header, space, frame, other);
    if (other->is_first_fragment && protocol == IPPROTO_TCP)
        return read_tcp(end, header, other);
    if (!other->is_first_fragment && protocol == (is_ipv6 ? BATON_IPPROTO_ICMPV6 : IPPROTO_ICMP))
        return read_icmp(end, header, is_ipv6, other);
    return BATON_OTHER_NONE;
}

static __always_inline int read_other_ipv4(void *start, void *end, void *header, __u32 frame,
                                           struct baton_other *other)
{
    struct iphdr *ip = header;
    __u32 length;

    if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
        return BATON_OTHER_NONE;
    length = ip->ihl * 4;
    baton_map_ipv4(other->fragment.source, ip->saddr);
    baton_map_ipv4(other->fragment.destination, ip->daddr);
    other->fragment.identification = ip->id;
    other->fragment.protocol = ip->protocol;
    other->is_first_fragment = (ip->frag_off & bpf_htons(0x3fff)) == bpf_htons(0x2000);
    return read_transport(start, end, header + length, (int)bpf_ntohs(ip->tot_len) - (int)length, frame,
                          bpf_ntohs(ip->frag_off) & 0x1fff, ip->protocol, false, other);
}

static __always_inline int read_other_ipv6(void *start, void *end, void *header, __u32 frame,
                                           struct baton_other *other)
{
    struct ipv6hdr *ip = header;
    void *cursor = ip + 1;
    __u32 offset = 0;
    __u8 next;
    int space;

    if (cursor > end || ip->version != 6)
        return BATON_OTHER_NONE;
    __builtin_memcpy(other->fragment.source, &ip->saddr, 16);
    __builtin_memcpy(other->fragment.destination, &ip->daddr, 16);
    next = ip->nexthdr;
    space = bpf_ntohs(ip->payload_len);
    for (int count = 0; count < BATON_MAX_EXTENSION_HEADERS; count++) {
        struct baton_extension_header *extension = cursor;
        struct baton_fragment_header *fragment = cursor;

        if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
            break;
        if ((void *)(fragment + 1) > end)
            return BATON_OTHER_NONE;
        if (next == IPPROTO_FRAGMENT) {
            offset = bpf_ntohs(fragment->offset) >> 3;
            other->fragment.identification = fragment->identification;
            other->is_first_fragment = !offset && fragment->offset & bpf_htons(1);
            next = fragment->next;
            cursor += sizeof(*fragment);
            space -= sizeof(*fragment);
            /* What follows is in the first fragment alone. */
            if (offset)
                break;
            continue;
        }
        next = extension->next;
        space -= (extension->length + 1) * 8;
        cursor += (extension->length + 1) * 8;
    }
    /* The key has no protocol: what the later fragments name may be an option that the first one alone shows the end
     * of (RFC 8200 4.5: source, destination and identification tell datagrams apart). */
    return read_transport(start, end, cursor, space, frame, offset, next, true, other);
}

/* What a frame is that is no whole TCP segment; an `enum baton_other_kind`. */
static __noinline int read_other(struct xdp_md *context, struct baton_other *other)
{
    void *start = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    __u32 frame = bpf_xdp_get_buff_len(context);
    __be16 type = 0;
    void *header = baton_parse_link(start, end, &type);

    __builtin_memset(&other->fragment, 0, sizeof(other->fragment));
    other->is_first_fragment = false;
    if (!header)
        return BATON_OTHER_NONE;
    if (type == bpf_htons(ETH_P_IP))
        return read_other_ipv4(start, end, header, frame, other);
    if (type == bpf_htons(ETH_P_IPV6))
        return read_other_ipv6(start, end, header, frame, other);
    return BATON_OTHER_NONE;
}

#endif
