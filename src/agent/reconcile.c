/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At the start: what is there, in records, in the kernel and in OVSDB. What belongs to nobody that
 * a record names is kept: unknown means alive, until GC's list says otherwise. What another boot
 * left is another matter: its pods are gone, and all that stands in a database or on a disk is void.
 */
#include "agent/agent-internal.h"

#include <string.h>

struct reconcile {
    struct agent *agent;
    char alias_prefix[KIND_ALIAS_MAX];
    size_t ready, adding, of_boot, devices;
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

static int look_at_record(const struct record *record, void *cookie)
{
    struct reconcile *reconcile = cookie;

    if (!record_of_this_boot(record)) {
        remove_old(reconcile, record);
    } else if (!strcmp(record->state, "ready")) {
        reconcile->ready++;
    } else {
        reconcile->adding++;
    }
    return 0;
}

static int look_at_device(const struct link_info *info, void *cookie)
{
    struct reconcile *reconcile = cookie;

    reconcile->devices += str_has_prefix(info->alias, reconcile->alias_prefix);
    return 0;
}

int agent_reconcile(struct agent *agent, struct error *err)
{
    const char *instance = agent->options->instance;
    struct reconcile reconcile = {.agent = agent};
    autonetlink struct netlink *nl = NULL;
    int rc;

    attachment_alias_prefix(instance, reconcile.alias_prefix);
    rc = record_list(instance, look_at_record, &reconcile, err);
    record_tidy(instance);
    if (rc == 0) {
        rc = netlink_open(-1, &nl, err);
    }
    if (rc == 0) {
        rc = link_list(nl, look_at_device, &reconcile, err);
    }
    agent->found_attachments = reconcile.ready;
    agent->found_unknown = reconcile.adding;
    if (reconcile.ready || reconcile.adding || reconcile.of_boot) {
        log_info("found %zu attachments, %zu that were being added when their agent ended; %zu of "
                 "another boot removed",
                 reconcile.ready, reconcile.adding, reconcile.of_boot);
    }
    return rc;
}
