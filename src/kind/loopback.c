/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `loopback`: sets `lo` up. Container runtimes call it for every pod. */
#include "kind/kind.h"

#include <errno.h>
#include <string.h>

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_change up = {.name = "lo", .up = true};
    int64_t t0 = clock_ns();
    int rc;

    link_put_change(at->pod, &up);
    rc = netlink_send(at->pod, NULL, err);
    if (rc == 0) {
        at->ifindex = 1; /* LOOPBACK_IFINDEX */
        at->mtu = 65536;
        ip_parse("127.0.0.1/8", &at->result.ips[0].address);
        ip_parse("::1/128", &at->result.ips[1].address);
        at->result.n_ips = 2;
    }
    attachment_span(env, at, "cni.link", t0, rc);
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_change down = {.name = "lo", .down = true};

    (void)env;
    if (!at->pod) {
        return 0;
    }
    link_put_change(at->pod, &down);
    return netlink_send(at->pod, NULL, err);
}

const struct kind kind_loopback = {
    .type = "loopback",
    .does = "lo up",
    .nic = "",
    .plain = true,
    .add = add,
    .del = del,
};
