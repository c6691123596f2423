/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One message, one datagram: header, body and descriptors, sent and received. Whatever a peer
 * sends, no descriptor is left open and nothing is kept of a message that is refused.
 */
#include "rpc/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BODY_APART '\1' /* after the header: the body is in the last descriptor */
#define FDS_SIZE   (sizeof(int) * (RPC_FDS_MAX + 1))

union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(FDS_SIZE)];
};

void rpc_message_clear(struct rpc_message *message)
{
    for (size_t i = 0; i < message->n_fds; i++) {
        close(message->fds[i]);
    }
    free(message->header);
    free(message->own_body);
    memset(message, 0, sizeof(*message));
}

/* ---- sending ---- */

static void attach(struct msghdr *msg, union control *control, const struct rpc_part *part,
                   int body_fd)
{
    size_t n = part->n_fds + (body_fd >= 0);
    struct cmsghdr *cmsg;
    int *fds;

    if (n == 0) {
        return;
    }
    memset(control, 0, sizeof(*control));
    msg->msg_control = control;
    msg->msg_controllen = CMSG_SPACE(n * sizeof(int));
    cmsg = CMSG_FIRSTHDR(msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
    fds = (int *)(void *)CMSG_DATA(cmsg);
    for (size_t i = 0; i < part->n_fds; i++) {
        fds[i] = part->fds[i];
    }
    if (body_fd >= 0) {
        fds[part->n_fds] = body_fd;
    }
}

int rpc_send(int fd, const struct rpc_part *part)
{
    size_t header_len = strlen(part->header), room = RPC_INLINE_MAX - (part->body_len > 0);
    struct iovec iov[] = {
        {(void *)part->header, header_len}, {(void *)"", 1}, {(void *)part->body, part->body_len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = part->body_len ? 3 : 1};
    autoclose int body_fd = -1;
    union control control;
    ssize_t n;

    if (header_len > room || part->body_len > RPC_BODY_MAX || part->n_fds > RPC_FDS_MAX) {
        return -EMSGSIZE;
    }
    if (part->body_len > room - header_len) {
        static const char apart = BODY_APART;
        int rc = memfd_sealed(part->body, part->body_len, &body_fd);

        if (rc < 0) {
            return rc;
        }
        iov[1].iov_base = (void *)&apart;
        msg.msg_iovlen = 2;
    }
    attach(&msg, &control, part, body_fd);
    do {
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
    }
    return 0;
}

/* ---- receiving ---- */

static void take_fds(struct msghdr *msg, struct rpc_message *message)
{
    const struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);

    if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
        size_t size = cmsg->cmsg_len - CMSG_LEN(0);

        memcpy(message->fds, CMSG_DATA(cmsg), size);
        message->n_fds = size / sizeof(int);
    }
}

/* A sealed memfd can neither change nor shrink while it is read. */
static int read_body(int fd, struct rpc_message *message)
{
    int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, seals = fcntl(fd, F_GET_SEALS);
    size_t size, done = 0;
    struct stat st;

    if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0 || st.st_size < 1) {
        return -EBADMSG;
    }
    size = (size_t)st.st_size;
    if (size > RPC_BODY_MAX) {
        return -EMSGSIZE;
    }
    message->own_body = malloc(size + 1);
    if (!message->own_body) {
        return -ENOMEM;
    }
    while (done < size) {
        ssize_t n = pread(fd, message->own_body + done, size - done, (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -EBADMSG;
        }
        done += (size_t)n;
    }
    message->own_body[size] = '\0';
    message->body = message->own_body;
    message->body_len = size;
    return 0;
}

/* Finds header and body in the datagram of len bytes and a NUL that is in message->header. */
static int take_apart(struct rpc_message *message, size_t len)
{
    char *end = message->header;
    bool apart;

    while (*end != '\0' && *end != BODY_APART) {
        end++;
    }
    apart = *end == BODY_APART;
    *end = '\0';
    message->header_len = (size_t)(end - message->header);
    if (message->header[0] != '{') {
        return -EBADMSG;
    }
    if (apart) {
        autoclose int body_fd = -1;

        if (message->header_len + 1 != len || message->n_fds == 0) {
            return -EBADMSG;
        }
        body_fd = message->fds[--message->n_fds];
        return read_body(body_fd, message);
    }
    if (message->n_fds > RPC_FDS_MAX) {
        return -EMSGSIZE;
    }
    if (message->header_len < len) {
        end++;
    }
    message->body = end;
    message->body_len = len - (size_t)(end - message->header);
    return 0;
}

/* recvmsg returns 0 for an empty datagram too. */
static bool is_closed(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLRDHUP};

    return poll(&pfd, 1, 0) != 0;
}

int rpc_receive(int fd, char *buffer, struct rpc_message *ret)
{
    autofree char *memory = buffer ? NULL : malloc(RPC_INLINE_MAX + 1);
    __attribute__((cleanup(rpc_message_clear))) struct rpc_message message = {0};
    struct iovec iov = {buffer ? buffer : memory, RPC_INLINE_MAX};
    union control control;
    /* CMSG_LEN, not CMSG_SPACE: padding would have room for one descriptor more than we have. */
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = CMSG_LEN(FDS_SIZE)};
    ssize_t n;
    int rc;

    if (!iov.iov_base) {
        return -ENOMEM;
    }
    do {
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == ECONNRESET ? 0 : -errno;
    }
    take_fds(&msg, &message);
    if (n == 0 && message.n_fds == 0 && is_closed(fd)) {
        return 0;
    }
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        return -EMSGSIZE;
    }
    if (!memory) {
        memory = malloc((size_t)n + 1);
        if (!memory) {
            return -ENOMEM;
        }
        memcpy(memory, buffer, (size_t)n);
    }
    memory[n] = '\0';
    message.header = take_ptr(memory);
    rc = take_apart(&message, (size_t)n);
    if (rc < 0) {
        return rc;
    }
    *ret = message;
    memset(&message, 0, sizeof(message));
    return 1;
}
