/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica of what the batcher has to know of the database: the interfaces with their ofports, the
 * names of the bridges. Kept by a monitor (RFC 7047, sections 4.1.5 and 4.1.6).
 */
#include "ovs/batcher-internal.h"

#include <errno.h>
#include <string.h>

static void table_clear(struct ovs_table *table)
{
    json_decref(table->rows);
    json_decref(table->names);
    memset(table, 0, sizeof(*table));
}

void ovs_replica_clear(struct ovs_replica *replica)
{
    table_clear(&replica->interfaces);
    table_clear(&replica->bridges);
}

json_t *ovs_replica_monitor(void)
{
    return json_pack("[s, s, {s:{s:[s, s, s]}, s:{s:[s]}}]", "Open_vSwitch", "sluice", "Interface",
                     "columns", "name", "ofport", "error", "Bridge", "columns", "name");
}

bool ovs_table_has(const struct ovs_table *table, const char *name)
{
    return json_object_get(table->names, name);
}

static const char *name_of(const json_t *row)
{
    return json_string_value(json_object_get(row, "name"));
}

/* Forgets the name of a row, unless another has it by now. */
static void forget_name(struct ovs_table *table, const char *uuid)
{
    const char *name = name_of(json_object_get(table->rows, uuid));
    const char *holder = name ? json_string_value(json_object_get(table->names, name)) : NULL;

    if (holder && !strcmp(holder, uuid)) {
        json_object_del(table->names, name);
    }
}

/* row NULL: it is gone. */
static int set_row(struct ovs_table *table, const char *uuid, json_t *row)
{
    forget_name(table, uuid);
    if (!row) {
        json_object_del(table->rows, uuid);
        return 0;
    }
    return json_object_set(table->rows, uuid, row) < 0 ||
                   json_object_set_new(table->names, name_of(row), json_string(uuid)) < 0
               ? -ENOMEM
               : 0;
}

/* A table's part of an update: by uuid what a row was and is ("new", missing when it is gone). */
static int update_table(struct ovs_table *table, const json_t *updates,
                        void (*changed)(void *cookie, const char *uuid, const json_t *row),
                        void *cookie)
{
    const char *uuid;
    json_t *update;

    if (!table->rows) {
        table->rows = json_object();
        table->names = json_object();
    }
    if (updates && !json_is_object(updates)) {
        return -EBADMSG;
    }
    json_object_foreach ((json_t *)updates, uuid, update) {
        json_t *row = json_object_get(update, "new");
        int rc;

        if (!json_is_object(update) || (row && !name_of(row))) {
            return -EBADMSG;
        }
        rc = set_row(table, uuid, row);
        if (rc < 0) {
            return rc;
        }
        if (changed) {
            changed(cookie, uuid, row);
        }
    }
    return 0;
}

int ovs_replica_update(struct ovs_replica *replica, const json_t *updates,
                       void (*changed)(void *cookie, const char *uuid, const json_t *row),
                       void *cookie)
{
    int rc = json_is_object(updates) ? 0 : -EBADMSG;

    if (rc == 0) {
        rc = update_table(&replica->bridges, json_object_get(updates, "Bridge"), NULL, NULL);
    }
    if (rc == 0) {
        rc = update_table(&replica->interfaces, json_object_get(updates, "Interface"), changed,
                          cookie);
    }
    return rc;
}
