/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batcher of flows on a real Open vSwitch. Run by ovs_flows.bats; DIR has db.sock and the
 * bridge's management socket.
 * ovs_flow_batcher DIR BRIDGE: with ovs-vswitchd running; nothing is left on the bridge.
 * ovs_flow_batcher DIR BRIDGE pid PID: stops that ovs-vswitchd, lets it go on, and kills it.
 * ovs_flow_batcher DIR BRIDGE again FILE: makes FILE once it has flows; makes them again, having
 * heard that ovs-vswitchd was restarted. ovs_flow_batcher DIR BRIDGE load FILE: many threads change
 * flows until there is FILE; nothing may fail, whatever is done to ovs-vswitchd, and it must have
 * been lost. ovs_flow_batcher DIR BRIDGE whole: every set of such threads is there whole, or not at
 * all; then removes them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs_flows.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COOKIE  0x51ce000000000000ULL
#define MASK    0xffff000000000000ULL
#define CALLERS 100
#define EACH    20 /* flows of a caller */

static atomic_int connections, first_connections;

static void on_connect(void *cookie, bool first)
{
    (void)cookie;
    atomic_fetch_add(&connections, 1);
    atomic_fetch_add(&first_connections, first);
}

static const struct flow_batcher_hooks hooks = {.on_connect = on_connect};

static int setup(void **state)
{
    struct error err;
    struct flow_batcher *batcher = NULL;

    if (flow_batcher_start(flows_socket, &hooks, &batcher, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    *state = batcher;
    return 0;
}

static int teardown(void **state)
{
    flow_batcher_stop(*state);
    return flows_none_left();
}

/* Flows of all callers. */
static size_t count(uint64_t cookie, uint64_t mask)
{
    autoopenflow struct openflow *of = NULL;
    struct error err = {0};
    size_t n = 0;

    assert_int_equal(openflow_connect(flows_socket, flows_soon(), &of, &err), 0);
    assert_int_equal(openflow_count(of, cookie, mask, flows_soon(), &n, &err), 0);
    return n;
}

/* ---- many callers ---- */

struct caller {
    pthread_t thread;
    struct flow_batcher *batcher;
    struct flow flows[EACH];
    struct flow_set set;
    int64_t deadline_ns;
    int rc;
    struct error err;
};

static void *call(void *cookie)
{
    struct caller *caller = cookie;

    caller->rc =
        flow_batcher_apply(caller->batcher, &caller->set, caller->deadline_ns, &caller->err);
    return NULL;
}

static struct caller *callers_new(struct flow_batcher *batcher, uint8_t table)
{
    struct caller *callers = calloc(CALLERS, sizeof(*callers));

    assert_non_null(callers);
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i].batcher = batcher;
        flows_fill(callers[i].flows, EACH, table, EACH * i);
        callers[i].set =
            (struct flow_set){.cookie = COOKIE + i, .flows = callers[i].flows, .n_flows = EACH};
        callers[i].deadline_ns = flows_soon();
    }
    return callers;
}

static void callers_start(struct caller *callers)
{
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
}

static void callers_join(struct caller *callers)
{
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
    }
}

static void callers_remove(struct caller *callers)
{
    for (int i = 0; i < CALLERS; i++) {
        callers[i].set = (struct flow_set){.cookie = callers[i].set.cookie};
        callers[i].deadline_ns = flows_soon();
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, 0);
    }
}

static void test_a_hundred_callers(void **state)
{
    autofree struct caller *callers = callers_new(*state, 1);
    struct flow_batcher_counts counts;
    uint64_t bundles = 0;

    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_string_equal(callers[i].err.text, "");
        assert_int_equal(callers[i].rc, 0);
    }
    assert_int_equal(flows_counted(COOKIE + 7), EACH);
    assert_int_equal(count(COOKIE, MASK), CALLERS * EACH);
    flow_batcher_counts(*state, &counts);
    assert_int_equal(counts.sets, CALLERS);
    assert_int_equal(counts.flows, CALLERS * EACH);
    assert_int_equal(counts.failed + counts.refused + counts.retried + counts.reconnects, 0);
    assert_true(counts.bundles < CALLERS);
    for (int i = 0; i < FLOW_BATCH_SIZES; i++) {
        bundles += counts.sizes[i];
    }
    assert_int_equal(bundles, counts.bundles);
    callers_remove(callers);
}

/* Refused at once, when committed, or for a meter: each beside callers without any. */
static void test_a_bad_flow_fails_only_its_caller(void **state)
{
    static const struct flow_meter no_meter = {.id = 0, .rate_bps = 1000};
    static const char *const words[10] = {"goto_table:1", "eth_type", "table is full", "meter 0"};
    autofree struct caller *callers = callers_new(*state, 1);
    size_t good = 0;

    flows_limit(9, EACH - 1);
    for (size_t i = 0; i < CALLERS; i += 10) {
        callers[i].flows[EACH - 1].goto_table = 1;
        callers[i + 1].flows[EACH / 2].match.eth_type = 0;
        flows_fill(callers[i + 2].flows, EACH, 9, 0);
        callers[i + 3].set.meters = &no_meter;
        callers[i + 3].set.n_meters = 1;
    }
    callers_start(callers);
    callers_join(callers);
    for (size_t i = 0; i < CALLERS; i++) {
        const char *expected = words[i % 10];

        assert_int_equal(callers[i].rc, expected ? -EREMOTEIO : 0);
        assert_int_equal(callers[i].err.errnum, callers[i].rc);
        if (expected) {
            assert_non_null(strstr(callers[i].err.text, expected));
        }
        good += !expected;
        assert_int_equal(count(COOKIE + i, UINT64_MAX), expected ? 0 : EACH);
    }
    assert_int_equal(count(COOKIE, MASK), good * EACH);
    callers_remove(callers);
    flows_limit(9, 0);
}

/* Whoever there is room for gets it, however many others are refused. */
static void test_a_table_that_has_room_for_some(void **state)
{
    autofree struct caller *callers = callers_new(*state, 9);
    int good = 0;

    flows_limit(9, EACH * CALLERS / 4);
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        good += callers[i].rc == 0;
        assert_true(callers[i].rc == 0 || callers[i].rc == -EREMOTEIO);
    }
    assert_int_equal(good, CALLERS / 4);
    assert_int_equal(count(COOKIE, MASK), good * EACH);
    callers_remove(callers);
    flows_limit(9, 0);
}

static void test_one_cookie_many_callers(void **state)
{
    autofree struct caller *callers = callers_new(*state, 1);

    for (int i = 0; i < CALLERS; i++) {
        callers[i].set.cookie = COOKIE;
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, 0);
    }
    assert_int_equal(count(COOKIE, MASK), EACH); /* one of them */
    callers_remove(callers);
}

static void test_meters_of_many_callers(void **state)
{
    autofree struct caller *callers = callers_new(*state, 1);
    autofree char *meters = NULL;
    struct flow_meter both[CALLERS][2];
    uint32_t old[2 * CALLERS];
    struct flow_set none = {.cookie = COOKIE, .old_meters = old, .n_old_meters = 2 * CALLERS};
    struct error err;

    for (uint32_t i = 0; i < CALLERS; i++) {
        both[i][0] = (struct flow_meter){.id = 1000 + i, .rate_bps = 1000000};
        both[i][1] = (struct flow_meter){.id = 10, .rate_bps = 2000000}; /* one that all share */
        callers[i].set.meters = both[i];
        callers[i].set.n_meters = 2;
        callers[i].flows[0].meter = 1000 + i;
        callers[i].flows[1].meter = 10;
        old[i] = 1000 + i;
        old[CALLERS + i] = 10;
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_string_equal(callers[i].err.text, "");
        assert_int_equal(callers[i].rc, 0);
    }
    meters = flows_ofctl("dump-meters", NULL);
    assert_non_null(strstr(meters, "meter=10 "));
    assert_non_null(strstr(meters, "meter=1099 "));
    assert_int_equal(count(COOKIE, MASK), CALLERS * EACH);
    callers_remove(callers);
    assert_int_equal(flow_batcher_apply(*state, &none, flows_soon(), &err), 0);
}

/* ---- one call ---- */

static void test_past_the_deadline(void **state)
{
    struct flow_set set = {.cookie = COOKIE};
    struct error err = {0};

    assert_int_equal(flow_batcher_apply(*state, &set, clock_ns() - 1, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, flows_socket));
}

static void test_no_such_bridge(void **state)
{
    struct flow_set set = {.cookie = COOKIE};
    struct flow_batcher *batcher = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(flow_batcher_start("unix:/nonexistent/br0.mgmt", NULL, &batcher, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(flow_batcher_apply(batcher, &set, flows_soon(), &err), -ENOENT);
        assert_non_null(strstr(err.text, "/nonexistent/br0.mgmt"));
    }
    assert_false(flow_batcher_connected(batcher));
    flow_batcher_stop(batcher);
    flow_batcher_stop(NULL);
}

/* ---- ovs-vswitchd stopped, killed ---- */

static pid_t switch_pid;

static void test_a_switch_that_hangs_costs_no_more_than_the_deadline(void **state)
{
    autofree struct caller *callers = callers_new(*state, 1);
    struct error err = {0};
    int sent = 0;

    assert_int_equal(flow_batcher_apply(*state, &callers[0].set, flows_soon(), &err), 0);
    assert_int_equal(kill(switch_pid, SIGSTOP), 0);
    for (int i = 0; i < CALLERS; i++) {
        callers[i].deadline_ns = clock_ns() + (500 + i) * NSEC_PER_MSEC;
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, -ETIMEDOUT);
        assert_non_null(strstr(callers[i].err.text, "did not answer in time"));
        assert_non_null(strstr(callers[i].err.text, flows_socket));
        sent += strstr(callers[i].err.text, "may hold all the same") != NULL;
    }
    assert_true(sent > 0);
    assert_int_equal(kill(switch_pid, SIGCONT), 0);
    callers_remove(callers);
    assert_int_equal(count(COOKIE, MASK), 0);
}

static void test_stop_while_a_switch_hangs(void **state)
{
    struct flow_batcher *batcher = NULL;
    autofree struct caller *callers = NULL;
    struct flow_batcher_counts counts;
    struct flow_set none = {.cookie = COOKIE};
    struct error err;

    (void)state;
    for (int connected = 1; connected >= 0; connected--) {
        assert_int_equal(flow_batcher_start(flows_socket, NULL, &batcher, &err), 0);
        if (connected) {
            assert_int_equal(flow_batcher_apply(batcher, &none, flows_soon(), &err), 0);
            assert_int_equal(kill(switch_pid, SIGSTOP), 0);
        }
        free(take_ptr(callers));
        callers = callers_new(batcher, 1);
        callers_start(callers);
        do {
            clock_sleep_ns(NSEC_PER_MSEC);
            flow_batcher_counts(batcher, &counts);
        } while (connected && counts.bundles < 2);
        flow_batcher_stop(batcher);
        callers_join(callers);
        for (int i = 0; i < CALLERS; i++) {
            assert_int_equal(callers[i].rc, -ECANCELED);
            assert_non_null(strstr(callers[i].err.text, "canceled"));
        }
    }
    assert_int_equal(kill(switch_pid, SIGCONT), 0);
    assert_int_equal(count(COOKIE, MASK), 0); /* an open bundle went with its connection */
}

/* Those that wait go on waiting for a while; one that was never there is missed at once. */
static void test_a_switch_that_is_gone(void **state)
{
    autofree struct caller *callers = callers_new(*state, 1);
    struct flow_batcher *another = NULL;
    struct error err = {0};

    assert_int_equal(flow_batcher_apply(*state, &callers[0].set, flows_soon(), &err), 0);
    kill(switch_pid, SIGKILL);
    while (flow_batcher_connected(*state)) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, -ECONNREFUSED);
        assert_non_null(strstr(callers[i].err.text, "ovs-vswitchd is not running"));
        assert_non_null(strstr(callers[i].err.text, flows_socket));
    }
    assert_int_equal(flow_batcher_start(flows_socket, NULL, &another, &err), 0);
    assert_int_equal(flow_batcher_apply(another, &callers[0].set, flows_soon(), &err),
                     -ECONNREFUSED);
    flow_batcher_stop(another);
    flow_batcher_stop(*state);
}

/* ---- under load ---- */

#define WORKERS    16
#define WORK_FLOWS 300

struct worker {
    pthread_t thread;
    struct flow_batcher *batcher;
    uint64_t cookie;
    struct flow flows[WORK_FLOWS];
    int seen; /* connections when its flows were made */
    int again;
    struct error err;
};

static const char *enough;

/* Makes its flows and removes them, by turns; after a restart makes them again. */
static void *work(void *cookie)
{
    struct worker *worker = cookie;
    struct flow_set sets[2] = {
        {.cookie = worker->cookie},
        {.cookie = worker->cookie, .flows = worker->flows, .n_flows = WORK_FLOWS}};
    int rc = 0;

    for (int i = 0; rc == 0 && access(enough, F_OK) < 0; i++) {
        rc = flow_batcher_apply(worker->batcher, &sets[i % 2], flows_soon(), &worker->err);
    }
    while (rc == 0 && worker->seen != atomic_load(&connections)) {
        worker->seen = atomic_load(&connections);
        worker->again++;
        rc = flow_batcher_apply(worker->batcher, &sets[1], flows_soon(), &worker->err);
    }
    return NULL;
}

/* A switch that comes back is told of to who has nothing to send. */
static void test_again(void **state)
{
    struct flow flows[EACH];
    struct flow_set set = {.cookie = COOKIE, .flows = flows, .n_flows = EACH};
    struct flow_set none = {.cookie = COOKIE};
    struct error err = {0};

    flows_fill(flows, EACH, 1, 0);
    assert_int_equal(flow_batcher_apply(*state, &set, flows_soon(), &err), 0);
    assert_int_equal(file_write_atomic(enough, "", 0, 0600), 0);
    while (atomic_load(&connections) < 2) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    assert_int_equal(count(COOKIE, MASK), 0);
    assert_int_equal(flow_batcher_apply(*state, &set, flows_soon(), &err), 0);
    assert_int_equal(count(COOKIE, MASK), EACH);
    assert_int_equal(flow_batcher_apply(*state, &none, flows_soon(), &err), 0);
}

static struct worker *workers_new(struct flow_batcher *batcher)
{
    struct worker *workers = calloc(WORKERS, sizeof(*workers));

    assert_non_null(workers);
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].batcher = batcher;
        workers[i].cookie = COOKIE + i;
        flows_fill(workers[i].flows, WORK_FLOWS, 1, WORK_FLOWS * i);
    }
    return workers;
}

static void assert_whole(void)
{
    for (size_t i = 0; i < WORKERS; i++) {
        size_t n = count(COOKIE + i, UINT64_MAX);

        assert_true(n == 0 || n == WORK_FLOWS);
    }
}

static void test_load(void **state)
{
    autofree struct worker *workers = workers_new(*state);
    struct flow_batcher_counts counts;

    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_string_equal(workers[i].err.text, "");
    }
    flow_batcher_counts(*state, &counts);
    assert_int_equal(counts.failed, 0);
    assert_true(counts.reconnects > 0);
    assert_int_equal(counts.reconnects + 1, connections);
    assert_int_equal(first_connections, 1);
    for (int i = 0; i < WORKERS; i++) {
        struct flow_set none = {.cookie = workers[i].cookie};
        struct error err;

        assert_int_equal(count(workers[i].cookie, UINT64_MAX), WORK_FLOWS);
        assert_int_equal(flow_batcher_apply(*state, &none, flows_soon(), &err), 0);
    }
}

static void test_whole(void **state)
{
    (void)state;
    assert_whole();
    for (size_t i = 0; i < WORKERS; i++) {
        char argument[64];

        snprintf(argument, sizeof(argument), "cookie=0x%llx/-1", COOKIE + i);
        free(flows_ofctl("del-flows", argument));
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_hundred_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_bad_flow_fails_only_its_caller, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_that_has_room_for_some, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_cookie_many_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meters_of_many_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_past_the_deadline, setup, teardown),
        cmocka_unit_test(test_no_such_bridge),
    };
    const struct CMUnitTest hanging[] = {
        cmocka_unit_test_setup_teardown(test_a_switch_that_hangs_costs_no_more_than_the_deadline,
                                        setup, teardown),
        cmocka_unit_test(test_stop_while_a_switch_hangs),
        cmocka_unit_test_setup(test_a_switch_that_is_gone, setup),
    };
    const struct CMUnitTest load[] = {cmocka_unit_test_setup_teardown(test_load, setup, teardown)};
    const struct CMUnitTest again[] = {
        cmocka_unit_test_setup_teardown(test_again, setup, teardown)};
    const struct CMUnitTest whole[] = {cmocka_unit_test(test_whole)};

    if (argc < 3 || flows_begin(argv[1], argv[2]) < 0) {
        fprintf(stderr,
                "usage: ovs_flow_batcher DIR BRIDGE [pid PID | again FILE | load FILE | whole]\n");
        return 2;
    }
    if (argc == 5 && !strcmp(argv[3], "pid")) {
        switch_pid = (pid_t)strtol(argv[4], NULL, 10);
        return cmocka_run_group_tests(hanging, NULL, NULL);
    }
    if (argc == 5) {
        enough = argv[4];
        return !strcmp(argv[3], "again") ? cmocka_run_group_tests(again, NULL, NULL)
                                         : cmocka_run_group_tests(load, NULL, NULL);
    }
    return argc == 4 ? cmocka_run_group_tests(whole, NULL, NULL)
                     : cmocka_run_group_tests(tests, NULL, NULL);
}
