/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts for gnuplot 5.4: what all figures need. Text that comes from results goes only into
 * single-quoted strings, where gnuplot expands neither commands nor macros.
 */
#include "report/report-internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRAW_SECONDS 120
#define LEFT         14 /* pixels, where titles and legends begin */

int script_open(struct script *script, int width, int height, struct error *err)
{
    *script = (struct script){.width = width, .height = height};
    script->file = open_memstream(&script->text, &script->len);
    if (!script->file) {
        return error_sys(err, -errno, "script for gnuplot");
    }
    script_printf(script, "set encoding utf8\n"
                          "set border 3 lc rgb '#888888'\n"
                          "set tics nomirror out scale 0.5 textcolor rgb '" COLOUR_TEXT "'\n"
                          "unset key\n");
    return 0;
}

void script_clear(struct script *script)
{
    if (script->file) {
        fclose(script->file);
    }
    free(script->text);
    *script = (struct script){0};
}

void script_printf(struct script *script, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(script->file, fmt, args);
    va_end(args);
}

void script_quote(struct script *script, const char *text)
{
    fputc('\'', script->file);
    for (const char *p = text; *p; p++) {
        if (*p == '\'') {
            fputs("’", script->file);
        } else if (*p == '`') {
            fputs("‘", script->file);
        } else {
            fputc((unsigned char)*p < 0x20 ? ' ' : *p, script->file);
        }
    }
    fputc('\'', script->file);
}

void script_label(struct script *script, const char *text, const char *where,
                  const char *attributes)
{
    script_printf(script, "set label ");
    script_quote(script, text);
    script_printf(script, " at %s %s\n", where, attributes);
}

void script_title(struct script *script, const char *title, const char *caption)
{
    char where[64];

    snprintf(where, sizeof(where), "screen %.5f, screen %.5f", (double)LEFT / script->width,
             1 - 22.0 / script->height);
    script_label(script, title, where,
                 "left font '" SCRIPT_FONT " Bold,17' textcolor rgb '" COLOUR_TEXT "'");
    snprintf(where, sizeof(where), "screen %.5f, screen %.5f", (double)LEFT / script->width,
             1 - 44.0 / script->height);
    script_label(script, caption, where,
                 "left font '" SCRIPT_FONT ",12' textcolor rgb '" COLOUR_SOFT "'");
}

void script_margins(struct script *script, int left, int right, int top, int bottom)
{
    script->bottom = bottom;
    script_printf(script,
                  "set lmargin at screen %.5f\nset rmargin at screen %.5f\n"
                  "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
                  (double)left / script->width, 1 - (double)right / script->width,
                  1 - (double)top / script->height, (double)bottom / script->height);
}

/* A number at each decade, at 2 and 5 too where there are few decades, and small tics between. */
static void write_decades(struct script *script, double low, double high)
{
    const char *separator = "";

    script_printf(script, "set xtics (");
    for (int decade = -9; decade <= 6; decade++) {
        for (int digit = 1; digit <= 9; digit++) {
            double at = digit * pow(10, decade);
            bool labelled = digit == 1 || (high / low < 300 && (digit == 2 || digit == 5));
            char text[32] = "";

            if (at < low * 0.999 || at > high * 1.001) {
                continue;
            }
            if (labelled) {
                figure_round_duration(at, text, sizeof(text));
            }
            script_printf(script, "%s'%s' %.9g %d", separator, text, at, labelled ? 0 : 1);
            separator = ", ";
        }
    }
    script_printf(script, ")\nset logscale x 10\nset xrange [%.9g:%.9g]\n", low, high);
}

double script_time_axis(struct script *script, double low, double high, bool log,
                        const char *before, const char *after)
{
    double unit = log || high >= 1 ? 1 : 1e-3;
    const char *name = log ? "logarithmic" : unit == 1 ? "seconds" : "milliseconds";
    autofree char *title = str_printf("%s%s%s", before, name, after);
    char where[64];

    if (log) {
        write_decades(script, low, high);
    } else {
        script_printf(script,
                      "unset logscale x\nset xtics auto\nset format x '%%g'\n"
                      "set xrange [0:%.9g]\n",
                      high / unit);
    }
    script_printf(script, "set grid xtics back lt 1 lw 0.6 lc rgb '#e4e4e4'\n");
    /* A label, because terminals disagree on where set xlabel puts its text. */
    snprintf(where, sizeof(where), "graph 0.5, screen %.5f",
             (script->bottom - 41.0) / script->height);
    script_label(script, title ? title : "", where, "center textcolor rgb '" COLOUR_TEXT "'");
    return unit;
}

/* Characters of UTF-8 text, for how wide it will be. */
static int count_characters(const char *text)
{
    int n = 0;

    for (; *text; text++) {
        n += (*text & 0xc0) != 0x80;
    }
    return n;
}

void script_legend(struct script *script, int y, const char *colour, const char *text)
{
    int wide = 38 + 73 * count_characters(text) / 10;
    int x = script->legend_x ? script->legend_x : LEFT;
    char where[64];

    if (x > LEFT && x + wide > script->width) {
        script->legend_rows++;
        x = LEFT;
    }
    y += 18 * script->legend_rows;
    script_printf(script,
                  "set object rectangle from screen %.5f, screen %.5f to screen %.5f, screen %.5f "
                  "fillstyle solid noborder fillcolor rgb '%s'\n",
                  (double)x / script->width, 1 - (double)(y + 5) / script->height,
                  (double)(x + 14) / script->width, 1 - (double)(y - 5) / script->height, colour);
    snprintf(where, sizeof(where), "screen %.5f, screen %.5f", (x + 20.0) / script->width,
             1 - (double)y / script->height);
    script_label(script, text, where, "left textcolor rgb '" COLOUR_TEXT "'");
    script->legend_x = x + wide;
}

/* ---- running gnuplot ---- */

static int find_gnuplot(char *out, size_t size, struct error *err)
{
    const char *path = getenv("PATH");

    for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin"; *p;) {
        size_t len = strcspn(p, ":");

        if ((size_t)snprintf(out, size, "%.*s/gnuplot", (int)len, p) < size && len > 0 &&
            access(out, X_OK) == 0) {
            return 0;
        }
        p += len + (p[len] == ':');
    }
    return error_set(err, -ENOENT,
                     "gnuplot is not installed: on Debian, apt install gnuplot-nox "
                     "fonts-dejavu-core");
}

/* Where gnuplot says the reason, below the line it did not like. */
static const char *last_line(char *text)
{
    size_t len = text ? strlen(text) : 0;
    char *newline;

    while (len && (text[len - 1] == '\n' || text[len - 1] == ' ')) {
        text[--len] = '\0';
    }
    newline = len ? strrchr(text, '\n') : NULL;
    return newline ? newline + 1 : len ? text : "it said nothing";
}

/* Runs in dir, so that the script names its output without a path and can be run again anywhere. */
static int run_gnuplot(const char *dir, const char *script, struct error *err)
{
    char program[4096];
    const char *argv[] = {"/usr/bin/env", "-C", dir, program, "-d", script, NULL};
    int rc = find_gnuplot(program, sizeof(program), err);
    struct proc_spec spec = {.argv = argv,
                             .output_max = 1 << 20,
                             .deadline_ns = clock_ns() + DRAW_SECONDS * NSEC_PER_SEC};
    struct proc_result result;

    if (rc < 0) {
        return rc;
    }
    rc = proc_run(&spec, &result);
    if (rc < 0) {
        return error_sys(err, rc, "run %s", program);
    }
    if (!proc_ok(&result)) {
        rc = error_set(err, -EIO, "gnuplot %s/%s: %s", dir, script, last_line(result.errout));
    }
    proc_result_clear(&result);
    return rc;
}

static void write_terminals(struct script *script, const char *name, const char *draw)
{
    script_printf(script,
                  "set terminal svg size %d,%d noenhanced font '" SCRIPT_FONT ",12' "
                  "background 'white'\nset output '%s.svg'\n%s\n",
                  script->width, script->height, name, draw);
    script_printf(script,
                  "set terminal pngcairo size %d,%d noenhanced font '" SCRIPT_FONT ",12' "
                  "fontscale 1.5 linewidth 2 pointscale 2\nset output '%s.png'\n%s\n"
                  "unset output\n",
                  2 * script->width, 2 * script->height, name, draw);
}

int script_draw(struct script *script, const char *dir, const char *name, const char *draw,
                struct error *err)
{
    autofree char *file = str_printf("%s.gp", name);
    autofree char *path = str_printf("%s/%s.gp", dir, name);
    int rc = 0;

    write_terminals(script, name, draw);
    if (ferror(script->file) || fclose(take_ptr(script->file)) != 0 || !path || !file) {
        return error_sys(err, -ENOMEM, "script for gnuplot");
    }
    rc = file_write_atomic(path, script->text, script->len, 0644);
    if (rc < 0) {
        return error_sys(err, rc, "write %s", path);
    }
    return run_gnuplot(dir, file, err);
}
