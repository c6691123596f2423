/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At the start: what is there, in records, in the kernel and in OVSDB. What belongs to nobody that
 * a record names is kept: unknown means alive, until GC's list says otherwise. What another boot
 * left is another matter: its pods are gone, and all that stands in a database or on a disk is
 * void.
 */
#include "agent/agent-internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define OVSDB_S 5

struct reconcile {
    struct agent *agent;
    json_t *taken, *free_parts; /* by name */
    size_t ready, adding, of_boot, parts, unknown;
};

/* DEL by the record's own configuration: OVS ports outlive a boot in the system's database. */
static void remove_old(struct reconcile *reconcile, const struct record *record)
{
    struct error err = {0};
    int rc = cni_del_record(reconcile->agent->options->instance, record, &err);

    if (rc < 0) {
        log_warn("container %s, interface %s, of another boot: %s", record->key.container_id,
                 record->key.ifname, err.text);
    } else {
        reconcile->of_boot++;
    }
}

/* "NUMBER@NETWORK": a part's name here, and its namespace's. */
static char *part_name(uint64_t part, const char *network)
{
    return str_printf("%" PRIu64 "@%s", part, network);
}

static int note_taken(const struct record *record, void *cookie)
{
    struct reconcile *reconcile = cookie;
    autofree char *name = record->part ? part_name(record->part, record->key.network) : NULL;

    agent_pools_reserve(reconcile->agent, record->part);
    if (name) {
        json_object_set_new(reconcile->taken, name, json_true());
    }
    return 0;
}

static void adopt_part(struct reconcile *reconcile, const struct record *record)
{
    uint64_t part = part_of_key(record->key.container_id, record->key.ifname);
    autofree char *name = part_name(part, record->key.network);
    bool taken = name && json_object_get(reconcile->taken, name);

    if (agent_pools_adopt(reconcile->agent, record, taken) < 0) {
        log_warn("part %s of the pool of network %s is not adopted", record->key.ifname,
                 record->key.network);
    }
    if (name && !taken) {
        json_object_set_new(reconcile->free_parts, name, json_true());
    }
    reconcile->parts++;
}

/* Namespaces that no free part has: taken, and whoever took them has them; or never finished. */
static void drop_namespaces(struct reconcile *reconcile)
{
    const char *instance = reconcile->agent->options->instance;
    autofree char *top = str_printf("%s/pool", instance);
    DIR *dir = top ? opendir(top) : NULL;
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        autofree char *path = str_printf("%s/%s", top, entry->d_name);

        if (path && entry->d_name[0] != '.' &&
            !json_object_get(reconcile->free_parts, entry->d_name)) {
            netns_delete(path, NULL);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int look_at_record(const struct record *record, void *cookie)
{
    struct reconcile *reconcile = cookie;

    if (!record_of_this_boot(record)) {
        remove_old(reconcile, record);
    } else if (part_of_key(record->key.container_id, record->key.ifname)) {
        adopt_part(reconcile, record);
    } else if (!strcmp(record->state, "ready")) {
        agent_flows_adopt(reconcile->agent, record);
        reconcile->ready++;
    } else {
        reconcile->adding++;
    }
    return 0;
}

static int look_at_device(const struct link_info *info, void *cookie)
{
    struct reconcile *reconcile = cookie;

    const char *instance = reconcile->agent->options->instance;
    struct attachment_key key;
    char alias[KIND_ALIAS_MAX];

    reconcile->unknown += attachment_alias_parse(instance, info->alias, alias, &key) &&
                          !record_exists(instance, &key);
    return 0;
}

/* Ports of ours, if the instance's Open vSwitch answers at all. */
static void look_at_ports(struct reconcile *reconcile)
{
    const char *instance = reconcile->agent->options->instance;
    int64_t deadline_ns = clock_ns() + OVSDB_S * NSEC_PER_SEC;
    autoovsdb struct ovsdb *db = NULL;
    struct ovs_ports found = {0};
    char path[PATH_MAX];

    ovs_socket_path(NULL, instance, path, sizeof(path));
    if (access(path, F_OK) < 0 || ovsdb_connect(path, deadline_ns, &db, NULL) < 0 ||
        ovs_ports_list(db, NULL, true, deadline_ns, &found, NULL) < 0) {
        return;
    }
    for (size_t i = 0; i < found.n; i++) {
        const struct ovs_owner *owner = &found.ports[i].owner;
        struct attachment_key key = {owner->network, owner->container_id, owner->ifname};

        reconcile->unknown += owner->instance && !strcmp(owner->instance, instance) &&
                              key.network && key.container_id && key.ifname &&
                              !record_exists(instance, &key);
    }
    ovs_ports_clear(&found);
}

int agent_reconcile(struct agent *agent, struct error *err)
{
    const char *instance = agent->options->instance;
    struct reconcile reconcile = {.agent = agent};
    autonetlink struct netlink *nl = NULL;
    int rc;

    reconcile.taken = json_object();
    reconcile.free_parts = json_object();
    rc = record_list(instance, note_taken, &reconcile, err);
    if (rc == 0) {
        rc = record_list(instance, look_at_record, &reconcile, err);
    }
    if (rc == 0) { /* else those of free parts are not all known */
        drop_namespaces(&reconcile);
    }
    record_tidy(instance);
    json_decref(reconcile.taken);
    json_decref(reconcile.free_parts);
    if (rc == 0) {
        rc = netlink_open(-1, &nl, err);
    }
    if (rc == 0) {
        rc = link_list(nl, look_at_device, &reconcile, err);
    }
    look_at_ports(&reconcile);
    agent->found_attachments = reconcile.ready;
    agent->found_adding = reconcile.adding;
    agent->found_unknown = reconcile.unknown;
    if (reconcile.ready || reconcile.adding || reconcile.of_boot || reconcile.parts ||
        reconcile.unknown) {
        log_info("found %zu attachments, %zu that were being added when their agent ended, %zu "
                 "parts of pools, %zu devices and OVS ports without a record, which stay; %zu of "
                 "another boot removed",
                 reconcile.ready, reconcile.adding, reconcile.parts, reconcile.unknown,
                 reconcile.of_boot);
    }
    return rc;
}
