/* SPDX-License-Identifier: Apache-2.0 */
/* One run: prepare, warm up, start the pods, take them away, look for leaks, write it down. */
#include "bench/bench-internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void bench_problem(struct bench_run *run, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    json_array_append_new(run->problems, json_string(text));
}

static int make_uuid(char uuid[37])
{
    autofree char *text = NULL;
    int rc = file_read("/proc/sys/kernel/random/uuid", 64, &text, NULL);

    if (rc == 0) {
        memcpy(uuid, text, 36);
        uuid[36] = '\0';
    }
    return rc;
}

/* Pods of this run, or, with a letter of their own in the name, of its warm-up. */
static int make_pods(struct bench_run *run, int n, const char *letter, struct error *err)
{
    free(run->pods);
    run->n_pods = n;
    run->pods = calloc((size_t)n, sizeof(*run->pods));
    if (!run->pods) {
        return error_sys(err, -ENOMEM, "pods");
    }
    for (int i = 0; i < n; i++) {
        struct bench_pod *pod = &run->pods[i];

        pod->run = run;
        pod->index = i;
        pod->tenant = i % run->options->tenants;
        snprintf(pod->container_id, sizeof(pod->container_id), "b%s-%s%04d", run->id, letter, i);
        if (snprintf(pod->netns_path, sizeof(pod->netns_path), "%s/%s%04d", run->work, letter, i) >=
            (int)sizeof(pod->netns_path)) {
            return error_set(err, -ENAMETOOLONG, "instance: the path %s is too long", run->work);
        }
    }
    return 0;
}

static void clear_results(struct bench_run *run)
{
    for (int i = 0; i < run->n_pods; i++) {
        json_decref(run->pods[i].result);
        run->pods[i].result = NULL;
    }
}

/* How many failed, and the first few in their own words. */
static int note_failures(struct bench_run *run, const char *what)
{
    int failed = 0, shown = 0;

    for (int i = 0; i < run->n_pods; i++) {
        failed += run->pods[i].failed;
    }
    if (failed) {
        bench_problem(run, "%d of %d %s failed", failed, run->n_pods, what);
    }
    for (int i = 0; i < run->n_pods && shown < BENCH_ERRORS_SHOWN; i++) {
        const struct bench_pod *pod = &run->pods[i];

        if (pod->failed) {
            bench_problem(run, "%s", pod->error.text);
            shown++;
        }
    }
    return failed;
}

static int start_concurrency(const struct bench_run *run)
{
    return run->variant->driver->serial_start ? 1 : run->options->arrival.concurrency;
}

/* The time the last of these pods was ready (or gone): from the clock, as nobody waits after it. */
static int phase(struct bench_run *run, const char *label, int concurrency,
                 void (*step)(struct bench_pod *, int64_t), bool stop_on_interrupt,
                 struct bench_phase *ret, struct error *err)
{
    struct bench_sampler *sampler = NULL;
    struct bench_cpu before, after;
    int rc;

    bench_settle();
    bench_gates_read(run, NULL, 0);
    rc = bench_sampler_start(run, label, &sampler, err);

    if (rc < 0) {
        return rc;
    }
    bench_cpu_read(run, &before);
    rc = bench_for_pods(run, concurrency, step, stop_on_interrupt, &ret->t0_ns, err);
    bench_cpu_read(run, &after);
    ret->cpu = bench_cpu_minus(after, before);
    bench_sampler_stop(sampler);
    return rc;
}

/* Removal is tried whatever happened to the start, and is never interrupted. */
static int start_and_stop(struct bench_run *run, struct error *err)
{
    int concurrency = start_concurrency(run);
    int rc = 0, stop_rc;
    struct error later;

    if (run->options->netns_ready) {
        rc = bench_for_pods(run, 2, bench_pod_make_netns, true, NULL, err);
    }
    if (rc == 0) {
        rc = phase(run, "starting", concurrency, bench_pod_start, true, &run->start, err);
    }
    run->n_failed = note_failures(run, "starts");
    for (int i = 0; i < run->n_pods; i++) {
        run->pods[i].failed = false;
    }
    stop_rc = phase(run, "removing", run->variant->driver->serial_start ? 0 : concurrency,
                    bench_pod_stop, false, &run->teardown, rc < 0 ? &later : err);
    if (run->options->netns_ready) {
        bench_for_pods(run, 2, bench_pod_drop_netns, false, NULL, &later);
    }
    note_failures(run, "removals");
    clear_results(run);
    return rc < 0 ? rc : stop_rc;
}

/* A pod a tenant, unmeasured: page cache, tenants' ports, OVS's first flow of work. */
static int warm_up(struct bench_run *run, struct error *err)
{
    int spans_fd = run->spans_fd, rc;
    char spans_path[sizeof(run->spans_path)];
    int n = run->options->warmup * run->options->tenants;

    if (!n) {
        return 0;
    }
    memcpy(spans_path, run->spans_path, sizeof(spans_path));
    snprintf(run->spans_path, sizeof(run->spans_path), "%s/warmup.jsonl", run->dir);
    run->spans_fd = -1; /* the plugins' own alone */
    rc = make_pods(run, n, "w", err);
    if (rc == 0) {
        rc = start_and_stop(run, err);
    }
    if (rc == 0 && run->variant->driver->tenant_ports &&
        run->variant->driver->tenant_ports(run->variant->what)) {
        run->tenant_ports_s = bench_tenant_ports(run->spans_path);
    }
    unlink(run->spans_path);
    run->spans_fd = spans_fd;
    memcpy(run->spans_path, spans_path, sizeof(spans_path));
    if (rc == 0 && json_array_size(run->problems)) {
        rc = error_set(
            err, -EREMOTEIO, "warm-up of %s: %s", run->variant->name,
            json_string_value(json_array_get(run->problems, json_array_size(run->problems) - 1)));
    }
    return rc;
}

/* The inventory comes after the warm-up: what plugins make once and keep (a bridge) is no leak. */
static int run_pods(struct bench_run *run, struct bench_inventory **ret_before, struct error *err)
{
    autofree char *samples = str_printf("%s/samples.jsonl", run->dir);
    int rc = warm_up(run, err);

    if (rc == 0) {
        rc = bench_inventory_take(ret_before, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (samples) {
        unlink(samples); /* the warm-up's */
    }
    if (run->variant->driver->pooled && (rc = bench_pools_fill(run, err)) < 0) {
        return rc;
    }
    rc = make_pods(run, run->options->pods, "", err);
    return rc < 0 ? rc : start_and_stop(run, err);
}

static int open_run(struct bench_run *run, struct error *err)
{
    int rc = make_uuid(run->uuid);

    if (rc < 0) {
        return error_sys(err, rc, "make a uuid");
    }
    memcpy(run->id, run->uuid, 8);
    snprintf(run->work, sizeof(run->work), "%s/bench/%s", run->options->instance, run->id);
    snprintf(run->spans_path, sizeof(run->spans_path), "%s/spans.jsonl", run->dir);
    if ((rc = dir_make(run->dir, 0755)) < 0 || (rc = dir_make(run->work, 0700)) < 0) {
        return error_sys(err, rc, "create %s and %s", run->dir, run->work);
    }
    rc = span_open(run->spans_path, &run->spans_fd);
    return rc < 0 ? error_sys(err, rc, "create %s", run->spans_path) : 0;
}

static void find_ovs(struct bench_run *run)
{
    struct ovs_private_status status;

    if (!run->options->ovs_socket &&
        ovs_private_status(run->options->instance, &status, NULL) == 0) {
        str_copy(run->ovs_version, sizeof(run->ovs_version), status.version);
        run->vswitchd_pid = status.vswitchd_pid;
        run->ovsdb_pid = status.ovsdb_pid;
    }
}

/*
 * Nothing of ours may be there that was not before (NULL: the run did not come that far); the work
 * folder must be empty to go.
 */
static bool nothing_left(struct bench_run *run, const struct bench_inventory *before)
{
    size_t problems = json_array_size(run->problems);
    int cgroups = bench_sandbox_left(run);
    struct error err = {0};

    if (run->variant->driver->leaks && run->variant->driver->leaks(run, &err) < 0) {
        bench_problem(run, "leaks can't be looked for: %s", err.text);
    }
    if (before) {
        bench_inventory_compare(before, run);
    }
    if (rmdir(run->work) < 0) {
        bench_problem(run, "namespaces are left in %s", run->work);
    }
    if (cgroups) {
        bench_problem(run, "%d cgroups are left", cgroups);
    }
    return json_array_size(run->problems) == problems;
}

int bench_run_one(const struct bench_options *options, const struct bench_variant *variant,
                  const struct bench_agent *agent, const char *dir, struct bench_outcome *ret,
                  struct error *err)
{
    struct bench_run run = {.options = options,
                            .variant = variant,
                            .agent_pid = agent->pid,
                            .spans_fd = -1,
                            .tenant_ports_s = NAN};
    struct bench_inventory *before = NULL;
    int rc;

    *ret = (struct bench_outcome){.clean = true};
    run.problems = json_array();
    str_copy(run.dir, sizeof(run.dir), dir);
    rc = open_run(&run, err);
    if (rc == 0) {
        find_ovs(&run);
        rc = variant->driver->prepare(&run, err);
        if (rc == 0) {
            rc = run_pods(&run, &before, err);
            if (variant->driver->pooled) {
                bench_pools_drain(&run);
            }
            ret->clean = nothing_left(&run, before);
        }
        variant->driver->finish(&run);
        rmdir(run.work);
    }
    if (atomic_load(&bench_interrupted)) {
        bench_problem(&run, "interrupted");
    }
    if (rc == 0) {
        rc = bench_summarise(&run, err);
    }
    ret->valid = rc == 0 && json_array_size(run.problems) == 0;
    bench_inventory_free(before);
    cleanup_fd(&run.spans_fd);
    json_decref(run.problems);
    free(run.pods);
    return rc;
}
