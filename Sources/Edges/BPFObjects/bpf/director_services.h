/* Which service a frame is for: a single port first, then the ranges of its address. */
#ifndef BATON_DIRECTOR_SERVICES_H
#define BATON_DIRECTOR_SERVICES_H

#include "director_maps.h"

/* An unknown one is left alone, rather than that another forwarding stands in for it. */
static __always_inline bool forwarding_is_known(const struct baton_service *service)
{
    return service->forwarding <= BATON_FORWARD_OWNER;
}

/* The number of the service whose range has the port, in host order; BATON_MAX_SERVICES where there is none. */
static __noinline __u32 service_of_range(const struct baton_service_key *single)
{
    struct baton_service_key key = {.protocol = single->protocol};
    __u16 port = bpf_ntohs(single->port);
    struct baton_port_ranges *ranges;

    __builtin_memcpy(key.address, single->address, 16);
    ranges = bpf_map_lookup_elem(&port_ranges, &key);
    if (!ranges)
        return BATON_MAX_SERVICES;
    for (__u32 index = 0; index < BATON_MAX_PORT_RANGES && index < ranges->count; index++) {
        if (port >= ranges->list[index].first && port <= ranges->list[index].last)
            return ranges->list[index].service;
    }
    return BATON_MAX_SERVICES;
}

/* The service of a key that is no single port's. The key is used up. */
static __always_inline struct baton_service *find_ranged_service(struct baton_service_key *key)
{
    __u32 number = service_of_range(key);

    if (number >= BATON_MAX_SERVICES)
        return 0;
    __builtin_memset(key, 0, sizeof(*key));
    key->port = number;
    return bpf_map_lookup_elem(&services, key);
}

#endif
