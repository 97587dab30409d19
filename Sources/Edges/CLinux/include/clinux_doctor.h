/* What `batonctl doctor` looks at: frames that others send, offloads of an interface, the clock's rate.
 *
 * As in clinux.h: -1 with errno set on failure, descriptors close-on-exec, no state.
 */
#ifndef BATON_CLINUX_DOCTOR_H
#define BATON_CLINUX_DOCTOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

/* AF_PACKET, SOCK_DGRAM, nonblocking; sees frames of one EtherType at one interface, not those that this machine sends. */
int clinux_packet_listen(uint32_t interface_index, uint16_t ethertype);
/* One frame without its Ethernet header; `source` gets six bytes. */
ssize_t clinux_packet_receive(int socket, void *buffer, size_t count, uint8_t *source);
/* A command of ethtool that gets one number, such as ETHTOOL_GGRO or ETHTOOL_GFLAGS. */
int clinux_ethtool_get(const char *interface_name, uint32_t command, uint32_t *value);
/* What the kernel's clocks are corrected by: parts per million with 16 binary places, and microseconds a tick. */
int clinux_clock_rate(int64_t *frequency, int64_t *tick);
/* Runs a program without a shell and collects its standard output, at most `capacity` bytes; standard error is thrown
 * away. The wait status goes to `status`. Returns the bytes collected. */
ssize_t clinux_output(char *const _Nullable *_Nonnull arguments, char *buffer, size_t capacity, int *status);

enum { CLINUX_ETHTOOL_GGRO = 0x2b, CLINUX_ETHTOOL_GFLAGS = 0x25, CLINUX_FLAG_LRO = 1 << 15 };

#pragma clang assume_nonnull end

#endif
