/* SPDX-License-Identifier: Apache-2.0 */
/* CHECK: is the attachment still what ADD made it? What changed is named. */
#include "kind/kind.h"

#include <errno.h>
#include <string.h>

static int check_device(struct attachment *at, const struct attachment_expected *expected,
                        struct error *err)
{
    char is[MAC_TEXT_MAX], was[MAC_TEXT_MAX];
    struct link_info info;
    int rc = link_get(at->pod, 0, at->device, &info, err);

    if (rc == -ENODEV) {
        return error_set(err, -ESTALE, "device %s is gone from the container", at->device);
    }
    if (rc < 0) {
        return rc;
    }
    at->ifindex = info.ifindex;
    if (!at->kind->plain && strcmp(info.alias, at->alias) != 0) {
        return error_set(err, -ESTALE, "device %s is not the one that ADD made", at->device);
    }
    if (!(info.flags & IFF_UP)) {
        return error_set(err, -ESTALE, "device %s is down", at->device);
    }
    if (expected->has_mac && memcmp(&info.mac, &expected->mac, sizeof(info.mac)) != 0) {
        return error_set(err, -ESTALE, "device %s has MAC address %s, not %s", at->device,
                         mac_format(&info.mac, is), mac_format(&expected->mac, was));
    }
    if (at->conf.mtu && info.mtu != at->conf.mtu) {
        return error_set(err, -ESTALE, "device %s has MTU %u, not %u", at->device, info.mtu,
                         at->conf.mtu);
    }
    return 0;
}

/* What a list must show: found counts down to nothing missing. */
struct wanted {
    const struct attachment *at;
    const struct ipam_result *result;
    bool ips[IPAM_IPS_MAX], routes[IPAM_ROUTES_MAX];
};

static int see_address(unsigned ifindex, const struct ip_addr *ip, void *cookie)
{
    struct wanted *wanted = cookie;

    for (size_t i = 0; ifindex == wanted->at->ifindex && i < wanted->result->n_ips; i++) {
        const struct ip_addr *want = &wanted->result->ips[i].address;

        wanted->ips[i] |= ip_same(want, ip) && want->prefix == ip->prefix;
    }
    return 0;
}

static int see_route(const struct route_spec *route, void *cookie)
{
    struct wanted *wanted = cookie;

    for (size_t i = 0; i < wanted->result->n_routes; i++) {
        const struct ipam_route *want = &wanted->result->routes[i];
        struct ip_addr dst = ip_network(&want->dst);

        wanted->routes[i] |= ip_same(&dst, &route->dst) && dst.prefix == route->dst.prefix &&
                             (!want->gw.family || ip_same(&want->gw, &route->gw));
    }
    return 0;
}

static int check_addresses(struct attachment *at, const struct ipam_result *result,
                           struct error *err)
{
    struct wanted wanted = {.at = at, .result = result};
    char text[IP_TEXT_MAX];
    int rc = result->n_ips ? addr_list(at->pod, see_address, &wanted, err) : 0;

    if (rc == 0 && result->n_routes) {
        rc = route_list(at->pod, see_route, &wanted, err);
    }
    for (size_t i = 0; rc == 0 && i < result->n_ips; i++) {
        if (!wanted.ips[i]) {
            rc = error_set(err, -ESTALE, "device %s has lost address %s", at->device,
                           ip_format(&result->ips[i].address, true, text));
        }
    }
    for (size_t i = 0; rc == 0 && i < result->n_routes; i++) {
        if (!wanted.routes[i]) {
            rc = error_set(err, -ESTALE, "the container has lost the route to %s",
                           ip_format(&result->routes[i].dst, true, text));
        }
    }
    return rc;
}

static int check_lease(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct ipam_owner owner = {at->key.container_id, at->key.ifname};
    int rc = 0;

    if (at->addresses == ADDRESSES_HOST_LOCAL) {
        rc = ipam_check(at->ipam, env->instance, &owner, err);
        if (rc == -ENOENT) {
            err->errnum = rc = -ESTALE;
        }
    } else if (at->addresses == ADDRESSES_DELEGATED) {
        rc = attachment_delegate(at, "CHECK", NULL, err);
    }
    return rc;
}

static int check_record(struct kind_env *env, struct attachment *at, struct record *ret,
                        struct error *err)
{
    struct record record = {0};
    int rc = record_read(env->instance, &at->key, &record, err);

    if (rc == -ENOENT) {
        return error_set(err, -ESTALE, "there is no record of interface %s of container %s",
                         at->key.ifname, at->key.container_id);
    }
    if (rc == 0 && record.ovs_socket[0] &&
        str_copy(at->ovs_socket, sizeof(at->ovs_socket), record.ovs_socket) == 0) {
        at->conf.socket_file = at->ovs_socket;
    }
    if (rc == 0 && record.part) {
        at->part = record.part;
        attachment_prepare(at, env->instance);
    }
    if (rc == 0 && strcmp(record.state, "ready") != 0) {
        rc = error_set(err, -ESTALE, "interface %s of container %s was never finished",
                       at->key.ifname, at->key.container_id);
    }
    if (rc < 0) {
        record_clear(&record);
    } else {
        *ret = record;
    }
    return rc;
}

int attachment_check(struct kind_env *env, struct attachment *at,
                     const struct attachment_expected *expected, struct error *err)
{
    bool inside = !at->kind->outside && !at->kind->no_device;
    struct record record = {0};
    int rc = attachment_open_pod(env, at, err);

    if (rc == 0 && !at->kind->plain) {
        rc = check_record(env, at, &record, err);
    }
    if (rc == 0 && inside) {
        rc = check_device(at, expected, err);
    }
    if (rc == 0 && inside) {
        rc = check_addresses(at, &expected->result, err);
    }
    if (rc == 0 && at->kind->check) {
        rc = at->kind->check(env, at, err);
    }
    if (rc == 0) {
        rc = police_check(env, at, &record, err);
    }
    record_clear(&record);
    return rc < 0 ? rc : check_lease(env, at, err);
}
