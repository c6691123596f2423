/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two groups of runs, metric by metric: medians, and their ratio with a bootstrap interval. What
 * `sluice compare` prints.
 */
#include "report/report.h"
#include "report/report-internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEED 1 /* any one: the same results always give the same interval */

/* The valid runs of a variant. */
struct group {
    const struct result_run **runs;
    size_t n;
};

/* One metric as it is picked out of a run: a fixed one, or one of a stage or component by name. */
struct metric {
    const char *phase;
    enum { MAKESPAN, PODS_PER_S, STAGE, CPU_TOTAL, CPU_PART } what;
    const char *name; /* of the stage or component */
    enum { P50, P90, P99 } percentile;
};

static const char *const percentile_names[] = {"p50_s", "p90_s", "p99_s"};

static const struct result_phase *phase_of(const struct result_run *run, const char *phase)
{
    return strcmp(phase, "start") ? &run->teardown : &run->start;
}

static double stage_value(const struct result_phase *phase, const struct metric *metric)
{
    for (size_t i = 0; i < phase->n_stages; i++) {
        const struct result_stage *stage = &phase->stages[i];

        if (!strcmp(stage->name, metric->name)) {
            return metric->percentile == P50   ? stage->p50_s
                   : metric->percentile == P90 ? stage->p90_s
                                               : stage->p99_s;
        }
    }
    return NAN;
}

static double cpu_value(const struct result_phase *phase, const char *name)
{
    for (size_t i = 0; i < phase->n_cpu; i++) {
        if (!strcmp(phase->cpu[i].name, name)) {
            return phase->cpu[i].seconds;
        }
    }
    return NAN;
}

/* NaN where the run has no such thing. */
static double value_of(const struct result_run *run, const struct metric *metric)
{
    const struct result_phase *phase = phase_of(run, metric->phase);

    if (!phase->present) {
        return NAN;
    }
    switch (metric->what) {
    case MAKESPAN:
        return phase->makespan_s;
    case PODS_PER_S:
        return phase->pods_per_s;
    case STAGE:
        return stage_value(phase, metric);
    case CPU_TOTAL:
        return phase->cpu_total_s;
    case CPU_PART:
        return cpu_value(phase, metric->name);
    }
    return NAN;
}

/* The values of the runs that have one; room is for all of them. */
static size_t values_of(const struct group *group, const struct metric *metric, double *room)
{
    size_t n = 0;

    for (size_t i = 0; i < group->n; i++) {
        double value = value_of(group->runs[i], metric);

        if (!isnan(value)) {
            room[n++] = value;
        }
    }
    return n;
}

static enum comparison_word judge(const struct comparison_metric *row, bool more_is_better)
{
    const struct stats_interval *ratio = &row->ratio;

    if (row->n_a < COMPARISON_RUNS_MIN || row->n_b < COMPARISON_RUNS_MIN) {
        return COMPARISON_TOO_FEW;
    }
    if (row->a == 0 && row->b == 0) {
        return COMPARISON_UNCLEAR; /* nothing on either side, and no ratio to say so */
    }
    if (isnan(ratio->low) || isnan(ratio->high)) {
        return COMPARISON_NO_INTERVAL;
    }
    if (ratio->low <= 1 && ratio->high >= 1) {
        return COMPARISON_UNCLEAR;
    }
    return (ratio->low > 1) != more_is_better ? COMPARISON_BETTER : COMPARISON_WORSE;
}

static void name_metric(const struct metric *metric, struct comparison_metric *out)
{
    out->phase = metric->phase;
    out->unit = metric->what == PODS_PER_S ? "pods/s" : "s";
    out->cpu = metric->what == CPU_TOTAL || metric->what == CPU_PART;
    switch (metric->what) {
    case MAKESPAN:
        snprintf(out->name, sizeof(out->name), "makespan_s");
        break;
    case PODS_PER_S:
        snprintf(out->name, sizeof(out->name), "pods_per_s");
        break;
    case STAGE:
        snprintf(out->name, sizeof(out->name), "stages.%s.%s", metric->name,
                 percentile_names[metric->percentile]);
        break;
    case CPU_TOTAL:
        snprintf(out->name, sizeof(out->name), "cpu_s.total");
        break;
    case CPU_PART:
        snprintf(out->name, sizeof(out->name), "cpu_s.%s", metric->name);
        break;
    }
}

struct builder {
    struct group a, b;
    double *room_a, *room_b;
    struct comparison *out;
    size_t size;
    const char **names; /* of stages or components, gathered from both sides */
    size_t n_names;
};

/* Adds the metric, unless no run has it. */
static int add(struct builder *builder, struct metric metric, struct error *err)
{
    struct comparison *out = builder->out;
    size_t na = values_of(&builder->a, &metric, builder->room_a);
    size_t nb = values_of(&builder->b, &metric, builder->room_b);
    struct comparison_metric *row;

    if (na + nb == 0) {
        return 0;
    }
    if (out->n == builder->size) {
        size_t size = builder->size ? builder->size * 2 : 64;

        row = reallocarray(out->metrics, size, sizeof(*out->metrics));
        if (!row) {
            return error_sys(err, -ENOMEM, "compare");
        }
        out->metrics = row;
        builder->size = size;
    }
    row = &out->metrics[out->n++];
    *row = (struct comparison_metric){.n_a = na, .n_b = nb};
    name_metric(&metric, row);
    row->a = stats_median(builder->room_a, na);
    row->b = stats_median(builder->room_b, nb);
    row->ratio = (struct stats_interval){NAN, row->a / row->b, NAN};
    if (na >= 2 && nb >= 2) {
        row->ratio =
            stats_ratio(builder->room_a, na, builder->room_b, nb, COMPARISON_CONFIDENCE, SEED);
    }
    row->word = judge(row, metric.what == PODS_PER_S);
    return 0;
}

static void gather_name(struct builder *builder, const char *name)
{
    for (size_t i = 0; i < builder->n_names; i++) {
        if (!strcmp(builder->names[i], name)) {
            return;
        }
    }
    builder->names[builder->n_names++] = name;
}

static void gather(struct builder *builder, const struct group *group, const char *phase,
                   bool stages)
{
    for (size_t i = 0; i < group->n; i++) {
        const struct result_phase *from = phase_of(group->runs[i], phase);

        for (size_t k = 0; stages && k < from->n_stages; k++) {
            gather_name(builder, from->stages[k].name);
        }
        for (size_t k = 0; !stages && k < from->n_cpu; k++) {
            gather_name(builder, from->cpu[k].name);
        }
    }
}

static int by_stage(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;

    return span_stage_compare(x, y);
}

static int add_phase(struct builder *builder, const char *phase, struct error *err)
{
    int rc = add(builder, (struct metric){.phase = phase, .what = MAKESPAN}, err);

    rc = rc < 0 ? rc : add(builder, (struct metric){.phase = phase, .what = PODS_PER_S}, err);
    builder->n_names = 0;
    gather(builder, &builder->a, phase, true);
    gather(builder, &builder->b, phase, true);
    qsort(builder->names, builder->n_names, sizeof(*builder->names), by_stage);
    for (size_t i = 0; i < builder->n_names; i++) {
        for (int p = P50; p <= P99 && rc == 0; p++) {
            struct metric metric = {.phase = phase, .what = STAGE, .name = builder->names[i]};

            metric.percentile = (unsigned)p;
            rc = add(builder, metric, err);
        }
    }
    rc = rc < 0 ? rc : add(builder, (struct metric){.phase = phase, .what = CPU_TOTAL}, err);
    builder->n_names = 0;
    gather(builder, &builder->a, phase, false);
    gather(builder, &builder->b, phase, false);
    for (size_t i = 0; i < builder->n_names && rc == 0; i++) {
        struct metric metric = {.phase = phase, .what = CPU_PART, .name = builder->names[i]};

        rc = add(builder, metric, err);
    }
    return rc;
}

/* ---- what else differs ---- */

static int group_make(const struct result *result, size_t variant, struct group *group)
{
    *group = (struct group){.runs = calloc(result->n_runs + 1, sizeof(*group->runs))};
    for (size_t i = 0; group->runs && i < result->n_runs; i++) {
        if (result->runs[i].variant == variant && result->runs[i].valid) {
            group->runs[group->n++] = &result->runs[i];
        }
    }
    return group->runs ? 0 : -ENOMEM;
}

/* " KEY A / B" for a key whose values differ; a missing one is "-". */
static void tell_difference(FILE *file, const char *key, const json_t *a, const json_t *b)
{
    const json_t *sides[] = {a, b};

    if (json_equal(a, b) || (!a && !b)) {
        return;
    }
    fprintf(file, "%s%s ", ftell(file) > 0 ? ", " : "", key);
    for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
        autofree char *text =
            sides[i] ? json_dumps(sides[i], JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

        fprintf(file, "%s%s", i ? " / " : "", text ? text : "-");
    }
}

/* Options, host, kernel and versions of the sides' first runs, so that nobody takes the work of
 * one difference for that of another. */
static char *find_differences(const struct result_run *a, const struct result_run *b)
{
    static const char *const objects[] = {"options", "host", "versions"};
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);

    if (!file) {
        return NULL;
    }
    tell_difference(file, "kernel", json_object_get(a->document, "kernel"),
                    json_object_get(b->document, "kernel"));
    tell_difference(file, "gate limits", json_object_get(a->document, "limits"),
                    json_object_get(b->document, "limits"));
    for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
        const json_t *x = json_object_get(a->document, objects[i]);
        const json_t *y = json_object_get(b->document, objects[i]);
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *)x, key, value) {
            tell_difference(file, key, value, json_object_get(y, key));
        }
        json_object_foreach ((json_t *)y, key, value) {
            if (!json_object_get(x, key)) {
                tell_difference(file, key, NULL, value);
            }
        }
    }
    if (fclose(file) != 0 || len == 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- the whole ---- */

static size_t count_names(const struct group *group)
{
    size_t n = 0;

    for (size_t i = 0; i < group->n; i++) {
        const struct result_run *run = group->runs[i];

        n += run->start.n_stages + run->start.n_cpu + run->teardown.n_stages + run->teardown.n_cpu;
    }
    return n;
}

static int build(struct builder *builder, struct error *err)
{
    int rc;

    builder->room_a = calloc(builder->a.n, sizeof(double));
    builder->room_b = calloc(builder->b.n, sizeof(double));
    builder->names =
        calloc(count_names(&builder->a) + count_names(&builder->b) + 1, sizeof(*builder->names));
    if (!builder->room_a || !builder->room_b || !builder->names) {
        rc = error_sys(err, -ENOMEM, "compare");
    } else {
        rc = add_phase(builder, "start", err);
        rc = rc < 0 ? rc : add_phase(builder, "teardown", err);
    }
    free(builder->room_a);
    free(builder->room_b);
    free(builder->names);
    return rc;
}

static int check_side(const struct result *result, size_t variant, const struct group *group,
                      struct error *err)
{
    if (group->n > 0) {
        return 0;
    }
    return error_set(err, -ENODATA, "%s has no valid run of %s", result->dir,
                     result->variants[variant]);
}

int comparison_make(const struct result *a, size_t va, const struct result *b, size_t vb,
                    struct comparison *ret, struct error *err)
{
    struct comparison comparison = {0};
    struct builder builder = {.out = &comparison};
    int rc = group_make(a, va, &builder.a);

    rc = rc < 0 ? rc : group_make(b, vb, &builder.b);
    if (rc < 0) {
        error_sys(err, rc, "compare");
    }
    rc = rc < 0 ? rc : check_side(a, va, &builder.a, err);
    rc = rc < 0 ? rc : check_side(b, vb, &builder.b, err);
    if (rc == 0) {
        comparison.a_valid = builder.a.n;
        comparison.b_valid = builder.b.n;
        comparison.a_invalid = result_count_runs(a, va, false);
        comparison.b_invalid = result_count_runs(b, vb, false);
        comparison.differences = find_differences(builder.a.runs[0], builder.b.runs[0]);
        rc = build(&builder, err);
    }
    free(builder.a.runs);
    free(builder.b.runs);
    if (rc < 0) {
        comparison_clear(&comparison);
        return rc;
    }
    *ret = comparison;
    return 0;
}

void comparison_clear(struct comparison *comparison)
{
    free(comparison->metrics);
    free(comparison->differences);
    *comparison = (struct comparison){0};
}

const char *comparison_word_text(const struct comparison_metric *metric)
{
    if (metric->n_a == 0 || metric->n_b == 0) {
        return metric->n_a ? "only in A" : "only in B";
    }
    switch (metric->word) {
    case COMPARISON_TOO_FEW:
        return "too few runs";
    case COMPARISON_NO_INTERVAL:
        return "no interval";
    case COMPARISON_UNCLEAR:
        return "no clear difference";
    case COMPARISON_BETTER:
        return metric->cpu ? "less" : "faster";
    case COMPARISON_WORSE:
        return metric->cpu ? "more" : "slower";
    }
    return "?";
}
