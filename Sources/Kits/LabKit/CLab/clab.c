#define _GNU_SOURCE
#include "clab.h"

#include <poll.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int place(posix_spawn_file_actions_t *actions, int descriptor, int target)
{
    /* dup2 onto itself would leave close-on-exec set: glibc's spawn clears it in that case. */
    return posix_spawn_file_actions_adddup2(actions, descriptor, target);
}

pid_t clab_spawn(const char *file, char *const *arguments, char *const *environment, int standard_input,
                 int standard_output, int standard_error, int new_session)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    pid_t child = -1;
    int error;

    if ((error = posix_spawn_file_actions_init(&actions)) != 0)
        return -error;
    if ((error = posix_spawnattr_init(&attributes)) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -error;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              (new_session ? POSIX_SPAWN_SETSID : 0));
    error = place(&actions, standard_input, 0);
    if (error == 0)
        error = place(&actions, standard_output, 1);
    if (error == 0)
        error = place(&actions, standard_error, 2);
    if (error == 0)
        error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (error == 0)
        error = posix_spawnp(&child, file, &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error == 0 ? child : -error;
}

int clab_pidfd_open(pid_t process)
{
    return (int)syscall(SYS_pidfd_open, process, 0);
}

int clab_pidfd_send_signal(int pidfd, int signal)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int clab_pidfd_getfd(int pidfd, int descriptor)
{
    return (int)syscall(SYS_pidfd_getfd, pidfd, descriptor, 0);
}

int clab_enter_network(int descriptor)
{
    return setns(descriptor, CLONE_NEWNET);
}

int clab_set_link(const char *name, int up)
{
    struct ifreq request;
    int result, error, descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -1;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    result = ioctl(descriptor, SIOCGIFFLAGS, &request);
    if (result == 0) {
        if (up)
            request.ifr_flags |= IFF_UP;
        else
            request.ifr_flags &= ~IFF_UP;
        result = ioctl(descriptor, SIOCSIFFLAGS, &request);
    }
    error = errno;
    close(descriptor);
    errno = error;
    return result;
}

int clab_mount_bpf(const char *path)
{
    return mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700");
}

int clab_unmount(const char *path)
{
    return umount2(path, UMOUNT_NOFOLLOW);
}

int clab_pin_xdp_pass(const char *path, int takes_fragments)
{
    struct bpf_insn instructions[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attributes;
    int program, result;

    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insns = (uint64_t)(uintptr_t)instructions;
    attributes.insn_cnt = sizeof instructions / sizeof instructions[0];
    attributes.license = (uint64_t)(uintptr_t)"Dual MIT/GPL";
    attributes.prog_flags = takes_fragments ? BPF_F_XDP_HAS_FRAGS : 0;
    program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
    if (program < 0)
        return -errno;
    memset(&attributes, 0, sizeof attributes);
    attributes.pathname = (uint64_t)(uintptr_t)path;
    attributes.bpf_fd = (uint32_t)program;
    result = (int)syscall(SYS_bpf, BPF_OBJ_PIN, &attributes, sizeof attributes) < 0 ? -errno : 0;
    close(program);
    return result;
}

int clab_pipe(int *ends)
{
    return pipe2(ends, O_CLOEXEC);
}

int clab_epoll_create(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

int clab_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t tag)
{
    static const int operations[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
    struct epoll_event event = {.events = events, .data = {.u64 = tag}};

    return epoll_ctl(epoll, operations[operation], descriptor, &event);
}

int clab_epoll_wait(int epoll, uint64_t *tags, uint32_t *events, int capacity, int timeout_ms)
{
    struct epoll_event ready[256];
    int count = epoll_wait(epoll, ready, capacity < 256 ? capacity : 256, timeout_ms);

    for (int index = 0; index < count; index++) {
        tags[index] = ready[index].data.u64;
        events[index] = ready[index].events;
    }
    return count;
}

int clab_tcp_connect(uint32_t address, uint16_t port, int receive_buffer, int mss)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(address)}};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -errno;
    if (receive_buffer > 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (mss > 0)
        setsockopt(descriptor, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss);
    if (connect(descriptor, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        int error = errno;

        close(descriptor);
        return -error;
    }
    return descriptor;
}

int clab_frame_socket(const char *interface_name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET};
    /* Protocol 0: it receives nothing. */
    int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -errno;
    address.sll_ifindex = (int)if_nametoindex(interface_name);
    if (address.sll_ifindex == 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;

        close(descriptor);
        return -error;
    }
    return descriptor;
}

int clab_udp_connect(uint32_t address, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(address)}};
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -errno;
    if (connect(descriptor, (struct sockaddr *)&to, sizeof to) != 0) {
        int error = errno;

        close(descriptor);
        return -error;
    }
    return descriptor;
}

int clab_udp_server(uint32_t address, uint16_t port)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(address)}};
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -errno;
    if (bind(descriptor, (struct sockaddr *)&own, sizeof own) != 0) {
        int error = errno;

        close(descriptor);
        return -error;
    }
    return descriptor;
}

int clab_udp_answer(int descriptor, const void *answer, size_t count, int timeout_ms)
{
    char question;
    struct pollfd watch = {.fd = descriptor, .events = POLLIN};
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    ssize_t received;

    if (poll(&watch, 1, timeout_ms) <= 0)
        return 0;
    /* The bytes are of no interest; with MSG_TRUNC the length is that of the datagram. */
    received = recvfrom(descriptor, &question, 1, MSG_TRUNC, (struct sockaddr *)&from, &length);
    if (received < 0)
        return -errno;
    if (sendto(descriptor, answer, count, 0, (struct sockaddr *)&from, length) < 0)
        return -errno;
    return (int)received;
}

int clab_socket_error(int descriptor)
{
    int error = 0;
    socklen_t length = sizeof error;

    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

/* Of either family. */
static uint16_t port_of(const struct sockaddr_storage *address)
{
    switch (address->ss_family) {
    case AF_INET:
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    case AF_INET6:
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    }
    return 0;
}

uint16_t clab_local_port(int descriptor)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;

    return getsockname(descriptor, (struct sockaddr *)&address, &length) == 0 ? port_of(&address) : 0;
}

uint16_t clab_tcp_remote_port(int descriptor)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;

    if (clab_tcp_bytes_received(descriptor) < 0)
        return 0;
    return getpeername(descriptor, (struct sockaddr *)&address, &length) == 0 ? port_of(&address) : 0;
}

int64_t clab_tcp_bytes_received(int descriptor)
{
    struct tcp_info information;
    socklen_t length = sizeof information;

    memset(&information, 0, sizeof information);
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &information, &length) != 0)
        return -1;
    if (length < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof information.tcpi_bytes_received)
        return -1;
    return (int64_t)information.tcpi_bytes_received;
}
