/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: starts N pods, measures every step, takes them away again, and checks that nothing is
 * left. Several variants are interleaved, so that a comparison is of one machine in one mood.
 */
#pragma once

#include "base/base.h"

#define BENCH_PODS_MAX    10000
#define BENCH_TENANTS_MAX 1000
#define BENCH_RULES_MAX   100000
#define BENCH_QOS_MAX     1000000 /* Mbit/s */

/* How pods arrive. Closed loop of K: K at a time, the next when one is done. */
struct bench_arrival {
    char text[32];   /* as given: "burst", "seq", "closed:8" */
    int concurrency; /* 0: all at once */
};

/* "burst", "seq" or "closed:K"; -EINVAL with what is allowed. */
int bench_arrival_parse(const char *text, struct bench_arrival *ret, struct error *err);

enum bench_sandbox { BENCH_SANDBOX_NONE, BENCH_SANDBOX_PROCESS };

extern const char *const bench_sandbox_names[]; /* NULL at the end */

/* What the pods' networks are made by. */
struct bench_variant {
    char name[64];
    const struct bench_driver *driver;
    const char *what; /* a kind, a configuration file, or raw's device kind */
};

struct bench_options {
    struct bench_variant variants[16];
    size_t n_variants;
    int pods, tenants, repeat, warmup; /* warmup: pods a tenant before the clock starts */
    int rules, qos_mbps;               /* a pod's, for our kinds; 0: none */
    bool netns_ready; /* namespaces are made before the clock starts, removed after it stopped */
    enum bench_sandbox sandbox;
    struct bench_arrival arrival;
    const char *out; /* result folder; must not hold a result yet */
    const char *instance;
    const char *bridge;      /* OVS bridge for our kinds */
    const char *ovs_socket;  /* NULL: the instance's own OVS, started if need be */
    const char *cni_bin_dir; /* for configuration files */
    const char *thin_plugin; /* path of sluice-cni */
    const char *plugin;      /* path of sluice-cni-standalone */
    const char *agent;       /* path of sluiced */
    int pool;                /* parts of a pooled variant, in all; 0: as many as pods */
    bool no_agent;           /* use none, not even one that runs */
    bool no_ipam;            /* our kinds' pods get no addresses */
    const char *pause;       /* path of sluice-pause */
    bool json;               /* the summary on standard output as JSON */
};

/* Adds a variant; driver by name ("cni", "standalone", "socket", "conf", "raw"). The name is made
 * from what and unique. */
int bench_add_variant(struct bench_options *options, const char *driver, const char *what,
                      struct error *err);

/* The name of the driver. */
const char *bench_variant_driver(const struct bench_variant *variant);

/*
 * Runs every variant options->repeat times, interleaved; writes the result folder; prints progress
 * and tables. SIGINT and SIGTERM end it after what was started has been taken away. Returns 0, or
 * -ECANCELED when interrupted, -EREMOTEIO when a run is no result (a pod failed or something was
 * left), or another error with text.
 */
int bench_run(const struct bench_options *options, struct error *err);
