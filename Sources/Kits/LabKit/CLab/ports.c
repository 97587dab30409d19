#include "clab_ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int clab_tcp_connect_from(uint16_t own_port, uint32_t address, uint16_t port)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(own_port)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(address)}};
    int on = 1, error;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -errno;
    if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0
        && bind(descriptor, (struct sockaddr *)&from, sizeof from) == 0
        && (connect(descriptor, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS))
        return descriptor;
    error = errno;
    close(descriptor);
    return -error;
}

int clab_mptcp_listen(uint16_t port)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    int error;
    /* IPPROTO_MPTCP (linux/in.h). */
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262);

    if (descriptor < 0)
        return -errno;
    if (bind(descriptor, (struct sockaddr *)&place, sizeof place) == 0 && listen(descriptor, 16) == 0)
        return descriptor;
    error = errno;
    close(descriptor);
    return -error;
}
