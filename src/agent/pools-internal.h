/* SPDX-License-Identifier: Apache-2.0 */
/* What the three files about pools share: pools.c, pool_jobs.c, pool_methods.c. */
#pragma once

#include "agent/agent-internal.h"

#define POOL_BUCKETS     256
#define POOL_PART_DEVICE "eth0" /* in a namespace out of the pool */

struct part {
    struct pool_part base;
    bool in_pool;         /* else taken, or being made or removed */
    bool stuck;           /* could not be removed: draining tries again */
    uint64_t fingerprint; /* of the configuration that it was made with */
    struct part *next;
};

struct agent_pool {
    struct pool *pool;
    char *network;
    json_t *conf;
    json_t *said; /* "pool" of the configuration that was learnt from; NULL: of none */
    uint64_t fingerprint;
    bool namespaces;
    bool policed; /* the network has rules or rates, whatever a single pod has */
    struct part *parts[POOL_BUCKETS]; /* by number: all that are not gone */
    struct agent_pool *next;
};

struct agent_pools {
    struct agent *agent;
    struct agent_pool *first;
    uint64_t last_number;
    uv_timer_t timer;
    uv_async_t wake;
    pthread_mutex_t lock;
    struct returned *returned; /* under lock */
    size_t jobs;
    bool begun; /* makes and removes */
};

/* ---- pools.c ---- */

struct agent_pool *agent_pool_find(struct agent_pools *pools, const char *network);

/* Where the part of a number is, or would be. */
struct part **agent_part_slot(struct agent_pool *pool, uint64_t number);
struct part *agent_part_add(struct agent_pools *pools, struct agent_pool *pool, uint64_t number);
/* Whether there is a record of it. */
bool agent_part_exists(const struct agent *agent, const struct agent_pool *pool, uint64_t number);
void agent_part_forget(struct agent_pool *pool, uint64_t number);

/* Begins whatever is to be made and removed now. */
void agent_pools_pump(struct agent_pools *pools);

json_t *agent_pool_limits(const struct pool_limits *limits);

/* Parses a pool's configuration for a verb about one key; *ret_text, which it borrows, is to be
 * freed after it. */
int agent_pool_parse(const json_t *json, const char *command, const struct attachment_key *key,
                     const char *netns, const char *instance, struct cni_conf *ret, char **ret_text,
                     struct error *err);

/* ---- pool_methods.c ---- */

/* As the method pool.set. */
int agent_pools_set_by(struct agent *agent, const json_t *params, struct error *err);

/* ---- pool_jobs.c ---- */

/* Begins to make the part of a new number; false: it can't. */
bool agent_part_make(struct agent_pools *pools, struct agent_pool *pool);

/* Begins to remove a part, which is in no pool. */
void agent_part_remove(struct agent_pools *pools, struct agent_pool *pool, uint64_t number);

/* The same for all that could not be removed before. */
void agent_parts_remove_stuck(struct agent_pools *pools, struct agent_pool *pool);

/* Begins to take a part with its namespace for a container; answers the request, which holds the
 * texts. False: it can't. */
bool agent_part_take(struct agent_pools *pools, struct agent_pool *pool, uint64_t number,
                     struct rpc_request *request, const char *container_id, const char *netns);

/* Takes a part of devices for a container, at once and here. */
int agent_part_take_now(struct agent_pools *pools, struct agent_pool *pool, uint64_t number,
                        const char *container_id, struct error *err);
