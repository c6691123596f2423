/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flow batcher an OpenFlow socket, made when the first flow is asked for there. A switch that
 * was started again has no flows: each connection made has those of all records put there anew.
 */
#include "agent/agent-internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define REPLAY_S 300

struct bridge {
    struct job job;
    struct agent *agent;
    char *socket_path;
    struct flow_batcher *batcher;
    atomic_bool connected; /* anew: its flows are to be put there */
    bool replaying;
    struct kind_env *env; /* of the replay */
    size_t n;             /* attachments that it put there */
    struct bridge *next;
};

struct agent_flows {
    struct agent *agent;
    uv_async_t async; /* some bridge was connected */
    pthread_mutex_t lock;
    struct bridge *first; /* under lock */
};

/* ---- flows put there anew ---- */

static int replay_record(const struct record *record, void *cookie)
{
    struct bridge *bridge = cookie;
    char path[PATH_MAX];
    struct error err = {0};
    int rc;

    /* Parts have theirs once they are taken. */
    if (!record->cookie || strcmp(record->state, "ready") != 0 || !record_of_this_boot(record) ||
        part_of_key(record->key.container_id, record->key.ifname) ||
        openflow_path(record->ovs_socket, record->bridge, path, sizeof(path)) < 0 ||
        strcmp(path, bridge->socket_path) != 0) {
        return 0;
    }
    rc = cni_police_record(bridge->env, record, &err);
    if (rc < 0) {
        log_warn("flows of container %s, interface %s: %s", record->key.container_id,
                 record->key.ifname, err.text);
    }
    bridge->n += rc == 0;
    return 0;
}

static void replay(struct job *job, struct kind_env *env)
{
    struct bridge *bridge = (struct bridge *)job;
    struct error err = {0};

    if (!env) {
        return;
    }
    env->deadline_ns = clock_ns() + REPLAY_S * NSEC_PER_SEC;
    bridge->env = env;
    bridge->n = 0;
    if (record_list(env->instance, replay_record, bridge, &err) < 0) {
        log_warn("flows of %s: %s", bridge->socket_path, err.text);
    } else if (bridge->n) {
        log_info("switch at %s: flows of %zu attachments put there", bridge->socket_path,
                 bridge->n);
    }
}

static void begin_replay(struct bridge *bridge)
{
    bridge->replaying = true;
    agent_calls_changed(bridge->agent, 1);
    workers_submit(bridge->agent->workers, LANE_SLOW, &bridge->job);
}

static void replayed(struct job *job)
{
    struct bridge *bridge = (struct bridge *)job;

    bridge->replaying = false;
    if (!bridge->agent->stopping && atomic_exchange(&bridge->connected, false)) {
        begin_replay(bridge);
    }
    agent_calls_changed(bridge->agent, -1);
}

static void look(uv_async_t *async)
{
    struct agent_flows *flows = async->data;

    pthread_mutex_lock(&flows->lock);
    for (struct bridge *bridge = flows->first; bridge; bridge = bridge->next) {
        if (!flows->agent->stopping && !bridge->replaying &&
            atomic_exchange(&bridge->connected, false)) {
            begin_replay(bridge);
        }
    }
    pthread_mutex_unlock(&flows->lock);
}

/* In the batcher's thread. */
static void on_connect(void *cookie, bool first)
{
    struct bridge *bridge = cookie;

    (void)first; /* of this agent: an earlier one may have missed the switch's restart */
    atomic_store(&bridge->connected, true);
    uv_async_send(&bridge->agent->flows->async);
}

/* ---- the batchers ---- */

static void bridge_free(struct bridge *bridge)
{
    if (bridge) {
        free(bridge->socket_path);
        free(bridge);
    }
}

static int find_locked(struct agent_flows *flows, const char *socket_path,
                       struct flow_batcher **ret, struct error *err)
{
    struct bridge *bridge = flows->first;
    int rc;

    while (bridge && strcmp(bridge->socket_path, socket_path) != 0) {
        bridge = bridge->next;
    }
    if (!bridge) {
        bridge = calloc(1, sizeof(*bridge));
        if (!bridge || !(bridge->socket_path = strdup(socket_path))) {
            bridge_free(bridge);
            return error_sys(err, -ENOMEM, "batcher");
        }
        bridge->agent = flows->agent;
        bridge->job.run = replay;
        bridge->job.done = replayed;
        rc = flow_batcher_start(socket_path, &(struct flow_batcher_hooks){on_connect, bridge},
                                &bridge->batcher, err);
        if (rc < 0) {
            bridge_free(bridge);
            return rc;
        }
        bridge->next = flows->first;
        flows->first = bridge;
    }
    *ret = bridge->batcher;
    return 0;
}

static int find(struct kind_shared *shared, const char *socket_path, struct flow_batcher **ret,
                struct error *err)
{
    struct agent *agent = (struct agent *)((char *)shared - offsetof(struct agent, shared));
    int rc;

    pthread_mutex_lock(&agent->flows->lock);
    rc = find_locked(agent->flows, socket_path, ret, err);
    pthread_mutex_unlock(&agent->flows->lock);
    return rc;
}

void agent_flows_adopt(struct agent *agent, const struct record *record)
{
    struct flow_batcher *batcher;
    struct error err = {0};
    char path[PATH_MAX];

    if (record->cookie &&
        (openflow_path(record->ovs_socket, record->bridge, path, sizeof(path)) < 0 ||
         find(&agent->shared, path, &batcher, &err) < 0)) {
        log_warn("flows of container %s: %s", record->key.container_id, err.text);
    }
}

int agent_flows_new(struct agent *agent)
{
    struct agent_flows *flows = calloc(1, sizeof(*flows));
    int rc = flows ? uv_async_init(&agent->loop, &flows->async, look) : -ENOMEM;

    if (rc < 0) {
        free(flows);
        return rc;
    }
    flows->agent = agent;
    flows->async.data = flows;
    pthread_mutex_init(&flows->lock, NULL);
    agent->flows = flows;
    agent->shared.flow_batcher = find;
    return 0;
}

static void closed(uv_handle_t *handle)
{
    free(handle->data);
}

void agent_flows_free(struct agent *agent)
{
    struct bridge *bridge, *next;

    if (!agent->flows) {
        return;
    }
    for (bridge = agent->flows->first; bridge; bridge = next) {
        next = bridge->next;
        flow_batcher_stop(bridge->batcher);
        bridge_free(bridge);
    }
    pthread_mutex_destroy(&agent->flows->lock);
    uv_close((uv_handle_t *)&agent->flows->async, closed);
    agent->flows = NULL;
}

json_t *agent_flows_show(struct agent *agent)
{
    json_t *list = json_array();

    pthread_mutex_lock(&agent->flows->lock);
    for (struct bridge *bridge = agent->flows->first; bridge; bridge = bridge->next) {
        struct flow_batcher_counts counts;

        flow_batcher_counts(bridge->batcher, &counts);
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "socket", bridge->socket_path,
                            "bundles", (json_int_t)counts.bundles, "policies",
                            (json_int_t)counts.sets, "flows", (json_int_t)counts.flows, "failed",
                            (json_int_t)counts.failed, "retried", (json_int_t)counts.retried,
                            "reconnects", (json_int_t)counts.reconnects));
    }
    pthread_mutex_unlock(&agent->flows->lock);
    return list;
}
