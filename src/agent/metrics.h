/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small writer of Prometheus' text format 0.0.4
 * (prometheus.io/docs/instrumenting/exposition_formats). A family's line comes first, then its
 * samples. The caller looks at ferror once, at the end.
 */
#pragma once

#include "base/base.h"
#include "stats/stats.h"

/* What Content-Type says of it. */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

/* Labels are arrays that end with a NULL name; NULL instead of an array: none. Values may be any
 * bytes; what is not UTF-8 becomes '?'. */
struct metrics_label {
    const char *name, *value;
};

/* The HELP and TYPE lines, once for all samples of that name. */
void metrics_family(FILE *to, enum metrics_type type, const char *name, const char *help);

/* One sample of a counter or gauge. */
void metrics_count(FILE *to, const char *name, const struct metrics_label *labels, uint64_t value);
void metrics_value(FILE *to, const char *name, const struct metrics_label *labels, double value);

/* One sample of a histogram, in seconds: cumulative buckets, sum and count. */
void metrics_histogram(FILE *to, const char *name, const struct metrics_label *labels,
                       const struct histogram *histogram);

/* A family of one sample without labels. */
void metrics_counter(FILE *to, const char *name, const char *help, uint64_t value);
void metrics_gauge(FILE *to, const char *name, const char *help, double value);
