/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpenFlow client's connection: a unix stream socket on which messages are sent and answers
 * taken in at the same time, since a switch that can't get rid of its answers stops reading.
 */
#include "ovs/openflow-internal.h"
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE    (4 * (size_t)(OF_MESSAGE_MAX + 1))
#define PARTS_MAX  64                    /* in one send */
#define CONNECT_NS (100 * NSEC_PER_MSEC) /* of a connect that can't be ended from outside */

struct openflow {
    int fd, wake_fd;
    char *path, *name;
    uint32_t last_xid;
    bool broken;
    uint8_t *in; /* received; taken up to in_start */
    size_t in_start, in_len;
    uint8_t *out; /* queued; sent up to out_sent */
    size_t out_sent, out_len, out_size;
};

int openflow_path(const char *ovsdb_socket, const char *bridge, char *buf, size_t size)
{
    const char *path = ovs_socket_plain(ovsdb_socket), *slash = strrchr(path, '/');
    int len;

    if (*path != '/' || strchr(bridge, '/')) {
        return -EINVAL;
    }
    len = snprintf(buf, size, "%.*s/%s.mgmt", (int)(slash - path), path, bridge);
    return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

/* ---- bytes ---- */

int openflow_queue(struct openflow *of, const void *data, size_t len)
{
    if (of->out_sent == of->out_len) {
        of->out_sent = of->out_len = 0;
    }
    if (of->out_size - of->out_len < len) {
        size_t size = 2 * (of->out_len + len);
        uint8_t *bigger = realloc(of->out, size);

        if (!bigger) {
            return -ENOMEM;
        }
        of->out = bigger;
        of->out_size = size;
    }
    memcpy(of->out + of->out_len, data, len);
    of->out_len += len;
    return 0;
}

static bool is_flushed(const struct openflow *of)
{
    return of->out_sent == of->out_len;
}

/* What is borrowed to be sent, and a barrier behind it; parts shrink as they go out. */
struct parts {
    struct iovec *at;
    size_t n;
    bool begun; /* nothing else may go out before their end */
    uint8_t barrier[OF_HEADER];
    bool asked; /* the barrier is queued */
};

static void parts_advance(struct parts *parts, size_t len)
{
    while (parts->n > 0 && len >= parts->at->iov_len) {
        len -= parts->at->iov_len;
        parts->at++;
        parts->n--;
    }
    if (parts->n > 0) {
        parts->at->iov_base = (uint8_t *)parts->at->iov_base + len;
        parts->at->iov_len -= len;
    }
}

/* Sends what the socket has room for. */
static int send_some(struct openflow *of, struct parts *parts)
{
    for (;;) {
        struct iovec own = {of->out + of->out_sent, of->out_len - of->out_sent};
        bool of_parts = parts->n > 0 && (parts->begun || own.iov_len == 0);
        struct msghdr message = {.msg_iov = of_parts ? parts->at : &own,
                                 .msg_iovlen =
                                     of_parts ? (parts->n < PARTS_MAX ? parts->n : PARTS_MAX) : 1};
        ssize_t n;

        if (!of_parts && own.iov_len == 0) {
            return 0;
        }
        n = sendmsg(of->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        if (of_parts) {
            parts_advance(parts, (size_t)n);
            parts->begun = true;
        } else {
            of->out_sent += (size_t)n;
        }
    }
}

/* The same, with the barrier once all parts are gone. */
static int send_parts(struct openflow *of, struct parts *parts)
{
    int rc = parts->n > 0 ? send_some(of, parts) : 0;

    if (rc == 0 && parts->n == 0 && !parts->asked) {
        parts->asked = true;
        rc = openflow_queue(of, parts->barrier, sizeof(parts->barrier));
    }
    return rc == 0 && parts->n == 0 ? send_some(of, parts) : rc;
}

static int receive_some(struct openflow *of)
{
    ssize_t n;

    of->in_len -= of->in_start;
    memmove(of->in, of->in + of->in_start, of->in_len);
    of->in_start = 0;
    n = recv(of->fd, of->in + of->in_len, IN_SIZE - of->in_len, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    of->in_len += (size_t)n;
    return n == 0 ? -ECONNRESET : 0;
}

/* ---- messages ---- */

uint32_t openflow_xids(struct openflow *of, size_t n)
{
    uint32_t first = of->last_xid + 1;

    if (n > OF_XID_OWN - 1 - of->last_xid) {
        first = 1;
    }
    of->last_xid = first + (uint32_t)n - 1;
    return OF_XID_OWN | first;
}

static int answer_echo(struct openflow *of, const struct of_message *request)
{
    uint8_t header[OF_HEADER];
    int rc;

    of_write_header(header, OF_ECHO_REPLY, request->len, request->xid);
    rc = openflow_queue(of, header, sizeof(header));
    return rc < 0 ? rc : openflow_queue(of, request->data + OF_HEADER, request->len - OF_HEADER);
}

/* The next whole message that was received, echo requests answered: 1, or 0 for none. */
static int next_message(struct openflow *of, struct of_message *ret, struct error *err)
{
    for (;;) {
        int rc = of_read_message(of->in + of->in_start, of->in_len - of->in_start, ret);

        if (rc < 0) {
            return error_set(err, rc, "%s sent what is not OpenFlow", of->name);
        }
        if (rc == 0) {
            return 0;
        }
        of->in_start += ret->len;
        if (ret->version != OF_VERSION && ret->type != OF_HELLO && ret->type != OF_ERROR) {
            return error_set(err, -EBADMSG, "%s sent what is not OpenFlow 1.4", of->name);
        }
        if (ret->type != OF_ECHO_REQUEST) {
            return 1;
        }
        rc = answer_echo(of, ret);
        if (rc < 0) {
            return error_sys(err, rc, "answer %s", of->name);
        }
    }
}

static int lost(struct openflow *of, int rc, struct error *err)
{
    return rc == -ECONNRESET || rc == -EPIPE
               ? error_set(err, -ECONNRESET, "%s closed the connection", of->name)
               : error_sys(err, rc, "%s", of->name);
}

/* Sleeps until something can be sent, or was received. */
static int wait_some(struct openflow *of, bool to_send, int64_t deadline_ns, struct error *err)
{
    struct pollfd pfds[2] = {{of->fd, POLLIN, 0}, {of->wake_fd, POLLIN, 0}};
    int rc;

    pfds[0].events |= to_send ? POLLOUT : 0;
    rc = poll(pfds, 2, clock_left_ms(deadline_ns));
    if (rc == 0) {
        return error_set(err, -ETIMEDOUT, "%s did not answer in time", of->name);
    }
    if (rc > 0 && pfds[1].revents) {
        return error_set(err, -ECANCELED, "canceled: whoever was to do it stops");
    }
    rc = rc > 0 && (pfds[0].revents & ~POLLOUT) ? receive_some(of) : 0;
    return rc < 0 ? lost(of, rc, err) : 0;
}

/* ---- exchanges ---- */

/* Gives every message that has come to take (NULL: drops it), up to the answer to a barrier: 1, or
 * 0 when that has not come. */
static int take_all(struct openflow *of, uint32_t barrier_xid,
                    int (*take)(void *cookie, const struct of_message *message), void *cookie,
                    struct error *err)
{
    struct of_message message;
    int rc;

    while ((rc = next_message(of, &message, err)) > 0) {
        if (message.type == OF_BARRIER_REPLY && message.xid == barrier_xid) {
            return 1;
        }
        rc = take ? take(cookie, &message) : 0;
        if (rc < 0) {
            return error_sys(err, rc, "answer of %s", of->name);
        }
    }
    return rc;
}

int openflow_exchange(struct openflow *of, struct iovec *parts, size_t n_parts, int64_t deadline_ns,
                      int (*take)(void *cookie, const struct of_message *message), void *cookie,
                      struct error *err)
{
    struct parts left = {.at = parts, .n = n_parts};
    uint32_t xid = openflow_xids(of, 1);
    int rc = 0;

    if (of->broken) {
        return error_set(err, -ENOTCONN, "the connection to %s was lost", of->name);
    }
    of_write_header(left.barrier, OF_BARRIER_REQUEST, OF_HEADER, xid);
    while (rc == 0) {
        rc = send_parts(of, &left);
        rc = rc < 0 ? lost(of, rc, err) : take_all(of, xid, take, cookie, err);
        if (rc == 0) {
            rc = wait_some(of, left.n || !is_flushed(of), deadline_ns, err);
        }
    }
    of->broken = rc < 0;
    return rc < 0 ? rc : 0;
}

int openflow_idle(struct openflow *of, struct error *err)
{
    struct parts none = {.n = 0};
    int rc = receive_some(of);

    rc = rc < 0 ? lost(of, rc, err) : take_all(of, 0, NULL, NULL, err);
    if (rc >= 0) {
        rc = send_some(of, &none);
        rc = rc < 0 ? lost(of, rc, err) : 0;
    }
    of->broken = rc < 0;
    return rc;
}

/* ---- connecting ---- */

/* How to allow 1.4, with the bridge's name, which the socket's path has. */
static int not_allowed(const struct openflow *of, struct error *err)
{
    const char *slash = strrchr(of->path, '/'), *base = slash ? slash + 1 : of->path;
    size_t len = strlen(base);

    if (len > 5 && !strcmp(base + len - 5, ".mgmt")) {
        len -= 5;
    }
    return error_set(err, -EPROTONOSUPPORT,
                     "%s does not speak OpenFlow 1.4: the bridge's `protocols` leave it out; allow "
                     "it by: ovs-vsctl add bridge %.*s protocols OpenFlow14",
                     of->name, (int)len, base);
}

struct greeting {
    bool allowed, refused;
};

static int take_hello(void *cookie, const struct of_message *message)
{
    struct greeting *greeting = cookie;

    if (message->type == OF_HELLO) {
        greeting->allowed = of_hello_allows(message);
    }
    greeting->refused |= message->type == OF_ERROR;
    return 0;
}

/* The barrier's answer tells that the switch took our HELLO. */
static int greet(struct openflow *of, int64_t deadline_ns, struct error *err)
{
    struct greeting greeting = {false, false};
    uint8_t hello[OF_CONTROL_MAX];
    uint8_t *end = of_write_hello(hello, openflow_xids(of, 1));
    int rc = openflow_queue(of, hello, (size_t)(end - hello));

    if (rc < 0) {
        return error_sys(err, rc, "greet %s", of->name);
    }
    rc = openflow_exchange(of, NULL, 0, deadline_ns, take_hello, &greeting, err);
    if (greeting.refused || (rc == 0 && !greeting.allowed)) {
        return not_allowed(of, err);
    }
    return rc;
}

int openflow_attach(int fd, const char *path, int wake_fd, int64_t deadline_ns,
                    struct openflow **ret, struct error *err)
{
    autoopenflow struct openflow *of = calloc(1, sizeof(*of));
    int rc;

    if (!of) {
        close(fd);
        return error_sys(err, -ENOMEM, "connect to OpenFlow at %s", path);
    }
    of->fd = fd;
    of->wake_fd = wake_fd;
    of->path = strdup(path);
    of->name = str_printf("OpenFlow at %s", path);
    of->in = malloc(IN_SIZE);
    if (!of->path || !of->name || !of->in) {
        return error_sys(err, -ENOMEM, "connect to OpenFlow at %s", path);
    }
    rc = greet(of, deadline_ns, err);
    if (rc == 0) {
        *ret = take_ptr(of);
    }
    return rc;
}

static bool is_woken(int wake_fd)
{
    struct pollfd pfd = {.fd = wake_fd, .events = POLLIN};

    return wake_fd >= 0 && poll(&pfd, 1, 0) > 0;
}

int openflow_open(const char *socket_path, int wake_fd, int64_t deadline_ns, struct openflow **ret,
                  struct error *err)
{
    const char *path = ovs_socket_plain(socket_path);
    int fd = -1, rc;

    do {
        int64_t soon_ns = clock_ns() + CONNECT_NS;

        rc = ovs_socket_connect("OpenFlow", socket_path,
                                soon_ns < deadline_ns ? soon_ns : deadline_ns, &fd, err);
    } while (rc == -ETIMEDOUT && clock_left_ms(deadline_ns) > 0 && !is_woken(wake_fd));
    if (rc == -ENOENT || rc == -ECONNREFUSED) {
        return error_set(err, rc, "no switch at %s: %s", path,
                         rc == -ENOENT ? "there is no such bridge, or ovs-vswitchd never ran"
                                       : "ovs-vswitchd is not running");
    }
    return rc < 0 ? rc : openflow_attach(fd, path, wake_fd, deadline_ns, ret, err);
}

int openflow_connect(const char *socket_path, int64_t deadline_ns, struct openflow **ret,
                     struct error *err)
{
    return openflow_open(socket_path, -1, deadline_ns, ret, err);
}

void openflow_close(struct openflow *of)
{
    if (!of) {
        return;
    }
    close(of->fd);
    free(of->path);
    free(of->name);
    free(of->in);
    free(of->out);
    free(of);
}

void cleanup_openflow(struct openflow **of)
{
    openflow_close(*of);
}

const char *openflow_name(const struct openflow *of)
{
    return of->name;
}

int openflow_fd(const struct openflow *of)
{
    return of->fd;
}

bool openflow_usable(const struct openflow *of)
{
    struct pollfd pfd = {.fd = of->fd, .events = POLLRDHUP};

    return !of->broken && poll(&pfd, 1, 0) == 0;
}
