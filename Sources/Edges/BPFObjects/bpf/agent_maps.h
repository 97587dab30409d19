/* Maps of the agent's programs; layouts in contract.h. */
#ifndef BATON_AGENT_MAPS_H
#define BATON_AGENT_MAPS_H

/* Set before loading: the network namespace whose sockets the guard watches (0: every one). */
const volatile __u32 own_netns_inode = 0;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BATON_DEFAULT_CONNECTIONS);
    __type(key, struct baton_connection_key);
    __type(value, struct baton_connection);
    __uint(map_flags, BPF_F_NO_PREALLOC);
} connections SEC(".maps");

/* The firewall mark of what the agent itself sends from a VIP, set before loading (0: none): the guard, which silences
 * the dead sockets of a connection, lets its probe and its RST out. */
const volatile __u32 agent_mark = 0;

/* The agent's TUN device, set before loading: what is held back goes there. */
const volatile __u32 tun_interface = 0;

/* Connections with BATON_CONNECTION_CHECKED whose regenerated reply was found to continue what the client has. Not
 * pinned: what an agent that died had not released stays held. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BATON_DEFAULT_CONNECTIONS);
    __type(key, struct baton_connection_key);
    __type(value, __u32);
    __uint(map_flags, BPF_F_NO_PREALLOC);
} released SEC(".maps");

/* Connections of crashed applications: nothing that their sockets still send leaves. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BATON_DEFAULT_CONNECTIONS);
    __type(key, struct baton_connection_key);
    __type(value, __u64);
} guarded SEC(".maps");

struct leaving_key {
    __u32 process;
    __u16 port; /* network byte order */
    __u16 padding;
};

/* Servers that end with an error: the processes and the ports of the listeners that end with them. The value is the
 * start of the process, since the kernel gives its number to another one day. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, struct leaving_key);
    __type(value, __u64);
} leaving SEC(".maps");

struct baton_address {
    __u8 bytes[16];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BATON_MAX_SERVICES);
    __type(key, struct baton_address);
    __type(value, __u32);
} vips SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct baton_agent_rules);
} rules SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BATON_AGENT_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} layout SEC(".maps");

static __always_inline void count_by(__u32 counter, __u64 amount)
{
    __u64 *value = bpf_map_lookup_elem(&counters, &counter);
    if (value)
        *value += amount;
}

static __always_inline void count(__u32 counter)
{
    count_by(counter, 1);
}

static __always_inline void tell(__u32 kind, const struct baton_connection_key *key, __u32 exit_code)
{
    struct baton_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return;
    event->kind = kind;
    event->exit_code = exit_code;
    event->time_ns = bpf_ktime_get_ns();
    event->key = *key;
    event->padding = 0;
    bpf_ringbuf_submit(event, 0);
}

#endif
