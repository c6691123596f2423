/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kind `ovs-tc-routing`: a veth whose host end is joined to the tenant's OVS port by a look-up of
 * the address (tc_program.c). OVS has one port a tenant, however many pods there are.
 */
#include "bpf/bpf.h"
#include "kind/tc-internal.h"
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

static struct tc_key address_key(const struct ip_addr *ip)
{
    struct tc_key key = {.family = ip->family == AF_INET ? TC_IPV4 : TC_IPV6};

    memcpy(key.bytes, ip->bytes, ip_bytes(ip));
    return key;
}

static struct tc_key device_key(unsigned ifindex)
{
    struct tc_key key = {.family = TC_DEVICE};

    memcpy(key.bytes, &ifindex, sizeof(ifindex));
    return key;
}

/* What the tables are to have of this attachment. */
static void describe(const struct attachment *at, unsigned host_ifindex, struct tc_owner *ret)
{
    struct ip_addr link_local = policy_link_local(&at->mac);
    bool ipv6 = false;

    *ret = (struct tc_owner){.route.ifindex = host_ifindex,
                             .route.flags = at->conf.through_ovs ? TC_THROUGH_OVS : 0};
    memcpy(ret->route.mac, at->mac.bytes, MAC_LEN);
    ret->keys[ret->n_keys++] = device_key(host_ifindex);
    for (size_t i = 0; i < at->result.n_ips; i++) {
        const struct ip_addr *ip = &at->result.ips[i].address;

        ret->keys[ret->n_keys++] = address_key(ip);
        ipv6 |= ip->family == AF_INET6;
    }
    if (ipv6) {
        ret->keys[ret->n_keys++] = address_key(&link_local);
    }
}

static const char *key_text(const struct tc_key *key, char buf[IP_TEXT_MAX])
{
    struct ip_addr ip = {.family = key->family == TC_IPV4 ? AF_INET : AF_INET6};

    memcpy(ip.bytes, key->bytes, sizeof(key->bytes));
    return key->family == TC_DEVICE ? "its device" : ip_format(&ip, false, buf);
}

static int table_error(const struct attachment *at, int rc, struct error *err)
{
    return rc == -E2BIG ? error_set(err, rc, "port %s has as many pods as it can", at->conf.port)
                        : error_sys(err, rc, "the addresses of port %s", at->conf.port);
}

/* An address that the table has already is another pod's, or of one whose device is gone. */
static int put_route(struct kind_env *env, const struct attachment *at, const struct tc_switch *sw,
                     const struct tc_key *key, const struct tc_route *route, struct error *err)
{
    char text[IP_TEXT_MAX];
    struct tc_route there;
    struct link_info info;
    int rc = bpf_table_add(sw->routes, key, route);

    if (rc == -EEXIST && bpf_table_get(sw->routes, key, &there) == 0 &&
        there.ifindex != route->ifindex &&
        link_get(env->host, there.ifindex, NULL, &info, NULL) == 0) {
        return error_set(err, -EADDRINUSE, "address %s on port %s is that of device %s (%s)",
                         key_text(key, text), at->conf.port, info.name, info.alias);
    }
    if (rc == -EEXIST) {
        rc = bpf_table_put(sw->routes, key, route);
    }
    return rc < 0 ? table_error(at, rc, err) : 0;
}

/* The owner goes last, so that what a kill leaves is found again. */
static void remove_routes(const struct tc_switch *sw, const char host_name[IFNAMSIZ])
{
    struct tc_owner owner;

    if (bpf_table_get(sw->owners, host_name, &owner) < 0) {
        return;
    }
    for (uint32_t i = 0; i < owner.n_keys && i < TC_KEYS_MAX; i++) {
        struct tc_route there;

        if (bpf_table_get(sw->routes, &owner.keys[i], &there) == 0 &&
            there.ifindex == owner.route.ifindex) {
            (void)bpf_table_delete(sw->routes, &owner.keys[i]);
        }
    }
    (void)bpf_table_delete(sw->owners, host_name);
}

static int put_routes(struct kind_env *env, const struct attachment *at, const struct tc_switch *sw,
                      const struct tc_owner *owner, struct error *err)
{
    int rc;

    remove_routes(sw, at->host_name); /* of a device that went without DEL */
    rc = bpf_table_put(sw->owners, at->host_name, owner);
    if (rc < 0) {
        return table_error(at, rc, err);
    }
    for (uint32_t i = 0; rc == 0 && i < owner->n_keys; i++) {
        rc = put_route(env, at, sw, &owner->keys[i], &owner->route, err);
    }
    return rc;
}

/* The host's end is set up last: nothing passes before all is there. */
static int join(struct kind_env *env, struct attachment *at, const struct tc_switch *sw,
                struct error *err)
{
    struct tc_owner owner;
    struct link_info host;
    int rc = link_peek(env->host, at->host_name, &host);

    if (rc < 0) {
        return error_sys(err, rc, "look up device %s", at->host_name);
    }
    describe(at, host.ifindex, &owner);
    rc = put_routes(env, at, sw, &owner, err);
    if (rc == 0) {
        tc_bpf_put_messages(env->host, host.ifindex, false, sw->program, "sluice");
        veth_put_up(env, at);
        rc = netlink_send(env->host, NULL, err);
    }
    return rc;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    int64_t t0 = clock_ns();
    int rc;

    if (!at->result.n_ips) {
        return error_set(err, -EINVAL, "ipam: type %s needs one that gives the pod an address",
                         at->kind->type);
    }
    rc = tc_port_ensure(env, at, &sw, err);
    attachment_span(env, at, "cni.ovs", t0, rc);
    if (rc < 0) {
        return rc;
    }
    t0 = clock_ns();
    at->mtu = at->conf.mtu ? at->conf.mtu : sw.mtu;
    if (at->mtu > sw.mtu) {
        return error_set(err, -EINVAL, "mtu: %u is not allowed; port %s has %u", at->mtu,
                         at->conf.port, sw.mtu);
    }
    rc = veth_make(env, at, err);
    if (rc == 0) {
        rc = join(env, at, &sw, err);
    }
    attachment_span(env, at, "cni.link", t0, rc);
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    int rc = tc_port_find(env, at, &sw, err);

    if (rc == 0) {
        remove_routes(&sw, at->host_name);
    }
    return rc < 0 && rc != -ENOENT ? rc : host_device_delete(env, at->host_name, err);
}

static int check_routes(const struct attachment *at, const struct tc_switch *sw,
                        const struct link_info *host, struct error *err)
{
    char text[IP_TEXT_MAX];
    struct tc_owner owner = {.n_keys = 0};
    struct tc_route there;

    if (bpf_table_get(sw->owners, at->host_name, &owner) < 0 ||
        owner.route.ifindex != host->ifindex || owner.n_keys > TC_KEYS_MAX) {
        return error_set(err, -ESTALE, "port %s does not know device %s", at->conf.port,
                         at->host_name);
    }
    for (uint32_t i = 0; i < owner.n_keys; i++) {
        if (bpf_table_get(sw->routes, &owner.keys[i], &there) < 0 ||
            memcmp(&there, &owner.route, sizeof(there)) != 0) {
            return error_set(err, -ESTALE, "port %s has lost the way to %s", at->conf.port,
                             key_text(&owner.keys[i], text));
        }
    }
    return 0;
}

static int check(struct kind_env *env, struct attachment *at, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    struct tc_bpf_info ours, filter;
    struct link_info host;
    int rc = host_device_check(env, at->host_name, err);

    if (rc == 0) {
        rc = tc_port_check(env, at, err);
    }
    if (rc == 0) {
        rc = tc_port_find(env, at, &sw, err);
    }
    if (rc == -ENOENT) {
        return error_set(err, -ESTALE, "port %s has lost its filter", at->conf.port);
    }
    if (rc == 0) {
        rc = link_peek(env->host, at->host_name, &host);
    }
    if (rc == 0) {
        rc = tc_bpf_get(env->host, host.ifindex, false, &filter, err);
    }
    if (rc == -ENOENT) {
        return error_set(err, -ESTALE, "device %s does not lead to port %s", at->host_name,
                         at->conf.port);
    }
    if (rc == 0) {
        rc = tc_bpf_get(env->host, sw.ifindex, false, &ours, err);
    }
    if (rc == 0 && filter.prog_id != ours.prog_id) {
        rc = error_set(err, -ESTALE, "device %s does not lead to port %s", at->host_name,
                       at->conf.port);
    }
    return rc < 0 ? rc : check_routes(at, &sw, &host, err);
}

/* What DEL could not know of: entries of devices that are gone. */
static int gc(struct kind_env *env, struct attachment *at, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    char name[IFNAMSIZ], next[IFNAMSIZ];
    struct link_info info;
    int rc = tc_port_find(env, at, &sw, err);
    bool more = rc == 0 && bpf_table_next(sw.owners, NULL, name) == 0;

    while (more) {
        more = bpf_table_next(sw.owners, name, next) == 0; /* before this one goes */
        if (link_peek(env->host, name, &info) == -ENODEV) {
            remove_routes(&sw, name);
        }
        memcpy(name, next, sizeof(name));
    }
    return rc == -ENOENT ? 0 : rc;
}

static const char *port_class(const struct attachment *at)
{
    (void)at;
    return "tc-routing";
}

const struct kind kind_ovs_tc_routing = {
    .type = "ovs-tc-routing",
    .does = "veth joined to the tenant's OVS port by address",
    .nic = "tap+tc",
    .needs_bridge = true,
    .has_port = true,
    .guarded = true,
    .port_class = port_class,
    .add = add,
    .del = del,
    .check = check,
    .gc = gc,
};
