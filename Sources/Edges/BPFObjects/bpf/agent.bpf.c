/* The agent's data plane on a back-end: adopt, follow, reflect, fence, guard.
 *
 *   agent_tun      tc ingress of the agent's TUN device: adopts a connection, lets its journal in
 *   agent_ingress  tc ingress of the NIC: follows SND.UNA, clamps ACKs that run ahead of the adopted socket
 *   agent_egress   tc egress of the NIC: lease and fence, guard, catch-up
 *   agent_guard    tp_btf/inet_sock_set_state: notes the connections of a dying application
 *   agent_exit     tp_btf/sched_process_exit: notes the servers that end with an error
 *
 * Source: the project's own design; the kernel functions relied on are named where they matter.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#define in6_addr uapi_in6_addr
#include <linux/ipv6.h>
#undef in6_addr
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "contract.h"
#include "agent_kernel.h"
#include "agent_maps.h"
#include "agent_segment.h"
#include "agent_reflect.h"
#include "agent_exit.h"

char LICENSE[] SEC("license") = "GPL";

/* ---- Adopt --------------------------------------------------------------------------------------------------- */

/* Programs of both directions write them, on any CPU. */
static __always_inline void set_flag(struct baton_connection *connection, __u32 flag)
{
    __sync_fetch_and_or(&connection->flags, flag);
}

static __always_inline int is_adopting_ack(const struct segment *segment, const struct baton_connection *connection)
{
    return connection->state == BATON_CONNECTION_ADOPTING && segment->payload_bytes == 0 &&
           (segment->flags & (FLAG_ACK | FLAG_SYN | FLAG_RST | FLAG_FIN)) == FLAG_ACK &&
           segment->sequence == connection->irs + 1 && segment->acknowledgment == connection->iss + 1;
}

/* TS.Recent starts at the adopting ACK's own TSval: the client's clock may have gone on since that was built, and a
 * child that drops its first segment by PAWS would stay in SYN_RECV for ever (tcp_validate_incoming in
 * tcp_child_process). */
static __always_inline int assign(struct __sk_buff *skb, const struct segment *segment, struct bpf_sock *found,
                                  struct baton_connection *connection)
{
    struct bpf_tcp_req_attrs attributes = {
        .rcv_tsval = segment->tsval,
        .rcv_tsecr = connection->server_tsval,
        .mss = connection->mss,
        .rcv_wscale = connection->rcv_wscale,
        .snd_wscale = connection->snd_wscale,
        .wscale_ok = !!(connection->flags & BATON_CONNECTION_WSCALE),
        .sack_ok = !!(connection->flags & BATON_CONNECTION_SACK),
        .tstamp_ok = !!(connection->flags & BATON_CONNECTION_TIMESTAMPS),
    };
    struct sock *listener = (struct sock *)bpf_skc_to_tcp_sock(found);

    if (!listener || bpf_sk_assign_tcp_reqsk(skb, listener, &attributes, sizeof(attributes))) {
        count(BATON_COUNT_ADOPTIONS_REFUSED);
        return TC_ACT_SHOT;
    }
    set_flag(connection, BATON_CONNECTION_ASSIGNED);
    return TC_ACT_OK;
}

/* The client has nothing of what is regenerated, and nobody wants to look at it first. */
static __always_inline int is_caught_up(const struct baton_connection *connection)
{
    return connection->snd_una == 0 && !(connection->flags & BATON_CONNECTION_CHECKED);
}

/* The socket is there. From here on its segments are the connection's. */
static __always_inline void confirm(struct baton_connection *connection, const struct baton_connection_key *key)
{
    __u32 next;

    if (connection->flags & BATON_CONNECTION_ADOPTED)
        return;
    set_flag(connection, BATON_CONNECTION_ADOPTED);
    connection->adopted_ns = bpf_ktime_get_ns();
    /* The socket's first segment may be on its way out meanwhile, on another CPU: it must not be set back. */
    next = is_caught_up(connection) ? BATON_CONNECTION_LIVE : BATON_CONNECTION_CATCHING_UP;
    if (__sync_val_compare_and_swap(&connection->state, BATON_CONNECTION_ADOPTING, next) ==
            BATON_CONNECTION_ADOPTING &&
        next == BATON_CONNECTION_LIVE)
        connection->live_ns = connection->adopted_ns;
    count(BATON_COUNT_ADOPTIONS);
    tell(BATON_EVENT_ADOPTED, key, 0);
}

static __always_inline void fill_tuple(struct bpf_sock_tuple *tuple, const struct segment *segment)
{
    if (segment->is_ipv6) {
        __builtin_memcpy(tuple->ipv6.saddr, segment->key.client_address, 16);
        __builtin_memcpy(tuple->ipv6.daddr, segment->key.service_address, 16);
        tuple->ipv6.sport = segment->key.client_port;
        tuple->ipv6.dport = segment->key.service_port;
    } else {
        __builtin_memcpy(&tuple->ipv4.saddr, segment->key.client_address + 12, 4);
        __builtin_memcpy(&tuple->ipv4.daddr, segment->key.service_address + 12, 4);
        tuple->ipv4.sport = segment->key.client_port;
        tuple->ipv4.dport = segment->key.service_port;
    }
}

/* Its application has closed it, and so has its client, who uses the port again: the director sent that connection
 * elsewhere. */
static __always_inline int is_rest_of_a_connection(__u32 state)
{
    return state == STATE_TIME_WAIT || state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2 || state == STATE_CLOSING
        || state == STATE_LAST_ACK;
}

static __always_inline int admit(struct __sk_buff *skb, const struct segment *segment, struct bpf_sock *found,
                                 struct baton_connection *connection)
{
    if (!(connection->flags & BATON_CONNECTION_ASSIGNED) && is_rest_of_a_connection(found->state)) {
        set_flag(connection, BATON_CONNECTION_OBSTRUCTED);
        count(BATON_COUNT_REPLAY_DROPPED);
        return TC_ACT_SHOT;
    }
    switch (found->state) {
    case STATE_LISTEN:
        if (is_adopting_ack(segment, connection) && !(connection->flags & BATON_CONNECTION_ADOPTED))
            return assign(skb, segment, found, connection);
        count(BATON_COUNT_REPLAY_DROPPED);
        return TC_ACT_SHOT;
    case STATE_ESTABLISHED:
    case STATE_CLOSE_WAIT:
    case STATE_FIN_WAIT1:
    case STATE_FIN_WAIT2:
    case STATE_LAST_ACK:
        /* A socket that is none of our making has this 4-tuple: never splice into it. */
        if (!(connection->flags & BATON_CONNECTION_ASSIGNED)) {
            count(BATON_COUNT_ADOPTIONS_REFUSED);
            return TC_ACT_SHOT;
        }
        confirm(connection, &segment->key);
        return TC_ACT_OK;
    }
    count(BATON_COUNT_REPLAY_DROPPED);
    return TC_ACT_SHOT;
}

SEC("tc")
int agent_tun(struct __sk_buff *skb)
{
    struct segment segment;
    struct bpf_sock_tuple tuple = {};
    struct baton_connection *connection;
    struct bpf_sock *found;
    int verdict;

    if (parse_segment(&segment, skb, 0, INCOMING) != PARSED)
        return TC_ACT_SHOT;
    connection = bpf_map_lookup_elem(&connections, &segment.key);
    if (!connection)
        return TC_ACT_SHOT;
    fill_tuple(&tuple, &segment);
    found = bpf_skc_lookup_tcp(skb, &tuple, segment.is_ipv6 ? sizeof(tuple.ipv6) : sizeof(tuple.ipv4),
                               BPF_F_CURRENT_NETNS, 0);
    if (!found) {
        count(BATON_COUNT_ADOPTIONS_REFUSED);
        return TC_ACT_SHOT;
    }
    verdict = admit(skb, &segment, found, connection);
    bpf_sk_release(found);
    return verdict;
}

/* ---- Follow and clamp ---------------------------------------------------------------------------------------- */

/* The client may be ahead of the adopted socket by a journal (16 MiB) and a window, behind it by what it sends again.
 * That leaves a guesser one in 32 of the sequence circle. */
#define CLIENT_DISTANCE_MAX (1u << 26)

/* Whether the adopted socket has sent yet. */
static __always_inline int has_spoken(const struct baton_connection *connection)
{
    return connection->local_ack || connection->local_right_edge;
}

static __always_inline int is_far_from_client(const struct baton_connection *connection, __u32 sequence)
{
    __u32 low = has_spoken(connection) ? connection->local_ack : connection->irs + 1;
    __u32 high = has_spoken(connection) ? connection->local_right_edge : low;

    return sequence - low + CLIENT_DISTANCE_MAX > high - low + 2 * CLIENT_DISTANCE_MAX;
}

/* Takes in what an ACK says, and tells whether it can be the client's. The dead server cannot have sent beyond the
 * right edge, so nobody can have received that; and a segment far from where the client's stream is comes from somebody
 * who guesses (RFC 5961 5). Such a frame must neither be believed nor clamped into one that TCP would believe. */
static __always_inline int follow(struct baton_connection *connection, const struct segment *segment)
{
    __s64 place = place_of(connection, connection->snd_una, segment->acknowledgment);
    __s64 edge = place + ((__u64)segment->window << (connection->snd_wscale & 15));
    /* A FIN takes a place of its own behind a closed window; windows are told in units of the scale. */
    __s64 limit = (__s64)connection->right_edge + (1 << (connection->snd_wscale & 15)) + 1;

    if (!(segment->flags & FLAG_ACK))
        return 1;
    if (place > limit && place > (__s64)connection->snd_nxt)
        return 0;
    if (is_far_from_client(connection, segment->sequence))
        return 0;
    if (place < (__s64)connection->snd_una)
        return 1;
    connection->snd_una = place;
    if (edge > (__s64)connection->right_edge)
        connection->right_edge = edge;
    if (segment->has_timestamps && (__s32)(segment->tsval - connection->client_tsval) > 0)
        connection->client_tsval = segment->tsval;
    return 1;
}

/* An ACK above SND.NXT is ignored by tcp_ack(), with the data that comes with it, and the connection deadlocks: late
 * frames of the dead server may have taken the client further than the adopted socket is. */
static __always_inline int clamp(struct __sk_buff *skb, const struct segment *segment,
                                 struct baton_connection *connection)
{
    __u32 tcp = segment->tcp_offset;
    __be32 old_ack = bpf_htonl(segment->acknowledgment);
    __u64 place = connection->snd_nxt;
    __be32 new_ack = bpf_htonl(connection->iss + 1 + (__u32)place);
    __be16 old_window = bpf_htons(segment->window);
    __be16 new_window = bpf_htons(window_field(connection, place));
    __u32 checksum = tcp + offsetof(struct tcphdr, check);

    connection->clamped_acks++;
    count(BATON_COUNT_CLAMPED);
    if (bpf_l4_csum_replace(skb, checksum, old_ack, new_ack, 4) ||
        bpf_l4_csum_replace(skb, checksum, old_window, new_window, 2) ||
        bpf_skb_store_bytes(skb, tcp + offsetof(struct tcphdr, ack_seq), &new_ack, 4, 0) ||
        bpf_skb_store_bytes(skb, tcp + offsetof(struct tcphdr, window), &new_window, 2, 0))
        return TC_ACT_SHOT;
    return TC_ACT_OK;
}

/* A copy of the forwarding `duplicate` comes from the slot's mark, and nftables drops it unless the slot is this
 * machine's own. The tap has seen it; an adopted connection has its frames whoever owns the slot yet. */
static __always_inline int unmark(struct __sk_buff *skb)
{
    const __u8 prefix[4] = BATON_MARK_PREFIX;
    const __u8 other = 0;
    struct ethhdr *link = (void *)(long)skb->data;

    if ((void *)(link + 1) > (void *)(long)skb->data_end || __builtin_memcmp(link->h_source, prefix, sizeof(prefix)))
        return 1;
    return !bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_source) + 3, &other, 1, 0);
}

/* While the journal is still being fed, the client is ahead of what the adopted socket takes. A pure ACK from beyond
 * its window would be dropped whole (tcp_sequence()), and the reply would stall; at the window's edge it counts. Not at
 * what the socket expects: an ACK below one that it has seen changes no window (tcp_may_update_window()), and the edge
 * only ever rises. Once the client has been seen within the window, it is as with any connection: whoever guesses has
 * to hit the window. */
static __always_inline int draw_in(struct __sk_buff *skb, const struct segment *segment,
                                   const struct baton_connection *connection)
{
    __be32 old_sequence = bpf_htonl(segment->sequence);
    __be32 new_sequence = bpf_htonl(connection->local_right_edge);
    __u32 tcp = segment->tcp_offset;

    return bpf_l4_csum_replace(skb, tcp + offsetof(struct tcphdr, check), old_sequence, new_sequence, 4) ||
           bpf_skb_store_bytes(skb, tcp + offsetof(struct tcphdr, seq), &new_sequence, 4, 0);
}

/* Whether a segment without payload has to be drawn in. */
static __always_inline int is_ahead(struct baton_connection *connection, __u32 sequence, int is_empty)
{
    if (connection->flags & BATON_CONNECTION_IN_STEP || !has_spoken(connection))
        return 0;
    if ((__s32)(sequence - connection->local_right_edge) > 0)
        return is_empty;
    if ((__s32)(sequence - connection->local_ack) >= 0)
        set_flag(connection, BATON_CONNECTION_IN_STEP);
    return 0;
}

static __always_inline int receive(struct __sk_buff *skb, const struct segment *segment,
                                   struct baton_connection *connection)
{
    int is_empty = segment->payload_bytes == 0 && !(segment->flags & (FLAG_FIN | FLAG_SYN | FLAG_RST));

    if (!follow(connection, segment))
        return TC_ACT_SHOT;
    switch (connection->state) {
    case BATON_CONNECTION_ADOPTING:
    case BATON_CONNECTION_REFUSED:
        return TC_ACT_SHOT; /* the tap has seen it; no socket may */
    case BATON_CONNECTION_CATCHING_UP:
        if (is_empty)
            return TC_ACT_SHOT; /* reflections speak for the client; a window of 0 would only stop them */
        break;
    }
    if (skb->pkt_type != PACKET_HOST && bpf_skb_change_type(skb, PACKET_HOST))
        return TC_ACT_SHOT;
    if (!unmark(skb))
        return TC_ACT_SHOT;
    if (!(segment->flags & FLAG_ACK))
        return TC_ACT_OK;
    if (is_ahead(connection, segment->sequence, is_empty) && draw_in(skb, segment, connection))
        return TC_ACT_SHOT;
    if (place_of(connection, connection->snd_una, segment->acknowledgment) > (__s64)connection->snd_nxt)
        return clamp(skb, segment, connection);
    return TC_ACT_OK;
}

SEC("tc")
int agent_ingress(struct __sk_buff *skb)
{
    struct segment segment;
    struct baton_connection *connection;
    int parsed;

    if (skb->mark == REFLECTED_MARK) {
        skb->mark = 0;
        return TC_ACT_OK;
    }
    parsed = parse_segment(&segment, skb, ETHERNET_BYTES, INCOMING);
    /* It could reach a socket past all that is held back here: a SYN in fragments makes the listener answer in the
     * middle of an adoption. No director passes such frames on. */
    if (parsed == UNREADABLE && bpf_map_lookup_elem(&vips, segment.key.service_address))
        return TC_ACT_SHOT;
    if (parsed != PARSED)
        return TC_ACT_OK;
    connection = bpf_map_lookup_elem(&connections, &segment.key);
    if (!connection)
        return TC_ACT_OK;
    return receive(skb, &segment, connection);
}

/* ---- Fence, guard, catch up ---------------------------------------------------------------------------------- */

static __always_inline int may_speak(void)
{
    __u32 zero = 0;
    struct baton_agent_rules *rule = bpf_map_lookup_elem(&rules, &zero);

    if (!rule || rule->fenced)
        return 0;
    return rule->lease_until_ns == ~0ull || bpf_ktime_get_ns() < rule->lease_until_ns;
}

static __always_inline void go_live(struct baton_connection *connection, const struct baton_connection_key *key)
{
    connection->state = BATON_CONNECTION_LIVE;
    connection->live_ns = bpf_ktime_get_ns();
    tell(BATON_EVENT_LIVE, key, 0);
}

static __always_inline int refuse(struct baton_connection *connection, const struct baton_connection_key *key)
{
    connection->state = BATON_CONNECTION_REFUSED;
    tell(BATON_EVENT_REPLY_SHORTER, key, 0);
    return TC_ACT_SHOT;
}

static __always_inline void note_progress(struct baton_connection *connection, const struct segment *segment,
                                          __s64 end)
{
    connection->local_ack = segment->acknowledgment;
    connection->local_right_edge =
        segment->acknowledgment + ((__u32)segment->window << (connection->rcv_wscale & 15));
    if (end > (__s64)connection->snd_nxt)
        connection->snd_nxt = end;
}

static __always_inline int catch_up(struct __sk_buff *skb, const struct segment *segment,
                                    struct baton_connection *connection, __s64 end)
{
    __s64 una = connection->snd_una;

    if (segment->flags & FLAG_RST)
        return refuse(connection, &segment->key); /* the application gave up in the middle of what the client has */
    if (segment->payload_bytes == 0 && !(segment->flags & FLAG_FIN))
        return TC_ACT_SHOT; /* an ACK below SND.UNA: nothing in it for the client */
    if (connection->first_reply_ns == 0)
        connection->first_reply_ns = bpf_ktime_get_ns();
    /* The agent sends what it was given, once it has judged it, and it comes by here again. */
    if (connection->flags & BATON_CONNECTION_CHECKED) {
        if (!bpf_map_lookup_elem(&released, &segment->key))
            return bpf_redirect(tun_interface, 0);
        __sync_fetch_and_and(&connection->flags, ~BATON_CONNECTION_CHECKED);
    }
    if (end > una) {
        go_live(connection, &segment->key);
        return TC_ACT_OK;
    }
    if (segment->flags & FLAG_FIN && end < una)
        return refuse(connection, &segment->key);
    connection->caught_up_bytes += segment->payload_bytes;
    if (end == una)
        go_live(connection, &segment->key);
    return reflect(skb, segment, connection, end);
}

static __always_inline int send(struct __sk_buff *skb, const struct segment *segment,
                                struct baton_connection *connection)
{
    __s64 start = place_of(connection, connection->snd_nxt, segment->sequence);
    __s64 end = start + segment->payload_bytes + (segment->flags & FLAG_FIN ? 1 : 0);

    switch (connection->state) {
    case BATON_CONNECTION_REFUSED:
        return TC_ACT_SHOT;
    case BATON_CONNECTION_ADOPTING:
        /* Without our adopting ACK in it this is the stack's RST, or a socket that is none of our making. */
        if (segment->flags & FLAG_RST || !(connection->flags & BATON_CONNECTION_ASSIGNED)) {
            count(BATON_COUNT_RST_GUARDED);
            return TC_ACT_SHOT;
        }
        /* A server that speaks first may be faster than our confirmation. */
        if (is_caught_up(connection))
            go_live(connection, &segment->key);
        else
            connection->state = BATON_CONNECTION_CATCHING_UP;
        break;
    }
    if (!(segment->flags & FLAG_RST))
        note_progress(connection, segment, end);
    if (connection->state == BATON_CONNECTION_CATCHING_UP)
        return catch_up(skb, segment, connection, end);
    return TC_ACT_OK;
}

static __always_inline int is_agents_own(const struct __sk_buff *skb)
{
    return agent_mark && skb->mark == agent_mark;
}

SEC("tc")
int agent_egress(struct __sk_buff *skb)
{
    struct segment segment;
    struct baton_connection *connection;
    int parsed = parse_segment(&segment, skb, ETHERNET_BYTES, OUTGOING);

    if (parsed == NOT_IP || !bpf_map_lookup_elem(&vips, segment.key.service_address))
        return TC_ACT_OK;
    if (!may_speak()) {
        count(BATON_COUNT_FENCED);
        return TC_ACT_SHOT;
    }
    if (parsed != PARSED)
        return TC_ACT_OK;
    if ((segment.flags & (FLAG_SYN | FLAG_ACK)) == (FLAG_SYN | FLAG_ACK)) {
        /* A listener answers a SYN: the port pair is a new connection's, whatever is remembered of an old one. */
        bpf_map_delete_elem(&guarded, &segment.key);
        bpf_map_delete_elem(&connections, &segment.key);
        return TC_ACT_OK;
    }
    if (!is_agents_own(skb) && bpf_map_lookup_elem(&guarded, &segment.key)) {
        count(BATON_COUNT_GUARDED);
        return TC_ACT_SHOT;
    }
    connection = bpf_map_lookup_elem(&connections, &segment.key);
    return connection ? send(skb, &segment, connection) : TC_ACT_OK;
}

/* ---- Guard --------------------------------------------------------------------------------------------------- */

static __always_inline int read_key(struct baton_connection_key *key, struct sock *sk)
{
    struct sock_common *common = &sk->__sk_common;

    __builtin_memset(key, 0, sizeof(*key));
    if (common->skc_family == FAMILY_INET) {
        ipv4_as_ipv6(key->client_address, common->skc_daddr);
        ipv4_as_ipv6(key->service_address, common->skc_rcv_saddr);
    } else if (common->skc_family == FAMILY_INET6) {
        BPF_CORE_READ_INTO(&key->client_address, common, skc_v6_daddr.in6_u.u6_addr8);
        BPF_CORE_READ_INTO(&key->service_address, common, skc_v6_rcv_saddr.in6_u.u6_addr8);
    } else {
        return 0;
    }
    key->client_port = common->skc_dport;
    /* Not skc_num: a socket that is closed at once has given its port back by now (tcp_set_state). */
    key->service_port = BPF_CORE_READ((struct inet_sock *)sk, inet_sport);
    return 1;
}

/* close(2) of a connection that the other side has not closed; what a peer's FIN or RST does is not in here. */
static __always_inline int is_local_close(int old_state, int new_state)
{
    if (old_state != STATE_ESTABLISHED && old_state != STATE_CLOSE_WAIT)
        return 0;
    return new_state == STATE_FIN_WAIT1 || new_state == STATE_LAST_ACK || new_state == STATE_CLOSE;
}

/* inet_sk_set_state() runs this in the closing task, before the FIN or RST is built (tcp_close, tcp_disconnect). */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(agent_guard, struct sock *sk, int old_state, int new_state)
{
    struct baton_connection_key key;
    struct task_struct *task;
    __u64 now;
    int failure;

    if (sk->sk_protocol != IPPROTO_TCP)
        return 0;
    if (own_netns_inode && sk->__sk_common.skc_net.net->ns.inum != own_netns_inode)
        return 0;
    if (!read_key(&key, sk))
        return 0;
    task = bpf_get_current_task_btf();
    failure = failure_of(task);
    if (old_state == STATE_LISTEN && new_state == STATE_CLOSE) {
        tell(BATON_EVENT_LISTENER_CLOSED, &key, failure);
        return 0;
    }
    if (!bpf_map_lookup_elem(&vips, key.service_address))
        return 0;
    if (new_state == STATE_SYN_RECV || new_state == STATE_ESTABLISHED) {
        bpf_map_delete_elem(&guarded, &key); /* the port pair is a new connection's now */
        return 0;
    }
    if (is_local_close(old_state, new_state) && is_crash(task, failure, key.service_port)) {
        now = bpf_ktime_get_ns();
        bpf_map_update_elem(&guarded, &key, &now, BPF_ANY);
        tell(BATON_EVENT_APPLICATION_CRASHED, &key, failure);
    }
    if (new_state == STATE_CLOSE && old_state != STATE_LISTEN && bpf_map_lookup_elem(&connections, &key))
        tell(BATON_EVENT_CLOSED, &key, 0);
    return 0;
}

/* do_exit() runs this while the task still has its files: what they are cannot be asked any more when they are closed,
 * and connections are closed before the listener that they came from (task_work_run() takes the last one first). */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(agent_exit, struct task_struct *task)
{
    struct leaving_files files;

    if (!is_failing_server_candidate(task))
        return 0;
    files.process = task->tgid;
    files.started = start_of(task);
    files.descriptors = BPF_CORE_READ(task, files, fdt, fd);
    bpf_loop(BPF_CORE_READ(task, files, fdt, max_fds), note_listener, &files, 0);
    return 0;
}
