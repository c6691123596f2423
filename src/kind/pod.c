/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that several kinds take on the pod's and the host's devices. */
#include "kind/kind.h"

#include <errno.h>
#include <string.h>

int pod_name_free(struct attachment *at, struct error *err)
{
    struct link_info info;
    int rc = link_peek(at->pod, at->device, &info);

    if (rc == 0) {
        return error_set(err, -EEXIST, "the container has a device %s already", at->device);
    }
    return rc == -ENODEV ? 0 : error_sys(err, rc, "look up device %s", at->device);
}

int veth_make(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct netlink_answer answer;
    struct link_spec host = {.name = at->host_name,
                             .mac = &at->host_mac,
                             .mtu = at->mtu,
                             .netns_fd = env->host_netns_fd};
    struct link_spec pod = {.kind = "veth",
                            .name = at->device,
                            .mac = &at->mac,
                            .mtu = at->mtu,
                            .netns_fd = -1,
                            .peer = &host};
    int rc;

    at->has_host_end = true;
    if (mac_random(&at->host_mac) < 0) {
        return error_set(err, -EIO, "no random bytes for a MAC address");
    }
    link_put_create(at->pod, &pod);
    rc = netlink_send(at->pod, &answer, err);
    if (rc == 0) {
        at->ifindex = answer.ifindex;
    }
    return rc;
}

void veth_put_up(struct kind_env *env, const struct attachment *at)
{
    struct link_change quiet = {
        .name = at->host_name, .alias = at->alias, .no_ipv6_autoconf = true};
    struct link_change up = {.name = at->host_name, .up = true};

    link_put_change(env->host, &quiet);
    link_put_change(env->host, &up);
}

/* No MAC is known to DEL without a record, and some devices have none. */
static bool has_mac_of(const struct attachment *at, const struct link_info *info)
{
    static const struct mac_addr none;

    return memcmp(&at->mac, &none, sizeof(none)) != 0 &&
           memcmp(&at->mac, &info->mac, sizeof(none)) == 0;
}

int pod_device_delete(struct attachment *at, struct error *err)
{
    struct link_info info;
    int rc;

    if (!at->pod) {
        return 0; /* the namespace is gone, and the device with it */
    }
    rc = link_peek(at->pod, at->device, &info);
    if (rc == 0 && !has_mac_of(at, &info)) {
        rc = link_get(at->pod, 0, at->device, &info, err);
        if (rc == 0 && strcmp(info.alias, at->alias) != 0) {
            return 0; /* somebody else's */
        }
    }
    if (rc < 0 && rc != -ENODEV) {
        return error_sys(err, rc, "look up device %s", at->device);
    }
    if (rc == 0) {
        link_put_delete(at->pod, info.ifindex, at->device);
        rc = netlink_send(at->pod, NULL, err);
    }
    return rc == -ENODEV ? 0 : rc;
}

int host_device_delete(struct kind_env *env, const char *name, struct error *err)
{
    int rc;

    link_put_delete(env->host, 0, name);
    rc = netlink_send(env->host, NULL, err);
    return rc == -ENODEV ? 0 : rc;
}

int host_device_check(struct kind_env *env, const char *name, struct error *err)
{
    struct link_info info;
    int rc = link_get(env->host, 0, name, &info, err);

    if (rc == -ENODEV || (rc == 0 && !(info.flags & IFF_UP))) {
        return error_set(err, -ESTALE, "host device %s is %s", name, rc < 0 ? "gone" : "down");
    }
    return rc;
}
