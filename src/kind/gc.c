/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GC: what the runtime's list does not name goes. Records come first, because DEL by record takes
 * everything; then what has no record: devices by their alias, OVS ports by their external_ids,
 * addresses by their owner.
 */
#include "kind/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sweep {
    struct kind_env *env;
    struct attachment *at; /* the network, its kind and addresses */
    bool (*keep)(const struct ipam_owner *owner, void *cookie);
    void *cookie;
    struct error first;
};

static bool stays(const struct sweep *sweep, const char *container_id, const char *ifname)
{
    struct ipam_owner owner = {container_id, ifname};

    /* Parts are the pool's: the agent's business, or `sluice clean`'s. */
    return part_of_key(container_id, ifname) || sweep->keep(&owner, sweep->cookie);
}

static bool lease_stays(const struct ipam_owner *owner, void *cookie)
{
    return stays(cookie, owner->container_id, owner->ifname);
}

static void note(struct sweep *sweep, int rc, const struct error *err)
{
    if (rc < 0 && !sweep->first.errnum) {
        sweep->first = *err;
        sweep->first.errnum = rc;
    }
}

/* DEL of one attachment of this network, with what the network's configuration says. */
static int remove_attachment(struct sweep *sweep, const struct record *record, struct error *err)
{
    const struct kind *kind = kind_find(record->type);
    struct attachment one = *sweep->at;
    int rc;

    one.key = record->key;
    one.kind = kind ? kind : sweep->at->kind;
    one.device = NULL;
    one.part = 0;
    one.netns_path = record->netns_path;
    one.cni_args = record->cni_args;
    one.passed_netns = NULL;
    one.policy = (struct policy){0};
    one.cookie = 0;
    one.netns_fd = -1;
    one.pod = NULL;
    if (one.addresses == ADDRESSES_HOST_LOCAL && !record->part) {
        one.addresses = ADDRESSES_NONE; /* given back for all in one go; a part keeps its own */
    }
    if (record->cni_path[0]) {
        one.delegate.cni_path = record->cni_path;
    }
    attachment_prepare(&one, sweep->env->instance);
    rc = attachment_del(sweep->env, &one, err);
    netlink_close(one.pod);
    cleanup_fd(&one.netns_fd);
    return rc < 0 ? error_wrap(err, "container %s, interface %s", record->key.container_id,
                               record->key.ifname)
                  : 0;
}

static int sweep_record(const struct record *record, void *cookie)
{
    struct sweep *sweep = cookie;
    struct error err = {0};

    if (!strcmp(record->key.network, sweep->at->key.network) &&
        !stays(sweep, record->key.container_id, record->key.ifname)) {
        note(sweep, remove_attachment(sweep, record, &err), &err);
    }
    return 0;
}

static int sweep_device(const struct link_info *info, void *cookie)
{
    struct sweep *sweep = cookie;
    struct attachment_key key;
    char alias[KIND_ALIAS_MAX];
    struct error err = {0};

    if (attachment_alias_parse(sweep->env->instance, info->alias, alias, &key) &&
        !strcmp(key.network, sweep->at->key.network) &&
        !stays(sweep, key.container_id, key.ifname)) {
        note(sweep, host_device_delete(sweep->env, info->name, &err), &err);
    }
    return 0;
}

static int sweep_ports(struct sweep *sweep, struct error *err)
{
    struct kind_env *env = sweep->env;
    struct ovs_ports found = {0};
    const char **names = NULL;
    struct ovsdb *db;
    size_t n = 0;
    int rc = kind_env_ovs(env, &sweep->at->conf, &db, err);

    if (rc == 0) {
        rc = ovs_ports_list(db, NULL, true, env->deadline_ns, &found, err);
    }
    if (rc == 0 && found.n) {
        names = calloc(found.n, sizeof(*names));
        rc = names ? 0 : error_sys(err, -ENOMEM, "ports");
    }
    for (size_t i = 0; rc == 0 && i < found.n; i++) {
        const struct ovs_owner *owner = &found.ports[i].owner;

        if (owner->container_id && owner->ifname && owner->network && owner->instance &&
            !strcmp(owner->instance, env->instance) &&
            !strcmp(owner->network, sweep->at->key.network) &&
            !stays(sweep, owner->container_id, owner->ifname)) {
            names[n++] = found.ports[i].name;
        }
    }
    if (rc == 0 && n) {
        rc = ovs_ports_del(db, names, n, false, env->deadline_ns, err);
    }
    free(names);
    ovs_ports_clear(&found);
    return rc;
}

int attachment_gc(struct kind_env *env, struct attachment *at,
                  bool (*keep)(const struct ipam_owner *owner, void *cookie), void *cookie,
                  struct error *err)
{
    struct sweep sweep = {env, at, keep, cookie, {0}};
    struct error later = {0};
    size_t released;
    int rc;

    if (at->kind->plain) {
        return 0;
    }
    note(&sweep, record_list(env->instance, sweep_record, &sweep, &later), &later);
    record_tidy(env->instance);
    note(&sweep, link_list(env->host, sweep_device, &sweep, &later), &later);
    if (at->kind->own_port || at->kind->outside) {
        note(&sweep, sweep_ports(&sweep, &later), &later);
    }
    if (at->addresses == ADDRESSES_HOST_LOCAL) {
        rc = ipam_gc(at->ipam, env->instance, lease_stays, &sweep, &released, &later);
        note(&sweep, rc, &later);
    } else if (at->addresses == ADDRESSES_DELEGATED) {
        rc = attachment_delegate(at, "GC", NULL, &later);
        note(&sweep, rc, &later);
    }
    if (at->kind->gc) {
        note(&sweep, at->kind->gc(env, at, &later), &later);
    }
    if (at->kind->needs_bridge) {
        note(&sweep, police_gc(env, &at->conf, false, &later), &later);
    }
    if (at->kind->has_port) {
        note(&sweep, port_gc(env, &at->conf, &later), &later);
    }
    if (sweep.first.errnum) {
        *err = sweep.first;
    }
    return sweep.first.errnum;
}
