/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates over the socket: a permit belongs to the connection that asked for it, and goes with it.
 */
#include "agent/agent-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GATES_FILE  "gates.json"
#define WAIT_MS_MAX (24 * 3600 * 1000)

/* A permit, or the wait for one. */
struct lease {
    struct gate_ticket ticket;
    struct agent *agent;
    struct rpc_peer *peer;
    struct rpc_request *request; /* while it waits */
    size_t slot;
    struct lease *next, *prev; /* of the same peer; the first is the peer's data */
};

/* Leases by number: a slot of a growing table. */
struct agent_leases {
    struct lease **slots;
    size_t n, size;
    size_t *free_slots, n_free; /* room for size */
};

/* ---- leases ---- */

static int slot_take(struct agent_leases *leases, struct lease *lease)
{
    if (!leases->n_free && leases->n == leases->size) {
        size_t size = leases->size ? leases->size * 2 : 256;
        struct lease **slots = reallocarray(leases->slots, size, sizeof(*slots));
        size_t *free_slots;

        if (!slots) {
            return -ENOMEM;
        }
        leases->slots = slots;
        free_slots = reallocarray(leases->free_slots, size, sizeof(*free_slots));
        if (!free_slots) {
            return -ENOMEM;
        }
        leases->free_slots = free_slots;
        leases->size = size;
    }
    lease->slot = leases->n_free ? leases->free_slots[--leases->n_free] : leases->n++;
    leases->slots[lease->slot] = lease;
    return 0;
}

static struct lease *lease_new(struct agent *agent, struct rpc_request *request)
{
    struct lease *lease = calloc(1, sizeof(*lease)), **first;

    if (!lease || slot_take(agent->leases, lease) < 0) {
        free(lease);
        return NULL;
    }
    lease->agent = agent;
    lease->peer = request->peer;
    lease->request = request;
    first = (struct lease **)rpc_peer_data(request->peer);
    lease->next = *first;
    if (*first) {
        (*first)->prev = lease;
    }
    *first = lease;
    return lease;
}

/* Gives up whatever it holds, and ends. */
static void lease_end(struct lease *lease)
{
    struct agent *agent = lease->agent;
    struct agent_leases *leases = agent->leases;
    struct lease **first = (struct lease **)rpc_peer_data(lease->peer);

    if (lease->prev) {
        lease->prev->next = lease->next;
    } else {
        *first = lease->next;
    }
    if (lease->next) {
        lease->next->prev = lease->prev;
    }
    leases->slots[lease->slot] = NULL;
    leases->free_slots[leases->n_free++] = lease->slot;
    gate_release(agent->gates, &lease->ticket, clock_ns());
    free(lease);
}

void agent_gates_peer_closed(struct agent *agent, struct rpc_peer *peer)
{
    struct lease **first = (struct lease **)rpc_peer_data(peer);

    while (*first) {
        struct lease *lease = *first;

        if (lease->request) {
            rpc_answer(lease->request, NULL, NULL, 0, NULL, 0); /* to nobody: frees it */
        }
        lease_end(lease);
    }
    agent_gates_changed(agent);
}

/* ---- methods ---- */

static void tell_admitted(struct lease *lease)
{
    const struct gate_ticket *ticket = &lease->ticket;
    struct rpc_request *request = lease->request;

    lease->request = NULL;
    rpc_answer(request,
               json_pack("{s:I, s:I}", "lease", (json_int_t)lease->slot + 1, "waited_ns",
                         (json_int_t)(ticket->admitted_ns - ticket->asked_ns)),
               NULL, 0, NULL, 0);
}

static void on_admitted(struct gate_ticket *ticket, int rc)
{
    struct lease *lease = (struct lease *)ticket;
    struct rpc_request *request = lease->request;
    char text[128];

    if (rc == 0) {
        tell_admitted(lease);
        return;
    }
    snprintf(text, sizeof(text), "gate %s: no permit within %d ms", span_stages[ticket->stage].name,
             (int)((ticket->deadline_ns - ticket->asked_ns) / NSEC_PER_MSEC));
    lease_end(lease);
    rpc_refuse(request, ETIMEDOUT, text, NULL, 0);
}

static int read_stage(const json_t *params, size_t *ret, struct error *err)
{
    const char *text = NULL;
    int rc = json_need_string(params, NULL, "stage", &text, err);

    return rc < 0 ? rc : gate_stage_parse(text, ret, err);
}

static void gate_acquire_method(struct agent *agent, struct rpc_request *request)
{
    const json_t *params = request->params;
    const char *tenant = "";
    int64_t timeout_ms = WAIT_MS_MAX, now_ns = clock_ns();
    struct error err = {0};
    struct lease *lease;
    size_t stage;
    int rc;

    if (read_stage(params, &stage, &err) < 0 ||
        json_read_string(params, NULL, "tenant", &tenant, &err) < 0 ||
        json_read_int(params, NULL, "timeout_ms", 0, WAIT_MS_MAX, &timeout_ms, &err) < 0) {
        agent_refuse(request, &err);
        return;
    }
    lease = agent->stopping ? NULL : lease_new(agent, request);
    if (!lease) {
        rpc_refuse(request, agent->stopping ? ESHUTDOWN : ENOMEM,
                   agent->stopping ? "the agent is ending" : "out of memory", NULL, 0);
        return;
    }
    lease->ticket.done = on_admitted;
    rc = gate_acquire(agent->gates, stage, tenant, now_ns, now_ns + timeout_ms * NSEC_PER_MSEC,
                      &lease->ticket);
    if (rc == 1) {
        tell_admitted(lease);
    } else if (rc == 0) {
        agent_gates_changed(agent);
    } else {
        lease_end(lease);
        error_sys(&err, rc, "gate %s", span_stages[stage].name);
        agent_refuse(request, &err);
    }
}

static void gate_release_method(struct agent *agent, struct rpc_request *request)
{
    struct agent_leases *leases = agent->leases;
    struct lease *lease = NULL;
    int64_t number = 0;
    struct error err = {0};

    if (json_read_int(request->params, NULL, "lease", 1, INT32_MAX, &number, &err) < 0) {
        agent_refuse(request, &err);
        return;
    }
    if (number && (size_t)number <= leases->n) {
        lease = leases->slots[number - 1];
    }
    if (!lease || lease->peer != request->peer || lease->request) {
        rpc_refuse(request, ENOENT, "lease: this connection holds none of that number", NULL, 0);
        return;
    }
    /* Whoever is next hears of it first; and an answer may close the connection, and so end the
     * lease. */
    lease_end(lease);
    rpc_answer(request, NULL, NULL, 0, NULL, 0);
}

static json_t *stage_json(const struct agent *agent, size_t stage, int64_t now_ns)
{
    struct gate_view view;

    gate_view(agent->gates, stage, now_ns, &view);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "stage",
                     span_stages[stage].name, "limit", (json_int_t)view.limit, "held",
                     (json_int_t)view.held, "waiting", (json_int_t)view.waiting, "tenants_waiting",
                     (json_int_t)view.tenants, "longest_wait_ns", (json_int_t)view.longest_wait_ns,
                     "admitted", (json_int_t)view.admitted, "expired", (json_int_t)view.expired,
                     "given_up", (json_int_t)view.given_up, "refused", (json_int_t)view.refused,
                     "wait_sum_s", view.wait->sum, "hold_sum_s", view.hold->sum);
}

static void gate_show_method(struct agent *agent, struct rpc_request *request)
{
    json_t *list = json_array();

    for (size_t i = 0; i < span_n_stages; i++) {
        json_array_append_new(list, stage_json(agent, i, clock_ns()));
    }
    rpc_answer(request, json_pack("{s:o}", "gates", list), NULL, 0, NULL, 0);
}

/* What is said of limits holds until others are set. */
static void keep_evidence(struct agent *agent, const json_t *limits)
{
    json_decref(agent->evidence);
    agent->evidence = json_copy(json_object_get(limits, "evidence"));
}

static void gate_set_method(struct agent *agent, struct rpc_request *request)
{
    struct error err = {0};

    if (gates_set_limits(agent->gates, request->params, clock_ns(), &err) < 0) {
        agent_refuse(request, &err);
        return;
    }
    keep_evidence(agent, request->params);
    agent_gates_changed(agent);
    rpc_answer(request, gates_limits(agent->gates), NULL, 0, NULL, 0);
}

static void gate_save_method(struct agent *agent, struct rpc_request *request)
{
    autojson json_t *limits = gates_limits(agent->gates);
    autofree char *path = NULL;
    struct error err = {0};

    if (agent->evidence) {
        json_object_set(limits, "evidence", agent->evidence);
    }
    if (agent_settings_write(agent, GATES_FILE, limits, &path, &err) < 0) {
        agent_refuse(request, &err);
        return;
    }
    rpc_answer(request,
               json_pack("{s:s, s:O}", "file", path, "limits", json_object_get(limits, "limits")),
               NULL, 0, NULL, 0);
}

/* -ENOENT: none are saved. */
static int load_saved(struct agent *agent, struct error *err)
{
    autojson json_t *json = NULL;
    int rc = agent_settings_read(agent, GATES_FILE, &json, err);

    if (rc < 0) {
        return rc;
    }
    rc = gates_set_limits(agent->gates, json, clock_ns(), err);
    if (rc < 0) {
        return error_wrap(err, "%s/" GATES_FILE, agent->options->state_dir);
    }
    keep_evidence(agent, json);
    agent_gates_changed(agent);
    return 0;
}

static void gate_load_method(struct agent *agent, struct rpc_request *request)
{
    struct error err = {0};
    int rc = load_saved(agent, &err);

    if (rc == -ENOENT) {
        error_wrap(&err, "no limits are saved");
    }
    if (rc < 0) {
        agent_refuse(request, &err);
        return;
    }
    rpc_answer(request, gates_limits(agent->gates), NULL, 0, NULL, 0);
}

const struct agent_method agent_gate_methods[] = {
    {"gate.acquire", gate_acquire_method},
    {"gate.load", gate_load_method},
    {"gate.release", gate_release_method},
    {"gate.save", gate_save_method},
    {"gate.set", gate_set_method},
    {"gate.show", gate_show_method},
    {0},
};

/* ---- start and stop ---- */

int agent_gates_load(struct agent *agent, struct error *err)
{
    int rc = load_saved(agent, err);

    return rc == -ENOENT ? 0 : rc;
}

static void on_gate_timer(uv_timer_t *timer)
{
    struct agent *agent = timer->data;

    gates_expire(agent->gates, clock_ns());
    agent_gates_changed(agent);
}

void agent_gates_changed(struct agent *agent)
{
    int64_t next_ns = gates_next_deadline(agent->gates);

    if (next_ns == INT64_MAX) {
        uv_timer_stop(&agent->gate_timer);
    } else {
        uv_update_time(&agent->loop);
        uv_timer_start(&agent->gate_timer, on_gate_timer, (uint64_t)clock_left_ms(next_ns), 0);
    }
}

int agent_gates_start(struct agent *agent, struct error *err)
{
    int rc = gates_new(&agent->gates);

    agent->leases = calloc(1, sizeof(*agent->leases));
    if (rc < 0 || !agent->leases) {
        return error_sys(err, -ENOMEM, "gates");
    }
    uv_timer_init(&agent->loop, &agent->gate_timer);
    agent->gate_timer.data = agent;
    return agent_gates_load(agent, err);
}

void agent_gates_stop(struct agent *agent)
{
    json_decref(agent->evidence);
    if (agent->leases) {
        free(agent->leases->slots);
        free(agent->leases->free_slots);
        free(agent->leases);
    }
    gates_free(agent->gates);
    if (agent->gate_timer.data) {
        uv_close((uv_handle_t *)&agent->gate_timer, NULL);
    }
}
