/* SPDX-License-Identifier: Apache-2.0 */
/* One pod's way up and down, in straight lines; and many of them at once, a thread each. */
#include "bench/bench-internal.h"
#include "netlink/netlink.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_STACK (256 * 1024)

static void pod_fail(struct bench_pod *pod, const struct error *err)
{
    if (!pod->failed) {
        pod->failed = true;
        pod->error = *err;
    }
}

/* ---- steps ---- */

/* Out of the pool, where there is one of namespaces; else a new one. */
static int make_netns(struct bench_pod *pod, struct error *err)
{
    int rc = pod->run->pooled_namespaces ? bench_pool_take(pod, err) : -EAGAIN;

    pod->started |= rc == 0; /* it is an attachment by now */
    if (rc == -EAGAIN || rc == -ENOENT) {
        rc = netns_create(pod->netns_path, err);
    }

    pod->has_netns = rc == 0;
    return rc;
}

static int drop_netns(struct bench_pod *pod, struct error *err)
{
    int rc = pod->has_netns ? netns_delete(pod->netns_path, err) : 0;

    if (rc == 0) {
        pod->has_netns = false;
    }
    return rc;
}

static int timed(struct bench_pod *pod, const char *stage,
                 int (*step)(struct bench_pod *, struct error *), struct error *err)
{
    int64_t t0 = clock_ns();
    int rc = step(pod, err);

    span_end(pod->run->spans_fd, pod->container_id, stage, t0, 0, rc == 0);
    return rc < 0 ? error_wrap(err, "pod %s", pod->container_id) : 0;
}

int bench_pod_gated(struct bench_pod *pod, const char *stage,
                    int (*step)(struct bench_pod *, struct error *), struct error *err)
{
    int64_t t0 = clock_ns();
    struct bench_permit permit;
    int rc = bench_gate_enter(pod, stage, &permit, err);

    if (rc == 0) {
        rc = step(pod, err);
        bench_gate_leave(&permit);
    }
    span_end(pod->run->spans_fd, pod->container_id, stage, t0, permit.waited_ns, rc == 0);
    return rc < 0 ? error_wrap(err, "pod %s", pod->container_id) : 0;
}

void bench_pod_make_netns(struct bench_pod *pod, int64_t t0_ns)
{
    struct error err = {0};

    (void)t0_ns;
    if (make_netns(pod, &err) < 0) {
        pod_fail(pod, &err);
    }
}

void bench_pod_drop_netns(struct bench_pod *pod, int64_t t0_ns)
{
    struct error err = {0};

    (void)t0_ns;
    if (drop_netns(pod, &err) < 0) {
        pod_fail(pod, &err);
    }
}

static int start_stages(struct bench_pod *pod, struct error *err)
{
    const struct bench_driver *driver = pod->run->variant->driver;
    int rc = pod->has_netns ? 0 : bench_pod_gated(pod, "netns", make_netns, err);

    if (rc == 0) {
        pod->started = true;
        rc = (driver->agent_gates ? timed : bench_pod_gated)(pod, "cni", driver->add, err);
    }
    if (rc == 0 && pod->run->options->sandbox == BENCH_SANDBOX_PROCESS) {
        rc = bench_sandbox_start(pod, err);
    }
    return rc;
}

void bench_pod_start(struct bench_pod *pod, int64_t t0_ns)
{
    struct bench_permit permit;
    struct error err = {0};
    int rc;

    if (pod->failed) {
        return;
    }
    rc = bench_gate_enter(pod, "total", &permit, &err);
    if (rc == 0) {
        rc = start_stages(pod, &err);
        bench_gate_leave(&permit);
    }
    span_end(pod->run->spans_fd, pod->container_id, "total", t0_ns, permit.waited_ns, rc == 0);
    if (rc < 0) {
        pod_fail(pod, &err);
    } else {
        atomic_fetch_add(&pod->run->done, 1);
    }
}

void bench_pod_stop(struct bench_pod *pod, int64_t t0_ns)
{
    const struct bench_options *options = pod->run->options;
    struct error err = {0};

    if (!pod->started && !pod->has_netns) {
        return;
    }
    if (options->sandbox == BENCH_SANDBOX_PROCESS && bench_sandbox_stop(pod, &err) < 0) {
        pod_fail(pod, &err);
    }
    if (pod->started && timed(pod, "del.cni", pod->run->variant->driver->del, &err) < 0) {
        pod_fail(pod, &err);
    }
    if (!options->netns_ready && timed(pod, "del.netns", drop_netns, &err) < 0) {
        pod_fail(pod, &err);
    }
    span_end(pod->run->spans_fd, pod->container_id, "del", t0_ns, 0, !err.errnum);
    atomic_fetch_add(&pod->run->done, 1);
}

/* ---- many at once ---- */

struct crowd {
    struct bench_run *run;
    void (*step)(struct bench_pod *pod, int64_t t0_ns);
    bool stop_on_interrupt, burst;
    atomic_int next;
    pthread_mutex_t lock;
    pthread_cond_t go;
    int64_t t0_ns; /* under lock; 0: nobody begins before all are there */
};

static void *worker(void *cookie)
{
    struct crowd *crowd = cookie;
    bool first = true;
    int64_t t0_ns;
    int i;

#ifndef __SANITIZE_THREAD__ /* which takes it that all threads share one table */
    /* A descriptor table of its own: a child would otherwise copy, and close, every other pod's. */
    (void)unshare(CLONE_FILES);
#endif
    pthread_mutex_lock(&crowd->lock);
    while (!crowd->t0_ns) {
        pthread_cond_wait(&crowd->go, &crowd->lock);
    }
    t0_ns = crowd->t0_ns;
    pthread_mutex_unlock(&crowd->lock);
    while ((i = atomic_fetch_add(&crowd->next, 1)) < crowd->run->n_pods) {
        if (crowd->stop_on_interrupt && atomic_load(&bench_interrupted)) {
            break;
        }
        /* In a burst every pod is asked for at once, even one that finds its thread late; in a loop
         * when its turn comes. */
        crowd->step(&crowd->run->pods[i], crowd->burst || first ? t0_ns : clock_ns());
        first = false;
    }
    return NULL;
}

static void release(struct crowd *crowd)
{
    pthread_mutex_lock(&crowd->lock);
    crowd->t0_ns = clock_ns();
    pthread_cond_broadcast(&crowd->go);
    pthread_mutex_unlock(&crowd->lock);
}

int bench_for_pods(struct bench_run *run, int concurrency,
                   void (*step)(struct bench_pod *pod, int64_t t0_ns), bool stop_on_interrupt,
                   int64_t *ret_t0_ns, struct error *err)
{
    int n = concurrency && concurrency < run->n_pods ? concurrency : run->n_pods;
    struct crowd crowd = {.run = run,
                          .step = step,
                          .stop_on_interrupt = stop_on_interrupt,
                          .burst = n == run->n_pods,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .go = PTHREAD_COND_INITIALIZER};
    autofree pthread_t *threads = calloc((size_t)n, sizeof(*threads));
    pthread_attr_t attr;
    int made = 0, rc = 0;

    if (!threads) {
        return error_sys(err, -ENOMEM, "threads");
    }
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    atomic_store(&run->done, 0);
    while (made < n && rc == 0) {
        rc = -pthread_create(&threads[made], &attr, worker, &crowd);
        made += rc == 0;
    }
    pthread_attr_destroy(&attr);
    if (rc < 0) {
        atomic_store(&crowd.next, run->n_pods); /* those made have nothing to do */
    }
    release(&crowd);
    for (int i = 0; i < made; i++) {
        pthread_join(threads[i], NULL);
    }
    if (ret_t0_ns) {
        *ret_t0_ns = crowd.t0_ns;
    }
    return rc < 0 ? error_sys(err, rc, "start %d threads", n) : 0;
}
