/* SPDX-License-Identifier: Apache-2.0 */
/* What the clients of Open vSwitch's daemons, OVSDB's and OpenFlow's, have in common: connections
 * to unix sockets, threads that serve them, the sizes of batches. */
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

const char *ovs_socket_plain(const char *socket_path)
{
    return str_has_prefix(socket_path, "unix:") ? socket_path + 5 : socket_path;
}

/* connect() that waits for room in the listener's backlog, which 400 clients at once fill. */
static int connect_until(int fd, const struct sockaddr_un *address, int64_t deadline_ns)
{
    for (;;) {
        int left_ms = clock_left_ms(deadline_ns);
        struct timeval left = {.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000};

        if (left_ms == 0) {
            return -ETIMEDOUT;
        }
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left)) < 0) {
            return -errno;
        }
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
            return 0;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
    }
}

int ovs_socket_connect(const char *peer, const char *socket_path, int64_t deadline_ns, int *ret_fd,
                       struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = ovs_socket_plain(socket_path);
    autoclose int fd = -1;
    int rc;

    if (*path != '/') {
        return error_set(err, -EINVAL,
                         "%s socket \"%s\": must be \"unix:/PATH\" or an absolute path", peer,
                         socket_path);
    }
    if (str_copy(address.sun_path, sizeof(address.sun_path), path) < 0) {
        return error_set(err, -ENAMETOOLONG,
                         "%s socket %s: the path has %zu bytes; a unix socket's may have %zu", peer,
                         path, strlen(path), sizeof(address.sun_path) - 1);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return error_sys(err, -errno, "connect to %s at %s: socket", peer, path);
    }
    rc = connect_until(fd, &address, deadline_ns);
    if (rc < 0) {
        return error_sys(err, rc, "connect to %s at %s", peer, path);
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

int ovs_thread_start(pthread_t *ret, void *(*run)(void *cookie), void *cookie)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = -pthread_create(ret, NULL, run, cookie);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

size_t ovs_batch_size(size_t n, size_t sizes)
{
    size_t i = 0;

    while (i < sizes - 1 && n > (size_t)1 << i) {
        i++;
    }
    return i;
}
