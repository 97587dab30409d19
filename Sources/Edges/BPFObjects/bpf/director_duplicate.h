/* The forwarding `duplicate` ([Z] II-E): what XDP hands over to tc, and the tc program that makes the copies. */
#ifndef BATON_DIRECTOR_DUPLICATE_H
#define BATON_DIRECTOR_DUPLICATE_H

#include "director_maps.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

/* Two-armed: the index of the interface by which frames leave, set before load. 0: the one that they came in on. */
const volatile __u32 leaving_interface = 0;

struct baton_link_addresses {
    __u8 destination[ETH_ALEN];
    __u8 source[ETH_ALEN];
};

static __always_inline bool has_prefix(const __u8 address[ETH_ALEN], const __u8 prefix[4])
{
    return address[0] == prefix[0] && address[1] == prefix[1] && address[2] == prefix[2] && address[3] == prefix[3];
}

static __always_inline bool is_mark(const __u8 address[ETH_ALEN])
{
    const __u8 prefix[4] = BATON_MARK_PREFIX;

    return has_prefix(address, prefix);
}

static __always_inline __u32 last_two(const __u8 address[ETH_ALEN])
{
    return (__u32)address[4] << 8 | address[5];
}

/* Names slot and service in the frame for `baton_duplicate`. Should that program be missing, nobody answers: the
 * destination is another machine's to the stack. */
static __always_inline void name_for_copies(struct ethhdr *link, const struct baton_slot *slot,
                                            const struct baton_service *service)
{
    const __u8 prefix[4] = BATON_MARKED_SERVICE_PREFIX;

    __builtin_memcpy(link->h_dest, slot->group, ETH_ALEN);
    link->h_dest[0] &= 0xfe;
    __builtin_memcpy(link->h_source, prefix, sizeof(prefix));
    link->h_source[4] = service->id >> 8;
    link->h_source[5] = service->id & 0xff;
}

/* One copy. The last one is the frame itself. */
static __always_inline bool send_copy(struct __sk_buff *skb, struct baton_link_addresses *addresses, const __u8 *to)
{
    __builtin_memcpy(addresses->destination, to, ETH_ALEN);
    return !bpf_skb_store_bytes(skb, 0, addresses, sizeof(*addresses), 0);
}

/* Backups first, the owner last, and nothing to those behind the one that could not be sent: what a backup missed, the
 * owner shall not acknowledge. The client sends it again. */
static __always_inline int copy_to_members(struct __sk_buff *skb, struct baton_link_addresses *addresses,
                                           const struct baton_copies *members, struct baton_copy_counters *counts)
{
    __u32 interface = leaving_interface ? leaving_interface : skb->ifindex;

    for (__u32 index = 0; index < BATON_MAX_COPIES; index++) {
        if (index >= members->count || !send_copy(skb, addresses, members->addresses[index]))
            break;
        if (index + 1 == members->count) {
            counts->copies++;
            return bpf_redirect(interface, 0);
        }
        if (bpf_clone_redirect(skb, interface, 0))
            break;
        counts->copies++;
    }
    counts->dropped++;
    return TC_ACT_SHOT;
}

/* At the director's interface, behind XDP (or its generic form). */
SEC("tc")
int baton_duplicate(struct __sk_buff *skb)
{
    const __u8 service_prefix[4] = BATON_MARKED_SERVICE_PREFIX;
    void *start = (void *)(long)skb->data;
    void *end = (void *)(long)skb->data_end;
    struct ethhdr *link = start;
    struct baton_link_addresses addresses;
    struct baton_copy_counters *counts;
    struct baton_copies *members;
    __u32 slot, service;

    /* What does not come from our XDP program is none of our business. */
    if (start + sizeof(*link) > end || !is_mark(link->h_dest) || !has_prefix(link->h_source, service_prefix))
        return TC_ACT_UNSPEC;
    slot = last_two(link->h_dest);
    service = last_two(link->h_source);
    __builtin_memcpy(addresses.source, link->h_dest, ETH_ALEN);
    members = bpf_map_lookup_elem(&slot_copies, &slot);
    counts = bpf_map_lookup_elem(&copy_counters, &service);
    if (!counts)
        return TC_ACT_SHOT;
    if (!members) {
        counts->dropped++;
        return TC_ACT_SHOT;
    }
    return copy_to_members(skb, &addresses, members, counts);
}

#endif
