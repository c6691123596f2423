/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The variants of a set side by side, a row each: every run's makespan with the median, and where
 * the CPU time of a pod went.
 */
#include "report/report-internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROW_PX   40
#define TOP      104
#define BOTTOM   54
#define LEGEND_Y 72
#define SPREAD   20.0 /* largest makespan over smallest, from where on its axis is logarithmic */

/* Components in the order in which the runs name them; the last one is what no part accounts for.
 */
struct components {
    const char **names;
    size_t n;
};

static size_t component_index(struct components *all, const char *name)
{
    for (size_t i = 0; i < all->n; i++) {
        if (!strcmp(all->names[i], name)) {
            return i;
        }
    }
    all->names[all->n] = name;
    return all->n++;
}

static int list_components(const struct result *result, struct components *all, struct error *err)
{
    size_t size = 1;

    for (size_t i = 0; i < result->n_runs; i++) {
        size += result->runs[i].start.n_cpu;
    }
    *all = (struct components){.names = calloc(size, sizeof(*all->names))};
    if (!all->names) {
        return error_sys(err, -ENOMEM, "compare");
    }
    for (size_t i = 0; i < result->n_runs; i++) {
        for (size_t k = 0; k < result->runs[i].start.n_cpu; k++) {
            component_index(all, result->runs[i].start.cpu[k].name);
        }
    }
    return 0;
}

/* Mean CPU seconds a pod over a variant's valid runs, a component each, the rest last. Means, so
 * that the parts add up. */
static void cpu_per_pod(const struct result *result, size_t variant, struct components *all,
                        double *ret)
{
    size_t n = result_count_runs(result, variant, true);

    for (size_t i = 0; i <= all->n; i++) {
        ret[i] = 0;
    }
    for (size_t i = 0; i < result->n_runs; i++) {
        const struct result_run *run = &result->runs[i];
        double share = 1 / ((double)n * fmax(1, (double)run->pods)), parts = 0;

        if (run->variant != variant || !run->valid) {
            continue;
        }
        for (size_t k = 0; k < run->start.n_cpu; k++) {
            ret[component_index(all, run->start.cpu[k].name)] += run->start.cpu[k].seconds * share;
            parts += run->start.cpu[k].seconds;
        }
        ret[all->n] += fmax(0, run->start.cpu_total_s - parts) * share;
    }
}

static const char *colour_of(const struct components *all, size_t i)
{
    return i == all->n ? COLOUR_IDLE : colour_of_component(all->names[i], i);
}

static void label_row(struct script *panel, const char *text, double x, size_t row)
{
    char where[64];

    snprintf(where, sizeof(where), "graph %g, first %zu", x, row);
    script_label(panel, text, where, "right textcolor rgb '" COLOUR_TEXT "'");
}

/* Where the panels stand, in pixels: names, makespans, medians, a gap, CPU bars, their sums. */
struct layout {
    int left, width, gap;
};

static struct layout choose_layout(const struct result *result)
{
    size_t longest = 0;
    struct layout layout = {.gap = 100};

    for (size_t v = 0; v < result->n_variants; v++) {
        size_t len = strlen(result->variants[v]);

        longest = len > longest ? len : longest;
    }
    layout.left = 30 + 73 * (int)longest / 10;
    layout.left = layout.left > 340 ? 340 : layout.left;
    layout.width = (1000 - layout.left - layout.gap - 80) / 2;
    return layout;
}

/* ---- the left panel: makespans ---- */

/* "$runs": seconds and row of every valid run. */
static void write_runs(struct script *data, const struct result *result, double *low, double *high)
{
    *low = INFINITY;
    *high = 0;
    script_printf(data, "$runs << EOD\n");
    for (size_t i = 0; i < result->n_runs; i++) {
        const struct result_run *run = &result->runs[i];

        if (run->valid && !isnan(run->start.makespan_s)) {
            script_printf(data, "%.9g %zu\n", run->start.makespan_s,
                          result->n_variants - run->variant);
            *low = fmin(*low, run->start.makespan_s);
            *high = fmax(*high, run->start.makespan_s);
        }
    }
    script_printf(data, "EOD\n");
}

/* NaN without valid runs that have one. */
static double median_makespan(const struct result *result, size_t variant)
{
    autofree double *values = calloc(result->n_runs + 1, sizeof(*values));
    size_t n = 0;

    for (size_t i = 0; values && i < result->n_runs; i++) {
        if (result->runs[i].variant == variant && result->runs[i].valid &&
            !isnan(result->runs[i].start.makespan_s)) {
            values[n++] = result->runs[i].start.makespan_s;
        }
    }
    return values ? stats_median(values, n) : NAN;
}

/* One unit down a column reads better than each number in its own. */
static const char *in_unit(double seconds, double unit, char *buf, size_t size)
{
    char number[32];

    figure_number(seconds / unit, number, sizeof(number));
    snprintf(buf, size, "%s %s", number, unit == 1 ? "s" : "ms");
    return buf;
}

/* "$medians", and the texts on both sides of the panel. */
static void write_medians(struct script *data, struct script *panel, const struct result *result,
                          double unit, bool log)
{
    script_printf(data, "$medians << EOD\n");
    for (size_t v = 0; v < result->n_variants; v++) {
        size_t row = result->n_variants - v;
        double median = median_makespan(result, v);
        char text[40] = "no valid run";

        if (!isnan(median)) {
            script_printf(data, "%.9g %zu\n", median, row);
            if (log) {
                figure_duration(median, text, sizeof(text));
            } else {
                in_unit(median, unit, text, sizeof(text));
            }
        }
        label_row(panel, text, 1.19, row);
        label_row(panel, result->variants[v], -0.03, row);
    }
    script_printf(data, "EOD\n");
}

static void write_left(struct script *data, struct script *panel, const struct result *result,
                       const struct layout *layout)
{
    double low, high, unit;
    bool log;

    write_runs(data, result, &low, &high);
    log = low > 0 && high / low > SPREAD;
    script_margins(panel, layout->left, 1000 - layout->left - layout->width, TOP, BOTTOM);
    unit = script_time_axis(panel, low / 1.3, high > 0 ? high * 1.08 : 1, log, "makespan, ", "");
    write_medians(data, panel, result, unit, log);
    script_printf(panel,
                  "plot $medians using ($1/%g):($2-0.3):(0):(0.6) with vectors nohead lw 2.5 "
                  "lc rgb '#000000', \\\n"
                  "     $runs using ($1/%g):2 with points pt 7 ps 0.8 lc rgb '#500072b2'\n",
                  unit, unit);
}

/* ---- the right panel: CPU time ---- */

/* "$cpu": left and right end in seconds, colour, row; a line a component of a variant. sums gets
 * each variant's whole bar. Returns the longest. */
static double write_cpu(struct script *data, const struct result *result, struct components *all,
                        double *shares, double *sums)
{
    double longest = 0;

    script_printf(data, "$cpu << EOD\n");
    for (size_t v = 0; v < result->n_variants; v++) {
        if (result_count_runs(result, v, true) == 0) {
            continue;
        }
        cpu_per_pod(result, v, all, shares);
        for (size_t i = 0; i <= all->n; i++) {
            script_printf(data, "%.9g %.9g 0x%s %zu\n", sums[v], sums[v] + shares[i],
                          colour_of(all, i) + 1, result->n_variants - v);
            sums[v] += shares[i];
        }
        longest = fmax(longest, sums[v]);
    }
    script_printf(data, "EOD\n");
    return longest;
}

static void write_sums(struct script *panel, const struct result *result, const double *sums,
                       double unit)
{
    char text[40];

    for (size_t v = 0; v < result->n_variants; v++) {
        if (result_count_runs(result, v, true) > 0) {
            label_row(panel, in_unit(sums[v], unit, text, sizeof(text)), 1.18,
                      result->n_variants - v);
        }
    }
}

static int write_right(struct script *data, struct script *panel, const struct result *result,
                       const struct layout *layout, struct error *err)
{
    struct components all = {0};
    autofree double *shares = NULL, *sums = calloc(result->n_variants + 1, sizeof(*sums));
    double longest, unit;
    int rc = list_components(result, &all, err);

    shares = calloc(all.n + 1, sizeof(*shares));
    if (rc == 0 && (!shares || !sums)) {
        rc = error_sys(err, -ENOMEM, "compare");
    }
    if (rc == 0) {
        longest = write_cpu(data, result, &all, shares, sums);
        for (size_t i = 0; i <= all.n; i++) {
            script_legend(panel, LEGEND_Y, colour_of(&all, i),
                          i == all.n ? "rest of the host" : all.names[i]);
        }
        script_margins(panel, layout->left + layout->width + layout->gap, 80, TOP, BOTTOM);
        unit =
            script_time_axis(panel, 0, longest > 0 ? longest * 1.02 : 1, false, "CPU ", " per pod");
        write_sums(panel, result, sums, unit);
        script_printf(panel,
                      "plot $cpu using ($1/%g):4:($1/%g):($2/%g):($4-0.3):($4+0.3):3 with "
                      "boxxyerror fillstyle solid noborder lc rgb variable\n",
                      unit, unit, unit);
    }
    free(all.names);
    return rc;
}

/* "100 pods; a point: one run, ..."; the number of pods only where all runs had the same. */
static char *set_caption(const struct result *result)
{
    static const char rest[] =
        "a point: one run; a line: their median; CPU: the runs' mean while pods start";
    int64_t pods = -1;

    for (size_t i = 0; i < result->n_runs; i++) {
        if (result->runs[i].valid) {
            pods = pods < 0 || pods == result->runs[i].pods ? result->runs[i].pods : 0;
        }
    }
    return pods > 0 ? str_printf("%lld pod%s; %s", (long long)pods, pods == 1 ? "" : "s", rest)
                    : strdup(rest);
}

/* All but the data goes into the panels' part, which stands in the script once a terminal. */
static int write_script(struct script *data, struct script *panel, const struct result *result,
                        struct error *err)
{
    struct layout layout = choose_layout(result);
    autofree char *caption = set_caption(result);
    int rc;

    if (!caption) {
        return error_sys(err, -ENOMEM, "compare");
    }
    script_printf(panel,
                  "unset label\nunset object\nset multiplot\nset border 1\nunset ytics\n"
                  "set yrange [0.4:%zu.6]\n",
                  result->n_variants);
    script_title(panel, "Makespan and CPU time by variant", caption);
    write_left(data, panel, result, &layout);
    script_printf(panel, "unset label\nunset object\n");
    rc = write_right(data, panel, result, &layout, err);
    script_printf(panel, "unset multiplot");
    return rc;
}

int figure_compare(const struct figure_input *in, const char *dir, const char *name,
                   struct error *err)
{
    int height = (int)in->result->n_variants * ROW_PX + TOP + BOTTOM;
    struct script data = {0}, panel = {0};
    int rc = script_open(&data, 1000, height, err);

    rc = rc < 0 ? rc : script_open(&panel, 1000, height, err);
    rc = rc < 0 ? rc : write_script(&data, &panel, in->result, err);
    if (rc == 0 && fflush(panel.file) != 0) {
        rc = error_sys(err, -ENOMEM, "compare");
    }
    rc = rc < 0 ? rc : script_draw(&data, dir, name, panel.text, err);
    script_clear(&panel);
    script_clear(&data);
    return rc;
}
