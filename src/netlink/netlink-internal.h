/* SPDX-License-Identifier: Apache-2.0 */
/* Building and reading netlink messages, for the files of this room. */
#pragma once

#include "netlink/netlink.h"

#include <linux/netlink.h>

/*
 * Begins a message of type with a fixed header (struct ifinfomsg and its like) copied in; what and
 * name are for error texts. NLM_F_REQUEST and NLM_F_ACK are added. One that does not fit marks the
 * batch as overflown: netlink_send then refuses it whole with -EMSGSIZE.
 */
void message_begin(struct netlink *nl, uint16_t type, uint16_t flags, const void *header,
                   size_t header_len, const char *what, const char *name);
void message_end(struct netlink *nl);

/* The message begun last makes the device that it names, in the socket's own namespace. */
void message_creates(struct netlink *nl);

void attr_put(struct netlink *nl, uint16_t type, const void *data, size_t len);
void attr_put_u8(struct netlink *nl, uint16_t type, uint8_t value);
void attr_put_u16(struct netlink *nl, uint16_t type, uint16_t value);
void attr_put_u32(struct netlink *nl, uint16_t type, uint32_t value);
void attr_put_string(struct netlink *nl, uint16_t type, const char *value);
void attr_put_raw(struct netlink *nl, const void *data, size_t len); /* aligned, no attribute */
size_t attr_nest_begin(struct netlink *nl, uint16_t type);           /* pass to attr_nest_end */
void attr_nest_end(struct netlink *nl, size_t start);

/* Fills table[type] for type <= max from attributes that were checked to lie within len bytes;
 * unknown ones are passed over. -EBADMSG when lengths don't add up. */
int attr_parse(const void *attrs, size_t len, const struct nlattr **table, uint16_t max);

/* Payloads, checked: 0 or "" when the attribute is missing or too short. */
uint32_t attr_u32(const struct nlattr *attr);
size_t attr_len(const struct nlattr *attr);
const void *attr_data(const struct nlattr *attr);
void attr_string(const struct nlattr *attr, char *dst, size_t size);

/*
 * Sends one request and hands every reply message that is not an acknowledgement to visit; dump:
 * ask for all (again, when the kernel says that things changed meanwhile; visit then sees the start
 * anew with NULL). The message must have been begun and ended before, and be alone: -EBUSY. A
 * negative return of visit is the query's.
 */
int netlink_query(struct netlink *nl, bool dump,
                  int (*visit)(const struct nlmsghdr *message, void *cookie), void *cookie,
                  struct error *err);

/* As netlink_open, but a NETLINK_GENERIC socket. */
int netlink_open_generic(int netns_fd, struct netlink **ret, struct error *err);

int netlink_fd(const struct netlink *nl);

/* Speaks netlink over a descriptor that keeps datagrams apart; it is taken, on failure too. */
int netlink_attach(int fd, struct netlink **ret, struct error *err);

/* The next message of a datagram (aligned), or NULL: its end, or lengths that don't add up. */
const struct nlmsghdr *message_next(const char **at, size_t *len);

/* Whether a message's payload has room for its fixed header; then *ret_attrs and *ret_len tell
 * where attributes are. */
bool message_attrs(const struct nlmsghdr *message, size_t header_len, const void **ret_attrs,
                   size_t *ret_len);
