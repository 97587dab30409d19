#define _GNU_SOURCE
#include "clinux_doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <spawn.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>

extern char **environ;

int clinux_packet_listen(uint32_t interface_index, uint16_t ethertype)
{
    struct sockaddr_ll place = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ethertype), .sll_ifindex = (int)interface_index,
    };
    int on = 1, error;
    int listener = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (listener < 0)
        return -1;
    if (setsockopt(listener, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0
        && bind(listener, (struct sockaddr *)&place, sizeof place) == 0)
        return listener;
    error = errno;
    close(listener);
    errno = error;
    return -1;
}

ssize_t clinux_packet_receive(int listener, void *buffer, size_t count, uint8_t *source)
{
    struct sockaddr_ll from = {};
    socklen_t size = sizeof from;
    ssize_t received = recvfrom(listener, buffer, count, 0, (struct sockaddr *)&from, &size);

    if (received >= 0)
        memcpy(source, from.sll_addr, 6);
    return received;
}

int clinux_ethtool_get(const char *interface_name, uint32_t command, uint32_t *value)
{
    struct ethtool_value question = {.cmd = command};
    struct ifreq request = {.ifr_data = (void *)&question};
    int result, error, probe;

    if (strlen(interface_name) >= IFNAMSIZ) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(request.ifr_name, interface_name);
    probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return -1;
    result = ioctl(probe, SIOCETHTOOL, &request);
    error = errno;
    close(probe);
    errno = error;
    *value = question.data;
    return result;
}

int clinux_clock_rate(int64_t *frequency, int64_t *tick)
{
    struct timex clock = {};

    if (adjtimex(&clock) < 0)
        return -1;
    *frequency = clock.freq;
    *tick = clock.tick;
    return 0;
}

ssize_t clinux_output(char *const *arguments, char *buffer, size_t capacity, int *status)
{
    posix_spawn_file_actions_t actions;
    int ends[2], error;
    size_t total = 0;
    pid_t process;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    error = posix_spawnp(&process, arguments[0], &actions, 0, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        errno = error;
        return -1;
    }
    while (1) {
        char rest[4096];
        /* What is too much is read all the same, or the program would never end. */
        ssize_t count = total < capacity ? read(ends[0], buffer + total, capacity - total)
                                         : read(ends[0], rest, sizeof rest);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        if (total < capacity)
            total += (size_t)count;
    }
    close(ends[0]);
    while (waitpid(process, status, 0) < 0 && errno == EINTR)
        ;
    return (ssize_t)total;
}
