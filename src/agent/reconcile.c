/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At the start: what is there, in records, in the kernel and in OVSDB. What belongs to nobody that
 * a record names is kept: unknown means alive, until GC's list says otherwise. What another boot
 * left is another matter: its pods are gone, and all that stands in a database or on a disk is void.
 */
#include "agent/agent-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_S 30

struct reconcile {
    struct agent *agent;
    struct kind_env env;
    char boot[37];
    char alias_prefix[KIND_ALIAS_MAX];
    size_t ready, adding, of_boot, devices;
};

/* DEL by the record's own configuration: OVS ports outlive a boot in the system's database. */
static void remove_old(struct reconcile *reconcile, const struct record *record)
{
    struct error err = {0};
    int rc = attachment_del_record(&reconcile->env, record, &err);

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

    if (record->boot_id[0] && strcmp(record->boot_id, reconcile->boot) != 0) {
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
    int rc = boot_id(reconcile.boot);

    if (rc < 0) {
        return error_sys(err, rc, "read the boot ID");
    }
    rc = kind_env_open(&reconcile.env, instance, NULL, err);
    if (rc < 0) {
        return rc;
    }
    reconcile.env.deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC;
    attachment_alias_prefix(instance, reconcile.alias_prefix);
    rc = record_list(instance, look_at_record, &reconcile, err);
    record_tidy(instance);
    if (rc == 0) {
        rc = link_list(reconcile.env.host, look_at_device, &reconcile, err);
    }
    kind_env_close(&reconcile.env);
    agent->found_attachments = reconcile.ready;
    agent->found_unknown = reconcile.adding;
    if (reconcile.ready || reconcile.adding || reconcile.of_boot) {
        log_info("found %zu attachments, %zu that were being added when their agent ended; %zu of "
                 "another boot removed",
                 reconcile.ready, reconcile.adding, reconcile.of_boot);
    }
    return rc;
}
