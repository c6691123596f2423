/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kind `ovs-dev-pool`: a device that stays with the host, and is handed to the VM by descriptor:
 * a tap that is a port of its own, or a macvtap or ipvtap on the tenant's port. With an agent it
 * comes out of a pool (part.c); made here when the pool is empty, or there is none.
 */
#include "kind/kind.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <string.h>

enum { PART_TAP, PART_MACVTAP, PART_IPVTAP };

static const char *const parts[] = {"tap", "macvtap", "ipvtap", NULL};

static int make_tap(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_change change = {.name = at->host_name, .mtu = at->conf.mtu};
    autoclose int fd = -1;
    int rc = tap_open(env->host_netns_fd, at->host_name, IFF_VNET_HDR, true, &fd, err);

    if (rc == 0 && at->conf.mtu) {
        link_put_change(env->host, &change);
        rc = netlink_send(env->host, NULL, err);
    }
    return rc;
}

static int make_linked(struct kind_env *env, struct attachment *at, struct error *err)
{
    bool ipvtap = at->conf.pool_type == PART_IPVTAP;
    struct link_info parent;
    struct link_spec spec =
        ipvtap ? ipvlan_mode(at)
               : (struct link_spec){.macvlan_mode = macvlan_mode(at, MACVLAN_MODE_BRIDGE)};
    int rc;

    if (ipvtap && !at->result.n_ips) {
        return error_set(err, -EINVAL, "ipam: poolType ipvtap needs one that gives an address");
    }
    rc = port_ensure(env, at, &parent, err);
    spec.kind = parts[at->conf.pool_type];
    spec.name = at->host_name;
    spec.mac = ipvtap ? NULL : &at->mac;
    spec.mtu = at->conf.mtu;
    spec.netns_fd = spec.parent_nsid = -1;
    if (rc == 0) {
        spec.parent = parent.ifindex;
        link_put_create(env->host, &spec);
        rc = netlink_send(env->host, NULL, err);
    }
    return rc;
}

static int make(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_info info;
    int64_t t0 = clock_ns();
    int rc = (at->conf.pool_type == PART_TAP ? make_tap : make_linked)(env, at, err);

    if (rc == 0) {
        rc = link_peek(env->host, at->host_name, &info);
        if (rc < 0) {
            error_sys(err, rc, "look up device %s", at->host_name);
        }
    }
    attachment_span(env, at, "cni.link", t0, rc);
    if (rc == 0) {
        at->has_host_end = true;
        at->ifindex = info.ifindex;
        at->mtu = info.mtu;
        at->host_mac = info.mac;
    }
    return rc;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = make(env, at, err);
    int64_t t0 = clock_ns();

    if (rc == 0 && at->conf.pool_type == PART_TAP) {
        rc = port_add(env, at, "", err);
        attachment_span(env, at, "cni.ovs", t0, rc);
    }
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    int device_rc = host_device_delete(env, at->host_name, err);
    int rc = at->conf.pool_type == PART_TAP ? port_delete(env, at, err) : 0;

    return rc < 0 ? rc : device_rc;
}

static int check(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = host_device_check(env, at->host_name, err);

    if (rc == 0) {
        rc = port_check(env, at, at->conf.pool_type == PART_TAP ? at->host_name : at->conf.port,
                        err);
    }
    return rc;
}

static int open_device(struct kind_env *env, const struct attachment *at, int *ret_fd,
                       struct error *err)
{
    struct link_info info;
    int rc = link_peek(env->host, at->host_name, &info);

    /* To open a tap that is gone would make another, which is no port. */
    if (rc < 0) {
        return error_sys(err, rc, "look up device %s", at->host_name);
    }
    return at->conf.pool_type == PART_TAP
               ? tap_open(env->host_netns_fd, at->host_name, IFF_VNET_HDR, false, ret_fd, err)
               : macvtap_open(at->host_name, ret_fd, err);
}

/* A tap has one queue: who can open it has it alone. The others may be open many times over. */
static bool reusable(struct kind_env *env, const struct attachment *at)
{
    autoclose int fd = -1;

    return at->conf.pool_type == PART_TAP && open_device(env, at, &fd, NULL) == 0;
}

static bool port_mac(const struct attachment *at)
{
    return at->conf.pool_type == PART_IPVTAP;
}

static const char *port_class(const struct attachment *at)
{
    return at->conf.pool_type == PART_IPVTAP ? ipvlan_port_class(at) : NULL;
}

const struct kind kind_ovs_dev_pool = {
    .type = "ovs-dev-pool",
    .does = "tap, macvtap or ipvtap out of the pool",
    .nic = "fd",
    .parts = parts,
    .needs_bridge = true,
    .outside = true,
    .has_port = true,
    .port_mac = port_mac,
    .port_class = port_class,
    .add = add,
    .del = del,
    .check = check,
    .open = open_device,
    .reusable = reusable,
};
