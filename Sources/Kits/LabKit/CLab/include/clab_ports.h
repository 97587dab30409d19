/* Connections from a port of the caller's choice. */
#ifndef BATON_CLAB_PORTS_H
#define BATON_CLAB_PORTS_H

#include <stdint.h>

/* Begins a TCP connection; address and ports in host byte order. A descriptor, nonblocking, or -errno. */
int clab_tcp_connect_from(uint16_t own_port, uint32_t address, uint16_t port);
/* An MPTCP listener at every address; a descriptor or -errno. */
int clab_mptcp_listen(uint16_t port);

#endif
