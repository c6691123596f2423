/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles and bootstrap intervals over samples. Pure; calls nothing but the C library. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Sorts in place, ascending. */
void stats_sort(double *values, size_t n);

/* The p-th percentile (0..100) of sorted values by linear interpolation between closest ranks
 * (Hyndman & Fan 1996, type 7); NaN when n is 0. */
double stats_percentile(const double *sorted, size_t n, double p);
double stats_median(const double *values, size_t n); /* of unsorted values; NaN when n is 0 */
double stats_mean(const double *values, size_t n);   /* NaN when n is 0 */

struct stats_interval {
    double low, point, high;
};

/*
 * Ratio of medians a/b with a percentile bootstrap interval (Efron 1979) of the confidence given
 * (0.95). Deterministic for a seed. NaNs when either is empty; NaN ends when memory is out or a
 * resample is 0/0.
 */
struct stats_interval stats_ratio(const double *a, size_t na, const double *b, size_t nb,
                                  double confidence, uint64_t seed);

/* ---- histograms (histogram.c) ---- */

/*
 * Counts of durations by size, for metrics: bounds go 1, 2, 5 from 10 us to 100 s, and then
 * infinity. No lock.
 */
#define HISTOGRAM_BOUNDS 22

struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* the last: above every bound */
    uint64_t n;
    double sum; /* seconds */
};

extern const double histogram_bounds[HISTOGRAM_BOUNDS]; /* seconds */

void histogram_add(struct histogram *histogram, int64_t duration_ns);
