/* SPDX-License-Identifier: Apache-2.0 */
/* src/gate: admission, order, deadlines, callbacks that call back, limits as JSON; and a model. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "gate/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CNI 1 /* index of a stage; any would do */
#define VM  4

/* ---- one who waits, and the order in which waits ended ---- */

struct waiter {
    struct gate_ticket ticket; /* first, so that one can be cast to the other */
    int number;
    int ended; /* how often */
    int rc;    /* of the last time */
};

static int order[8192]; /* numbers of waiters */
static size_t n_order;

static void note_end(struct gate_ticket *ticket, int rc)
{
    struct waiter *w = (struct waiter *)ticket;

    w->ended++;
    w->rc = rc;
    assert_int_equal(ticket->state, rc == 0 ? GATE_HELD : GATE_NONE);
    if (n_order < ARRAY_SIZE(order)) {
        order[n_order++] = w->number;
    }
}

static struct gates *fixture(void **state)
{
    return *state;
}

static int set_up(void **state)
{
    struct gates *gates = NULL;
    int rc = gates_new(&gates);

    n_order = 0;
    *state = gates;
    return rc;
}

static int tear_down(void **state)
{
    gates_free(*state);
    return 0;
}

static int ask_until(struct gates *gates, struct waiter *w, const char *tenant, int64_t now_ns,
                     int64_t deadline_ns)
{
    w->ticket.done = note_end;
    return gate_acquire(gates, CNI, tenant, now_ns, deadline_ns, &w->ticket);
}

static int ask(struct gates *gates, struct waiter *w, const char *tenant)
{
    return ask_until(gates, w, tenant, 0, INT64_MAX);
}

static struct gate_view view_of(const struct gates *gates, size_t stage, int64_t now_ns)
{
    struct gate_view view;

    gate_view(gates, stage, now_ns, &view);
    return view;
}

/* Takes the one permit so that all who come after wait. */
static void close_gate(struct gates *gates, struct waiter *holder)
{
    assert_int_equal(gate_set_limit(gates, CNI, 1, 0), 0);
    assert_int_equal(ask(gates, holder, "holder"), 1);
}

/* Waiters numbered from first, all of one tenant; all must wait. */
static void line_up(struct gates *gates, struct waiter *w, int n, int first, const char *tenant)
{
    for (int i = 0; i < n; i++) {
        w[i].number = first + i;
        assert_int_equal(ask(gates, &w[i], tenant), 0);
    }
}

static void assert_order(const int *expected, size_t n)
{
    assert_int_equal(n_order, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(order[i], expected[i]);
    }
}
#define assert_ended(...)                                                                          \
    assert_order((const int[]){__VA_ARGS__}, ARRAY_SIZE(((const int[]){__VA_ARGS__})))

/* ---- permits ---- */

static void test_without_limit_all_are_let_in(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter w[100] = {0};

    for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
        assert_int_equal(ask_until(gates, &w[i], "", 7, 9), 1);
        assert_int_equal(w[i].ticket.state, GATE_HELD);
    }
    assert_int_equal(w[3].ticket.stage, CNI);
    assert_int_equal(w[3].ticket.asked_ns, 7);
    assert_int_equal(w[3].ticket.admitted_ns, 7);
    assert_int_equal(w[3].ticket.deadline_ns, 9);
    assert_int_equal(view_of(gates, CNI, 7).held, 100);
    assert_int_equal(view_of(gates, VM, 7).held, 0);
    assert_int_equal(n_order, 0);
}

static void test_limit_makes_the_next_one_wait(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter w[3] = {{.number = 0}, {.number = 1}, {.number = 2}};

    assert_int_equal(gate_set_limit(gates, CNI, 2, 0), 0);
    assert_int_equal(gate_limit(gates, CNI), 2);
    assert_int_equal(gate_limit(gates, VM), 0);
    assert_int_equal(ask_until(gates, &w[0], "a", 1, 99), 1);
    assert_int_equal(ask_until(gates, &w[1], "a", 2, 99), 1);
    assert_int_equal(ask_until(gates, &w[2], "a", 3, 99), 0);
    assert_int_equal(w[2].ticket.state, GATE_WAITING);
    gate_release(gates, &w[0].ticket, 10);
    assert_int_equal(w[0].ticket.state, GATE_NONE);
    assert_ended(2);
    assert_int_equal(w[2].rc, 0);
    assert_int_equal(w[2].ticket.admitted_ns, 10);
    assert_int_equal(view_of(gates, CNI, 10).held, 2);
}

static void test_releasing_what_is_not_held_does_nothing(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, never = {0}, waiting = {0};

    close_gate(gates, &holder);
    assert_int_equal(ask(gates, &waiting, "a"), 0);
    gate_release(gates, &never.ticket, 1);
    assert_int_equal(view_of(gates, CNI, 1).held, 1);
    gate_release(gates, &holder.ticket, 2);
    gate_release(gates, &holder.ticket, 3);
    assert_int_equal(view_of(gates, CNI, 3).held, 1); /* the waiter's, and only one */
    assert_int_equal(waiting.ended, 1);
}

static void test_ticket_can_be_used_again(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter w = {0}, holder = {0};

    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(gates, &w, "a"), 1);
        gate_release(gates, &w.ticket, i);
    }
    close_gate(gates, &holder);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(gates, &w, "a"), 0);
        gate_release(gates, &w.ticket, i);
    }
    assert_int_equal(w.ended, 0);
    assert_int_equal(view_of(gates, CNI, 3).given_up, 3);
}

static void test_no_such_stage_or_limit(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter w = {0};

    assert_int_equal(gate_acquire(gates, span_n_stages, "", 0, 9, &w.ticket), -EINVAL);
    assert_int_equal(w.ticket.state, GATE_NONE);
    assert_int_equal(gate_set_limit(gates, span_n_stages, 1, 0), -EINVAL);
    assert_int_equal(gate_set_limit(gates, CNI, GATE_LIMIT_MAX + 1, 0), -EINVAL);
    assert_int_equal(gate_limit(gates, CNI), 0);
    assert_int_equal(gate_set_limit(gates, CNI, GATE_LIMIT_MAX, 0), 0);
    assert_int_equal(gate_limit(gates, CNI), GATE_LIMIT_MAX);
}

static void test_forgotten_tickets_are_not_told(void **state)
{
    struct gates *gates = NULL;
    struct waiter holder = {0}, w[5] = {0};

    (void)state;
    assert_int_equal(gates_new(&gates), 0);
    close_gate(gates, &holder);
    line_up(gates, w, 5, 0, "a");
    gates_free(gates);
    gates_free(NULL);
    for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
        assert_int_equal(w[i].ended, 0);
    }
}

/* ---- order ---- */

static void test_first_come_first_served_within_a_tenant(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[4] = {0};

    close_gate(gates, &holder);
    line_up(gates, w, 4, 0, "a");
    gate_release(gates, &holder.ticket, 1);
    gate_release(gates, &w[0].ticket, 2);
    gate_release(gates, &w[1].ticket, 3);
    assert_ended(0, 1, 2);
}

static void test_tenants_take_turns(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, a[4] = {0}, b[2] = {0}, none = {.number = 30},
                  late = {.number = 20};

    close_gate(gates, &holder);
    line_up(gates, a, 4, 0, "a");
    line_up(gates, b, 2, 10, "b");
    assert_int_equal(ask(gates, &none, ""), 0);
    assert_int_equal(view_of(gates, CNI, 0).tenants, 3);
    gate_release(gates, &holder.ticket, 1); /* a's; b's turn is next */
    assert_int_equal(ask(gates, &late, "c"), 0);
    gate_set_limit(gates, CNI, 0, 2);
    assert_ended(0, 10, 30, 1, 20, 11, 2, 3);
    assert_int_equal(view_of(gates, CNI, 2).tenants, 0);
}

/* 500 pods of one tenant at the gate; another, who has one at a time, waits for one of them only.
 */
static void test_heavy_tenant_does_not_starve_a_light_one(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, heavy[500] = {0}, light[100] = {0};
    struct gate_ticket *held = &holder.ticket;

    close_gate(gates, &holder);
    line_up(gates, heavy, 500, 0, "heavy");
    for (int round = 0; round < 100; round++) {
        assert_int_equal(ask(gates, &light[round], "light"), 0);
        gate_release(gates, held, round);
        assert_int_equal(order[n_order - 1], round);
        gate_release(gates, &heavy[round].ticket, round);
        assert_int_equal(light[round].ended, 1);
        held = &light[round].ticket;
    }
}

static void test_shares_are_equal_however_unequal_the_load(void **state)
{
    static const int loads[] = {1000, 300, 100, 100, 100};
    struct gates *gates = fixture(state);
    struct waiter holder = {0};
    int got[ARRAY_SIZE(loads)] = {0};
    autofree struct waiter *w = calloc(1600, sizeof(*w));
    struct waiter *next = w;
    struct gate_ticket *held = &holder.ticket;

    close_gate(gates, &holder);
    for (int tenant = 0; tenant < (int)ARRAY_SIZE(loads); next += loads[tenant++]) {
        char name[8];

        snprintf(name, sizeof(name), "t%d", tenant);
        line_up(gates, next, loads[tenant], (int)(next - w), name);
        for (int i = 0; i < loads[tenant]; i++) {
            next[i].number = (int)(next - w) + i;
        }
    }
    for (int i = 0; i < 500; i++) {
        int number;

        gate_release(gates, held, i);
        number = order[n_order - 1];
        held = &w[number].ticket;
        got[number < 1000 ? 0 : number < 1300 ? 1 : 2 + (number - 1300) / 100]++;
    }
    for (size_t i = 0; i < ARRAY_SIZE(got); i++) {
        assert_int_equal(got[i], 100);
    }
}

static void test_only_so_many_bytes_of_a_name_count(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[4] = {0};
    char name[GATE_TENANT_MAX + 2];

    close_gate(gates, &holder);
    memset(name, 'x', sizeof(name));
    name[GATE_TENANT_MAX + 1] = '\0';
    line_up(gates, &w[0], 1, 0, name);
    name[GATE_TENANT_MAX] = 'y';
    line_up(gates, &w[1], 1, 1, name);
    assert_int_equal(view_of(gates, CNI, 0).tenants, 1);
    name[GATE_TENANT_MAX] = '\0';
    line_up(gates, &w[2], 1, 2, name);
    assert_int_equal(view_of(gates, CNI, 0).tenants, 1);
    name[GATE_TENANT_MAX - 1] = '\0';
    line_up(gates, &w[3], 1, 3, name);
    assert_int_equal(view_of(gates, CNI, 0).tenants, 2);
    gate_set_limit(gates, CNI, 0, 0);
    assert_ended(0, 3, 1, 2);
}

static void test_gates_do_not_mix(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w = {0}, other[2] = {0};

    close_gate(gates, &holder);
    assert_int_equal(ask(gates, &w, "a"), 0);
    gate_set_limit(gates, VM, 1, 0);
    for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
        other[i].ticket.done = note_end;
        assert_int_equal(gate_acquire(gates, VM, "a", 0, INT64_MAX, &other[i].ticket), i == 0);
    }
    gate_release(gates, &other[0].ticket, 1);
    assert_int_equal(other[1].ended, 1);
    assert_int_equal(w.ended, 0);
}

/* ---- limits that change ---- */

static void test_limits_change_while_hundreds_wait(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[600] = {0};

    close_gate(gates, &holder);
    line_up(gates, w, 600, 0, "a");
    gate_set_limit(gates, CNI, 101, 1);
    assert_int_equal(n_order, 100);
    gate_set_limit(gates, CNI, 5, 2); /* takes nothing away */
    assert_int_equal(view_of(gates, CNI, 2).held, 101);
    for (int i = 0; i < 96; i++) {
        gate_release(gates, &w[i].ticket, 3);
    }
    assert_int_equal(n_order, 100);
    assert_int_equal(view_of(gates, CNI, 3).held, 5);
    gate_release(gates, &w[96].ticket, 4);
    assert_int_equal(n_order, 101);
    gate_set_limit(gates, CNI, 0, 5);
    assert_int_equal(n_order, 600);
    assert_int_equal(view_of(gates, CNI, 5).waiting, 0);
    assert_int_equal(view_of(gates, CNI, 5).held, 600 + 1 - 97);
    for (int i = 0; i < 600; i++) {
        assert_int_equal(order[i], i);
        assert_int_equal(w[i].ended, 1);
    }
}

/* ---- deadlines ---- */

static void test_waits_end_at_their_deadline(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[3] = {{.number = 0}, {.number = 1}, {.number = 2}};

    assert_int_equal(gates_next_deadline(gates), INT64_MAX);
    close_gate(gates, &holder);
    assert_int_equal(gates_next_deadline(gates), INT64_MAX); /* a permit has none */
    assert_int_equal(ask_until(gates, &w[0], "a", 1, 30), 0);
    assert_int_equal(ask_until(gates, &w[1], "a", 1, 10), 0);
    assert_int_equal(ask_until(gates, &w[2], "b", 1, 20), 0);
    assert_int_equal(gates_next_deadline(gates), 10);
    gates_expire(gates, 9);
    assert_int_equal(n_order, 0);
    gates_expire(gates, 10);
    assert_ended(1);
    assert_int_equal(w[1].rc, -ETIMEDOUT);
    assert_int_equal(gates_next_deadline(gates), 20);
    gates_expire(gates, 1000);
    assert_ended(1, 2, 0);
    assert_int_equal(gates_next_deadline(gates), INT64_MAX);
    assert_int_equal(view_of(gates, CNI, 1000).expired, 3);
    assert_int_equal(view_of(gates, CNI, 1000).held, 1);
}

static void test_no_permit_for_whom_it_is_too_late(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[2] = {{.number = 0}, {.number = 1}};

    close_gate(gates, &holder);
    assert_int_equal(ask_until(gates, &w[0], "a", 0, 10), 0);
    assert_int_equal(ask_until(gates, &w[1], "a", 0, 100), 0);
    gate_release(gates, &holder.ticket, 50);
    assert_ended(0, 1);
    assert_int_equal(w[0].rc, -ETIMEDOUT);
    assert_int_equal(w[1].rc, 0);
}

static void test_deadline_past_when_asking(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w = {0};

    close_gate(gates, &holder);
    assert_int_equal(ask_until(gates, &w, "a", 20, 10), 0);
    assert_int_equal(w.ended, 0); /* never from within gate_acquire */
    assert_int_equal(gates_next_deadline(gates), 10);
    gates_expire(gates, 20);
    assert_int_equal(w.rc, -ETIMEDOUT);
}

static void test_place_given_up(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, a[3] = {0}, b = {.number = 10};

    close_gate(gates, &holder);
    line_up(gates, a, 3, 0, "a");
    assert_int_equal(ask_until(gates, &b, "b", 0, 5), 0);
    gate_release(gates, &a[1].ticket, 1);
    gate_release(gates, &a[0].ticket, 1);
    gate_release(gates, &b.ticket, 1);
    assert_int_equal(gates_next_deadline(gates), INT64_MAX);
    assert_int_equal(view_of(gates, CNI, 1).tenants, 1);
    assert_int_equal(view_of(gates, CNI, 1).given_up, 3);
    gates_expire(gates, 50);
    gate_release(gates, &holder.ticket, 60);
    assert_ended(2);
}

/* ---- callbacks that call back ---- */

/* What the callbacks below work with. */
static struct {
    struct gates *gates;
    int64_t now_ns;
    struct waiter *extra; /* acquired or released from within */
    int left;
    size_t depth, deepest;
} play;

static void release_self(struct gate_ticket *ticket, int rc)
{
    play.depth++;
    play.deepest = play.depth > play.deepest ? play.depth : play.deepest;
    note_end(ticket, rc);
    gate_release(play.gates, ticket, play.now_ns);
    play.depth--;
}

static void test_callbacks_that_release_themselves_do_not_nest(void **state)
{
    struct gates *gates = fixture(state);
    autofree struct waiter *w = calloc(50000, sizeof(*w));
    struct waiter holder = {0};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    close_gate(gates, &holder);
    for (int i = 0; i < 50000; i++) {
        w[i].number = i;
        w[i].ticket.done = release_self;
        assert_int_equal(gate_acquire(gates, CNI, i % 2 ? "a" : "b", 0, 9, &w[i].ticket), 0);
    }
    gate_release(gates, &holder.ticket, 1);
    assert_int_equal(play.deepest, 1);
    assert_int_equal(view_of(gates, CNI, 1).admitted, 50001);
    assert_int_equal(view_of(gates, CNI, 1).held, 0);
    assert_int_equal(view_of(gates, CNI, 1).waiting, 0);
}

static void free_ticket(struct gate_ticket *ticket, int rc)
{
    if (rc == 0) {
        gate_release(play.gates, ticket, play.now_ns);
    }
    free(ticket);
    play.left--;
}

static void test_callbacks_may_free_their_ticket(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    play.now_ns = 60;
    close_gate(gates, &holder);
    for (play.left = 0; play.left < 100; play.left++) {
        struct gate_ticket *ticket = calloc(1, sizeof(*ticket));

        ticket->done = free_ticket;
        assert_int_equal(gate_acquire(gates, CNI, "a", 0, play.left, ticket), 0);
    }
    gates_expire(gates, 49);
    assert_int_equal(play.left, 50);
    gate_release(gates, &holder.ticket, 60);
    assert_int_equal(play.left, 0);
}

/* Asks again from within, while others wait and a permit is free for a moment. */
static void release_and_ask_again(struct gate_ticket *ticket, int rc)
{
    note_end(ticket, rc);
    gate_release(play.gates, ticket, play.now_ns);
    if (play.left-- > 0) {
        assert_int_equal(ask(play.gates, play.extra, "new"), 0);
    }
}

static void test_newcomer_does_not_pass_those_who_wait(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[2] = {{.number = 0}, {.number = 1}}, extra = {.number = 2};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    play.extra = &extra;
    play.left = 1;
    close_gate(gates, &holder);
    line_up(gates, w, 2, 0, "a");
    w[0].ticket.done = release_and_ask_again;
    gate_release(gates, &holder.ticket, 1);
    assert_ended(0, 1); /* the permit that was free within is 1's, not the newcomer's */
    gate_release(gates, &w[1].ticket, 2);
    assert_ended(0, 1, 2);
}

/* Releases the next waiter's place, the holder's permit, or lowers the limit, from within. */
static void release_extra(struct gate_ticket *ticket, int rc)
{
    note_end(ticket, rc);
    gate_release(play.gates, &play.extra->ticket, play.now_ns);
}

static void test_callback_gives_up_the_place_of_the_next(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[3] = {0};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    play.extra = &w[1];
    close_gate(gates, &holder);
    line_up(gates, w, 3, 0, "a");
    w[0].ticket.done = release_extra;
    gate_set_limit(gates, CNI, 0, 1);
    assert_ended(0, 2);
    assert_int_equal(w[1].ended, 0);
    assert_int_equal(w[1].ticket.state, GATE_NONE);
}

static void test_expiry_callback_frees_a_permit(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[2] = {{.number = 0}, {.number = 1}};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    play.extra = &holder;
    close_gate(gates, &holder);
    assert_int_equal(ask_until(gates, &w[0], "a", 0, 5), 0);
    assert_int_equal(ask_until(gates, &w[1], "b", 0, 50), 0);
    w[0].ticket.done = release_extra;
    gates_expire(gates, 5);
    assert_ended(0, 1);
    assert_int_equal(w[1].rc, 0);
}

static void lower_limit(struct gate_ticket *ticket, int rc)
{
    note_end(ticket, rc);
    gate_set_limit(play.gates, CNI, 1, play.now_ns);
}

static void test_callback_lowers_the_limit_that_let_it_in(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[4] = {0};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    close_gate(gates, &holder);
    line_up(gates, w, 4, 0, "a");
    w[1].ticket.done = lower_limit;
    gate_set_limit(gates, CNI, 0, 1);
    assert_ended(0, 1);
    assert_int_equal(view_of(gates, CNI, 1).waiting, 2);
}

/* A call from within says a later time than the one that is running. */
static void expire_later(struct gate_ticket *ticket, int rc)
{
    note_end(ticket, rc);
    gates_expire(play.gates, play.now_ns);
}

static void test_time_goes_on_within_callbacks(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[3] = {{.number = 0}, {.number = 1}, {.number = 2}};

    memset(&play, 0, sizeof(play));
    play.gates = gates;
    play.now_ns = 40;
    close_gate(gates, &holder);
    assert_int_equal(ask_until(gates, &w[0], "a", 0, 10), 0);
    assert_int_equal(ask_until(gates, &w[1], "a", 0, 30), 0);
    assert_int_equal(ask_until(gates, &w[2], "a", 0, 50), 0);
    w[0].ticket.done = expire_later;
    gates_expire(gates, 10);
    assert_ended(0, 1);
    gate_release(gates, &holder.ticket, 20); /* a clock that was read before */
    assert_int_equal(w[2].ticket.admitted_ns, 40);
}

static void free_gates(struct gate_ticket *ticket, int rc)
{
    note_end(ticket, rc);
    gates_free(play.gates);
}

static void test_callback_may_free_the_gates(void **state)
{
    struct waiter holder = {0}, w[3] = {0};

    (void)state;
    n_order = 0;
    memset(&play, 0, sizeof(play));
    assert_int_equal(gates_new(&play.gates), 0);
    close_gate(play.gates, &holder);
    line_up(play.gates, w, 3, 0, "a");
    w[1].ticket.done = free_gates;
    gate_set_limit(play.gates, CNI, 0, 1);
    assert_ended(0, 1);
}

/* ---- what is shown ---- */

static void test_view_counts(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[3] = {0};
    struct gate_view view;

    gate_set_limit(gates, CNI, 1, 0);
    assert_int_equal(ask_until(gates, &holder, "a", 0, INT64_MAX), 1);
    assert_int_equal(ask_until(gates, &w[0], "a", 1 * NSEC_PER_SEC, INT64_MAX), 0);
    assert_int_equal(ask_until(gates, &w[1], "b", 2 * NSEC_PER_SEC, INT64_MAX), 0);
    assert_int_equal(ask_until(gates, &w[2], "b", 2 * NSEC_PER_SEC, 5 * NSEC_PER_SEC), 0);
    view = view_of(gates, CNI, 4 * NSEC_PER_SEC);
    assert_int_equal(view.limit, 1);
    assert_int_equal(view.held, 1);
    assert_int_equal(view.waiting, 3);
    assert_int_equal(view.tenants, 2);
    assert_int_equal(view.longest_wait_ns, 3 * NSEC_PER_SEC);
    gates_expire(gates, 5 * NSEC_PER_SEC);
    gate_release(gates, &holder.ticket, 6 * NSEC_PER_SEC);
    gate_release(gates, &w[1].ticket, 6 * NSEC_PER_SEC);
    view = view_of(gates, CNI, 6 * NSEC_PER_SEC);
    assert_int_equal(view.longest_wait_ns, 0);
    assert_int_equal(view.admitted, 2);
    assert_int_equal(view.expired, 1);
    assert_int_equal(view.given_up, 1);
    assert_int_equal(view.refused, 0);
    assert_int_equal(view.wait->n, 2); /* 0 s and 5 s */
    assert_int_equal(view.wait->counts[0], 1);
    assert_true(view.wait->sum == 5);
    assert_int_equal(view.hold->n, 1);
    assert_true(view.hold->sum == 6);
}

/* ---- many ---- */

static void test_a_hundred_thousand_wait_and_no_more(void **state)
{
    struct gates *gates = fixture(state);
    autofree struct waiter *w = calloc(GATE_WAITERS_MAX + 1, sizeof(*w));
    struct waiter holder = {0};
    struct gate_view view;

    close_gate(gates, &holder);
    for (int i = 0; i < GATE_WAITERS_MAX; i++) {
        char tenant[16];

        snprintf(tenant, sizeof(tenant), "t%d", i % 5000);
        assert_int_equal(ask_until(gates, &w[i], tenant, 0, 1 + (i * 7919LL) % 1000), 0);
    }
    assert_int_equal(ask(gates, &w[GATE_WAITERS_MAX], "t0"), -ENOBUFS);
    assert_int_equal(w[GATE_WAITERS_MAX].ticket.state, GATE_NONE);
    view = view_of(gates, CNI, 0);
    assert_int_equal(view.waiting, GATE_WAITERS_MAX);
    assert_int_equal(view.tenants, 5000);
    assert_int_equal(view.refused, 1);
    gates_expire(gates, 250);
    for (int i = 0; i < GATE_WAITERS_MAX; i += 3) {
        gate_release(gates, &w[i].ticket, 250);
    }
    gate_set_limit(gates, CNI, 0, 500);
    view = view_of(gates, CNI, 500);
    assert_int_equal(view.waiting + view.tenants, 0);
    assert_int_equal(view.admitted - 1 + view.expired + view.given_up, GATE_WAITERS_MAX);
    for (int i = 0; i < GATE_WAITERS_MAX; i++) {
        if (w[i].ended + (i % 3 == 0) < 1 || w[i].ended > 1) {
            fail_msg("ticket %d ended %d times", i, w[i].ended);
        }
    }
}

/* ---- a model: the same rules, written as plainly as can be ---- */

#define MODEL_TICKETS 60
#define MODEL_STAGES  2
#define MODEL_TENANTS 5

static uint64_t random_state;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(random_state >> 33) % n;
}

struct model {
    struct {
        int queue[MODEL_TICKETS], n; /* tickets in the order they came */
        int turns[MODEL_TENANTS], n_turns;
        int held;
        unsigned limit;
    } stages[MODEL_STAGES];
    struct {
        enum gate_state state;
        int stage, tenant;
        int64_t deadline_ns;
    } tickets[MODEL_TICKETS];
    int ended[MODEL_TICKETS], n_ended; /* by the last call */
};

static void take_from(int *list, int *n, int value)
{
    int i = 0;

    while (list[i] != value) {
        i++;
    }
    (*n)--;
    memmove(&list[i], &list[i + 1], (size_t)(*n - i) * sizeof(*list));
}

static int first_of(const struct model *model, int stage, int tenant)
{
    for (int i = 0; i < model->stages[stage].n; i++) {
        if (model->tickets[model->stages[stage].queue[i]].tenant == tenant) {
            return model->stages[stage].queue[i];
        }
    }
    return -1;
}

static void model_leave(struct model *model, int id)
{
    int stage = model->tickets[id].stage, tenant = model->tickets[id].tenant;

    take_from(model->stages[stage].queue, &model->stages[stage].n, id);
    if (first_of(model, stage, tenant) < 0) {
        take_from(model->stages[stage].turns, &model->stages[stage].n_turns, tenant);
    }
    model->tickets[id].state = GATE_NONE;
}

static bool model_has_room(const struct model *model, int stage)
{
    return model->stages[stage].limit == 0 ||
           model->stages[stage].held < (int)model->stages[stage].limit;
}

static void model_expire(struct model *model, int64_t now_ns)
{
    for (;;) {
        int first = -1;

        for (int i = 0; i < MODEL_TICKETS; i++) {
            if (model->tickets[i].state == GATE_WAITING &&
                model->tickets[i].deadline_ns <= now_ns &&
                (first < 0 || model->tickets[i].deadline_ns < model->tickets[first].deadline_ns)) {
                first = i;
            }
        }
        if (first < 0) {
            return;
        }
        model_leave(model, first);
        model->ended[model->n_ended++] = -1 - first;
    }
}

static void model_admit(struct model *model, int stage)
{
    while (model->stages[stage].n > 0 && model_has_room(model, stage)) {
        int *turns = model->stages[stage].turns, tenant = turns[0];
        int id = first_of(model, stage, tenant);

        take_from(turns, &model->stages[stage].n_turns, tenant);
        turns[model->stages[stage].n_turns++] = tenant;
        model_leave(model, id);
        model->tickets[id].state = GATE_HELD;
        model->stages[stage].held++;
        model->ended[model->n_ended++] = id;
    }
}

static void model_settle(struct model *model, int64_t now_ns)
{
    model_expire(model, now_ns);
    for (int i = 0; i < MODEL_STAGES; i++) {
        model_admit(model, i);
    }
}

static int model_acquire(struct model *model, int id, int stage, int tenant, int64_t deadline_ns)
{
    model->tickets[id].stage = stage;
    model->tickets[id].tenant = tenant;
    model->tickets[id].deadline_ns = deadline_ns;
    if (model->stages[stage].n == 0 && model_has_room(model, stage)) {
        model->tickets[id].state = GATE_HELD;
        model->stages[stage].held++;
        return 1;
    }
    if (first_of(model, stage, tenant) < 0) {
        model->stages[stage].turns[model->stages[stage].n_turns++] = tenant;
    }
    model->stages[stage].queue[model->stages[stage].n++] = id;
    model->tickets[id].state = GATE_WAITING;
    return 0;
}

static void model_release(struct model *model, int id, int64_t now_ns)
{
    if (model->tickets[id].state == GATE_NONE) {
        return;
    }
    if (model->tickets[id].state == GATE_HELD) {
        model->stages[model->tickets[id].stage].held--;
        model->tickets[id].state = GATE_NONE;
    } else {
        model_leave(model, id);
    }
    model_settle(model, now_ns);
}

/* As the model notes it: an admitted one as its number, an expired one as -1 - number. */
static void note_for_model(struct gate_ticket *ticket, int rc)
{
    struct waiter *w = (struct waiter *)ticket;

    assert_true(n_order < MODEL_TICKETS);
    assert_true(rc == 0 || rc == -ETIMEDOUT);
    order[n_order++] = rc == 0 ? w->number : -1 - w->number;
}

static void assert_as_model(const struct gates *gates, const struct model *model,
                            const struct waiter *w, int64_t now_ns)
{
    int64_t next_ns = INT64_MAX;

    assert_order(model->ended, (size_t)model->n_ended);
    for (int i = 0; i < MODEL_TICKETS; i++) {
        assert_int_equal(w[i].ticket.state, model->tickets[i].state);
        if (w[i].ticket.state == GATE_WAITING && w[i].ticket.deadline_ns < next_ns) {
            next_ns = w[i].ticket.deadline_ns;
        }
    }
    assert_int_equal(gates_next_deadline(gates), next_ns);
    for (int i = 0; i < MODEL_STAGES; i++) {
        struct gate_view view = view_of(gates, (size_t)i, now_ns);

        assert_int_equal(view.held, model->stages[i].held);
        assert_int_equal(view.waiting, model->stages[i].n);
        assert_int_equal(view.tenants, model->stages[i].n_turns);
        assert_int_equal(view.limit, model->stages[i].limit);
        assert_true(view.waiting == 0 || (view.limit && view.held >= view.limit));
        assert_int_equal(view.longest_wait_ns,
                         view.waiting ? now_ns - w[model->stages[i].queue[0]].ticket.asked_ns : 0);
    }
}

/* One random call, of the room and of the model. */
static void step_both(struct gates *gates, struct model *model, struct waiter *w, int64_t now_ns)
{
    static const char *const tenants[MODEL_TENANTS] = {"", "a", "b", "c", "d"};
    int id = (int)random_below(MODEL_TICKETS), stage = (int)random_below(MODEL_STAGES);
    unsigned what = random_below(100);

    if (what < 70 && w[id].ticket.state == GATE_NONE) {
        int tenant = (int)(random_below(MODEL_TENANTS) * random_below(2));
        /* No two alike, so that the order in which they pass is known. */
        int64_t deadline_ns = (now_ns + random_below(60)) / 64 * 64 + 64 + id;
        int rc =
            gate_acquire(gates, (size_t)stage, tenants[tenant], now_ns, deadline_ns, &w[id].ticket);

        assert_int_equal(rc, model_acquire(model, id, stage, tenant, deadline_ns));
    } else if (what < 90) {
        gate_release(gates, &w[id].ticket, now_ns);
        model_release(model, id, now_ns);
    } else if (what < 95) {
        unsigned limit = random_below(8);

        assert_int_equal(gate_set_limit(gates, (size_t)stage, limit, now_ns), 0);
        model->stages[stage].limit = limit;
        model_settle(model, now_ns);
    } else {
        gates_expire(gates, now_ns);
        model_settle(model, now_ns);
    }
}

static void test_does_what_a_plain_model_does(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct waiter w[MODEL_TICKETS] = {0};
        struct model model = {0};
        struct gates *gates = NULL;
        int64_t now_ns = 0;

        random_state = seed;
        assert_int_equal(gates_new(&gates), 0);
        for (int i = 0; i < MODEL_TICKETS; i++) {
            w[i].number = i;
            w[i].ticket.done = note_for_model;
        }
        for (int i = 0; i < 1000; i++) {
            now_ns += random_below(4);
            n_order = 0;
            model.n_ended = 0;
            step_both(gates, &model, w, now_ns);
            assert_as_model(gates, &model, w, now_ns);
        }
        gates_free(gates);
    }
}

/* ---- chaos: callbacks that do anything, and what must hold all the same ---- */

#define CHAOS_SLOTS 64

static struct {
    struct gates *gates;
    int64_t now_ns;
    uint64_t next_number;
    struct chaos_ticket *slots[CHAOS_SLOTS];             /* those that wait or hold */
    uint64_t last_admitted[MODEL_STAGES][MODEL_TENANTS]; /* number */
    size_t asked, ended;
    int depth;
    bool asking; /* within gate_acquire */
} chaos;

struct chaos_ticket {
    struct gate_ticket ticket;
    uint64_t number;
    int tenant;
    size_t slot;
};

static void chaos_step(void);

static void chaos_free(struct chaos_ticket *t)
{
    chaos.slots[t->slot] = NULL;
    chaos.ended++;
    memset(t, 0xa5, sizeof(*t)); /* whoever still looks at it falls over */
    free(t);
}

static void chaos_admitted(struct chaos_ticket *t)
{
    uint64_t *last = &chaos.last_admitted[t->ticket.stage][t->tenant];

    assert_true(t->number > *last);
    *last = t->number;
}

static void chaos_done(struct gate_ticket *ticket, int rc)
{
    struct chaos_ticket *t = (struct chaos_ticket *)ticket;
    struct gate_view view = view_of(chaos.gates, ticket->stage, chaos.now_ns);

    assert_false(chaos.asking);
    assert_ptr_equal(chaos.slots[t->slot], t);
    if (rc == 0) {
        assert_int_equal(ticket->state, GATE_HELD);
        assert_true(view.limit == 0 || view.held <= view.limit);
        chaos_admitted(t);
    } else {
        assert_int_equal(rc, -ETIMEDOUT);
        assert_int_equal(ticket->state, GATE_NONE);
        assert_true(ticket->deadline_ns <= chaos.now_ns);
        chaos_free(t);
    }
    for (unsigned n = random_below(3); n > 0 && chaos.depth < 50; n--) {
        chaos_step();
    }
}

static void chaos_ask(size_t slot)
{
    static const char *const tenants[MODEL_TENANTS] = {"", "a", "b", "c", "d"};
    struct chaos_ticket *t = calloc(1, sizeof(*t));
    size_t stage = random_below(MODEL_STAGES);
    int64_t deadline_ns = chaos.now_ns + random_below(100) + 1;
    bool others = view_of(chaos.gates, stage, chaos.now_ns).waiting > 0;
    int rc;

    t->ticket.done = chaos_done;
    t->number = ++chaos.next_number;
    t->tenant = (int)random_below(MODEL_TENANTS);
    t->slot = slot;
    chaos.slots[slot] = t;
    chaos.asked++;
    chaos.asking = true;
    rc =
        gate_acquire(chaos.gates, stage, tenants[t->tenant], chaos.now_ns, deadline_ns, &t->ticket);
    chaos.asking = false;
    assert_in_range(rc, 0, 1);
    if (rc == 1) {
        assert_false(others);
        chaos_admitted(t);
    }
}

static void chaos_step(void)
{
    size_t slot = random_below(CHAOS_SLOTS);
    struct chaos_ticket *t = chaos.slots[slot];
    unsigned what = random_below(100);

    chaos.depth++;
    chaos.now_ns += random_below(2);
    if (what < 8) {
        gate_set_limit(chaos.gates, random_below(MODEL_STAGES), random_below(6), chaos.now_ns);
    } else if (what < 16) {
        gates_expire(chaos.gates, chaos.now_ns);
    } else if (!t) {
        chaos_ask(slot);
    } else if (what < 60) {
        struct gate_ticket copy = t->ticket;

        /* Out of its place first, as the owner of a closed connection does it. */
        chaos.slots[slot] = NULL;
        chaos.ended++;
        gate_release(chaos.gates, &t->ticket, chaos.now_ns);
        assert_int_not_equal(copy.state, GATE_NONE);
        assert_int_equal(t->ticket.state, GATE_NONE);
        free(t);
    }
    chaos.depth--;
}

static void assert_chaos_in_order(void)
{
    size_t held[MODEL_STAGES] = {0}, waiting[MODEL_STAGES] = {0}, here = 0;

    for (size_t i = 0; i < CHAOS_SLOTS; i++) {
        if (chaos.slots[i]) {
            const struct gate_ticket *ticket = &chaos.slots[i]->ticket;

            here++;
            held[ticket->stage] += ticket->state == GATE_HELD;
            waiting[ticket->stage] += ticket->state == GATE_WAITING;
        }
    }
    assert_int_equal(chaos.asked, chaos.ended + here);
    for (size_t i = 0; i < MODEL_STAGES; i++) {
        struct gate_view view = view_of(chaos.gates, i, chaos.now_ns);

        assert_int_equal(view.held, held[i]);
        assert_int_equal(view.waiting, waiting[i]);
        assert_true(view.waiting == 0 || (view.limit && view.held >= view.limit));
        assert_true(view.tenants <= view.waiting && !view.tenants == !view.waiting);
    }
}

static void test_callbacks_that_do_anything(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        memset(&chaos, 0, sizeof(chaos));
        random_state = seed;
        assert_int_equal(gates_new(&chaos.gates), 0);
        for (int i = 0; i < 500; i++) {
            chaos_step();
            assert_chaos_in_order();
        }
        gates_free(chaos.gates);
        for (size_t i = 0; i < CHAOS_SLOTS; i++) {
            free(chaos.slots[i]);
        }
    }
}

/* ---- limits as JSON and as text ---- */

static int set_limits(struct gates *gates, const char *text, struct error *err)
{
    autojson json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

    assert_non_null(json);
    return gates_set_limits(gates, json, 0, err);
}

static void test_limits_are_written_for_every_stage(void **state)
{
    struct gates *gates = fixture(state);
    autojson json_t *limits = NULL;
    autofree char *text = NULL;

    gate_set_limit(gates, CNI, 4, 0);
    limits = gates_limits(gates);
    text = json_dumps(limits, JSON_COMPACT);
    assert_string_equal(text, "{\"v\":1,\"limits\":{\"netns\":0,\"cni\":4,\"cgroup\":0,\"nic\":0,"
                              "\"vm\":0,\"limits\":0,\"total\":0}}");
    gate_set_limit(gates, CNI, 9, 0);
    assert_int_equal(gates_set_limits(gates, limits, 0, NULL), 0);
    assert_int_equal(gate_limit(gates, CNI), 4);
}

static void test_limits_named_are_set_and_others_stay(void **state)
{
    struct gates *gates = fixture(state);

    gate_set_limit(gates, CNI, 4, 0);
    gate_set_limit(gates, VM, 5, 0);
    assert_int_equal(set_limits(gates,
                                "{\"v\":1,\"limits\":{\"vm\":0,\"nic\":1000000,\"cni\":null},"
                                "\"evidence\":{\"runs\":3},\"of tomorrow\":[]}",
                                NULL),
                     0);
    assert_int_equal(gate_limit(gates, CNI), 4);
    assert_int_equal(gate_limit(gates, VM), 0);
    assert_int_equal(gate_limit(gates, 3), 1000000);
    assert_int_equal(set_limits(gates, "{\"v\":1,\"limits\":{}}", NULL), 0);
}

static void test_limits_set_at_once_let_in_who_waits(void **state)
{
    struct gates *gates = fixture(state);
    struct waiter holder = {0}, w[3] = {0};

    close_gate(gates, &holder);
    line_up(gates, w, 3, 0, "a");
    assert_int_equal(set_limits(gates, "{\"v\":1,\"limits\":{\"cni\":3}}", NULL), 0);
    assert_ended(0, 1);
}

static void test_limits_refused_set_nothing(void **state)
{
    static const char stages[] = "one of netns, cni, cgroup, nic, vm, limits, total";
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"[]", "gate limits: [] is not allowed; must be an object such as "
               "{\"v\":1,\"limits\":{\"cni\":4}}"},
        {"{\"limits\":{\"cni\":3}}", "v: missing; must be 1"},
        {"{\"v\":2,\"limits\":{\"cni\":3}}", "v: 2 is not allowed; must be 1"},
        {"{\"v\":true,\"limits\":{\"cni\":3}}", "v: true is not allowed; must be 1"},
        {"{\"v\":1}", "limits: missing; must be an object of stages and their limits"},
        {"{\"v\":1,\"limits\":[3]}", "limits: [3] is not allowed; must be an object"},
        {"{\"v\":1,\"limits\":{\"cni\":3,\"vm\":-1}}",
         "limits.vm: -1 is not allowed; must be a whole number from 0 to 1000000"},
        {"{\"v\":1,\"limits\":{\"cni\":3,\"vm\":1000001}}", "limits.vm: 1000001 is not allowed"},
        {"{\"v\":1,\"limits\":{\"vm\":2.5,\"cni\":3}}", "limits.vm: 2.5 is not allowed"},
        {"{\"v\":1,\"limits\":{\"cni\":3,\"vm\":\"4\"}}", "limits.vm: \"4\" is not allowed"},
        {"{\"v\":1,\"limits\":{\"cni\":3,\"disk\":4}}",
         "limits: \"disk\" is not allowed; must be one of netns, cni,"},
        {"{\"v\":1,\"limits\":{\"cni.link\":3}}", "limits: \"cni.link\" is not allowed"},
    };
    struct gates *gates = fixture(state);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};

        assert_int_equal(set_limits(gates, cases[i].text, &err), -EINVAL);
        if (strncmp(err.text, cases[i].said, strlen(cases[i].said)) != 0) {
            fail_msg("%s said: %s", cases[i].text, err.text);
        }
        assert_true(strstr(err.text, "must be one of") == NULL || strstr(err.text, stages));
        assert_int_equal(gate_limit(gates, CNI), 0);
    }
}

static void test_setting_as_text(void **state)
{
    static const char *const bad[] = {"",       "cni",    "cni=",        "=4",     "cni=4x",
                                      "cni=-1", "cni=+4", "cni=1000001", "disk=4", "cni.link=4",
                                      "cni =4", "cni= 4", "CNI=4",       "cni==4", "cni4"};
    struct error err = {0};
    unsigned limit = 77;
    size_t stage = 77;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(gate_setting_parse(bad[i], &stage, &limit, &err), -EINVAL);
        assert_true(stage == 77 && limit == 77);
    }
    assert_int_equal(gate_setting_parse("disk=4", &stage, &limit, &err), -EINVAL);
    assert_string_equal(err.text,
                        "gate \"disk=4\" is not allowed; must be STAGE=LIMIT, STAGE one of netns, "
                        "cni, cgroup, nic, vm, limits, total, LIMIT a whole number from 0 (no "
                        "limit) to 1000000");
    assert_int_equal(gate_setting_parse("cni=4", &stage, &limit, NULL), 0);
    assert_true(stage == CNI && limit == 4);
    assert_int_equal(gate_setting_parse("total=0", &stage, &limit, NULL), 0);
    assert_true(stage == span_n_stages - 1 && limit == 0);
}

#define gate_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        gate_test(test_without_limit_all_are_let_in),
        gate_test(test_limit_makes_the_next_one_wait),
        gate_test(test_releasing_what_is_not_held_does_nothing),
        gate_test(test_ticket_can_be_used_again),
        gate_test(test_no_such_stage_or_limit),
        cmocka_unit_test(test_forgotten_tickets_are_not_told),
        gate_test(test_first_come_first_served_within_a_tenant),
        gate_test(test_tenants_take_turns),
        gate_test(test_heavy_tenant_does_not_starve_a_light_one),
        gate_test(test_shares_are_equal_however_unequal_the_load),
        gate_test(test_only_so_many_bytes_of_a_name_count),
        gate_test(test_gates_do_not_mix),
        gate_test(test_limits_change_while_hundreds_wait),
        gate_test(test_waits_end_at_their_deadline),
        gate_test(test_no_permit_for_whom_it_is_too_late),
        gate_test(test_deadline_past_when_asking),
        gate_test(test_place_given_up),
        gate_test(test_callbacks_that_release_themselves_do_not_nest),
        gate_test(test_callbacks_may_free_their_ticket),
        gate_test(test_newcomer_does_not_pass_those_who_wait),
        gate_test(test_callback_gives_up_the_place_of_the_next),
        gate_test(test_expiry_callback_frees_a_permit),
        gate_test(test_callback_lowers_the_limit_that_let_it_in),
        gate_test(test_time_goes_on_within_callbacks),
        cmocka_unit_test(test_callback_may_free_the_gates),
        gate_test(test_view_counts),
        gate_test(test_a_hundred_thousand_wait_and_no_more),
        cmocka_unit_test(test_does_what_a_plain_model_does),
        cmocka_unit_test(test_callbacks_that_do_anything),
        gate_test(test_limits_are_written_for_every_stage),
        gate_test(test_limits_named_are_set_and_others_stay),
        gate_test(test_limits_set_at_once_let_in_who_waits),
        gate_test(test_limits_refused_set_nothing),
        gate_test(test_setting_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
