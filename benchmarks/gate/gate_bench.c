/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate_bench INSTANCE AGENT_PID PORT POLL_PID REPEATS
 *
 * How long a permit is on its way: from the moment its holder begins to give it back to the moment
 * the next has it in hand. Many wait at one gate of the agent that serves INSTANCE, and at one lock
 * of poll_server.py on PORT; nobody keeps a permit, so that nothing but handing over is measured.
 * Beside them, as the floor: a message to another process and back. The cases take turns, REPEATS
 * times; the last lines are medians over the repeats.
 */
#include "rpc/call.h"
#include "stats/stats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define STAGE       "cni"
#define CONNECTIONS 4
#define WAIT_S      120
#define POLL_STAGE  "limit%d" /* poll_server.py is started with limit1=1 limit4=4 limit16=16 */
#define SETTLE_NS   (300 * NSEC_PER_MSEC) /* for poll_server.py, which can't tell who waits */
#define REPEATS_MAX 100
#define SEED        1
#define CONFIDENCE  0.95

/* ---- a case: one number of waiters at one limit ---- */

struct sample {
    double p50_us, p99_us, max_us, wall_s, server_cpu_s, client_cpu_s;
};

struct server;

struct test {
    struct server *server;
    int limit, waiters;
    struct sample samples[REPEATS_MAX];
};

struct server {
    const char *name;
    pid_t pid;
    /* Puts the waiters behind `limit` permits that it holds, gives those back, and passes every
     * permit on until all have had one. */
    int (*run)(struct server *server, const struct test *test, struct error *err);
    const char *instance; /* the agent's */
    int port;             /* the other's */
    struct clock *clock;
    struct sample *sample; /* of the run */
};

/* When permits were given back, and when they came to hand: the n-th is what the n-th became, since
 * they are given back and handed out in order. */
struct clock {
    int64_t *given_ns, *taken_ns;
    size_t n_given, n_taken;
    int64_t client_cpu_ns, server_cpu_ns; /* when the first was given back */
};

static int64_t own_cpu_ns(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NSEC_PER_SEC +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

/* All wait: the clock starts. */
static void clock_begin(struct server *server)
{
    struct clock *clock = server->clock;

    clock->n_given = clock->n_taken = 0;
    clock->client_cpu_ns = own_cpu_ns();
    proc_cpu_ns(server->pid, &clock->server_cpu_ns);
}

static struct sample clock_end(struct server *server)
{
    struct clock *clock = server->clock;
    autofree double *us = calloc(clock->n_taken, sizeof(*us));
    struct sample sample = {.wall_s =
                                (double)(clock->taken_ns[clock->n_taken - 1] - clock->given_ns[0]) /
                                NSEC_PER_SEC};
    int64_t now_ns;

    proc_cpu_ns(server->pid, &now_ns);
    sample.server_cpu_s = (double)(now_ns - clock->server_cpu_ns) / NSEC_PER_SEC;
    sample.client_cpu_s = (double)(own_cpu_ns() - clock->client_cpu_ns) / NSEC_PER_SEC;
    for (size_t i = 0; us && i < clock->n_taken; i++) {
        us[i] = (double)(clock->taken_ns[i] - clock->given_ns[i]) / 1000;
    }
    if (us) {
        stats_sort(us, clock->n_taken);
        sample.p50_us = stats_percentile(us, clock->n_taken, 50);
        sample.p99_us = stats_percentile(us, clock->n_taken, 99);
        sample.max_us = stats_percentile(us, clock->n_taken, 100);
    }
    return sample;
}

/* ---- the agent: a few connections, each with many requests under way ---- */

struct agent_client {
    int fds[CONNECTIONS + 1]; /* the last holds what all wait for */
    int64_t next_id;
};

static int send_request(struct agent_client *client, int fd, const char *method, const char *params)
{
    char header[256];
    struct rpc_part part = {.header = header};

    snprintf(header, sizeof(header), "{\"id\":%lld,\"method\":\"%s\",\"params\":%s}",
             (long long)++client->next_id, method, params);
    return rpc_send(fd, &part);
}

static int release(struct agent_client *client, int fd, int64_t lease)
{
    char params[64];

    snprintf(params, sizeof(params), "{\"lease\":%lld}", (long long)lease);
    return send_request(client, fd, "gate.release", params);
}

static int wait_for_waiters(const char *instance, int waiters, struct error *err)
{
    for (int i = 0; i < WAIT_S * 100; i++) {
        autojson json_t *answer = NULL;
        const json_t *gate;
        size_t k;
        int rc = rpc_ask_once(instance, "gate.show", NULL, clock_ns() + WAIT_S * NSEC_PER_SEC,
                              &answer, err);

        if (rc < 0) {
            return rc;
        }
        json_array_foreach (json_object_get(answer, "gates"), k, gate) {
            if (!strcmp(json_string_value(json_object_get(gate, "stage")), STAGE) &&
                json_integer_value(json_object_get(gate, "waiting")) == waiters) {
                return 0;
            }
        }
        clock_sleep_ns(10 * NSEC_PER_MSEC);
    }
    return error_set(err, -ETIMEDOUT, "the waiters do not all wait");
}

static int open_clients(const char *instance, struct agent_client *client, struct error *err)
{
    *client = (struct agent_client){.fds = {-1, -1, -1, -1, -1}};
    for (size_t i = 0; i < ARRAY_SIZE(client->fds); i++) {
        int rc = rpc_open(instance, clock_ns() + WAIT_S * NSEC_PER_SEC, &client->fds[i], err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int agent_queue(struct server *server, const struct test *test, struct agent_client *client,
                       struct error *err)
{
    int64_t deadline_ns = clock_ns() + WAIT_S * NSEC_PER_SEC;
    int holder = client->fds[CONNECTIONS];
    int rc = rpc_ask(holder, "gate.set",
                     json_pack("{s:i, s:{s:i}}", "v", 1, "limits", STAGE, test->limit), deadline_ns,
                     NULL, NULL, NULL, err);

    for (int i = 0; i < test->limit && rc == 0; i++) {
        rc = rpc_ask(holder, "gate.acquire", json_pack("{s:s}", "stage", STAGE), deadline_ns, NULL,
                     NULL, NULL, err);
    }
    for (int i = 0; i < test->waiters && rc == 0; i++) {
        rc = send_request(client, client->fds[i % CONNECTIONS], "gate.acquire",
                          "{\"stage\":\"" STAGE "\"}");
        rc = rc < 0 ? error_sys(err, rc, "ask for a permit") : 0;
    }
    return rc < 0 ? rc : wait_for_waiters(server->instance, test->waiters, err);
}

/* A permit: passed on at once. Anything else is the answer to a release. */
static int agent_take(struct agent_client *client, int fd, struct clock *clock, struct error *err)
{
    struct rpc_message message;
    autojson json_t *json = NULL;
    const json_t *lease;
    int rc = rpc_receive(fd, NULL, &message);

    if (rc <= 0) {
        return error_sys(err, rc < 0 ? rc : -ECONNRESET, "the agent");
    }
    rc = json_parse(message.header, message.header_len, &json, err);
    rpc_message_clear(&message);
    if (rc < 0) {
        return rc;
    }
    if (json_object_get(json, "error")) {
        return error_set(err, -EPROTO, "the agent refused");
    }
    lease = json_object_get(json_object_get(json, "result"), "lease");
    if (!lease) {
        return 0;
    }
    clock->taken_ns[clock->n_taken++] = clock_ns();
    clock->given_ns[clock->n_given++] = clock_ns();
    rc = release(client, fd, json_integer_value(lease));
    return rc < 0 ? error_sys(err, rc, "release") : 0;
}

static int agent_pass_on(const struct test *test, struct agent_client *client, struct clock *clock,
                         struct error *err)
{
    struct pollfd fds[CONNECTIONS];

    for (size_t i = 0; i < CONNECTIONS; i++) {
        fds[i] = (struct pollfd){.fd = client->fds[i], .events = POLLIN};
    }
    while (clock->n_taken < (size_t)test->waiters) {
        if (poll(fds, CONNECTIONS, WAIT_S * 1000) <= 0) {
            return error_set(err, -ETIMEDOUT, "no permit comes");
        }
        for (size_t i = 0; i < CONNECTIONS; i++) {
            int rc = fds[i].revents ? agent_take(client, fds[i].fd, clock, err) : 0;

            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

static int agent_run_test(struct server *server, const struct test *test, struct error *err)
{
    struct agent_client client;
    int rc = open_clients(server->instance, &client, err);

    rc = rc < 0 ? rc : agent_queue(server, test, &client, err);
    if (rc == 0) {
        clock_begin(server);
        /* A connection's permits go with it, all at once. */
        for (int i = 0; i < test->limit; i++) {
            server->clock->given_ns[server->clock->n_given++] = clock_ns();
        }
        close(take_fd(&client.fds[CONNECTIONS]));
        rc = agent_pass_on(test, &client, server->clock, err);
    }
    if (rc == 0) {
        *server->sample = clock_end(server);
    }
    for (size_t i = 0; i < ARRAY_SIZE(client.fds); i++) {
        cleanup_fd(&client.fds[i]);
    }
    return rc;
}

/* ---- poll_server.py: a connection a waiter ---- */

static int http_begin(int port, const char *operation, int limit, int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char request[128];

    snprintf(request, sizeof(request), "GET /get_lock?op=%s&stage=" POLL_STAGE " HTTP/1.0\r\n\r\n",
             operation, limit);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return fd_write_all(take_fd(&fd), request, strlen(request));
}

static int http_end(int fd)
{
    autofree char *text = NULL;
    autoclose int closed = fd;
    size_t len;
    int rc = fd_read_all(closed, 4096, &text, &len);

    return rc < 0 ? rc : len > 2 && !strcmp(text + len - 2, "ok") ? 0 : -EPROTO;
}

static int http_call(int port, const char *operation, int limit)
{
    int fd, rc = http_begin(port, operation, limit, &fd);

    return rc < 0 ? rc : http_end(fd);
}

static int poll_give(struct server *server, const struct test *test)
{
    server->clock->given_ns[server->clock->n_given++] = clock_ns();
    return http_call(server->port, "release", test->limit);
}

static int poll_pass_on(struct server *server, const struct test *test, struct pollfd *fds)
{
    struct clock *clock = server->clock;
    int rc = 0;

    while (rc == 0 && clock->n_taken < (size_t)test->waiters) {
        if (poll(fds, (nfds_t)test->waiters, WAIT_S * 1000) <= 0) {
            return -ETIMEDOUT;
        }
        for (int i = 0; i < test->waiters && rc == 0; i++) {
            if (fds[i].fd >= 0 && fds[i].revents) {
                rc = http_end(take_fd(&fds[i].fd));
                clock->taken_ns[clock->n_taken++] = clock_ns();
                rc = rc < 0 ? rc : poll_give(server, test);
            }
        }
    }
    return rc;
}

static int poll_run_test(struct server *server, const struct test *test, struct error *err)
{
    autofree struct pollfd *fds = calloc((size_t)test->waiters, sizeof(*fds));
    int rc = fds ? 0 : -ENOMEM;

    for (int i = 0; i < test->limit && rc == 0; i++) {
        rc = http_call(server->port, "obtain", test->limit);
    }
    for (int i = 0; i < test->waiters && rc == 0; i++) {
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
        rc = http_begin(server->port, "obtain", test->limit, &fds[i].fd);
    }
    if (rc == 0) {
        clock_sleep_ns(SETTLE_NS);
        clock_begin(server);
        for (int i = 0; i < test->limit && rc == 0; i++) {
            rc = poll_give(server, test);
        }
    }
    rc = rc < 0 ? rc : poll_pass_on(server, test, fds);
    if (rc == 0) {
        *server->sample = clock_end(server);
    }
    return rc < 0 ? error_sys(err, rc, "poll_server.py") : 0;
}

/* ---- no server at all: what a message there and back takes between two processes here ---- */

static void echo(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char buffer[64];
    ssize_t n;

    while (poll(&pfd, 1, -1) > 0 && (n = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
        (void)send(fd, buffer, (size_t)n, MSG_NOSIGNAL);
    }
}

static int echo_pass_on(const struct test *test, struct clock *clock, int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char buffer[64] = "";

    while (clock->n_taken < (size_t)test->waiters) {
        clock->given_ns[clock->n_given++] = clock_ns();
        if (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) < 0 ||
            poll(&pfd, 1, WAIT_S * 1000) <= 0 || recv(fd, buffer, sizeof(buffer), 0) <= 0) {
            return -EIO;
        }
        clock->taken_ns[clock->n_taken++] = clock_ns();
    }
    return 0;
}

static int echo_run_test(struct server *server, const struct test *test, struct error *err)
{
    int fds[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return error_sys(err, -errno, "socketpair");
    }
    server->pid = fork();
    if (server->pid == 0) {
        close(fds[0]);
        echo(fds[1]);
        _exit(0);
    }
    close(fds[1]);
    clock_begin(server);
    rc = server->pid < 0 ? -errno : echo_pass_on(test, server->clock, fds[0]);
    if (rc == 0) {
        *server->sample = clock_end(server);
    }
    close(fds[0]);
    waitpid(server->pid, NULL, 0);
    return rc < 0 ? error_sys(err, rc, "echo") : 0;
}

/* ---- the table ---- */

static double p50_of(const struct sample *s)
{
    return s->p50_us;
}

static double p99_of(const struct sample *s)
{
    return s->p99_us;
}

static double max_of(const struct sample *s)
{
    return s->max_us;
}

static double wall_of(const struct sample *s)
{
    return s->wall_s * 1e3;
}

static double server_cpu_of(const struct sample *s)
{
    return s->server_cpu_s * 1e3;
}

static double client_cpu_of(const struct sample *s)
{
    return s->client_cpu_s * 1e3;
}

/* Median over the repeats with its interval. */
static struct stats_interval median_of(const struct test *test, size_t n,
                                       double (*value)(const struct sample *))
{
    double values[REPEATS_MAX], one = 1;

    for (size_t i = 0; i < n; i++) {
        values[i] = value(&test->samples[i]);
    }
    return stats_ratio(values, n, &one, 1, CONFIDENCE, SEED);
}

static void print_cell(struct stats_interval i)
{
    printf(" %.*f (%.*f - %.*f) |", i.point < 100, i.point, i.point < 100, i.low, i.point < 100,
           i.high);
}

static void print_table(const struct test *tests, size_t n_tests, size_t n)
{
    static double (*const values[])(const struct sample *) = {
        p50_of, p99_of, max_of, wall_of, server_cpu_of, client_cpu_of};

    printf("\n| server | limit | waiters | hand-over p50 (us) | p99 (us) | max (us) | wall (ms) | "
           "server CPU (ms) | client CPU (ms) |\n|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < n_tests; i++) {
        printf("| %s | %d | %d |", tests[i].server->name, tests[i].limit, tests[i].waiters);
        for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
            print_cell(median_of(&tests[i], n, values[v]));
        }
        printf("\n");
    }
}

/* ---- the runs ---- */

static int run_all(struct test *tests, size_t n_tests, size_t repeats, struct error *err)
{
    for (size_t repeat = 0; repeat < repeats; repeat++) {
        for (size_t i = 0; i < n_tests; i++) {
            struct test *test = &tests[i];
            struct sample *sample = &test->samples[repeat];
            int rc;

            test->server->sample = sample;
            rc = test->server->run(test->server, test, err);
            if (rc < 0) {
                return error_wrap(err, "%s, limit %d", test->server->name, test->limit);
            }
            printf("%zu: %-14s limit %2d, %5d waiters: p50 %7.1f us, p99 %8.1f us, max %9.1f us, "
                   "wall %.3f s, CPU %.3f s + %.3f s\n",
                   repeat + 1, test->server->name, test->limit, test->waiters, sample->p50_us,
                   sample->p99_us, sample->max_us, sample->wall_s, sample->server_cpu_s,
                   sample->client_cpu_s);
            fflush(stdout);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const int limits[] = {1, 4, 16};
    enum { MANY = 10000, FEW = 200 };
    struct clock clock = {calloc(2 * MANY, sizeof(int64_t)), calloc(MANY, sizeof(int64_t))};
    struct server agent = {"sluiced", .run = agent_run_test, .clock = &clock};
    struct server polling = {"poll_server.py", .run = poll_run_test, .clock = &clock};
    struct server echoing = {"(bare echo)", .run = echo_run_test, .clock = &clock};
    struct test tests[3 * ARRAY_SIZE(limits) + 1] = {0};
    int64_t agent_pid, port, poll_pid, repeats;
    struct error err = {0};
    size_t n = 0;

    if (argc != 6 || str_to_int64(argv[2], 1, INT32_MAX, &agent_pid) < 0 ||
        str_to_int64(argv[3], 1, 65535, &port) < 0 ||
        str_to_int64(argv[4], 1, INT32_MAX, &poll_pid) < 0 ||
        str_to_int64(argv[5], 1, REPEATS_MAX, &repeats) < 0) {
        fprintf(stderr, "usage: gate_bench INSTANCE AGENT_PID PORT POLL_PID REPEATS\n");
        return 2;
    }
    agent.instance = argv[1];
    agent.pid = (pid_t)agent_pid;
    polling.port = (int)port;
    polling.pid = (pid_t)poll_pid;
    tests[n++] = (struct test){.server = &echoing, .limit = 1, .waiters = MANY};
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        tests[n++] = (struct test){.server = &agent, .limit = limits[i], .waiters = MANY};
        tests[n++] = (struct test){.server = &agent, .limit = limits[i], .waiters = FEW};
        tests[n++] = (struct test){.server = &polling, .limit = limits[i], .waiters = FEW};
    }
    if (!clock.given_ns || !clock.taken_ns || run_all(tests, n, (size_t)repeats, &err) < 0) {
        fprintf(stderr, "gate_bench: %s\n", err.text);
        return 1;
    }
    print_table(tests, n, (size_t)repeats);
    free(clock.given_ns);
    free(clock.taken_ns);
    return 0;
}
