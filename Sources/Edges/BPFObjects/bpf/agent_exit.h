/* What an end of a process means: on purpose, or a crash (docs/design/0008-crashed-applications.md). */
#ifndef BATON_AGENT_EXIT_H
#define BATON_AGENT_EXIT_H

/* The exit code of a dying task, as of wait(2); 0 where it lives, or ends as it was asked to. SIGHUP, SIGINT and SIGTERM
 * ask a process to end: who does not handle them has ended as asked (systemd.service(5) calls it clean, too). */
static __always_inline int failure_of(struct task_struct *task)
{
    int code;

    if (!(task->flags & TASK_PF_EXITING))
        return 0;
    code = task->exit_code;
    switch (code & TERMINATING_SIGNAL) {
    case 1:  /* SIGHUP */
    case 2:  /* SIGINT */
    case 15: /* SIGTERM */
        return 0;
    }
    return code;
}

static __always_inline __u64 start_of(struct task_struct *task)
{
    return BPF_CORE_READ(task, group_leader, start_time);
}

/* A signal is no choice of the application's. A status of its own is one: a child that leaves so (sshd after a refused
 * login, say) has closed on purpose, and goes on to be heard; but where the service's listener ends with the process,
 * the application itself has failed. */
static __always_inline int is_crash(struct task_struct *task, int failure, __be16 port)
{
    struct leaving_key key = {.process = task->tgid, .port = port};
    __u64 *started;

    if (failure & TERMINATING_SIGNAL)
        return 1;
    if (!failure)
        return 0;
    started = bpf_map_lookup_elem(&leaving, &key);
    return started && *started == start_of(task);
}

struct leaving_files {
    struct file **descriptors;
    __u64 started;
    __u32 process;
};

/* A whole process (not one of its threads) that ends with a status other than 0, in our namespace. */
static __always_inline int is_failing_server_candidate(struct task_struct *task)
{
    int failure = failure_of(task);

    if (!failure || failure & TERMINATING_SIGNAL)
        return 0;
    if (BPF_CORE_READ(task, signal, live.counter) > 0)
        return 0;
    return !own_netns_inode || BPF_CORE_READ(task, nsproxy, net_ns, ns.inum) == own_netns_inode;
}

/* Nobody else has this file: it is closed with the process. */
static __always_inline int is_sole_holder(struct file *file)
{
    if (bpf_core_field_exists(struct file___referenced, f_ref))
        return BPF_CORE_READ((struct file___referenced *)file, f_ref.refcnt.counter) == 0;
    return BPF_CORE_READ((struct file___counted *)file, f_count.counter) == 1;
}

static long note_listener(__u32 number, struct leaving_files *files)
{
    struct leaving_key key = {.process = files->process};
    struct file *file = 0;
    struct socket *socket;
    struct sock *sk;

    if (bpf_probe_read_kernel(&file, sizeof(file), &files->descriptors[number]) || !file)
        return 0;
    if ((BPF_CORE_READ(file, f_inode, i_mode) & INODE_TYPE) != INODE_IS_SOCKET || !is_sole_holder(file))
        return 0;
    socket = BPF_CORE_READ(file, private_data);
    sk = BPF_CORE_READ(socket, sk);
    if (!sk || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP ||
        BPF_CORE_READ(sk, __sk_common.skc_state) != STATE_LISTEN)
        return 0;
    key.port = BPF_CORE_READ((struct inet_sock *)sk, inet_sport);
    bpf_map_update_elem(&leaving, &key, &files->started, BPF_ANY);
    return 0;
}

#endif
