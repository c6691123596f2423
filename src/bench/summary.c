/* SPDX-License-Identifier: Apache-2.0 */
/* A run's spans and counters made into run.json, summary.json and a table. */
#include "bench/bench-internal.h"
#include "stats/stats.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#define STAGES_MAX 64

struct stage {
    const char *name;
    double *seconds, *waits; /* sorted; of the seconds, those at the gate */
    size_t n;
};

struct stages {
    struct stage stages[STAGES_MAX];
    size_t n;
};

/* What is told of a phase; the numbers are NaN when no pod came through it. */
struct phase {
    const struct bench_run *run;
    const struct bench_cpu *cpu;
    int n_pods; /* that came through */
    double makespan_s, pods_per_s;
    struct stages stages;
};

static struct stage *find_stage(struct stages *stages, const char *name, size_t capacity)
{
    struct stage *stage;

    for (size_t i = 0; i < stages->n; i++) {
        if (!strcmp(stages->stages[i].name, name)) {
            return &stages->stages[i];
        }
    }
    if (stages->n == STAGES_MAX) {
        return NULL;
    }
    stage = &stages->stages[stages->n];
    stage->seconds = calloc(2 * capacity, sizeof(*stage->seconds));
    if (!stage->seconds) {
        return NULL;
    }
    stage->waits = stage->seconds + capacity;
    stage->name = name;
    stages->n++;
    return stage;
}

static bool is_teardown(const char *stage)
{
    return !strcmp(stage, "del") || str_has_prefix(stage, "del.");
}

static int compare_stages(const void *a, const void *b)
{
    const struct stage *x = a, *y = b;

    return span_stage_compare(x->name, y->name);
}

static void collect(struct stages *stages, const struct span_list *spans, bool teardown)
{
    for (size_t i = 0; i < spans->n; i++) {
        const struct span *span = &spans->spans[i];
        struct stage *stage;

        if (is_teardown(span->stage) == teardown && span->ok &&
            (stage = find_stage(stages, span->stage, spans->n))) {
            stage->seconds[stage->n] = (double)(span->t1_ns - span->t0_ns) / NSEC_PER_SEC;
            stage->waits[stage->n++] = (double)span->wait_ns / NSEC_PER_SEC;
        }
    }
    for (size_t i = 0; i < stages->n; i++) {
        stats_sort(stages->stages[i].seconds, stages->stages[i].n);
        stats_sort(stages->stages[i].waits, stages->stages[i].n);
    }
    qsort(stages->stages, stages->n, sizeof(stages->stages[0]), compare_stages);
}

/* ---- a gate's wait that a step tells ---- */

/* In the order of pods; in one pod, the stage before its step. */
static int by_pod(const void *a, const void *b)
{
    const struct span *x = *(struct span *const *)a, *y = *(struct span *const *)b;
    int order = strcmp(x->pod, y->pod);

    return order ? order : strcmp(x->stage, y->stage);
}

/*
 * Our plugins' ADDs wait at the gate in the agent, which tells it as the step `cni.gate`; others'
 * in bench, in the stage's own span. Adds the step's wait to its pod's stage, so that `cni` has it
 * wherever it was.
 */
static int add_gate_steps(struct span_list *spans)
{
    autofree struct span **sorted = calloc(spans->n + 1, sizeof(*sorted));
    struct span *stage = NULL;
    size_t n = 0;

    if (!sorted) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < spans->n; i++) {
        struct span *span = &spans->spans[i];

        if (!strcmp(span->stage, "cni") || !strcmp(span->stage, "cni.gate")) {
            sorted[n++] = span;
        }
    }
    qsort(sorted, n, sizeof(*sorted), by_pod);
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(sorted[i]->stage, "cni")) {
            stage = sorted[i];
        } else if (stage && !strcmp(stage->pod, sorted[i]->pod)) {
            stage->wait_ns += sorted[i]->wait_ns;
        }
    }
    return 0;
}

/* A phase lasts from its first request to the end of its last pod that made it: the last span of
 * the stage that is the whole. */
static void count_pods(struct phase *phase, int64_t t0_ns, const struct span_list *spans,
                       const char *stage)
{
    int64_t t1_ns = t0_ns;

    for (size_t i = 0; i < spans->n; i++) {
        const struct span *span = &spans->spans[i];

        if (span->ok && !strcmp(span->stage, stage)) {
            phase->n_pods++;
            t1_ns = span->t1_ns > t1_ns ? span->t1_ns : t1_ns;
        }
    }
    phase->makespan_s = phase->n_pods ? (double)(t1_ns - t0_ns) / NSEC_PER_SEC : NAN;
    phase->pods_per_s = phase->makespan_s > 0 ? phase->n_pods / phase->makespan_s : NAN;
}

static void clear(struct phase *phase)
{
    for (size_t i = 0; i < phase->stages.n; i++) {
        free(phase->stages.stages[i].seconds);
    }
}

static json_t *stage_json(const struct stage *stage)
{
    const double *s = stage->seconds, *w = stage->waits;
    size_t n = stage->n;

    return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "n", (int)n, "mean_s",
                     stats_mean(s, n), "p50_s", stats_percentile(s, n, 50), "p90_s",
                     stats_percentile(s, n, 90), "p99_s", stats_percentile(s, n, 99), "max_s",
                     stats_percentile(s, n, 100), "wait_mean_s", stats_mean(w, n), "wait_p50_s",
                     stats_percentile(w, n, 50), "wait_p99_s", stats_percentile(w, n, 99));
}

static json_t *number_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

/* Open vSwitch has no numbers where its processes are not known. */
static json_t *cpu_json(const struct bench_run *run, const struct bench_cpu *cpu)
{
    json_t *object = json_pack("{s:f, s:f}", "bench", cpu->bench, "plugin", cpu->plugin);

    if (run->agent_pid) {
        json_object_set_new(object, "agent", json_real(cpu->agent));
    }
    if (run->vswitchd_pid) {
        json_object_set_new(object, "ovs-vswitchd", json_real(cpu->vswitchd));
        json_object_set_new(object, "ovsdb-server", json_real(cpu->ovsdb));
    }
    json_object_set_new(object, "total", json_real(cpu->total));
    return object;
}

static json_t *phase_json(const struct phase *phase)
{
    const struct stages *stages = &phase->stages;
    json_t *list = json_object();

    for (size_t i = 0; i < stages->n; i++) {
        json_object_set_new(list, stages->stages[i].name, stage_json(&stages->stages[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "makespan_s", number_or_null(phase->makespan_s),
                     "pods_per_s", number_or_null(phase->pods_per_s), "cpu_s",
                     cpu_json(phase->run, phase->cpu), "stages", list);
}

/* ---- the table ---- */

/* At a gate: only stages have one, steps may wait for something else. */
static bool has_waited(const struct stage *stage)
{
    return stage->n && !strchr(stage->name, '.') && stage->waits[stage->n - 1] > 0;
}

static void print_stages(const struct stages *stages)
{
    bool waited = false;

    for (size_t i = 0; i < stages->n; i++) {
        waited = waited || has_waited(&stages->stages[i]);
    }
    printf("  %-16s %6s %9s %9s %9s %9s%s\n", "stage (ms)", "n", "p50", "p90", "p99", "max",
           waited ? " mean wait" : "");
    for (size_t i = 0; i < stages->n; i++) {
        const struct stage *stage = &stages->stages[i];
        const double percents[] = {50, 90, 99, 100};

        printf("  %-16s %6zu", stage->name, stage->n);
        for (size_t p = 0; p < ARRAY_SIZE(percents); p++) {
            printf(" %9.2f", stats_percentile(stage->seconds, stage->n, percents[p]) * 1e3);
        }
        if (has_waited(stage)) {
            printf(" %9.2f", stats_mean(stage->waits, stage->n) * 1e3);
        }
        printf("\n");
    }
}

static void print_phase(const struct phase *phase, const char *verb)
{
    const struct bench_cpu *cpu = phase->cpu;

    printf("  %d", phase->n_pods);
    if (phase->n_pods < phase->run->n_pods) {
        printf(" of %d", phase->run->n_pods);
    }
    printf(" pods %s", verb);
    if (phase->n_pods) {
        printf(" in %.3f s: %.0f pods/s", phase->makespan_s, phase->pods_per_s);
    }
    printf("; host CPU %.2f s; of it plugins %.2f, bench %.2f", cpu->total, cpu->plugin,
           cpu->bench);
    if (phase->run->agent_pid) {
        printf(", agent %.2f", cpu->agent);
    }
    if (phase->run->vswitchd_pid) {
        printf(", ovs-vswitchd %.2f, ovsdb-server %.2f", cpu->vswitchd, cpu->ovsdb);
    }
    printf("\n");
    if (phase->stages.n) {
        print_stages(&phase->stages);
    }
}

static void print_problems(const struct bench_run *run)
{
    json_t *text;
    size_t i;

    json_array_foreach (run->problems, i, text) {
        printf("  NOT A RESULT: %s\n", json_string_value(text));
    }
}

/* ---- files ---- */

static int write_json(const char *dir, const char *file, json_t *json, struct error *err)
{
    autofree char *path = str_printf("%s/%s", dir, file);
    autofree char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    int rc = path && text ? file_write_atomic(path, text, strlen(text), 0644) : -ENOMEM;

    return rc < 0 ? error_sys(err, rc, "write %s/%s", dir, file) : 0;
}

static json_t *options_json(const struct bench_run *run)
{
    const struct bench_options *options = run->options;
    int pool = options->pool ? options->pool : options->pods;

    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:b, s:i, s:b, s:b, s:i}", "driver",
                     run->variant->driver->name, "network", run->variant->what, "pods",
                     options->pods, "tenants", options->tenants, "rules", options->rules,
                     "qos_mbps", options->qos_mbps, "arrival", options->arrival.text, "sandbox",
                     bench_sandbox_names[options->sandbox], "netns_ready", options->netns_ready,
                     "warmup", options->warmup, "agent", run->agent_pid != 0, "ipam",
                     !options->no_ipam, "pool", run->variant->driver->pooled ? pool : 0);
}

/* As they were when the last phase began. */
static json_t *limits_json(struct bench_run *run)
{
    json_t *limits = json_object();

    for (size_t i = 0; i < span_n_stages && i < BENCH_GATES_MAX; i++) {
        json_object_set_new(limits, span_stages[i].name,
                            json_integer(atomic_load(&run->limits[i])));
    }
    return limits;
}

static json_t *run_json(struct bench_run *run)
{
    struct sysinfo memory;
    struct utsname host;

    sysinfo(&memory);
    uname(&host);
    return json_pack("{s:i, s:s, s:s, s:b, s:O, s:o, s:o, s:{s:i, s:I}, s:s, s:{s:s, s:s}}", "v", 1,
                     "uuid", run->uuid, "variant", run->variant->name, "valid",
                     json_array_size(run->problems) == 0, "problems", run->problems, "options",
                     options_json(run), "limits", limits_json(run), "host", "cpus",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "memory_bytes",
                     (json_int_t)memory.totalram * (json_int_t)memory.mem_unit, "kernel",
                     host.release, "versions", "sluice", SLUICE_VERSION, "ovs", run->ovs_version);
}

double bench_tenant_ports(const char *spans_path)
{
    struct span_list spans = {0};
    int64_t t0_ns = INT64_MAX, t1_ns = INT64_MIN;

    if (span_read(spans_path, &spans, NULL) < 0) {
        return NAN;
    }
    for (size_t i = 0; i < spans.n; i++) {
        const struct span *span = &spans.spans[i];

        if (!strcmp(span->stage, "cni.ovs")) {
            t0_ns = span->t0_ns < t0_ns ? span->t0_ns : t0_ns;
            t1_ns = span->t1_ns > t1_ns ? span->t1_ns : t1_ns;
        }
    }
    span_list_clear(&spans);
    return t1_ns > t0_ns ? (double)(t1_ns - t0_ns) / NSEC_PER_SEC : NAN;
}

int bench_summarise(struct bench_run *run, struct error *err)
{
    struct phase start = {.run = run, .cpu = &run->start.cpu};
    struct phase teardown = {.run = run, .cpu = &run->teardown.cpu};
    autojson json_t *summary = NULL, *about = NULL;
    struct span_list spans = {0};
    int rc = span_read(run->spans_path, &spans, err);

    if (rc == 0 && (rc = add_gate_steps(&spans)) < 0) {
        error_sys(err, rc, "summary");
        span_list_clear(&spans);
    }
    if (rc < 0) {
        return rc;
    }
    if (spans.bad_lines) {
        bench_problem(run, "%zu lines of spans.jsonl are not spans", spans.bad_lines);
    }
    count_pods(&start, run->start.t0_ns, &spans, "total");
    count_pods(&teardown, run->teardown.t0_ns, &spans, "del");
    collect(&start.stages, &spans, false);
    collect(&teardown.stages, &spans, true);
    summary = json_pack("{s:i, s:i, s:i, s:o, s:o, s:o}", "v", 1, "pods", run->n_pods, "failed",
                        run->n_failed, "tenant_ports_s", number_or_null(run->tenant_ports_s),
                        "start", phase_json(&start), "teardown", phase_json(&teardown));
    about = run_json(run);
    rc = write_json(run->dir, "run.json", about, err);
    if (rc == 0) {
        rc = write_json(run->dir, "summary.json", summary, err);
    }
    if (run->options->json) {
        json_object_set(about, "summary", summary);
        json_dumpf(about, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        printf("\n");
    } else {
        if (!isnan(run->tenant_ports_s)) {
            printf("  before that, %d tenant%s port%s made in %.3f s\n", run->options->tenants,
                   run->options->tenants == 1 ? "'s" : "s'", run->options->tenants == 1 ? "" : "s",
                   run->tenant_ports_s);
        }
        print_phase(&start, "started");
        print_phase(&teardown, "removed");
        print_problems(run);
    }
    fflush(stdout);
    clear(&start);
    clear(&teardown);
    span_list_clear(&spans);
    return rc;
}
