/* Persistence, as IPVS -p and -M: new flows of a client's network go where its last one went. */
#ifndef BATON_DIRECTOR_PERSISTENCE_H
#define BATON_DIRECTOR_PERSISTENCE_H

#include "director_dispatch.h"

/* The client's address without the bits that do not count. */
static __always_inline void client_network(struct baton_client_key *key, const __u8 address[16],
                                           const struct baton_service *service)
{
    __u32 words[4];
    int bits;

    __builtin_memcpy(words, address, 16);
    bits = !words[0] && !words[1] && words[2] == bpf_htonl(0xffff) ? service->persistence_bits
                                                                   : service->persistence_bits_ipv6;
#pragma unroll
    for (int index = 0; index < 4; index++) {
        int counting = bits - index * 32;

        if (counting <= 0)
            words[index] = 0;
        else if (counting < 32)
            words[index] &= bpf_htonl(~0u << (32 - counting));
    }
    __builtin_memcpy(key->address, words, 16);
    key->service = service->id;
    key->padding = 0;
}

/* The slot that the client's last flow has, while it may have more; else BATON_NO_SLOT. */
static __noinline __u16 slot_of_client(const __u8 *address, const struct baton_service *service)
{
    __u32 element = service->candidates;
    struct baton_candidates *open;
    struct baton_client_key key;
    struct baton_client *client;
    __u32 slot;

    client_network(&key, address, service);
    client = bpf_map_lookup_elem(&clients, &key);
    open = bpf_map_lookup_elem(&candidates, &element);
    if (!client || !open
        || bpf_ktime_get_coarse_ns() - client->last_seen_ns >= service->persistence_s * BATON_SECOND_NS)
        return BATON_NO_SLOT;
    slot = client->slot;
    /* The one that is checked shall be the one that is used: another CPU may write it meanwhile. */
    barrier_var(slot);
    if (slot >= BATON_MAX_SLOTS || !(open->open[slot / 32] & 1u << slot % 32) || !takes_new_flows(service->id, slot))
        return BATON_NO_SLOT;
    return slot;
}

/* A flow of the client was opened, or closed: its time begins anew. */
static __noinline void remember_client(const __u8 *address, const struct baton_service *service, __u16 slot)
{
    struct baton_client client = {.slot = slot, .last_seen_ns = bpf_ktime_get_coarse_ns()};
    struct baton_client_key key;

    client_network(&key, address, service);
    bpf_map_update_elem(&clients, &key, &client, BPF_ANY);
}

/* Other flows of the client may have gone elsewhere since: then this one's end says nothing. */
static __noinline void refresh_client(const __u8 *address, const struct baton_service *service, __u16 slot)
{
    struct baton_client_key key;
    struct baton_client *client;

    client_network(&key, address, service);
    client = bpf_map_lookup_elem(&clients, &key);
    if (client && client->slot == slot)
        client->last_seen_ns = bpf_ktime_get_coarse_ns();
}

#endif
