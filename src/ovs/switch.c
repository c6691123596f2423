/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to ovs-vswitchd that its database answers: whether it is there, and whether it has
 * taken in what was committed (next_cfg and cur_cfg of the table Open_vSwitch).
 */
#include "ovs/ovs-internal.h"

#include <errno.h>

#define PROBE_NS (2 * NSEC_PER_SEC)

/* Whether any ovs-vswitchd serves this database. */
static bool switch_present(struct ovsdb *db, int64_t deadline_ns)
{
    autojson json_t *locked = NULL, *unlocked = NULL;

    if (ovsdb_request(db, "lock", json_pack("[s]", OVS_SWITCH_LOCK), deadline_ns, &locked, NULL) <
            0 ||
        ovsdb_request(db, "unlock", json_pack("[s]", OVS_SWITCH_LOCK), deadline_ns, &unlocked,
                      NULL) < 0) {
        return true; /* not known */
    }
    return !json_is_true(json_object_get(locked, "locked"));
}

int ovs_switch_silent_words(const char *path, bool present, struct error *err)
{
    return present ? error_set(err, -ETIMEDOUT,
                               "ovs-vswitchd on OVSDB at %s did not answer in time (its log may "
                               "say why)",
                               path)
                   : error_set(err, -ETIMEDOUT, "no ovs-vswitchd is running on OVSDB at %s", path);
}

int ovs_switch_silent(struct ovsdb *db, struct error *err)
{
    return ovsdb_usable(db) ? ovs_switch_silent_words(
                                  ovsdb_path(db), switch_present(db, clock_ns() + PROBE_NS), err)
                            : ovsdb_silent(ovsdb_path(db), err);
}

int ovs_cfg_put_bump(json_t *operations)
{
    return json_array_append_new(operations, ovsdb_mutate("Open_vSwitch", json_array(), "next_cfg",
                                                          "+=", json_integer(1))) |
           json_array_append_new(operations,
                                 ovsdb_select("Open_vSwitch", json_array(), "next_cfg cur_cfg"));
}

static json_int_t counter(const json_t *results, size_t select_index, const char *column)
{
    const json_t *row = json_array_get(ovsdb_rows(results, select_index), 0);

    return json_integer_value(json_object_get(row, column));
}

int ovs_cfg_wait(struct ovsdb *db, const json_t *results, size_t select_index, int64_t deadline_ns,
                 struct error *err)
{
    json_int_t target = counter(results, select_index, "next_cfg");
    json_int_t current = counter(results, select_index, "cur_cfg");

    /* OVSDB can wait for a change but not for "at least": others count next_cfg up too. */
    while (current < target) {
        autojson json_t *changed = NULL;
        json_t *ops = json_pack("[o, o]",
                                ovsdb_wait("Open_vSwitch", json_array(), "cur_cfg",
                                           "!=", json_integer(current), clock_left_ms(deadline_ns)),
                                ovsdb_select("Open_vSwitch", json_array(), "cur_cfg"));
        int rc = ovsdb_transact(db, ops, deadline_ns + PROBE_NS, &changed, err);

        if (rc == -ETIMEDOUT) {
            return ovs_switch_silent(db, err);
        }
        if (rc < 0) {
            return rc;
        }
        current = counter(changed, 1, "cur_cfg");
    }
    return 0;
}
