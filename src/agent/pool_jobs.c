/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done to one part of a pool, on a worker's thread: made, removed, taken with its
 * namespace.
 */
#include "agent/pools-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define JOB_S 60

static char *namespace_path(const struct agent *agent, const char *network, uint64_t number)
{
    return str_printf("%s/pool/%" PRIu64 "@%s", agent->options->instance, number, network);
}

struct part_job {
    struct job job;
    struct agent_pools *pools;
    struct agent_pool *pool;
    json_t *conf;
    uint64_t number, fingerprint;
    bool namespaces;
    int rc;
    struct error err;
    /* Taking only: */
    struct rpc_request *request;
    const char *container_id, *netns;
    int fd; /* -1: none */
};

static int prepare(struct part_job *job, struct kind_env *env, const char *command,
                   const char *container_id, const char *ifname, const char *netns,
                   struct cni_conf *conf, char **ret_text)
{
    struct attachment_key key = {.container_id = container_id, .ifname = ifname};
    int rc = env ? agent_pool_parse(job->conf, command, &key, netns, env->instance, conf, ret_text,
                                    &job->err)
                 : error_set(&job->err, -EAGAIN, "no netlink socket to work with");

    if (rc == 0) {
        kind_env_spans(env, NULL); /* of no pod's start */
        env->deadline_ns = clock_ns() + JOB_S * NSEC_PER_SEC;
        if (conf->attachment.ipam) {
            ipam_config_use_cache(conf->attachment.ipam, env->shared->ipam_cache);
        }
    }
    return rc;
}

static int make_namespace(const struct part_job *job, struct kind_env *env, char **ret_path,
                          struct error *err)
{
    autofree char *dir = str_printf("%s/pool", env->instance);
    autofree char *path = namespace_path(job->pools->agent, job->pool->network, job->number);
    int rc = dir && path ? dir_make(dir, 0700) : -ENOMEM;

    if (rc < 0) {
        return error_sys(err, rc, "create %s", dir ? dir : "pool");
    }
    rc = netns_create(path, err);
    if (rc == 0) {
        *ret_path = take_ptr(path);
    }
    return rc;
}

static void run_make(struct job *base, struct kind_env *env)
{
    struct part_job *job = (struct part_job *)base;
    autofree char *text = NULL, *path = NULL;
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};
    char number[PART_TEXT_MAX];

    snprintf(number, sizeof(number), "%" PRIu64, job->number);
    job->rc = job->namespaces && env ? make_namespace(job, env, &path, &job->err) : 0;
    if (job->rc == 0) {
        job->rc = prepare(job, env, "ADD", PART_OWNER, number, path ? path : "", &conf, &text);
    }
    if (job->rc == 0) {
        if (job->namespaces) {
            conf.attachment.device = POOL_PART_DEVICE;
            attachment_prepare(&conf.attachment, env->instance);
        }
        job->rc = attachment_add(env, &conf.attachment, &job->err);
    }
    if (job->rc < 0 && path) {
        netns_delete(path, NULL);
    }
    cni_conf_clear(&conf);
}

/* Removes by the configuration that the part was made with. Killed, the next agent must not take
 * what is left for a part. */
static void begin_removal(struct part_job *job, const char *instance, const char *number)
{
    struct attachment_key key = {job->pool->network, PART_OWNER, number};
    struct record record = {0};

    if (record_read(instance, &key, &record, NULL) == 0 && record.conf) {
        json_decref(job->conf);
        job->conf = json_incref(record.conf);
        record_removing(instance, &key, NULL);
    }
    record_clear(&record);
}

static void run_remove(struct job *base, struct kind_env *env)
{
    struct part_job *job = (struct part_job *)base;
    autofree char *path = namespace_path(job->pools->agent, job->pool->network, job->number);
    autofree char *text = NULL;
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};
    char number[PART_TEXT_MAX];

    snprintf(number, sizeof(number), "%" PRIu64, job->number);
    if (env) {
        begin_removal(job, env->instance, number);
    }
    job->rc = prepare(job, env, "DEL", PART_OWNER, number, "", &conf, &text);
    if (job->rc == 0) {
        if (!conf.attachment.kind->outside) {
            conf.attachment.device = POOL_PART_DEVICE;
            attachment_prepare(&conf.attachment, env->instance);
        }
        job->rc = attachment_del(env, &conf.attachment, &job->err);
    }
    if (path) {
        netns_delete(path, NULL); /* none is fine */
    }
    cni_conf_clear(&conf);
}

/* Takes a part with its namespace for a container whose runtime will call ADD later. */
static void run_take(struct job *base, struct kind_env *env)
{
    struct part_job *job = (struct part_job *)base;
    autofree char *path = namespace_path(job->pools->agent, job->pool->network, job->number);
    autofree char *text = NULL;
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};

    job->rc =
        prepare(job, env, "ADD", job->container_id, POOL_PART_DEVICE, job->netns, &conf, &text);
    if (job->rc < 0) {
        job->pools->agent->shared.part_back(&job->pools->agent->shared, job->pool->network,
                                            job->number, true);
    } else if (!path || netns_open(path, &job->fd, &job->err) < 0) {
        job->rc = -ESTALE;
    } else {
        conf.attachment.passed_netns = &job->fd;
        conf.attachment.part = job->number;
        attachment_prepare(&conf.attachment, env->instance);
        job->rc = attachment_add(env, &conf.attachment, &job->err);
        /* Whoever has the descriptor has the namespace; or it went with the part. */
        if (job->rc == 0 || !agent_part_exists(job->pools->agent, job->pool, job->number)) {
            netns_delete(path, NULL);
        }
    }
    cni_conf_clear(&conf);
}

static void job_end(struct part_job *job)
{
    struct agent_pools *pools = job->pools;

    pools->jobs--;
    cleanup_fd(&job->fd);
    json_decref(job->conf);
    free(job);
    agent_pools_pump(pools);
}

static void done_make(struct job *base)
{
    struct part_job *job = (struct part_job *)base;
    struct part *part = job->rc == 0 ? agent_part_add(job->pools, job->pool, job->number) : NULL;

    if (part) {
        part->in_pool = true;
        part->fingerprint = job->fingerprint;
        pool_made(job->pool->pool, &part->base, clock_ns());
        if (part->fingerprint != job->pool->fingerprint) { /* changed meanwhile */
            pool_remove(job->pool->pool, &part->base);
            part->in_pool = false;
            agent_part_remove(job->pools, job->pool, job->number);
        }
    } else {
        log_warn("pool of network %s: a part could not be made: %s", job->pool->network,
                 job->err.text);
        pool_failed(job->pool->pool, clock_ns());
        if (agent_part_exists(job->pools->agent, job->pool, job->number)) {
            agent_part_remove(job->pools, job->pool, job->number); /* what could not be undone */
        }
    }
    job_end(job);
}

static void done_remove(struct job *base)
{
    struct part_job *job = (struct part_job *)base;

    if (job->rc < 0) {
        struct part *part = agent_part_add(job->pools, job->pool, job->number);

        log_warn("pool of network %s: part %" PRIu64 " could not be removed: %s",
                 job->pool->network, job->number, job->err.text);
        if (part) {
            part->stuck = true;
        }
    } else {
        agent_part_forget(job->pool, job->number);
    }
    job_end(job);
}

static struct part_job *job_new(struct agent_pools *pools, struct agent_pool *pool, uint64_t number,
                                void (*run)(struct job *, struct kind_env *),
                                void (*done)(struct job *))
{
    struct part_job *job = calloc(1, sizeof(*job));

    if (job) {
        *job = (struct part_job){.job = {run, done},
                                 .pools = pools,
                                 .pool = pool,
                                 .conf = json_incref(pool->conf),
                                 .number = number,
                                 .fingerprint = pool->fingerprint,
                                 .namespaces = pool->namespaces,
                                 .fd = -1};
        pools->jobs++;
    }
    return job;
}

static void done_take(struct job *base)
{
    struct part_job *job = (struct part_job *)base;

    if (job->rc < 0) {
        agent_refuse(job->request, &job->err);
        if (job->rc == -ESTALE) {
            agent_pools_broken(job->pools->agent, job->pool->network, job->number);
        }
    } else {
        rpc_answer(job->request, NULL, NULL, 0, &job->fd, 1);
    }
    job_end(job);
}

bool agent_part_make(struct agent_pools *pools, struct agent_pool *pool)
{
    struct part_job *job = job_new(pools, pool, ++pools->last_number, run_make, done_make);

    if (job) {
        workers_submit(pools->agent->workers, LANE_SLOW, &job->job);
    }
    return job;
}

void agent_part_remove(struct agent_pools *pools, struct agent_pool *pool, uint64_t number)
{
    struct part_job *job = job_new(pools, pool, number, run_remove, done_remove);

    if (job) {
        workers_submit(pools->agent->workers, LANE_REMOVE, &job->job);
    }
}

void agent_parts_remove_stuck(struct agent_pools *pools, struct agent_pool *pool)
{
    for (size_t i = 0; i < POOL_BUCKETS; i++) {
        for (struct part *part = pool->parts[i]; part; part = part->next) {
            if (part->stuck) {
                part->stuck = false;
                agent_part_remove(pools, pool, part->base.number);
            }
        }
    }
}

bool agent_part_take(struct agent_pools *pools, struct agent_pool *pool, uint64_t number,
                     struct rpc_request *request, const char *container_id, const char *netns)
{
    struct part_job *job = job_new(pools, pool, number, run_take, done_take);

    if (job) {
        job->request = request;
        job->container_id = container_id;
        job->netns = netns;
        workers_submit(pools->agent->workers, LANE_QUICK, &job->job);
    }
    return job;
}

/* Gives a container the part; in its record it is interface eth0. */
int agent_part_take_now(struct agent_pools *pools, struct agent_pool *pool, uint64_t number,
                        const char *container_id, struct error *err)
{
    struct part_job job = {.pools = pools, .pool = pool, .conf = pool->conf};
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};
    autofree char *text = NULL;
    struct kind_shared *shared = &pools->agent->shared;
    struct kind_env env;
    int rc = kind_env_open(&env, pools->agent->options->instance, shared, err);

    if (rc < 0) {
        shared->part_back(shared, pool->network, number, true);
        return rc;
    }
    rc = prepare(&job, &env, "ADD", container_id, POOL_PART_DEVICE, "", &conf, &text);
    if (rc < 0) {
        *err = job.err;
        shared->part_back(shared, pool->network, number, true);
    } else {
        conf.attachment.part = number;
        attachment_prepare(&conf.attachment, env.instance);
        rc = attachment_add(&env, &conf.attachment, err);
    }
    cni_conf_clear(&conf);
    kind_env_close(&env);
    return rc;
}
