/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms of durations with fixed bounds, so that any two can be added up. */
#include "stats/stats.h"

const double histogram_bounds[HISTOGRAM_BOUNDS] = {1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3,
                                                   5e-3, 0.01, 0.02, 0.05, 0.1,  0.2,  0.5,  1,
                                                   2,    5,    10,   20,   50,   100};

void histogram_add(struct histogram *histogram, int64_t duration_ns)
{
    double seconds = (double)duration_ns / 1e9;
    size_t i = 0;

    while (i < HISTOGRAM_BOUNDS && seconds > histogram_bounds[i]) {
        i++;
    }
    histogram->counts[i]++;
    histogram->n++;
    histogram->sum += seconds;
}
