/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the database holds: rows' values, the list of ports, bridges. */
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- values (RFC 7047, section 5.1) ---- */

/* The value of an optional column: NULL when it is the empty set. */
static json_t *optional(const json_t *row, const char *column)
{
    json_t *value = json_object_get(row, column);
    const char *tag = json_string_value(json_array_get(value, 0));

    return tag && !strcmp(tag, "set") ? json_array_get(json_array_get(value, 1), 0) : value;
}

const char *ovs_uuid_text(const json_t *uuid)
{
    const char *text = json_string_value(json_array_get(uuid, 1));

    return text ? text : "";
}

static const char *string_of(const json_t *row, const char *column)
{
    const char *text = json_string_value(optional(row, column));

    return text ? text : "";
}

/* The value of a key in a column that is a map of strings; NULL when it is not there. */
static const char *map_get(const json_t *row, const char *column, const char *key)
{
    const json_t *pairs = json_array_get(json_object_get(row, column), 1), *pair;
    size_t i;

    json_array_foreach (pairs, i, pair) {
        const char *name = json_string_value(json_array_get(pair, 0));

        if (name && !strcmp(name, key)) {
            return json_string_value(json_array_get(pair, 1));
        }
    }
    return NULL;
}

/* A set of one stands there without the set. */
json_t *ovs_row_reference(const json_t *row, const char *column, size_t index)
{
    json_t *value = json_object_get(row, column);
    const char *tag = json_string_value(json_array_get(value, 0));

    if (tag && !strcmp(tag, "set")) {
        return json_array_get(json_array_get(value, 1), index);
    }
    return index == 0 ? value : NULL;
}

struct ovs_owner ovs_row_owner(const json_t *row)
{
    return (struct ovs_owner){.network = map_get(row, "external_ids", OVS_KEY_NETWORK),
                              .container_id = map_get(row, "external_ids", OVS_KEY_CONTAINER),
                              .ifname = map_get(row, "external_ids", OVS_KEY_IFNAME),
                              .instance = map_get(row, "external_ids", OVS_KEY_INSTANCE)};
}

int ovs_row_ofport(const json_t *row)
{
    return (int)json_integer_value(optional(row, "ofport"));
}

const char *ovs_row_error(const json_t *row)
{
    return string_of(row, "error");
}

/* ---- ports ---- */

static json_t *where_maybe(const char *name)
{
    return name ? ovsdb_where_name(name) : json_array();
}

/* Rows by their _uuid's text. */
static json_t *index_rows(const json_t *rows)
{
    json_t *index = json_object(), *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        json_object_set(index, ovs_uuid_text(json_object_get(row, "_uuid")), row);
    }
    return index;
}

/* Bridge rows by the uuids of their ports. */
static json_t *index_bridges(const json_t *bridges)
{
    json_t *index = json_object(), *bridge;
    size_t i;

    json_array_foreach (bridges, i, bridge) {
        const json_t *port;

        for (size_t k = 0; (port = ovs_row_reference(bridge, "ports", k)); k++) {
            json_object_set(index, ovs_uuid_text(port), bridge);
        }
    }
    return index;
}

static struct ovs_port port_of(const json_t *port, const json_t *interface, const json_t *bridge)
{
    return (struct ovs_port){
        .name = string_of(port, "name"),
        .bridge = string_of(bridge, "name"),
        .type = string_of(interface, "type"),
        .ofport = ovs_row_ofport(interface),
        .error = ovs_row_error(interface),
        .tag = (int)json_integer_value(optional(port, "tag")),
        .owner = ovs_row_owner(port),
    };
}

int ovs_ports_list(struct ovsdb *db, const char *name, bool ours_only, int64_t deadline_ns,
                   struct ovs_ports *ret, struct error *err)
{
    struct ovs_ports list = {0};
    autojson json_t *results = NULL, *interfaces = NULL, *bridges = NULL;
    const json_t *row;
    size_t i;
    int rc = ovsdb_transact(
        db,
        json_pack("[o, o, o]",
                  ovsdb_select("Port", where_maybe(name), "_uuid name tag external_ids interfaces"),
                  ovsdb_select("Interface", where_maybe(name), "_uuid type ofport error"),
                  ovsdb_select("Bridge", json_array(), "name ports")),
        deadline_ns, &results, err);

    if (rc < 0) {
        error_wrap(err, "list ports");
        return rc;
    }
    interfaces = index_rows(ovsdb_rows(results, 1));
    bridges = index_bridges(ovsdb_rows(results, 2));
    list.ports = calloc(json_array_size(ovsdb_rows(results, 0)) + 1, sizeof(*list.ports));
    if (!list.ports) {
        return error_sys(err, -ENOMEM, "list ports");
    }
    json_array_foreach (ovsdb_rows(results, 0), i, row) {
        const char *uuid = ovs_uuid_text(json_object_get(row, "_uuid"));
        const char *interface = ovs_uuid_text(ovs_row_reference(row, "interfaces", 0));
        struct ovs_port port =
            port_of(row, json_object_get(interfaces, interface), json_object_get(bridges, uuid));

        if (!ours_only || port.owner.network) {
            list.ports[list.n++] = port;
        }
    }
    list.rows = take_ptr(results);
    *ret = list;
    return 0;
}

void ovs_ports_clear(struct ovs_ports *ports)
{
    free(ports->ports);
    json_decref(ports->rows);
    memset(ports, 0, sizeof(*ports));
}

/* ---- bridges ---- */

int ovs_no_bridge(const char *path, const char *missing, const json_t *rows, struct error *err)
{
    char known[512] = "";
    size_t used = 0, i;
    const json_t *row;

    json_array_foreach (rows, i, row) {
        if (used < sizeof(known)) {
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
                                     string_of(row, "name"));
        }
    }
    return error_set(err, -ENODEV, "no bridge \"%s\" in OVSDB at %s (there is: %s)", missing, path,
                     used ? known : "none");
}

int ovs_bridge_datapath(struct ovsdb *db, const char *bridge, int64_t deadline_ns,
                        char ret_datapath[16], struct error *err)
{
    autojson json_t *results = NULL;
    const json_t *row;
    size_t i;
    int rc = ovsdb_transact(
        db, json_pack("[o]", ovsdb_select("Bridge", json_array(), "name datapath_type")),
        deadline_ns, &results, err);

    if (rc < 0) {
        return rc;
    }
    json_array_foreach (ovsdb_rows(results, 0), i, row) {
        if (!strcmp(string_of(row, "name"), bridge)) {
            const char *type = string_of(row, "datapath_type");

            return str_copy(ret_datapath, 16, *type ? type : "system") < 0
                       ? error_set(err, -EINVAL, "bridge %s has the unknown datapath type %s",
                                   bridge, type)
                       : 0;
        }
    }
    return ovs_no_bridge(ovsdb_path(db), bridge, ovsdb_rows(results, 0), err);
}
