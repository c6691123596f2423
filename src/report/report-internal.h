/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: colours, scripts for gnuplot, figures. */
#pragma once

#include "report/report.h"
#include "span/span.h"

#define RESULT_NAME_MAX 64 /* bytes of a variant's, component's or folder's name */

/* ---- scripts (script.c) ---- */

#define SCRIPT_FONT "DejaVu Sans"

/* A gnuplot script being written, in memory. A script stands by itself: data inside. */
struct script {
    FILE *file;
    char *text;
    size_t len;
    int width, height;         /* pixels of the SVG; the PNG has twice as many */
    int bottom;                /* margin, pixels */
    int legend_x, legend_rows; /* where the legend's next entry goes */
};

int script_open(struct script *script, int width, int height, struct error *err);
void script_clear(struct script *script);
void script_printf(struct script *script, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Text as a gnuplot string in single quotes. Those in the text become typographic ones: gnuplot
 * misreads a doubled quote at a string's start, and runs what stands between backquotes. */
void script_quote(struct script *script, const char *text);

/* A bold line and a grey one at the top left, and the margins around the plot, in pixels. */
void script_title(struct script *script, const char *title, const char *caption);
void script_margins(struct script *script, int left, int right, int top, int bottom);

/* A label at x, y (in gnuplot's words: "graph 1.0", "first 3"); attributes as gnuplot has them. */
void script_label(struct script *script, const char *text, const char *where,
                  const char *attributes);

/*
 * The axis of durations. Linear: from 0, in seconds or, below one, milliseconds. Logarithmic: from
 * low, with the unit at each number. low and high are in seconds; data is to be written in the
 * returned unit's seconds. To be called after script_margins. The title is the unit's name between
 * two texts.
 */
double script_time_axis(struct script *script, double low, double high, bool log,
                        const char *before, const char *after);

/* Coloured squares with words, entry by entry from the left and into a second row when the first is
 * full; y in pixels from the top, always the first row's. */
void script_legend(struct script *script, int y, const char *colour, const char *text);

/*
 * Closes the script with what draws (plot commands, one a line), writes DIR/NAME.gp and has gnuplot
 * make NAME.svg and NAME.png from it.
 */
int script_draw(struct script *script, const char *dir, const char *name, const char *draw,
                struct error *err);

/* ---- colours (colours.c) ---- */

#define COLOUR_IDLE "#dddddd"
#define COLOUR_TEXT "#333333"
#define COLOUR_SOFT "#666666"

/* Of a stage; a step has a lighter one than its stage. Writes "#rrggbb". */
void colour_of_stage(const char *name, char out[8]);

/* Of the part of a bar that was waiting, when the rest has this colour. */
void colour_of_wait(const char *colour, char out[8]);

/* Of a component of CPU time: known ones always the same, others by their place in a figure. */
const char *colour_of_component(const char *name, size_t place);

/* ---- figures ---- */

struct figure_input {
    const struct result *result;
    size_t variant;               /* each variant's figures only */
    const struct result_run *run; /* the variant's median run */
    const struct span_list *spans;
};

struct figure {
    const char *name; /* first part of the file's name, as "timeline" */
    bool whole_set;   /* one for all variants (drawn when there are several), not one for each */
    int (*draw)(const struct figure_input *in, const char *dir, const char *name,
                struct error *err);
};

int figure_timeline(const struct figure_input *in, const char *dir, const char *name,
                    struct error *err);
int figure_stages(const struct figure_input *in, const char *dir, const char *name,
                  struct error *err);
int figure_compare(const struct figure_input *in, const char *dir, const char *name,
                   struct error *err);

/* "arrival burst, sandbox none, runs/0002, the median of 3 runs by makespan"; NULL: no memory. */
char *figure_caption(const struct figure_input *in);

/* "1.23 ms": three digits and the unit that suits; returns buf. */
const char *figure_duration(double seconds, char *buf, size_t size);

/* The same for a round number: "1 ms". */
const char *figure_round_duration(double seconds, char *buf, size_t size);

/* Three digits, no exponent; returns buf. */
const char *figure_number(double value, char *buf, size_t size);
