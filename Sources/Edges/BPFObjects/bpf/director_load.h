/* Flows by service and slot: counted at SYN, FIN and RST, and weighed when a plan asks for the least loaded slot. */
#ifndef BATON_DIRECTOR_LOAD_H
#define BATON_DIRECTOR_LOAD_H

#include "director_maps.h"
#include "director_threshold.h"

static __always_inline struct baton_load *find_load(__u32 service, __u16 slot)
{
    struct baton_loads *found = bpf_map_lookup_elem(&loads, &service);

    return found && slot < BATON_MAX_SLOTS ? &found->slots[slot] : 0;
}

static __noinline void count_opened(__u32 service, __u16 slot)
{
    struct baton_load *load = find_load(service, slot);

    if (!load)
        return;
    __sync_fetch_and_add(&load->active, 1);
    judge_fullness(load, service, slot);
}

static __noinline void count_closing(__u32 service, __u16 slot)
{
    struct baton_load *load = find_load(service, slot);

    if (!load)
        return;
    __sync_fetch_and_add(&load->active, -1);
    __sync_fetch_and_add(&load->inactive, 1);
}

/* A flow that was taken for closing, and lives. */
static __noinline void count_reopened(__u32 service, __u16 slot)
{
    struct baton_load *load = find_load(service, slot);

    if (!load)
        return;
    __sync_fetch_and_add(&load->inactive, -1);
    __sync_fetch_and_add(&load->active, 1);
}

/* A flow whose place a new one has taken. */
static __noinline void count_replaced(__u32 service, __u16 slot, __u8 flags)
{
    struct baton_load *load = find_load(service, slot);

    if (!load)
        return;
    __sync_fetch_and_add(flags & BATON_FLOW_CLOSING ? &load->inactive : &load->active, -1);
    judge_fullness(load, service, slot);
}

/* Whether frames of the slot have one machine to go to. */
static __always_inline bool slot_has_owner(__u16 number)
{
    __u32 key = number;
    struct baton_slot *slot = bpf_map_lookup_elem(&slots, &key);

    return slot && (slot->flags & (BATON_SLOT_ACTIVE | BATON_SLOT_TAKEOVER)) == BATON_SLOT_ACTIVE;
}

/* Whether a new flow of the service may go there. */
static __always_inline bool takes_new_flows(__u32 service, __u16 number)
{
    return slot_has_owner(number) && !is_full(service, number);
}

/* The best so far, as a fraction: the load of a slot by its weight. */
struct baton_choice {
    __u64 load;
    __u32 weight;
    __u16 slot;     /* BATON_NO_SLOT: none yet */
};

/* One walk over a plan's candidates. It lies in a map, not on the stack: the verifier follows what stands on the stack
 * step by step, and would not come to an end. */
struct baton_scan {
    /* What is asked. */
    __u32 start;
    __u32 count;
    __u32 service;
    __u8 rule;
    bool one;               /* only the candidate at `start` */
    __u16 set[BATON_MAX_REPLICAS];  /* of a destination; BATON_NO_SLOT: a free place */
    /* The candidate that is being added up. */
    __u64 active;
    __u64 inactive;
    __u16 slot;
    __u16 weight;           /* 0: none */
    /* What was found. */
    struct baton_choice best;
    struct baton_choice least_member;
    struct baton_choice most_member;
    __u64 member_active;    /* of `least_member` */
    __u32 present;          /* a bit for each place of `set` whose slot is a candidate and up */
    __u32 most_place;       /* the bit of `most_member` */
    bool is_idle;           /* `best` has no active flow */
    bool half_idle;         /* some candidate has fewer active flows than half its weight */
};

/* What it holds lasts for one SYN. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, struct baton_scan);
} scratch SEC(".maps");

/* The context of a step. */
struct baton_scan_step {
    struct baton_scan *scan;
    const struct baton_candidates *candidates;
    const struct baton_loads *loads;
    const struct baton_loads *corrections;
};

static __always_inline __u32 not_negative(__u32 count)
{
    return (__s32)count < 0 ? 0 : count;
}

static __always_inline void add_load(const struct baton_scan_step *step, __u16 slot)
{
    const struct baton_load *load, *correction;

    if (slot >= BATON_MAX_SLOTS)
        return;
    load = &step->loads->slots[slot];
    correction = &step->corrections->slots[slot];
    step->scan->active += not_negative(load->active + correction->active);
    step->scan->inactive += not_negative(load->inactive + correction->inactive);
}

/* Whether load / weight is less than that of the choice; the earlier one stays when they are equal. */
static __always_inline bool is_less(__u64 load, __u32 weight, const struct baton_choice *choice)
{
    return choice->slot == BATON_NO_SLOT || choice->load * weight > load * choice->weight;
}

static __always_inline void choose(struct baton_choice *choice, const struct baton_scan *scan, __u64 load)
{
    choice->slot = scan->slot;
    choice->weight = scan->weight;
    choice->load = load;
}

/* A bit for each place of a set that has the slot. Without branches: the verifier would follow each on its own. */
static __always_inline __u32 places_of(const __u16 set[BATON_MAX_REPLICAS], __u16 slot)
{
    __u32 places = 0;

#pragma unroll
    for (int index = 0; index < BATON_MAX_REPLICAS; index++) {
        __u32 difference = set[index] ^ slot;

        places |= (difference - 1) >> 31 << index;
    }
    return places;
}

static __always_inline void weigh_member(struct baton_scan *scan, __u64 load)
{
    __u32 place = places_of(scan->set, scan->slot);

    if (!place)
        return;
    scan->present |= place;
    if (is_less(load, scan->weight, &scan->least_member)) {
        choose(&scan->least_member, scan, load);
        scan->member_active = scan->active;
    }
    if (scan->most_member.slot == BATON_NO_SLOT
        || load * scan->most_member.weight > scan->most_member.load * scan->weight) {
        choose(&scan->most_member, scan, load);
        scan->most_place = place;
    }
}

/* The candidate is added up: compares it with the best so far. */
static __always_inline void weigh(struct baton_scan *scan)
{
    __u64 load;

    if (!scan->weight || !takes_new_flows(scan->service, scan->slot))
        return;
    load = scan->rule == BATON_RULE_OVERHEAD ? (scan->active << 8) + scan->inactive : scan->active + 1;
    if (scan->active * 2 < scan->weight)
        scan->half_idle = true;
    weigh_member(scan, load);
    switch (scan->rule) {
    case BATON_RULE_ANY:
        if (scan->best.slot == BATON_NO_SLOT)
            choose(&scan->best, scan, load);
        break;
    case BATON_RULE_OVERFLOW:
        if (scan->best.slot == BATON_NO_SLOT && scan->active <= scan->weight)
            choose(&scan->best, scan, load);
        break;
    case BATON_RULE_IDLE_FIRST:
        if (scan->is_idle)
            break;
        scan->is_idle = !scan->active;
        if (scan->is_idle || is_less(load, scan->weight, &scan->best))
            choose(&scan->best, scan, load);
        break;
    default:
        if (is_less(load, scan->weight, &scan->best))
            choose(&scan->best, scan, load);
    }
}

/* bpf_loop's step; the last one comes after the last candidate. */
static long scan_candidate(__u32 number, void *context)
{
    const struct baton_scan_step *step = context;
    struct baton_scan *scan = step->scan;
    __u32 index = scan->start + number;
    struct baton_candidate candidate = {.slot = BATON_NO_SLOT, .weight = 1};

    if (index < scan->count && index < BATON_MAX_CANDIDATES)
        candidate = step->candidates->list[index];
    if (candidate.weight) {
        weigh(scan);
        if (scan->one && scan->weight)
            return 1;
        scan->slot = candidate.slot;
        scan->weight = candidate.slot == BATON_NO_SLOT ? 0 : candidate.weight;
        scan->active = 0;
        scan->inactive = 0;
    }
    add_load(step, candidate.slot);
    return candidate.slot == BATON_NO_SLOT;
}

/* Makes a scan ready; 0 when a map has no such element. */
static __always_inline struct baton_scan *prepare_scan(const struct baton_service *service)
{
    __u32 zero = 0;
    struct baton_scan *scan = bpf_map_lookup_elem(&scratch, &zero);

    if (!scan)
        return 0;
    __builtin_memset(scan, 0, sizeof(*scan));
    __builtin_memset(scan->set, 0xff, sizeof(scan->set));
    scan->rule = service->plan_rule;
    scan->service = service->id;
    scan->best.slot = BATON_NO_SLOT;
    scan->least_member.slot = BATON_NO_SLOT;
    scan->most_member.slot = BATON_NO_SLOT;
    return scan;
}

/* Weighs the candidates from `start` on, or just the one there. */
static __noinline void run_scan(struct baton_scan *scan, const struct baton_service *service, __u32 start, bool one)
{
    __u32 element = service->candidates, id = service->id;
    struct baton_scan_step step = {.scan = scan};

    /* Before the look-ups, across which they would need places on the stack: four calls deep it is all but full. */
    scan->start = start;
    scan->one = one;
    scan->weight = 0;
    step.candidates = bpf_map_lookup_elem(&candidates, &element);
    step.loads = bpf_map_lookup_elem(&loads, &id);
    step.corrections = bpf_map_lookup_elem(&load_corrections, &id);
    if (!step.candidates || !step.loads || !step.corrections)
        return;
    scan->count = step.candidates->count;
    bpf_loop(BATON_MAX_CANDIDATES + 1, scan_candidate, &step, 0);
}

#endif
