/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Netlink messages: attributes in, attributes out, every length checked. Our own and not libmnl's:
 * Debian has no static libmnl, and a plugin that is linked dynamically costs 0.3 ms more per start
 * than all of a pod's network.
 */
#include "netlink/socket.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define ALIGNED(n) (((n) + 3U) & ~(size_t)3U)

static void *reserve(struct netlink *nl, size_t len)
{
    void *at = nl->send_buffer + nl->used;

    if (nl->overflow || sizeof(nl->send_buffer) - nl->used < ALIGNED(len)) {
        nl->overflow = true;
        return NULL;
    }
    memset(at, 0, ALIGNED(len));
    nl->used += ALIGNED(len);
    return at;
}

void message_begin(struct netlink *nl, uint16_t type, uint16_t flags, const void *header,
                   size_t header_len, const char *what, const char *name)
{
    struct netlink_answer *answer;
    struct nlmsghdr *message;

    if (nl->n_messages == NETLINK_BATCH_MAX) {
        nl->overflow = true;
        return;
    }
    nl->message_start = nl->used;
    message = reserve(nl, NLMSG_HDRLEN + header_len);
    if (!message) {
        return;
    }
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message->nlmsg_seq = nl->first_seq + nl->n_messages;
    memcpy(NLMSG_DATA(message), header, header_len);
    if (type == RTM_DELLINK) {
        nl->work = FUNNEL_REMOVE;
    } else if (type == RTM_NEWLINK && (flags & NLM_F_CREATE) && nl->work == FUNNEL_CHANGE) {
        nl->work = FUNNEL_CREATE;
    }
    answer = &nl->answers[nl->n_messages++];
    memset(answer, 0, sizeof(*answer));
    answer->errnum = -ECANCELED; /* until the kernel answers */
    answer->what = what;
    snprintf(answer->name, sizeof(answer->name), "%s", name ? name : "");
}

void message_end(struct netlink *nl)
{
    if (!nl->overflow) {
        struct nlmsghdr *message = (struct nlmsghdr *)(nl->send_buffer + nl->message_start);

        message->nlmsg_len = (uint32_t)(nl->used - nl->message_start);
    }
}

void message_creates(struct netlink *nl)
{
    if (!nl->overflow) {
        nl->creates |= (uint64_t)1 << (nl->n_messages - 1);
    }
}

void attr_put(struct netlink *nl, uint16_t type, const void *data, size_t len)
{
    struct nlattr *attr = reserve(nl, NLA_HDRLEN + len);

    if (attr) {
        attr->nla_type = type;
        attr->nla_len = (uint16_t)(NLA_HDRLEN + len);
        if (len) {
            memcpy((char *)attr + NLA_HDRLEN, data, len);
        }
    }
}

void attr_put_raw(struct netlink *nl, const void *data, size_t len)
{
    void *at = reserve(nl, len);

    if (at) {
        memcpy(at, data, len);
    }
}

void attr_put_u8(struct netlink *nl, uint16_t type, uint8_t value)
{
    attr_put(nl, type, &value, sizeof(value));
}

void attr_put_u16(struct netlink *nl, uint16_t type, uint16_t value)
{
    attr_put(nl, type, &value, sizeof(value));
}

void attr_put_u32(struct netlink *nl, uint16_t type, uint32_t value)
{
    attr_put(nl, type, &value, sizeof(value));
}

void attr_put_string(struct netlink *nl, uint16_t type, const char *value)
{
    attr_put(nl, type, value, strlen(value) + 1);
}

size_t attr_nest_begin(struct netlink *nl, uint16_t type)
{
    size_t start = nl->used;

    attr_put(nl, type | NLA_F_NESTED, NULL, 0);
    return start;
}

void attr_nest_end(struct netlink *nl, size_t start)
{
    if (!nl->overflow) {
        struct nlattr *attr = (struct nlattr *)(nl->send_buffer + start);

        attr->nla_len = (uint16_t)(nl->used - start);
    }
}

int attr_parse(const void *attrs, size_t len, const struct nlattr **table, uint16_t max)
{
    const char *at = attrs;

    memset(table, 0, sizeof(*table) * (max + 1U));
    while (len >= NLA_HDRLEN) {
        const struct nlattr *attr = (const struct nlattr *)at;
        uint16_t type = attr->nla_type & NLA_TYPE_MASK;
        size_t step;

        if (attr->nla_len < NLA_HDRLEN || attr->nla_len > len) {
            return -EBADMSG;
        }
        if (type <= max) {
            table[type] = attr;
        }
        step = ALIGNED(attr->nla_len);
        if (step >= len) {
            break;
        }
        at += step;
        len -= step;
    }
    return 0;
}

size_t attr_len(const struct nlattr *attr)
{
    return attr ? attr->nla_len - (size_t)NLA_HDRLEN : 0;
}

const void *attr_data(const struct nlattr *attr)
{
    return (const char *)attr + NLA_HDRLEN;
}

uint32_t attr_u32(const struct nlattr *attr)
{
    uint32_t value = 0;

    if (attr_len(attr) >= sizeof(value)) {
        memcpy(&value, attr_data(attr), sizeof(value));
    }
    return value;
}

void attr_string(const struct nlattr *attr, char *dst, size_t size)
{
    size_t len = attr_len(attr);

    if (len >= size) {
        len = size - 1;
    }
    if (len) {
        memcpy(dst, attr_data(attr), len);
    }
    dst[len] = '\0';
}

const struct nlmsghdr *message_next(const char **at, size_t *len)
{
    const struct nlmsghdr *message = (const struct nlmsghdr *)*at;
    size_t step;

    if (*len < NLMSG_HDRLEN || message->nlmsg_len < NLMSG_HDRLEN || message->nlmsg_len > *len) {
        return NULL;
    }
    step = ALIGNED((size_t)message->nlmsg_len);
    if (step > *len) {
        step = *len;
    }
    *at += step;
    *len -= step;
    return message;
}

bool message_attrs(const struct nlmsghdr *message, size_t header_len, const void **ret_attrs,
                   size_t *ret_len)
{
    size_t payload = message->nlmsg_len - NLMSG_HDRLEN;
    size_t aligned = NLMSG_ALIGN(header_len);

    if (payload < header_len) {
        return false;
    }
    *ret_attrs = (const char *)NLMSG_DATA(message) + aligned;
    *ret_len = payload > aligned ? payload - aligned : 0;
    return true;
}
