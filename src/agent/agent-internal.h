/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. All of it belongs to the loop's thread unless it says not. */
#pragma once

#include "agent/agent.h"
#include "agent/http.h"
#include "agent/turns.h"
#include "agent/workers.h"
#include "cni/cni.h"
#include "gate/gate.h"
#include "rpc/server.h"

#include <pthread.h>

#define AGENT_CALLS_MAX 4096 /* CNI calls past the gate; more wait in the socket's backlog */
#define AGENT_VERBS     5

/* ADDs, DELs and so on of one kind. */
struct agent_count {
    struct histogram ok, failed; /* from request to answer */
};

struct agent_batchers; /* one batcher an OVSDB socket, for the workers' threads */
struct agent_flows;    /* one flow batcher a bridge, likewise */
struct agent_leases;   /* permits that peers hold or wait for */
struct agent_pools;

struct agent {
    const struct agent_options *options;
    uv_loop_t loop;
    uv_signal_t signals[3];
    int lock_fd;
    int64_t started_ns;
    bool stopping;

    struct kind_shared shared;
    struct agent_batchers *batchers;
    struct agent_flows *flows;
    struct workers *workers;
    struct rpc_server *server;

    struct gates *gates;
    uv_timer_t gate_timer;
    struct agent_leases *leases;
    json_t *evidence; /* what the limits' file said of how they were found; NULL: nothing */
    struct agent_pools *pools;
    struct http_server *http; /* NULL: none */

    size_t n_calls;             /* CNI calls not answered yet */
    struct call *waiting_calls; /* those at the gate */
    size_t n_waiting_calls;
    struct turns *turns;
    struct agent_count (*counts)[AGENT_VERBS];             /* one row a kind */
    size_t found_attachments, found_adding, found_unknown; /* by reconcile, at the start */
};

/* ---- agent.c ---- */

/* The number of calls changed: takes more, or no more, and ends when the last is answered. */
void agent_calls_changed(struct agent *agent, int by);

/* ---- methods.c ---- */

struct agent_method {
    const char *name;
    void (*run)(struct agent *agent, struct rpc_request *request);
};

/* Tables of the files below; NULL name at the end. */
extern const struct agent_method agent_cni_methods[], agent_gate_methods[], agent_pool_methods[],
    agent_status_methods[];

void agent_request(void *cookie, struct rpc_request *request);
void agent_peer_closed(void *cookie, struct rpc_peer *peer);

/* Refuses with the error's text. */
void agent_refuse(struct rpc_request *request, const struct error *err);

/* ---- settings.c ---- */

/* A file of the settings, parsed; -ENOENT: there is none. */
int agent_settings_read(const struct agent *agent, const char *name, json_t **ret,
                        struct error *err);

/* Replaces it; *ret_path, new, is where it is. */
int agent_settings_write(const struct agent *agent, const char *name, const json_t *json,
                         char **ret_path, struct error *err);

/* ---- calls.c: CNI calls ---- */

extern const char *const agent_verb_names[AGENT_VERBS];

/* Refuses the calls that wait at the gate: nothing of theirs was begun. */
void agent_calls_refuse_waiting(struct agent *agent);

/* ---- gates.c ---- */

int agent_gates_start(struct agent *agent, struct error *err);
void agent_gates_stop(struct agent *agent);

/* Reads gates.json of the settings; one that is not there is fine. */
int agent_gates_load(struct agent *agent, struct error *err);

/* The gates' deadlines may have changed. */
void agent_gates_changed(struct agent *agent);

/* The peer is gone: its places and permits are given back. */
void agent_gates_peer_closed(struct agent *agent, struct rpc_peer *peer);

/* ---- pools.c ---- */

/* Starts with the pools that were saved; nothing is made or removed before agent_pools_begin: what
 * an earlier agent left is adopted first. */
int agent_pools_start(struct agent *agent, struct error *err);

/* Sets the pools of pools.json of the settings; one that is not there is fine. */
int agent_pools_load(struct agent *agent, struct error *err);
void agent_pools_begin(struct agent *agent);
void agent_pools_stop(struct agent *agent);

/* Jobs under way. */
size_t agent_pools_jobs(const struct agent *agent);

/* The agent got or lost its last call: parts are made in idle time. */
void agent_pools_calls_changed(struct agent *agent);

/* Makes or changes the pool of a configuration's network. */
int agent_pools_set(struct agent *agent, const struct cni_conf *conf,
                    const struct pool_limits *limits, struct error *err);

/* The same if the configuration says "pool". */
void agent_pools_learn(struct agent *agent, const struct cni_conf *conf);

/* A free part for an ADD with this configuration; 0: none. */
uint64_t agent_pools_take(struct agent *agent, const struct cni_conf *conf);
void agent_pools_broken(struct agent *agent, const char *network, uint64_t part);

/* -EAGAIN with code 50 until the network's pool has had the parts that its floor asks for. */
int agent_pools_ready(struct agent *agent, const char *network, struct error *err);

/* A part's record was found at the start; taken: a pod's record names it. */
int agent_pools_adopt(struct agent *agent, const struct record *record, bool taken);

/* Part numbers up to this one are in use: a pod's record names it. */
void agent_pools_reserve(struct agent *agent, uint64_t number);

/* Every pool as pool.show tells it; a new array. */
json_t *agent_pools_show(struct agent *agent);

/* The study's pool: a device out of any pool of devices for a container, and the one it has. */
int agent_pools_device_take(void *agent, const char *container_id, struct http_device *ret,
                            struct error *err);
int agent_pools_device_find(void *agent, const char *container_id, struct http_device *ret,
                            struct error *err);

/* ---- web.c ---- */

/* Serves HTTP if the options name a port. */
int agent_web_start(struct agent *agent, struct error *err);

/* ---- flows.c ---- */

int agent_flows_new(struct agent *agent);
void agent_flows_free(struct agent *agent);

/* A record was found at the start: its switch may have lost the flows. */
void agent_flows_adopt(struct agent *agent, const struct record *record);

/* Every flow batcher's counts; a new array. */
json_t *agent_flows_show(struct agent *agent);

/* ---- rules.c ---- */

/* http_api's set_rules. */
int agent_set_rules(void *agent, const char *bridge, const struct ip_addr *pod, unsigned n,
                    void (*done)(void *waiter, const struct error *err), void *waiter);

/* ---- batchers.c ---- */

int agent_batchers_new(struct agent *agent);
void agent_batchers_free(struct agent *agent);

/* Every batcher's counts; a new array. */
json_t *agent_batchers_show(struct agent *agent);

/* How large transactions were, as a Prometheus histogram. */
void agent_batchers_write_sizes(struct agent *agent, FILE *to);

/* ---- reconcile.c ---- */

/* Looks at what an earlier agent, or the plugin by itself, left; removes what another boot left. */
int agent_reconcile(struct agent *agent, struct error *err);
