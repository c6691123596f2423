/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What was written since text_open; one test at a time. */
static char *text;
static size_t text_len;

static FILE *text_open(void)
{
    FILE *to = open_memstream(&text, &text_len);

    assert_non_null(to);
    return to;
}

static void assert_text(FILE *to, const char *expected)
{
    assert_int_equal(ferror(to), 0);
    fclose(to);
    assert_string_equal(text, expected);
    free(text);
}

static void test_counter_and_gauge_have_help_type_and_value(void **state)
{
    FILE *to = text_open();

    (void)state;
    metrics_counter(to, "a_total", "How many.", UINT64_MAX);
    metrics_gauge(to, "b", "Now.", 0.5);
    assert_text(to,
                "# HELP a_total How many.\n# TYPE a_total counter\na_total 18446744073709551615\n"
                "# HELP b Now.\n# TYPE b gauge\nb 0.5\n");
}

static void test_samples_of_one_family_carry_labels(void **state)
{
    const struct metrics_label one[] = {{"stage", "cni"}, {NULL}};
    const struct metrics_label two[] = {{"stage", "vm"}, {"tenant", ""}, {NULL}};
    const struct metrics_label none[] = {{NULL}};
    FILE *to = text_open();

    (void)state;
    metrics_family(to, METRICS_GAUGE, "held", "Permits.");
    metrics_count(to, "held", one, 3);
    metrics_value(to, "held", two, 1e-5);
    metrics_count(to, "held", none, 0);
    assert_text(to, "# HELP held Permits.\n# TYPE held gauge\nheld{stage=\"cni\"} 3\n"
                    "held{stage=\"vm\",tenant=\"\"} 1e-05\nheld 0\n");
}

static void test_what_has_a_meaning_is_escaped(void **state)
{
    const struct metrics_label labels[] = {{"tenant", "a\"b\\c\nd\xff"}, {NULL}};
    FILE *to = text_open();

    (void)state;
    metrics_family(to, METRICS_COUNTER, "x", "one \\ two\nthree \"four\"");
    metrics_count(to, "x", labels, 1);
    assert_text(to, "# HELP x one \\\\ two\\nthree \"four\"\n# TYPE x counter\n"
                    "x{tenant=\"a\\\"b\\\\c\\nd?\"} 1\n");
}

static void test_values_that_are_no_numbers(void **state)
{
    FILE *to = text_open();

    (void)state;
    metrics_value(to, "x", NULL, NAN);
    metrics_value(to, "x", NULL, INFINITY);
    metrics_value(to, "x", NULL, -INFINITY);
    assert_text(to, "x NaN\nx +Inf\nx -Inf\n");
}

static void test_histogram_buckets_are_cumulative(void **state)
{
    const struct metrics_label labels[] = {{"stage", "cni"}, {NULL}};
    struct histogram histogram = {0};
    FILE *to = text_open();
    size_t buckets = 0;

    (void)state;
    histogram_add(&histogram, 10000);               /* on the first bound */
    histogram_add(&histogram, 3 * NSEC_PER_MSEC);   /* up to 5 ms */
    histogram_add(&histogram, 1000 * NSEC_PER_SEC); /* above every bound */
    metrics_histogram(to, "wait", labels, &histogram);
    fclose(to);
    for (const char *at = text; (at = strstr(at, "wait_bucket{stage=\"cni\",le=")) != NULL; at++) {
        buckets++;
    }
    assert_int_equal(buckets, HISTOGRAM_BOUNDS + 1);
    assert_non_null(strstr(text, "wait_bucket{stage=\"cni\",le=\"1e-05\"} 1\n"));
    assert_non_null(strstr(text, "wait_bucket{stage=\"cni\",le=\"0.002\"} 1\n"));
    assert_non_null(strstr(text, "wait_bucket{stage=\"cni\",le=\"0.005\"} 2\n"));
    assert_non_null(strstr(text, "wait_bucket{stage=\"cni\",le=\"100\"} 2\n"));
    assert_non_null(strstr(text, "wait_bucket{stage=\"cni\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "wait_sum{stage=\"cni\"} 1000.00301\n"));
    assert_non_null(strstr(text, "wait_count{stage=\"cni\"} 3\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter_and_gauge_have_help_type_and_value),
        cmocka_unit_test(test_samples_of_one_family_carry_labels),
        cmocka_unit_test(test_what_has_a_meaning_is_escaped),
        cmocka_unit_test(test_values_that_are_no_numbers),
        cmocka_unit_test(test_histogram_buckets_are_cumulative),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
