/* SPDX-License-Identifier: Apache-2.0 */
/* One OVS batcher a socket, made when the first port is asked for there. */
#include "agent/agent-internal.h"
#include "agent/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *socket_path;
    struct ovs_batcher *batcher;
    struct entry *next;
};

struct agent_batchers {
    struct kind_shared *shared;
    pthread_mutex_t lock;
    struct entry *first; /* under lock */
};

static struct agent_batchers *of_shared(struct kind_shared *shared)
{
    struct agent *agent = (struct agent *)((char *)shared - offsetof(struct agent, shared));

    return agent->batchers;
}

static int find_locked(struct agent_batchers *batchers, const char *socket_path,
                       struct ovs_batcher **ret, struct error *err)
{
    struct entry *entry = batchers->first;
    int rc;

    while (entry && strcmp(entry->socket_path, socket_path) != 0) {
        entry = entry->next;
    }
    if (!entry) {
        entry = calloc(1, sizeof(*entry));
        if (!entry || !(entry->socket_path = strdup(socket_path))) {
            free(entry);
            return error_sys(err, -ENOMEM, "batcher");
        }
        rc = ovs_batcher_start(socket_path, &entry->batcher, err);
        if (rc < 0) {
            free(entry->socket_path);
            free(entry);
            return rc;
        }
        entry->next = batchers->first;
        batchers->first = entry;
    }
    *ret = entry->batcher;
    return 0;
}

static int find(struct kind_shared *shared, const char *socket_path, struct ovs_batcher **ret,
                struct error *err)
{
    struct agent_batchers *batchers = of_shared(shared);
    int rc;

    pthread_mutex_lock(&batchers->lock);
    rc = find_locked(batchers, socket_path, ret, err);
    pthread_mutex_unlock(&batchers->lock);
    return rc;
}

int agent_batchers_new(struct agent *agent)
{
    agent->batchers = calloc(1, sizeof(*agent->batchers));
    if (!agent->batchers) {
        return -ENOMEM;
    }
    pthread_mutex_init(&agent->batchers->lock, NULL);
    agent->shared.batcher = find;
    return 0;
}

void agent_batchers_free(struct agent *agent)
{
    struct entry *entry, *next;

    if (!agent->batchers) {
        return;
    }
    for (entry = agent->batchers->first; entry; entry = next) {
        next = entry->next;
        ovs_batcher_stop(entry->batcher);
        free(entry->socket_path);
        free(entry);
    }
    pthread_mutex_destroy(&agent->batchers->lock);
    free(agent->batchers);
    agent->batchers = NULL;
}

json_t *agent_batchers_show(struct agent *agent)
{
    json_t *list = json_array();

    pthread_mutex_lock(&agent->batchers->lock);
    for (struct entry *entry = agent->batchers->first; entry; entry = entry->next) {
        struct ovs_batcher_counts counts;

        ovs_batcher_counts(entry->batcher, &counts);
        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "socket", entry->socket_path,
                      "transactions", (json_int_t)counts.transactions, "ports_added",
                      (json_int_t)counts.added, "ports_removed", (json_int_t)counts.removed,
                      "failed", (json_int_t)counts.failed, "retried", (json_int_t)counts.retried,
                      "reconnects", (json_int_t)counts.reconnects));
    }
    pthread_mutex_unlock(&agent->batchers->lock);
    return list;
}

/* The counts' own bounds are 1, 2, 4, ... ports. */
void agent_batchers_write_sizes(struct agent *agent, FILE *to)
{
    static const char name[] = "sluice_ovs_batch_ports";

    metrics_family(to, METRICS_HISTOGRAM, name, "ports in a transaction");
    pthread_mutex_lock(&agent->batchers->lock);
    for (struct entry *entry = agent->batchers->first; entry; entry = entry->next) {
        struct ovs_batcher_counts counts;
        uint64_t below = 0;

        ovs_batcher_counts(entry->batcher, &counts);
        for (size_t i = 0; i < OVS_BATCH_SIZES; i++) {
            char bound[16];
            struct metrics_label labels[] = {
                {"socket", entry->socket_path}, {"le", bound}, {NULL, NULL}};

            below += counts.sizes[i];
            snprintf(bound, sizeof(bound), i + 1 < OVS_BATCH_SIZES ? "%u" : "+Inf", 1u << i);
            metrics_count(to, "sluice_ovs_batch_ports_bucket", labels, below);
        }
        metrics_count(to, "sluice_ovs_batch_ports_sum",
                      (struct metrics_label[]){{"socket", entry->socket_path}, {NULL, NULL}},
                      counts.added + counts.removed);
        metrics_count(to, "sluice_ovs_batch_ports_count",
                      (struct metrics_label[]){{"socket", entry->socket_path}, {NULL, NULL}},
                      below);
    }
    pthread_mutex_unlock(&agent->batchers->lock);
}
