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

typedef struct {
    int counter;
} atomic_t;

struct signal_struct {
    atomic_t live;
};

struct inode {
    unsigned short i_mode;
};

struct file {
    void *private_data;
    struct inode *f_inode;
};

/* Who holds a file: until 6.12 a plain count, from 6.13 on one that is 0 for a single holder (include/linux/file_ref.h). */
typedef struct {
    __s64 counter;
} atomic_long_t;

typedef struct {
    atomic_long_t refcnt;
} file_ref_t;

struct file___counted {
    atomic_long_t f_count;
};

struct file___referenced {
    file_ref_t f_ref;
};

struct fdtable {
    unsigned int max_fds;
    struct file **fd;
};

struct files_struct {
    struct fdtable *fdt;
};

struct nsproxy {
    struct net *net_ns;
};

struct socket {
    struct sock *sk;
};

struct task_struct {
    unsigned int flags;
    int exit_code;
    int tgid;
    __u64 start_time;
    struct task_struct *group_leader;
    struct signal_struct *signal;
    struct files_struct *files;
    struct nsproxy *nsproxy;
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
    /* include/uapi/linux/stat.h: only sockets of a protocol can be open files of this type */
    INODE_TYPE = 0170000,
    INODE_IS_SOCKET = 0140000,
    /* include/net/tcp_states.h */
    STATE_ESTABLISHED = 1,
    STATE_SYN_RECV = 3,
    STATE_FIN_WAIT1 = 4,
    STATE_FIN_WAIT2 = 5,
    STATE_TIME_WAIT = 6,
    STATE_CLOSE = 7,
    STATE_CLOSE_WAIT = 8,
    STATE_LAST_ACK = 9,
    STATE_LISTEN = 10,
    STATE_CLOSING = 11,
    FAMILY_INET = 2,
    FAMILY_INET6 = 10,
};

#endif
