/* The one contract between Baton's eBPF programs and its daemons: keys, values and numbers of the shared maps.
 *
 * Rules: fixed-width fields, explicit padding (always zero), sizes asserted. Addresses and ports are in network byte
 * order, everything else in host order. IPv4 addresses stand as ::ffff:a.b.c.d, so that one layout serves both
 * families. A change of any layout raises BATON_LAYOUT_VERSION; pinned maps of another version are migrated
 * (LinuxBPF/DirectorLayouts.swift) or refused, never misread.
 */
#ifndef BATON_CONTRACT_H
#define BATON_CONTRACT_H

#ifdef __bpf__
typedef __u8 baton_u8;
typedef __u16 baton_u16;
typedef __u32 baton_u32;
typedef __u64 baton_u64;
#else
#include <stdint.h>
typedef uint8_t baton_u8;
typedef uint16_t baton_u16;
typedef uint32_t baton_u32;
typedef uint64_t baton_u64;
#endif

#define BATON_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " changed its size")

enum {
    BATON_LAYOUT_VERSION = 4,
    BATON_MAX_SERVICES = 256,
    /* Entries of the map `services`: one for each service by its number, and one for each single port. */
    BATON_MAX_SERVICE_KEYS = 8192,
    /* Port ranges of one address and protocol. */
    BATON_MAX_PORT_RANGES = 32,
    BATON_DEFAULT_FRAGMENTED = 16384,
    BATON_DEFAULT_DATAGRAM_FLOWS = 131072,
    BATON_MAX_SLOTS = 1024,
    /* Places of all services' dispatch plans together, and how many of them one element of the map holds. */
    BATON_PLAN_PLACES = 1 << 22,
    BATON_PLAN_ROW = 32,
    /* Slots that a dispatch plan may weigh: each slot stands once in it. */
    BATON_MAX_CANDIDATES = BATON_MAX_SLOTS,
    BATON_DEFAULT_PERSISTENT = 65536,
    BATON_DEFAULT_DESTINATIONS = 16384,
    BATON_DEFAULT_FLOWS = 1000000,
    BATON_DEFAULT_HALF_OPEN = 131072,
    BATON_DEFAULT_CONNECTIONS = 65536,
    BATON_NO_SLOT = 0xffff,
};

/* ---- Director ------------------------------------------------------------------------------------------------ */

/* With protocol 0 (and no address) the port is a service's number, for who has come there by a range. */
struct baton_service_key {
    baton_u8 address[16];
    baton_u16 port;
    baton_u8 protocol;
    baton_u8 padding;
};
BATON_ASSERT_SIZE(struct baton_service_key, 20);

/* Ports in host order, both ends included. */
struct baton_port_range {
    baton_u16 first;
    baton_u16 last;
    baton_u16 service;
};
BATON_ASSERT_SIZE(struct baton_port_range, 6);

/* The services of an address and protocol (key: port 0) that have more than single ports. The first range that has the
 * port counts; a single port in the map `services` goes before all of them. Exchanged whole. */
struct baton_port_ranges {
    baton_u32 count;
    struct baton_port_range list[BATON_MAX_PORT_RANGES];
};
BATON_ASSERT_SIZE(struct baton_port_ranges, 196);

/* [Z] II-E, III-A, III-B. The numbers are also those of the configuration's modules. */
enum baton_forwarding {
    BATON_FORWARD_DUPLICATE = 0,
    BATON_FORWARD_MULTICAST = 1,
    BATON_FORWARD_SELECTIVE = 2,
    BATON_FORWARD_OWNER = 3, /* not in [Z]: no backup hears of these flows */
};

/* How a dispatch plan names the slot of a new flow. COUNTER and the hashes find a place of the plan's table; the others
 * weigh the plan's candidates by the flows that they have. docs/design/0010-dispatch-plans.md. */
enum baton_plan_kind {
    BATON_PLAN_COUNTER = 0,     /* the service's counter, modulo the length; the next place when that slot is down */
    BATON_PLAN_HASH_SOURCE = 1,
    BATON_PLAN_HASH_DESTINATION = 2,
    BATON_PLAN_HASH_FLOW = 3,
    BATON_PLAN_HASH_CLIENT = 4, /* the client's address and port */
    BATON_PLAN_LEAST = 5,       /* the candidate of the least load for its weight */
    BATON_PLAN_FIRST = 6,       /* the first candidate that may have it, in the order of the list */
    BATON_PLAN_TWO_CHOICES = 7, /* the lesser of two candidates that a hash of the flow draws from the table */
    BATON_PLAN_CACHE = 8,       /* the slot that had this destination last, while it is not overloaded */
    BATON_PLAN_CACHE_SET = 9,   /* the least of the slots that had this destination; overload adds one */
};

/* What a plan means by load, or by who may have a flow. `a` is a slot's active flows, `i` its inactive ones. */
enum baton_plan_rule {
    BATON_RULE_OVERHEAD = 0,    /* (256 a + i) / weight: IPVS lc, wlc, lblc, lblcr */
    BATON_RULE_DELAY = 1,       /* (a + 1) / weight: IPVS sed */
    BATON_RULE_IDLE_FIRST = 2,  /* a slot with a = 0 at once, else as DELAY: IPVS nq */
    BATON_RULE_ANY = 3,         /* FIRST: whoever is up: IPVS fo */
    BATON_RULE_OVERFLOW = 4,    /* FIRST: whoever is up with a <= weight: IPVS ovf */
};

enum baton_plan_flags {
    BATON_PLAN_FALLBACK = 1 << 0,   /* hashes: when the slot is down, hash again (IPVS sh-fallback, mh-fallback) */
};

/* How often a table is asked again when the slot found is down. */
enum { BATON_PLAN_TRIES = 16 };

struct baton_service {
    baton_u16 id;           /* index of counters; part of the flow key */
    baton_u8 forwarding;    /* enum baton_forwarding */
    baton_u8 plan_kind;     /* enum baton_plan_kind */
    baton_u32 plan_offset;  /* first place in the plan map */
    baton_u32 plan_length;  /* 0, and no candidates: no back-end; a SYN is dropped and counted */
    baton_u32 hash_secret;  /* clients cannot choose their slot; kept while the service is pinned */
    baton_u32 candidates;   /* element of the map `candidates` */
    baton_u8 plan_rule;     /* enum baton_plan_rule */
    baton_u8 plan_flags;    /* enum baton_plan_flags */
    baton_u8 persistence_bits;      /* of the client's address, that count; IPv4: 96 more than of the netmask */
    baton_u8 persistence_bits_ipv6; /* the same for clients with IPv6 */
    baton_u32 persistence_s;        /* how long a client keeps its slot; 0: not at all */
    baton_u32 cache_s;              /* CACHE: a destination unused for so long is forgotten; CACHE_SET: and when its
                                     * set has not changed for so long, the most loaded slot leaves it */
    baton_u32 idle_s;       /* UDP: a flow silent for so long is over, and the next datagram opens a new one */
    baton_u32 padding;
};
BATON_ASSERT_SIZE(struct baton_service, 40);

struct baton_plan_row {
    baton_u16 slots[BATON_PLAN_ROW];    /* slot numbers, or BATON_NO_SLOT; TWO_CHOICES: places in the candidates */
};
BATON_ASSERT_SIZE(struct baton_plan_row, 64);

/* Weight 0: not a candidate itself; its flows count for the candidate before it, which took it over. */
struct baton_candidate {
    baton_u16 slot;
    baton_u16 weight;
};
BATON_ASSERT_SIZE(struct baton_candidate, 4);

/* One element for each of a service's two halves, written beside the one in use. */
struct baton_candidates {
    baton_u32 count;
    baton_u32 open[BATON_MAX_SLOTS / 32];   /* a bit for each slot that may get new flows of persistent clients */
    struct baton_candidate list[BATON_MAX_CANDIDATES];
};
BATON_ASSERT_SIZE(struct baton_candidates, 4228);

/* Flows of a service at a slot. Counted by the data plane at SYN, FIN and RST alone. */
struct baton_load {
    baton_u32 active;       /* opened, neither FIN nor RST of the client seen */
    baton_u32 inactive;     /* FIN or RST seen, still in the table */
};
BATON_ASSERT_SIZE(struct baton_load, 8);

/* By service. The map `loads` is written by the data plane alone, `load_corrections` by the daemon alone: what it has
 * found wrong in counting the table now and then (flows that the LRU drove out, or that ended unseen). The load is the
 * sum of the two, modulo 2^32; one that is negative counts as none. */
struct baton_loads {
    struct baton_load slots[BATON_MAX_SLOTS];
};
BATON_ASSERT_SIZE(struct baton_loads, 8192);

/* Persistence: the network of a client (its address with the bits that do not count cleared), and its slot. */
struct baton_client_key {
    baton_u8 address[16];
    baton_u16 service;
    baton_u16 padding;
};
BATON_ASSERT_SIZE(struct baton_client_key, 20);

struct baton_client {
    baton_u64 last_seen_ns; /* bpf_ktime_get_coarse_ns: a flow was opened or closed */
    baton_u16 slot;
    baton_u16 padding[3];
};
BATON_ASSERT_SIZE(struct baton_client, 16);

/* Slots that a destination is replicated to, at most. */
enum { BATON_MAX_REPLICAS = 8 };

/* CACHE and CACHE_SET, by service and destination address (the key's address). */
struct baton_destination {
    baton_u64 last_used_ns;
    baton_u64 changed_ns;
    baton_u16 slots[BATON_MAX_REPLICAS];    /* BATON_NO_SLOT: a free place */
};
BATON_ASSERT_SIZE(struct baton_destination, 32);

/* The VIP is the service's id here: 24 bytes instead of 40 for each flow. Its port stands there all the same, for a
 * service may have several, and a client may talk to two of them from one port. */
struct baton_flow_key {
    baton_u8 client_address[16];
    baton_u16 client_port;
    baton_u16 service;      /* host order */
    baton_u8 protocol;
    baton_u8 padding;
    baton_u16 service_port;
};
BATON_ASSERT_SIZE(struct baton_flow_key, 24);

enum baton_flow_flags {
    BATON_FLOW_ESTABLISHED = 1 << 0, /* the ACK that completes the handshake was seen */
    BATON_FLOW_CLOSING = 1 << 1,     /* the client sent FIN or RST */
    BATON_FLOW_OPENING = 1 << 2,     /* a SYN was seen, and no ACK since: every frame goes to the group */
    BATON_FLOW_RESET = 1 << 3,       /* CLOSING by an RST. Anybody can forge one: a new SYN stays with the slot, and any
                                      * other frame shows that it was none of the client's. After a FIN a new SYN is a
                                      * new flow. */
};

struct baton_flow {
    baton_u16 slot;
    baton_u8 flags;             /* enum baton_flow_flags */
    baton_u8 group_time;        /* when a frame last went to the group, in BATON_GROUP_TIME_SHIFT units, modulo 256 */
    baton_u32 group_ack;        /* the ACK field of the last frame that went to the group */
    baton_u64 last_seen_ns;     /* bpf_ktime_get_ns of the last frame, to within a second */
};
BATON_ASSERT_SIZE(struct baton_flow, 16);

/* In `selective`, a pure ACK goes to the group all the same when the ACK number has moved this far since the last
 * frame that did: a backup's SND.UNA never falls a quarter of the sequence circle behind, so that a probe cannot be
 * taken for new data by the client, however long the transfer. */
#define BATON_GROUP_ACK_DISTANCE (1u << 29)

/* Likewise when 17 to 34 s (two units of 2^34 ns) have passed since: a backup that hears nothing of a connection would
 * forget it in the end, however busily its client acknowledges. */
#define BATON_GROUP_TIME_SHIFT 34

/* Datagrams in pieces: the first one has the ports, the others follow it (RFC 791 3.2, RFC 8200 4.5). */
struct baton_fragment_key {
    baton_u8 source[16];
    baton_u8 destination[16];
    baton_u32 identification;   /* as in the header */
    baton_u8 protocol;
    baton_u8 padding[3];
};
BATON_ASSERT_SIZE(struct baton_fragment_key, 40);

struct baton_fragmented {
    baton_u64 seen_ns;      /* bpf_ktime_get_coarse_ns of the first fragment */
    baton_u16 slot;
    baton_u16 service;
    baton_u32 padding;
};
BATON_ASSERT_SIZE(struct baton_fragmented, 16);

/* After so many seconds an identification may be another datagram's (Linux reassembles for 30 s). */
#define BATON_FRAGMENT_LIFETIME_S 30

enum baton_slot_flags {
    BATON_SLOT_ACTIVE = 1 << 0,    /* frames may be sent to it */
    BATON_SLOT_TAKEOVER = 1 << 1,  /* being taken over: every frame goes to the group, nobody is the owner */
};

struct baton_slot {
    baton_u8 owner[6];      /* MAC address of the owner */
    baton_u8 group[6];      /* MAC address of the group */
    baton_u16 flags;        /* enum baton_slot_flags */
    baton_u16 padding;
};
BATON_ASSERT_SIZE(struct baton_slot, 16);

enum baton_slot_record_flags {
    BATON_RECORD_DRAINING = 1 << 0, /* the operator has drained the back-end that the slot was made for */
};

/* What the daemon must find again after a restart; the data plane never reads it. */
struct baton_slot_record {
    baton_u8 backend[32];       /* name, zero-padded */
    baton_u8 owner_name[32];    /* for people */
    baton_u64 life;             /* of the back-end's agent */
    baton_u64 epoch;
    baton_u32 state;            /* 0: the slot was never used */
    baton_u16 owner;            /* slot of the owner's own life, or BATON_NO_SLOT */
    baton_u8 proven_count;
    baton_u8 contender_count;
    baton_u16 proven[3];        /* backups whose silence certainly ends the lease of this slot's life */
    baton_u16 contenders[4];    /* who may still be talking for the slot */
    baton_u16 flags;            /* enum baton_slot_record_flags */
};
BATON_ASSERT_SIZE(struct baton_slot_record, 104);

/* The forwarding `duplicate`: XDP cannot clone, so it passes the frame on to a tc program at the same interface, under
 * two unicast addresses that name slot and service and that nobody else uses. That program sends each member of the
 * slot's group a copy: to the member's own address, from the slot's mark, which is the group address with the group
 * bit cleared (SlotID.mark). The first four bytes of mark and service address: */
#define BATON_MARK_PREFIX {0x02, 0xba, 0x70, 0x6e}
#define BATON_MARKED_SERVICE_PREFIX {0x02, 0xba, 0x70, 0x6f}

/* Who gets a copy: the owner, its backups and, while promises to former backups run, these. */
#define BATON_MAX_COPIES 8

struct baton_copies {
    baton_u32 count;
    baton_u8 padding[4];
    baton_u8 addresses[BATON_MAX_COPIES][6];    /* the owner last */
};
BATON_ASSERT_SIZE(struct baton_copies, 56);

struct baton_copy_counters {
    baton_u64 copies;   /* sent */
    baton_u64 dropped;  /* frames that could not be copied to everyone: the client sends them again */
};
BATON_ASSERT_SIZE(struct baton_copy_counters, 16);

/* Thresholds of a service at a slot; `upper` 0: none. A slot with `upper` flows or more, open and closed ones, gets no new
 * one until it has fewer than `lower`. */
struct baton_threshold {
    baton_u32 upper;
    baton_u32 lower;
};
BATON_ASSERT_SIZE(struct baton_threshold, 8);

struct baton_thresholds {
    struct baton_threshold slots[BATON_MAX_SLOTS];
};
BATON_ASSERT_SIZE(struct baton_thresholds, 8192);

/* A bit for each slot that has reached its upper threshold, and has not been below the lower one since. */
struct baton_full_slots {
    baton_u32 bits[BATON_MAX_SLOTS / 32];
};
BATON_ASSERT_SIZE(struct baton_full_slots, 128);

/* The element of `flow_limits` that is no service's: new flows of all services together. */
enum { BATON_LIMIT_OF_ALL = BATON_MAX_SERVICES, BATON_FLOW_LIMITS = BATON_MAX_SERVICES + 1 };

struct baton_flow_limit {
    baton_u64 interval_ns;  /* between two new flows, at the rate; 0: no limit */
    baton_u64 burst_ns;     /* how far ahead of the rate they may be */
    baton_u32 sorry;        /* 1 + the slot that gets flows that no other slot takes; 0: none */
    baton_u32 padding;
};
BATON_ASSERT_SIZE(struct baton_flow_limit, 24);

/* SYNs that would have opened a flow, and were dropped; and flows whose handshake was completed. */
struct baton_flood_counters {
    baton_u64 refused_by_service;
    baton_u64 refused_by_all;
    baton_u64 completed;
};
BATON_ASSERT_SIZE(struct baton_flood_counters, 24);

/* Indices of the director's per-CPU counters (64-bit each). */
enum baton_director_counter {
    BATON_COUNT_FRAMES = 0,          /* frames of a service */
    BATON_COUNT_TO_OWNER,
    BATON_COUNT_TO_GROUP,
    BATON_COUNT_NEW_FLOWS,
    BATON_COUNT_NO_BACKEND,          /* SYN dropped: empty plan or inactive slot */
    BATON_COUNT_NO_FLOW,             /* not a SYN and no flow: left to the stack, which answers RST */
    BATON_COUNT_MALFORMED,           /* of a service, but not parseable: dropped */
    BATON_COUNT_FRAGMENTS,           /* fragments that follow no first one: left to the stack; first ones of TCP for a
                                      * service with backups: dropped */
    BATON_COUNT_NOT_OURS,            /* passed to the stack untouched; dropped when sent to a mark */
    BATON_COUNT_SLOT_DOWN,           /* flow of an inactive slot: left to the stack, which answers RST */
    BATON_COUNT_TABLE_FULL,          /* flow could not be inserted */
    BATON_COUNT_ERRORS_FORWARDED,    /* ICMP errors sent to the owner of the flow that they quote */
    BATON_COUNT_FRAGMENTS_FORWARDED, /* fragments sent after the first one of their datagram */
    BATON_DIRECTOR_COUNTERS,
};

/* What `baton_route` says of a made-up frame, which it changes nothing for. It stands at BATON_ANSWER_OFFSET of the
 * frame, behind the packet: an Ethernet trailer. */
enum baton_answer_flags {
    BATON_ANSWER_SERVICE = 1 << 0,      /* `service` is one */
    BATON_ANSWER_EXISTING = 1 << 1,     /* the flow is known, and keeps its slot */
    BATON_ANSWER_SLOT = 1 << 2,         /* `slot` was found or chosen */
    BATON_ANSWER_PERSISTENT = 1 << 3,   /* it is the slot that the client had before */
};

enum { BATON_ANSWER_OFFSET = 192 };

struct baton_answer {
    baton_u16 service;
    baton_u16 slot;
    baton_u32 flags;                                /* enum baton_answer_flags */
    baton_u64 counts[BATON_DIRECTOR_COUNTERS];      /* what the frame would have counted; by enum baton_director_counter */
    baton_u64 service_counts[4];                    /* struct baton_service_counters */
};

struct baton_service_counters {
    baton_u64 frames_to_owner;
    baton_u64 frames_to_group;
    baton_u64 new_flows;
    baton_u64 bytes;
};
BATON_ASSERT_SIZE(struct baton_service_counters, 32);

/* ---- Agent --------------------------------------------------------------------------------------------------- */

struct baton_connection_key {
    baton_u8 client_address[16];
    baton_u8 service_address[16];
    baton_u16 client_port;
    baton_u16 service_port;
};
BATON_ASSERT_SIZE(struct baton_connection_key, 36);

/* One description for all modes, the active ones to come included (standby: the replica that runs along). */
enum baton_connection_state {
    BATON_CONNECTION_ADOPTING = 1,      /* the adopting ACK is on its way; nothing of the socket leaves */
    BATON_CONNECTION_STANDBY = 2,       /* reserved */
    BATON_CONNECTION_CATCHING_UP = 3,   /* what the client has is acknowledged in its place */
    BATON_CONNECTION_LIVE = 4,          /* an ordinary connection; client ACKs stay clamped to SND.NXT */
    BATON_CONNECTION_REFUSED = 5,       /* the regenerated reply does not fit: nothing leaves, the agent resets it */
};

enum baton_connection_flags {
    BATON_CONNECTION_TIMESTAMPS = 1 << 0,
    BATON_CONNECTION_SACK = 1 << 1,
    BATON_CONNECTION_WSCALE = 1 << 2,
    BATON_CONNECTION_ASSIGNED = 1 << 3, /* the kernel took the adopting ACK */
    BATON_CONNECTION_ADOPTED = 1 << 4,  /* an established socket was found for it */
    BATON_CONNECTION_IN_STEP = 1 << 5,  /* the client was seen within the adopted socket's window */
    BATON_CONNECTION_CHECKED = 1 << 6,  /* what its socket sends in catch-up goes to the agent until it is released */
    BATON_CONNECTION_OBSTRUCTED = 1 << 7, /* the rest of an earlier connection has the 4-tuple: the agent shall end it */
};

/* Places in the reply stream are 64-bit offsets from ISS + 1, so that a transfer may outgrow the sequence circle. */
struct baton_connection {
    baton_u32 state;            /* enum baton_connection_state */
    baton_u32 flags;            /* enum baton_connection_flags */
    baton_u32 iss;              /* of the dead server */
    baton_u32 irs;              /* of the client */
    baton_u64 snd_una;          /* highest ACK of the client so far */
    baton_u64 right_edge;       /* the client's window ends here */
    baton_u64 snd_nxt;          /* the adopted socket has sent up to here */
    baton_u32 client_tsval;     /* latest TSval of the client */
    baton_u32 server_tsval;     /* where the adopted socket's timestamp clock starts */
    baton_u32 local_ack;        /* latest ACK field that the adopted socket sent (client sequence space) */
    baton_u32 local_right_edge; /* the adopted socket's receive window ends here (client sequence space) */
    baton_u16 mss;              /* as the client announced it */
    baton_u8 snd_wscale;        /* the client's shift count */
    baton_u8 rcv_wscale;        /* the server's, as in its SYN-ACK */
    baton_u16 slot;
    baton_u16 padding;
    baton_u64 adopted_ns;       /* bpf_ktime_get_ns: the socket was found */
    baton_u64 first_reply_ns;   /* its first byte of reply was seen at egress */
    baton_u64 live_ns;          /* it reached what the client did not have */
    baton_u64 caught_up_bytes;  /* swallowed at egress */
    baton_u64 clamped_acks;
};
BATON_ASSERT_SIZE(struct baton_connection, 104);

/* The agent's rules for the whole machine: one element, index 0. */
struct baton_agent_rules {
    baton_u64 lease_until_ns;   /* bpf_ktime_get_ns; 0: nothing of the VIPs leaves; all ones: no lease needed */
    baton_u64 fenced;           /* other than 0: nothing of the VIPs leaves, whatever the lease */
};
BATON_ASSERT_SIZE(struct baton_agent_rules, 16);

enum baton_event_kind {
    BATON_EVENT_ADOPTED = 1,            /* an established socket answers for the connection */
    BATON_EVENT_LIVE = 2,               /* catch-up finished */
    BATON_EVENT_REPLY_SHORTER = 3,      /* FIN or RST of the application below SND.UNA: refused */
    BATON_EVENT_APPLICATION_CRASHED = 4,/* a socket of a VIP was closed by a dying process */
    BATON_EVENT_LISTENER_CLOSED = 5,
    BATON_EVENT_CLOSED = 6,             /* an adopted connection's socket is gone */
};

struct baton_event {
    baton_u32 kind;                 /* enum baton_event_kind */
    baton_u32 exit_code;            /* as the kernel keeps it: signal in the low seven bits */
    baton_u64 time_ns;
    struct baton_connection_key key;
    baton_u32 padding;
};
BATON_ASSERT_SIZE(struct baton_event, 56);

enum baton_agent_counter {
    BATON_COUNT_ADOPTIONS = 0,
    BATON_COUNT_ADOPTIONS_REFUSED,   /* the kfunc or the look-up said no */
    BATON_COUNT_REPLAY_DROPPED,      /* journal bytes without an established socket */
    BATON_COUNT_REFLECTED,           /* segments acknowledged in the client's place */
    BATON_COUNT_REFLECTED_BYTES,
    BATON_COUNT_CLAMPED,             /* client ACKs above SND.NXT */
    BATON_COUNT_GUARDED,             /* frames of crashed applications dropped */
    BATON_COUNT_FENCED,              /* frames of the VIP dropped: no lease, or fenced */
    BATON_COUNT_RST_GUARDED,         /* RSTs of connections being taken over dropped */
    BATON_AGENT_COUNTERS,
};

#endif
