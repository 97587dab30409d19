/* Thresholds of connections, as IPVS's u_threshold and l_threshold: a slot that has reached its upper one gets no new flow
 * of the service until it is below its lower one. Looked at when flows are opened, never for frames of known flows.
 */
#ifndef BATON_DIRECTOR_THRESHOLD_H
#define BATON_DIRECTOR_THRESHOLD_H

#include "director_maps.h"

/* By service id; written by the daemon alone. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_thresholds);
} thresholds SEC(".maps");

/* By service id. The program marks and clears; the daemon does so too, when it has counted the table: should one undo the
 * other's change at the same moment, the next flow or the next count puts it right. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_full_slots);
} full_slots SEC(".maps");

/* Whether the slot may have no more flows of the service. */
static __always_inline bool is_full(__u32 service, __u32 slot)
{
    const struct baton_full_slots *full = bpf_map_lookup_elem(&full_slots, &service);

    return full && full->bits[slot % BATON_MAX_SLOTS / 32] & 1u << slot % 32;
}

/* Flows of the slot, open and closed ones, as the program and the daemon's corrections have them. */
static __always_inline __u32 flows_of(const struct baton_load *load, __u32 service, __u32 slot)
{
    const struct baton_loads *all = bpf_map_lookup_elem(&load_corrections, &service);
    __s32 active = load->active, inactive = load->inactive;

    if (!all || slot >= BATON_MAX_SLOTS)
        return 0;
    active += all->slots[slot].active;
    inactive += all->slots[slot].inactive;
    return (active < 0 ? 0 : active) + (inactive < 0 ? 0 : inactive);
}

/* The slot has one flow of the service more, or less. */
static __noinline void judge_fullness(const struct baton_load *load, __u32 service, __u32 slot)
{
    const struct baton_thresholds *limits = bpf_map_lookup_elem(&thresholds, &service);
    struct baton_full_slots *full = bpf_map_lookup_elem(&full_slots, &service);
    __u32 bit = 1u << slot % 32, count;

    if (!load || !limits || !full || slot >= BATON_MAX_SLOTS || !limits->slots[slot].upper)
        return;
    count = flows_of(load, service, slot);
    if (count >= limits->slots[slot].upper)
        __sync_fetch_and_or(&full->bits[slot / 32], bit);
    else if (count < limits->slots[slot].lower)
        __sync_fetch_and_and(&full->bits[slot / 32], ~bit);
}

#endif
