/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's socket: INSTANCE/sluiced.sock, SOCK_SEQPACKET. A datagram is one JSON object, the
 * header, and after it, optionally, a NUL byte and a body of raw bytes (a CNI configuration or
 * result, passed on as it came). A body that does not fit into 64 KiB with its header travels in a
 * sealed memfd, the last of the message's descriptors: the header is then followed by one byte 0x01
 * instead. Descriptors ride along by SCM_RIGHTS.
 *
 *     {"id":1,"method":"gate.show","params":{}}
 *     {"id":1,"result":{...}}   or   {"id":1,"error":{"code":11,"msg":"..."}}
 *
 * An answer that has no body and does not fit has the result null and itself as the body.
 *
 * message.c and client.c use no library, so that the thin plugin and the guest link them with musl.
 */
#pragma once

#include "base/base.h"

#define RPC_SOCKET_NAME "sluiced.sock"
#define RPC_INLINE_MAX  65536              /* bytes of a datagram */
#define RPC_BODY_MAX    ((size_t)16 << 20) /* more is refused */
#define RPC_FDS_MAX     4

/* ---- messages (message.c) ---- */

struct rpc_message {
    char *header; /* NUL-terminated; owned, with body behind it or in memory of its own */
    size_t header_len;
    const char *body; /* "" when there is none; NUL-terminated */
    size_t body_len;
    int fds[RPC_FDS_MAX + 1]; /* owned, CLOEXEC; the body's memfd is not among them */
    size_t n_fds;             /* at most RPC_FDS_MAX */
    char *own_body;           /* the room's own */
};

/* What one message sends; everything is borrowed. */
struct rpc_part {
    const char *header; /* a JSON object in text */
    const void *body;
    size_t body_len;
    const int *fds;
    size_t n_fds;
};

/*
 * Sends one message, whole or not at all; blocks as the socket does. -EAGAIN on a non-blocking
 * socket whose peer does not read; -EPIPE when there is no peer; -EMSGSIZE for a header that does
 * not fit, a body over RPC_BODY_MAX or too many descriptors. Never raises SIGPIPE.
 */
int rpc_send(int fd, const struct rpc_part *part);

/*
 * Receives one message; blocks as the socket does. 1: there is one; 0: the peer closed or died;
 * -EAGAIN; -EMSGSIZE or -EBADMSG: too big, too many descriptors (or none left to receive them), a
 * memfd that is not sealed or not what it should be, an empty datagram or a header that does not
 * start with '{'; -ENOMEM. (After these the message is gone, its descriptors closed, and the
 * connection can go on.) buffer is for RPC_INLINE_MAX bytes and only used inside: what is kept is
 * copied to its size. With NULL the message keeps RPC_INLINE_MAX bytes until it is cleared.
 */
int rpc_receive(int fd, char *buffer, struct rpc_message *ret);
void rpc_message_clear(struct rpc_message *message);

/* ---- the client (client.c) ---- */

/* The socket's path, in buf; -ENAMETOOLONG when it is too long for a unix socket (107 bytes). */
int rpc_socket_path(const char *instance, char *buf, size_t size);

/*
 * Connects a blocking socket; waits, until the deadline (clock_ns), for room in the agent's
 * backlog; no later send waits longer than that, unless the caller sets SO_SNDTIMEO. -ECONNREFUSED:
 * no agent runs (also when there is no such socket); -ETIMEDOUT; -EACCES. A peer that is not root
 * and not our own user is refused with -EPERM.
 */
int rpc_connect(const char *instance, int64_t deadline_ns, int *ret_fd);

/*
 * Sends a request, whose id must be 1, and waits for its answer: a result or an error. For a
 * connection of rpc_connect with one request at a time. -EPIPE: the agent was gone, nothing was
 * sent; -ECONNRESET: it closed or died before it answered; -EBADMSG: what came is no answer;
 * -ETIMEDOUT. After an error the connection is of no more use.
 */
int rpc_call(int fd, const struct rpc_part *request, int64_t deadline_ns, struct rpc_message *ret);

/* Whether an answer is a result: it begins with {"id":1,"result": */
bool rpc_reply_ok(const struct rpc_message *reply);
