#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netpacket/packet.h>

#include "clinux.h"

#include <linux/if_tun.h>

static const int64_t second = 1000000000;

static int close_with_errno(int descriptor) {
    int saved = errno;
    close(descriptor);
    errno = saved;
    return -1;
}

/* ---- Errors ---- */

const char *clinux_error_name(int number) { return strerrorname_np(number); }
const char *clinux_error_text(int number) { return strerrordesc_np(number); }

/* ---- Descriptors for an event loop ---- */

int clinux_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int clinux_timerfd(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); }

int clinux_timerfd_arm(int timer, uint64_t nanoseconds) {
    struct itimerspec when = {
        .it_value = { .tv_sec = (time_t)(nanoseconds / (uint64_t)second),
                      .tv_nsec = (long)(nanoseconds % (uint64_t)second) },
    };
    return timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int clinux_epoll(void) { return epoll_create1(EPOLL_CLOEXEC); }

int clinux_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event event = { .data.u64 = token };
    if (events & CLINUX_READABLE) event.events |= EPOLLIN;
    if (events & CLINUX_WRITABLE) event.events |= EPOLLOUT;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}

int clinux_epoll_remove(int epoll, int descriptor) { return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL); }

static struct timespec timespec_of(int64_t nanoseconds) {
    struct timespec time = { .tv_sec = (time_t)(nanoseconds / second), .tv_nsec = (long)(nanoseconds % second) };
    return time;
}

int clinux_epoll_wait(int epoll, struct clinux_ready *ready, int capacity, int64_t timeout_nanoseconds) {
    struct epoll_event events[64];
    struct timespec timeout = timespec_of(timeout_nanoseconds < 0 ? 0 : timeout_nanoseconds);
    if (capacity > 64) capacity = 64;
    int count = epoll_pwait2(epoll, events, capacity, timeout_nanoseconds < 0 ? NULL : &timeout, NULL);
    for (int index = 0; index < count; index++) {
        ready[index].token = events[index].data.u64;
        ready[index].events = (events[index].events & EPOLLIN ? CLINUX_READABLE : 0) |
                              (events[index].events & EPOLLOUT ? CLINUX_WRITABLE : 0) |
                              (events[index].events & (EPOLLERR | EPOLLHUP) ? CLINUX_FAILED : 0);
    }
    return count;
}

int clinux_wait_readable(int descriptor, int64_t timeout_nanoseconds) {
    struct pollfd poll = { .fd = descriptor, .events = POLLIN };
    struct timespec timeout = timespec_of(timeout_nanoseconds < 0 ? 0 : timeout_nanoseconds);
    return ppoll(&poll, 1, timeout_nanoseconds < 0 ? NULL : &timeout, NULL);
}

/* ---- Process and thread ---- */

/* MCL_ONFAULT: reserved but untouched memory (thread stacks, arenas) is not brought in. */
int clinux_lock_memory(void) { return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT); }
int clinux_unlock_memory(void) { return munlockall(); }

int clinux_random(void *buffer, size_t count) {
    if (count > 256) {
        errno = EINVAL;
        return -1;
    }
    /* Up to 256 bytes come whole and uninterrupted once the pool is ready (random(7)); before that, EINTR is possible. */
    for (;;) {
        ssize_t got = getrandom(buffer, count, 0);
        if (got == (ssize_t)count) return 0;
        if (got < 0 && errno != EINTR) return -1;
    }
}

int clinux_unshare_network(void) { return unshare(CLONE_NEWNET); }
int clinux_join_network(int namespace_descriptor) { return setns(namespace_descriptor, CLONE_NEWNET); }

int clinux_thread_start(pthread_t *thread, size_t stack_bytes, int priority, void *(*body)(void *), void *context) {
    pthread_attr_t attributes;
    int result = pthread_attr_init(&attributes);
    if (result != 0) return result;
    if (stack_bytes > 0) result = pthread_attr_setstacksize(&attributes, stack_bytes);
    if (result == 0 && priority > 0) {
        struct sched_param parameters = { .sched_priority = priority };
        result = pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
        if (result == 0) result = pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
        if (result == 0) result = pthread_attr_setschedparam(&attributes, &parameters);
    }
    if (result == 0) result = pthread_create(thread, &attributes, body, context);
    pthread_attr_destroy(&attributes);
    return result;
}

int clinux_thread_promote(int priority) {
    struct sched_param parameters = { .sched_priority = priority };
    return pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters);
}

int clinux_thread_name(pthread_t thread, const char *name) { return pthread_setname_np(thread, name); }

/* ---- Network ---- */

int clinux_tun(const char *name) {
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL };
    if (strlen(name) >= IFNAMSIZ) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(request.ifr_name, name);
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tun < 0) return -1;
    return ioctl(tun, TUNSETIFF, &request) == 0 ? tun : close_with_errno(tun);
}

int clinux_netlink(int protocol) {
    int socket_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (socket_ < 0) return -1;
    int on = 1, buffer = 1 << 20;
    /* The kernel answers at once; the time-out only keeps a fault from hanging a daemon. */
    struct timeval timeout = { .tv_sec = 2 };
    struct sockaddr_nl self = { .nl_family = AF_NETLINK };
    setsockopt(socket_, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    if (setsockopt(socket_, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) != 0 ||
        setsockopt(socket_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) != 0 ||
        setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
        bind(socket_, (struct sockaddr *)&self, sizeof self) != 0)
        return close_with_errno(socket_);
    return socket_;
}

int clinux_raw_ip(int family, uint32_t mark) {
    int socket_ = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
    if (socket_ < 0) return -1;
    if (mark != 0 && setsockopt(socket_, SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0)
        return close_with_errno(socket_);
    return socket_;
}

ssize_t clinux_raw_send4(int socket_, const void *packet, size_t count, uint32_t destination_network_order) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = destination_network_order };
    return sendto(socket_, packet, count, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
}

ssize_t clinux_raw_send6(int socket_, const void *packet, size_t count, const void *destination) {
    struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
    memcpy(&to.sin6_addr, destination, sizeof to.sin6_addr);
    return sendto(socket_, packet, count, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
}

int clinux_packet_socket(void) { return socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }

int clinux_packet_membership(int socket_, uint32_t interface_index, const uint8_t *address, bool member) {
    struct packet_mreq request = {
        .mr_ifindex = (int)interface_index, .mr_type = PACKET_MR_MULTICAST, .mr_alen = 6,
    };
    memcpy(request.mr_address, address, 6);
    return setsockopt(socket_, SOL_PACKET, member ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, &request,
                      sizeof request);
}

ssize_t clinux_packet_send(int socket_, uint32_t interface_index, uint16_t ethertype, const uint8_t *destination,
                           const void *payload, size_t count) {
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ethertype), .sll_ifindex = (int)interface_index, .sll_halen = 6,
    };
    memcpy(to.sll_addr, destination, 6);
    return sendto(socket_, payload, count, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
}

int clinux_tcp_connect(const void *address, size_t count, uint16_t port_host_order)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(port_host_order)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port_host_order)};
    const struct sockaddr *name = count == 4 ? (struct sockaddr *)&ipv4 : (struct sockaddr *)&ipv6;
    socklen_t name_count = count == 4 ? sizeof(ipv4) : sizeof(ipv6);
    int number = socket(name->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (number < 0)
        return -1;
    if (count == 4)
        memcpy(&ipv4.sin_addr, address, 4);
    else
        memcpy(&ipv6.sin6_addr, address, 16);
    if (connect(number, name, name_count) == 0 || errno == EINPROGRESS)
        return number;
    count = errno;
    close(number);
    errno = count;
    return -1;
}
