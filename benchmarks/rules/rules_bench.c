/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules_bench SWITCH PODS RULES REPEATS: puts the flows of many pods into a bridge in several ways,
 * in turn, each REPEATS times, and prints a table of medians and ratios. Run by the script beside
 * it. SWITCH is the bridge's management socket. The flows are those of the key `acl`.
 */
#include "ovs/openflow.h"
#include "stats/stats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REPEATS_MAX 100
#define SLOW_EVERY  5   /* turns */
#define ONE_BY_ONE  400 /* flows that are added by a process each: all would take minutes */
#define COOKIE      0x51ce000000000000ULL
#define COOKIE_MASK 0xffff000000000000ULL

struct bench;

/* A pod, and the thread that has it made. */
struct pod {
    pthread_t thread;
    struct bench *bench;
    struct flow_set set;
    char *path; /* of its flows as text */
    int fd;
    int rc;
    struct error err;
};

/* A way to make flows: all pods' one after the other, or at once by a thread each. */
struct way {
    const char *name;
    int (*make)(struct bench *bench, struct error *err);
    int (*make_pod)(struct pod *pod);
    bool few;  /* ONE_BY_ONE flows only */
    bool slow; /* takes many seconds: not in every turn */
};

struct bench {
    const char *socket_path;
    char *target; /* the same as ovs-ofctl wants it */
    size_t n_pods, n_rules;
    struct flow *flows;
    struct pod *pods;
    struct flow_set *sets;
    char *path; /* of all flows as text */
    int fd;
    struct openflow *of;
    struct flow_batcher *batcher;
    const struct way *way;
    pthread_barrier_t start;
};

static int64_t soon(void)
{
    return clock_ns() + 300 * NSEC_PER_SEC;
}

/* ---- the ways ---- */

static int ofctl(struct bench *bench, const char *bundle, const char *command, const char *argument,
                 struct error *err)
{
    const char *argv[] = {"/usr/bin/ovs-ofctl", "--no-names", bundle, command,
                          bench->target,        argument,     NULL};
    struct proc_spec spec = {.argv = argv, .output_max = 65536, .deadline_ns = soon()};
    struct proc_result result = {0};
    int rc = proc_run(&spec, &result);

    if (rc == 0 && !proc_ok(&result)) {
        rc = error_set(err, -EREMOTEIO, "%s", result.errout);
    }
    proc_result_clear(&result);
    return rc;
}

static int by_add_flow(struct bench *bench, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < bench->n_pods * bench->n_rules && i < ONE_BY_ONE; i++) {
        char text[512], command[600];

        flow_format(&bench->flows[i], text, sizeof(text));
        snprintf(command, sizeof(command), "cookie=0x%" PRIx64 ",%s",
                 bench->sets[i / bench->n_rules].cookie, text);
        rc = ofctl(bench, "-t300", "add-flow", command, err);
    }
    return rc;
}

static int by_add_flows(struct bench *bench, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < bench->n_pods; i++) {
        rc = ofctl(bench, "-t300", "add-flows", bench->pods[i].path, err);
    }
    return rc;
}

static int by_bundle(struct bench *bench, struct error *err)
{
    return ofctl(bench, "--bundle", "add-flows", bench->path, err);
}

static int by_connections(struct pod *pod)
{
    autoopenflow struct openflow *of = NULL;
    int rc = openflow_connect(pod->bench->socket_path, soon(), &of, &pod->err);

    return rc < 0 ? rc : openflow_apply(of, &pod->set, 1, soon(), NULL, &pod->err);
}

static int by_batcher(struct pod *pod)
{
    return flow_batcher_apply(pod->bench->batcher, &pod->set, soon(), &pod->err);
}

static int by_one_apply(struct bench *bench, struct error *err)
{
    return openflow_apply(bench->of, bench->sets, bench->n_pods, soon(), NULL, err);
}

#define WAYS 6
#define BASE 2 /* the way that the others are compared with */
static const struct way ways[WAYS] = {
    {.name = "`ovs-ofctl add-flow`, a process a flow",
     .make = by_add_flow,
     .few = true,
     .slow = true},
    {.name = "`ovs-ofctl add-flows`, a process a pod", .make = by_add_flows, .slow = true},
    {.name = "`ovs-ofctl --bundle add-flows`, all at once", .make = by_bundle},
    {.name = "a connection and a bundle a pod, a thread each", .make_pod = by_connections},
    {.name = "the batcher, a caller a pod", .make_pod = by_batcher},
    {.name = "one bundle for all", .make = by_one_apply},
};

/* ---- one run ---- */

static void *call(void *cookie)
{
    struct pod *pod = cookie;

    pthread_barrier_wait(&pod->bench->start);
    pod->rc = pod->bench->way->make_pod(pod);
    return NULL;
}

/* Nanoseconds from the start of all threads, which are there already, to the last's end. */
static int64_t run_threads(struct bench *bench, int *ret_rc, struct error *err)
{
    int64_t start_ns, end_ns;

    pthread_barrier_init(&bench->start, NULL, (unsigned)bench->n_pods + 1);
    for (size_t i = 0; i < bench->n_pods; i++) {
        if (pthread_create(&bench->pods[i].thread, NULL, call, &bench->pods[i]) != 0) {
            fprintf(stderr, "cannot start %zu threads\n", bench->n_pods);
            exit(1);
        }
    }
    start_ns = clock_ns();
    pthread_barrier_wait(&bench->start);
    for (size_t i = 0; i < bench->n_pods; i++) {
        pthread_join(bench->pods[i].thread, NULL);
    }
    end_ns = clock_ns();
    pthread_barrier_destroy(&bench->start);
    *ret_rc = 0;
    for (size_t i = 0; i < bench->n_pods; i++) {
        if (bench->pods[i].rc < 0) {
            *ret_rc = bench->pods[i].rc;
            *err = bench->pods[i].err;
        }
    }
    return end_ns - start_ns;
}

/* All flows must be there; then they are removed. */
static int check_and_remove(struct bench *bench, size_t expected, struct error *err)
{
    autofree struct flow_set *none = calloc(bench->n_pods, sizeof(*none));
    size_t n = 0;
    int rc = openflow_count(bench->of, COOKIE, COOKIE_MASK, soon(), &n, err);

    for (size_t i = 0; none && i < bench->n_pods; i++) {
        none[i].cookie = bench->sets[i].cookie;
    }
    if (rc == 0) {
        rc = openflow_apply(bench->of, none, bench->n_pods, soon(), NULL, err);
    }
    return rc == 0 && n != expected
               ? error_set(err, -EIO, "%zu of %zu flows were made", n, expected)
               : rc;
}

/* Milliseconds that all flows took, or would have taken. */
static int run_once(struct bench *bench, const struct way *way, double *ret, struct error *err)
{
    size_t all = bench->n_pods * bench->n_rules,
           n = way->few && all > ONE_BY_ONE ? ONE_BY_ONE : all;
    int64_t took_ns = clock_ns();
    int rc;

    bench->way = way;
    if (way->make_pod) {
        took_ns = run_threads(bench, &rc, err);
    } else {
        rc = way->make(bench, err);
        took_ns = clock_ns() - took_ns;
    }
    if (rc == 0) {
        rc = check_and_remove(bench, n, err);
    }
    *ret = (double)took_ns / NSEC_PER_MSEC * (double)all / (double)n;
    return rc;
}

/* ---- all runs ---- */

struct times {
    double ms[REPEATS_MAX];
    size_t n;
};

static void print_table(const struct bench *bench, const struct times times[WAYS])
{
    const struct times *base = &times[BASE];
    double flows = (double)(bench->n_pods * bench->n_rules);

    printf("| %zu pods of %zu rules | median | flows a second | times one `ovs-ofctl --bundle` (95 "
           "%%) |\n|---|---|---|---|\n",
           bench->n_pods, bench->n_rules);
    for (size_t w = 0; w < WAYS; w++) {
        struct stats_interval ratio =
            stats_ratio(times[w].ms, times[w].n, base->ms, base->n, 0.95, 1);
        double median = stats_median(times[w].ms, times[w].n);

        printf("| %s%s | %.0f ms | %.0f | ", ways[w].name, ways[w].few ? " (*)" : "", median,
               flows / median * 1000);
        if (w == BASE) {
            printf("1 |\n");
        } else {
            printf("%.2f (%.2f - %.2f) |\n", ratio.point, ratio.low, ratio.high);
        }
    }
    printf("\n(*) %d flows were added, and the time of all reckoned from them.\n", ONE_BY_ONE);
}

static void print_bundles(struct bench *bench)
{
    struct flow_batcher_counts counts;

    flow_batcher_counts(bench->batcher, &counts);
    printf("The batcher's bundles, by pods (at most):");
    for (size_t i = 0; i < FLOW_BATCH_SIZES; i++) {
        if (counts.sizes[i]) {
            printf(" %zu: %" PRIu64, (size_t)1 << i, counts.sizes[i]);
        }
    }
    printf("\n");
}

static int run_all(struct bench *bench, size_t repeats)
{
    static struct times times[WAYS];

    for (size_t i = 0; i < repeats * WAYS; i++) {
        size_t turn = i / WAYS, w = (turn + i) % WAYS; /* each turn begins with another one */
        double *ms = &times[w].ms[times[w].n];
        struct error err = {0};

        if (ways[w].slow && turn % SLOW_EVERY != 0) {
            continue;
        }
        if (run_once(bench, &ways[w], ms, &err) < 0) {
            fprintf(stderr, "%s: %s: no result\n", ways[w].name, err.text);
            return 3;
        }
        fprintf(stderr, "%s: %.1f ms\n", ways[w].name, *ms);
        times[w].n++;
    }
    print_table(bench, times);
    print_bundles(bench);
    return 0;
}

/* ---- flows, and their text ---- */

/* A file in memory and the path by which another process opens it. */
static int memory_file(char **ret_path)
{
    int fd = memfd_create("flows", MFD_CLOEXEC);

    *ret_path = str_printf("/proc/%d/fd/%d", (int)getpid(), fd);
    return fd;
}

static void make_flow(struct bench *bench, size_t pod, size_t rule)
{
    struct flow *flow = &bench->flows[pod * bench->n_rules + rule];
    uint32_t address = htonl(0xc6120000U + (uint32_t)rule);
    char text[512], line[600];
    int len;

    *flow = (struct flow){.table = 52,
                          .priority = 11,
                          .match = {.has_metadata = true,
                                    .metadata = bench->sets[pod].cookie,
                                    .eth_type = ETH_P_IP,
                                    .src = {.family = AF_INET, .prefix = 32}}};
    memcpy(flow->match.src.bytes, &address, sizeof(address));
    flow_format(flow, text, sizeof(text));
    len = snprintf(line, sizeof(line), "cookie=0x%" PRIx64 ",%s\n", bench->sets[pod].cookie, text);
    fd_write_all(bench->fd, line, (size_t)len);
    fd_write_all(bench->pods[pod].fd, line, (size_t)len);
}

static void make_flows(struct bench *bench)
{
    bench->fd = memory_file(&bench->path);
    for (size_t i = 0; i < bench->n_pods; i++) {
        bench->sets[i] = (struct flow_set){.cookie = COOKIE + i,
                                           .flows = bench->flows + i * bench->n_rules,
                                           .n_flows = bench->n_rules};
        bench->pods[i] = (struct pod){.bench = bench, .set = bench->sets[i]};
        bench->pods[i].fd = memory_file(&bench->pods[i].path);
        for (size_t k = 0; k < bench->n_rules; k++) {
            make_flow(bench, i, k);
        }
    }
}

/* The batcher is connected, as an agent's is. */
static int prepare(struct bench *bench, struct error *err)
{
    struct flow_set none = {.cookie = COOKIE};
    int rc;

    make_flows(bench);
    rc = openflow_connect(bench->socket_path, soon(), &bench->of, err);
    if (rc == 0) {
        rc = flow_batcher_start(bench->socket_path, NULL, &bench->batcher, err);
    }
    return rc == 0 ? flow_batcher_apply(bench->batcher, &none, soon(), err) : rc;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    int64_t pods, rules, repeats;
    struct error err;
    int rc;

    if (argc != 5 || str_to_int64(argv[2], 1, 1000, &pods) < 0 ||
        str_to_int64(argv[3], 1, 1000, &rules) < 0 ||
        str_to_int64(argv[4], 1, REPEATS_MAX, &repeats) < 0) {
        fprintf(stderr, "usage: rules_bench SWITCH PODS RULES REPEATS\n");
        return 2;
    }
    bench.socket_path = argv[1];
    bench.target = str_printf("unix:%s", argv[1]);
    bench.n_pods = (size_t)pods;
    bench.n_rules = (size_t)rules;
    bench.flows = calloc(bench.n_pods * bench.n_rules, sizeof(*bench.flows));
    bench.pods = calloc(bench.n_pods, sizeof(*bench.pods));
    bench.sets = calloc(bench.n_pods, sizeof(*bench.sets));
    if (prepare(&bench, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    rc = run_all(&bench, (size_t)repeats);
    flow_batcher_stop(bench.batcher);
    openflow_close(bench.of);
    return rc;
}
