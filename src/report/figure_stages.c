/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long each stage took over the pods of a run: a row a stage with its percentiles, the steps
 * inside a stage below it and lighter, teardown last.
 */
#include "report/report-internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEW    20   /* up to so many spans every one is shown: percentiles of them mean little */
#define TINY_S 1e-7 /* what a logarithmic axis shows a shorter duration as */
#define SPREAD 30.0 /* largest over smallest, from where on the axis is logarithmic */
#define ROW_PX 26
#define TOP    88
#define BOTTOM 74
#define SMALL  "left font '" SCRIPT_FONT ",12' textcolor rgb '" COLOUR_SOFT "'"

struct row {
    const char *stage;
    double *seconds; /* sorted, in one array for all rows */
    size_t n;
};

struct rows {
    const struct span **spans; /* by stage, then duration */
    double *seconds;
    struct row *rows;
    size_t n;
    double low, high; /* of everything shown */
    double unit;      /* seconds in the axis' unit */
};

static int by_stage(const void *a, const void *b)
{
    const struct span *x = *(const struct span *const *)a, *y = *(const struct span *const *)b;
    int order = strcmp(x->stage, y->stage);
    int64_t dx = x->t1_ns - x->t0_ns, dy = y->t1_ns - y->t0_ns;

    return order ? order : (dx > dy) - (dx < dy);
}

static int by_place(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    return span_stage_compare(x->stage, y->stage);
}

/* The spans are sorted by stage: each stretch of one name is a row. */
static void group_rows(struct rows *rows, size_t n_spans)
{
    for (size_t i = 0; i < n_spans; i++) {
        const struct span *span = rows->spans[i];
        struct row *row = rows->n ? &rows->rows[rows->n - 1] : NULL;

        if (!row || strcmp(row->stage, span->stage) != 0) {
            row = &rows->rows[rows->n++];
            *row = (struct row){.stage = span->stage, .seconds = &rows->seconds[i]};
        }
        rows->seconds[i] = fmax(TINY_S, (double)(span->t1_ns - span->t0_ns) / NSEC_PER_SEC);
        rows->low = fmin(rows->low, rows->seconds[i]);
        rows->high = fmax(rows->high, rows->seconds[i]);
        row->n++;
    }
    qsort(rows->rows, rows->n, sizeof(*rows->rows), by_place);
}

static int rows_make(const struct span_list *list, struct rows *rows, struct error *err)
{
    *rows = (struct rows){.low = INFINITY};
    rows->spans = calloc(list->n + 1, sizeof(*rows->spans));
    rows->seconds = calloc(list->n + 1, sizeof(*rows->seconds));
    rows->rows = calloc(list->n + 1, sizeof(*rows->rows));
    if (!rows->spans || !rows->seconds || !rows->rows) {
        return error_sys(err, -ENOMEM, "stages");
    }
    if (list->n == 0) {
        return error_set(err, -ENODATA, "no span in it");
    }
    for (size_t i = 0; i < list->n; i++) {
        rows->spans[i] = &list->spans[i];
    }
    qsort(rows->spans, list->n, sizeof(*rows->spans), by_stage);
    group_rows(rows, list->n);
    return 0;
}

static void rows_clear(struct rows *rows)
{
    free(rows->spans);
    free(rows->seconds);
    free(rows->rows);
}

/* The name on the left; median, 99th percentile and count on the right. */
static void write_row_text(struct script *script, const struct row *row, size_t y)
{
    const char *colour = strchr(row->stage, '.') ? COLOUR_SOFT : COLOUR_TEXT;
    char where[64], attributes[96], text[64];
    const struct {
        double x;
        double percentile;
    } columns[] = {{-0.012, NAN}, {1.1, 50}, {1.2, 99}};

    snprintf(attributes, sizeof(attributes), "right textcolor rgb '%s'", colour);
    for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
        const char *shown = row->stage;

        if (!isnan(columns[i].percentile)) {
            shown = figure_duration(stats_percentile(row->seconds, row->n, columns[i].percentile),
                                    text, sizeof(text));
        }
        snprintf(where, sizeof(where), "graph %g, first %zu", columns[i].x, y);
        script_label(script, shown, where, attributes);
    }
    snprintf(where, sizeof(where), "graph 1.29, first %zu", y);
    snprintf(text, sizeof(text), "%zu", row->n);
    script_label(script, text, where, attributes);
}

static void write_heads(struct script *script, size_t y)
{
    static const char *const heads[] = {"median", "p99", "spans"};
    static const double at[] = {1.1, 1.2, 1.29};
    char where[64];

    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        snprintf(where, sizeof(where), "graph %g, first %zu", at[i], y);
        script_label(script, heads[i], where,
                     "right font '" SCRIPT_FONT ",12' textcolor rgb '" COLOUR_SOFT "'");
    }
}

/* "y colour p1 p25 p50 p75 p99 max half-height" for the boxes, "value y colour" for the points. */
static void write_data(struct script *script, const struct rows *rows, bool points)
{
    static const double percentiles[] = {1, 25, 50, 75, 99, 100};

    script_printf(script, points ? "$points << EOD\n" : "$boxes << EOD\n");
    for (size_t i = 0; i < rows->n; i++) {
        const struct row *row = &rows->rows[i];
        size_t y = rows->n - i;
        char colour[8];

        colour_of_stage(row->stage, colour);
        for (size_t k = 0; points && row->n <= FEW && k < row->n; k++) {
            script_printf(script, "%.6g %zu 0x%s\n", row->seconds[k] / rows->unit, y, colour + 1);
        }
        if (points || row->n <= FEW) {
            continue;
        }
        script_printf(script, "%zu 0x%s", y, colour + 1);
        for (size_t k = 0; k < ARRAY_SIZE(percentiles); k++) {
            script_printf(script, " %.6g",
                          stats_percentile(row->seconds, row->n, percentiles[k]) / rows->unit);
        }
        script_printf(script, " %g\n", strchr(row->stage, '.') ? 0.24 : 0.34);
    }
    script_printf(script, "EOD\n");
}

/* What is drawn, below the others that are drawn over it. */
static const char *const draw_boxes =
    "$boxes using 3:1:($7-$3):(0):2 with vectors nohead lw 1.4 lc rgb variable, \\\n     "
    "$boxes using 3:($1-$9/2):(0):9:2 with vectors nohead lw 1.4 lc rgb variable, \\\n     "
    "$boxes using 7:($1-$9/2):(0):9:2 with vectors nohead lw 1.4 lc rgb variable, \\\n     "
    "$boxes using 5:1:4:6:($1-$9):($1+$9):2 with boxxyerror fillstyle solid noborder "
    "lc rgb variable, \\\n     "
    "$boxes using 5:($1-$9):(0):(2*$9) with vectors nohead lw 2.2 lc rgb 'white', \\\n     "
    "$boxes using 8:1:2 with points pt 7 ps 0.45 lc rgb variable";
static const char *const draw_points =
    "$points using 1:2:3 with points pt 7 ps 0.7 lc rgb variable";

/* A thin line between the start's stages and the teardown's. */
static void write_divider(struct script *script, const struct rows *rows)
{
    for (size_t i = 1; i < rows->n; i++) {
        if (!strncmp(rows->rows[i].stage, "del", 3) &&
            strncmp(rows->rows[i - 1].stage, "del", 3) != 0) {
            script_printf(script,
                          "set arrow from graph 0, first %zu.5 to graph 1.29, "
                          "first %zu.5 nohead lw 0.8 lc rgb '#bbbbbb'\n",
                          rows->n - i, rows->n - i);
        }
    }
}

static int write_script(struct script *script, const struct figure_input *in, struct rows *rows,
                        struct error *err)
{
    autofree char *caption = figure_caption(in);
    autofree char *title =
        str_printf("%s: how long each stage took, %lld pod%s", in->result->variants[in->variant],
                   (long long)in->run->pods, in->run->pods == 1 ? "" : "s");
    char where[64];

    if (!caption || !title) {
        return error_sys(err, -ENOMEM, "stages");
    }
    script_title(script, title, caption);
    script_margins(script, 100, 232, TOP, BOTTOM);
    rows->unit = script_time_axis(script, rows->low / 1.3, rows->high * 1.07,
                                  rows->high / rows->low > SPREAD, "duration, ", "");
    script_printf(script, "set border 1\nunset ytics\nset yrange [0.4:%zu.6]\n", rows->n);
    write_heads(script, rows->n + 1);
    write_divider(script, rows);
    for (size_t i = 0; i < rows->n; i++) {
        write_row_text(script, &rows->rows[i], rows->n - i);
    }
    write_data(script, rows, false);
    write_data(script, rows, true);
    snprintf(where, sizeof(where), "screen %.5f, screen %.5f", 14.0 / script->width,
             14.0 / script->height);
    script_label(script,
                 rows->rows[0].n > FEW
                     ? "box: the middle half; white line: median; whiskers: 1st to 99th "
                       "percentile; dot: the slowest"
                     : "a point: one pod",
                 where, SMALL);
    return 0;
}

int figure_stages(const struct figure_input *in, const char *dir, const char *name,
                  struct error *err)
{
    struct script script = {0};
    struct rows rows;
    autofree char *draw = NULL;
    bool boxes = false, points = false;
    int rc = rows_make(in->spans, &rows, err);

    rc = rc < 0 ? rc : script_open(&script, 1000, (int)rows.n * ROW_PX + TOP + BOTTOM, err);
    rc = rc < 0 ? rc : write_script(&script, in, &rows, err);
    for (size_t i = 0; i < rows.n; i++) {
        boxes = boxes || rows.rows[i].n > FEW;
        points = points || rows.rows[i].n <= FEW;
    }
    draw = str_printf("plot %s%s%s", boxes ? draw_boxes : "", boxes && points ? ", \\\n     " : "",
                      points ? draw_points : "");
    rc = rc < 0 ? rc : script_draw(&script, dir, name, draw ? draw : "", err);
    script_clear(&script);
    rows_clear(&rows);
    return rc;
}
