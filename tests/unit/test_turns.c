/* SPDX-License-Identifier: Apache-2.0 */
/* src/agent/turns.h: calls about one container go one after the other. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/turns.h"

#include <stdlib.h>

static struct turn *gone[64];
static size_t n_gone;

static void go(struct turn *turn)
{
    gone[n_gone++] = turn;
}

static struct turn new_turn(const char *key)
{
    return (struct turn){.key = key, .go = go};
}

static int start(void **state)
{
    struct turns *turns;

    n_gone = 0;
    assert_int_equal(turns_new(&turns), 0);
    *state = turns;
    return 0;
}

static int stop(void **state)
{
    turns_free(*state);
    return 0;
}

static void test_calls_about_different_containers_go_at_once(void **state)
{
    struct turn a = new_turn("a"), b = new_turn("b");

    assert_true(turns_take(*state, &a));
    assert_true(turns_take(*state, &b));
    turns_pass(*state, &a);
    turns_pass(*state, &b);
    assert_int_equal(n_gone, 0);
}

static void test_calls_about_one_container_go_in_the_order_they_came(void **state)
{
    struct turn turns[5], other = new_turn("b");

    for (size_t i = 0; i < 5; i++) {
        turns[i] = new_turn("a");
        assert_int_equal(turns_take(*state, &turns[i]), i == 0);
    }
    assert_true(turns_take(*state, &other));
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(n_gone, i);
        turns_pass(*state, &turns[i]);
        if (i < 4) {
            assert_ptr_equal(gone[i], &turns[i + 1]);
        }
    }
    assert_int_equal(n_gone, 4);
    turns[0] = new_turn("a");
    assert_true(turns_take(*state, &turns[0]));
    turns_pass(*state, &turns[0]);
    turns_pass(*state, &other);
}

static void test_one_that_comes_while_others_wait_is_the_last(void **state)
{
    struct turn a = new_turn("a"), b = new_turn("a"), c = new_turn("a");

    assert_true(turns_take(*state, &a));
    assert_false(turns_take(*state, &b));
    turns_pass(*state, &a);
    assert_false(turns_take(*state, &c));
    turns_pass(*state, &b);
    assert_int_equal(n_gone, 2);
    assert_ptr_equal(gone[1], &c);
    turns_pass(*state, &c);
}

static void test_keys_of_one_bucket_do_not_meet(void **state)
{
    static char keys[20000][8];
    static struct turn turns[20000];

    for (size_t i = 0; i < 20000; i++) {
        snprintf(keys[i], sizeof(keys[i]), "c%zu", i);
        turns[i] = new_turn(keys[i]);
        assert_true(turns_take(*state, &turns[i]));
    }
    for (size_t i = 0; i < 20000; i++) {
        turns_pass(*state, &turns[(i * 7919) % 20000]);
    }
    assert_int_equal(n_gone, 0);
}

static void test_a_turn_that_was_never_taken_is_passed_for_nothing(void **state)
{
    struct turn none = {0};

    turns_pass(*state, &none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_calls_about_different_containers_go_at_once, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_calls_about_one_container_go_in_the_order_they_came,
                                        start, stop),
        cmocka_unit_test_setup_teardown(test_one_that_comes_while_others_wait_is_the_last, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_keys_of_one_bucket_do_not_meet, start, stop),
        cmocka_unit_test_setup_teardown(test_a_turn_that_was_never_taken_is_passed_for_nothing,
                                        start, stop),
    };

    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
