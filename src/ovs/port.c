/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of a bridge: rows in OVSDB that ovs-vswitchd turns into ports, and tells so by setting
 * Interface.ofport. Tables and columns: ovs-vswitchd.conf.db(5).
 */
#include "netlink/netlink.h"
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

#define UNDO_NS  (2 * NSEC_PER_SEC) /* past the deadline, to take back what did not work */
#define SLACK_NS (2 * NSEC_PER_SEC) /* for OVSDB to tell us that a wait operation timed out */

/* Appends a pair unless value is NULL. */
static int map_put(json_t *map, const char *key, const char *value)
{
    return value ? json_array_append_new(json_array_get(map, 1), json_pack("[s, s]", key, value))
                 : 0;
}

/* ---- what to add ---- */

int ovs_name_check(const char *what, const char *name, struct error *err)
{
    size_t len = name ? strlen(name) : 0;

    if (len == 0 || len >= IFNAMSIZ) {
        return error_set(err, -EINVAL, "%s name \"%s\": must have 1 to %d characters", what,
                         name ? name : "", IFNAMSIZ - 1);
    }
    for (const char *p = name; *p; p++) {
        if (*p <= ' ' || *p > '~' || *p == '/' || *p == ':') {
            return error_set(err, -EINVAL,
                             "%s name \"%s\": must be printable ASCII without space, '/' or ':'",
                             what, name);
        }
    }
    return strcmp(name, ".") && strcmp(name, "..")
               ? 0
               : error_set(err, -EINVAL, "%s name \"%s\" is reserved", what, name);
}

int ovs_spec_check(const struct ovs_port_spec *spec, struct error *err)
{
    struct mac_addr mac;
    int rc = ovs_name_check("port", spec->name, err);

    if (rc == 0) {
        rc = ovs_name_check("bridge", spec->bridge, err);
    }
    if (rc == 0 && (spec->tag < 0 || spec->tag > 4094)) {
        rc = error_set(err, -EINVAL, "port %s: VLAN tag %d: must be 1 to 4094, or 0 for none",
                       spec->name, spec->tag);
    }
    if (rc == 0 && spec->mac && mac_parse(spec->mac, &mac) < 0) {
        rc = error_set(err, -EINVAL,
                       "port %s: MAC \"%s\": must be a unicast address, as "
                       "02:00:00:00:00:01",
                       spec->name, spec->mac);
    }
    if (rc == 0 && spec->mtu && (spec->mtu < 68 || spec->mtu > 65535)) {
        rc = error_set(err, -EINVAL, "port %s: MTU %d: must be 68 to 65535, or 0 for none",
                       spec->name, spec->mtu);
    }
    for (size_t i = 0; rc == 0 && i < spec->n_trunks; i++) {
        if (spec->trunks[i] > 4095) {
            rc = error_set(err, -EINVAL, "port %s: trunk VLAN %u: must be 0 to 4095", spec->name,
                           spec->trunks[i]);
        }
    }
    return rc;
}

static json_t *owner_map(const struct ovs_owner *owner)
{
    json_t *map = json_pack("[s, []]", "map");

    if (!owner->network) {
        return map;
    }
    if (map_put(map, OVS_KEY_NETWORK, owner->network) < 0 ||
        map_put(map, OVS_KEY_CONTAINER, owner->container_id) < 0 ||
        map_put(map, OVS_KEY_IFNAME, owner->ifname) < 0 ||
        map_put(map, OVS_KEY_INSTANCE, owner->instance) < 0 ||
        map_put(map, OVS_KEY_TENANT_PORT, owner->container_id ? NULL : "true") < 0) {
        json_decref(map);
        return NULL;
    }
    return map;
}

static json_t *interface_row(const struct ovs_port_spec *spec)
{
    json_t *row = json_pack("{s:s, s:s, s:o}", "name", spec->name, "type",
                            spec->type ? spec->type : "", "external_ids", owner_map(&spec->owner));

    if (row && spec->mtu) {
        json_object_set_new(row, "mtu_request", json_integer(spec->mtu));
    }
    if (row && spec->mac) {
        json_object_set_new(row, "mac", json_string(spec->mac));
    }
    if (row && spec->vhost_path) {
        json_object_set_new(
            row, "options",
            json_pack("[s, [[s, s]]]", "map", "vhost-server-path", spec->vhost_path));
    }
    return row;
}

static json_t *port_row(const struct ovs_port_spec *spec, const char *interface)
{
    json_t *row = json_pack("{s:s, s:[s, s], s:o}", "name", spec->name, "interfaces", "named-uuid",
                            interface, "external_ids", owner_map(&spec->owner));

    if (row && spec->tag) {
        json_object_set_new(row, "tag", json_integer(spec->tag));
    }
    if (row && spec->n_trunks) {
        json_t *vlans = json_array();

        for (size_t i = 0; i < spec->n_trunks; i++) {
            json_array_append_new(vlans, json_integer(spec->trunks[i]));
        }
        json_object_set_new(row, "trunks", ovsdb_set(vlans));
        json_object_set_new(row, "vlan_mode", json_string(spec->tag ? "native-untagged" : "trunk"));
    }
    return row;
}

/* The list of port references that go to a bridge, in an object by bridge name. */
static json_t *ports_of_bridge(json_t *bridges, const char *bridge)
{
    json_t *ports = json_object_get(bridges, bridge);

    if (!ports) {
        ports = json_array();
        json_object_set_new(bridges, bridge, ports);
    }
    return ports;
}

/* A wait operation that fails at once, and the whole transaction with it, without such a bridge. */
static json_t *need_bridge(const char *bridge)
{
    return ovsdb_wait("Bridge", ovsdb_where_name(bridge), "name", "==", json_string(bridge), 0);
}

void ovs_add_insert(json_t *operations, const struct ovs_port_spec *spec, size_t number)
{
    char interface[24], port[24];

    snprintf(interface, sizeof(interface), "i%zu", number);
    snprintf(port, sizeof(port), "p%zu", number);
    json_array_append_new(operations, ovsdb_insert("Interface", interface, interface_row(spec)));
    json_array_append_new(operations, ovsdb_insert("Port", port, port_row(spec, interface)));
}

void ovs_add_refer(json_t *bridges, const struct ovs_port_spec *spec, size_t number)
{
    char port[24];

    snprintf(port, sizeof(port), "p%zu", number);
    json_array_append_new(ports_of_bridge(bridges, spec->bridge),
                          json_pack("[s, s]", "named-uuid", port));
}

void ovs_add_bridges(json_t *operations, const json_t *bridges)
{
    const char *bridge;
    json_t *ports;

    json_object_foreach ((json_t *)bridges, bridge, ports) {
        json_array_insert_new(operations, 0, need_bridge(bridge));
        json_array_append_new(operations, ovsdb_mutate("Bridge", ovsdb_where_name(bridge), "ports",
                                                       "insert", ovsdb_set(json_incref(ports))));
    }
}

/* *ret_n_bridges tells where the insertions begin. */
static int write_add(const struct ovs_port_spec *specs, size_t n, json_t **ret_ops,
                     size_t *ret_n_bridges, struct error *err)
{
    autojson json_t *bridges = json_object(), *ops = json_array();

    for (size_t i = 0; i < n; i++) {
        ovs_add_insert(ops, &specs[i], i);
        ovs_add_refer(bridges, &specs[i], i);
    }
    ovs_add_bridges(ops, bridges);
    *ret_n_bridges = json_object_size(bridges);
    if (json_array_size(ops) != 2 * n + 2 * *ret_n_bridges) {
        return error_set(err, -EINVAL, "write the ports: text is not UTF-8, or out of memory");
    }
    *ret_ops = take_ptr(ops);
    return 0;
}

/* ---- why it did not work ---- */

/* After a transaction that needed the bridges of specs: finds the one that is missing. */
static int which_bridge(struct ovsdb *db, const struct ovs_port_spec *specs, size_t n,
                        int64_t deadline_ns, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        char datapath[16];
        int rc;

        if (i > 0 && !strcmp(specs[i].bridge, specs[i - 1].bridge)) {
            continue;
        }
        rc = ovs_bridge_datapath(db, specs[i].bridge, deadline_ns, datapath, err);
        if (rc < 0) {
            return rc;
        }
    }
    return error_set(err, -EAGAIN, "bridge \"%s\" was made only just now", specs[0].bridge);
}

/* ---- adding ---- */

int ovs_add_wrap(const struct ovs_port_spec *specs, size_t n, int rc, struct error *err)
{
    if (n == 1) {
        error_wrap(err, "port %s on bridge %s", specs[0].name, specs[0].bridge);
    } else {
        error_wrap(err, "ports %s to %s on bridge %s", specs[0].name, specs[n - 1].name,
                   specs[0].bridge);
    }
    return rc;
}

json_t *ovs_detach(const json_t *uuids)
{
    autojson json_t *seen = json_object();
    json_t *set = json_array(), *uuid;
    size_t i;

    /* OVSDB takes no set that has an element twice. */
    json_array_foreach (uuids, i, uuid) {
        const char *text = ovs_uuid_text(uuid);

        if (!json_object_get(seen, text)) {
            json_object_set_new(seen, text, json_true());
            json_array_append(set, uuid);
        }
    }
    return ovsdb_mutate("Bridge", json_array(), "ports", "delete", ovsdb_set(set));
}

/* Takes the ports of an add back, over a new connection if the old one is gone. */
static void undo_add(struct ovsdb *db, const json_t *inserted, size_t first, size_t n,
                     struct error *err)
{
    autoovsdb struct ovsdb *fresh = NULL;
    autojson json_t *uuids = json_array(), *results = NULL;
    int64_t deadline_ns = clock_ns() + UNDO_NS;
    struct error undo_err;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        json_array_append(uuids, ovsdb_inserted(inserted, first + 2 * i + 1));
    }
    if (!ovsdb_usable(db)) {
        rc = ovsdb_connect(ovsdb_path(db), deadline_ns, &fresh, &undo_err);
    }
    if (rc == 0) {
        rc = ovsdb_transact(fresh ? fresh : db, json_pack("[o]", ovs_detach(uuids)), deadline_ns,
                            &results, &undo_err);
    }
    if (rc < 0) {
        error_wrap(err, "%zu ports are left behind (%s)", n, undo_err.text);
    }
}

static json_t *wait_ofport(json_t *uuid, int timeout_ms)
{
    return ovsdb_wait("Interface", ovsdb_where("_uuid", json_incref(uuid)), "ofport",
                      "!=", ovsdb_set(json_array()), timeout_ms);
}

static json_t *select_ofport(json_t *uuid)
{
    return ovsdb_select("Interface", ovsdb_where("_uuid", json_incref(uuid)), "ofport error");
}

int ovs_port_judge(const struct ovs_port_spec *spec, const json_t *row, struct error *err)
{
    if (!row) {
        return error_set(err, -ENODEV, "port %s on bridge %s: someone removed it meanwhile",
                         spec->name, spec->bridge);
    }
    if (ovs_row_ofport(row) <= 0) {
        const char *text = ovs_row_error(row);

        return error_set(err, -EREMOTEIO, "port %s on bridge %s: ovs-vswitchd: %s", spec->name,
                         spec->bridge, *text ? text : "could not make it (see its log)");
    }
    return 0;
}

static int wait_ofports(struct ovsdb *db, const struct ovs_port_spec *specs, size_t n,
                        const json_t *inserted, size_t first, int64_t deadline_ns, int *ret_ofports,
                        struct error *err)
{
    autojson json_t *ops = json_array(), *results = NULL;
    int left_ms = clock_left_ms(deadline_ns), rc;

    for (size_t i = 0; i < n; i++) {
        json_array_insert_new(ops, i,
                              wait_ofport(ovsdb_inserted(inserted, first + 2 * i), left_ms));
        json_array_append_new(ops, select_ofport(ovsdb_inserted(inserted, first + 2 * i)));
    }
    if (json_array_size(ops) != 2 * n) {
        return error_sys(err, -ENOMEM, "wait for ports");
    }
    rc = ovsdb_transact(db, take_ptr(ops), deadline_ns + SLACK_NS, &results, err);
    if (rc == -ETIMEDOUT) {
        ovs_switch_silent(db, err);
        return ovs_add_wrap(specs, n, rc, err);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = ovs_port_judge(&specs[i], json_array_get(ovsdb_rows(results, n + i), 0), err);
    }
    for (size_t i = 0; rc == 0 && ret_ofports && i < n; i++) {
        ret_ofports[i] = ovs_row_ofport(json_array_get(ovsdb_rows(results, n + i), 0));
    }
    return rc;
}

int ovs_ports_add(struct ovsdb *db, const struct ovs_port_spec *specs, size_t n,
                  int64_t deadline_ns, int *ret_ofports, struct error *err)
{
    autojson json_t *ops = NULL, *inserted = NULL;
    size_t first = 0;
    int rc = 0;

    if (n == 0) {
        return 0;
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = ovs_spec_check(&specs[i], err);
    }
    if (rc == 0) {
        rc = write_add(specs, n, &ops, &first, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = ovsdb_transact(db, take_ptr(ops), deadline_ns, &inserted, err);
    if (rc == -ETIMEDOUT && ovsdb_usable(db) && clock_left_ms(deadline_ns) > 0) {
        return which_bridge(db, specs, n, deadline_ns, err);
    }
    if (rc < 0) {
        return ovs_add_wrap(specs, n, rc, err);
    }
    rc = wait_ofports(db, specs, n, inserted, first, deadline_ns, ret_ofports, err);
    if (rc < 0) {
        undo_add(db, inserted, first, n, err);
    }
    return rc;
}

/* ---- removing ---- */

/* uuids of the ports of these names, in one list. */
static int find_ports(struct ovsdb *db, const char *const *names, size_t n, int64_t deadline_ns,
                      json_t **ret_uuids, struct error *err)
{
    autojson json_t *ops = json_array(), *results = NULL, *uuids = json_array();
    const json_t *row;
    size_t k;
    int rc;

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(ops, ovsdb_select("Port", ovsdb_where_name(names[i]), "_uuid"));
    }
    if (json_array_size(ops) != n) {
        return error_set(err, -EINVAL, "find ports: a name is not UTF-8, or out of memory");
    }
    rc = ovsdb_transact(db, take_ptr(ops), deadline_ns, &results, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        json_array_foreach (ovsdb_rows(results, i), k, row) {
            json_array_append(uuids, json_object_get(row, "_uuid"));
        }
    }
    if (rc == 0) {
        *ret_uuids = take_ptr(uuids);
    }
    return rc;
}

int ovs_ports_del(struct ovsdb *db, const char *const *names, size_t n, bool wait,
                  int64_t deadline_ns, struct error *err)
{
    autojson json_t *uuids = NULL, *ops = NULL, *results = NULL;
    int rc = n ? find_ports(db, names, n, deadline_ns, &uuids, err) : 0;

    if (rc < 0 || json_array_size(uuids) == 0) {
        return rc;
    }
    ops = json_pack("[o]", ovs_detach(uuids));
    if (wait) {
        ovs_cfg_put_bump(ops);
    }
    rc = ovsdb_transact(db, take_ptr(ops), deadline_ns, &results, err);
    return rc == 0 && wait ? ovs_cfg_wait(db, results, OVS_CFG_OPS, deadline_ns, err) : rc;
}
