/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds `ovs-macvlan` and `ovs-macvtap`: a sub-device of the tenant's OVS internal port, made in
 * the pod's namespace. They differ in the device's kind only.
 */
#include "kind/kind.h"

#include <errno.h>
#include <linux/if_link.h>
#include <string.h>

static const char *const modes[] = {"bridge", "private", "vepa", "passthru", NULL};
static const uint32_t mode_values[] = {MACVLAN_MODE_BRIDGE, MACVLAN_MODE_PRIVATE, MACVLAN_MODE_VEPA,
                                       MACVLAN_MODE_PASSTHRU};

/* With a policy OVS is to see what pods send each other: it sends it back. */
static uint32_t mode_of(const struct attachment *at)
{
    return at->cookie && mode_values[at->conf.mode] == MACVLAN_MODE_BRIDGE
               ? MACVLAN_MODE_VEPA
               : mode_values[at->conf.mode];
}

/* From the host's side straight into the pod: the device below needs no namespace id then. */
static int make_device(struct kind_env *env, struct attachment *at, const struct link_info *parent,
                       struct error *err)
{
    struct link_spec spec = {.kind = at->kind->type + strlen("ovs-"),
                             .name = at->device,
                             .mac = &at->mac,
                             .mtu = at->conf.mtu,
                             .netns_fd = at->netns_fd,
                             .parent = parent->ifindex,
                             .parent_nsid = -1,
                             .macvlan_mode = mode_of(at)};
    struct link_info made;
    int rc;

    link_put_create(env->host, &spec);
    rc = netlink_send(env->host, NULL, err);
    if (rc == 0) {
        rc = link_peek(at->pod, at->device, &made);
        if (rc < 0) {
            return error_sys(err, rc, "look up device %s", at->device);
        }
        at->ifindex = made.ifindex;
    }
    return rc < 0 ? error_wrap(err, "port %s, mode %s", at->conf.port, modes[at->conf.mode]) : 0;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    int64_t t0 = clock_ns();
    struct link_info parent;
    int rc = port_ensure(env, at, &parent, err);

    attachment_span(env, at, "cni.ovs", t0, rc);
    if (rc < 0) {
        return rc;
    }
    t0 = clock_ns();
    at->mtu = at->conf.mtu ? at->conf.mtu : parent.mtu;
    if (at->mtu > parent.mtu) {
        return error_set(err, -EINVAL, "mtu: %u is not allowed; port %s has %u", at->mtu,
                         at->conf.port, parent.mtu);
    }
    rc = make_device(env, at, &parent, err);
    attachment_span(env, at, "cni.link", t0, rc);
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    (void)env;
    return pod_device_delete(at, err);
}

static int check(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_info info;
    int rc = link_get(env->host, 0, at->conf.port, &info, err);

    if (rc == -ENODEV || (rc == 0 && !(info.flags & IFF_UP))) {
        return error_set(err, -ESTALE, "port %s is %s", at->conf.port, rc < 0 ? "gone" : "down");
    }
    return rc < 0 ? rc : port_check(env, at, at->conf.port, err);
}

const struct kind kind_ovs_macvlan = {
    .type = "ovs-macvlan",
    .does = "macvlan on the tenant's OVS port",
    .nic = "tap+tc",
    .modes = modes,
    .needs_bridge = true,
    .has_port = true,
    .add = add,
    .del = del,
    .check = check,
};

const struct kind kind_ovs_macvtap = {
    .type = "ovs-macvtap",
    .does = "macvtap on the tenant's OVS port",
    .nic = "fd",
    .modes = modes,
    .needs_bridge = true,
    .has_port = true,
    .add = add,
    .del = del,
    .check = check,
};
