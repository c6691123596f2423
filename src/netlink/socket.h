/* SPDX-License-Identifier: Apache-2.0 */
/* What a netlink socket is made of: shared by socket.c (sends) and message.c (fills). */
#pragma once

#include "netlink/netlink-internal.h"

struct netlink {
    int fd;
    uint32_t first_seq; /* of the batch being filled */
    unsigned n_messages;
    size_t used, message_start;
    bool overflow;
    uint64_t creates;      /* which messages make a device in the socket's own namespace */
    enum funnel_work work; /* of the batch being filled */
    struct funnel *funnel; /* NULL: none */
    bool unusable;         /* answers were lost: what is still to come can't be told apart */
    struct netlink_answer answers[NETLINK_BATCH_MAX];
    char send_buffer[32768] __attribute__((aligned(8)));
};
