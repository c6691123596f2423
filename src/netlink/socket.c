/* SPDX-License-Identifier: Apache-2.0 */
/* The netlink socket: one send for a batch, an answer for each message. */
#include "netlink/socket.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_SIZE 65536 /* the kernel's dump messages are at most 32 KiB */

/* Answers to a full batch of creations with their devices' descriptions: more than the default. */
#define RECEIVE_QUEUE (1 << 20)

static int open_socket(int protocol, int *ret_fd, struct error *err)
{
    static const int options[] = {NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK};
    autoclose int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int on = 1, size = RECEIVE_QUEUE;

    if (fd < 0) {
        return error_sys(err, -errno, "open a netlink socket");
    }
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        /* An older kernel lacks one: texts are then missing, nothing else. */
        (void)setsockopt(fd, SOL_NETLINK, options[i], &on, sizeof(on));
    }
    /* Who may not have it may not make devices either. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    if (connect(fd, (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
        return error_sys(err, -errno, "connect a netlink socket");
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

int netlink_attach(int fd, struct netlink **ret, struct error *err)
{
    struct netlink *nl = malloc(sizeof(*nl)); /* big, and filled as used: not cleared */

    if (!nl) {
        close(fd);
        return error_sys(err, -ENOMEM, "netlink");
    }
    memset(nl, 0, offsetof(struct netlink, answers));
    nl->fd = fd;
    nl->first_seq = 1;
    *ret = nl;
    return 0;
}

static int open_in(int netns_fd, int protocol, struct netlink **ret, struct error *err)
{
    autoclose int fd = -1;
    int saved = -1, rc;

    if (netns_fd >= 0) {
        rc = netns_enter(netns_fd, &saved, err);
        if (rc < 0) {
            return rc;
        }
    }
    rc = open_socket(protocol, &fd, err);
    if (netns_fd >= 0 && netns_leave(&saved) < 0) {
        return error_set(err, -EIO, "cannot get back to the first network namespace");
    }
    return rc < 0 ? rc : netlink_attach(take_fd(&fd), ret, err);
}

int netlink_open(int netns_fd, struct netlink **ret, struct error *err)
{
    return open_in(netns_fd, NETLINK_ROUTE, ret, err);
}

int netlink_open_generic(int netns_fd, struct netlink **ret, struct error *err)
{
    return open_in(netns_fd, NETLINK_GENERIC, ret, err);
}

int netlink_open_at(int netns_fd, int home_fd, struct netlink **ret, struct error *err)
{
    autoclose int fd = -1;
    int rc = netns_enter(netns_fd, NULL, err);

    if (rc < 0) {
        return rc;
    }
    rc = open_socket(NETLINK_ROUTE, &fd, err);
    if (netns_enter(home_fd, NULL, NULL) < 0) {
        return error_set(err, -EIO, "cannot get back to the first network namespace");
    }
    return rc < 0 ? rc : netlink_attach(take_fd(&fd), ret, err);
}

void netlink_close(struct netlink *nl)
{
    if (nl) {
        close(nl->fd);
        free(nl);
    }
}

void cleanup_netlink(struct netlink **nl)
{
    netlink_close(*nl);
}

bool netlink_usable(const struct netlink *nl)
{
    return !nl->unusable;
}

int netlink_fd(const struct netlink *nl)
{
    return nl->fd;
}

void netlink_use_funnel(struct netlink *nl, struct funnel *funnel)
{
    nl->funnel = funnel;
}

/* The kernel does all the work before send returns. */
static int send_all(struct netlink *nl, struct error *err)
{
    ssize_t n;

    if (nl->unusable) {
        return error_set(err, -ECONNRESET, "netlink: answers were lost earlier");
    }
    if (nl->overflow) {
        return error_set(err, -EMSGSIZE, "netlink: more than %d messages or %zu bytes in a batch",
                         NETLINK_BATCH_MAX, sizeof(nl->send_buffer));
    }
    if (nl->funnel) {
        funnel_enter(nl->funnel, nl->work);
    }
    do {
        n = send(nl->fd, nl->send_buffer, nl->used, 0);
    } while (n < 0 && errno == EINTR);
    if (nl->funnel) {
        int saved = errno;

        funnel_leave(nl->funnel, nl->work);
        errno = saved;
    }
    return n < 0 ? error_sys(err, -errno, "netlink send") : 0;
}

/* Reads one datagram; from anyone but the kernel it is dropped (*ret_len 0). */
static int receive(struct netlink *nl, char *buffer, size_t *ret_len, struct error *err)
{
    struct sockaddr_nl from = {0};
    struct iovec iov = {buffer, RECEIVE_SIZE};
    struct msghdr header = {
        .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    do {
        n = recvmsg(nl->fd, &header, 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0 || (header.msg_flags & MSG_TRUNC)) {
        nl->unusable = true;
        return error_sys(err, n < 0 ? -errno : n ? -EMSGSIZE : -EPIPE, "netlink receive");
    }
    *ret_len = from.nl_pid == 0 ? (size_t)n : 0;
    return 0;
}

#define ERRNO_MAX 4095

static void read_ack(const struct nlmsghdr *message, struct netlink_answer *answer)
{
    const struct nlattr *table[NLMSGERR_ATTR_MAX + 1];
    const struct nlmsgerr *ack = NLMSG_DATA(message);
    const void *attrs;
    size_t len;

    if (!message_attrs(message, sizeof(*ack), &attrs, &len)) {
        answer->errnum = -EBADMSG;
        return;
    }
    answer->errnum = ack->error <= 0 && ack->error >= -ERRNO_MAX ? ack->error : -EBADMSG;
    if (!(message->nlmsg_flags & NLM_F_ACK_TLVS)) {
        return;
    }
    if (!(message->nlmsg_flags & NLM_F_CAPPED) && ack->msg.nlmsg_len > NLMSG_HDRLEN) {
        size_t echoed = NLMSG_ALIGN(ack->msg.nlmsg_len - NLMSG_HDRLEN);

        if (echoed > len) {
            return;
        }
        attrs = (const char *)attrs + echoed;
        len -= echoed;
    }
    if (attr_parse(attrs, len, table, NLMSGERR_ATTR_MAX) == 0) {
        attr_string(table[NLMSGERR_ATTR_MSG], answer->text, sizeof(answer->text));
    }
}

/* Sorts one datagram's messages to the answers; returns how many acknowledgements were in it. */
static unsigned sort_answers(struct netlink *nl, const char *buffer, size_t len)
{
    const struct nlmsghdr *message;
    unsigned acks = 0;

    while ((message = message_next(&buffer, &len))) {
        uint32_t at = message->nlmsg_seq - nl->first_seq;

        if (at >= nl->n_messages) {
            continue; /* answer to a batch that was given up */
        }
        if (message->nlmsg_type == NLMSG_ERROR) {
            read_ack(message, &nl->answers[at]);
            acks++;
        } else if (message->nlmsg_type == RTM_NEWLINK &&
                   message->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg))) {
            const struct ifinfomsg *info = NLMSG_DATA(message);

            nl->answers[at].ifindex = (unsigned)info->ifi_index;
        }
    }
    return acks;
}

static int answer_error(const struct netlink_answer *answer, struct error *err)
{
    return error_sys(err, answer->errnum, "%s%s%s%s%s", answer->what, answer->name[0] ? " " : "",
                     answer->name, answer->text[0] ? ": " : "", answer->text);
}

static void start_batch(struct netlink *nl)
{
    nl->first_seq += nl->n_messages + 1;
    nl->n_messages = 0;
    nl->used = 0;
    nl->overflow = false;
    nl->creates = 0;
    nl->work = FUNNEL_CHANGE;
}

/* Kernels before 6.2 don't tell about the device that a message made. */
static void find_created(struct netlink *nl)
{
    for (unsigned i = 0; i < nl->n_messages; i++) {
        struct netlink_answer *answer = &nl->answers[i];
        struct link_info info;

        if ((nl->creates >> i & 1) && answer->errnum == 0 && !answer->ifindex &&
            link_peek(nl, answer->name, &info) == 0) {
            answer->ifindex = info.ifindex;
        }
    }
}

int netlink_send(struct netlink *nl, struct netlink_answer *ret_answers, struct error *err)
{
    char buffer[RECEIVE_SIZE] __attribute__((aligned(8)));
    unsigned acks = 0;
    int rc = nl->n_messages || nl->overflow ? send_all(nl, err) : 0;

    while (rc == 0 && acks < nl->n_messages) {
        size_t len = 0;

        rc = receive(nl, buffer, &len, err);
        if (rc == 0) {
            acks += sort_answers(nl, buffer, len);
        }
    }
    for (unsigned i = 0; rc == 0 && i < nl->n_messages; i++) {
        if (nl->answers[i].errnum < 0) {
            rc = answer_error(&nl->answers[i], err);
        }
    }
    if (ret_answers) {
        find_created(nl);
        memcpy(ret_answers, nl->answers, nl->n_messages * sizeof(*ret_answers));
    }
    start_batch(nl);
    return rc;
}

/* The kernel's word on a whole list, in the message that ends it. */
static int read_done(const struct nlmsghdr *message, struct netlink_answer *answer)
{
    int errnum = 0;

    if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(errnum))) {
        memcpy(&errnum, NLMSG_DATA(message), sizeof(errnum));
    }
    answer->errnum = errnum >= -ERRNO_MAX ? errnum : -EBADMSG;
    return answer->errnum;
}

/* One pass of a query: 1 when the dump was disturbed and should be asked for again. */
static int query_once(struct netlink *nl, char *buffer,
                      int (*visit)(const struct nlmsghdr *, void *), void *cookie,
                      struct error *err)
{
    bool disturbed = false;
    int rc = send_all(nl, err), visit_rc = 0;

    while (rc == 0) {
        const struct nlmsghdr *message;
        const char *at = buffer;
        size_t len = 0;

        rc = receive(nl, buffer, &len, err);
        if (rc < 0) {
            break;
        }
        while ((message = message_next(&at, &len))) {
            if (message->nlmsg_seq != nl->first_seq) {
                continue;
            }
            disturbed |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (message->nlmsg_type == NLMSG_DONE) {
                if (read_done(message, &nl->answers[0]) < 0) {
                    return answer_error(&nl->answers[0], err);
                }
                return visit_rc < 0 ? visit_rc : disturbed;
            }
            if (message->nlmsg_type == NLMSG_ERROR) {
                read_ack(message, &nl->answers[0]);
                rc = nl->answers[0].errnum;
                return rc < 0 ? answer_error(&nl->answers[0], err) : visit_rc;
            }
            if (visit_rc >= 0 && (visit_rc = visit(message, cookie)) < 0) {
                nl->answers[0].errnum = visit_rc;
                answer_error(&nl->answers[0], err);
            }
        }
    }
    return rc;
}

int netlink_query(struct netlink *nl, bool dump,
                  int (*visit)(const struct nlmsghdr *message, void *cookie), void *cookie,
                  struct error *err)
{
    char buffer[RECEIVE_SIZE] __attribute__((aligned(8)));
    struct nlmsghdr *request = (struct nlmsghdr *)nl->send_buffer;
    int rc, tries = 0;

    if (nl->n_messages > 1) {
        start_batch(nl);
        return error_set(err, -EBUSY, "netlink: a question inside a batch");
    }
    if (dump) {
        request->nlmsg_flags |= NLM_F_DUMP;
    }
    while ((rc = query_once(nl, buffer, visit, cookie, err)) == 1) {
        if (++tries == 20) {
            rc = error_set(err, -EINTR, "%s: the kernel's list kept changing", nl->answers[0].what);
            break;
        }
        rc = visit(NULL, cookie);
        if (rc < 0) {
            error_sys(err, rc, "%s", nl->answers[0].what);
            break;
        }
    }
    start_batch(nl);
    return rc;
}
