/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OVSDB client against a server that does what ovsdb-server never would, or only by chance:
 * silence, garbage, answers in pieces, answers to others. All else is tested with real Open vSwitch
 * (tests/netns/ovs.bats).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs/ovs-internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- framing ---- */

static int scan_once(const char *text, size_t *ret_len)
{
    struct ovsdb_frame frame = {0};

    return ovsdb_frame_scan(&frame, text, strlen(text), ret_len);
}

static void test_frame_ends(void **state)
{
    static const struct {
        const char *text;
        int rc;
        size_t len;
    } cases[] = {
        {"", 0, 0},
        {" \t\r\n", 0, 0},
        {"{", 0, 0},
        {"{}", 1, 2},
        {"  {}{", 1, 4},
        {"{\"a\":{\"b\":[{}]}}x", 1, 16},
        {"{\"a\":\"}\"}", 1, 9},
        {"{\"a\":\"\\\"}\"}", 1, 11},
        {"{\"a\":\"\\\\\"}}", 1, 10},
        {"{\"a\":\"}", 0, 0},
        {"x{}", -EBADMSG, 0},
        {"}", -EBADMSG, 0},
        {"[1]", -EBADMSG, 0},
        {"\"{}\"", -EBADMSG, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t len = 0;

        assert_int_equal(scan_once(cases[i].text, &len), cases[i].rc);
        assert_int_equal(len, cases[i].len);
    }
}

/* However the bytes come, each object is found as soon as it is whole. */
static void test_frame_goes_on(void **state)
{
    static const char text[] = "{\"a\":\"\\\"}{\"} \n{\"b\":{}}";
    static const size_t ends[] = {12, 22};

    (void)state;
    for (size_t step = 1; step < sizeof(text); step++) {
        struct ovsdb_frame frame = {0};
        size_t start = 0, seen = 0, found = 0, len;

        while (seen < strlen(text)) {
            seen = seen + step < strlen(text) ? seen + step : strlen(text);
            while (ovsdb_frame_scan(&frame, text + start, seen - start, &len) == 1) {
                start += len;
                assert_int_equal(start, ends[found++]);
            }
        }
        assert_int_equal(found, ARRAY_SIZE(ends));
    }
}

/* Looking for the end of a large object that comes in pieces looks at each byte once. */
static void test_frame_is_incremental(void **state)
{
    struct ovsdb_frame frame = {0};
    char text[64] = "{\"a\":1";
    size_t len;

    (void)state;
    assert_int_equal(ovsdb_frame_scan(&frame, text, 6, &len), 0);
    assert_int_equal(frame.pos, 6);
    memset(text, 'x', 6);
    text[6] = '}';
    assert_int_equal(ovsdb_frame_scan(&frame, text, 7, &len), 1);
    assert_int_equal(len, 7);
    assert_int_equal(frame.pos, 0);
}

/* ---- the client ---- */

/* Sends its pieces one by one to a client, when that has sent something first, then reads on until
 * the client closes, or closes itself. */
struct server {
    char dir[32], path[64];
    int listener;
    const char *pieces[8];
    bool hang_up;
    char got[4096]; /* what the client sent, cut to fit */
    pthread_t thread;
};

static void *serve(void *cookie)
{
    struct server *server = cookie;
    autoclose int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
    char chunk[1024];
    ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

    for (size_t i = 0; n > 0 && i < ARRAY_SIZE(server->pieces) && server->pieces[i]; i++) {
        send(fd, server->pieces[i], strlen(server->pieces[i]), MSG_NOSIGNAL);
        clock_sleep_ns(2 * NSEC_PER_MSEC);
    }
    while (n > 0 && !server->hang_up) {
        size_t used = strlen(server->got), room = sizeof(server->got) - 1 - used;

        memcpy(server->got + used, chunk, (size_t)n < room ? (size_t)n : room);
        n = recv(fd, chunk, sizeof(chunk), 0);
    }
    return NULL;
}

static void server_listen(struct server *server, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(server->dir, "/tmp/test-ovsdb-XXXXXX");
    assert_non_null(mkdtemp(server->dir));
    snprintf(server->path, sizeof(server->path), "%s/db.sock", server->dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->path);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server->listener, backlog), 0);
}

static void server_close(struct server *server)
{
    close(server->listener);
    assert_int_equal(dir_remove(server->dir), 0);
}

static int64_t soon(void)
{
    return clock_ns() + 5 * NSEC_PER_SEC;
}

/* One transaction of one operation with a server that answers with these pieces. */
static int transact_once(struct server *server, int64_t deadline_ns, json_t **ret,
                         struct error *err, int *ret_second)
{
    autoovsdb struct ovsdb *db = NULL;
    autojson json_t *second = NULL;
    struct error ignored;
    int rc;

    server_listen(server, 4);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    assert_int_equal(ovsdb_connect(server->path, soon(), &db, err), 0);
    rc = ovsdb_transact(db, json_pack("[{s:s}]", "op", "comment"), deadline_ns, ret, err);
    if (ret_second) {
        *ret_second = ovsdb_transact(db, json_pack("[{s:s}]", "op", "comment"),
                                     clock_ns() + 10 * NSEC_PER_MSEC, &second, &ignored);
    }
    ovsdb_close(take_ptr(db));
    pthread_join(server->thread, NULL);
    server_close(server);
    return rc;
}

static void test_reply_in_pieces_among_others(void **state)
{
    struct server server = {.pieces = {"{\"id\":null,\"method\":\"update\",\"params\":[]}",
                                       "{\"id\":7,\"result\":[{\"other\":1}],\"error\":null}",
                                       "{\"id\":\"echo\",\"method\":\"echo\",\"params\":[\"}\"]}",
                                       "\n{\"id\":1,\"result\":[{\"count\"",
                                       ":3}],\"error\":", "null}"}};
    autojson json_t *results = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(transact_once(&server, soon(), &results, &err, NULL), 0);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(results, 0), "count")), 3);
    assert_non_null(strstr(server.got, "\"params\":[\"Open_vSwitch\",{\"op\":\"comment\"}]"));
    assert_non_null(strstr(server.got, "{\"result\":[\"}\"],\"error\":null,\"id\":\"echo\"}"));
}

static void test_errors_of_the_server(void **state)
{
    static const struct {
        const char *reply;
        int rc;
        const char *words;
    } cases[] = {
        {"{\"id\":1,\"result\":[null,{\"error\":\"constraint violation\",\"details\":\"twice\"}],"
         "\"error\":null}",
         -EEXIST, "OVSDB: constraint violation: twice"},
        {"{\"id\":1,\"result\":[{\"error\":\"timed out\"}],\"error\":null}", -ETIMEDOUT,
         "OVSDB: timed out"},
        {"{\"id\":1,\"result\":[{\"error\":\"syntax error\",\"details\":\"x\"}],\"error\":null}",
         -EREMOTEIO, "OVSDB: syntax error: x"},
        {"{\"id\":1,\"result\":null,\"error\":{\"error\":\"timed out\"}}", -EREMOTEIO,
         "OVSDB: timed out"},
        {"{\"id\":1,\"result\":null,\"error\":\"canceled\"}", -EREMOTEIO, "OVSDB: \"canceled\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct server server = {.pieces = {cases[i].reply}};
        struct error err = {0};
        json_t *results = NULL;
        int second;

        assert_int_equal(transact_once(&server, soon(), &results, &err, &second), cases[i].rc);
        assert_int_equal(err.errnum, cases[i].rc);
        assert_string_equal(err.text, cases[i].words);
        assert_null(results);
        assert_int_equal(second, -ETIMEDOUT); /* it was sent: the connection is still good */
    }
}

static void test_faults_of_the_connection(void **state)
{
    static const struct {
        const char *reply;
        bool hang_up;
        int rc;
    } cases[] = {
        {"HTTP/1.1 400 Bad Request\r\n", false, -EBADMSG},
        {"{\"id\":1,\"result\":[}", false, -EBADMSG},
        {"{\"id\":1,\"result\":[]}", false, -EBADMSG}, /* fewer results than operations */
        {"{\"id\":1,", true, -ECONNRESET},
        {NULL, true, -ECONNRESET},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct server server = {.pieces = {cases[i].reply}, .hang_up = cases[i].hang_up};
        struct error err = {0};
        json_t *results = NULL;
        int second;

        assert_int_equal(transact_once(&server, soon(), &results, &err, &second), cases[i].rc);
        assert_true(strlen(err.text) > 0);
        assert_int_equal(second, -ENOTCONN);
    }
}

static void test_silence_ends_at_the_deadline(void **state)
{
    struct server server = {.pieces = {NULL}};
    struct error err = {0};
    json_t *results = NULL;
    int second;

    (void)state;
    assert_int_equal(
        transact_once(&server, clock_ns() + 20 * NSEC_PER_MSEC, &results, &err, &second),
        -ETIMEDOUT);
    assert_non_null(strstr(err.text, server.path));
    assert_int_equal(second, -ENOTCONN);
}

/* A request larger than the socket's buffers, while the server sends too. */
static void test_large_request(void **state)
{
    struct server server = {.pieces = {"{\"id\":\"e\",\"method\":\"echo\",\"params\":[]}",
                                       "{\"id\":1,\"result\":[{}],\"error\":null}"}};
    autoovsdb struct ovsdb *db = NULL;
    autojson json_t *results = NULL;
    size_t size = 4 << 20;
    autofree char *text = malloc(size);
    struct error err = {0};

    (void)state;
    memset(text, 'x', size);
    server_listen(&server, 4);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, &server), 0);
    assert_int_equal(ovsdb_connect(server.path, soon(), &db, &err), 0);
    assert_int_equal(
        ovsdb_transact(db, json_pack("[{s:s%}]", "op", text, size), soon(), &results, &err), 0);
    ovsdb_close(take_ptr(db));
    pthread_join(server.thread, NULL);
    server_close(&server);
}

static void *accept_later(void *cookie)
{
    struct server *server = cookie;

    clock_sleep_ns(30 * NSEC_PER_MSEC);
    for (int i = 0; i < 2; i++) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);

        assert_true(fd >= 0);
        close(fd);
    }
    return NULL;
}

/* With the backlog full connect waits: until the deadline, or until there is room. */
static void test_full_backlog(void **state)
{
    struct server server = {0};
    autoovsdb struct ovsdb *first = NULL, *second = NULL;
    struct error err = {0};

    (void)state;
    server_listen(&server, 0);
    assert_int_equal(ovsdb_connect(server.path, soon(), &first, &err), 0);
    assert_int_equal(ovsdb_connect(server.path, clock_ns() + 20 * NSEC_PER_MSEC, &second, &err),
                     -ETIMEDOUT);
    assert_int_equal(pthread_create(&server.thread, NULL, accept_later, &server), 0);
    assert_int_equal(ovsdb_connect(server.path, soon(), &second, &err), 0);
    pthread_join(server.thread, NULL);
    server_close(&server);
}

static void test_bad_paths(void **state)
{
    struct ovsdb *db = NULL;
    struct error err;
    char path[128];

    (void)state;
    assert_int_equal(ovsdb_connect("unix:/nonexistent/db.sock", soon(), &db, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/db.sock"));
    assert_int_equal(ovsdb_connect("tcp:127.0.0.1:6640", soon(), &db, &err), -EINVAL);
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[108] = '\0';
    assert_int_equal(ovsdb_connect(path, soon(), &db, &err), -ENAMETOOLONG);
    assert_non_null(strstr(err.text, "108 bytes; a unix socket's may have 107"));
    path[107] = '\0';
    assert_int_equal(ovsdb_connect(path, soon(), &db, &err), -ENOENT);
    assert_null(db);
}

/* ---- specifications that cannot be ---- */

static void test_bad_specs(void **state)
{
    static const uint16_t trunks[] = {5000};
    static const struct {
        struct ovs_port_spec spec;
        const char *words;
    } cases[] = {
        {{.bridge = "br0", .name = ""}, "port name"},
        {{.bridge = "br0", .name = "a-name-too-long-"}, "port name"},
        {{.bridge = "br0", .name = "a/b"}, "port name"},
        {{.bridge = "br0", .name = ".."}, "port name"},
        {{.name = "p"}, "bridge name"},
        {{.bridge = "br0", .name = "p", .tag = 4095}, "VLAN tag 4095"},
        {{.bridge = "br0", .name = "p", .mtu = 67}, "MTU 67"},
        {{.bridge = "br0", .name = "p", .mac = "01:00:00:00:00:00"}, "MAC"},
        {{.bridge = "br0", .name = "p", .trunks = trunks, .n_trunks = 1}, "trunk VLAN 5000"},
        {{.bridge = "br0", .name = "p", .owner = {.network = "\xff"}}, "UTF-8"},
    };
    autoovsdb struct ovsdb *db = NULL;

    (void)state;
    assert_int_equal(ovsdb_attach(-1, "none", &db), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};

        assert_int_equal(ovs_ports_add(db, &cases[i].spec, 1, soon(), NULL, &err), -EINVAL);
        assert_non_null(strstr(err.text, cases[i].words));
    }
    assert_int_equal(ovs_ports_add(db, NULL, 0, soon(), NULL, NULL), 0);
    assert_int_equal(ovs_ports_del(db, NULL, 0, true, soon(), NULL), 0);
}

static void test_socket_path(void **state)
{
    char dir[] = "/tmp/test-ovsdb-XXXXXX", buf[256], expected[256];

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_string_equal(ovs_socket_path("unix:/a", dir, buf, sizeof(buf)), "unix:/a");
    assert_string_equal(ovs_socket_path("", dir, buf, sizeof(buf)), "/var/run/openvswitch/db.sock");
    snprintf(expected, sizeof(expected), "%s/ovs", dir);
    assert_int_equal(dir_make(expected, 0700), 0);
    snprintf(expected, sizeof(expected), "%s/ovs/db.sock", dir);
    assert_int_equal(file_write_atomic(expected, "", 0, 0600), 0);
    assert_string_equal(ovs_socket_path(NULL, dir, buf, sizeof(buf)), expected);
    assert_int_equal(dir_remove(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_ends),
        cmocka_unit_test(test_frame_goes_on),
        cmocka_unit_test(test_frame_is_incremental),
        cmocka_unit_test(test_reply_in_pieces_among_others),
        cmocka_unit_test(test_errors_of_the_server),
        cmocka_unit_test(test_faults_of_the_connection),
        cmocka_unit_test(test_silence_ends_at_the_deadline),
        cmocka_unit_test(test_large_request),
        cmocka_unit_test(test_full_backlog),
        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_bad_specs),
        cmocka_unit_test(test_socket_path),
    };

    return cmocka_run_group_tests_name("ovsdb", tests, NULL, NULL);
}
