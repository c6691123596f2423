/* SPDX-License-Identifier: Apache-2.0 */
/* sluice compare: two results side by side, or the variants of one. */
#include "command.h"

#include "report/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define ERR_AMBIGUOUS (-ENOTUNIQ) /* an argument does not say which variant */

static const char help[] =
    "Usage: sluice compare A B [--json]\n"
    "       sluice compare DIR [--json]\n"
    "\n"
    "Puts two results side by side: medians over the valid runs, their ratio A/B with a 95 %\n"
    "bootstrap interval, and what that says of B. A and B are result folders (made by 'sluice\n"
    "bench'), or DIR:VARIANT for one variant of a set. A folder alone: each of its variants (B)\n"
    "against the first (A). Invalid runs are left out and counted.\n"
    "\n"
    "  -j, --json  the same as JSON\n"
    "  -h, --help  this text\n";

/* One side: a variant of a result. The result is borrowed. */
struct side {
    const struct result *result;
    size_t variant;
};

static const char *side_name(const struct side *side)
{
    return side->result->variants[side->variant];
}

/* ---- finding A and B ---- */

/* A folder of its own, even with a colon in its name, or FOLDER:VARIANT (*ret_variant else NULL).
 */
static int load_argument(const char *arg, struct result **ret, char **ret_variant,
                         struct error *err)
{
    autofree char *whole = str_printf("%s/set.json", arg);
    autofree char *dir = strdup(arg);
    char *colon = dir ? strrchr(dir, ':') : NULL;

    if (!whole || !dir) {
        return error_sys(err, -ENOMEM, "%s", arg);
    }
    if (colon && access(whole, F_OK) < 0) {
        *colon = '\0';
        *ret_variant = strdup(colon + 1);
        if (!*ret_variant) {
            return error_sys(err, -ENOMEM, "%s", arg);
        }
    }
    return result_load(dir, ret, err);
}

static int load_side(const char *arg, struct result **ret, struct side *side, struct error *err)
{
    autofree char *variant = NULL;
    char names[512];
    int rc = load_argument(arg, ret, &variant, err);

    if (rc < 0) {
        return rc;
    }
    side->result = *ret;
    side->variant = 0;
    if (variant) {
        return result_find_variant(*ret, variant, &side->variant, err);
    }
    if ((*ret)->n_variants != 1) {
        return error_set(err, ERR_AMBIGUOUS, "%s has %zu variants: name one as %s:VARIANT (%s)",
                         arg, (*ret)->n_variants, arg,
                         result_variant_names(*ret, names, sizeof(names)));
    }
    return 0;
}

/* ---- the table ---- */

static void print_side(const char *letter, const struct side *side, size_t valid, size_t invalid)
{
    printf("%s: %s, %s: %zu valid run%s", letter, side->result->dir, side_name(side), valid,
           valid == 1 ? "" : "s");
    if (invalid) {
        printf("; %zu invalid run%s left out", invalid, invalid == 1 ? "" : "s");
    }
    printf("\n");
}

/* "stages.cni.link.p50_s" as "cni.link p50", "cpu_s.total" as "host CPU". */
static const char *metric_label(const struct comparison_metric *metric, char *buf, size_t size)
{
    if (str_has_prefix(metric->name, "stages.")) {
        const char *name = metric->name + strlen("stages.");
        const char *last = strrchr(name, '.');

        snprintf(buf, size, "%.*s %.3s", (int)(last - name), name, last + 1);
    } else if (!strcmp(metric->name, "cpu_s.total")) {
        snprintf(buf, size, "host CPU");
    } else if (metric->cpu) {
        snprintf(buf, size, "CPU %s", metric->name + strlen("cpu_s."));
    } else {
        snprintf(buf, size, "%s", strcmp(metric->unit, "s") ? "pods/s" : "makespan");
    }
    return buf;
}

static const char *value_text(double value, double scale, const char *unit, char *buf, size_t size)
{
    double shown = value * scale;

    if (isnan(value)) {
        snprintf(buf, size, "-");
    } else {
        snprintf(buf, size, "%.*f %s", shown < 9.995 ? 2 : shown < 99.95 ? 1 : 0, shown, unit);
    }
    return buf;
}

static const char *ratio_text(double ratio, char *buf, size_t size)
{
    if (isfinite(ratio)) {
        snprintf(buf, size, "%.*f", ratio < 9.9995 ? 3 : 1, ratio);
    } else {
        snprintf(buf, size, "-");
    }
    return buf;
}

/* Seconds, milliseconds or microseconds, by the larger side. */
static void print_metric(const struct comparison_metric *metric)
{
    double larger = fmax(metric->a, metric->b); /* the one that is a number, if one is not */
    bool seconds = !strcmp(metric->unit, "s");
    double scale = !seconds || larger >= 1 || larger == 0 ? 1 : larger >= 1e-3 ? 1e3 : 1e6;
    const char *unit = !seconds ? "" : scale == 1 ? "s" : scale == 1e3 ? "ms" : "us";
    char label[128], a[32], b[32], ratio[32], low[32], high[32], interval[72] = "-";

    ratio_text(metric->ratio.low, low, sizeof(low));
    ratio_text(metric->ratio.high, high, sizeof(high));
    if (isfinite(metric->ratio.low) && isfinite(metric->ratio.high)) {
        snprintf(interval, sizeof(interval), "%s - %s", low, high);
    }
    printf("  %-22s %10s %10s %8s  %-15s %2zu/%-2zu  %s\n",
           metric_label(metric, label, sizeof(label)),
           value_text(metric->a, scale, unit, a, sizeof(a)),
           value_text(metric->b, scale, unit, b, sizeof(b)),
           ratio_text(metric->ratio.point, ratio, sizeof(ratio)), interval, metric->n_a,
           metric->n_b, comparison_word_text(metric));
}

static void print_notes(const struct comparison *comparison)
{
    size_t fewest =
        comparison->a_valid < comparison->b_valid ? comparison->a_valid : comparison->b_valid;

    if (fewest < 2) {
        printf("\nA side with fewer than 2 valid runs has no interval: repeat the run.\n");
    } else if (fewest < COMPARISON_RUNS_MIN) {
        printf("\nWith fewer than %d runs a side the intervals come out too narrow to judge by.\n",
               COMPARISON_RUNS_MIN);
    }
}

static void print_table(const struct side *a, const struct side *b,
                        const struct comparison *comparison)
{
    const char *phase = "";

    print_side("A", a, comparison->a_valid, comparison->a_invalid);
    print_side("B", b, comparison->b_valid, comparison->b_invalid);
    if (comparison->differences) {
        printf("Different, A / B: %s\n", comparison->differences);
    }
    for (size_t i = 0; i < comparison->n; i++) {
        const struct comparison_metric *metric = &comparison->metrics[i];

        if (strcmp(metric->phase, phase) != 0) {
            phase = metric->phase;
            printf("\n%-24s %10s %10s %8s  %-15s %5s  %s\n", phase, "A", "B", "A/B",
                   "95 % interval", "runs", "B is");
        }
        print_metric(metric);
    }
    print_notes(comparison);
}

/* ---- JSON ---- */

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *side_json(const struct side *side, size_t valid, size_t invalid)
{
    return json_pack("{s:s, s:s, s:I, s:I}", "dir", side->result->dir, "variant", side_name(side),
                     "valid_runs", (json_int_t)valid, "invalid_runs", (json_int_t)invalid);
}

static json_t *metric_json(const struct comparison_metric *metric)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:s}", "phase",
                     metric->phase, "metric", metric->name, "unit", metric->unit, "a",
                     number_or_null(metric->a), "b", number_or_null(metric->b), "ratio",
                     number_or_null(metric->ratio.point), "low", number_or_null(metric->ratio.low),
                     "high", number_or_null(metric->ratio.high), "a_runs", (json_int_t)metric->n_a,
                     "b_runs", (json_int_t)metric->n_b, "b_is", comparison_word_text(metric));
}

static json_t *comparison_json(const struct side *a, const struct side *b,
                               const struct comparison *comparison)
{
    json_t *metrics = json_array();

    for (size_t i = 0; i < comparison->n; i++) {
        json_array_append_new(metrics, metric_json(&comparison->metrics[i]));
    }
    return json_pack("{s:o, s:o, s:s?, s:o}", "a",
                     side_json(a, comparison->a_valid, comparison->a_invalid), "b",
                     side_json(b, comparison->b_valid, comparison->b_invalid), "differences",
                     comparison->differences, "metrics", metrics);
}

/* ---- the command ---- */

/* Compares and prints, or adds to the JSON list. */
static int compare_pair(const struct side *a, const struct side *b, json_t *list, struct error *err)
{
    struct comparison comparison = {0};
    int rc = comparison_make(a->result, a->variant, b->result, b->variant, &comparison, err);

    if (rc < 0) {
        return rc;
    }
    if (list) {
        json_array_append_new(list, comparison_json(a, b, &comparison));
    } else {
        print_table(a, b, &comparison);
    }
    comparison_clear(&comparison);
    return 0;
}

/* Each variant against the first. */
static int compare_variants(const char *arg, json_t *list, struct error *err)
{
    autoresult struct result *result = NULL;
    int rc = result_load(arg, &result, err);

    if (rc < 0) {
        return rc;
    }
    if (result->n_variants < 2) {
        return error_set(err, -EINVAL, "%s has one variant: name a second result to compare with",
                         arg);
    }
    for (size_t v = 1; v < result->n_variants && rc == 0; v++) {
        struct side a = {result, 0}, b = {result, v};

        if (v > 1 && !list) {
            printf("\n");
        }
        if (result_count_runs(result, v, true) == 0 && result_count_runs(result, 0, true) > 0) {
            fprintf(stderr, "sluice compare: %s: no valid run, left out\n", side_name(&b));
            continue;
        }
        rc = compare_pair(&a, &b, list, err);
    }
    return rc;
}

static int compare_two(const char *arg_a, const char *arg_b, json_t *list, struct error *err)
{
    autoresult struct result *result_a = NULL, *result_b = NULL;
    struct side a, b;
    int rc = load_side(arg_a, &result_a, &a, err);

    rc = rc < 0 ? rc : load_side(arg_b, &result_b, &b, err);
    return rc < 0 ? rc : compare_pair(&a, &b, list, err);
}

static void print_json(json_t *list)
{
    autojson json_t *document = json_pack("{s:i, s:f, s:O}", "v", 1, "confidence",
                                          COMPARISON_CONFIDENCE, "comparisons", list);

    json_dumpf(document, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    printf("\n");
}

int command_compare(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    autojson json_t *list = NULL;
    struct error err = {0};
    int rc;

    while (command_option(argc, argv, "hj", options, help, &rc) != -1) {
        list = list ? list : json_array();
    }
    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (argc - optind < 1 || argc - optind > 2) {
        return command_usage(argv[0], "needs one or two result folders");
    }
    rc = argc - optind == 2 ? compare_two(argv[optind], argv[optind + 1], list, &err)
                            : compare_variants(argv[optind], list, &err);
    if (rc == ERR_AMBIGUOUS) {
        return command_usage(argv[0], "%s", err.text);
    }
    if (rc < 0) {
        command_fail(argv[0], &err);
        return rc == -ENODATA ? EXIT_INVALID_RESULT : EXIT_FAILED;
    }
    if (list) {
        print_json(list);
    }
    return EXIT_DONE;
}
