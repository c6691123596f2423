/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's HTTP server on a loop of its own; clients are raw sockets, curl and wget. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/http.h"
#include "agent/metrics.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_NS (60 * NSEC_PER_SEC) /* until a test gives up */
#define STAGE   "cni"

/* ---- an agent ---- */

static uv_loop_t loop;
static uv_timer_t gates_timer;
static struct gates *gates;
static struct http_server *server;
static uint16_t port;
static bool sick, metrics_fail;
static char device_owner[64];

static void expire(uv_timer_t *timer);

static void gates_changed(void *cookie)
{
    int64_t next_ns = gates_next_deadline(gates);

    (void)cookie;
    if (next_ns == INT64_MAX) {
        uv_timer_stop(&gates_timer);
    } else {
        uv_timer_start(&gates_timer, expire, (uint64_t)clock_left_ms(next_ns), 0);
    }
}

static void expire(uv_timer_t *timer)
{
    (void)timer;
    gates_expire(gates, clock_ns());
    gates_changed(NULL);
}

static int write_metrics(void *cookie, FILE *to)
{
    (void)cookie;
    metrics_counter(to, "agent_things_total", "Things.", 7);
    return metrics_fail ? -EIO : 0;
}

static bool healthy(void *cookie, char *why, size_t size)
{
    (void)cookie;
    snprintf(why, size, "the pools are being filled");
    return !sick;
}

/* A pool of one device. */
static int device_take(void *cookie, const char *container_id, struct http_device *ret,
                       struct error *err)
{
    (void)cookie;
    if (strcmp(device_owner, container_id) == 0) {
        return error_set(err, -EEXIST, "%s has a device", container_id);
    }
    if (device_owner[0] != '\0') {
        return error_set(err, -ENOENT, "no device is free");
    }
    assert_int_equal(str_copy(device_owner, sizeof(device_owner), container_id), 0);
    *ret = (struct http_device){"pool-tap0", "tctap"};
    return 0;
}

static int device_find(void *cookie, const char *container_id, struct http_device *ret,
                       struct error *err)
{
    (void)cookie;
    if (strcmp(device_owner, container_id) != 0) {
        return error_set(err, -ENOENT, "%s has no device", container_id);
    }
    *ret = (struct http_device){"pool-tap0", "tctap"};
    return 0;
}

/* Rules that were asked for, and who waits for them. */
static struct {
    char asked[128];
    void (*done)(void *waiter, const struct error *err);
    void *waiter;
} rules;

static int set_rules(void *cookie, const char *bridge, const struct ip_addr *pod, unsigned n,
                     void (*done)(void *waiter, const struct error *err), void *waiter)
{
    char ip[IP_TEXT_MAX];

    (void)cookie;
    snprintf(rules.asked, sizeof(rules.asked), "%s %s %u", bridge, ip_format(pod, false, ip), n);
    rules.done = done;
    rules.waiter = waiter;
    return 0;
}

static const struct http_api api_without_gates = {
    .gates_changed = gates_changed,
    .metrics = write_metrics,
    .healthy = healthy,
    .device_take = device_take,
    .device_find = device_find,
    .set_rules = set_rules,
};

static int start_with(struct http_options options, struct error *err)
{
    static const uint16_t any_port[] = {0};
    struct http_api api = api_without_gates;
    int rc;

    api.gates = gates;
    if (options.ports == NULL) {
        options.ports = any_port;
        options.n_ports = 1;
    }
    rc = http_start(&loop, &options, &api, &server, err);
    if (rc == 0) {
        port = http_port(server, 0);
    }
    return rc;
}

static void start(struct http_options options)
{
    assert_int_equal(start_with(options, NULL), 0);
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_timer_init(&loop, &gates_timer), 0);
    assert_int_equal(gates_new(&gates), 0);
    server = NULL;
    sick = metrics_fail = false;
    device_owner[0] = '\0';
    return 0;
}

/* Whatever a test did, the server's end leaves no handle on the loop, no waiter and no permit. */
static int teardown(void **state)
{
    (void)state;
    http_stop(server);
    for (size_t stage = 0; stage < span_n_stages; stage++) {
        struct gate_view view;

        gate_view(gates, stage, clock_ns(), &view);
        assert_int_equal(view.waiting, 0);
        assert_int_equal(view.held, 0);
    }
    uv_close((uv_handle_t *)&gates_timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    gates_free(gates);
    return 0;
}

/* ---- clients ---- */

struct answer {
    int status; /* 0: the connection was closed without one */
    char text[65536];
    const char *body;
};

/* Turns the loop once, and waits a little for the next event or for the client's descriptor. */
static void pump(int fd)
{
    struct pollfd pollfds[] = {{.fd = uv_backend_fd(&loop), .events = POLLIN},
                               {.fd = fd, .events = POLLIN}};

    uv_run(&loop, UV_RUN_NOWAIT);
    poll(pollfds, ARRAY_SIZE(pollfds), 1);
}

static int connect_to(const char *address)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(inet_pton(AF_INET, address, &addr.sin_addr), 1);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

static int send_text(const char *text)
{
    int fd = connect_to("127.0.0.1");

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    return fd;
}

static int get(const char *path)
{
    autofree char *text = str_printf("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);

    return send_text(text);
}

static bool answered(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    return poll(&pollfd, 1, 0) == 1;
}

static void pump_until_answered(int fd)
{
    int64_t deadline_ns = clock_ns() + WAIT_NS;

    while (!answered(fd)) {
        assert_true(clock_ns() < deadline_ns);
        pump(fd);
    }
}

/* Reads to the end and closes. */
static struct answer *take_answer(int fd)
{
    static struct answer answer;
    size_t len = 0;
    ssize_t got = 1;

    while (got > 0 && len < sizeof(answer.text) - 1) {
        pump_until_answered(fd);
        got = recv(fd, answer.text + len, sizeof(answer.text) - 1 - len, 0);
        len += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    answer.text[len] = '\0';
    answer.status = len > 12 ? atoi(answer.text + 9) : 0;
    answer.body = strstr(answer.text, "\r\n\r\n");
    answer.body = answer.body != NULL ? answer.body + 4 : "";
    return &answer;
}

static struct answer *ask(const char *path)
{
    return take_answer(get(path));
}

static void assert_answer(const struct answer *answer, int status, const char *body)
{
    assert_int_equal(answer->status, status);
    assert_string_equal(answer->body, body);
}

static void assert_ask(const char *path, int status, const char *body)
{
    assert_answer(ask(path), status, body);
}

/* ---- the gate ---- */

static struct gate_view view_of(const char *stage)
{
    struct gate_view view;

    gate_view(gates, span_stage_index(stage), clock_ns(), &view);
    return view;
}

static void limit(const char *stage, unsigned n)
{
    assert_int_equal(gate_set_limit(gates, span_stage_index(stage), n, clock_ns()), 0);
}

static void pump_until_waiting(const char *stage, size_t n)
{
    int64_t deadline_ns = clock_ns() + WAIT_NS;

    while (view_of(stage).waiting != n) {
        assert_true(clock_ns() < deadline_ns);
        pump(-1);
    }
}

/* A request that waits, in line behind those before it. */
static int get_waiting(const char *path)
{
    size_t n = view_of(STAGE).waiting;
    int fd = get(path);

    pump_until_waiting(STAGE, n + 1);
    assert_false(answered(fd));
    return fd;
}

static unsigned metric(const char *name)
{
    autofree char *line = str_printf("\n%s ", name);
    const char *at = strstr(ask("/metrics")->body, line);

    assert_non_null(at);
    return (unsigned)atoi(at + strlen(line));
}

static void pump_until_metric(const char *name, unsigned n)
{
    int64_t deadline_ns = clock_ns() + WAIT_NS;

    while (metric(name) != n) {
        assert_true(clock_ns() < deadline_ns);
        pump(-1);
    }
}

/* ---- routes ---- */

static void test_metrics_are_the_agents_and_the_servers(void **state)
{
    struct answer *answer;

    (void)state;
    start((struct http_options){0});
    answer = ask("/metrics");
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->text, "Content-Type: text/plain; version=0.0.4"));
    assert_non_null(strstr(answer->body, "\nagent_things_total 7\n"));
    assert_non_null(strstr(answer->body, "\nsluice_http_requests 1\n"));
    assert_non_null(strstr(answer->body, "\nsluice_http_permits_held{lock=\"cni\"} 0\n"));
    metrics_fail = true;
    assert_ask("/metrics", 500, "metrics: Input/output error\n");
    metrics_fail = false;
    assert_int_equal(metric("sluice_http_answers_total{code=\"5xx\"}"), 1);
}

static void test_health_says_why_not(void **state)
{
    (void)state;
    start((struct http_options){0});
    assert_ask("/healthz", 200, "ok\n");
    sick = true;
    assert_ask("/healthz", 503, "the pools are being filled\n");
}

static void test_unknown_paths_are_answered_with_the_known(void **state)
{
    (void)state;
    start((struct http_options){0});
    assert_ask("/", 404,
               "no such path; there are /metrics /healthz /get_lock /seq_lock /barrier /barrierVM "
               "/get_ifname /get_virtdev /add_acl_inbatch\n");
    assert_int_equal(ask("/get_lock/?op=obtain")->status, 404);
}

static void test_only_get_without_a_body_is_allowed(void **state)
{
    struct answer *answer;

    (void)state;
    start((struct http_options){0});
    answer =
        take_answer(send_text("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"));
    assert_answer(answer, 405, "only GET is allowed\n");
    assert_non_null(strstr(answer->text, "\r\nAllow: GET\r\n"));
    assert_int_equal(take_answer(send_text("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))->status,
                     405);
    answer =
        take_answer(send_text("GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"));
    assert_answer(answer, 413, "no body is allowed\n");
    answer = take_answer(send_text(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    assert_int_equal(answer->status, 413);
}

static void test_requests_too_long_are_refused(void **state)
{
    char path[HTTP_MEMORY * 2] = "/get_lock?op=obtain&stage=cni&tenant=";
    autofree char *request = NULL;

    (void)state;
    start((struct http_options){0});
    memset(path + strlen(path), 'x', sizeof(path) - strlen(path) - 1);
    assert_in_range(ask(path)->status, 400, 431);
    request = str_printf("GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: %s\r\n\r\n", path);
    assert_in_range(take_answer(send_text(request))->status, 400, 431);
    assert_int_equal(view_of(STAGE).admitted, 0);
    assert_ask("/healthz", 200, "ok\n");
}

static void test_bad_parameters_are_named(void **state)
{
    (void)state;
    start((struct http_options){0});
    assert_ask("/get_lock?stage=cni", 400, "op is missing: obtain or release is allowed\n");
    assert_ask("/get_lock?stage=cni&op=steal", 400, "op=steal: obtain or release is allowed\n");
    assert_ask("/get_lock?op=obtain&stage=%22x", 400,
               "stage=\"x: one of netns cni cgroup nic vm limits total cniAdd resource1 "
               "kataInterface startVM resource2 is allowed\n");
    assert_int_equal(ask("/get_lock?op=obtain&stage=")->status, 400);
    assert_int_equal(ask("/get_lock?op=obtain&stage=cni.link")->status, 400);
    assert_ask("/get_lock?op=obtain&stage=cni&timeout_s=1m", 400,
               "timeout_s=1m: a whole number from 0 to 86400 is allowed\n");
    assert_int_equal(ask("/barrier?n=0")->status, 400);
    assert_int_equal(ask("/barrier?n=2&timeout_s=-1")->status, 400);
    assert_ask("/barrierVM?n=-2", 400, "n=-2: a whole number from 1 to 100000 is allowed\n");
    assert_int_equal(ask("/seq_lock")->status, 400);
    assert_ask("/get_virtdev?cid=a", 400, "role is missing: fromCNI or fromKATA is allowed\n");
    assert_int_equal(ask("/get_virtdev?cid=a&role=kata")->status, 400);
    assert_int_equal(ask("/get_virtdev?role=fromCNI")->status, 400);
    assert_int_equal(ask("/get_virtdev?role=fromCNI&cid=../a")->status, 400);
    assert_int_equal(ask("/get_virtdev?role=fromCNI&cid=a%00b")->status, 400);
    assert_int_equal(view_of(STAGE).admitted, 0);
}

/* A request for rules that waits. */
static int get_rules(const char *path)
{
    int64_t deadline_ns = clock_ns() + WAIT_NS;
    int fd = get(path);

    rules.waiter = NULL;
    while (rules.waiter == NULL) {
        assert_true(clock_ns() < deadline_ns);
        pump(-1);
    }
    assert_false(answered(fd));
    return fd;
}

static void test_rules_are_answered_when_they_hold(void **state)
{
    struct error none = {0}, err = {0};
    int fd;

    (void)state;
    start((struct http_options){0});
    fd = get_rules("/add_acl_inbatch?br_name=br0&podIP=10.0.0.1&num=100");
    assert_string_equal(rules.asked, "br0 10.0.0.1 100");
    rules.done(rules.waiter, &none);
    assert_answer(take_answer(fd), 200, "success");
    fd = get_rules("/add_acl_inbatch?br_name=br0&podIP=10.0.0.1&num=0");
    error_set(&err, -ENOENT, "no such bridge");
    rules.done(rules.waiter, &err);
    assert_answer(take_answer(fd), 500, "no such bridge\n");
}

static void test_who_waits_for_rules_may_go(void **state)
{
    struct error none = {0};
    int fd;

    (void)state;
    start((struct http_options){0});
    fd = get_rules("/add_acl_inbatch?br_name=br0&podIP=10.0.0.1&num=1");
    close(fd);
    pump_until_metric("sluice_http_requests", 1);
    rules.done(rules.waiter, &none);
    assert_ask("/healthz", 200, "ok\n");
}

static void test_rules_that_are_wrong_are_named(void **state)
{
    (void)state;
    start((struct http_options){0});
    assert_ask("/add_acl_inbatch?podIP=10.0.0.1&num=1", 400,
               "br_name is missing: the name of an OVS bridge is allowed\n");
    assert_ask("/add_acl_inbatch?br_name=a/b&podIP=10.0.0.1&num=1", 400,
               "br_name=a/b: the name of an OVS bridge is allowed\n");
    assert_ask("/add_acl_inbatch?br_name=br0&podIP=fd00::1&num=1", 400,
               "podIP=fd00::1: an IPv4 address is allowed\n");
    assert_ask("/add_acl_inbatch?br_name=br0&podIP=10.0.0.1", 400,
               "num is missing: a number of rules is allowed\n");
    assert_int_equal(ask("/add_acl_inbatch?br_name=br0&podIP=10.0.0.1&num=131073")->status, 400);
}

static void test_ports_are_on_loopback_and_may_be_several(void **state)
{
    const uint16_t ports[] = {0, 0, 0};

    (void)state;
    start((struct http_options){.ports = ports, .n_ports = 3});
    assert_int_equal(connect_to("127.0.0.2"), -ECONNREFUSED);
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    assert_int_not_equal(http_port(server, 1), port);
    port = http_port(server, 1); /* they share what is held */
    assert_ask("/get_lock?op=release&stage=cni", 200, "success");
    port = http_port(server, 2);
    assert_ask("/healthz", 200, "ok\n");
}

static void test_a_port_in_use_is_an_error(void **state)
{
    struct http_server *first;
    uint16_t ports[2] = {0};
    struct error err;
    char text[64];

    (void)state;
    start((struct http_options){0});
    first = server;
    ports[1] = port;
    assert_int_equal(start_with((struct http_options){.ports = ports, .n_ports = 2}, &err),
                     -EADDRINUSE);
    snprintf(text, sizeof(text), "listen on 127.0.0.1:%u: Address already in use", port);
    assert_string_equal(err.text, text);
    assert_ptr_equal(server, first);
    assert_ask("/healthz", 200, "ok\n");
}

static void test_no_port_is_fine(void **state)
{
    const struct http_options options = {0};
    const struct http_api api = {.gates = gates};

    (void)state;
    assert_int_equal(http_start(&loop, &options, &api, &server, NULL), 0);
}

/* ---- locks ---- */

static void test_permits_belong_to_no_connection(void **state)
{
    (void)state;
    start((struct http_options){0});
    limit(STAGE, 2);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    assert_ask("/get_lock?op=obtain&stage=cniAdd", 200, "success");
    assert_int_equal(view_of(STAGE).held, 2);
    assert_int_equal(metric("sluice_http_permits_held{lock=\"cni\"}"), 2);
    assert_ask("/get_lock?op=release&stage=cniAdd", 200, "success");
    assert_ask("/get_lock?op=release&stage=cni", 200, "success");
    assert_int_equal(view_of(STAGE).held, 0);
    assert_ask("/get_lock?op=release&stage=cni", 409, "no permit of cni is held over HTTP\n");
}

static void test_every_stage_has_its_names(void **state)
{
    static const char *const names[][2] = {
        {"netns", "netns"},       {"cni", "cniAdd"}, {"cgroup", "resource1"},
        {"nic", "kataInterface"}, {"vm", "startVM"}, {"limits", "resource2"},
        {"total", "total"},
    };

    (void)state;
    start((struct http_options){0});
    assert_int_equal(ARRAY_SIZE(names), span_n_stages);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        for (size_t j = 0; j < 2; j++) {
            char path[64];

            snprintf(path, sizeof(path), "/get_lock?op=obtain&stage=%s", names[i][j]);
            assert_ask(path, 200, "success");
        }
        assert_int_equal(view_of(names[i][0]).held, 2);
    }
}

static void test_waiting_clients_are_served_in_order(void **state)
{
    int fds[5];

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = get_waiting("/get_lock?op=obtain&stage=cni");
    }
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        assert_ask("/get_lock?op=release&stage=cni", 200, "success");
        assert_answer(take_answer(fds[i]), 200, "success");
        assert_int_equal(view_of(STAGE).waiting, ARRAY_SIZE(fds) - 1 - i);
        for (size_t j = i + 1; j < ARRAY_SIZE(fds); j++) {
            assert_false(answered(fds[j]));
        }
    }
}

static void test_tenants_take_turns(void **state)
{
    int a[2], b;

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni&tenant=c", 200, "success");
    a[0] = get_waiting("/get_lock?op=obtain&stage=cni&tenant=a");
    a[1] = get_waiting("/get_lock?op=obtain&stage=cni&tenant=a");
    b = get_waiting("/get_lock?op=obtain&stage=cni&tenant=b");
    ask("/get_lock?op=release&stage=cni");
    assert_answer(take_answer(a[0]), 200, "success");
    ask("/get_lock?op=release&stage=cni");
    assert_answer(take_answer(b), 200, "success");
    assert_false(answered(a[1]));
    close(a[1]);
}

static void test_a_wait_ends_at_its_time(void **state)
{
    (void)state;
    start((struct http_options){.seq_limit = 1});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni&timeout_s=0", 200, "success");
    assert_ask("/get_lock?op=obtain&stage=cni&timeout_s=0", 408, "timeout_s passed\n");
    assert_int_equal(ask("/get_lock?op=obtain&stage=cni&timeout_s=1")->status, 408);
    assert_int_equal(view_of(STAGE).expired, 2);
    assert_int_equal(view_of(STAGE).held, 1);
    assert_ask("/seq_lock?op=obtain", 200, "success");
    assert_int_equal(ask("/seq_lock?op=obtain&timeout_s=0")->status, 408);
    assert_int_equal(ask("/seq_lock?op=obtain&timeout_s=1")->status, 408);
}

static void test_a_client_that_goes_gives_its_place_up(void **state)
{
    int gone, next;

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    gone = get_waiting("/get_lock?op=obtain&stage=cni");
    next = get_waiting("/get_lock?op=obtain&stage=cni");
    close(gone);
    pump_until_waiting(STAGE, 1);
    assert_int_equal(view_of(STAGE).given_up, 1);
    ask("/get_lock?op=release&stage=cni");
    assert_answer(take_answer(next), 200, "success");
    assert_int_equal(metric("sluice_http_gone_total"), 1);
    assert_int_equal(metric("sluice_http_requests"), 1);
}

static void test_a_reset_gives_a_place_up_too(void **state)
{
    const struct linger linger = {.l_onoff = 1};
    int gone;

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    gone = get_waiting("/get_lock?op=obtain&stage=cni");
    assert_int_equal(setsockopt(gone, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(gone);
    pump_until_waiting(STAGE, 0);
    assert_int_equal(view_of(STAGE).given_up, 1);
}

static void nobody_waits(struct gate_ticket *ticket, int rc)
{
    (void)ticket;
    (void)rc;
    fail();
}

/* The client went, but before the server can know it gets the permit: the next one has it. */
static void test_a_client_gone_when_admitted_gives_its_permit_back(void **state)
{
    struct gate_ticket holder = {.done = nobody_waits};
    size_t stage = span_stage_index(STAGE);
    int gone, next;

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    assert_int_equal(gate_acquire(gates, stage, "", clock_ns(), INT64_MAX, &holder), 1);
    gone = get_waiting("/get_lock?op=obtain&stage=cni");
    next = get_waiting("/get_lock?op=obtain&stage=cni");
    close(gone);
    gate_release(gates, &holder, clock_ns());
    assert_int_equal(view_of(STAGE).waiting, 1); /* it was admitted */
    assert_answer(take_answer(next), 200, "success");
    assert_int_equal(view_of(STAGE).held, 1);
    assert_int_equal(view_of(STAGE).admitted, 3);
    assert_int_equal(metric("sluice_http_permits_returned_total{lock=\"cni\"}"), 1);
}

/* The same when there is no wait: it asks and is gone. */
static void test_a_client_gone_at_once_gets_nothing(void **state)
{
    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    close(get("/get_lock?op=obtain&stage=cni"));
    pump_until_metric("sluice_http_permits_returned_total{lock=\"cni\"}", 1);
    assert_int_equal(view_of(STAGE).held, 0);
    assert_int_equal(metric("sluice_http_requests"), 1);
}

/* It can't be told from one that is gone; and then an answer that is sent is nobody's. */
static void test_a_client_that_closed_its_sending_side_gets_nothing(void **state)
{
    int fd;

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    fd = get("/get_lock?op=obtain&stage=cni");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_int_equal(take_answer(fd)->status, 0);
    assert_int_equal(view_of(STAGE).held, 0);
}

static void test_permits_held_too_long_are_given_back(void **state)
{
    (void)state;
    start((struct http_options){.max_hold_s = 1, .seq_limit = 1});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    assert_ask("/seq_lock?op=obtain", 200, "success");
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    assert_ask("/seq_lock?op=obtain", 200, "success");
    assert_true(metric("sluice_http_permits_overdue_total{lock=\"cni\"}") > 0);
    assert_true(metric("sluice_http_permits_overdue_total{lock=\"seq\"}") > 0);
}

static void test_seq_and_ovs_are_locks_of_their_own(void **state)
{
    int fd;

    (void)state;
    start((struct http_options){.seq_limit = 1, .ovs_limit = 1});
    assert_ask("/seq_lock?op=obtain", 200, "success");
    assert_ask("/get_lock?op=obtain&rand_ip=10.1.2.3", 200, "success");
    fd = get("/get_lock?op=obtain");
    pump_until_metric("sluice_http_waiting", 1);
    assert_ask("/seq_lock?op=release", 200, "success");
    assert_ask("/seq_lock?op=release", 409, "no permit of seq is held over HTTP\n");
    assert_false(answered(fd));
    assert_ask("/get_lock?op=release", 200, "success");
    assert_answer(take_answer(fd), 200, "success");
}

/* ---- barriers ---- */

static int get_at_barrier(const char *path, unsigned n)
{
    int fd = get(path);

    pump_until_metric("sluice_http_waiting", n);
    assert_false(answered(fd));
    return fd;
}

static void test_a_barrier_lets_all_go_at_once(void **state)
{
    (void)state;
    start((struct http_options){.barrier = 3});
    for (int round = 0; round < 3; round++) {
        int first = get_at_barrier("/barrier", 1), second = get_at_barrier("/barrier?n=3", 2);

        assert_ask("/barrier", 200, "success");
        assert_answer(take_answer(first), 200, "success");
        assert_answer(take_answer(second), 200, "success");
        assert_int_equal(metric("sluice_http_waiting"), 0);
    }
}

static void test_a_barrier_for_one_stops_nobody(void **state)
{
    (void)state;
    start((struct http_options){0});
    assert_ask("/barrier", 200, "success");
    assert_ask("/barrierVM", 200, "success");
}

static void test_two_barriers_do_not_mix(void **state)
{
    int a, b;

    (void)state;
    start((struct http_options){0});
    a = get_at_barrier("/barrier?n=2", 1);
    b = get_at_barrier("/barrierVM?n=2", 2);
    assert_ask("/barrierVM?n=2", 200, "success");
    assert_answer(take_answer(b), 200, "success");
    assert_false(answered(a));
    assert_ask("/barrier?n=4", 409, "n=4: those who wait said 2\n");
    assert_ask("/barrier?n=2", 200, "success");
    assert_answer(take_answer(a), 200, "success");
}

static void test_who_leaves_a_barrier_does_not_count(void **state)
{
    int stays;

    (void)state;
    start((struct http_options){0});
    stays = get_at_barrier("/barrier?n=3", 1);
    close(get_at_barrier("/barrier?n=3", 2));
    pump_until_metric("sluice_http_waiting", 1);
    assert_int_equal(ask("/barrier?n=3&timeout_s=0")->status, 408);
    close(get_at_barrier("/barrier?n=3", 2));
    pump_until_metric("sluice_http_waiting", 1);
    assert_false(answered(stays));
    close(stays);
    pump_until_metric("sluice_http_waiting", 0);
    assert_ask("/barrier?n=1", 200, "success"); /* and nobody's number is remembered */
}

/* ---- devices ---- */

static void test_names_go_round_the_tenants(void **state)
{
    static const char *const names[] = {"tap0", "tap0", "tap0", "tap1", "tap1"};

    (void)state;
    start((struct http_options){.pods = 5, .tenants = 2});
    for (size_t i = 0; i < 2 * ARRAY_SIZE(names); i++) {
        assert_ask("/get_ifname", 200, names[i % ARRAY_SIZE(names)]);
    }
}

static void test_more_tenants_than_pods(void **state)
{
    (void)state;
    start((struct http_options){.pods = 2, .tenants = 5});
    assert_ask("/get_ifname", 200, "tap0");
    assert_ask("/get_ifname", 200, "tap1");
    assert_ask("/get_ifname", 200, "tap0");
}

static void test_devices_come_from_the_pool(void **state)
{
    (void)state;
    start((struct http_options){0});
    assert_ask("/get_virtdev?role=fromKATA&cid=p1", 404, "p1 has no device\n");
    assert_ask("/get_virtdev?role=fromCNI&cid=p1", 200, "pool-tap0,tctap");
    assert_ask("/get_virtdev?role=fromKATA&cid=p1", 200, "pool-tap0,tctap");
    assert_ask("/get_virtdev?role=fromCNI&cid=p1", 409, "p1 has a device\n");
    assert_ask("/get_virtdev?role=fromCNI&cid=p2", 503, "no device is free\n");
}

static void test_an_agent_without_pool_says_so(void **state)
{
    static const uint16_t any_port[] = {0};
    const struct http_options options = {.ports = any_port, .n_ports = 1};
    const struct http_api api = {.gates = gates};

    (void)state;
    assert_int_equal(http_start(&loop, &options, &api, &server, NULL), 0);
    port = http_port(server, 0);
    assert_ask("/get_virtdev?role=fromCNI&cid=p1", 501, "the agent has no pool of devices\n");
    assert_ask("/healthz", 200, "ok\n");
    assert_int_equal(ask("/metrics")->status, 200);
}

/* ---- many ---- */

static size_t count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    size_t n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static void need_descriptors(rlim_t n)
{
    struct rlimit limits;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limits), 0);
    if (limits.rlim_max < n) {
        print_message("skipped: %lu descriptors are allowed, %lu needed\n",
                      (unsigned long)limits.rlim_max, (unsigned long)n);
        skip();
    }
    limits.rlim_cur = limits.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limits), 0);
}

#define MANY 3000

static void test_thousands_wait_without_threads(void **state)
{
    static int fds[MANY];
    size_t threads = count_threads();

    (void)state;
    need_descriptors(2 * MANY + 100);
    start((struct http_options){0});
    limit(STAGE, 1);
    assert_ask("/get_lock?op=obtain&stage=cni", 200, "success");
    for (size_t i = 0; i < MANY; i++) {
        fds[i] = get("/get_lock?op=obtain&stage=cni");
        pump(-1);
    }
    pump_until_waiting(STAGE, MANY);
    assert_int_equal(count_threads(), threads);
    assert_ask("/healthz", 200, "ok\n");
    for (size_t i = 0; i < MANY; i += 2) {
        close(fds[i]);
    }
    pump_until_waiting(STAGE, MANY / 2);
    for (size_t i = 1; i < MANY; i += 2) {
        assert_ask("/get_lock?op=release&stage=cni", 200, "success");
        assert_answer(take_answer(fds[i]), 200, "success");
    }
    assert_int_equal(view_of(STAGE).given_up, MANY / 2);
}

static void test_beyond_the_most_requests_is_503(void **state)
{
    int fds[2];

    (void)state;
    start((struct http_options){.max_requests = 2});
    limit(STAGE, 1);
    ask("/get_lock?op=obtain&stage=cni");
    fds[0] = get_waiting("/get_lock?op=obtain&stage=cni");
    fds[1] = get_waiting("/get_lock?op=obtain&stage=cni");
    assert_ask("/healthz", 503, "2 requests are under way, the most allowed\n");
    close(fds[0]);
    pump_until_waiting(STAGE, 1);
    pump(-1);
    assert_int_equal(metric("sluice_http_too_many_total"), 1);
    close(fds[1]);
}

static void test_half_a_request_hinders_nobody(void **state)
{
    int fd;

    (void)state;
    start((struct http_options){0});
    fd = send_text("GET /get_lock?op=obt");
    for (int i = 0; i < 10; i++) {
        assert_ask("/healthz", 200, "ok\n");
    }
    close(fd);
}

static void test_who_waits_when_it_stops_is_told(void **state)
{
    int fds[20], barrier, half;
    size_t told = 0;

    (void)state;
    start((struct http_options){0});
    limit(STAGE, 1);
    ask("/get_lock?op=obtain&stage=cni");
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = get_waiting("/get_lock?op=obtain&stage=cni");
    }
    barrier = get_at_barrier("/barrier?n=2", ARRAY_SIZE(fds) + 1);
    half = send_text("GET /healthz HT");
    pump(-1);
    http_stop(server);
    server = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        told += take_answer(fds[i])->status == 503;
    }
    assert_int_equal(told, ARRAY_SIZE(fds));
    assert_answer(take_answer(barrier), 503, "the agent stops\n");
    assert_int_equal(take_answer(half)->status, 0);
}

/* ---- real clients ---- */

/* Runs a program that prints what it got; the loop turns until it ends. */
static void assert_program(const char *const *argv, const char *expected)
{
    FILE *out = tmpfile();
    char text[256] = "";
    int status;
    pid_t pid;

    if (access(argv[0], X_OK) < 0) {
        print_message("skipped: no %s\n", argv[0]);
        skip();
    }
    assert_non_null(out);
    assert_int_equal(proc_start(argv, NULL, fileno(out), &pid), 0);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        pump(-1);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    rewind(out);
    text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
    assert_string_equal(text, expected);
    fclose(out);
}

static void assert_client(const char *program, const char *option, const char *path,
                          const char *expected)
{
    autofree char *url = str_printf("http://127.0.0.1:%u%s", port, path);

    assert_program((const char *const[]){program, option, url, NULL}, expected);
}

static void test_curl_and_wget_are_understood(void **state)
{
    (void)state;
    start((struct http_options){0});
    limit("total", 1);
    for (int i = 0; i < 3; i++) {
        assert_client("/usr/bin/curl", "-sS", "/get_lock?op=obtain&stage=total", "success");
        assert_int_equal(view_of("total").held, 1);
        assert_client("/usr/bin/wget", "-qO-", "/get_lock?op=release&stage=total", "success");
        assert_int_equal(view_of("total").held, 0);
    }
    assert_client("/usr/bin/curl", "-sS", "/healthz", "ok\n");
}

#define test_with(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with(test_metrics_are_the_agents_and_the_servers),
        test_with(test_health_says_why_not),
        test_with(test_unknown_paths_are_answered_with_the_known),
        test_with(test_only_get_without_a_body_is_allowed),
        test_with(test_requests_too_long_are_refused),
        test_with(test_bad_parameters_are_named),
        test_with(test_rules_are_answered_when_they_hold),
        test_with(test_who_waits_for_rules_may_go),
        test_with(test_rules_that_are_wrong_are_named),
        test_with(test_ports_are_on_loopback_and_may_be_several),
        test_with(test_a_port_in_use_is_an_error),
        test_with(test_no_port_is_fine),
        test_with(test_permits_belong_to_no_connection),
        test_with(test_every_stage_has_its_names),
        test_with(test_waiting_clients_are_served_in_order),
        test_with(test_tenants_take_turns),
        test_with(test_a_wait_ends_at_its_time),
        test_with(test_a_client_that_goes_gives_its_place_up),
        test_with(test_a_reset_gives_a_place_up_too),
        test_with(test_a_client_gone_when_admitted_gives_its_permit_back),
        test_with(test_a_client_gone_at_once_gets_nothing),
        test_with(test_a_client_that_closed_its_sending_side_gets_nothing),
        test_with(test_permits_held_too_long_are_given_back),
        test_with(test_seq_and_ovs_are_locks_of_their_own),
        test_with(test_a_barrier_lets_all_go_at_once),
        test_with(test_a_barrier_for_one_stops_nobody),
        test_with(test_two_barriers_do_not_mix),
        test_with(test_who_leaves_a_barrier_does_not_count),
        test_with(test_names_go_round_the_tenants),
        test_with(test_more_tenants_than_pods),
        test_with(test_devices_come_from_the_pool),
        test_with(test_an_agent_without_pool_says_so),
        test_with(test_thousands_wait_without_threads),
        test_with(test_beyond_the_most_requests_is_503),
        test_with(test_half_a_request_hinders_nobody),
        test_with(test_who_waits_when_it_stops_is_told),
        test_with(test_curl_and_wget_are_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
