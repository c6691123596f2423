/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server may tell of the tables that it was asked to monitor: an array of updates, one after
 * the other. The replica's names and rows must agree after each, whatever it said.
 */
#include "fuzz.h"
#include "ovs/batcher-internal.h"

#include <stdlib.h>
#include <string.h>

static void check_table(const struct ovs_table *table)
{
    const char *name;
    json_t *uuid;

    json_object_foreach (table->names, name, uuid) {
        const json_t *row = json_object_get(table->rows, json_string_value(uuid));
        const char *has = json_string_value(json_object_get(row, "name"));

        if (!has || strcmp(has, name) || !ovs_table_has(table, name)) {
            abort();
        }
    }
    if (json_object_size(table->names) > json_object_size(table->rows)) {
        abort();
    }
}

static void changed(void *cookie, const char *uuid, const json_t *row)
{
    const struct ovs_replica *replica = cookie;

    if (json_object_get(replica->interfaces.rows, uuid) != row) {
        abort();
    }
    if (row && ovs_row_ofport(row) == 0 && strlen(ovs_row_error(row)) > 100000) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ovs_replica replica = {0};
    autojson json_t *updates = NULL;
    struct error err;
    const json_t *update;
    size_t i;

    if (json_parse((const char *)data, size, &updates, &err) < 0) {
        return 0;
    }
    json_array_foreach (updates, i, update) {
        if (ovs_replica_update(&replica, update, changed, &replica) < 0) {
            ovs_replica_clear(&replica);
        } else {
            check_table(&replica.interfaces);
            check_table(&replica.bridges);
        }
    }
    ovs_replica_clear(&replica);
    return 0;
}
