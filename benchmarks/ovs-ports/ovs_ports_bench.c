/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ovs_ports_bench SOCKET BRIDGE PORTS REPEATS: adds ports to a bridge in four ways, in turn, each
 * REPEATS times, and prints a table of medians and ratios. Run by the script beside it. A port is
 * added when ovs-vswitchd has given it a number.
 */
#include "ovs/ovs.h"
#include "stats/stats.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define REPEATS_MAX 100

struct bench;

/* One caller of many; ports of it alone, or of all. */
struct caller {
    pthread_t thread;
    struct bench *bench;
    struct ovs_port_spec *spec;
    int rc;
    struct error err;
};

/* A way to add ports: by one caller a port, or by one caller for all. */
struct way {
    const char *name;
    int (*add)(struct caller *caller);
    bool one_caller;
};

struct bench {
    const char *socket_path;
    size_t n;
    struct ovs_port_spec *specs;
    const char **names;
    struct caller *callers;
    struct ovsdb *db;
    struct ovs_batcher *batcher;
    const struct way *way;
    pthread_barrier_t start;
    atomic_size_t turned_away; /* ovs-vsctl, by the server */
};

static int64_t soon(void)
{
    return clock_ns() + 120 * NSEC_PER_SEC;
}

/* ---- the ways ---- */

static int vsctl_once(struct caller *caller, const char *const *argv)
{
    struct proc_spec spec = {.argv = argv, .output_max = 65536, .deadline_ns = soon()};
    struct proc_result result = {0};
    int rc = proc_run(&spec, &result);

    if (rc == 0 && !proc_ok(&result)) {
        rc = strstr(result.errout, "database connection failed") ? -EAGAIN : -EREMOTEIO;
        error_set(&caller->err, rc, "%s", result.errout);
    }
    proc_result_clear(&result);
    return rc;
}

/* Many at once are more than the server's backlog holds: those turned away try again at once (its
 * own --retry would sleep for seconds). */
static int by_vsctl(struct caller *caller)
{
    autofree char *db = str_printf("--db=unix:%s", caller->bench->socket_path);
    const char *argv[] = {
        "/usr/bin/ovs-vsctl", db,   "--timeout=100", "add-port",  caller->spec->bridge,
        caller->spec->name,   "--", "set",           "Interface", caller->spec->name,
        "type=internal",      NULL};
    int rc = vsctl_once(caller, argv);

    while (rc == -EAGAIN) {
        atomic_fetch_add(&caller->bench->turned_away, 1);
        rc = vsctl_once(caller, argv);
    }
    return rc;
}

static int by_connections(struct caller *caller)
{
    autoovsdb struct ovsdb *db = NULL;
    int rc = ovsdb_connect(caller->bench->socket_path, soon(), &db, &caller->err);

    return rc < 0 ? rc : ovs_ports_add(db, caller->spec, 1, soon(), NULL, &caller->err);
}

static int by_batcher(struct caller *caller)
{
    return ovs_batcher_add(caller->bench->batcher, caller->spec, 1, soon(), NULL, &caller->err);
}

static int by_one_transaction(struct caller *caller)
{
    return ovs_ports_add(caller->bench->db, caller->bench->specs, caller->bench->n, soon(), NULL,
                         &caller->err);
}

#define WAYS 4
#define BASE 3 /* the way that the others are compared with */
static const struct way ways[WAYS] = {
    {"`ovs-vsctl`, a process a port", by_vsctl, false},
    {"a connection and a transaction a port", by_connections, false},
    {"the batcher, a caller a port", by_batcher, false},
    {"one transaction for all", by_one_transaction, true},
};

/* ---- one run ---- */

static void *call(void *cookie)
{
    struct caller *caller = cookie;

    pthread_barrier_wait(&caller->bench->start);
    caller->rc = caller->bench->way->add(caller);
    return NULL;
}

/* Milliseconds from the start of all callers, whose threads are there already, to the last's end;
 * negative when any failed. */
static double run_once(struct bench *bench, const struct way *way)
{
    size_t n = way->one_caller ? 1 : bench->n, failed = 0;
    int64_t start_ns, end_ns;

    bench->way = way;
    pthread_barrier_init(&bench->start, NULL, (unsigned)n + 1);
    for (size_t i = 0; i < n; i++) {
        bench->callers[i] = (struct caller){.bench = bench, .spec = &bench->specs[i]};
        if (pthread_create(&bench->callers[i].thread, NULL, call, &bench->callers[i]) != 0) {
            fprintf(stderr, "cannot start %zu threads\n", n);
            exit(1);
        }
    }
    start_ns = clock_ns();
    pthread_barrier_wait(&bench->start);
    for (size_t i = 0; i < n; i++) {
        pthread_join(bench->callers[i].thread, NULL);
    }
    end_ns = clock_ns();
    pthread_barrier_destroy(&bench->start);
    for (size_t i = 0; i < n; i++) {
        if (bench->callers[i].rc < 0 && failed++ == 0) {
            fprintf(stderr, "%s: %s\n", way->name, bench->callers[i].err.text);
        }
    }
    return failed ? -1 : (double)(end_ns - start_ns) / NSEC_PER_MSEC;
}

/* All ports must be there and numbered; then they are removed. */
static int check_and_remove(struct bench *bench)
{
    struct ovs_ports ports = {0};
    struct error err;
    size_t made = 0;
    int rc = ovs_ports_list(bench->db, NULL, false, soon(), &ports, &err);

    for (size_t i = 0; i < ports.n; i++) {
        made += ports.ports[i].ofport > 0;
    }
    ovs_ports_clear(&ports);
    if (rc == 0) {
        rc = ovs_ports_del(bench->db, bench->names, bench->n, true, soon(), &err);
    }
    if (rc < 0) {
        fprintf(stderr, "%s\n", err.text);
        return rc;
    }
    return made == bench->n + 1 ? 0 : -1; /* the bridge's own is one */
}

/* ---- all runs ---- */

static void print_table(const struct bench *bench, double times[WAYS][REPEATS_MAX], size_t repeats)
{
    printf("| %zu ports | median | times one transaction (95 %%) |\n|---|---|---|\n", bench->n);
    for (size_t w = 0; w < WAYS; w++) {
        struct stats_interval ratio = stats_ratio(times[w], repeats, times[BASE], repeats, 0.95, 1);

        printf("| %s | %.0f ms | ", ways[w].name, stats_median(times[w], repeats));
        if (w == BASE) {
            printf("1 |\n");
        } else {
            printf("%.2f (%.2f - %.2f) |\n", ratio.point, ratio.low, ratio.high);
        }
    }
}

static void print_batches(struct bench *bench)
{
    struct ovs_batcher_counts counts;

    ovs_batcher_counts(bench->batcher, &counts);
    printf("\nThe batcher's transactions, by ports (at most):");
    for (size_t i = 0; i < OVS_BATCH_SIZES; i++) {
        if (counts.sizes[i]) {
            printf(" %zu: %lu", (size_t)1 << i, (unsigned long)counts.sizes[i]);
        }
    }
    printf("\n`ovs-vsctl` processes that OVSDB had no room for: %zu\n", bench->turned_away);
}

static int run_all(struct bench *bench, size_t repeats)
{
    static double times[WAYS][REPEATS_MAX];

    for (size_t i = 0; i < repeats; i++) {
        for (size_t k = 0; k < WAYS; k++) {
            size_t w = (i + k) % WAYS;

            times[w][i] = run_once(bench, &ways[w]);
            fprintf(stderr, "%s: %.1f ms\n", ways[w].name, times[w][i]);
            if (check_and_remove(bench) < 0 || times[w][i] < 0) {
                fprintf(stderr, "not all ports were made: no result\n");
                return 3;
            }
        }
    }
    print_table(bench, times, repeats);
    print_batches(bench);
    return 0;
}

/* The batcher is connected, as an agent's is. */
static int prepare(struct bench *bench, const char *bridge, struct error *err)
{
    int rc;

    for (size_t i = 0; i < bench->n; i++) {
        bench->names[i] = str_printf("bench%zu", i);
        bench->specs[i] =
            (struct ovs_port_spec){.bridge = bridge, .name = bench->names[i], .type = "internal"};
    }
    rc = ovsdb_connect(bench->socket_path, soon(), &bench->db, err);
    if (rc == 0) {
        rc = ovs_batcher_start(bench->socket_path, &bench->batcher, err);
    }
    return rc == 0 ? ovs_batcher_del(bench->batcher, bench->names, 1, soon(), err) : rc;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    int64_t n, repeats;
    struct error err;
    int rc;

    if (argc != 5 || str_to_int64(argv[3], 1, 10000, &n) < 0 ||
        str_to_int64(argv[4], 1, REPEATS_MAX, &repeats) < 0) {
        fprintf(stderr, "usage: ovs_ports_bench SOCKET BRIDGE PORTS REPEATS\n");
        return 2;
    }
    bench.socket_path = argv[1];
    bench.n = (size_t)n;
    bench.specs = calloc(bench.n, sizeof(*bench.specs));
    bench.names = calloc(bench.n, sizeof(*bench.names));
    bench.callers = calloc(bench.n, sizeof(*bench.callers));
    if (prepare(&bench, argv[2], &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    rc = run_all(&bench, (size_t)repeats);
    ovs_batcher_stop(bench.batcher);
    ovsdb_close(bench.db);
    for (size_t i = 0; i < bench.n; i++) {
        free((char *)bench.names[i]);
    }
    free(bench.specs);
    free(bench.names);
    free(bench.callers);
    return rc;
}
