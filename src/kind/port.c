/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OVS ports as kinds see them. A tenant's shared port is made by the first ADD that needs it; its
 * device's name or alias then says what it is, so that later ADDs need no word with OVS at all.
 */
#include "kind/kind.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void port_alias(const struct kind_conf *conf, bool policed, char alias[KIND_ALIAS_MAX])
{
    snprintf(alias, KIND_ALIAS_MAX, "sluice-port/%s/%d%s", conf->bridge, conf->vlan,
             policed ? "/policed" : "");
}

/* Below a port that pods with policies share nothing is switched; without, all is. */
static int check_same_use(const struct attachment *at, const struct link_info *info,
                          struct error *err)
{
    char other[KIND_ALIAS_MAX];

    port_alias(&at->conf, !at->conf.through_ovs, other);
    return strcmp(info->alias, other) != 0
               ? 0
               : error_set(err, -EEXIST,
                           "port: %s is for pods %s rules and rates; pods %s need another",
                           at->conf.port, at->conf.through_ovs ? "without" : "with",
                           at->conf.through_ovs ? "with them" : "without them");
}

static int check_same_port(const struct ovs_ports *found, const struct kind_conf *conf,
                           struct error *err)
{
    const struct ovs_port *port = found->ports;

    if (found->n == 0) {
        return error_set(err, -EEXIST,
                         "port: device %s is there, but is no port of an OVS bridge: name another",
                         conf->port);
    }
    if (strcmp(port->bridge, conf->bridge) != 0) {
        return error_set(err, -EEXIST, "port: %s is a port of bridge %s, not of %s", conf->port,
                         port->bridge, conf->bridge);
    }
    if (conf->vlan && port->tag != conf->vlan) {
        return error_set(err, -EEXIST, "vlan: port %s has VLAN %d, not %d", conf->port, port->tag,
                         conf->vlan);
    }
    return 0;
}

int port_check_switch(struct kind_env *env, const struct kind_conf *conf, struct error *err)
{
    char datapath[16];
    struct ovsdb *db;
    int rc;

    if (!conf->datapath && kind_env_connected(env, conf)) {
        return 0;
    }
    rc = kind_env_ovs(env, conf, &db, err);
    if (rc == 0 && conf->datapath) {
        rc = ovs_bridge_datapath(db, conf->bridge, env->deadline_ns, datapath, err);
    }
    if (rc == 0 && conf->datapath && strcmp(datapath, conf->datapath) != 0) {
        rc = error_set(err, -EINVAL, "datapath: \"%s\" is not allowed; bridge %s has \"%s\"",
                       conf->datapath, conf->bridge, datapath);
    }
    return rc;
}

/* The port's device is there when its number is: others need not ask for it. */
static void note_ofport(struct kind_env *env, const char *name, int ofport)
{
    struct link_info info;

    if (ofport > 0 && link_peek(env->host, name, &info) == 0) {
        kind_env_note_ofport(env, info.ifindex, (unsigned)ofport);
    }
}

int port_make(struct kind_env *env, const struct attachment *at, const char *type, bool *ret_ours,
              struct error *err)
{
    const struct kind_conf *conf = &at->conf;
    struct ovs_port_spec spec = {
        .bridge = conf->bridge,
        .name = conf->port,
        .type = type,
        .mtu = *type ? (int)conf->mtu : 0,
        .tag = conf->vlan,
        .owner = {.network = at->key.network, .instance = env->instance},
    };
    struct ovs_ports found = {0};
    struct ovsdb *db;
    int ofport = 0, rc = port_check_switch(env, conf, err);

    if (rc == 0) {
        rc = kind_env_ovs(env, conf, &db, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = ovs_ports_list(db, conf->port, false, env->deadline_ns, &found, err);
    if (rc == 0 && found.n == 0) {
        ovs_ports_clear(&found);
        rc = kind_env_port_add(env, conf, &spec, &ofport, err);
        *ret_ours = true;
        if (rc != -EEXIST) {
            note_ofport(env, conf->port, rc == 0 ? ofport : 0);
            return rc;
        }
        /* Another ADD was first, or a device has the name. */
        rc = ovs_ports_list(db, conf->port, false, env->deadline_ns, &found, err);
    }
    if (rc == 0) {
        rc = check_same_port(&found, conf, err);
        *ret_ours = found.n && found.ports->owner.network;
    }
    if (rc == 0) {
        note_ofport(env, conf->port, found.ports->ofport);
    }
    ovs_ports_clear(&found);
    return rc;
}

/* ovs-vswitchd may still be at making a port that another ADD asked for. */
static int wait_device(struct kind_env *env, const char *name, struct link_info *ret,
                       struct error *err)
{
    int rc = link_get(env->host, 0, name, ret, err);

    while (rc == -ENODEV && clock_left_ms(env->deadline_ns) > 0) {
        clock_sleep_ns(2 * NSEC_PER_MSEC);
        rc = link_get(env->host, 0, name, ret, err);
    }
    return rc == -ENODEV
               ? error_set(err, -ETIMEDOUT, "ovs-vswitchd made no device for port %s", name)
               : rc;
}

int port_ensure(struct kind_env *env, const struct attachment *at, struct link_info *ret,
                struct error *err)
{
    char alias[KIND_ALIAS_MAX];
    struct link_change change = {.name = at->conf.port, .no_ipv6_autoconf = true};
    bool derived = at->conf.port == at->port_name, ours = false;
    int rc = link_peek(env->host, at->conf.port, ret);

    /* A derived name says which bridge and VLAN; one that was given may be any device's. */
    if (rc == 0 && (ret->flags & IFF_UP) && derived) {
        return 0;
    }
    port_alias(&at->conf, at->conf.through_ovs, alias);
    if (rc == 0) {
        rc = link_get(env->host, 0, at->conf.port, ret, err);
        if (rc == 0 && (rc = check_same_use(at, ret, err)) < 0) {
            return rc;
        }
    }
    if (rc == 0 && (ret->flags & IFF_UP) && !strcmp(ret->alias, alias)) {
        return 0;
    }
    if (rc < 0 && rc != -ENODEV) {
        return rc;
    }
    rc = port_make(env, at, "internal", &ours, err);
    if (rc == 0) {
        rc = wait_device(env, at->conf.port, ret, err);
    }
    if (rc < 0) {
        return error_wrap(err, "port %s of bridge %s", at->conf.port, at->conf.bridge);
    }
    if (!ours && (ret->flags & IFF_UP)) {
        return 0; /* somebody else's and in use: not ours to change */
    }
    if (ours) {
        link_put_change(env->host, &change);
    }
    change = (struct link_change){
        .name = at->conf.port, .up = true, .alias = ours ? alias : NULL, .mtu = at->conf.mtu};
    link_put_change(env->host, &change);
    return netlink_send(env->host, NULL, err);
}

/*
 * ovs-vswitchd looks at the database when it gets to it. A port that was removed and added again in
 * between is the port that it has, of a device that is gone: it does not look at the new one. Its
 * own datapath, unlike the kernel's, shows what it has opened: 0 when that is our device, 1 not.
 */
static int port_is_stale(struct kind_env *env, const struct attachment *at, bool internal,
                         struct error *err)
{
    char datapath[16];
    struct link_info info;
    struct ovsdb *db;
    int rc = link_peek(env->host, at->host_name, &info);

    if (rc < 0 || internal || (info.flags & IFF_PROMISC)) {
        return rc < 0;
    }
    if (!strcmp(env->kernel_bridge, at->conf.bridge)) {
        return 0;
    }
    rc = kind_env_ovs(env, &at->conf, &db, err);
    if (rc == 0) {
        rc = ovs_bridge_datapath(db, at->conf.bridge, env->deadline_ns, datapath, err);
    }
    if (rc == 0 && strcmp(datapath, "netdev") != 0) {
        str_copy(env->kernel_bridge, sizeof(env->kernel_bridge), at->conf.bridge);
        return 0;
    }
    return rc < 0 ? rc : 1;
}

/* Removes the port, waits until ovs-vswitchd has done so, and adds it again. */
static int renew_port(struct kind_env *env, const struct attachment *at,
                      const struct ovs_port_spec *spec, int *ret_ofport, struct error *err)
{
    const char *name = at->host_name;
    struct ovsdb *db;
    int rc = kind_env_ovs(env, &at->conf, &db, err);

    if (rc == 0) {
        rc = ovs_ports_del(db, &name, 1, true, env->deadline_ns, err);
    }
    return rc < 0 ? rc : kind_env_port_add(env, &at->conf, spec, ret_ofport, err);
}

/* ovs-vswitchd's own words for a type that it does not have are of no use. */
static int explain_vhost(struct kind_env *env, const struct attachment *at, int rc,
                         struct error *err)
{
    struct error why;
    struct ovsdb *db;

    if (kind_env_ovs(env, &at->conf, &db, &why) == 0 &&
        ovs_bridge_vhost(db, at->conf.bridge, env->deadline_ns, &why) == -ENOTSUP) {
        *err = why;
        rc = why.errnum;
    }
    return rc;
}

int port_add(struct kind_env *env, struct attachment *at, const char *type, struct error *err)
{
    int ofport = 0;
    bool internal = !strcmp(type, PORT_INTERNAL), vhost = !strcmp(type, PORT_VHOST);
    char mac[MAC_TEXT_MAX];
    struct ovs_port_spec spec = {
        .bridge = at->conf.bridge,
        .name = at->host_name,
        .type = type,
        .mac = internal ? mac_format(&at->mac, mac) : NULL,
        .vhost_path = vhost ? at->socket_path : NULL,
        .mtu = internal || vhost ? (int)at->conf.mtu : 0,
        .tag = at->conf.vlan,
        .trunks = at->conf.trunks,
        .n_trunks = at->conf.n_trunks,
        .owner = {at->key.network, at->key.container_id, at->key.ifname, env->instance},
    };

    int rc = kind_env_port_add(env, &at->conf, &spec, &ofport, err);

    if (vhost) {
        at->ofport = (unsigned)ofport;
        return rc == -EREMOTEIO ? explain_vhost(env, at, rc, err) : rc;
    }
    if (rc == 0 && (rc = port_is_stale(env, at, internal, err)) > 0) {
        rc = renew_port(env, at, &spec, &ofport, err);
        if (rc == 0 && (rc = port_is_stale(env, at, internal, err)) > 0) {
            rc = error_set(err, -EIO, "ovs-vswitchd does not take up device %s", at->host_name);
        }
    }
    at->ofport = (unsigned)ofport;
    return rc;
}

/* The instance's own OVS was stopped since ADD, and took every port with it. (A system's database
 * outlives its daemons: there DEL has to come again.) */
static bool private_ovs_gone(const struct kind_env *env, const struct attachment *at)
{
    autofree char *own = str_printf("%s/ovs/", env->instance);

    return own && str_has_prefix(at->ovs_socket, own) && access(at->ovs_socket, F_OK) < 0 &&
           errno == ENOENT;
}

int port_delete(struct kind_env *env, const struct attachment *at, struct error *err)
{
    return private_ovs_gone(env, at) ? 0 : kind_env_port_del(env, &at->conf, at->host_name, err);
}

int port_check(struct kind_env *env, const struct attachment *at, const char *name,
               struct error *err)
{
    struct ovs_ports found = {0};
    struct ovsdb *db;
    int rc = kind_env_ovs(env, &at->conf, &db, err);

    if (rc == 0) {
        rc = ovs_ports_list(db, name, false, env->deadline_ns, &found, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (found.n == 0) {
        rc = error_set(err, -ESTALE, "OVS has no port %s", name);
    } else if (strcmp(found.ports->bridge, at->conf.bridge) != 0) {
        rc = error_set(err, -ESTALE, "OVS port %s is on bridge %s, not on %s", name,
                       found.ports->bridge, at->conf.bridge);
    } else if (found.ports->ofport <= 0) {
        rc = error_set(err, -ESTALE, "OVS port %s does not work: %s", name,
                       found.ports->error[0] ? found.ports->error : "not made yet");
    } else if ((at->kind->own_port || found.ports->owner.network || at->conf.vlan) &&
               found.ports->tag != at->conf.vlan) {
        rc = error_set(err, -ESTALE, "OVS port %s has VLAN %d, not %d", name, found.ports->tag,
                       at->conf.vlan);
    }
    ovs_ports_clear(&found);
    return rc;
}

/* ---- tenants' ports that nothing uses ---- */

struct port_use {
    const char *name;
    bool used;
};

static int note_use(const struct record *record, void *cookie)
{
    struct port_use *use = cookie;

    use->used |= !strcmp(record->port, use->name);
    return 0;
}

int port_lock(const struct kind_env *env, bool shared, int *ret_fd, struct error *err)
{
    autofree char *path = str_printf("%s/ports.lock", env->instance);
    int rc = path ? file_lock(path, shared, ret_fd) : -ENOMEM;

    if (rc == -ENOENT && dir_make(env->instance, 0755) == 0) {
        rc = file_lock(path, shared, ret_fd);
    }
    return rc < 0 ? error_sys(err, rc, "lock %s", path ? path : "ports") : 0;
}

static int port_unused(const struct kind_env *env, const char *name, bool *ret, struct error *err)
{
    struct port_use use = {.name = name};
    int rc = record_list(env->instance, note_use, &use, err);

    *ret = !use.used;
    return rc;
}

/* Of two parts, so that it is no attachment's. */
void port_device_alias(const struct kind_env *env, const char *port, char alias[KIND_ALIAS_MAX])
{
    size_t used = strlen(attachment_alias_prefix(env->instance, alias));

    snprintf(alias + used, KIND_ALIAS_MAX - used, "port/%s", port);
}

struct device_sweep {
    struct kind_env *env;
    struct error *err;
};

/* A device that was made for a tenant's port: of an internal port it is OVS's to remove. */
static int sweep_port_device(const struct link_info *info, void *cookie)
{
    struct device_sweep *sweep = cookie;
    char prefix[KIND_ALIAS_MAX];
    bool unused;
    int rc;

    port_device_alias(sweep->env, "", prefix);
    if (!str_has_prefix(info->alias, prefix)) {
        return 0;
    }
    rc = port_unused(sweep->env, info->alias + strlen(prefix), &unused, sweep->err);
    return rc < 0 || !unused ? rc : host_device_delete(sweep->env, info->name, sweep->err);
}

int port_gc(struct kind_env *env, const struct kind_conf *conf, struct error *err)
{
    autoclose int lock = -1;
    struct ovs_ports found = {0};
    struct ovsdb *db;
    struct device_sweep sweep = {env, err};
    int rc = port_lock(env, false, &lock, err);

    if (rc == 0) {
        rc = link_list(env->host, sweep_port_device, &sweep, err);
    }
    if (rc == 0) {
        rc = kind_env_ovs(env, conf, &db, err);
    }
    if (rc == 0) {
        rc = ovs_ports_list(db, NULL, true, env->deadline_ns, &found, err);
    }
    for (size_t i = 0; rc == 0 && i < found.n; i++) {
        const struct ovs_port *port = &found.ports[i];
        bool unused;

        if (port->owner.container_id || !port->owner.instance ||
            strcmp(port->owner.instance, env->instance) != 0 ||
            (conf->bridge && strcmp(port->bridge, conf->bridge) != 0)) {
            continue;
        }
        rc = port_unused(env, port->name, &unused, err);
        if (rc == 0 && unused) {
            rc = ovs_ports_del(db, &port->name, 1, true, env->deadline_ns, err);
        }
    }
    ovs_ports_clear(&found);
    return rc;
}
