/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges of a private Open vSwitch: made in its database, and proved to work. */
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_MAX ((size_t)64 << 20)
#define UNDO_NS (2 * NSEC_PER_SEC)

/* ---- ovs-vswitchd's log, the only place where it tells why a bridge failed ---- */

static char *log_path(const char *dir)
{
    return str_printf("%s/%s.log", dir, ovs_daemon_switch.name);
}

static size_t log_size(const char *dir)
{
    autofree char *path = log_path(dir);
    struct stat st;

    return path && stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* The words of a line "TIME|NUMBER|MODULE|LEVEL|WORDS" if it is a warning or worse, else NULL. */
static const char *complaint(const char *line)
{
    const char *level = line;

    for (int i = 0; level && i < 3; i++) {
        level = strchr(level, '|');
        level = level ? level + 1 : NULL;
    }
    if (!level || (!str_has_prefix(level, "WARN|") && !str_has_prefix(level, "ERR|"))) {
        return NULL;
    }
    return strchr(level, '|') + 1;
}

/* The first complaint after from bytes; "" when there is none. The caller frees it. */
static char *first_complaint(const char *dir, size_t from)
{
    autofree char *path = log_path(dir), *text = NULL;
    char *line, *rest;
    size_t len = 0;

    if (!path || file_read(path, LOG_MAX, &text, &len) < 0 || from > len) {
        return strdup("");
    }
    rest = text + from;
    while ((line = strsep(&rest, "\n"))) {
        const char *words = complaint(line);

        if (words) {
            return strdup(words);
        }
    }
    return strdup("");
}

/* ---- making ---- */

/* Selects by name, one operation a name. */
static json_t *select_rows(const char *table, const char *const *names, size_t n,
                           const char *columns)
{
    json_t *ops = json_array();

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(ops, ovsdb_select(table, ovsdb_where_name(names[i]), columns));
    }
    return ops;
}

/* The four operations that make a bridge with its own port, and hang it into the root row. */
#define BRIDGE_OPS 4
#define BRIDGE_ROW 2 /* which of them inserts the Bridge */
static int put_bridge(json_t *ops, const char *name, const char *datapath, size_t i)
{
    char interface[24], port[24], bridge[24];
    autojson json_t *more = NULL;

    snprintf(interface, sizeof(interface), "i%zu", i);
    snprintf(port, sizeof(port), "p%zu", i);
    snprintf(bridge, sizeof(bridge), "b%zu", i);
    more =
        json_pack("[o, o, o, o]",
                  ovsdb_insert("Interface", interface,
                               json_pack("{s:s, s:s}", "name", name, "type", "internal")),
                  ovsdb_insert("Port", port,
                               json_pack("{s:s, s:[s, s]}", "name", name, "interfaces",
                                         "named-uuid", interface)),
                  ovsdb_insert("Bridge", bridge,
                               json_pack("{s:s, s:s, s:s, s:b, s:[s, s]}", "name", name,
                                         "datapath_type", datapath, "fail_mode", "standalone",
                                         "mcast_snooping_enable", 0, "ports", "named-uuid", port)),
                  ovsdb_mutate("Open_vSwitch", json_array(), "bridges", "insert",
                               json_pack("[s, s]", "named-uuid", bridge)));
    return more ? json_array_extend(ops, more) : -1;
}

static bool named_before(const char *const *names, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (!strcmp(names[k], names[i])) {
            return true;
        }
    }
    return false;
}

/* Inserts what is missing, and waits until ovs-vswitchd has seen it. The new rows' uuids go
 * to made, also on failure. */
static int insert_missing(struct ovsdb *db, const struct ovs_private_options *options,
                          int64_t deadline_ns, json_t *made, struct error *err)
{
    const char *const *names = options->bridges;
    autojson json_t *ops = json_array(), *found = NULL, *results = NULL;
    size_t missing = 0, n = options->n_bridges;
    int rc = ovsdb_transact(db, select_rows("Bridge", names, n, "_uuid"), deadline_ns, &found, err);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (json_array_size(ovsdb_rows(found, i)) == 0 && !named_before(names, i)) {
            rc = put_bridge(ops, names[i], options->datapath ? options->datapath : "netdev",
                            missing++);
        }
    }
    if (rc == 0) {
        rc = ovs_cfg_put_bump(ops);
    }
    if (rc < 0) {
        return rc == -1 ? error_sys(err, -ENOMEM, "write the bridges") : rc;
    }
    rc = ovsdb_transact(db, take_ptr(ops), deadline_ns, &results, err);
    for (size_t i = 0; rc == 0 && i < missing; i++) {
        json_array_append(made, ovsdb_inserted(results, i * BRIDGE_OPS + BRIDGE_ROW));
    }
    return rc == 0
               ? ovs_cfg_wait(db, results, missing * BRIDGE_OPS + OVS_CFG_OPS - 1, deadline_ns, err)
               : rc;
}

/* Each bridge's own interface must have become a port: else ovs-vswitchd could not make it. */
static int check_bridges(struct ovsdb *db, const char *dir, size_t log_from,
                         const char *const *names, size_t n, int64_t deadline_ns, struct error *err)
{
    autojson json_t *results = NULL;
    int rc = ovsdb_transact(db, select_rows("Interface", names, n, "ofport error"), deadline_ns,
                            &results, err);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *row = json_array_get(ovsdb_rows(results, i), 0);
        autofree char *words = NULL;
        const char *why;

        if (ovs_row_ofport(row) > 0) {
            continue;
        }
        words = *ovs_row_error(row) ? strdup(ovs_row_error(row)) : first_complaint(dir, log_from);
        why = words && *words ? words : "it did not say why";
        rc = error_set(err, -EIO, "bridge %s: ovs-vswitchd could not make it: %s%s (see %s/%s.log)",
                       names[i], why,
                       strstr(why, "ovs-netdev") && strstr(why, "busy")
                           ? "; another Open vSwitch has the userspace datapath of this network "
                             "namespace"
                           : "",
                       dir, ovs_daemon_switch.name);
    }
    return rc;
}

static void remove_bridges(struct ovsdb *db, json_t *uuids, int64_t deadline_ns)
{
    autojson json_t *results = NULL;

    if (json_array_size(uuids) > 0) {
        ovsdb_transact(db,
                       json_pack("[o]", ovsdb_mutate("Open_vSwitch", json_array(), "bridges",
                                                     "delete", ovsdb_set(json_incref(uuids)))),
                       deadline_ns, &results, NULL);
    }
}

int ovs_bridges_make(struct ovsdb *db, const char *dir, const struct ovs_private_options *options,
                     int64_t deadline_ns, struct error *err)
{
    autojson json_t *made = json_array();
    size_t log_from = log_size(dir);
    int rc;

    if (options->n_bridges == 0) {
        return 0;
    }
    rc = insert_missing(db, options, deadline_ns, made, err);
    if (rc == 0) {
        rc = check_bridges(db, dir, log_from, options->bridges, options->n_bridges, deadline_ns,
                           err);
    }
    if (rc < 0) {
        remove_bridges(db, made, clock_ns() + UNDO_NS);
    }
    return rc;
}
