/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "stats/stats.h"

#include <math.h>

static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * fmax(1, fabs(expected)))) {
        fail_msg("%.17g is not %.17g", value, expected);
    }
}

static void test_sort(void **state)
{
    double values[] = {3, -1, 2, 2, INFINITY, 0};
    const double expected[] = {-1, 0, 2, 2, 3, INFINITY};

    (void)state;
    stats_sort(values, ARRAY_SIZE(values));
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        assert_true(values[i] == expected[i]);
    }
    stats_sort(NULL, 0);
}

/* The expected values are R's: quantile(x, p, type = 7). */
static void test_percentile(void **state)
{
    const double four[] = {1, 2, 4, 8};
    const double one[] = {7};

    (void)state;
    assert_near(stats_percentile(four, 4, 0), 1);
    assert_near(stats_percentile(four, 4, 25), 1.75);
    assert_near(stats_percentile(four, 4, 50), 3);
    assert_near(stats_percentile(four, 4, 90), 6.8);
    assert_near(stats_percentile(four, 4, 99), 7.88);
    assert_near(stats_percentile(four, 4, 100), 8);
    assert_near(stats_percentile(one, 1, 99), 7);
    assert_near(stats_percentile(four, 4, -5), 1);
    assert_near(stats_percentile(four, 4, 500), 8);
    assert_true(isnan(stats_percentile(NULL, 0, 50)));
    assert_true(isnan(stats_percentile(four, 4, NAN)));
}

static void test_infinite_neighbour(void **state)
{
    const double values[] = {1, INFINITY};

    (void)state;
    assert_near(stats_percentile(values, 2, 0), 1);
    assert_true(isinf(stats_percentile(values, 2, 50)));
}

static void test_median_and_mean(void **state)
{
    const double odd[] = {9, 1, 5}, even[] = {4, 1, 3, 2};

    (void)state;
    assert_near(stats_median(odd, 3), 5);
    assert_near(stats_median(even, 4), 2.5);
    assert_near(odd[0], 9); /* the caller's order stays */
    assert_near(stats_mean(even, 4), 2.5);
    assert_true(isnan(stats_median(NULL, 0)));
    assert_true(isnan(stats_mean(NULL, 0)));
}

static void test_ratio(void **state)
{
    const double a[] = {10.0, 10.4, 9.8, 10.1, 10.2}, b[] = {5.0, 5.2, 4.9, 5.1, 5.05};
    struct stats_interval first = stats_ratio(a, 5, b, 5, 0.95, 1);
    struct stats_interval again = stats_ratio(a, 5, b, 5, 0.95, 1);
    struct stats_interval narrow = stats_ratio(a, 5, b, 5, 0.5, 1);

    (void)state;
    assert_near(first.point, 10.1 / 5.05);
    assert_true(first.low < first.point && first.point < first.high);
    assert_true(first.low > 1.8 && first.high < 2.2);
    assert_memory_equal(&first, &again, sizeof(first));
    assert_true(narrow.high - narrow.low < first.high - first.low);
}

static void test_nothing_to_divide(void **state)
{
    const double a[] = {1, 2}, zero[] = {0, 0};
    struct stats_interval none = stats_ratio(NULL, 0, a, 2, 0.95, 1);
    struct stats_interval undefined = stats_ratio(zero, 2, zero, 2, 0.95, 1);
    struct stats_interval endless = stats_ratio(a, 2, zero, 2, 0.95, 1);

    (void)state;
    assert_true(isnan(none.low) && isnan(none.point) && isnan(none.high));
    none = stats_ratio(a, 2, NULL, 0, 0.95, 1);
    assert_true(isnan(none.low) && isnan(none.point) && isnan(none.high));
    assert_true(isnan(undefined.point) && isnan(undefined.low));
    assert_true(isinf(endless.point) && isinf(endless.low));
}

/* Roughly normal: twelve uniform numbers less six, from a generator of the test's own. */
static double noise(uint64_t *state)
{
    double sum = -6;

    for (int i = 0; i < 12; i++) {
        *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
        sum += (double)(*state >> 11) / 9007199254740992.0;
    }
    return sum;
}

/* A 95 % interval holds the true ratio about 95 times in 100: 200 trials, with room for chance. */
static void test_coverage(void **state)
{
    const double one[] = {1};
    uint64_t random = 42;
    int held = 0;

    (void)state;
    for (int trial = 0; trial < 200; trial++) {
        double values[15];
        struct stats_interval interval;

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
            values[i] = 100 + noise(&random);
        }
        interval = stats_ratio(values, ARRAY_SIZE(values), one, 1, 0.95, (uint64_t)trial);
        held += interval.low <= 100 && 100 <= interval.high;
    }
    assert_in_range(held, 180, 198);
}

static void test_histogram_counts_by_size(void **state)
{
    static const int64_t durations_ns[] = {
        -5, 0, 10000, 10001, 20000, 20001, 1000000000LL, 1000000001LL, 99999999999, 100000000000};
    struct histogram h = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(durations_ns); i++) {
        histogram_add(&h, durations_ns[i]);
    }
    assert_int_equal(h.n, 10);
    assert_int_equal(h.counts[0], 3); /* a bound belongs to what is below it */
    assert_int_equal(h.counts[1], 2);
    assert_int_equal(h.counts[2], 1);
    assert_int_equal(h.counts[15], 1);
    assert_int_equal(h.counts[16], 1);
    assert_int_equal(h.counts[HISTOGRAM_BOUNDS - 1], 2);
    assert_int_equal(h.counts[HISTOGRAM_BOUNDS], 0);
    assert_near(h.sum, 202.000059997);
}

static void test_histogram_has_no_longest_duration(void **state)
{
    struct histogram h = {0};

    (void)state;
    histogram_add(&h, 100000000001);
    histogram_add(&h, INT64_MAX);
    assert_int_equal(h.counts[HISTOGRAM_BOUNDS], 2);
    assert_int_equal(h.n, 2);
}

/* 1, 2, 5 from 10 us to 100 s. */
static void test_histogram_bounds(void **state)
{
    static const double steps[] = {1, 2, 5};

    (void)state;
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        assert_near(histogram_bounds[i] / (steps[i % 3] * pow(10, -5 + i / 3)), 1);
    }
    assert_near(histogram_bounds[HISTOGRAM_BOUNDS - 1], 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_percentile),
        cmocka_unit_test(test_infinite_neighbour),
        cmocka_unit_test(test_median_and_mean),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_nothing_to_divide),
        cmocka_unit_test(test_coverage),
        cmocka_unit_test(test_histogram_counts_by_size),
        cmocka_unit_test(test_histogram_has_no_longest_duration),
        cmocka_unit_test(test_histogram_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
