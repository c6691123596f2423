/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include "bench/bench.h"
#include "json/json.h"
#include "ovs/ovs.h"
#include "span/span.h"

#include <stdatomic.h>

#define BENCH_ERRORS_SHOWN 3

struct bench_pod {
    struct bench_run *run;
    int index, tenant;
    char container_id[SPAN_POD_MAX];
    char netns_path[256];
    bool has_netns, started; /* started: an ADD was tried, so that a DEL is due */
    json_t *result;          /* ADD's answer, for DEL's prevResult; NULL: none */
    pid_t pause_pid;         /* 0: none */
    bool failed;
    struct error error;
};

/* CPU seconds so far of everybody concerned; differences between two are a phase's. */
struct bench_cpu {
    double bench, plugin, agent, vswitchd, ovsdb, total;
};

#define BENCH_GATES_MAX 16

/* One phase of a run: start or teardown. */
struct bench_phase {
    int64_t t0_ns; /* first request */
    struct bench_cpu cpu;
};

struct bench_run {
    const struct bench_options *options;
    const struct bench_variant *variant;
    char uuid[37];
    char id[9];     /* start of the uuid: part of every container ID */
    char dir[512];  /* result folder of this run */
    char work[512]; /* <instance>/bench/<id>: namespaces */
    char spans_path[544];
    int spans_fd;
    struct bench_pod *pods;
    int n_pods, n_failed; /* n_failed: that did not start */
    struct bench_phase start, teardown;
    double tenant_ports_s; /* what making the tenants' ports took, before; NAN: none were made */
    pid_t vswitchd_pid, ovsdb_pid;      /* 0: none */
    pid_t agent_pid;                    /* 0: none */
    atomic_int limits[BENCH_GATES_MAX]; /* of span_stages' gates; 0: open */
    char ovs_version[32];               /* "" when no private OVS is used */
    atomic_int done;
    _Atomic(int64_t) plugin_cpu_ns; /* of children that have ended */
    json_t **confs;                 /* one a tenant: a configuration list */
    json_t *problems;               /* array of texts; a run without any is a result */
    bool pooled_namespaces;         /* pods take theirs from the agent's pools */
    void *driver_state;
};

/* A way to make pods' networks: a row in bench.c. */
struct bench_driver {
    const char *name;
    /* Checks `what` and makes the variant's name. */
    int (*check)(const char *what, char name[64], struct error *err);
    int (*prepare)(struct bench_run *run, struct error *err);
    void (*finish)(struct bench_run *run); /* after prepare, whatever happened since */
    int (*add)(struct bench_pod *pod, struct error *err); /* spans are its own business */
    int (*del)(struct bench_pod *pod,
               struct error *err); /* what add has made may be partly there */
    int (*leaks)(struct bench_run *run, struct error *err); /* notes problems; may be NULL */
    bool (*tenant_ports)(const char *what); /* whether tenants have a port each; NULL: no */
    bool pooled;       /* its networks have pools, full before the clock starts */
    bool agent_gates;  /* the agent takes the gate `cni` for it; else bench does */
    bool serial_start; /* one thread does it best: a lower bound, not a way pods arrive */
    bool needs_ovs;
};

extern const struct bench_driver bench_driver_cni, bench_driver_pooled, bench_driver_standalone,
    bench_driver_socket, bench_driver_conf, bench_driver_raw;

/* Set by a signal: start nothing more, take away what there is. */
extern atomic_bool bench_interrupted;

/* ---- pods.c ---- */

/* Runs step for every pod, `concurrency` at a time (0: all at once); steps do not fail, they note
 * it in the pod. t0 is when the first may begin. */
int bench_for_pods(struct bench_run *run, int concurrency,
                   void (*step)(struct bench_pod *pod, int64_t t0_ns), bool stop_on_interrupt,
                   int64_t *ret_t0_ns, struct error *err);
void bench_pod_start(struct bench_pod *pod, int64_t t0_ns);
void bench_pod_stop(struct bench_pod *pod, int64_t t0_ns);

/* A stage with a gate in front of it, of whose span the wait is a part. */
int bench_pod_gated(struct bench_pod *pod, const char *stage,
                    int (*step)(struct bench_pod *, struct error *), struct error *err);
void bench_pod_make_netns(struct bench_pod *pod, int64_t t0_ns);
void bench_pod_drop_netns(struct bench_pod *pod, int64_t t0_ns);

/* ---- agent.c ---- */

struct bench_agent {
    pid_t pid;
    bool started; /* by us */
};

/* Finds the instance's agent, or starts one; it must be ended. */
int bench_agent_ready(const struct bench_options *options, struct bench_agent *ret,
                      struct error *err);
void bench_agent_end(struct bench_agent *agent);

/* Reads the gates' limits into the run; and, unless queues is NULL, writes members of a JSON object
 * that tell of each gate's queue. */
void bench_gates_read(struct bench_run *run, char *queues, size_t size);

/* Makes the pools of the run's networks and waits until they are full; and drains them. */
int bench_pools_fill(struct bench_run *run, struct error *err);
void bench_pools_drain(struct bench_run *run);

/* A namespace with all that the pod needs, out of its network's pool, bound to the pod's path.
 * -EAGAIN: there is none left; -ENOENT: there is no such pool (in the warm-up). */
int bench_pool_take(struct bench_pod *pod, struct error *err);

struct bench_permit {
    int fd; /* -1: none is needed */
    int64_t waited_ns;
};

/* Waits at a gate, if it has a limit. */
int bench_gate_enter(struct bench_pod *pod, const char *stage, struct bench_permit *ret,
                     struct error *err);
void bench_gate_leave(struct bench_permit *permit);

/* ---- sandbox.c ---- */

int bench_sandbox_start(struct bench_pod *pod, struct error *err);
int bench_sandbox_stop(struct bench_pod *pod, struct error *err);

/* Cgroups of the run's pods that are still there; removes the folder above them when it is empty.
 */
int bench_sandbox_left(const struct bench_run *run);

/* ---- conf.c ---- */

/* A configuration list for a tenant from a kind; and lists from a .conf or .conflist file. */
json_t *bench_conf_for_kind(const struct bench_options *options, const char *kind, int tenant);
int bench_conf_from_file(const char *path, json_t **ret, struct error *err);

/* ---- run.c ---- */

struct bench_outcome {
    bool valid; /* no pod failed, nothing was left, nobody interrupted it */
    bool clean; /* nothing was left */
};

/* One run of one variant into dir. */
int bench_run_one(const struct bench_options *options, const struct bench_variant *variant,
                  const struct bench_agent *agent, const char *dir, struct bench_outcome *ret,
                  struct error *err);
void bench_problem(struct bench_run *run, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- measure.c ---- */

void bench_cpu_read(const struct bench_run *run, struct bench_cpu *ret);
struct bench_cpu bench_cpu_minus(struct bench_cpu a, struct bench_cpu b);

/* Waits until the host is quiet, for some seconds at most: the kernel takes namespaces apart long
 * after they were closed, and a short run would pay for the run before it. */
void bench_settle(void);

struct bench_sampler;
int bench_sampler_start(struct bench_run *run, const char *label, struct bench_sampler **ret,
                        struct error *err);
void bench_sampler_stop(struct bench_sampler *sampler);

/* ---- leaks.c ---- */

/* What the host has before a run, and, after it, what is there that was not (waiting for the kernel
 * to finish what it does later): each is a problem of the run. */
struct bench_inventory;
int bench_inventory_take(struct bench_inventory **ret, struct error *err);
void bench_inventory_compare(const struct bench_inventory *before, struct bench_run *run);
void bench_inventory_free(struct bench_inventory *inventory);

/* ---- summary.c ---- */

/* From the first to the last moment that a pod of the warm-up waited for its tenant's port, whose
 * spans are in that file; NAN when none did. */
double bench_tenant_ports(const char *spans_path);

/* Reads the run's spans; writes run.json and summary.json; prints the table. */
int bench_summarise(struct bench_run *run, struct error *err);
