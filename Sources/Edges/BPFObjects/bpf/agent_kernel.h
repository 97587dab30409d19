/* The few kernel types that the agent's programs read, by BTF relocation; and the kfunc that adopts. */
#ifndef BATON_AGENT_KERNEL_H
#define BATON_AGENT_KERNEL_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
    unsigned int inum;
};

struct net {
    struct ns_common ns;
};

typedef struct {
    struct net *net;
} possible_net_t;

struct in6_addr {
    union {
        __u8 u6_addr8[16];
        __be32 u6_addr32[4];
    } in6_u;
};

struct sock_common {
    __be32 skc_daddr;
    __be32 skc_rcv_saddr;
    __be16 skc_dport;
    __u16 skc_num;
    unsigned short skc_family;
    unsigned char skc_state;
    possible_net_t skc_net;
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
    struct sock_common __sk_common;
    __u16 sk_protocol;
};

struct inet_sock {
    struct sock sk;
    __be16 inet_sport;
};

struct task_struct {
    unsigned int flags;
    int exit_code;
};

#pragma clang attribute pop

/* include/net/tcp.h; passed by value to the kfunc, so its layout is the kernel's. */
struct bpf_tcp_req_attrs {
    __u32 rcv_tsval;
    __u32 rcv_tsecr;
    __u16 mss;
    __u8 rcv_wscale;
    __u8 snd_wscale;
    __u8 ecn_ok;
    __u8 wscale_ok;
    __u8 sack_ok;
    __u8 tstamp_ok;
    __u8 usec_ts_ok;
    __u8 reserved[3];
};

extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct bpf_tcp_req_attrs *attrs,
                                   int attrs__sz) __ksym;

enum {
    /* include/linux/sched.h */
    TASK_PF_EXITING = 0x4,
    /* The low bits of task_struct.exit_code, as of wait(2): the signal that ended the task. */
    TERMINATING_SIGNAL = 0x7f,
    /* include/net/tcp_states.h */
    STATE_ESTABLISHED = 1,
    STATE_SYN_RECV = 3,
    STATE_FIN_WAIT1 = 4,
    STATE_FIN_WAIT2 = 5,
    STATE_CLOSE = 7,
    STATE_CLOSE_WAIT = 8,
    STATE_LAST_ACK = 9,
    STATE_LISTEN = 10,
    FAMILY_INET = 2,
    FAMILY_INET6 = 10,
};

#endif
