/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CNI calls: from the request through the gate and a lane to the answer. What an ADD or a DEL does
 * is the kinds' business, the same code as in the plugin that runs by itself.
 */
#include "agent/agent-internal.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_S 100 /* when the caller names none */

const char *const agent_verb_names[AGENT_VERBS] = {"ADD", "DEL", "CHECK", "GC", "STATUS"};

struct call {
    struct job job;
    struct gate_ticket ticket;
    struct turn turn;           /* among the calls about its container */
    struct call *next, **where; /* in agent->waiting_calls */
    struct agent *agent;
    struct rpc_request *request;
    const char **environment;
    struct cni_request cni;
    struct cni_call cni_call;
    int64_t t0_ns, admitted_ns, deadline_ns;
    char *output;
    uint64_t part, broken_part; /* of the pool, that ADD is to take, and that it can't; 0: none */
    bool counted;               /* one of agent->n_calls */
};

/* ---- the request ---- */

/* A block of NUL-terminated strings as a list of them, which is the caller's. */
static const char **split_block(const char *block, size_t len)
{
    size_t n = 0;
    const char **list;

    if (len && block[len - 1] != '\0') {
        return NULL;
    }
    for (size_t i = 0; i < len; i++) {
        n += block[i] == '\0';
    }
    list = calloc(n + 1, sizeof(*list));
    for (size_t i = 0; list && i < n; i++) {
        list[i] = block;
        block += strlen(block) + 1;
    }
    return list;
}

static int read_request(struct call *call, struct error *err)
{
    const struct rpc_message *message = &call->request->message;
    const json_t *params = call->request->params;
    int64_t block_len = 0, left_ms = DEADLINE_S * 1000;
    struct json_path path = {.key = "params"};
    int rc;

    if ((rc = json_read_int(params, &path, "environment", 0, (int64_t)message->body_len, &block_len,
                            err)) < 0 ||
        (rc = json_read_int(params, &path, "deadline_ms", 1, 3600 * 1000, &left_ms, err)) < 0) {
        return rc;
    }
    call->environment = split_block(message->body, (size_t)block_len);
    if (!call->environment) {
        return error_set(err, -EINVAL, "the environment must be NUL-terminated assignments");
    }
    cni_request_from_environment(call->environment, &call->cni);
    call->cni.input = message->body + block_len;
    call->cni.input_len = message->body_len - (size_t)block_len;
    call->cni.netns_fd = message->n_fds ? &message->fds[0] : NULL;
    call->deadline_ns = call->t0_ns + left_ms * NSEC_PER_MSEC;
    return 0;
}

/* ---- the answer ---- */

static void call_free(struct call *call)
{
    if (call->counted) {
        agent_calls_changed(call->agent, -1);
    }
    cni_call_clear(&call->cni_call);
    free(call->output);
    free(call->environment);
    free(call);
}

static void count(struct call *call)
{
    const struct cni_call *cni = &call->cni_call;
    size_t kind = 0;

    while (kinds[kind] && kinds[kind] != cni->conf.attachment.kind) {
        kind++;
    }
    for (size_t verb = 0; kinds[kind] && cni->verb && verb < AGENT_VERBS; verb++) {
        if (!strcmp(cni->verb->name, agent_verb_names[verb])) {
            struct agent_count *row = &call->agent->counts[kind][verb];

            histogram_add(cni->rc == 0 ? &row->ok : &row->failed, clock_ns() - call->t0_ns);
        }
    }
}

/* From the worker's thread, which has the answer first. */
static void answer_early(struct call *call)
{
    const struct cni_call *cni = &call->cni_call;
    size_t len = call->output ? strlen(call->output) : 0;

    if (!call->output) {
        return;
    }
    if (cni->rc < 0) {
        rpc_refuse_early(call->request, (int)cni_error_code(&cni->err), cni->err.text, call->output,
                         len);
    } else {
        rpc_answer_early(call->request, call->output, len);
    }
}

static void answer(struct call *call)
{
    const struct cni_call *cni = &call->cni_call;
    size_t len;

    turns_pass(call->agent->turns, &call->turn);
    gate_release(call->agent->gates, &call->ticket, clock_ns());
    if (!call->output) {
        call->output = cni_call_output(cni);
    }
    count(call);
    len = call->output ? strlen(call->output) : 0;
    if (cni->rc < 0) {
        rpc_refuse(call->request, (int)cni_error_code(&cni->err), cni->err.text, call->output, len);
    } else {
        rpc_answer(call->request, NULL, call->output, len, NULL, 0);
    }
    call_free(call);
}

/* ---- the work ---- */

/* Time that went before the work began is told apart from it. */
static void note_waits(const struct call *call, int span_fd, int64_t begun_ns)
{
    const char *pod = call->cni.container_id;

    if (strcmp(call->cni_call.verb->name, "ADD") != 0) {
        return;
    }
    if (call->admitted_ns > call->t0_ns) {
        span_waited(span_fd, pod, "cni.gate", call->t0_ns, call->admitted_ns);
    }
    span_waited(span_fd, pod, "cni.queue", call->admitted_ns, begun_ns);
}

/* The part was broken: the pod gets a device of its own. */
static void run_without_part(struct call *call, struct kind_env *env)
{
    call->broken_part = call->part;
    cni_call_clear(&call->cni_call);
    cni_call_begin(&call->cni_call, &call->cni);
    cni_call_run(&call->cni_call, env, call->deadline_ns);
}

static void run(struct job *job, struct kind_env *env)
{
    struct call *call = (struct call *)job;
    struct error err = {0};

    if (!env) {
        struct kind_env none = {.shared = &call->agent->shared};

        error_set(&err, -EAGAIN, "the agent has no netlink socket to work with");
        part_untouched(&none, &call->cni_call.conf.attachment);
        cni_call_fail(&call->cni_call, &err);
        return;
    }
    if (clock_left_ms(call->deadline_ns) == 0) {
        part_untouched(env, &call->cni_call.conf.attachment);
        error_code(&err, CNI_TRY_AGAIN_LATER, -ETIMEDOUT,
                   "the call waited for its turn until its deadline; nothing was begun");
        cni_call_fail(&call->cni_call, &err);
        return;
    }
    kind_env_spans(env, call->cni.spans);
    note_waits(call, env->span_fd, clock_ns());
    cni_call_run(&call->cni_call, env, call->deadline_ns);
    if (call->cni_call.rc == -ESTALE && call->part) {
        run_without_part(call, env);
    }
    call->output = cni_call_output(&call->cni_call);
    if (strcmp(call->cni_call.verb->name, "STATUS") != 0) {
        answer_early(call);
    }
}

static void done(struct job *job)
{
    struct call *call = (struct call *)job;
    struct cni_call *cni = &call->cni_call;
    struct error err = {0};

    if (call->broken_part) {
        agent_pools_broken(call->agent, cni->conf.name, call->broken_part);
    }
    if (cni->rc == 0 && !strcmp(cni->verb->name, "STATUS") &&
        agent_pools_ready(call->agent, cni->conf.name, &err) < 0) {
        cni_call_fail(cni, &err);
        free(take_ptr(call->output));
    }
    answer(call);
}

/* Where what a call does can wait without being in the way of others. */
static enum lane lane_of(const struct cni_call *cni)
{
    const struct attachment *at = &cni->conf.attachment;

    if (!strcmp(cni->verb->name, "DEL")) {
        return LANE_REMOVE;
    }
    if (strcmp(cni->verb->name, "ADD") != 0 || at->addresses == ADDRESSES_DELEGATED || at->cookie) {
        return LANE_SLOW;
    }
    /* These wait for ovs-vswitchd, which does for many at once what it does for one: a policy's
     * flows, and a tenant's port that its first ADD is to make. */
    if (at->cookie || (!at->part && at->kind->has_port && !if_nametoindex(at->conf.port))) {
        return LANE_SLOW;
    }
    return at->part || !(at->kind->own_port || at->kind->outside) ? LANE_QUICK : LANE_SLOW;
}

static void submit(struct call *call)
{
    struct attachment *at = &call->cni_call.conf.attachment;

    if (!strcmp(call->cni_call.verb->name, "ADD") && at->kind->outside) {
        at->part = call->part = agent_pools_take(call->agent, &call->cni_call.conf);
        attachment_prepare(at, call->agent->options->instance);
    }
    workers_submit(call->agent->workers, lane_of(&call->cni_call), &call->job);
}

static void on_turn(struct turn *turn)
{
    submit((struct call *)((char *)turn - offsetof(struct call, turn)));
}

static void begin(struct call *call)
{
    call->admitted_ns = call->ticket.admitted_ns ? call->ticket.admitted_ns : call->t0_ns;
    call->turn.key = call->cni.container_id;
    call->turn.go = on_turn;
    if (!*call->turn.key || turns_take(call->agent->turns, &call->turn)) {
        submit(call);
    }
}

/* ---- at the gate ---- */

static void wait_at_gate(struct call *call)
{
    struct call **first = &call->agent->waiting_calls;

    call->next = *first;
    call->where = first;
    if (*first) {
        (*first)->where = &call->next;
    }
    *first = call;
    call->agent->n_waiting_calls++;
}

/* What is begun is finished: whoever asked for an ADD and went will ask for DEL. */
static void leave_gate(struct call *call)
{
    call->request->gone = NULL;
    if (call->where) {
        *call->where = call->next;
        if (call->next) {
            call->next->where = call->where;
        }
        call->where = NULL;
        call->agent->n_waiting_calls--;
    }
}

/* Ends a call of which nothing was begun, without a word that the plugin would print. */
static void refuse_unbegun(struct call *call)
{
    leave_gate(call);
    gate_release(call->agent->gates, &call->ticket, clock_ns());
    rpc_refuse(call->request, ESHUTDOWN, "the agent is ending", NULL, 0);
    call_free(call);
}

void agent_calls_refuse_waiting(struct agent *agent)
{
    while (agent->waiting_calls) {
        refuse_unbegun(agent->waiting_calls);
    }
}

static void on_admitted(struct gate_ticket *ticket, int rc)
{
    struct call *call = (struct call *)((char *)ticket - offsetof(struct call, ticket));
    struct error err = {0};

    leave_gate(call);
    if (rc == 0) {
        begin(call);
        return;
    }
    error_code(&err, CNI_TRY_AGAIN_LATER, rc, "gate cni: waited %d s for a permit (limit %u)",
               (int)((call->deadline_ns - call->t0_ns) / NSEC_PER_SEC),
               gate_limit(call->agent->gates, ticket->stage));
    cni_call_fail(&call->cni_call, &err);
    answer(call);
}

/* Whoever asked went while the call waited at the gate: nothing was begun. */
static void on_gone(struct rpc_request *request)
{
    struct call *call = request->data;

    agent_gates_changed(call->agent);
    refuse_unbegun(call);
}

/* Only ADD takes the gate: removals gain from being many at once. */
static void pass_gate(struct call *call)
{
    struct error err = {0};
    int rc;

    call->ticket.done = on_admitted;
    rc = gate_acquire(call->agent->gates, span_stage_index("cni"),
                      call->cni_call.conf.attachment.conf.tenant, call->t0_ns, call->deadline_ns,
                      &call->ticket);
    if (rc == 1) {
        begin(call);
    } else if (rc == 0) {
        wait_at_gate(call);
        call->request->data = call;
        call->request->gone = on_gone;
        agent_gates_changed(call->agent);
    } else {
        error_code(&err, CNI_TRY_AGAIN_LATER, rc, "gate cni: too many wait already");
        cni_call_fail(&call->cni_call, &err);
        answer(call);
    }
}

static void cni_run_method(struct agent *agent, struct rpc_request *request)
{
    struct call *call = calloc(1, sizeof(*call));
    struct error err = {0};

    if (!call || agent->stopping) {
        free(call);
        rpc_refuse(request, ESHUTDOWN, "the agent is ending", NULL, 0);
        return;
    }
    call->agent = agent;
    call->request = request;
    call->job.run = run;
    call->job.done = done;
    call->t0_ns = clock_ns();
    call->cni_call.conf.attachment.netns_fd = call->cni_call.conf.attachment.record_fd = -1;
    if (read_request(call, &err) < 0) {
        agent_refuse(request, &err);
        call_free(call);
        return;
    }
    cni_call_begin(&call->cni_call, &call->cni);
    if (!call->cni_call.answered &&
        strcmp(call->cni_call.conf.instance, agent->options->instance) != 0) {
        rpc_refuse(request, EXDEV, "another instance's", NULL, 0);
        call_free(call);
        return;
    }
    call->counted = true;
    agent_calls_changed(agent, 1);
    if (!call->cni_call.answered && strcmp(call->cni_call.verb->name, "DEL") != 0) {
        agent_pools_learn(agent, &call->cni_call.conf);
    }
    if (call->cni_call.answered) {
        answer(call);
    } else if (!strcmp(call->cni_call.verb->name, "ADD")) {
        pass_gate(call);
    } else {
        begin(call);
    }
}

const struct agent_method agent_cni_methods[] = {{"cni.run", cni_run_method}, {0}};
