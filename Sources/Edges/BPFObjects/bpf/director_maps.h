/* The director's maps. The daemon pins all of them by name; `max_entries` of `flows` is set at load. */
#ifndef BATON_DIRECTOR_MAPS_H
#define BATON_DIRECTOR_MAPS_H

#include "prelude.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BATON_MAX_SERVICE_KEYS);
    __type(key, struct baton_service_key);
    __type(value, struct baton_service);
} services SEC(".maps");

/* By address and protocol, with port 0. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, struct baton_service_key);
    __type(value, struct baton_port_ranges);
} port_ranges SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_FRAGMENTED);
    __type(key, struct baton_fragment_key);
    __type(value, struct baton_fragmented);
} fragmented SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_FLOWS);
    __type(key, struct baton_flow_key);
    __type(value, struct baton_flow);
} flows SEC(".maps");

/* Flows of UDP, which anybody can open with one forged datagram: they drive out no others. `max_entries` likewise. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_DATAGRAM_FLOWS);
    __type(key, struct baton_flow_key);
    __type(value, struct baton_flow);
} datagram_flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SLOTS);
    __type(key, baton_u32);
    __type(value, struct baton_slot);
} slots SEC(".maps");

/* The tables of all services' dispatch plans, one behind the other; each begins with a row of its own. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_PLAN_PLACES / BATON_PLAN_ROW);
    __type(key, baton_u32);
    __type(value, struct baton_plan_row);
} plan SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES * 2);
    __type(key, baton_u32);
    __type(value, struct baton_candidates);
} candidates SEC(".maps");

/* By service id. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_loads);
} loads SEC(".maps");

/* By service id; for the program to read alone. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_loads);
} load_corrections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_PERSISTENT);
    __type(key, struct baton_client_key);
    __type(value, struct baton_client);
} clients SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_DESTINATIONS);
    __type(key, struct baton_client_key);
    __type(value, struct baton_destination);
} destinations SEC(".maps");

/* For the daemon alone. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SLOTS);
    __type(key, baton_u32);
    __type(value, struct baton_slot_record);
} slot_records SEC(".maps");

/* One element that holds every counter: one look-up a frame, however many are counted. */
struct baton_director_counts {
    baton_u64 values[BATON_DIRECTOR_COUNTERS];
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, struct baton_director_counts);
} counters SEC(".maps");

/* By service id. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_service_counters);
} service_counters SEC(".maps");

/* By service id: SYNs dispatched by a plan of the kind BATON_PLAN_COUNTER. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, baton_u32);
} service_cursor SEC(".maps");

/* By slot. A hash map, for its values are exchanged whole: half an address would send copies astray. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BATON_MAX_SLOTS);
    __type(key, baton_u32);
    __type(value, struct baton_copies);
} slot_copies SEC(".maps");

/* By service id. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, baton_u32);
    __type(value, struct baton_copy_counters);
} copy_counters SEC(".maps");

/* `baton_route` counts here what it would have counted. One element for each CPU, no longer than the run needs it. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, struct baton_answer);
} answers SEC(".maps");

/* BATON_LAYOUT_VERSION, written by the daemon that made the maps. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, baton_u32);
    __type(value, baton_u32);
} layout SEC(".maps");

#endif
