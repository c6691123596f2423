/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made of results: reading a result folder (written by bench), comparing two, drawing
 * figures. Above span, stats and json; below only the commands. Prints nothing.
 */
#pragma once

#include "base/base.h"
#include "json/json.h"
#include "stats/stats.h"

/* ---- reading (result.c, parse.c) ---- */

/* Durations of one stage over a run's pods, as summary.json has them. */
struct result_stage {
    const char *name; /* "cni", "cni.link", "del" */
    int64_t n;        /* spans */
    double p50_s, p90_s, p99_s, mean_s, max_s;
};

struct result_cpu {
    const char *name; /* "ovs-vswitchd" */
    double seconds;   /* user and system */
};

/* Start or teardown of all pods of a run. */
struct result_phase {
    bool present;                  /* teardown may not be */
    double makespan_s, pods_per_s; /* NaN where no pod came through, or it is not told */
    double cpu_total_s;            /* the whole host's busy time */
    struct result_cpu *cpu;        /* its parts; their sum may be less */
    size_t n_cpu;
    struct result_stage *stages; /* in the order of span_stage_compare */
    size_t n_stages;
};

/* Strings are borrowed from the documents, which the run holds. */
struct result_run {
    const char *dir; /* in the result folder: "runs/0001" */
    size_t variant;  /* index in the result's variants */
    int64_t repeat;
    bool valid;       /* says both set.json and run.json; an invalid run's summary is not read */
    json_t *problems; /* list of texts, or NULL; borrowed from document */
    json_t *options;  /* as bench was asked, or NULL; borrowed from document */
    int64_t pods, failed;
    struct result_phase start, teardown;
    json_t *document, *summary; /* run.json, summary.json */
};

struct result {
    char *dir;
    const char **variants; /* names, different ones, in the set's order */
    size_t n_variants;
    struct result_run *runs;
    size_t n_runs;
    json_t *document; /* set.json */
};

/*
 * Reads DIR/set.json, and run.json and summary.json of each run; blocks on the disk. What is wrong
 * is answered with the file and the key (-EINVAL, -EBADMSG) or with why it can't be read;
 * result_free frees.
 */
int result_load(const char *dir, struct result **ret, struct error *err);
void result_free(struct result *result);
void cleanup_result(struct result **result);
#define autoresult __attribute__((cleanup(cleanup_result)))

/* The parsers of the three files by themselves. They fill a zeroed structure, which is to be
 * cleared or freed by the caller on failure too. */
int result_parse_set(const char *text, size_t len, struct result *result, struct error *err);
int result_parse_run(const char *text, size_t len, struct result_run *run, struct error *err);
int result_parse_summary(const char *text, size_t len, struct result_run *run, struct error *err);
void result_run_clear(struct result_run *run);

/* Index of the variant so named; -ENOENT with the names there are. */
int result_find_variant(const struct result *result, const char *name, size_t *ret,
                        struct error *err);

/* "a, b, c": the variants' names, cut where buf ends; returns buf. */
const char *result_variant_names(const struct result *result, char *buf, size_t size);

/* How many of a variant's runs are valid (or, on demand, not). */
size_t result_count_runs(const struct result *result, size_t variant, bool valid);

/* The valid run with the median makespan (the lower of two middle ones); NULL when no valid run has
 * one. */
const struct result_run *result_median_run(const struct result *result, size_t variant);

/* ---- comparing (compare.c) ---- */

/* How B does against A, by the interval of the ratio A/B. */
enum comparison_word {
    COMPARISON_TOO_FEW,     /* fewer than COMPARISON_RUNS_MIN runs that have it on a side */
    COMPARISON_NO_INTERVAL, /* the ratio of some resamples is no number: 0 / 0 */
    COMPARISON_UNCLEAR,     /* the interval holds 1, or both sides are 0 */
    COMPARISON_BETTER,
    COMPARISON_WORSE,
};

struct comparison_metric {
    const char *phase; /* "start", "teardown" */
    char name[96]; /* "makespan_s", "stages.cni.p50_s", "cpu_s.total": the path in summary.json */
    const char *unit;            /* "s", "pods/s" */
    bool cpu;                    /* better is "less", not "faster" */
    double a, b;                 /* medians over valid runs; NaN where a side lacks it */
    size_t n_a, n_b;             /* runs that have it */
    struct stats_interval ratio; /* a / b; NaN where there is none */
    enum comparison_word word;
};

struct comparison {
    size_t a_valid, a_invalid, b_valid, b_invalid; /* runs; invalid ones are left out */
    struct comparison_metric *metrics;
    size_t n;
    char *differences; /* what else differs between the sides: "pods 100 / 200, ..."; or NULL */
};

#define COMPARISON_CONFIDENCE 0.95
#define COMPARISON_RUNS_MIN   5 /* of fewer, the bootstrap's interval comes out too narrow */

/* Compares variant va of a with variant vb of b (a and b may be the same); comparison_clear frees.
 * -ENODATA when a side has no valid run. */
int comparison_make(const struct result *a, size_t va, const struct result *b, size_t vb,
                    struct comparison *ret, struct error *err);
void comparison_clear(struct comparison *comparison);

/* "faster", "slower", "less", "more", "no clear difference", "too few runs",
 * "no interval", "only in A". */
const char *comparison_word_text(const struct comparison_metric *metric);

/* ---- drawing (figures.c; one file a figure) ---- */

/* What report_draw wrote and what it could not draw, for the caller to print. */
struct report_output {
    char **files; /* paths, under the output folder as it was given */
    size_t n_files;
    char **notes; /* "ovs: no valid run, not drawn" */
    size_t n_notes;
};

/*
 * Draws every figure of a result into out_dir (made when missing) as SVG and PNG, and leaves the
 * gnuplot script beside them. Runs gnuplot and blocks until it is done. On failure *ret still holds
 * what was written; report_output_clear frees.
 */
int report_draw(const struct result *result, const char *out_dir, struct report_output *ret,
                struct error *err);
void report_output_clear(struct report_output *output);
