/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Percentiles and bootstrap intervals. Under reports and comparisons; above nothing but the C
 * library.
 */
#include "stats/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Enough that the ends of a 95 % interval move by less than what a run's noise is. */
#define RESAMPLES 10000

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void stats_sort(double *values, size_t n)
{
    if (n > 1) {
        qsort(values, n, sizeof(*values), compare_double);
    }
}

double stats_percentile(const double *sorted, size_t n, double p)
{
    double place;
    size_t below;

    if (n == 0 || isnan(p)) {
        return NAN;
    }
    place = (double)(n - 1) * fmin(fmax(p, 0), 100) / 100;
    below = (size_t)place;
    if (below + 1 >= n || place == (double)below || sorted[below] == sorted[below + 1]) {
        return sorted[below]; /* two infinities have no difference to interpolate in */
    }
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

/* Sorts what it is given. */
static double median_of(double *values, size_t n)
{
    stats_sort(values, n);
    return stats_percentile(values, n, 50);
}

double stats_median(const double *values, size_t n)
{
    double *copy = n ? calloc(n, sizeof(*copy)) : NULL;
    double median = NAN;

    if (copy) {
        memcpy(copy, values, n * sizeof(*copy));
        median = median_of(copy, n);
        free(copy);
    }
    return median;
}

double stats_mean(const double *values, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += values[i];
    }
    return n ? sum / (double)n : NAN;
}

/* splitmix64 (Steele, Lea, Flood 2014): small, and good from any seed. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* Median of n values drawn from values with replacement; room has space for n. */
static double resampled_median(const double *values, size_t n, double *room, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) {
        /* The high half of the product is uniform in [0, n): no division, no bias to speak of. */
        room[i] = values[(size_t)(((unsigned __int128)random_next(state) * n) >> 64)];
    }
    return median_of(room, n);
}

struct stats_interval stats_ratio(const double *a, size_t na, const double *b, size_t nb,
                                  double confidence, uint64_t seed)
{
    struct stats_interval interval = {NAN, NAN, NAN};
    double tail = (1 - confidence) / 2 * 100;
    double *estimates, *room;
    size_t n = 0;

    if (na == 0 || nb == 0) {
        return interval;
    }
    interval.point = stats_median(a, na) / stats_median(b, nb);
    estimates = calloc(RESAMPLES, sizeof(*estimates));
    room = calloc(na > nb ? na : nb, sizeof(*room));
    while (estimates && room && n < RESAMPLES) {
        double estimate = resampled_median(a, na, room, &seed);

        estimate /= resampled_median(b, nb, room, &seed);
        if (isnan(estimate)) {
            break;
        }
        estimates[n++] = estimate;
    }
    if (n == RESAMPLES) {
        stats_sort(estimates, n);
        interval.low = stats_percentile(estimates, n, tail);
        interval.high = stats_percentile(estimates, n, 100 - tail);
    }
    free(estimates);
    free(room);
    return interval;
}
