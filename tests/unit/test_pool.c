/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEC  NSEC_PER_SEC
#define MSEC NSEC_PER_MSEC
#define T0   (1000 * SEC) /* any time will do */
#define MANY 1000000u

static struct pool *new_pool(unsigned floor, unsigned target, unsigned maximum, unsigned rate,
                             int64_t cool_down_ns)
{
    const struct pool_limits limits = {floor, target, maximum, rate, cool_down_ns};
    struct pool *pool = NULL;

    assert_int_equal(pool_limits_check(&limits, NULL), 0);
    assert_int_equal(pool_new(&limits, &pool), 0);
    return pool;
}

static void set_limits(struct pool *pool, unsigned floor, unsigned target, unsigned maximum,
                       unsigned rate, int64_t cool_down_ns)
{
    const struct pool_limits limits = {floor, target, maximum, rate, cool_down_ns};

    pool_set_limits(pool, &limits);
    assert_memory_equal(pool_get_limits(pool), &limits, sizeof(limits));
}

static void adopt(struct pool *pool, struct pool_part *parts, size_t n, int64_t now_ns)
{
    for (size_t i = 0; i < n; i++) {
        pool_adopt(pool, &parts[i], now_ns);
        assert_int_equal(parts[i].state, POOL_PART_FREE);
    }
}

static void assert_holds(const struct pool *pool, int64_t now_ns, size_t n_free, size_t n_cooling,
                         size_t n_making)
{
    struct pool_view view;

    pool_view(pool, now_ns, &view);
    assert_int_equal(view.free, n_free);
    assert_int_equal(view.cooling, n_cooling);
    assert_int_equal(view.making, n_making);
}

/* ---- limits ---- */

static void test_defaults_are_no_pool(void **state)
{
    const struct pool_limits *limits = &pool_limits_default;

    (void)state;
    assert_int_equal(pool_limits_check(limits, NULL), 0);
    assert_int_equal(limits->floor, 0);
    assert_int_equal(limits->target, 0);
    assert_int_equal(limits->rate, 200);
    assert_int_equal(limits->cool_down_ns, 2 * SEC);
}

static void test_limits_out_of_bounds_are_named(void **state)
{
    static const struct {
        struct pool_limits limits;
        const char *text; /* NULL: they are fine */
    } cases[] = {
        {{100000, 100000, 100000, 100000, 3600 * SEC}, NULL},
        {{0, 0, 0, 1, 0}, NULL},
        {{0, 0, 5, 1, 0}, NULL},
        {{3, 2, 4, 1, 0}, "floor 3, target 2, maximum 4: must be floor <= target <= maximum <= "},
        {{1, 5, 4, 1, 0}, "floor 1, target 5, maximum 4: must be"},
        {{1, 2, 100001, 1, 0}, "maximum 100001: must be floor <= target <= maximum <= 100000"},
        {{1, 2, 4, 0, 0}, "rate 0: must be 1 to 100000"},
        {{1, 2, 4, 100001, 0}, "rate 100001: must be 1 to 100000"},
        {{1, 2, 4, 1, -1}, "cool-down -1 ns: must be 0 to an hour"},
        {{1, 2, 4, 1, 3600 * SEC + 1}, "cool-down 3600000000001 ns: must be"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};

        assert_int_equal(pool_limits_check(&cases[i].limits, &err), cases[i].text ? -EINVAL : 0);
        assert_non_null(strstr(err.text, cases[i].text ? cases[i].text : ""));
    }
}

/* ---- taking and giving back ---- */

static void test_longest_free_is_taken_first(void **state)
{
    struct pool *pool = new_pool(0, 4, 8, 100, 2 * SEC);
    struct pool_part parts[4] = {0};

    (void)state;
    pool_adopt(pool, &parts[0], T0);
    assert_ptr_equal(pool_take(pool, T0), &parts[0]);
    assert_int_equal(parts[0].state, POOL_PART_NONE);
    pool_adopt(pool, &parts[1], T0);
    assert_true(pool_give(pool, &parts[0], T0));   /* free at T0 + 2 s */
    pool_adopt(pool, &parts[2], T0 + 2 * SEC - 1); /* just before it */
    assert_int_equal(pool_to_make(pool, T0 + 2 * SEC + 1, true, 1), 1);
    pool_made(pool, &parts[3], T0 + 2 * SEC + 1); /* just after */
    assert_ptr_equal(pool_take(pool, T0 + 3 * SEC), &parts[1]);
    assert_ptr_equal(pool_take(pool, T0 + 3 * SEC), &parts[2]);
    assert_ptr_equal(pool_take(pool, T0 + 3 * SEC), &parts[0]);
    assert_ptr_equal(pool_take(pool, T0 + 3 * SEC), &parts[3]);
    assert_null(pool_take(pool, T0 + 3 * SEC));
    pool_free(pool);
}

static void test_given_part_cools_before_it_is_free(void **state)
{
    struct pool *pool = new_pool(0, 1, 1, 100, 2 * SEC);
    struct pool_part part = {.number = 7};

    (void)state;
    assert_true(pool_give(pool, &part, T0));
    assert_int_equal(part.state, POOL_PART_COOLING);
    assert_int_equal(part.since_ns, T0);
    assert_holds(pool, T0 + 2 * SEC - 1, 0, 1, 0);
    assert_null(pool_take(pool, T0 + 2 * SEC - 1));
    assert_holds(pool, T0 + 2 * SEC, 1, 0, 0);
    assert_ptr_equal(pool_take(pool, T0 + 2 * SEC), &part);
    assert_int_equal(part.number, 7);

    set_limits(pool, 0, 1, 1, 100, 0);
    assert_true(pool_give(pool, &part, T0 + 3 * SEC));
    assert_ptr_equal(pool_take(pool, T0 + 3 * SEC), &part);
    pool_free(pool);
}

static void test_changed_cool_down_holds_for_what_cools_already(void **state)
{
    struct pool *pool = new_pool(0, 2, 4, 100, 10 * SEC);
    struct pool_part parts[2] = {0};

    (void)state;
    assert_true(pool_give(pool, &parts[0], T0));
    set_limits(pool, 0, 2, 4, 100, SEC);
    assert_true(pool_give(pool, &parts[1], T0 + SEC - 1));
    assert_null(pool_take(pool, T0 + SEC - 1));
    assert_ptr_equal(pool_take(pool, T0 + SEC), &parts[0]);
    set_limits(pool, 0, 2, 4, 100, 20 * SEC);
    assert_null(pool_take(pool, T0 + 21 * SEC - 2));
    assert_ptr_equal(pool_take(pool, T0 + 21 * SEC - 1), &parts[1]);
    pool_free(pool);
}

static void test_give_beyond_the_maximum_is_refused(void **state)
{
    struct pool *pool = new_pool(0, 2, 3, 100, SEC);
    struct pool_part parts[4] = {0};

    (void)state;
    adopt(pool, parts, 1, T0);
    assert_true(pool_give(pool, &parts[1], T0));
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 1);
    /* One free, one cooling, one being made. */
    assert_false(pool_give(pool, &parts[2], T0));
    assert_int_equal(parts[2].state, POOL_PART_NONE);
    pool_failed(pool, T0);
    assert_true(pool_give(pool, &parts[2], T0));
    assert_false(pool_give(pool, &parts[3], T0));
    pool_free(pool);
}

/* ---- making ---- */

static void test_refills_to_the_target_and_counts_what_is_being_made(void **state)
{
    struct pool *pool = new_pool(0, 5, 10, 100, SEC);
    struct pool_part parts[5] = {0};

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, 2), 2);
    assert_int_equal(pool_to_make(pool, T0, true, 0), 0);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 3);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    for (size_t i = 0; i < 5; i++) {
        pool_made(pool, &parts[i], T0);
        assert_int_equal(parts[i].state, POOL_PART_FREE);
    }
    assert_int_equal(pool_to_make(pool, T0 + SEC, true, MANY), 0);
    pool_take(pool, T0 + SEC);
    assert_int_equal(pool_to_make(pool, T0 + SEC, true, MANY), 1);
    pool_free(pool);
}

static void test_cooling_parts_are_not_counted_as_free_but_as_room_taken(void **state)
{
    struct pool *pool = new_pool(0, 3, 4, 100, SEC);
    struct pool_part parts[2] = {0};

    (void)state;
    assert_true(pool_give(pool, &parts[0], T0));
    assert_true(pool_give(pool, &parts[1], T0));
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 2); /* not 1, nor 3 */
    pool_free(pool);
}

static void test_refills_only_when_idle_except_below_the_floor(void **state)
{
    struct pool *pool = new_pool(2, 5, 5, 100, SEC);
    struct pool_part parts[5] = {0};

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, false, MANY), 2);
    pool_made(pool, &parts[0], T0);
    pool_made(pool, &parts[1], T0);
    assert_int_equal(pool_to_make(pool, T0, false, MANY), 0);
    assert_int_equal(pool_next_ns(pool, T0), INT64_MAX); /* busy: not by time alone */
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 3);
    for (size_t i = 2; i < 5; i++) {
        pool_made(pool, &parts[i], T0);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_ptr_equal(pool_take(pool, T0), &parts[i]);
    }
    assert_int_equal(pool_to_make(pool, T0, false, MANY), 1);
    pool_free(pool);
}

static void test_makes_a_seconds_worth_at_once_and_then_the_rate(void **state)
{
    struct pool *pool = new_pool(0, 100, 100, 3, SEC);
    int64_t third = SEC / 3 + 1; /* rounded up: the first nanosecond at which a part is earned */

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 3);
    assert_int_equal(pool_next_ns(pool, T0), T0 + third);
    assert_int_equal(pool_to_make(pool, T0 + third - 1, true, MANY), 0);
    assert_int_equal(pool_next_ns(pool, T0 + third - 1), T0 + third);
    assert_int_equal(pool_to_make(pool, T0 + third, true, MANY), 1);
    /* Asking often loses nothing to rounding: three in the second, not two. */
    for (int64_t t = third; t < SEC; t += 1001) {
        pool_to_make(pool, T0 + t, true, MANY);
    }
    assert_int_equal(pool_to_make(pool, T0 + SEC, true, MANY), 1);
    assert_holds(pool, T0 + SEC, 0, 0, 6);
    assert_int_equal(pool_to_make(pool, T0 + 3600 * SEC, true, MANY), 3);
    pool_free(pool);
}

static void test_changed_rate_gives_no_more_than_its_seconds_worth(void **state)
{
    struct pool *pool = new_pool(0, 1000, 1000, 100, SEC);

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, 0), 0);
    set_limits(pool, 0, 1000, 1000, 10, SEC);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 10);
    set_limits(pool, 0, 1000, 1000, 200, SEC);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    assert_int_equal(pool_next_ns(pool, T0), T0 + 5 * MSEC);
    assert_int_equal(pool_to_make(pool, T0 + 5 * MSEC, true, MANY), 1);
    pool_free(pool);
}

static void test_waits_longer_after_every_failure_until_one_succeeds(void **state)
{
    static const int64_t waits_ms[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    struct pool *pool = new_pool(0, 1, 1, 100, SEC);
    struct pool_part part = {0};
    int64_t now_ns = T0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(waits_ms); i++) {
        assert_int_equal(pool_to_make(pool, now_ns, true, MANY), 1);
        pool_failed(pool, now_ns);
        assert_int_equal(pool_next_ns(pool, now_ns), now_ns + waits_ms[i] * MSEC);
        now_ns += waits_ms[i] * MSEC;
        assert_int_equal(pool_to_make(pool, now_ns - 1, true, MANY), 0);
    }
    assert_int_equal(pool_to_make(pool, now_ns, true, MANY), 1);
    pool_made(pool, &part, now_ns);
    pool_take(pool, now_ns);
    assert_int_equal(pool_to_make(pool, now_ns, true, MANY), 1);
    pool_failed(pool, now_ns);
    assert_int_equal(pool_next_ns(pool, now_ns), now_ns + 100 * MSEC);
    pool_free(pool);
}

static void test_failures_of_one_batch_are_one_failure(void **state)
{
    struct pool *pool = new_pool(0, 50, 50, 100, SEC);

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 50);
    for (size_t i = 0; i < 50; i++) {
        pool_failed(pool, T0 + (int64_t)i * MSEC);
    }
    assert_int_equal(pool_to_make(pool, T0 + 100 * MSEC - 1, true, MANY), 0);
    assert_int_equal(pool_to_make(pool, T0 + 100 * MSEC, true, MANY), 50);
    pool_free(pool);
}

static void test_success_while_waiting_ends_the_wait(void **state)
{
    struct pool *pool = new_pool(0, 4, 4, 100, SEC);
    struct pool_part part = {0};

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, 2), 2);
    pool_failed(pool, T0);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    pool_made(pool, &part, T0);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 3);
    pool_free(pool);
}

/* ---- readiness ---- */

static void test_ready_once_the_floor_was_free_at_one_time(void **state)
{
    struct pool *pool = new_pool(2, 4, 4, 100, SEC);
    struct pool_part parts[2] = {0};

    (void)state;
    assert_false(pool_ready(pool));
    adopt(pool, parts, 1, T0);
    pool_take(pool, T0);
    assert_true(pool_give(pool, &parts[0], T0));
    adopt(pool, &parts[1], 1, T0);
    assert_false(pool_ready(pool)); /* two were free, but not at one time; one cools */
    pool_to_make(pool, pool_next_ns(pool, T0), false, 0);
    assert_false(pool_ready(pool));
    pool_to_make(pool, T0 + SEC, false, 0);
    assert_true(pool_ready(pool));
    pool_take(pool, T0 + SEC);
    pool_take(pool, T0 + SEC);
    set_limits(pool, 4, 4, 4, 100, SEC);
    assert_true(pool_ready(pool)); /* for the first time is for good */
    pool_free(pool);
}

static void test_ready_at_once_without_a_floor_or_when_it_is_lowered(void **state)
{
    struct pool *none = new_pool(0, 4, 4, 100, SEC), *lowered = new_pool(2, 4, 4, 100, SEC);
    struct pool_part part = {0};

    (void)state;
    assert_true(pool_ready(none));
    adopt(lowered, &part, 1, T0);
    assert_false(pool_ready(lowered));
    set_limits(lowered, 1, 4, 4, 100, SEC);
    assert_true(pool_ready(lowered));
    pool_free(none);
    pool_free(lowered);
}

/* ---- adopting, shrinking, draining, removing ---- */

static void test_adopted_beyond_the_maximum_the_longest_free_goes(void **state)
{
    struct pool *pool = new_pool(0, 2, 2, 100, SEC);
    struct pool_part parts[4] = {0};

    (void)state;
    adopt(pool, parts, 4, T0);
    assert_holds(pool, T0, 4, 0, 0);
    assert_int_equal(pool_next_ns(pool, T0), T0);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[0]);
    assert_int_equal(parts[0].state, POOL_PART_NONE);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[1]);
    assert_null(pool_to_remove(pool, T0));
    assert_int_equal(pool_next_ns(pool, T0), INT64_MAX);
    pool_free(pool);
}

static void test_shrinking_yields_free_before_cooling_parts(void **state)
{
    struct pool *pool = new_pool(0, 6, 6, 100, SEC);
    struct pool_part parts[6] = {0};

    (void)state;
    assert_true(pool_give(pool, &parts[0], T0));
    assert_true(pool_give(pool, &parts[1], T0));
    assert_int_equal(pool_to_make(pool, T0, true, 1), 1);
    adopt(pool, &parts[2], 2, T0);
    assert_null(pool_to_remove(pool, T0));
    set_limits(pool, 0, 1, 1, 100, SEC);
    assert_int_equal(pool_next_ns(pool, T0), T0);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[2]);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[3]);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[0]);
    assert_null(pool_to_remove(pool, T0));
    pool_made(pool, &parts[4], T0); /* was under way: one too many now */
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[4]);
    assert_null(pool_to_remove(pool, T0));
    assert_ptr_equal(pool_take(pool, T0 + SEC), &parts[1]);
    pool_free(pool);
}

static void test_draining_gives_up_all_until_limits_are_set(void **state)
{
    struct pool *pool = new_pool(1, 4, 8, 100, SEC);
    struct pool_part parts[5] = {0};
    struct pool_view view;

    (void)state;
    adopt(pool, parts, 2, T0);
    assert_true(pool_give(pool, &parts[2], T0));
    assert_int_equal(pool_to_make(pool, T0, true, 1), 1);
    pool_drain(pool);
    pool_view(pool, T0, &view);
    assert_true(view.draining);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    assert_false(pool_give(pool, &parts[4], T0));
    assert_ptr_equal(pool_take(pool, T0), &parts[0]); /* it is good still */
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[1]);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[2]);
    assert_null(pool_to_remove(pool, T0));
    assert_int_equal(pool_next_ns(pool, T0), INT64_MAX);
    pool_made(pool, &parts[3], T0);
    assert_int_equal(pool_next_ns(pool, T0), T0);
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[3]);
    assert_int_equal(pool_to_make(pool, T0, false, MANY), 0);

    pool_set_limits(pool, pool_get_limits(pool));
    pool_view(pool, T0, &view);
    assert_false(view.draining);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 4);
    pool_free(pool);
}

static void test_pool_with_target_0_makes_nothing_and_always_misses(void **state)
{
    struct pool *pool = new_pool(0, 0, 5, 100, SEC);
    struct pool_part parts[2] = {0};
    struct pool_view view;

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    assert_null(pool_take(pool, T0));
    assert_false(pool_give(pool, &parts[0], T0));
    assert_int_equal(pool_next_ns(pool, T0), INT64_MAX);
    pool_adopt(pool, &parts[1], T0);
    assert_null(pool_take(pool, T0));
    assert_ptr_equal(pool_to_remove(pool, T0), &parts[1]);
    assert_true(pool_ready(pool));
    pool_view(pool, T0, &view);
    assert_int_equal(view.misses, 2);
    pool_free(pool);
}

static void test_certain_part_is_taken_out(void **state)
{
    struct pool *pool = new_pool(0, 3, 4, 100, SEC);
    struct pool_part parts[4] = {0};

    (void)state;
    adopt(pool, parts, 3, T0);
    assert_true(pool_give(pool, &parts[3], T0));
    pool_remove(pool, &parts[1]);
    pool_remove(pool, &parts[3]);
    assert_int_equal(parts[1].state, POOL_PART_NONE);
    assert_int_equal(parts[3].state, POOL_PART_NONE);
    assert_holds(pool, T0, 2, 0, 0);
    assert_ptr_equal(pool_take(pool, T0), &parts[0]);
    assert_ptr_equal(pool_take(pool, T0), &parts[2]);
    assert_null(pool_take(pool, T0 + SEC));
    pool_free(pool);
    pool_free(NULL);
}

static void test_everything_is_counted(void **state)
{
    struct pool *pool = new_pool(0, 2, 2, 100, SEC);
    struct pool_part parts[4] = {0};
    struct pool_view view;

    (void)state;
    assert_null(pool_take(pool, T0));
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 2);
    pool_made(pool, &parts[0], T0);
    pool_failed(pool, T0);
    assert_ptr_equal(pool_take(pool, T0), &parts[0]);
    adopt(pool, &parts[1], 3, T0);
    assert_false(pool_give(pool, &parts[0], T0)); /* given and removed */
    assert_non_null(pool_to_remove(pool, T0));
    pool_remove(pool, &parts[3]);
    assert_true(pool_give(pool, &parts[3], T0));
    pool_view(pool, T0, &view);
    assert_memory_equal(&view.limits, pool_get_limits(pool), sizeof(view.limits));
    assert_true(view.ready);
    assert_int_equal(view.hits, 1);
    assert_int_equal(view.misses, 1);
    assert_int_equal(view.made, 1);
    assert_int_equal(view.failed, 1);
    assert_int_equal(view.given, 2);
    assert_int_equal(view.removed, 3);
    pool_free(pool);
}

/* ---- sleeping until pool_next_ns ---- */

static void test_next_is_at_once_as_long_as_more_may_be_made(void **state)
{
    struct pool *pool = new_pool(0, 5, 5, 100, SEC);

    (void)state;
    assert_int_equal(pool_next_ns(pool, T0), T0); /* never asked */
    assert_int_equal(pool_to_make(pool, T0, true, 4), 4);
    assert_int_equal(pool_next_ns(pool, T0), T0);
    assert_int_equal(pool_to_make(pool, T0, true, 0), 0);
    assert_int_equal(pool_next_ns(pool, T0), INT64_MAX); /* the caller can take no more */
    assert_int_equal(pool_to_make(pool, T0, true, 4), 1);
    assert_int_equal(pool_next_ns(pool, T0), INT64_MAX);
    pool_free(pool);
}

static void test_time_that_goes_back_does_no_harm(void **state)
{
    struct pool *pool = new_pool(0, 8, 8, 2, SEC);
    struct pool_part part = {0};

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 2);
    assert_int_equal(pool_to_make(pool, T0 - 5 * SEC, true, MANY), 0);
    assert_int_equal(pool_to_make(pool, T0, true, MANY), 0);
    assert_true(pool_give(pool, &part, T0 - SEC));
    assert_int_equal(part.since_ns, T0);
    assert_int_equal(pool_next_ns(pool, T0), T0 + SEC / 2);
    pool_free(pool);
}

/* Four days at this rate are more than 64 bits hold, counted in nanoseconds. */
static void test_days_of_sleep_are_one_seconds_worth(void **state)
{
    struct pool *pool = new_pool(0, 100000, 100000, 50000, SEC);

    (void)state;
    assert_int_equal(pool_to_make(pool, T0, true, 1), 1);
    assert_int_equal(pool_to_make(pool, T0 + 96 * 3600 * SEC, true, MANY), 50000);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_no_pool),
        cmocka_unit_test(test_limits_out_of_bounds_are_named),
        cmocka_unit_test(test_longest_free_is_taken_first),
        cmocka_unit_test(test_given_part_cools_before_it_is_free),
        cmocka_unit_test(test_changed_cool_down_holds_for_what_cools_already),
        cmocka_unit_test(test_give_beyond_the_maximum_is_refused),
        cmocka_unit_test(test_refills_to_the_target_and_counts_what_is_being_made),
        cmocka_unit_test(test_cooling_parts_are_not_counted_as_free_but_as_room_taken),
        cmocka_unit_test(test_refills_only_when_idle_except_below_the_floor),
        cmocka_unit_test(test_makes_a_seconds_worth_at_once_and_then_the_rate),
        cmocka_unit_test(test_changed_rate_gives_no_more_than_its_seconds_worth),
        cmocka_unit_test(test_waits_longer_after_every_failure_until_one_succeeds),
        cmocka_unit_test(test_failures_of_one_batch_are_one_failure),
        cmocka_unit_test(test_success_while_waiting_ends_the_wait),
        cmocka_unit_test(test_ready_once_the_floor_was_free_at_one_time),
        cmocka_unit_test(test_ready_at_once_without_a_floor_or_when_it_is_lowered),
        cmocka_unit_test(test_adopted_beyond_the_maximum_the_longest_free_goes),
        cmocka_unit_test(test_shrinking_yields_free_before_cooling_parts),
        cmocka_unit_test(test_draining_gives_up_all_until_limits_are_set),
        cmocka_unit_test(test_pool_with_target_0_makes_nothing_and_always_misses),
        cmocka_unit_test(test_certain_part_is_taken_out),
        cmocka_unit_test(test_everything_is_counted),
        cmocka_unit_test(test_next_is_at_once_as_long_as_more_may_be_made),
        cmocka_unit_test(test_time_that_goes_back_does_no_harm),
        cmocka_unit_test(test_days_of_sleep_are_one_seconds_worth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
