/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent tells over HTTP: its numbers, its health, its pools to the study's programs. */
#include "agent/agent-internal.h"
#include "agent/metrics.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- numbers ---- */

/* One label of a sample, then a second. */
#define LABELS(...)                                                                                \
    (const struct metrics_label[])                                                                 \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            NULL, NULL                                                                             \
        }                                                                                          \
    }

/* The histogram's own count is the number of calls. */
static void write_calls(const struct agent *agent, FILE *to)
{
    static const char name[] = "sluice_cni_call_seconds";

    metrics_family(to, METRICS_HISTOGRAM, name, "CNI calls from request to answer");
    for (size_t k = 0; kinds[k]; k++) {
        for (size_t v = 0; v < AGENT_VERBS; v++) {
            const struct agent_count *row = &agent->counts[k][v];
            const char *kind = kinds[k]->type, *verb = agent_verb_names[v];

            if (row->ok.n + row->failed.n) {
                metrics_histogram(
                    to, name, LABELS({"kind", kind}, {"verb", verb}, {"result", "ok"}), &row->ok);
                metrics_histogram(to, name,
                                  LABELS({"kind", kind}, {"verb", verb}, {"result", "failed"}),
                                  &row->failed);
            }
        }
    }
    metrics_gauge(to, "sluice_cni_calls_in_flight", "CNI calls not answered yet",
                  (double)agent->n_calls);
}

enum gate_number {
    GATE_LIMIT,
    GATE_HELD_NOW,
    GATE_WAITING_NOW,
    GATE_WAIT,
    GATE_HOLD,
    GATE_EXPIRED
};

static const struct {
    enum gate_number number;
    enum metrics_type type;
    const char *name, *help;
} gate_families[] = {
    {GATE_LIMIT, METRICS_GAUGE, "sluice_gate_limit", "permits of a gate; 0: no limit"},
    {GATE_HELD_NOW, METRICS_GAUGE, "sluice_gate_held", "permits that are held"},
    {GATE_WAITING_NOW, METRICS_GAUGE, "sluice_gate_waiting", "who waits for a permit"},
    {GATE_WAIT, METRICS_HISTOGRAM, "sluice_gate_wait_seconds", "waits of those that were admitted"},
    {GATE_HOLD, METRICS_HISTOGRAM, "sluice_gate_hold_seconds", "how long permits were held"},
    {GATE_EXPIRED, METRICS_COUNTER, "sluice_gate_expired_total", "waits that reached a deadline"},
};

static void write_gate(FILE *to, size_t family, const struct gate_view *view,
                       const struct metrics_label *labels)
{
    const char *name = gate_families[family].name;

    switch (gate_families[family].number) {
    case GATE_LIMIT:
        metrics_count(to, name, labels, view->limit);
        break;
    case GATE_HELD_NOW:
        metrics_count(to, name, labels, view->held);
        break;
    case GATE_WAITING_NOW:
        metrics_count(to, name, labels, view->waiting);
        break;
    case GATE_WAIT:
        metrics_histogram(to, name, labels, view->wait);
        break;
    case GATE_HOLD:
        metrics_histogram(to, name, labels, view->hold);
        break;
    case GATE_EXPIRED:
        metrics_count(to, name, labels, view->expired);
        break;
    }
}

static void write_gates(const struct agent *agent, FILE *to)
{
    for (size_t f = 0; f < ARRAY_SIZE(gate_families); f++) {
        metrics_family(to, gate_families[f].type, gate_families[f].name, gate_families[f].help);
        for (size_t i = 0; i < span_n_stages; i++) {
            struct gate_view view;

            gate_view(agent->gates, i, clock_ns(), &view);
            write_gate(to, f, &view, LABELS({"stage", span_stages[i].name}));
        }
    }
}

/* Families first, then samples: a JSON array of objects as a method answers it. */
static void write_objects(FILE *to, const json_t *list, const char *id, const char *label,
                          const char *const (*families)[3])
{
    for (; (*families)[0]; families++) {
        const char *key = (*families)[0], *name = (*families)[1];
        json_t *object;
        size_t i, len = strlen(name);
        bool counter = len > 6 && !strcmp(name + len - 6, "_total");

        metrics_family(to, counter ? METRICS_COUNTER : METRICS_GAUGE, name, (*families)[2]);
        json_array_foreach (list, i, object) {
            metrics_value(to, name, LABELS({label, json_string_value(json_object_get(object, id))}),
                          json_is_boolean(json_object_get(object, key))
                              ? json_is_true(json_object_get(object, key))
                              : json_number_value(json_object_get(object, key)));
        }
    }
}

static void write_pools(struct agent *agent, FILE *to)
{
    static const char *const families[][3] = {
        {"free", "sluice_pool_free", "parts that are ready"},
        {"cooling", "sluice_pool_cooling", "parts that came back and cool down"},
        {"making", "sluice_pool_making", "parts that are being made"},
        {"taken", "sluice_pool_taken", "parts that pods have"},
        {"ready", "sluice_pool_ready", "1 once the floor was reached"},
        {"hits", "sluice_pool_hits_total", "pods that got a part"},
        {"misses", "sluice_pool_misses_total", "pods that came when there was none"},
        {"made", "sluice_pool_made_total", "parts made"},
        {"failed", "sluice_pool_failed_total", "parts that could not be made"},
        {NULL, NULL, NULL}};
    autojson json_t *list = agent_pools_show(agent);

    write_objects(to, list, "network", "network", families);
}

static void write_flows(struct agent *agent, FILE *to)
{
    static const char *const families[][3] = {
        {"bundles", "sluice_flow_bundles_total", "OpenFlow bundles sent"},
        {"policies", "sluice_flow_policies_total", "policies put in place or removed"},
        {"flows", "sluice_flow_flows_total", "flows put in place"},
        {"failed", "sluice_flow_failed_total", "policies that the switch refused, or late"},
        {"reconnects", "sluice_flow_reconnects_total", "connections to a switch made anew"},
        {NULL, NULL, NULL}};
    autojson json_t *list = agent_flows_show(agent);

    write_objects(to, list, "socket", "socket", families);
}

static void write_batchers(struct agent *agent, FILE *to)
{
    static const char *const families[][3] = {
        {"transactions", "sluice_ovs_transactions_total", "OVSDB transactions committed"},
        {"ports_added", "sluice_ovs_ports_added_total", "OVS ports made"},
        {"ports_removed", "sluice_ovs_ports_removed_total", "OVS ports removed"},
        {"failed", "sluice_ovs_ports_failed_total", "OVS ports that could not be made"},
        {"reconnects", "sluice_ovs_reconnects_total", "connections to OVSDB made anew"},
        {NULL, NULL, NULL}};
    autojson json_t *list = agent_batchers_show(agent);

    write_objects(to, list, "socket", "socket", families);
    agent_batchers_write_sizes(agent, to);
}

static void write_funnel(struct agent *agent, FILE *to)
{
    metrics_family(to, METRICS_HISTOGRAM, "sluice_funnel_wait_seconds",
                   "waits before rtnetlink work of a kind");
    for (int i = 0; i < FUNNEL_N_WORKS; i++) {
        struct funnel_view view;

        funnel_view(agent->shared.funnel, (enum funnel_work)i, &view);
        metrics_histogram(to, "sluice_funnel_wait_seconds", LABELS({"work", funnel_work_names[i]}),
                          &view.wait);
    }
    metrics_family(to, METRICS_GAUGE, "sluice_lane_queued", "calls that wait for a thread");
    for (int i = 0; i < LANE_N; i++) {
        struct lane_view view;

        workers_view(agent->workers, (enum lane)i, &view);
        metrics_count(to, "sluice_lane_queued", LABELS({"lane", lane_names[i]}), view.queued);
    }
}

static int write_metrics(void *cookie, FILE *to)
{
    struct agent *agent = cookie;

    metrics_family(to, METRICS_GAUGE, "sluice_build_info", "always 1");
    metrics_value(to, "sluice_build_info", LABELS({"version", SLUICE_VERSION}), 1);
    metrics_gauge(to, "sluice_uptime_seconds", "since the agent started",
                  (double)(clock_ns() - agent->started_ns) / NSEC_PER_SEC);
    metrics_gauge(to, "sluice_connections", "connections to the agent's socket",
                  agent->server ? (double)rpc_server_peers(agent->server) : 0);
    write_calls(agent, to);
    write_gates(agent, to);
    write_pools(agent, to);
    write_batchers(agent, to);
    write_flows(agent, to);
    write_funnel(agent, to);
    return 0;
}

/* ---- health ---- */

static bool healthy(void *cookie, char *why, size_t size)
{
    struct agent *agent = cookie;

    if (agent->stopping) {
        snprintf(why, size, "the agent is ending");
    }
    return !agent->stopping;
}

static void gates_changed(void *cookie)
{
    agent_gates_changed(cookie);
}

/* ---- start ---- */

int agent_web_start(struct agent *agent, struct error *err)
{
    const struct agent_options *o = agent->options;
    struct http_options options = {.ports = o->http_ports,
                                   .n_ports = o->n_http_ports,
                                   .max_hold_s = o->http_hold_s,
                                   .barrier = o->http_barrier,
                                   .pods = o->http_pods,
                                   .tenants = o->http_tenants};
    struct http_api api = {.cookie = agent,
                           .gates = agent->gates,
                           .gates_changed = gates_changed,
                           .metrics = write_metrics,
                           .healthy = healthy,
                           .device_take = agent_pools_device_take,
                           .device_find = agent_pools_device_find,
                           .set_rules = agent_set_rules};

    return o->n_http_ports ? http_start(&agent->loop, &options, &api, &agent->http, err) : 0;
}
