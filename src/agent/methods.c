/* SPDX-License-Identifier: Apache-2.0 */
/* Which method is whose, and the agent's own. */
#include "agent/agent-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const struct agent_method *const tables[] = {agent_cni_methods, agent_gate_methods,
                                                    agent_pool_methods, agent_status_methods};

void agent_refuse(struct rpc_request *request, const struct error *err)
{
    rpc_refuse(request, -err->errnum, err->text, NULL, 0);
}

static void refuse_unknown(struct rpc_request *request)
{
    char text[1024];
    size_t used = (size_t)snprintf(text, sizeof(text), "method: \"%.64s\" is not allowed; must be",
                                   request->method);

    for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
        for (const struct agent_method *m = tables[t]; m->name && used < sizeof(text); m++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", m->name);
        }
    }
    rpc_refuse(request, ENOSYS, text, NULL, 0);
}

void agent_request(void *cookie, struct rpc_request *request)
{
    for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
        for (const struct agent_method *m = tables[t]; m->name; m++) {
            if (!strcmp(m->name, request->method)) {
                m->run(cookie, request);
                return;
            }
        }
    }
    refuse_unknown(request);
}

void agent_peer_closed(void *cookie, struct rpc_peer *peer)
{
    agent_gates_peer_closed(cookie, peer);
}

/* ---- agent.status ---- */

static json_t *lanes_json(struct agent *agent)
{
    json_t *lanes = json_object();

    for (int i = 0; i < LANE_N; i++) {
        struct lane_view view;

        workers_view(agent->workers, (enum lane)i, &view);
        json_object_set_new(lanes, lane_names[i],
                            json_pack("{s:i, s:i, s:i, s:I}", "width", (int)view.width, "threads",
                                      (int)view.threads, "busy", (int)view.busy, "queued",
                                      (json_int_t)view.queued));
    }
    return lanes;
}

static json_t *funnel_json(struct agent *agent)
{
    json_t *funnel = json_object();

    for (int i = 0; i < FUNNEL_N_WORKS; i++) {
        struct funnel_view view;

        funnel_view(agent->shared.funnel, (enum funnel_work)i, &view);
        json_object_set_new(funnel, funnel_work_names[i],
                            json_pack("{s:i, s:i, s:i, s:I, s:f}", "width", (int)view.width, "busy",
                                      (int)view.busy, "waiting", (int)view.waiting, "passed",
                                      (json_int_t)view.passed, "wait_sum_s", view.wait.sum));
    }
    return funnel;
}

static json_t *calls_json(const struct agent *agent)
{
    json_t *calls = json_array();

    for (size_t k = 0; kinds[k]; k++) {
        for (size_t v = 0; v < AGENT_VERBS; v++) {
            const struct agent_count *row = &agent->counts[k][v];

            if (row->ok.n + row->failed.n) {
                json_array_append_new(calls, json_pack("{s:s, s:s, s:I, s:I, s:f}", "kind",
                                                       kinds[k]->type, "verb", agent_verb_names[v],
                                                       "ok", (json_int_t)row->ok.n, "failed",
                                                       (json_int_t)row->failed.n, "latency_sum_s",
                                                       row->ok.sum + row->failed.sum));
            }
        }
    }
    return calls;
}

static void status_method(struct agent *agent, struct rpc_request *request)
{
    rpc_answer(
        request,
        json_pack("{s:s, s:i, s:s, s:s, s:f, s:I, s:I, s:b, s:{s:I, s:I, s:I}, s:o, s:o, s:o, "
                  "s:o, s:o}",
                  "version", SLUICE_VERSION, "pid", (int)getpid(), "instance",
                  agent->options->instance, "state_dir", agent->options->state_dir, "uptime_s",
                  (double)(clock_ns() - agent->started_ns) / NSEC_PER_SEC, "connections",
                  (json_int_t)rpc_server_peers(agent->server), "calls_in_flight",
                  (json_int_t)agent->n_calls, "stopping", agent->stopping, "found_at_start",
                  "attachments", (json_int_t)agent->found_attachments, "adding",
                  (json_int_t)agent->found_adding, "unknown", (json_int_t)agent->found_unknown,
                  "calls", calls_json(agent), "lanes", lanes_json(agent), "funnel",
                  funnel_json(agent), "batchers", agent_batchers_show(agent), "flows",
                  agent_flows_show(agent)),
        NULL, 0, NULL, 0);
}

/* ---- attachment.get: what a runtime needs to know of a container's interfaces ---- */

struct lookup {
    const char *container_id, *ifname; /* ifname NULL: any */
    json_t *list;
    struct kind_env *env;
    int fds[RPC_FDS_MAX];
    size_t n_fds;
};

/* The descriptor of a device that stays outside goes along; "fd" says which it is. */
static void add_descriptor(struct lookup *lookup, const struct record *record, json_t *json)
{
    const struct kind *kind = kind_find(record->type);
    struct attachment at = {.key = record->key, .kind = kind, .part = record->part};
    const char *type = json_string_value(json_object_get(record->conf, "poolType"));
    struct error err = {0};

    if (!kind || !kind->outside || lookup->n_fds == RPC_FDS_MAX) {
        return;
    }
    for (int i = 0; type && kind->parts[i]; i++) {
        at.conf.pool_type = strcmp(kind->parts[i], type) ? at.conf.pool_type : i;
    }
    at.conf.tenant = "";
    attachment_prepare(&at, lookup->env->instance);
    if (kind->open(lookup->env, &at, &lookup->fds[lookup->n_fds], &err) == 0) {
        json_object_set_new(json, "fd", json_integer((json_int_t)lookup->n_fds++));
    } else {
        json_object_set_new(json, "fd_error", json_string(err.text));
    }
}

static int look_up(const struct record *record, void *cookie)
{
    struct lookup *lookup = cookie;

    if (record->json && !strcmp(record->key.container_id, lookup->container_id) &&
        (!lookup->ifname || !strcmp(record->key.ifname, lookup->ifname))) {
        json_t *copy = json_copy(record->json);

        add_descriptor(lookup, record, copy);
        json_array_append_new(lookup->list, copy);
    }
    return 0;
}

static void attachment_get_method(struct agent *agent, struct rpc_request *request)
{
    struct lookup lookup = {.list = json_array()};
    struct kind_env env = {.host_netns_fd = -1, .span_fd = -1};
    struct error err = {0};
    int rc = json_need_string(request->params, NULL, "container_id", &lookup.container_id, &err);

    lookup.env = &env;
    if (rc == 0) {
        rc = json_read_string(request->params, NULL, "ifname", &lookup.ifname, &err);
    }
    if (rc == 0) {
        rc = kind_env_open(&env, agent->options->instance, &agent->shared, &err);
    }
    if (rc == 0) {
        rc = record_list_container(agent->options->instance, lookup.container_id, look_up, &lookup,
                                   &err);
        kind_env_close(&env);
    }
    if (rc == 0 && !json_array_size(lookup.list)) {
        rc = error_set(&err, -ENOENT, "container %.100s has no attachment", lookup.container_id);
    }
    if (rc < 0) {
        json_decref(lookup.list);
        agent_refuse(request, &err);
    } else {
        rpc_answer(request, json_pack("{s:o}", "attachments", lookup.list), NULL, 0, lookup.fds,
                   lookup.n_fds);
    }
    for (size_t i = 0; i < lookup.n_fds; i++) {
        close(lookup.fds[i]);
    }
}

const struct agent_method agent_status_methods[] = {
    {"agent.status", status_method}, {"attachment.get", attachment_get_method}, {0}};
