/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus' text format; pure writing, called by whoever has something to count. */
#include "agent/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *const type_names[] = {
    [METRICS_COUNTER] = "counter",
    [METRICS_GAUGE] = "gauge",
    [METRICS_HISTOGRAM] = "histogram",
};

/* A backslash before what the format gives a meaning; quotes have one in labels only. */
static void put_escaped(FILE *to, const char *text, bool quotes)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            fputs("\\n", to);
            continue;
        }
        if (*text == '\\' || (quotes && *text == '"')) {
            putc('\\', to);
        }
        putc(*text, to);
    }
}

static void put_label(FILE *to, char before, const char *name, const char *value)
{
    autofree char *copy = strdup(value);

    if (copy != NULL) {
        str_make_utf8(copy);
    }
    fprintf(to, "%c%s=\"", before, name);
    put_escaped(to, copy != NULL ? copy : "", true);
    putc('"', to);
}

/* The name with its labels, and a space; le is one more label for a histogram's buckets. */
static void put_name(FILE *to, const char *name, const char *suffix,
                     const struct metrics_label *labels, const char *le)
{
    char before = '{';

    fprintf(to, "%s%s", name, suffix);
    for (; labels != NULL && labels->name != NULL; labels++) {
        put_label(to, before, labels->name, labels->value);
        before = ',';
    }
    if (le != NULL) {
        put_label(to, before, "le", le);
        before = ',';
    }
    fputs(before == ',' ? "} " : " ", to);
}

static void put_double(FILE *to, double value)
{
    if (isnan(value)) {
        fputs("NaN\n", to);
    } else if (isinf(value)) {
        fputs(value > 0 ? "+Inf\n" : "-Inf\n", to);
    } else {
        fprintf(to, "%.15g\n", value);
    }
}

void metrics_family(FILE *to, enum metrics_type type, const char *name, const char *help)
{
    fprintf(to, "# HELP %s ", name);
    put_escaped(to, help, false);
    fprintf(to, "\n# TYPE %s %s\n", name, type_names[type]);
}

void metrics_count(FILE *to, const char *name, const struct metrics_label *labels, uint64_t value)
{
    put_name(to, name, "", labels, NULL);
    fprintf(to, "%" PRIu64 "\n", value);
}

void metrics_value(FILE *to, const char *name, const struct metrics_label *labels, double value)
{
    put_name(to, name, "", labels, NULL);
    put_double(to, value);
}

void metrics_histogram(FILE *to, const char *name, const struct metrics_label *labels,
                       const struct histogram *histogram)
{
    uint64_t so_far = 0;

    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        char le[32];

        so_far += histogram->counts[i];
        snprintf(le, sizeof(le), "%.15g", histogram_bounds[i]);
        put_name(to, name, "_bucket", labels, le);
        fprintf(to, "%" PRIu64 "\n", so_far);
    }
    put_name(to, name, "_bucket", labels, "+Inf");
    fprintf(to, "%" PRIu64 "\n", histogram->n);
    put_name(to, name, "_sum", labels, NULL);
    put_double(to, histogram->sum);
    put_name(to, name, "_count", labels, NULL);
    fprintf(to, "%" PRIu64 "\n", histogram->n);
}

void metrics_counter(FILE *to, const char *name, const char *help, uint64_t value)
{
    metrics_family(to, METRICS_COUNTER, name, help);
    metrics_count(to, name, NULL, value);
}

void metrics_gauge(FILE *to, const char *name, const char *help, double value)
{
    metrics_family(to, METRICS_GAUGE, name, help);
    metrics_value(to, name, NULL, value);
}
