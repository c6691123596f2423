/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bar a pod, coloured by stage: the study's figure of how stages overlap. Pods stand in the
 * order in which they were up, so that the right edge is also the count of pods up by then.
 */
#include "report/report-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Pixels above and below the plot; the legend's row is among those above. */
#define TOP      110
#define BOTTOM   54
#define LEGEND_Y 72

#define WAIT_SUFFIX "_wait" /* of the data's name */

struct pod {
    int64_t t0_ns, t1_ns;
    size_t first, n; /* its spans in the sorted list */
};

struct timeline {
    const struct span **spans; /* stages and steps `gate`, no others, no teardown; by pod */
    size_t n_spans;
    struct pod *pods;
    size_t n_pods;
    int64_t t0_ns; /* the first request */
};

static int by_pod(const void *a, const void *b)
{
    return strcmp((*(const struct span *const *)a)->pod, (*(const struct span *const *)b)->pod);
}

static int by_finish(const void *a, const void *b)
{
    const struct pod *x = a, *y = b;

    return x->t1_ns != y->t1_ns ? (x->t1_ns > y->t1_ns) - (x->t1_ns < y->t1_ns)
                                : (x->t0_ns > y->t0_ns) - (x->t0_ns < y->t0_ns);
}

/* The list is sorted by pod: each stretch of one name is a pod, as long as its spans reach. */
static void group_pods(struct timeline *line)
{
    for (size_t i = 0; i < line->n_spans; i++) {
        const struct span *span = line->spans[i];
        struct pod *pod = line->n_pods ? &line->pods[line->n_pods - 1] : NULL;

        if (!pod || strcmp(line->spans[pod->first]->pod, span->pod) != 0) {
            pod = &line->pods[line->n_pods++];
            *pod = (struct pod){.t0_ns = span->t0_ns, .t1_ns = span->t1_ns, .first = i};
        }
        pod->n++;
        pod->t0_ns = span->t0_ns < pod->t0_ns ? span->t0_ns : pod->t0_ns;
        pod->t1_ns = span->t1_ns > pod->t1_ns ? span->t1_ns : pod->t1_ns;
        line->t0_ns = line->t0_ns == 0 || span->t0_ns < line->t0_ns ? span->t0_ns : line->t0_ns;
    }
}

static bool is_stage(const struct span *span)
{
    return !strchr(span->stage, '.');
}

static bool is_shown(const struct span *span)
{
    const char *step = strchr(span->stage, '.');

    return span_stage_index(span->stage) < span_n_stages && (!step || !strcmp(step, ".gate"));
}

static int timeline_make(const struct span_list *list, struct timeline *line, struct error *err)
{
    *line = (struct timeline){0};
    line->spans = calloc(list->n + 1, sizeof(*line->spans));
    line->pods = calloc(list->n + 1, sizeof(*line->pods));
    if (!line->spans || !line->pods) {
        return error_sys(err, -ENOMEM, "timeline");
    }
    for (size_t i = 0; i < list->n; i++) {
        const struct span *span = &list->spans[i];

        if (is_shown(span)) {
            line->spans[line->n_spans++] = span;
        }
    }
    if (line->n_spans == 0) {
        return error_set(err, -ENODATA, "no stage of a start in it");
    }
    qsort(line->spans, line->n_spans, sizeof(*line->spans), by_pod);
    group_pods(line);
    qsort(line->pods, line->n_pods, sizeof(*line->pods), by_finish);
    return 0;
}

static void timeline_clear(struct timeline *line)
{
    free(line->spans);
    free(line->pods);
}

/*
 * A span's bar for a stage: all of the stage's own, or what was waiting: the start of its own, as
 * long as it waited, and the whole of its step `gate`. False: none.
 */
static bool bar_of(const struct span *span, size_t stage, bool waits, int64_t *ret_t0_ns,
                   int64_t *ret_t1_ns)
{
    int64_t length_ns = span->t1_ns - span->t0_ns;

    if (span_stage_index(span->stage) != stage || (waits ? !span->wait_ns : !is_stage(span))) {
        return false;
    }
    if (waits && span->wait_ns < length_ns) {
        length_ns = span->wait_ns;
    }
    *ret_t0_ns = span->t0_ns;
    *ret_t1_ns = span->t0_ns + length_ns;
    return true;
}

/* "left right row" of every such bar of a stage. Returns how many there were. */
static size_t write_stage(struct script *script, const struct timeline *line, size_t stage,
                          bool waits, double unit)
{
    size_t n = 0;

    script_printf(script, "$%s%s << EOD\n", span_stages[stage].name, waits ? WAIT_SUFFIX : "");
    for (size_t row = 0; row < line->n_pods; row++) {
        const struct pod *pod = &line->pods[row];

        for (size_t i = pod->first; i < pod->first + pod->n; i++) {
            int64_t t0_ns, t1_ns;

            if (bar_of(line->spans[i], stage, waits, &t0_ns, &t1_ns)) {
                script_printf(script, "%.6f %.6f %zu\n",
                              (double)(t0_ns - line->t0_ns) / NSEC_PER_SEC / unit,
                              (double)(t1_ns - line->t0_ns) / NSEC_PER_SEC / unit, row + 1);
                n++;
            }
        }
    }
    script_printf(script, "EOD\n");
    return n;
}

/* Pod numbers: the first, round ones, the last; none so near the last that they touch. */
static void write_pod_axis(struct script *script, size_t n_pods, bool roomy)
{
    static const size_t steps[] = {5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};
    size_t step = 1;
    char where[64];

    for (size_t i = 0; i < ARRAY_SIZE(steps) && n_pods > 20 && n_pods / step > 10; i++) {
        step = steps[i];
    }
    script_printf(script, "set yrange [0.5:%zu.5]\nset ytics (1", n_pods);
    for (size_t i = step == 1 ? 2 : step; i < n_pods; i += step) {
        if (n_pods - i > step / 2) {
            script_printf(script, ", %zu", i);
        }
    }
    script_printf(script, n_pods > 1 ? ", %zu)\n" : ")\n", n_pods);
    snprintf(where, sizeof(where), "screen %.5f, graph 0.5", 18.0 / script->width);
    script_label(script, roomy ? "pods, in the order they were up" : "pod", where,
                 "center rotate by 90 textcolor rgb '" COLOUR_TEXT "'");
}

/* In the axis' unit; the words above the plot, where no bar is. */
static void write_makespan(struct script *script, double at)
{
    char where[64];

    snprintf(where, sizeof(where), "first %.9g, graph 1", at);
    script_printf(script,
                  "set arrow from %s to first %.9g, graph 0 nohead front lw 1.2 dt (6,4) "
                  "lc rgb '#000000'\n",
                  where, at);
    script_label(script, "makespan", where, "right offset 0.3,0.6");
}

/*
 * Rows thick enough to be seen, a page short enough to be looked at; many rows are whole pixels of
 * the PNG, or antialiasing leaves seams between them.
 */
static int plot_height(size_t n_pods)
{
    size_t pixels = n_pods ? (2 * 620 + n_pods / 2) / n_pods : 1;

    if (n_pods <= 40) {
        return (int)(24 + 15 * n_pods);
    }
    return pixels ? (int)(n_pods * pixels + 1) / 2 : 620;
}

/* Appends "plot $NAME..." or ", $NAME..." to *draw; half of a row's height says how thick. */
static int add_boxes(char **draw, const char *name, const char *suffix, double half,
                     const char *colour)
{
    autofree char *before = take_ptr(*draw);

    *draw = str_printf("%s%s$%s%s using 1:3:1:2:($3-%g):($3+%g) with boxxyerror fillstyle solid "
                       "noborder linecolor rgb '%s'",
                       before ? before : "plot ", before ? ", \\\n     " : "", name, suffix, half,
                       half, colour);
    return *draw ? 0 : -ENOMEM;
}

/* The plot command: what is idle first, the stages over it, and over each what of it was waiting.
 * The legend has what occurs. */
static int write_bars(struct script *script, const struct timeline *line, double unit,
                      char **ret_draw, struct error *err)
{
    /* Rows that touch overlap by a fraction of a pixel, so that no seam shines through. */
    double half = line->n_pods <= 40 ? 0.42 : 0.5 + 0.1 * (double)line->n_pods / 620;
    size_t total = span_n_stages - 1;
    autofree char *draw = NULL;
    char waiting[8] = ""; /* the legend's colour for it: one stage's stands for all */
    bool idle = false;
    int rc = 0;

    for (size_t k = 0; k < span_n_stages && rc == 0; k++) {
        size_t stage = k == 0 ? total : k - 1;
        const char *name = span_stages[stage].name;
        char colour[8] = COLOUR_IDLE;

        if (write_stage(script, line, stage, false, unit) == 0) {
            continue;
        }
        if (stage != total) {
            colour_of_stage(name, colour);
            script_legend(script, LEGEND_Y, colour, span_stages[stage].does);
        }
        idle = idle || stage == total;
        rc = add_boxes(&draw, name, "", half, colour);
        if (rc == 0 && write_stage(script, line, stage, true, unit)) {
            colour_of_wait(colour, waiting);
            rc = add_boxes(&draw, name, WAIT_SUFFIX, half, waiting);
        }
    }
    if (rc < 0) {
        return error_sys(err, rc, "timeline");
    }
    if (waiting[0]) {
        script_legend(script, LEGEND_Y, waiting, "lighter: waiting at the gate");
    }
    if (idle) {
        script_legend(script, LEGEND_Y, COLOUR_IDLE, "between stages");
    }
    *ret_draw = take_ptr(draw);
    return 0;
}

static int write_script(struct script *script, const struct figure_input *in,
                        const struct timeline *line, char **ret_draw, struct error *err)
{
    double makespan = in->run->start.makespan_s, unit;
    autofree char *caption = figure_caption(in);
    char time[32];
    autofree char *title =
        str_printf("%s: %zu pod%s up in %s", in->result->variants[in->variant], line->n_pods,
                   line->n_pods == 1 ? "" : "s", figure_duration(makespan, time, sizeof(time)));

    if (!caption || !title) {
        return error_sys(err, -ENOMEM, "timeline");
    }
    script_title(script, title, caption);
    script_margins(script, 72, 24, TOP, BOTTOM);
    unit = script_time_axis(script, 0, makespan > 0 ? makespan * 1.005 : 1, false, "",
                            " since the first request");
    write_pod_axis(script, line->n_pods, plot_height(line->n_pods) > 250);
    write_makespan(script, makespan / unit);
    return write_bars(script, line, unit, ret_draw, err);
}

int figure_timeline(const struct figure_input *in, const char *dir, const char *name,
                    struct error *err)
{
    struct script script = {0};
    struct timeline line;
    autofree char *draw = NULL;
    int rc = timeline_make(in->spans, &line, err);

    rc = rc < 0 ? rc : script_open(&script, 1000, plot_height(line.n_pods) + TOP + BOTTOM, err);
    rc = rc < 0 ? rc : write_script(&script, in, &line, &draw, err);
    rc = rc < 0 ? rc : script_draw(&script, dir, name, draw, err);
    script_clear(&script);
    timeline_clear(&line);
    return rc;
}
