/* What Swift's Glibc module lacks of Linux: GNU-only functions, ioctls with unions, and the kernel's netlink headers.
 *
 * Every function returns -1 (or NULL) with errno set on failure, as the call that it wraps does. Descriptors are made
 * close-on-exec. No function here keeps state.
 */
#ifndef BATON_CLINUX_H
#define BATON_CLINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>
#include <netinet/in.h> /* before linux/: the kernel's headers then leave out what glibc has defined */
#include <sys/socket.h>

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>

#pragma clang assume_nonnull begin

/* ---- Errors ---- */

/* Static text, safe from any thread: "EPERM" and "Operation not permitted". NULL for a number that means nothing. */
const char *_Nullable clinux_error_name(int number);
const char *_Nullable clinux_error_text(int number);

/* ---- Descriptors for an event loop ---- */

int clinux_eventfd(void);                                   /* nonblocking counter */
int clinux_timerfd(void);                                   /* nonblocking, CLOCK_MONOTONIC */
int clinux_timerfd_arm(int timer, uint64_t nanoseconds);    /* absolute; 0 disarms */

enum {
    CLINUX_READABLE = 1 << 0,
    CLINUX_WRITABLE = 1 << 1,
    CLINUX_FAILED = 1 << 2,     /* error or hang-up; always reported, never asked for */
};
struct clinux_ready {
    uint64_t token;
    uint32_t events;
};
int clinux_epoll(void);
int clinux_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t token);
int clinux_epoll_remove(int epoll, int descriptor);
/* At most 64 events in one call. A negative time-out waits for ever. */
int clinux_epoll_wait(int epoll, struct clinux_ready *ready, int capacity, int64_t timeout_nanoseconds);
/* ppoll of one descriptor: 1 readable, 0 time-out. A negative time-out waits for ever. */
int clinux_wait_readable(int descriptor, int64_t timeout_nanoseconds);

/* ---- Process and thread ---- */

int clinux_lock_memory(void);                               /* mlockall, current and future, pages as they are touched */
int clinux_unlock_memory(void);
int clinux_random(void *buffer, size_t count);              /* getrandom, at most 256 bytes; whole or -1 */
int clinux_unshare_network(void);
int clinux_join_network(int namespace_descriptor);          /* setns, CLONE_NEWNET */
/* A thread in SCHED_FIFO of the given priority, or an ordinary one for priority 0. Returns an error number, not -1. */
int clinux_thread_start(pthread_t *thread, size_t stack_bytes, int priority,
                        void *_Nullable (*_Nonnull body)(void *_Nullable), void *_Nullable context);
/* Puts the calling thread into SCHED_FIFO. Returns an error number. */
int clinux_thread_promote(int priority);
int clinux_thread_name(pthread_t thread, const char *name); /* at most 15 bytes; returns an error number */

/* ---- Network ---- */

int clinux_tun(const char *name);                           /* IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL */
int clinux_netlink(int protocol);                           /* with extended acknowledgements and a receive time-out */
int clinux_raw_ip(int family, uint32_t mark);               /* SOCK_RAW, IPPROTO_RAW: the header comes from the caller */
ssize_t clinux_raw_send4(int socket, const void *packet, size_t count, uint32_t destination_network_order);
ssize_t clinux_raw_send6(int socket, const void *packet, size_t count, const void *destination);
/* A TCP socket whose connection is being made, nonblocking; the address is 4 or 16 bytes in network byte order. */
int clinux_tcp_connect(const void *address, size_t count, uint16_t port_host_order);
int clinux_packet_socket(void);                             /* AF_PACKET, SOCK_DGRAM, receives nothing */
int clinux_packet_membership(int socket, uint32_t interface_index, const uint8_t *address, bool member);
ssize_t clinux_packet_send(int socket, uint32_t interface_index, uint16_t ethertype, const uint8_t *destination,
                           const void *payload, size_t count);

#pragma clang assume_nonnull end

#endif
