/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What whoever reached the agent's socket may send: any datagram with any descriptors. What is
 * accepted is well formed and comes through a second time as it is; nothing stays open.
 */
#include "fuzz.h"
#include "rpc/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_SENT_MAX 7

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* The last descriptor: a body as it should be, or not quite. */
static int make_last(unsigned how, const uint8_t *data, size_t size)
{
    int fd = -1, seals = (int)(how >> 2 & 0xf); /* some of F_SEAL_SEAL, SHRINK, GROW, WRITE */

    switch (how & 3) {
    case 0:
        require(memfd_sealed(data, size, &fd) == 0);
        break;
    case 1:
        fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        require(fd >= 0 && ftruncate(fd, (off_t)size << (how >> 6) * 4) == 0 &&
                fcntl(fd, F_ADD_SEALS, seals) == 0);
        break;
    case 2:
        fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
        break;
    default:
        fd = open("/proc/self", O_PATH | O_CLOEXEC);
    }
    require(fd >= 0);
    return fd;
}

static void send_datagram(int fd, const uint8_t *data, size_t size, size_t n_fds, unsigned how)
{
    struct iovec iov = {(void *)data, size};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[FDS_SENT_MAX], last = make_last(how, data, size);

    for (size_t i = 0; i < n_fds; i++) {
        fds[i] = i + 1 < n_fds ? fd : last;
    }
    if (n_fds) {
        struct cmsghdr *cmsg;

        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    require(sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)size);
    close(last);
}

static void check(const struct rpc_message *message)
{
    require(message->header[0] == '{' && strlen(message->header) == message->header_len);
    require(message->body_len <= RPC_BODY_MAX && message->body[message->body_len] == '\0');
    require(message->n_fds <= RPC_FDS_MAX);
    for (size_t i = 0; i < message->n_fds; i++) {
        require(fcntl(message->fds[i], F_GETFD) == FD_CLOEXEC);
    }
}

static void send_again(const int ends[2], const struct rpc_message *first)
{
    struct rpc_part part = {first->header, first->body, first->body_len, first->fds, first->n_fds};
    struct rpc_message second;

    require(rpc_send(ends[0], &part) == 0 && rpc_receive(ends[1], NULL, &second) == 1);
    check(&second);
    require(strcmp(first->header, second.header) == 0 && first->n_fds == second.n_fds &&
            first->body_len == second.body_len &&
            memcmp(first->body, second.body, first->body_len) == 0);
    rpc_message_clear(&second);
}

/* The first byte says how many descriptors, the second what the last one is; then the datagram. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char buffer[RPC_INLINE_MAX];
    int ends[2], lowest_free = dup(STDERR_FILENO), rc;
    struct rpc_part request = {.header = "{}"};
    struct rpc_message message;

    close(lowest_free);
    if (size < 2 || size > RPC_INLINE_MAX + 100) {
        return 0;
    }
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    send_datagram(ends[0], data + 2, size - 2, data[0] % (FDS_SENT_MAX + 1), data[1]);
    rc = rpc_receive(ends[1], buffer, &message);
    require(rc == 1 || rc == -EBADMSG || rc == -EMSGSIZE);
    if (rc == 1) {
        check(&message);
        send_again(ends, &message);
        rpc_message_clear(&message);
    }
    /* The same as an answer. */
    send_datagram(ends[0], data + 2, size - 2, data[0] % (FDS_SENT_MAX + 1), data[1]);
    rc = rpc_call(ends[1], &request, clock_ns() + 10 * NSEC_PER_SEC, &message);
    require(rc == 0 || rc == -EBADMSG || rc == -EMSGSIZE);
    if (rc == 0) {
        check(&message);
        rpc_message_clear(&message);
    }
    close(ends[0]);
    close(ends[1]);
    require(dup(STDERR_FILENO) == lowest_free);
    close(lowest_free);
    return 0;
}
