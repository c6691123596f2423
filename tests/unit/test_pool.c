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

/*
 * A caller that lives through random events in virtual time and sleeps until pool_next_ns says, and
 * beside it a model that knows no queues, counters or tokens: it looks at all parts there ever
 * were, and at all that was ever begun.
 */
enum place { GONE, MAKING, FREE, COOLING, USED };

struct item {
    struct pool_part part; /* first: a part's item is where the part is */
    enum place place;
    int64_t at_ns;  /* cooling: since when; making: until when */
    uint64_t order; /* of coming to this place */
};

struct begun {
    int64_t at_ns;
    int64_t n;
};

#define ITEMS_MAX 600
#define BEGUN_MAX 20000
#define PODS_MAX  100

struct sim {
    struct pool *pool;
    struct pool_limits limits;
    uint64_t random, order, adopted;
    int64_t now_ns, wake_ns, wait_ns, retry_ns;
    bool idle, asked_idle, draining, ready, reliable;
    unsigned workers, asked_most;
    struct item items[ITEMS_MAX];
    struct begun begun[BEGUN_MAX];
    size_t n_begun;
};

static uint64_t below(struct sim *sim, uint64_t n)
{
    sim->random = sim->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (sim->random >> 33) % n;
}

static size_t count(const struct sim *sim, enum place place)
{
    size_t n = 0;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        n += sim->items[i].place == place;
    }
    return n;
}

/* The one that came to that place first; NULL: none is there. */
static struct item *oldest(struct sim *sim, enum place place)
{
    struct item *found = NULL;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        struct item *item = &sim->items[i];

        if (item->place == place && (!found || item->order < found->order)) {
            found = item;
        }
    }
    return found;
}

static struct item *any(struct sim *sim, enum place place)
{
    size_t skip = count(sim, place) ? below(sim, count(sim, place)) : 0;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        if (sim->items[i].place == place && skip-- == 0) {
            return &sim->items[i];
        }
    }
    return NULL;
}

static void move(struct sim *sim, struct item *item, enum place place)
{
    item->place = place;
    item->at_ns = sim->now_ns;
    item->order = ++sim->order;
}

static size_t room(const struct sim *sim)
{
    return sim->draining || !sim->limits.target ? 0 : sim->limits.maximum;
}

static size_t total(const struct sim *sim)
{
    return count(sim, FREE) + count(sim, COOLING) + count(sim, MAKING);
}

/* What is free or cooling and more than may be. */
static bool surplus(const struct sim *sim)
{
    return count(sim, FREE) + count(sim, COOLING) > room(sim);
}

/* From any beginning until now, no more may have begun than the time's and one second's worth. */
static int64_t allowed_by_rate(const struct sim *sim, int64_t now_ns)
{
    int64_t rate = sim->limits.rate, allowed = rate, n = 0;

    for (size_t i = sim->n_begun; i-- > 0;) {
        int64_t worth = (rate * SEC + rate * (now_ns - sim->begun[i].at_ns)) / SEC;

        n += sim->begun[i].n;
        allowed = worth - n < allowed ? worth - n : allowed;
    }
    return allowed;
}

static int64_t allowed_to_make(const struct sim *sim, int64_t now_ns)
{
    int64_t goal = sim->asked_idle ? sim->limits.target : sim->limits.floor;
    int64_t n = goal - (int64_t)(count(sim, FREE) + count(sim, MAKING));
    int64_t spare = (int64_t)room(sim) - (int64_t)total(sim);
    int64_t by_rate = n > 0 ? allowed_by_rate(sim, now_ns) : 0;

    n = spare < n ? spare : n;
    n = sim->asked_most < n ? sim->asked_most : n;
    n = by_rate < n ? by_rate : n;
    return n < 0 || now_ns < sim->retry_ns ? 0 : n;
}

/* Is there anything to do at that time, if nothing happens before it? */
static bool any_work(const struct sim *sim, int64_t now_ns)
{
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        const struct item *item = &sim->items[i];

        if (item->place == COOLING && item->at_ns + sim->limits.cool_down_ns <= now_ns) {
            return true;
        }
    }
    return surplus(sim) || allowed_to_make(sim, now_ns) > 0;
}

static void settle(struct sim *sim)
{
    struct item *item;

    while ((item = oldest(sim, COOLING)) && item->at_ns + sim->limits.cool_down_ns <= sim->now_ns) {
        move(sim, item, FREE);
    }
    sim->ready = sim->ready || count(sim, FREE) >= sim->limits.floor;
}

/* Every part is in one place, and the pool and the model agree on it. */
static void check(struct sim *sim)
{
    struct pool_view view;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        const struct item *item = &sim->items[i];

        assert_int_equal(item->part.state, item->place == FREE      ? POOL_PART_FREE
                                           : item->place == COOLING ? POOL_PART_COOLING
                                                                    : POOL_PART_NONE);
    }
    pool_view(sim->pool, sim->now_ns, &view);
    assert_int_equal(view.free, count(sim, FREE));
    assert_int_equal(view.cooling, count(sim, COOLING));
    assert_int_equal(view.making, count(sim, MAKING));
    assert_int_equal(view.made + view.given + sim->adopted,
                     view.hits + view.removed + view.free + view.cooling);
    assert_int_equal(pool_ready(sim->pool), sim->ready);
}

static void begin(struct sim *sim, unsigned n)
{
    assert_true(total(sim) + n <= sim->limits.maximum);
    assert_true(sim->n_begun < BEGUN_MAX);
    sim->begun[sim->n_begun++] = (struct begun){sim->now_ns, n};
    while (n-- > 0) {
        struct item *item = any(sim, GONE);

        assert_non_null(item);
        memset(&item->part, 0, sizeof(item->part));
        move(sim, item, MAKING);
        item->at_ns += (int64_t)below(sim, 50) * MSEC;
    }
}

/* All that a caller does when anything happened and whenever it wakes. */
static void pump(struct sim *sim)
{
    unsigned n;

    settle(sim);
    do {
        sim->asked_idle = sim->idle;
        sim->asked_most = sim->workers - (unsigned)count(sim, MAKING);
        n = (unsigned)allowed_to_make(sim, sim->now_ns);
        assert_int_equal(pool_to_make(sim->pool, sim->now_ns, sim->asked_idle, sim->asked_most), n);
        if (n) {
            begin(sim, n);
        }
    } while (n);
    while (surplus(sim)) {
        struct item *item = oldest(sim, count(sim, FREE) ? FREE : COOLING);

        assert_ptr_equal(pool_to_remove(sim->pool, sim->now_ns), item);
        move(sim, item, GONE);
    }
    assert_null(pool_to_remove(sim->pool, sim->now_ns));
    check(sim);

    /* Not a nanosecond early, so it does not spin, nor late, so it misses nothing. */
    sim->wake_ns = pool_next_ns(sim->pool, sim->now_ns);
    assert_true(sim->wake_ns > sim->now_ns);
    if (sim->wake_ns == INT64_MAX) {
        assert_false(any_work(sim, sim->now_ns + 3600 * SEC));
    } else {
        assert_false(any_work(sim, sim->wake_ns - 1));
        assert_true(any_work(sim, sim->wake_ns));
    }
}

static struct item *next_finished(struct sim *sim)
{
    struct item *found = NULL;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        struct item *item = &sim->items[i];

        if (item->place == MAKING && (!found || item->at_ns < found->at_ns)) {
            found = item;
        }
    }
    return found;
}

static void finish(struct sim *sim, struct item *item)
{
    settle(sim);
    if (sim->reliable || below(sim, 4)) {
        move(sim, item, FREE);
        pool_made(sim->pool, &item->part, sim->now_ns);
        sim->wait_ns = sim->retry_ns = 0;
    } else {
        move(sim, item, GONE);
        pool_failed(sim->pool, sim->now_ns);
        if (sim->now_ns >= sim->retry_ns) {
            sim->wait_ns = sim->wait_ns ? sim->wait_ns * 2 : SEC / 10;
            sim->wait_ns = sim->wait_ns > 10 * SEC ? 10 * SEC : sim->wait_ns;
            sim->retry_ns = sim->now_ns + sim->wait_ns;
        }
    }
}

/* Lives until then: wakes when the pool said so, and takes parts that are made. */
static void live_until(struct sim *sim, int64_t then_ns)
{
    for (;;) {
        struct item *item = next_finished(sim);
        bool made = item && item->at_ns <= sim->wake_ns;
        int64_t next_ns = made ? item->at_ns : sim->wake_ns;

        if (next_ns > then_ns || next_ns == INT64_MAX) {
            break;
        }
        sim->now_ns = next_ns;
        if (made) {
            finish(sim, item);
        }
        pump(sim);
    }
    sim->now_ns = then_ns;
}

static void change_limits(struct sim *sim, unsigned target_min)
{
    struct pool_limits *limits = &sim->limits;

    limits->target = target_min + (unsigned)below(sim, 20);
    limits->floor = (unsigned)below(sim, limits->target + 1);
    limits->maximum = limits->target + (unsigned)below(sim, 20);
    limits->cool_down_ns = (int64_t)below(sim, 3000) * MSEC;
    sim->draining = false;
    sim->ready = sim->ready || count(sim, FREE) >= limits->floor;
}

static void take(struct sim *sim)
{
    struct item *item = sim->limits.target ? oldest(sim, FREE) : NULL;

    assert_ptr_equal(pool_take(sim->pool, sim->now_ns), item);
    if (item) {
        move(sim, item, USED);
    }
}

static void give(struct sim *sim)
{
    struct item *item = any(sim, USED);
    bool fits = total(sim) < room(sim);

    if (item) {
        assert_int_equal(pool_give(sim->pool, &item->part, sim->now_ns), fits);
        move(sim, item, fits ? COOLING : GONE);
    }
}

static void adopt_one(struct sim *sim)
{
    struct item *item = any(sim, GONE);

    assert_non_null(item);
    memset(&item->part, 0, sizeof(item->part));
    pool_adopt(sim->pool, &item->part, sim->now_ns);
    move(sim, item, FREE);
    sim->adopted++;
}

static void break_one(struct sim *sim)
{
    struct item *item = any(sim, below(sim, 2) ? FREE : COOLING);

    if (item) {
        pool_remove(sim->pool, &item->part);
        move(sim, item, GONE);
    }
}

static void happen(struct sim *sim)
{
    uint64_t what = below(sim, 100);

    if (what < 35 && count(sim, USED) < PODS_MAX) {
        take(sim);
    } else if (what < 70) {
        give(sim);
    } else if (what < 85) {
        sim->idle = !sim->idle;
    } else if (what < 90) {
        break_one(sim);
    } else if (what < 95) {
        adopt_one(sim);
    } else if (what < 99) {
        change_limits(sim, 0);
        pool_set_limits(sim->pool, &sim->limits);
    } else {
        sim->draining = true;
        pool_drain(sim->pool);
    }
}

/* From nothing at all to hours. */
static int64_t pause_ns(struct sim *sim)
{
    static const int64_t most_ns[] = {1, 2, MSEC, 10 * MSEC, 100 * MSEC, SEC, 5 * SEC, 60 * SEC};

    return (int64_t)below(sim, (uint64_t)most_ns[below(sim, ARRAY_SIZE(most_ns))]);
}

static void simulate(uint64_t seed)
{
    struct sim *sim = calloc(1, sizeof(*sim));

    assert_non_null(sim);
    sim->random = seed;
    sim->now_ns = T0;
    sim->idle = true;
    sim->workers = below(sim, 2) ? 1 + (unsigned)below(sim, 8) : 1000;
    sim->limits.rate = 1 + (unsigned)below(sim, below(sim, 2) ? 10 : 1000);
    change_limits(sim, 1);
    assert_int_equal(pool_limits_check(&sim->limits, NULL), 0);
    assert_int_equal(pool_new(&sim->limits, &sim->pool), 0);
    sim->ready = sim->limits.floor == 0;
    pump(sim);
    for (int i = 0; i < 300; i++) {
        live_until(sim, sim->now_ns + pause_ns(sim));
        happen(sim);
        /* Also before the caller asks again the pool knows whether there is anything to do. */
        assert_int_equal(pool_next_ns(sim->pool, sim->now_ns) == sim->now_ns,
                         any_work(sim, sim->now_ns));
        pump(sim);
    }

    /* Left alone, and with nothing failing, it reaches its target. */
    sim->reliable = sim->idle = true;
    change_limits(sim, 1);
    pool_set_limits(sim->pool, &sim->limits);
    pump(sim);
    live_until(sim, sim->now_ns + 120 * SEC);
    assert_int_equal(sim->wake_ns, INT64_MAX);
    assert_true(count(sim, FREE) >= sim->limits.target);
    assert_true(count(sim, FREE) <= sim->limits.maximum);
    assert_int_equal(count(sim, COOLING) + count(sim, MAKING), 0);

    /* Drained, it gives up every part it holds, each once. */
    sim->draining = true;
    pool_drain(sim->pool);
    pump(sim);
    assert_int_equal(total(sim), 0);
    pool_free(sim->pool);
    free(sim);
}

static void test_sleeping_caller_misses_nothing_and_never_spins(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        simulate(seed);
    }
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
        cmocka_unit_test(test_sleeping_caller_misses_nothing_and_never_spins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
