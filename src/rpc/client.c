/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of the agent's socket: one connection, one request at a time. */
#include "rpc/rpc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int rpc_socket_path(const char *instance, char *buf, size_t size)
{
    static const char name[] = "/" RPC_SOCKET_NAME;
    size_t len = strlen(instance);

    if (len + sizeof(name) > size ||
        len + sizeof(name) > sizeof((struct sockaddr_un){0}.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(buf, instance, len);
    memcpy(buf + len, name, sizeof(name));
    return 0;
}

/* Sets how long a connect or a send may wait. */
static int limit_sending(int fd, int64_t deadline_ns)
{
    int left_ms = clock_left_ms(deadline_ns);
    struct timeval left = {.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000};

    if (left_ms == 0) {
        return -ETIMEDOUT;
    }
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left)) < 0 ? -errno : 0;
}

static int connect_until(int fd, const struct sockaddr_un *address, int64_t deadline_ns)
{
    for (;;) {
        int rc = limit_sending(fd, deadline_ns);

        if (rc < 0) {
            return rc;
        }
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
            return 0;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return errno == ENOENT ? -ECONNREFUSED : -errno;
        }
    }
}

/* Descriptors and configurations are not for whoever got at the path first. */
static int check_peer(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        return -errno;
    }
    return peer.uid == 0 || peer.uid == geteuid() ? 0 : -EPERM;
}

int rpc_connect(const char *instance, int64_t deadline_ns, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int rc = rpc_socket_path(instance, address.sun_path, sizeof(address.sun_path));
    autoclose int fd = -1;

    if (rc < 0) {
        return rc;
    }
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    rc = connect_until(fd, &address, deadline_ns);
    if (rc == 0) {
        rc = check_peer(fd);
    }
    if (rc == 0) {
        *ret_fd = take_fd(&fd);
    }
    return rc;
}

static int wait_readable(int fd, int64_t deadline_ns)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};

    for (;;) {
        int n = poll(&pfd, 1, clock_left_ms(deadline_ns));

        if (n > 0) {
            return 0;
        }
        if (n == 0) {
            return -ETIMEDOUT;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

int rpc_call(int fd, const struct rpc_part *request, int64_t deadline_ns, struct rpc_message *ret)
{
    struct rpc_message reply;
    int rc = limit_sending(fd, deadline_ns);

    if (rc == 0) {
        rc = rpc_send(fd, request);
    }
    if (rc == 0) {
        rc = wait_readable(fd, deadline_ns);
    }
    if (rc < 0) {
        return rc == -EAGAIN ? -ETIMEDOUT : rc;
    }
    rc = rpc_receive(fd, NULL, &reply);
    if (rc <= 0) {
        return rc == 0 ? -ECONNRESET : rc;
    }
    if (!rpc_reply_ok(&reply) && !str_has_prefix(reply.header, "{\"id\":1,\"error\":")) {
        rpc_message_clear(&reply);
        return -EBADMSG;
    }
    *ret = reply;
    return 0;
}

bool rpc_reply_ok(const struct rpc_message *reply)
{
    return str_has_prefix(reply->header, "{\"id\":1,\"result\":");
}
