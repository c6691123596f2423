/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ovs-vswitchd is told of DPDK, in its database, which it reads once, at its start. Keys:
 * ovs-vswitchd.conf.db(5), table Open_vSwitch, other_config.
 */
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MB 2

/* The value of a key in an OVSDB map, ["map", [[key, value], ...]]; NULL when it is not there. */
static const char *map_get(const json_t *map, const char *key)
{
    json_t *pair;
    size_t i;

    json_array_foreach (json_array_get(map, 1), i, pair) {
        const char *name = json_string_value(json_array_get(pair, 0));

        if (name && !strcmp(name, key)) {
            return json_string_value(json_array_get(pair, 1));
        }
    }
    return NULL;
}

static int read_settings(struct ovsdb *db, int64_t deadline_ns, unsigned *ret, struct error *err)
{
    autojson json_t *results = NULL;
    const char *init, *memory;
    const json_t *map;
    int rc = ovsdb_transact(
        db, json_pack("[o]", ovsdb_select("Open_vSwitch", json_array(), "other_config")),
        deadline_ns, &results, err);

    if (rc < 0) {
        return rc;
    }
    map = json_object_get(json_array_get(ovsdb_rows(results, 0), 0), "other_config");
    init = map_get(map, "dpdk-init");
    memory = map_get(map, "dpdk-socket-mem");
    *ret =
        init && !strcmp(init, "true") && memory ? (unsigned)strtoul(memory, NULL, 10) / PAGE_MB : 0;
    return 0;
}

/*
 * No PCI devices are touched, and no file is made: memory comes straight from the kernel, which has
 * it back when the process ends, however it does. A thread that finds nothing to do sleeps up to
 * 100 microseconds; else it would use a CPU all the time.
 */
static int write_settings(struct ovsdb *db, unsigned pages, int64_t deadline_ns, struct error *err)
{
    char memory[16];
    const char *const settings[][2] = {{"dpdk-init", "true"},
                                       {"dpdk-extra", "--no-pci --in-memory --no-telemetry"},
                                       {"dpdk-socket-mem", memory},
                                       {"dpdk-socket-limit", memory},
                                       {"pmd-maxsleep", "100"}};
    autojson json_t *results = NULL, *keys = json_array(), *pairs = json_array();

    snprintf(memory, sizeof(memory), "%u", pages * PAGE_MB);
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
        json_array_append_new(keys, json_string(settings[i][0]));
        json_array_append_new(pairs, json_pack("[s, s]", settings[i][0], settings[i][1]));
    }
    return ovsdb_transact(db,
                          json_pack("[o, o]",
                                    ovsdb_mutate("Open_vSwitch", json_array(), "other_config",
                                                 "delete", ovsdb_set(json_incref(keys))),
                                    ovsdb_mutate("Open_vSwitch", json_array(), "other_config",
                                                 "insert", json_pack("[s, O]", "map", pairs))),
                          deadline_ns, &results, err);
}

int ovs_dpdk_settle(struct ovsdb *db, unsigned asked, bool running, int64_t deadline_ns,
                    unsigned *ret_pages, struct error *err)
{
    int rc = read_settings(db, deadline_ns, ret_pages, err);

    if (rc < 0 || !asked || asked == *ret_pages) {
        return rc;
    }
    if (running && *ret_pages) {
        return error_set(err, -EEXIST,
                         "ovs-vswitchd runs with %u hugepages, not %u: stop it first ('sluice ovs "
                         "down')",
                         *ret_pages, asked);
    }
    if (running) {
        return error_set(err, -EEXIST,
                         "ovs-vswitchd runs without DPDK: stop it first ('sluice ovs down')");
    }
    *ret_pages = asked;
    return write_settings(db, asked, deadline_ns, err);
}

int ovs_bridge_vhost(struct ovsdb *db, const char *bridge, int64_t deadline_ns, struct error *err)
{
    autojson json_t *results = NULL;
    char datapath[16];
    int rc = ovsdb_transact(
        db, json_pack("[o]", ovsdb_select("Open_vSwitch", json_array(), "dpdk_initialized")),
        deadline_ns, &results, err);

    if (rc == 0 && !json_is_true(json_object_get(json_array_get(ovsdb_rows(results, 0), 0),
                                                 "dpdk_initialized"))) {
        return error_set(err, -ENOTSUP,
                         "the Open vSwitch of bridge %s runs without DPDK; 'sluice ovs up --dpdk' "
                         "starts one with it",
                         bridge);
    }
    if (rc == 0) {
        rc = ovs_bridge_datapath(db, bridge, deadline_ns, datapath, err);
    }
    if (rc == 0 && strcmp(datapath, "netdev") != 0) {
        rc = error_set(err, -ENOTSUP, "bridge %s has datapath \"%s\"; vhost-user needs \"netdev\"",
                       bridge, datapath);
    }
    return rc;
}
