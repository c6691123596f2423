/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batcher on a real Open vSwitch. Run by ovs.bats, inside the network namespace of a private
 * one: ovs_batcher SOCKET BRIDGE, with ovs-vswitchd running; nothing is left on the bridge.
 * ovs_batcher SOCKET BRIDGE stopped|dead, with ovs-vswitchd in that state.
 * ovs_batcher SOCKET BRIDGE load FILE adds and removes ports from many threads until there is FILE;
 * nothing may fail, whatever is done to ovsdb-server, and it must have been lost.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs/ovs.h"

#include <errno.h>
#include <net/if.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLERS 100

static const char *socket_path, *bridge;

static int64_t soon(void)
{
    return clock_ns() + 30 * NSEC_PER_SEC;
}

static int setup(void **state)
{
    struct error err;
    struct ovs_batcher *batcher = NULL;

    if (ovs_batcher_start(socket_path, &batcher, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    *state = batcher;
    return 0;
}

/* Ports there are besides the bridge's own. */
static size_t count_ports(void)
{
    autoovsdb struct ovsdb *db = NULL;
    struct ovs_ports ports = {0};
    struct error err = {0};
    size_t n;

    assert_int_equal(ovsdb_connect(socket_path, soon(), &db, &err), 0);
    assert_int_equal(ovs_ports_list(db, NULL, false, soon(), &ports, &err), 0);
    n = ports.n - 1;
    ovs_ports_clear(&ports);
    return n;
}

static int teardown(void **state)
{
    ovs_batcher_stop(*state);
    if (count_ports() != 0) {
        fprintf(stderr, "%zu ports are left\n", count_ports());
        return -1;
    }
    return 0;
}

static struct ovs_port_spec internal(const char *name)
{
    return (struct ovs_port_spec){
        .bridge = bridge,
        .name = name,
        .type = "internal",
        .owner = {.network = "net", .container_id = name, .ifname = "eth0", .instance = "/i"}};
}

/* ---- many callers ---- */

struct caller {
    pthread_t thread;
    struct ovs_batcher *batcher;
    char name[IFNAMSIZ];
    struct ovs_port_spec spec;
    bool remove;
    int64_t deadline_ns;
    int rc, ofport;
    struct error err;
};

static void *call(void *cookie)
{
    struct caller *caller = cookie;
    const char *name = caller->spec.name;

    caller->rc = caller->remove
                     ? ovs_batcher_del(caller->batcher, &name, 1, caller->deadline_ns, &caller->err)
                     : ovs_batcher_add(caller->batcher, &caller->spec, 1, caller->deadline_ns,
                                       &caller->ofport, &caller->err);
    return NULL;
}

static struct caller *callers_new(struct ovs_batcher *batcher)
{
    struct caller *callers = calloc(CALLERS, sizeof(*callers));

    assert_non_null(callers);
    for (int i = 0; i < CALLERS; i++) {
        snprintf(callers[i].name, sizeof(callers[i].name), "many%d", i);
        callers[i].batcher = batcher;
        callers[i].spec = internal(callers[i].name);
        callers[i].deadline_ns = soon();
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
        callers[i].remove = true;
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, 0);
    }
}

static void test_a_hundred_callers(void **state)
{
    autofree struct caller *callers = callers_new(*state);
    struct ovs_batcher_counts counts;

    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_string_equal(callers[i].err.text, "");
        assert_int_equal(callers[i].rc, 0);
        assert_true(callers[i].ofport > 0);
        assert_true(if_nametoindex(callers[i].name) > 0);
        for (int k = 0; k < i; k++) {
            assert_int_not_equal(callers[i].ofport, callers[k].ofport);
        }
    }
    ovs_batcher_counts(*state, &counts);
    assert_int_equal(counts.added, CALLERS);
    assert_int_equal(counts.failed, 0);
    assert_int_equal(counts.retried, 0);
    assert_true(counts.transactions < CALLERS);
    assert_int_equal(count_ports(), CALLERS);

    callers_remove(callers);
    assert_int_equal(count_ports(), 0);
    ovs_batcher_counts(*state, &counts);
    assert_int_equal(counts.removed, CALLERS);
}

/* Every kind of error, each beside callers without any. */
static void test_errors_fail_alone(void **state)
{
    static const struct {
        int rc;
        const char *words;
    } expected[10] = {{-EEXIST, "taken"},
                      {-ENODEV, "(there is: "},
                      {-EREMOTEIO, "No such device"},
                      {-EINVAL, "VLAN tag 5000"}};
    autofree struct caller *callers = callers_new(*state);
    struct ovs_port_spec taken = internal("taken");
    const char *name = "taken";
    struct error err = {0};
    size_t good = 0;

    assert_int_equal(ovs_batcher_add(*state, &taken, 1, soon(), NULL, &err), 0);
    for (int i = 0; i < CALLERS; i += 10) {
        callers[i].spec.name = "taken";
        callers[i + 1].spec.bridge = "nobr";
        callers[i + 2].spec.type = "";
        callers[i + 3].spec.tag = 5000;
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        const struct caller *caller = &callers[i];

        assert_int_equal(caller->rc, expected[i % 10].rc);
        assert_int_equal(caller->err.errnum, expected[i % 10].rc);
        good += caller->rc == 0;
        if (caller->rc < 0) {
            assert_non_null(strstr(caller->err.text, expected[i % 10].words));
            assert_non_null(
                strstr(caller->err.text, caller->rc == -ENODEV ? "nobr" : caller->spec.name));
            assert_int_equal(caller->ofport, 0);
        }
    }
    assert_int_equal(count_ports(), good + 1);
    callers_remove(callers);
    assert_int_equal(ovs_batcher_del(*state, &name, 1, soon(), &err), 0);
}

static void test_one_name_many_callers(void **state)
{
    autofree struct caller *callers = callers_new(*state);
    int good = 0;

    for (int i = 0; i < CALLERS; i++) {
        callers[i].spec.name = "same";
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        good += callers[i].rc == 0;
        assert_true(callers[i].rc == 0 || callers[i].rc == -EEXIST);
    }
    assert_int_equal(good, 1);
    callers_remove(callers);
}

/* ---- one call ---- */

static void test_all_or_none(void **state)
{
    struct ovs_port_spec specs[] = {internal("one"), internal("two"), internal("three")};
    const char *names[] = {"one", "two", "three", "nobody"};
    int ofports[3] = {-7, -7, -7};
    struct error err = {0};

    specs[1].bridge = "nobr";
    assert_int_equal(ovs_batcher_add(*state, specs, 3, soon(), ofports, &err), -ENODEV);
    specs[1] = internal("one");
    assert_int_equal(ovs_batcher_add(*state, specs, 3, soon(), ofports, &err), -EEXIST);
    specs[1] = internal("two");
    specs[2].type = "";
    assert_int_equal(ovs_batcher_add(*state, specs, 3, soon(), ofports, &err), -EREMOTEIO);
    assert_non_null(strstr(err.text, "port three on bridge"));
    assert_int_equal(ofports[0], -7);
    assert_int_equal(count_ports(), 0);

    specs[2] = internal("three");
    assert_int_equal(ovs_batcher_add(*state, specs, 3, soon(), ofports, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(ofports[i] > 0);
    }
    assert_int_equal(ovs_batcher_del(*state, names, 4, soon(), &err), 0);
    assert_int_equal(ovs_batcher_add(*state, specs, 0, soon(), NULL, &err), 0);
}

/* More than a transaction of removals may have. */
static void test_many_in_one_call(void **state)
{
    struct ovs_port_spec specs[CALLERS];
    char text[CALLERS][IFNAMSIZ];
    const char *names[CALLERS];
    struct error err = {0};

    for (int i = 0; i < CALLERS; i++) {
        snprintf(text[i], sizeof(text[i]), "many%d", i);
        names[i] = text[i];
        specs[i] = internal(text[i]);
    }
    assert_int_equal(ovs_batcher_add(*state, specs, CALLERS, soon(), NULL, &err), 0);
    assert_int_equal(ovs_batcher_del(*state, names, CALLERS, soon(), &err), 0);
}

static void test_what_others_do_is_seen_at_once(void **state)
{
    struct ovs_port_spec spec = internal("other");
    autoovsdb struct ovsdb *db = NULL;
    const char *name = "other";
    struct error err = {0};

    assert_int_equal(ovsdb_connect(socket_path, soon(), &db, &err), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ovs_ports_add(db, &spec, 1, soon(), NULL, &err), 0);
        assert_int_equal(ovs_batcher_add(*state, &spec, 1, soon(), NULL, &err), -EEXIST);
        assert_int_equal(ovs_ports_del(db, &name, 1, false, soon(), &err), 0);
        assert_int_equal(ovs_batcher_add(*state, &spec, 1, soon(), NULL, &err), 0);
        assert_int_equal(ovs_batcher_del(*state, &name, 1, soon(), &err), 0);
    }
}

static void test_past_the_deadline(void **state)
{
    struct ovs_port_spec spec = internal("late");
    const char *name = "late";
    struct error err = {0};

    assert_int_equal(ovs_batcher_add(*state, &spec, 1, clock_ns() - 1, NULL, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, "port late on bridge"));
    assert_int_equal(ovs_batcher_del(*state, &name, 1, clock_ns() - 1, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, "port late"));
}

static void test_no_such_socket(void **state)
{
    struct ovs_port_spec spec = internal("p");
    struct ovs_batcher *batcher = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(ovs_batcher_start("unix:/nonexistent/db.sock", &batcher, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), -ENOENT);
        assert_non_null(strstr(err.text, "/nonexistent/db.sock"));
    }
    ovs_batcher_stop(batcher);
    ovs_batcher_stop(NULL);
}

/* ---- ovs-vswitchd is not there ---- */

static const char *silent_words;

static void test_silent(void **state)
{
    autofree struct caller *callers = callers_new(*state);
    const char *name = "nobody";
    struct error err = {0};

    for (int i = 0; i < CALLERS; i++) {
        callers[i].deadline_ns = clock_ns() + (3000 + i) * NSEC_PER_MSEC;
    }
    callers_start(callers);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, -ETIMEDOUT);
        assert_non_null(strstr(callers[i].err.text, silent_words));
        assert_non_null(strstr(callers[i].err.text, socket_path));
        assert_non_null(strstr(callers[i].err.text, callers[i].name));
        assert_null(strstr(callers[i].err.text, "left behind"));
    }
    assert_int_equal(ovs_batcher_del(*state, &name, 1, soon(), &err), 0);
}

static void test_stop_while_waiting(void **state)
{
    struct ovs_batcher *batcher = NULL;
    autofree struct caller *callers = NULL;
    struct error err;

    (void)state;
    assert_int_equal(ovs_batcher_start(socket_path, &batcher, &err), 0);
    callers = callers_new(batcher);
    callers_start(callers);
    while (count_ports() < CALLERS) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    ovs_batcher_stop(batcher);
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, -ECANCELED);
        assert_non_null(strstr(callers[i].err.text, callers[i].name));
        assert_null(strstr(callers[i].err.text, "left behind"));
    }
    assert_int_equal(count_ports(), 0);
}

/* Removals let additions that wait pass, but not for ever. */
static void test_removals_pass_additions_that_hang(void **state)
{
    autofree struct caller *callers = callers_new(*state);
    const char *name = "nobody";
    struct error err = {0};

    for (int i = 0; i < CALLERS; i++) {
        callers[i].deadline_ns = clock_ns() + 4 * NSEC_PER_SEC;
    }
    callers_start(callers);
    while (count_ports() < CALLERS) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    assert_int_equal(ovs_batcher_del(*state, &name, 1, soon(), &err), 0);
    assert_int_equal(count_ports(), CALLERS);
    callers_join(callers);
}

static int run_silent(const char *words)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_silent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_while_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removals_pass_additions_that_hang, setup, teardown),
    };

    silent_words = words;
    return cmocka_run_group_tests_name("batcher, ovs-vswitchd is silent", tests, NULL, NULL);
}

/* ---- ovsdb-server restarts ---- */

static const char *enough;

static void *load(void *cookie)
{
    struct caller *caller = cookie;

    while (caller->rc == 0 && access(enough, F_OK) < 0) {
        caller->deadline_ns = clock_ns() + 60 * NSEC_PER_SEC;
        caller->remove = !caller->remove;
        call(caller);
    }
    return NULL;
}

static void test_load(void **state)
{
    autofree struct caller *callers = callers_new(*state);
    struct ovs_batcher_counts counts;

    for (int i = 0; i < CALLERS; i++) {
        callers[i].remove = true;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, load, &callers[i]), 0);
    }
    callers_join(callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_string_equal(callers[i].err.text, "");
        assert_int_equal(callers[i].rc, 0);
    }
    ovs_batcher_counts(*state, &counts);
    printf("# %lu added, %lu removed, %lu retried, %lu reconnects\n", (unsigned long)counts.added,
           (unsigned long)counts.removed, (unsigned long)counts.retried,
           (unsigned long)counts.reconnects);
    assert_true(counts.reconnects > 0);
    callers_remove(callers);
}

static int run_load(const char *file)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_load, setup, teardown),
    };

    enough = file;
    return cmocka_run_group_tests_name("batcher, ovsdb-server restarts", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_hundred_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_fail_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_name_many_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_or_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_in_one_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_others_do_is_seen_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_past_the_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_such_socket, setup, teardown),
    };

    if (argc < 3) {
        fprintf(stderr, "usage: ovs_batcher SOCKET BRIDGE [stopped|dead|load FILE]\n");
        return 2;
    }
    socket_path = argv[1];
    bridge = argv[2];
    if (argc == 4 && !strcmp(argv[3], "stopped")) {
        return run_silent("ovs-vswitchd on OVSDB");
    }
    if (argc == 4 && !strcmp(argv[3], "dead")) {
        return run_silent("no ovs-vswitchd is running");
    }
    if (argc == 5 && !strcmp(argv[3], "load")) {
        return run_load(argv[4]);
    }
    return cmocka_run_group_tests_name("batcher", tests, NULL, NULL);
}
