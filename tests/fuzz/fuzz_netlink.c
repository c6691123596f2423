/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of a kernel that is newer, older or broken. The input is datagrams, each after its length
 * in two bytes; sequence numbers count from 1 as the socket does.
 */
#include "fuzz.h"
#include "netlink/netlink-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536

static int see_link(const struct link_info *info, void *cookie)
{
    (void)cookie;
    if (strlen(info->name) >= sizeof(info->name) || strlen(info->alias) >= sizeof(info->alias) ||
        strlen(info->kind) >= sizeof(info->kind)) {
        abort();
    }
    return 0;
}

static int see_addr(unsigned ifindex, const struct ip_addr *ip, void *cookie)
{
    struct ip_addr last = ip_last(ip);
    char text[IP_TEXT_MAX];

    (void)ifindex;
    (void)cookie;
    ip_format(&last, true, text);
    return 0;
}

static int see_route(const struct route_spec *route, void *cookie)
{
    return see_addr(route->ifindex, &route->dst, cookie);
}

/* What can be asked, in turn: the first byte chooses. */
static int ask(struct netlink *nl, uint8_t question, struct error *err)
{
    struct netlink_answer answers[2];
    struct tc_bpf_info filter;
    struct link_info info;
    int nsid;

    switch (question % 8) {
    case 0:
        link_put_delete(nl, 7, "a");
        link_put_delete(nl, 8, "b");
        return netlink_send(nl, answers, err);
    case 1:
        return link_get(nl, 0, "a", &info, err);
    case 2:
        return link_list(nl, see_link, NULL, err);
    case 3:
        return addr_list(nl, see_addr, NULL, err);
    case 4:
        return route_list(nl, see_route, NULL, err);
    case 6:
        return tc_bpf_get(nl, 1, false, &filter, err);
    case 7:
        return tc_tbf_check(nl, 1, 1000000, 80000, err); /* lo: its MTU is asked for */
    default:
        return netns_nsid(nl, 0, &nsid, err);
    }
}

static void feed(int fd, const uint8_t *data, size_t size)
{
    while (size >= 2) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;

        data += 2;
        size -= 2;
        len = len < size ? len : size;
        if (len && send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            break;
        }
        data += len;
        size -= len;
    }
    shutdown(fd, SHUT_WR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autonetlink struct netlink *nl = NULL;
    struct error err = {0};
    int ends[2];

    if (size < 1 || size > INPUT_MAX) {
        return 0;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ||
        netlink_attach(ends[0], &nl, &err) < 0) {
        abort();
    }
    feed(ends[1], data + 1, size - 1);
    if (ask(nl, data[0], &err) < 0 && !err.text[0]) {
        abort();
    }
    close(ends[1]);
    return 0;
}
