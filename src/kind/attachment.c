/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CNI ADD, DEL or CHECK, whatever the kind: claim, addresses, device, set-up, record; and all
 * of it undone by the same code that DEL runs.
 */
#include "kind/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* IPv4 needs none of IPv6's chatter, which makes bridges and OVS quadratic. */
static bool wants_ipv6(const struct ipam_result *result)
{
    for (size_t i = 0; i < result->n_ips; i++) {
        if (result->ips[i].address.family == AF_INET6) {
            return true;
        }
    }
    return false;
}

void attachment_span(const struct kind_env *env, const struct attachment *at, const char *stage,
                     int64_t t0_ns, int rc)
{
    span_end(env->span_fd, at->key.container_id, stage, t0_ns, 0, rc == 0);
}

const char *attachment_alias_prefix(const char *instance, char buf[KIND_ALIAS_MAX])
{
    char tag[14];

    hash64_text(hash64_str(HASH64_START, instance), tag);
    snprintf(buf, KIND_ALIAS_MAX, "sluice/%.6s/", tag);
    return buf;
}

bool attachment_alias_parse(const char *instance, const char *alias, char buf[KIND_ALIAS_MAX],
                            struct attachment_key *ret)
{
    char prefix[KIND_ALIAS_MAX], *save, *parts[3];

    attachment_alias_prefix(instance, prefix);
    if (!str_has_prefix(alias, prefix) ||
        str_copy(buf, KIND_ALIAS_MAX, alias + strlen(prefix)) < 0) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        parts[i] = strtok_r(i ? NULL : buf, "/", &save);
        if (!parts[i]) {
            return false;
        }
    }
    *ret = (struct attachment_key){parts[0], parts[1], parts[2]};
    return true;
}

static uint64_t key_hash(const struct attachment_key *key, const char *instance)
{
    uint64_t hash = hash64_str(hash64_str(HASH64_START, instance), key->network);

    hash = hash64_str(hash, key->container_id);
    return hash64_str(hash, key->ifname);
}

/* A tenant's port belongs to the bridge, the tenant and the VLAN, not to a network; pods with
 * policies have one for themselves (check_same_use in port.c). */
static uint64_t tenant_hash(const struct attachment *at, const char *instance)
{
    uint64_t hash =
        hash64_str(hash64_str(HASH64_START, instance), at->conf.bridge ? at->conf.bridge : "");
    char vlan[16];

    snprintf(vlan, sizeof(vlan), "%d", at->conf.vlan);
    hash = hash64_str(hash64_str(hash, at->conf.tenant), vlan);
    if (at->kind->port_class && at->kind->port_class(at)) {
        hash = hash64_str(hash, at->kind->port_class(at));
    }
    return at->conf.through_ovs ? hash64_str(hash, "policed") : hash;
}

static void prepare_policy(struct attachment *at, const char *instance)
{
    const char *const key[] = {at->key.network, at->key.container_id, at->key.ifname};
    char vlan[16];
    const char *const tenant[] = {at->conf.tenant, vlan};

    if (policy_any(&at->policy)) {
        snprintf(vlan, sizeof(vlan), "%d", at->conf.vlan);
        at->conf.through_ovs = true;
        at->cookie = policy_cookie(instance, key, ARRAY_SIZE(key));
        at->tenant_cookie = policy_tenant_any(&at->policy)
                                ? policy_cookie(instance, tenant, ARRAY_SIZE(tenant))
                                : 0;
    }
}

void attachment_prepare(struct attachment *at, const char *instance)
{
    char text[14], number[PART_TEXT_MAX];
    struct attachment_key key = at->part ? part_key(at, at->part, number) : at->key;
    size_t used;

    if (!at->device) {
        at->device = at->key.ifname;
    }
    hash64_text(key_hash(&key, instance), text);
    snprintf(at->host_name, sizeof(at->host_name), "sl%s", text);
    if (at->kind->no_device) {
        snprintf(at->socket_path, sizeof(at->socket_path), "%s/vhost/%s/socket", instance,
                 at->host_name);
    }
    used = strlen(attachment_alias_prefix(instance, at->alias));
    snprintf(at->alias + used, sizeof(at->alias) - used, "%s/%s/%s", key.network, key.container_id,
             key.ifname);
    prepare_policy(at, instance);
    if (at->kind->has_port && !at->conf.port) {
        hash64_text(tenant_hash(at, instance), text);
        snprintf(at->port_name, sizeof(at->port_name), "st%s", text);
        at->conf.port = at->port_name;
    }
}

int attachment_open_pod(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct netns_id host, pod;
    int rc = at->passed_netns ? netns_copy(*at->passed_netns, at->netns_path, &at->netns_fd, err)
                              : netns_open(at->netns_path, &at->netns_fd, err);

    if (rc < 0) {
        return rc;
    }
    if (netns_identify(at->netns_fd, &pod) < 0 || netns_identify(env->host_netns_fd, &host) < 0) {
        return error_set(err, -EIO, "network namespace %s can't be looked at", at->netns_path);
    }
    if (netns_same(&host, &pod)) {
        cleanup_fd(&at->netns_fd);
        at->netns_fd = -1;
        return error_set(err, -EINVAL, "%s is the host's own network namespace", at->netns_path);
    }
    rc = netlink_open_at(at->netns_fd, env->host_netns_fd, &at->pod, err);
    if (rc == 0 && env->shared) {
        netlink_use_funnel(at->pod, env->shared->funnel);
    }
    return rc;
}

/* ipam_delegate with this attachment's CNI_* variables: ours are the runtime's only when it calls
 * for this attachment, not in GC or `sluice clean`. */
int attachment_delegate(const struct attachment *at, const char *command, struct ipam_result *ret,
                        struct error *err)
{
    const char *const values[][2] = {{"CNI_CONTAINERID", at->key.container_id},
                                     {"CNI_IFNAME", at->key.ifname},
                                     {"CNI_NETNS", at->netns_path},
                                     {"CNI_ARGS", at->cni_args},
                                     {"CNI_PATH", at->delegate.cni_path}};
    struct ipam_delegate delegate = at->delegate;
    char *env[ARRAY_SIZE(values) + 1] = {NULL};
    size_t n = 0;
    int rc;

    while (n < ARRAY_SIZE(values) &&
           (env[n] = str_printf("%s=%s", values[n][0], values[n][1] ? values[n][1] : ""))) {
        n++;
    }
    delegate.env = (const char *const *)env;
    rc = n == ARRAY_SIZE(values) ? ipam_delegate(&delegate, command, ret, err)
                                 : error_sys(err, -ENOMEM, "ipam plugin %s", delegate.type);
    while (n > 0) {
        free(env[--n]);
    }
    return rc;
}

static int take_addresses(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct ipam_owner owner = {at->key.container_id, at->key.ifname};
    int64_t t0 = clock_ns();
    int rc = 0;

    if (at->addresses == ADDRESSES_NONE) {
        return 0;
    }
    if (at->addresses == ADDRESSES_HOST_LOCAL) {
        rc = ipam_allocate(at->ipam, env->instance, &owner, at->requested, at->n_requested,
                           &at->result, err);
    } else {
        rc = attachment_delegate(at, "ADD", &at->result, err);
    }
    attachment_span(env, at, "cni.ipam", t0, rc);
    return rc;
}

int attachment_release(struct kind_env *env, struct attachment *at,
                       const struct attachment_key *key, struct error *err)
{
    struct ipam_owner owner = {key->container_id, key->ifname};

    switch (at->addresses) {
    case ADDRESSES_HOST_LOCAL:
        return ipam_release(at->ipam, env->instance, &owner, err);
    case ADDRESSES_DELEGATED:
        return attachment_delegate(at, "DEL", NULL, err);
    case ADDRESSES_NONE:
        break;
    }
    return 0;
}

/* A route without a gateway of its own goes by the first gateway of its family. */
static struct ip_addr gateway_of(const struct ipam_result *result, const struct ipam_route *route)
{
    struct ip_addr none = {0};

    if (route->gw.family) {
        return route->gw;
    }
    for (size_t i = 0; i < result->n_ips; i++) {
        if (result->ips[i].address.family == route->dst.family && result->ips[i].gateway.family) {
            return result->ips[i].gateway;
        }
    }
    return none;
}

/*
 * Addresses and routes of a device that stays outside are the VM's business. But one that is told
 * from its neighbours by its addresses must have them; and of the groups that IPv6's neighbours ask
 * in only the VM knows.
 */
static int set_up_outside(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_change quiet = {.name = at->host_name, .no_ipv6_autoconf = true};
    struct link_change up = {.name = at->host_name,
                             .alias = at->alias,
                             .up = true,
                             .all_multicast = wants_ipv6(&at->result)};

    link_put_change(env->host, &quiet);
    link_put_change(env->host, &up);
    for (size_t i = 0; kind_port_mac(at) && i < at->result.n_ips; i++) {
        addr_put_add_foreign(env->host, at->ifindex, &at->result.ips[i].address);
    }
    return netlink_send(env->host, NULL, err);
}

/* The last steps, in one send: up, addresses, routes. */
static int set_up_pod(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_change quiet = {
        .ifindex = at->ifindex, .name = at->device, .no_ipv6_autoconf = true};
    struct link_change up = {
        .ifindex = at->ifindex, .name = at->device, .alias = at->alias, .up = true};
    int64_t t0 = clock_ns();
    int rc;

    if (at->kind->no_device) {
        return 0;
    }
    if (at->kind->outside) {
        return set_up_outside(env, at, err);
    }
    if (!wants_ipv6(&at->result)) {
        link_put_change(at->pod, &quiet);
    }
    link_put_change(at->pod, &up);
    for (size_t i = 0; i < at->result.n_ips; i++) {
        addr_put_add(at->pod, at->ifindex, &at->result.ips[i].address);
    }
    for (size_t i = 0; i < at->result.n_routes; i++) {
        const struct ipam_route *from = &at->result.routes[i];
        struct route_spec route = {at->ifindex, from->dst,    gateway_of(&at->result, from),
                                   from->mtu,   from->advmss, from->priority,
                                   from->table, from->scope};

        route_put_add(at->pod, &route);
        if (i % 32 == 31 && (rc = netlink_send(at->pod, NULL, err)) < 0) {
            return rc;
        }
    }
    rc = netlink_send(at->pod, NULL, err);
    attachment_span(env, at, "cni.addr", t0, rc);
    return rc;
}

/*
 * What DEL does and what a failed ADD is undone with. The addresses go back only when the device is
 * gone, and the record last, so that whatever failed can be tried again.
 */
static int take_apart(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = at->kind->del(env, at, err);

    if (rc == 0) {
        rc = police_del(env, at, err);
    }
    if (rc == 0) {
        rc = attachment_release(env, at, &at->key, err);
    }
    if (rc == 0 && !at->kind->plain) {
        rc = record_remove(env->instance, &at->key, err);
    }
    return rc;
}

static int choose_mac(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_info port;
    int rc;

    if (kind_port_mac(at)) {
        rc = port_ensure(env, at, &port, err);
        at->mac = rc == 0 ? port.mac : at->mac;
        return rc;
    }
    if (at->conf.has_mac) {
        at->mac = at->conf.mac;
        return 0;
    }
    return mac_random(&at->mac) < 0 ? error_set(err, -EIO, "no random bytes for a MAC address") : 0;
}

static int build(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = take_addresses(env, at, err);

    if (rc == -ENOENT && at->addresses == ADDRESSES_DELEGATED) {
        at->addresses = ADDRESSES_NONE; /* there is no such plugin: nothing for it to give back */
    }
    if (rc == 0) {
        rc = at->kind->add(env, at, err);
    }
    if (rc == 0) {
        rc = police_add(env, at, err);
    }
    if (rc == 0) {
        rc = set_up_pod(env, at, err);
    }
    if (rc == 0) {
        rc = record_finish(at, err);
    }
    if (rc == 0) {
        rc = police_settle(env, at, err);
    }
    return rc;
}

int attachment_add(struct kind_env *env, struct attachment *at, struct error *err)
{
    autoclose int lock = -1;
    struct error undo;
    bool no_pod = at->kind->outside && !at->passed_netns && !*at->netns_path;
    int rc = no_pod ? 0 : attachment_open_pod(env, at, err);

    if (rc < 0) {
        part_untouched(env, at);
        return rc;
    }
    if (at->kind->plain) {
        return at->kind->add(env, at, err);
    }
    if (at->kind->needs_bridge) {
        ovs_socket_path(at->conf.socket_file, env->instance, at->ovs_socket,
                        sizeof(at->ovs_socket));
    }
    if (at->part) {
        return part_take(env, at, err);
    }
    if (at->kind->own_port && (rc = port_check_switch(env, &at->conf, err)) < 0) {
        return rc; /* found out before anything is made */
    }
    if (at->kind->has_port) {
        rc = port_lock(env, true, &lock, err);
    }
    if (rc == 0) {
        rc = choose_mac(env, at, err);
    }
    if (rc == 0 && (at->conf.has_mac || kind_port_mac(at)) && !at->kind->outside &&
        !at->kind->no_device) {
        rc = pod_name_free(at, err); /* one with that MAC would be undone as if it were ours */
    }
    if (rc == 0) {
        rc = record_claim(env, at, err);
    }
    if (rc == -EEXIST) {
        return part_join(env, at, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = build(env, at, err);
    if (rc < 0 && take_apart(env, at, &undo) < 0) {
        log_warn("what the failed ADD made could not be removed, DEL will: %s", undo.text);
    }
    return rc;
}

/*
 * DEL may come without a namespace, or after it went: the record's path then helps, if the file
 * there is still the namespace that it was.
 */
static void find_pod(struct kind_env *env, struct attachment *at)
{
    const char *given = at->netns_path;
    struct record record = {0};
    struct netns_id id;

    if ((at->passed_netns || at->netns_path[0]) && attachment_open_pod(env, at, NULL) < 0) {
        cleanup_fd(&at->netns_fd);
        at->netns_fd = -1;
    }
    at->passed_netns = NULL;
    if (record_read(env->instance, &at->key, &record, NULL) == 0) {
        at->mac = record.mac;
        at->cookie = record.cookie;
        if (record.part) {
            at->part = record.part;
            attachment_prepare(at, env->instance);
        }
        if (record.ovs_socket[0] &&
            str_copy(at->ovs_socket, sizeof(at->ovs_socket), record.ovs_socket) == 0) {
            at->conf.socket_file = at->ovs_socket;
        }
        if (record.port[0] && str_copy(at->port_name, sizeof(at->port_name), record.port) == 0) {
            at->conf.port = at->port_name; /* whatever the configuration says by now */
        }
        at->netns_path = record.netns_path;
        if (!at->pod && record.netns_path[0] && record_of_this_boot(&record) &&
            attachment_open_pod(env, at, NULL) == 0 &&
            (netns_identify(at->netns_fd, &id) < 0 || !netns_same(&id, &record.netns))) {
            netlink_close(at->pod);
            at->pod = NULL;
        }
        at->netns_path = given;
    }
    record_clear(&record);
}

int attachment_del(struct kind_env *env, struct attachment *at, struct error *err)
{
    int64_t t0 = clock_ns();
    int rc;

    find_pod(env, at);
    rc = at->part ? part_give_back(env, at, err) : take_apart(env, at, err);
    attachment_span(env, at, "del.take-apart", t0, rc);
    return rc;
}

void attachment_clear(struct attachment *at)
{
    netlink_close(at->pod);
    at->pod = NULL;
    cleanup_fd(&at->netns_fd);
    cleanup_fd(&at->record_fd);
    at->netns_fd = at->record_fd = -1;
    ipam_result_clear(&at->result);
    ipam_config_free(at->ipam);
    at->ipam = NULL;
    policy_clear(&at->policy);
    free(at->conf.trunks);
    at->conf.trunks = NULL;
}
