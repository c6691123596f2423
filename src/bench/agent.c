/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of a bench: the instance's own, or one started for the bench; and the gates that bench
 * passes itself, as the runtime that it stands for would.
 */
#include "bench/bench-internal.h"
#include "netlink/netlink.h"
#include "rpc/call.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_S 20
#define CALL_S  10
#define POOL_S  120

static int64_t in_seconds(int seconds)
{
    return clock_ns() + seconds * NSEC_PER_SEC;
}

/* ---- start and stop ---- */

static int find_agent(const char *instance, pid_t *ret_pid, struct error *err)
{
    autojson json_t *status = NULL;
    int rc = rpc_ask_once(instance, "agent.status", NULL, in_seconds(CALL_S), &status, err);

    if (rc == 0) {
        *ret_pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
    }
    return rc;
}

static void stop(pid_t pid)
{
    kill(pid, SIGTERM);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

static int start(const struct bench_options *options, pid_t *ret_pid, struct error *err)
{
    const char *const argv[] = {options->agent, "--with-parent", "--instance", options->instance,
                                NULL};
    int64_t deadline_ns = in_seconds(START_S);
    pid_t pid, serving;
    int rc;

    /* Its log is quiet unless the user asks for another level. */
    setenv("SLUICE_LOG", "warn", 0);
    rc = proc_start(argv, NULL, -1, &pid);
    if (rc < 0) {
        return error_sys(err, rc, "start %s", argv[0]);
    }
    while ((rc = find_agent(options->instance, &serving, err)) == -ECONNREFUSED &&
           clock_left_ms(deadline_ns) > 0) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            return error_set(err, -EIO, "the agent %s did not start; its reason is above", argv[0]);
        }
        clock_sleep_ns(5 * NSEC_PER_MSEC);
    }
    if (rc < 0) {
        stop(pid);
        return rc;
    }
    *ret_pid = pid;
    return 0;
}

int bench_agent_ready(const struct bench_options *options, struct bench_agent *ret,
                      struct error *err)
{
    int rc = find_agent(options->instance, &ret->pid, err);

    if (rc != -ECONNREFUSED) {
        return rc;
    }
    rc = start(options, &ret->pid, err);
    ret->started = rc == 0;
    return rc;
}

void bench_agent_end(struct bench_agent *agent)
{
    if (agent->started) {
        stop(agent->pid);
    }
    agent->pid = 0;
}

/* ---- gates ---- */

/* Reads the limits and, into queues (NULL: not wanted), a JSON object of who holds and waits. */
void bench_gates_read(struct bench_run *run, char *queues, size_t size)
{
    autojson json_t *result = NULL;
    size_t used = 0, i;
    json_t *gate;

    if (!run->agent_pid || rpc_ask_once(run->options->instance, "gate.show", NULL,
                                        in_seconds(CALL_S), &result, NULL) < 0) {
        return;
    }
    json_array_foreach (json_object_get(result, "gates"), i, gate) {
        const char *stage = json_string_value(json_object_get(gate, "stage"));
        json_int_t limit = json_integer_value(json_object_get(gate, "limit"));

        if (i < ARRAY_SIZE(run->limits)) {
            atomic_store(&run->limits[i], (int)limit);
        }
        if (queues && stage && used < size) {
            used += (size_t)snprintf(queues + used, size - used,
                                     "%s\"%s\":{\"limit\":%lld,\"held\":%lld,\"waiting\":%lld}",
                                     used ? "," : "", stage, (long long)limit,
                                     json_integer_value(json_object_get(gate, "held")),
                                     json_integer_value(json_object_get(gate, "waiting")));
        }
    }
}

/* The permit goes with its connection, so that a bench that is killed gives all of them back. */
int bench_gate_enter(struct bench_pod *pod, const char *stage, struct bench_permit *ret,
                     struct error *err)
{
    size_t index = span_stage_index(stage);
    autojson json_t *result = NULL;
    autoclose int fd = -1;
    char tenant[32];
    int rc;

    *ret = (struct bench_permit){.fd = -1};
    if (index >= ARRAY_SIZE(pod->run->limits) || !atomic_load(&pod->run->limits[index])) {
        return 0;
    }
    snprintf(tenant, sizeof(tenant), "bench%d", pod->tenant);
    rc = rpc_open(pod->run->options->instance, in_seconds(CALL_S), &fd, err);
    if (rc == 0) {
        rc = rpc_ask(fd, "gate.acquire", json_pack("{s:s, s:s}", "stage", stage, "tenant", tenant),
                     INT64_MAX, &result, NULL, NULL, err);
    }
    if (rc == 0) {
        ret->fd = take_fd(&fd);
        ret->waited_ns = json_integer_value(json_object_get(result, "waited_ns"));
    }
    return rc;
}

void bench_gate_leave(struct bench_permit *permit)
{
    cleanup_fd(&permit->fd);
    permit->fd = -1;
}

/* ---- pools ---- */

/* The first plugin of a tenant's list, as the agent wants it. A new object. */
static json_t *tenant_conf(const struct bench_run *run, int tenant)
{
    const json_t *list = run->confs[tenant];
    json_t *conf = json_copy(json_array_get(json_object_get(list, "plugins"), 0));

    json_object_set(conf, "name", json_object_get(list, "name"));
    json_object_set(conf, "cniVersion", json_object_get(list, "cniVersion"));
    return conf;
}

static const char *network_of(const struct bench_run *run, int tenant)
{
    return json_string_value(json_object_get(run->confs[tenant], "name"));
}

/* Whether every pool of the run has its target free (or, drained, has nothing at all). */
static int pools_are(struct bench_run *run, bool full, bool *ret, struct error *err)
{
    autojson json_t *answer = NULL;
    json_t *pool;
    size_t i;
    int rc =
        rpc_ask_once(run->options->instance, "pool.show", NULL, in_seconds(CALL_S), &answer, err);

    *ret = true;
    json_array_foreach (json_object_get(answer, "pools"), i, pool) {
        json_int_t free_parts = json_integer_value(json_object_get(pool, "free"));
        json_int_t target =
            json_integer_value(json_object_get(json_object_get(pool, "limits"), "target"));
        json_int_t others = json_integer_value(json_object_get(pool, "cooling")) +
                            json_integer_value(json_object_get(pool, "making")) +
                            json_integer_value(json_object_get(pool, "taken"));
        bool draining = json_is_true(json_object_get(pool, "draining"));

        if (full && !draining) {
            *ret = *ret && free_parts >= target;
        } else if (!full) {
            *ret = *ret && free_parts + others == 0;
        }
    }
    return rc;
}

static int wait_pools(struct bench_run *run, bool full, struct error *err)
{
    int64_t deadline_ns = in_seconds(POOL_S);
    bool are = false;
    int rc;

    while ((rc = pools_are(run, full, &are, err)) == 0 && !are) {
        if (clock_left_ms(deadline_ns) == 0) {
            return error_set(err, -ETIMEDOUT, "the pools were not %s within %d s: sluice pool show",
                             full ? "filled" : "drained", POOL_S);
        }
        clock_sleep_ns(20 * NSEC_PER_MSEC);
    }
    return rc;
}

int bench_pools_fill(struct bench_run *run, struct error *err)
{
    const struct bench_options *options = run->options;
    int parts = options->pool ? options->pool : options->pods;
    int target = (parts + options->tenants - 1) / options->tenants, rc = 0;

    for (int t = 0; rc == 0 && t < options->tenants; t++) {
        json_t *params = json_pack("{s:o, s:{s:i, s:i, s:i}}", "conf", tenant_conf(run, t), "pool",
                                   "target", target, "maximum", target, "rate", 100000);

        rc = rpc_ask_once(options->instance, "pool.set", params, in_seconds(CALL_S), NULL, err);
    }
    return rc < 0 ? rc : wait_pools(run, true, err);
}

void bench_pools_drain(struct bench_run *run)
{
    struct error err = {0};
    int rc = 0;

    for (int t = 0; rc == 0 && t < run->options->tenants; t++) {
        rc = rpc_ask_once(run->options->instance, "pool.drain",
                          json_pack("{s:s}", "network", network_of(run, t)), in_seconds(CALL_S),
                          NULL, &err);
    }
    if (rc == 0) {
        rc = wait_pools(run, false, &err);
    }
    if (rc < 0) {
        bench_problem(run, "the pools: %s", err.text);
    }
}

int bench_pool_take(struct bench_pod *pod, struct error *err)
{
    autoclose int fd = -1;
    int64_t deadline_ns = in_seconds(CALL_S);
    int fds[RPC_FDS_MAX];
    size_t n_fds = 0;
    int rc = rpc_open(pod->run->options->instance, deadline_ns, &fd, err);

    if (rc == 0) {
        rc = rpc_ask(fd, "pool.take",
                     json_pack("{s:s, s:s, s:s}", "network", network_of(pod->run, pod->tenant),
                               "container_id", pod->container_id, "netns", pod->netns_path),
                     deadline_ns, NULL, fds, &n_fds, err);
    }
    if (rc == 0) {
        rc = n_fds == 1 ? netns_bind(fds[0], pod->netns_path, err)
                        : error_set(err, -EBADMSG, "the agent passed no namespace");
    }
    for (size_t i = 0; i < n_fds; i++) {
        close(fds[i]);
    }
    return rc;
}
