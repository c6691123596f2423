/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices linked to the tenant's OVS port (macvlan, macvtap, ipvlan, ipvtap), made in the pod's
 * namespace. They differ in the device's kind and mode only.
 */
#include "kind/kind.h"

#include <errno.h>
#include <string.h>

/* From the host's side straight into the pod: the device below needs no namespace id then. */
static int make_device(struct kind_env *env, struct attachment *at, const struct link_info *parent,
                       const struct link_spec *mode, struct error *err)
{
    struct link_spec spec = *mode;
    struct link_info made;
    int rc;

    spec.kind = at->kind->type + strlen("ovs-");
    spec.name = at->device;
    spec.mac = kind_port_mac(at) ? NULL : &at->mac;
    spec.mtu = at->conf.mtu;
    spec.netns_fd = at->netns_fd;
    spec.parent = parent->ifindex;
    spec.parent_nsid = -1;
    link_put_create(env->host, &spec);
    rc = netlink_send(env->host, NULL, err);
    if (rc == 0) {
        rc = link_peek(at->pod, at->device, &made);
        if (rc < 0) {
            return error_sys(err, rc, "look up device %s", at->device);
        }
        at->ifindex = made.ifindex;
    }
    return rc < 0
               ? error_wrap(err, "port %s, mode %s", at->conf.port, at->kind->modes[at->conf.mode])
               : 0;
}

int linked_add(struct kind_env *env, struct attachment *at, const struct link_spec *mode,
               struct error *err)
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
    rc = make_device(env, at, &parent, mode, err);
    attachment_span(env, at, "cni.link", t0, rc);
    return rc;
}

int linked_del(struct kind_env *env, struct attachment *at, struct error *err)
{
    (void)env;
    return pod_device_delete(at, err);
}

int linked_check(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_info info;
    int rc = link_get(env->host, 0, at->conf.port, &info, err);

    if (rc == -ENODEV || (rc == 0 && !(info.flags & IFF_UP))) {
        return error_set(err, -ESTALE, "port %s is %s", at->conf.port, rc < 0 ? "gone" : "down");
    }
    return rc < 0 ? rc : port_check(env, at, at->conf.port, err);
}
