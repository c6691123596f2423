/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of a transaction (RFC 7047, section 5.2), written shortly. */
#include "ovs/ovs-internal.h"

#include <string.h>

json_t *ovsdb_where(const char *column, json_t *value)
{
    return json_pack("[[s, s, o]]", column, "==", value);
}

json_t *ovsdb_where_name(const char *name)
{
    return ovsdb_where("name", json_string(name));
}

json_t *ovsdb_select(const char *table, json_t *where, const char *columns)
{
    json_t *list = json_array();

    while (*columns) {
        size_t len = strcspn(columns, " ");

        json_array_append_new(list, json_stringn(columns, len));
        columns += len + strspn(columns + len, " ");
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "op", "select", "table", table, "where", where,
                     "columns", list);
}

json_t *ovsdb_insert(const char *table, const char *uuid_name, json_t *row)
{
    return json_pack("{s:s, s:s, s:s, s:o}", "op", "insert", "table", table, "uuid-name", uuid_name,
                     "row", row);
}

json_t *ovsdb_mutate(const char *table, json_t *where, const char *column, const char *mutator,
                     json_t *value)
{
    return json_pack("{s:s, s:s, s:o, s:[[s, s, o]]}", "op", "mutate", "table", table, "where",
                     where, "mutations", column, mutator, value);
}

json_t *ovsdb_wait(const char *table, json_t *where, const char *column, const char *until,
                   json_t *value, int timeout_ms)
{
    return json_pack("{s:s, s:s, s:o, s:[s], s:s, s:[{s:o}], s:i}", "op", "wait", "table", table,
                     "where", where, "columns", column, "until", until, "rows", column, value,
                     "timeout", timeout_ms);
}

json_t *ovsdb_set(json_t *elements)
{
    return json_pack("[s, o]", "set", elements);
}
