/* What the lab needs of Linux and Swift's Glibc module does not have: pidfds, namespaces, epoll, spawning. */
#ifndef CLAB_H
#define CLAB_H

#include <stdint.h>
#include <sys/types.h>

/* Starts a program found on the path; signals at default, none blocked, descriptors above 2 closed.
 * Returns the process id, or the negative error number. */
pid_t clab_spawn(const char *_Nonnull file, char *_Nullable const *_Nonnull arguments,
                 char *_Nullable const *_Nonnull environment, int standard_input, int standard_output,
                 int standard_error, int new_session);

int clab_pidfd_open(pid_t process);
int clab_pidfd_send_signal(int pidfd, int signal);
/* Copies a descriptor of another process into this one. */
int clab_pidfd_getfd(int pidfd, int descriptor);

/* Moves the calling thread into the network namespace that `descriptor` stands for. */
int clab_enter_network(int descriptor);

/* Sets an interface of the calling thread's namespace up or down (SIOCSIFFLAGS). */
int clab_set_link(const char *_Nonnull name, int up);

int clab_mount_bpf(const char *_Nonnull path);
int clab_unmount(const char *_Nonnull path);

/* A raw socket (AF_PACKET) bound to an interface of the calling thread's namespace: what is written to it leaves as a
 * frame. Returns the negative error number on failure. */
int clab_frame_socket(const char *_Nonnull interface_name);
/* A UDP/IPv4 socket connected to an address, in host byte order. Returns the negative error number on failure. */
int clab_udp_connect(uint32_t address, uint16_t port);
/* A UDP/IPv4 socket bound to an address, in host byte order. Returns the negative error number on failure. */
int clab_udp_server(uint32_t address, uint16_t port);
/* Waits for a datagram and answers it. Returns its length, 0 when none came, or the negative error number. */
int clab_udp_answer(int descriptor, const void *_Nonnull answer, size_t count, int timeout_ms);

/* Loads an XDP program that passes every frame, and pins it; whether it takes frames of more than a page. 0, or the
 * negative error number. */
int clab_pin_xdp_pass(const char *_Nonnull path, int takes_fragments);

/* A pipe whose ends are closed on exec. */
int clab_pipe(int *_Nonnull ends);

int clab_epoll_create(void);
/* operation: 0 add, 1 modify, 2 remove. */
int clab_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t tag);
int clab_epoll_wait(int epoll, uint64_t *_Nonnull tags, uint32_t *_Nonnull events, int capacity, int timeout_ms);

/* A non-blocking, close-on-exec TCP/IPv4 socket whose connect has been started; addresses in host byte order.
 * receive_buffer and mss: 0 leaves the kernel's. Returns the negative error number on failure. */
int clab_tcp_connect(uint32_t address, uint16_t port, int receive_buffer, int mss);
int clab_socket_error(int descriptor);
/* Local port in host byte order; 0 on failure. */
uint16_t clab_local_port(int descriptor);
/* Remote port in host byte order when it is a connected TCP socket; 0 otherwise. */
uint16_t clab_tcp_remote_port(int descriptor);
/* Bytes received in order so far (RFC 4898 tcpEStatsAppHCThruOctetsReceived); -1 on failure. */
int64_t clab_tcp_bytes_received(int descriptor);

#endif
