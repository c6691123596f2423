/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batcher against a server that fails where ovsdb-server would only by chance: in the middle of
 * a commit, with silence, with nonsense. All else is tested with real Open vSwitch
 * (tests/netns/ovs.bats).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs/batcher-internal.h"

#include <errno.h>
#include <signal.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- a database of one bridge, br0 ---- */

enum fault {
    NO_FAULT,
    LOST_BEFORE,  /* it closes the connection instead of committing an addition */
    LOST_AFTER,   /* instead of telling that it has */
    SILENT,       /* it does not answer, but commits */
    SLOW,         /* it does not answer until CALLERS more wait */
    MAD,          /* it sends a nonsensical update before it answers */
    NO_MONITOR,   /* it refuses to be monitored */
    ROW_GONE,     /* the port is removed as soon as it was added */
    NOT_NUMBERED, /* ovs-vswitchd does nothing */
};

struct server {
    char dir[40], path[64];
    int listener, stop_fd, fd;
    pthread_t thread;
    enum fault fault; /* of the first addition, or the first monitor; then there is none */
    json_t *ports;    /* name: the row of the table Port */
    int last_uuid;
    atomic_int additions, connections, echoed; /* transactions; ... */
};

#define CALLERS 32

static struct ovs_batcher *batcher;

static void say(struct server *server, json_t *message)
{
    autofree char *text = json_dumps(message, 0);

    json_decref(message);
    assert_non_null(text);
    fd_write_all(server->fd, text, strlen(text));
}

static void say_update(struct server *server, const json_t *row, int ofport)
{
    const char *uuid = ovs_uuid_text(json_object_get(row, "interfaces"));

    if (ofport < 0) {
        say(server, json_pack("{s:n, s:s, s:[s, {s:{s:{s:{}}}}]}", "id", "method", "update",
                              "params", "sluice", "Interface", uuid, "old"));
        return;
    }
    say(server,
        json_pack("{s:n, s:s, s:[s, {s:{s:{s:{s:O, s:o}}}}]}", "id", "method", "update", "params",
                  "sluice", "Interface", uuid, "new", "name", json_object_get(row, "name"),
                  "ofport", ofport ? json_integer(ofport) : json_pack("[s, []]", "set")));
}

static json_t *table_of_interfaces(struct server *server)
{
    json_t *table = json_object(), *row;
    const char *name;

    json_object_foreach (server->ports, name, row) {
        json_object_set_new(table, ovs_uuid_text(json_object_get(row, "interfaces")),
                            json_pack("{s:{s:s, s:i}}", "new", "name", name, "ofport", 7));
    }
    return table;
}

static json_t *select_rows(struct server *server, const json_t *op)
{
    const json_t *condition = json_array_get(json_object_get(op, "where"), 0);
    const char *name = json_string_value(json_array_get(condition, 2));
    json_t *row = name ? json_object_get(server->ports, name) : NULL;

    if (!strcmp(json_string_value(json_object_get(op, "table")), "Bridge")) {
        return json_pack("{s:[{s:s}]}", "rows", "name", "br0");
    }
    return row ? json_pack("{s:[O]}", "rows", row) : json_pack("{s:[]}", "rows");
}

/* An insertion of a Port comes after that of its Interface. */
static json_t *insert(struct server *server, const json_t *op, json_t *added)
{
    json_t *row = json_object_get(op, "row");
    char uuid[16];

    snprintf(uuid, sizeof(uuid), "u%d", ++server->last_uuid);
    if (!strcmp(json_string_value(json_object_get(op, "table")), "Port")) {
        char interface[16];

        snprintf(interface, sizeof(interface), "u%d", server->last_uuid - 1);
        json_array_append_new(added, json_pack("{s:O, s:[s, s], s:[s, s], s:O}", "name",
                                               json_object_get(row, "name"), "_uuid", "uuid", uuid,
                                               "interfaces", "uuid", interface, "external_ids",
                                               json_object_get(row, "external_ids")));
    }
    return json_pack("{s:[s, s]}", "uuid", "uuid", uuid);
}

/* What ovsdb-server would say: a name that begins with "bad" is always taken. */
static json_t *execute(struct server *server, const json_t *params, json_t *added)
{
    json_t *results = json_array(), *op, *row;
    bool taken = false;
    size_t i;

    json_array_foreach (params, i, op) {
        const char *what = json_string_value(json_object_get(op, "op"));

        if (!what) {
            continue;
        }
        json_array_append_new(results, !strcmp(what, "select")   ? select_rows(server, op)
                                       : !strcmp(what, "insert") ? insert(server, op, added)
                                                                 : json_object());
    }
    json_array_foreach (added, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));

        taken = taken || str_has_prefix(name, "bad") || json_object_get(server->ports, name);
    }
    if (taken) {
        json_array_clear(added);
        json_array_append_new(results, json_pack("{s:s}", "error", "constraint violation"));
    }
    return results;
}

static size_t waiting(void)
{
    size_t n;

    pthread_mutex_lock(&batcher->lock);
    n = batcher->waiting;
    pthread_mutex_unlock(&batcher->lock);
    return n;
}

/* Commits, tells so, and then that ovs-vswitchd has made the ports; false to hang up. */
static bool transact(struct server *server, const json_t *request)
{
    autojson json_t *added = json_array(),
                    *results = execute(server, json_object_get(request, "params"), added);
    enum fault fault = NO_FAULT;
    const json_t *row;
    size_t i;

    if (json_array_size(added) > 0) {
        fault = server->fault;
        server->fault = NO_FAULT;
        atomic_fetch_add(&server->additions, 1);
    }
    if (fault == LOST_BEFORE) {
        return false;
    }
    json_array_foreach (added, i, row) {
        json_object_set(server->ports, json_string_value(json_object_get(row, "name")),
                        (json_t *)row);
        say_update(server, row, 0);
    }
    if (fault == MAD) {
        say(server, json_pack("{s:n, s:s, s:[s, {s:{s:i}}]}", "id", "method", "update", "params",
                              "sluice", "Interface", "u1", 5));
    }
    if (fault == LOST_AFTER || fault == SILENT) {
        return fault == SILENT;
    }
    while (fault == SLOW && waiting() <= CALLERS) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    say(server, json_pack("{s:O, s:O, s:n}", "id", json_object_get(request, "id"), "result",
                          results, "error"));
    json_array_foreach (added, i, row) {
        if (fault != NOT_NUMBERED) {
            say_update(server, row, fault == ROW_GONE ? -1 : (int)i + 1);
        }
    }
    return true;
}

static bool answer(struct server *server, const json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));

    if (!method) {
        atomic_fetch_add(&server->echoed, 1);
        return true;
    }
    if (!strcmp(method, "transact")) {
        return transact(server, message);
    }
    if (!strcmp(method, "monitor") && server->fault == NO_MONITOR) {
        say(server, json_pack("{s:O, s:n, s:{s:s}}", "id", json_object_get(message, "id"), "result",
                              "error", "error", "no such thing"));
    } else if (!strcmp(method, "monitor")) {
        say(server, json_pack("{s:O, s:{s:{s:{s:{s:s}}}, s:o}, s:n}", "id",
                              json_object_get(message, "id"), "result", "Bridge", "b0", "new",
                              "name", "br0", "Interface", table_of_interfaces(server), "error"));
        say(server, json_pack("{s:s, s:s, s:[]}", "id", "e", "method", "echo", "params"));
    } else {
        say(server, json_pack("{s:O, s:{s:b}, s:n}", "id", json_object_get(message, "id"), "result",
                              "locked", 0, "error"));
    }
    return true;
}

/* Serves one client; false when it is time to stop. */
static bool serve_client(struct server *server)
{
    autoovsdb struct ovsdb *db = NULL;

    assert_int_equal(ovsdb_attach(server->fd, "test", &db), 0);
    for (;;) {
        struct pollfd pfds[2] = {{.fd = server->fd, .events = POLLIN},
                                 {.fd = server->stop_fd, .events = POLLIN}};
        autojson json_t *message = NULL;

        assert_int_equal(ovsdb_next(db, &message, NULL), 0);
        if (message) {
            if (!answer(server, message)) {
                return true;
            }
            continue;
        }
        poll(pfds, 2, -1);
        if (pfds[1].revents || ovsdb_receive(db, NULL) < 0) {
            return !pfds[1].revents;
        }
    }
}

static void *serve(void *cookie)
{
    struct server *server = cookie;
    struct pollfd pfds[2] = {{.fd = server->listener, .events = POLLIN},
                             {.fd = server->stop_fd, .events = POLLIN}};

    while (poll(pfds, 2, -1) > 0 && !pfds[1].revents) {
        server->fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(server->fd >= 0);
        atomic_fetch_add(&server->connections, 1);
        if (!serve_client(server)) {
            break;
        }
    }
    return NULL;
}

static struct server server;

static void start(enum fault fault)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct error err;

    server = (struct server){.fault = fault, .ports = json_object(), .stop_fd = eventfd(0, 0)};
    strcpy(server.dir, "/tmp/test-batcher-XXXXXX");
    assert_non_null(mkdtemp(server.dir));
    snprintf(server.path, sizeof(server.path), "%s/db.sock", server.dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", server.path);
    server.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server.listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server.listener, 4), 0);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, &server), 0);
    assert_int_equal(ovs_batcher_start(server.path, &batcher, &err), 0);
}

static void stop(void)
{
    ovs_batcher_stop(take_ptr(batcher));
    eventfd_write(server.stop_fd, 1);
    pthread_join(server.thread, NULL);
    close(server.listener);
    close(server.stop_fd);
    json_decref(server.ports);
    assert_int_equal(dir_remove(server.dir), 0);
}

static int64_t soon(void)
{
    return clock_ns() + 20 * NSEC_PER_SEC;
}

static struct ovs_port_spec owned(const char *name)
{
    return (struct ovs_port_spec){
        .bridge = "br0", .name = name, .owner = {.network = "net", .container_id = name}};
}

static struct ovs_batcher_counts counts(void)
{
    struct ovs_batcher_counts now;

    ovs_batcher_counts(batcher, &now);
    return now;
}

/* ---- a connection lost in the middle ---- */

static void test_not_committed_is_sent_again(void **state)
{
    struct ovs_port_spec spec = owned("p");
    struct error err = {0};

    (void)state;
    start(LOST_BEFORE);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), 0);
    assert_int_equal(server.additions, 2);
    assert_int_equal(counts().retried, 1);
    assert_int_equal(counts().reconnects, 1);
    stop();
}

static void test_committed_is_not_sent_again(void **state)
{
    struct ovs_port_spec specs[] = {owned("p"), owned("q")};
    int ofports[2] = {0};
    struct error err = {0};

    (void)state;
    start(LOST_AFTER);
    assert_int_equal(ovs_batcher_add(batcher, specs, 2, soon(), ofports, &err), 0);
    assert_int_equal(ofports[1], 7);
    assert_int_equal(server.additions, 1);
    assert_int_equal(counts().retried, 0);
    assert_int_equal(counts().reconnects, 1);
    stop();
}

/* Without an owner nobody can tell whose the port is that is there now. */
static void test_without_an_owner(void **state)
{
    struct ovs_port_spec spec = {.bridge = "br0", .name = "p"};
    struct error err = {0};

    (void)state;
    start(LOST_BEFORE);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), 0);
    stop();
    start(LOST_AFTER);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), -EAGAIN);
    assert_non_null(strstr(err.text, "port p on bridge br0: the connection to OVSDB"));
    stop();
}

static void test_a_server_gone_mad(void **state)
{
    struct ovs_port_spec spec = owned("p");
    struct error err = {0};

    (void)state;
    start(MAD);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), 0);
    assert_int_equal(server.connections, 2);
    stop();
}

static void test_no_monitor(void **state)
{
    struct ovs_port_spec spec = owned("p");
    struct error err = {0};

    (void)state;
    start(NO_MONITOR);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), -EREMOTEIO);
    assert_non_null(strstr(err.text, "no such thing"));
    stop();
}

/* ---- silence ---- */

static void test_silence_ends_after_the_deadline(void **state)
{
    struct ovs_port_spec specs[] = {owned("p"), owned("q")};
    struct error err = {0};

    (void)state;
    start(SILENT);
    assert_int_equal(
        ovs_batcher_add(batcher, &specs[0], 1, clock_ns() + 50 * NSEC_PER_MSEC, NULL, &err),
        -ETIMEDOUT);
    assert_non_null(strstr(err.text, "did not answer in time"));
    assert_non_null(strstr(err.text, "may be left behind"));
    assert_int_equal(ovs_batcher_add(batcher, &specs[1], 1, soon(), NULL, &err), 0);
    stop();
}

static void *add_one(void *cookie)
{
    struct ovs_port_spec spec = owned(cookie);
    struct error err = {0};

    return (void *)(intptr_t)ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err);
}

static void *stop_batcher(void *cookie)
{
    ovs_batcher_stop(batcher);
    return cookie;
}

static void test_stop_in_silence(void **state)
{
    static const enum fault faults[] = {SILENT, NOT_NUMBERED};
    pthread_t caller, stopper;
    void *rc;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        start(faults[i]);
        assert_int_equal(pthread_create(&caller, NULL, add_one, "p"), 0);
        while (atomic_load(&server.additions) == 0) {
            clock_sleep_ns(NSEC_PER_MSEC);
        }
        assert_int_equal(pthread_create(&stopper, NULL, stop_batcher, NULL), 0);
        pthread_join(caller, &rc);
        assert_int_equal((intptr_t)rc, -ECANCELED);
        pthread_join(stopper, NULL);
        batcher = NULL;
        stop();
    }
}

static void test_echo_is_answered_while_idle(void **state)
{
    struct ovs_port_spec spec = owned("p");
    struct error err = {0};

    (void)state;
    start(NO_FAULT);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), 0);
    for (int i = 0; i < 5000 && atomic_load(&server.echoed) == 0; i++) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    assert_int_equal(server.echoed, 1);
    stop();
}

/* ---- refusals ---- */

/* While the first addition is under way all others come: they go together, and fail together. */
static void test_the_guilty_fail_alone(void **state)
{
    pthread_t first, threads[CALLERS];
    char names[CALLERS][IFNAMSIZ];

    (void)state;
    start(SLOW);
    assert_int_equal(pthread_create(&first, NULL, add_one, "first"), 0);
    while (atomic_load(&server.additions) == 0) {
        clock_sleep_ns(NSEC_PER_MSEC);
    }
    for (int i = 0; i < CALLERS; i++) {
        snprintf(names[i], sizeof(names[i]), "%s%d", i % 10 == 3 ? "bad" : "p", i);
        assert_int_equal(pthread_create(&threads[i], NULL, add_one, names[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        void *rc;

        pthread_join(threads[i], &rc);
        assert_int_equal((intptr_t)rc, i % 10 == 3 ? -EEXIST : 0);
    }
    pthread_join(first, NULL);
    assert_int_equal(counts().failed, 3);
    assert_int_equal(counts().added, CALLERS + 1 - 3);
    assert_true(counts().retried > 0);
    stop();
}

static void test_removed_meanwhile(void **state)
{
    struct ovs_port_spec spec = owned("p");
    struct error err = {0};

    (void)state;
    start(ROW_GONE);
    assert_int_equal(ovs_batcher_add(batcher, &spec, 1, soon(), NULL, &err), -ENODEV);
    assert_non_null(strstr(err.text, "someone removed it meanwhile"));
    stop();
}

static void test_a_full_queue(void **state)
{
    struct ovs_port_spec specs[] = {owned("p"), owned("q")};
    struct error err = {0};

    (void)state;
    start(NO_FAULT);
    batcher->waiting_max = 1;
    assert_int_equal(ovs_batcher_add(batcher, specs, 2, soon(), NULL, &err), -EAGAIN);
    assert_non_null(strstr(err.text, server.path));
    assert_int_equal(counts().refused, 2);
    assert_int_equal(ovs_batcher_add(batcher, specs, 1, soon(), NULL, &err), 0);
    stop();
}

static void test_specs_are_checked_before(void **state)
{
    struct ovs_port_spec bad_tag = owned("p"), bad_text = owned("p");
    const char *name = "\xff";
    struct error err = {0};

    (void)state;
    start(NO_FAULT);
    bad_tag.tag = 4095;
    assert_int_equal(ovs_batcher_add(batcher, &bad_tag, 1, soon(), NULL, &err), -EINVAL);
    bad_text.owner.container_id = name;
    assert_int_equal(ovs_batcher_add(batcher, &bad_text, 1, soon(), NULL, &err), -EINVAL);
    assert_int_equal(ovs_batcher_del(batcher, &name, 1, soon(), &err), -EINVAL);
    assert_int_equal(counts().transactions, 0);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_committed_is_sent_again),
        cmocka_unit_test(test_committed_is_not_sent_again),
        cmocka_unit_test(test_without_an_owner),
        cmocka_unit_test(test_a_server_gone_mad),
        cmocka_unit_test(test_no_monitor),
        cmocka_unit_test(test_silence_ends_after_the_deadline),
        cmocka_unit_test(test_stop_in_silence),
        cmocka_unit_test(test_echo_is_answered_while_idle),
        cmocka_unit_test(test_the_guilty_fail_alone),
        cmocka_unit_test(test_removed_meanwhile),
        cmocka_unit_test(test_a_full_queue),
        cmocka_unit_test(test_specs_are_checked_before),
    };

    signal(SIGPIPE, SIG_IGN); /* the scripted server writes to whoever has hung up */
    return cmocka_run_group_tests_name("batcher", tests, NULL, NULL);
}
