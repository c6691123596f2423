/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kind `ovs-internal`: an OVS internal port moved into the pod. The move waits for RCU under RTNL
 * (15-20 ms): there for those who need it, slower than the others by nature.
 */
#include "kind/kind.h"

#include <errno.h>
#include <string.h>

static int move_device(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_info info;
    struct link_change change = {.name = at->host_name,
                                 .netns_fd = &at->netns_fd,
                                 .new_name = at->device,
                                 .mac = &at->mac,
                                 .alias = at->alias};
    int rc = link_get(env->host, 0, at->host_name, &info, err);

    if (rc < 0) {
        return rc;
    }
    if (!strcmp(info.kind, "openvswitch")) {
        /* ovs-vswitchd knows it by its name, and makes another when that is gone. */
        return error_set(err, -EINVAL,
                         "bridge %s has the kernel's datapath, whose ports must keep their names: "
                         "kind ovs-internal is for datapath netdev",
                         at->conf.bridge);
    }
    change.ifindex = info.ifindex;
    link_put_change(env->host, &change);
    rc = netlink_send(env->host, NULL, err);
    if (rc == 0) {
        rc = link_get(at->pod, 0, at->device, &info, err);
    }
    if (rc == 0) {
        at->ifindex = info.ifindex;
        at->mtu = info.mtu;
    }
    return rc;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    int64_t t0 = clock_ns();
    int rc = pod_name_free(at, err); /* the move would fail only after the port was made */

    if (rc == 0) {
        rc = port_add(env, at, PORT_INTERNAL, err);
    }
    attachment_span(env, at, "cni.ovs", t0, rc);
    if (rc < 0) {
        return rc;
    }
    t0 = clock_ns();
    rc = move_device(env, at, err);
    attachment_span(env, at, "cni.link", t0, rc);
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = port_delete(env, at, err);

    /* ovs-vswitchd closes the device in its own time; a new ADD may want the name now. */
    if (rc == 0) {
        rc = pod_device_delete(at, err);
    }
    if (rc == 0) {
        rc = host_device_delete(env, at->host_name, err);
    }
    return rc == -EOPNOTSUPP ? 0 : rc; /* the kernel's datapath, where it goes with the port */
}

static int check(struct kind_env *env, struct attachment *at, struct error *err)
{
    return port_check(env, at, at->host_name, err);
}

const struct kind kind_ovs_internal = {
    .type = "ovs-internal",
    .does = "OVS internal port moved into the pod",
    .nic = "tap+tc",
    .needs_bridge = true,
    .own_port = true,
    .add = add,
    .del = del,
    .check = check,
};
