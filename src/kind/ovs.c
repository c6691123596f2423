/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `ovs`: a veth whose host end is a port of an OVS bridge. */
#include "kind/kind.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

/*
 * The port works: what its device needs now. Where DEL and ADD of one attachment follow each other,
 * ovs-vswitchd may have closed the port that had the device's name only now, and put the flags back
 * that it saw before ours. Its own datapath, which shows by a promiscuous device, takes packets as
 * they are.
 */
static int settle(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_change up = {.name = at->host_name, .up = true};
    struct link_info info = {0};
    int rc = 0;

    if (link_peek(env->host, at->host_name, &info) < 0 || !(info.flags & IFF_UP)) {
        link_put_change(env->host, &up);
        rc = netlink_send(env->host, NULL, err);
    }
    return rc == 0 && (info.flags & IFF_PROMISC)
               ? link_no_checksum_offload(at->pod, at->device, err)
               : rc;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    int64_t t0 = clock_ns();
    int rc;

    at->mtu = at->conf.mtu ? at->conf.mtu : 1500;
    rc = veth_make(env, at, err);
    if (rc == 0) {
        veth_put_up(env, at);
        rc = netlink_send(env->host, NULL, err);
    }
    attachment_span(env, at, "cni.link", t0, rc);
    if (rc < 0) {
        return rc;
    }
    t0 = clock_ns();
    rc = port_add(env, at, "", err);
    if (rc == 0) {
        rc = settle(env, at, err);
    }
    attachment_span(env, at, "cni.ovs", t0, rc);
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    int device_rc = host_device_delete(env, at->host_name, err);
    int rc = port_delete(env, at, err);

    return rc < 0 ? rc : device_rc;
}

static int check(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = host_device_check(env, at->host_name, err);

    return rc < 0 ? rc : port_check(env, at, at->host_name, err);
}

const struct kind kind_ovs = {
    .type = "ovs",
    .does = "veth, host end a port of an OVS bridge",
    .nic = "tap+tc",
    .needs_bridge = true,
    .own_port = true,
    .add = add,
    .del = del,
    .check = check,
};
