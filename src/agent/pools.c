/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: which networks have one, and the jobs that make and remove their parts. A network's pool
 * is told by the key "pool" of its configuration, as an ADD or `sluice pool set` brings it; every
 * part's record holds that configuration, so that the next agent finds both.
 *
 * Parts of a kind whose device stays outside are devices; of any other kind, whole namespaces.
 */
#include "agent/agent-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOLS_FILE     "pools.json"
#define POOLS_FILE_MAX (16 << 20)
#define MAKING_MAX     32 /* parts of a pool being made at once */
#define JOB_S          60
#define BUCKETS        256
#define PART_DEVICE    "eth0" /* in a namespace out of the pool */

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
    struct part *parts[BUCKETS]; /* by number: all that are not gone */
    struct agent_pool *next;
};

/* What a worker reports: it is told to the loop's thread. */
struct returned {
    char *network;
    uint64_t part;
    bool usable;
    struct returned *next;
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

static void pump(struct agent_pools *pools);

/* ---- configurations ---- */

/* What a runtime adds for one call. */
static void drop_keys(json_t *conf)
{
    static const char *const keys[] = {"prevResult", "runtimeConfig", "args",
                                       "cni.dev/valid-attachments", "cni.dev/attachments"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        json_object_del(conf, keys[i]);
    }
}

/* What parts are made from: the same for any two configurations whose parts are alike. */
static uint64_t fingerprint_of(const json_t *conf)
{
    autojson json_t *copy = json_copy((json_t *)conf);
    autofree char *text = NULL;

    drop_keys(copy);
    json_object_del(copy, "pool");
    json_object_del(copy, "cniVersion");
    text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    return text ? hash64_str(HASH64_START, text) : 0;
}

static json_t *limits_json(const struct pool_limits *limits)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "floor", (json_int_t)limits->floor, "target",
                     (json_int_t)limits->target, "maximum", (json_int_t)limits->maximum, "rate",
                     (json_int_t)limits->rate, "cool_down_ms",
                     (json_int_t)(limits->cool_down_ns / NSEC_PER_MSEC));
}

static char *namespace_path(const struct agent *agent, const char *network, uint64_t number)
{
    return str_printf("%s/pool/%" PRIu64 "@%s", agent->options->instance, number, network);
}

/* ---- parts ---- */

static struct part **part_slot(struct agent_pool *pool, uint64_t number)
{
    struct part **slot = &pool->parts[number % BUCKETS];

    while (*slot && (*slot)->base.number != number) {
        slot = &(*slot)->next;
    }
    return slot;
}

static struct part *part_add(struct agent_pools *pools, struct agent_pool *pool, uint64_t number)
{
    struct part **slot = part_slot(pool, number);

    if (!*slot) {
        *slot = calloc(1, sizeof(**slot));
        if (*slot) {
            (*slot)->base.number = number;
        }
    }
    if (number > pools->last_number) {
        pools->last_number = number;
    }
    return *slot;
}

static void part_forget(struct agent_pool *pool, uint64_t number)
{
    struct part **slot = part_slot(pool, number), *part = *slot;

    if (part) {
        *slot = part->next;
        free(part);
    }
}

static struct agent_pool *pool_find(struct agent_pools *pools, const char *network)
{
    struct agent_pool *pool = pools->first;

    while (pool && strcmp(pool->network, network) != 0) {
        pool = pool->next;
    }
    return pool;
}

/* From workers' threads: a part is free again, or was removed. */
static void part_back(struct kind_shared *shared, const char *network, uint64_t part, bool usable)
{
    struct agent *agent = (struct agent *)((char *)shared - offsetof(struct agent, shared));
    struct agent_pools *pools = agent->pools;
    struct returned *returned = calloc(1, sizeof(*returned));

    if (!returned || !(returned->network = strdup(network))) {
        free(returned);
        return; /* found again by the next agent */
    }
    returned->part = part;
    returned->usable = usable;
    pthread_mutex_lock(&pools->lock);
    returned->next = pools->returned;
    pools->returned = returned;
    pthread_mutex_unlock(&pools->lock);
    uv_async_send(&pools->wake);
}

static bool part_exists(const struct agent *agent, const struct agent_pool *pool, uint64_t number)
{
    char text[PART_TEXT_MAX];
    struct attachment_key key = {pool->network, PART_OWNER, text};

    snprintf(text, sizeof(text), "%" PRIu64, number);
    return record_exists(agent->options->instance, &key);
}

/* ---- jobs: a part is made, removed, or taken with its namespace ---- */

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
    const char *container_id, *ifname, *netns;
    int fd; /* -1: none */
};

/* Parses the pool's configuration for a verb about one key. */
static int parse_conf(const json_t *json, const char *command, const struct attachment_key *key,
                      const char *netns, const char *instance, struct cni_conf *ret,
                      char **ret_text, struct error *err)
{
    char *text = json_dumps(json, JSON_COMPACT);
    struct cni_request request = {.command = command,
                                  .container_id = key->container_id,
                                  .ifname = key->ifname,
                                  .netns = netns,
                                  .args = "",
                                  .path = "",
                                  .input = text,
                                  .input_len = text ? strlen(text) : 0,
                                  .instance = instance};
    int rc = text ? cni_conf_parse(&request, ret, err) : error_sys(err, -ENOMEM, "configuration");

    *ret_text = text;
    return rc;
}

static int prepare(struct part_job *job, struct kind_env *env, const char *command,
                   const char *container_id, const char *ifname, const char *netns,
                   struct cni_conf *conf, char **ret_text)
{
    struct attachment_key key = {.container_id = container_id, .ifname = ifname};
    int rc =
        env ? parse_conf(job->conf, command, &key, netns, env->instance, conf, ret_text, &job->err)
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
            conf.attachment.device = PART_DEVICE;
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
            conf.attachment.device = PART_DEVICE;
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

    job->rc = prepare(job, env, "ADD", job->container_id, job->ifname, job->netns, &conf, &text);
    if (job->rc < 0) {
        part_back(&job->pools->agent->shared, job->pool->network, job->number, true);
    } else if (!path || netns_open(path, &job->fd, &job->err) < 0) {
        job->rc = -ESTALE;
    } else {
        conf.attachment.passed_netns = &job->fd;
        conf.attachment.part = job->number;
        attachment_prepare(&conf.attachment, env->instance);
        job->rc = attachment_add(env, &conf.attachment, &job->err);
        /* Whoever has the descriptor has the namespace; or it went with the part. */
        if (job->rc == 0 || !part_exists(job->pools->agent, job->pool, job->number)) {
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
    pump(pools);
}

static void remove_part(struct agent_pools *pools, struct agent_pool *pool, uint64_t number);

static void done_make(struct job *base)
{
    struct part_job *job = (struct part_job *)base;
    struct part *part = job->rc == 0 ? part_add(job->pools, job->pool, job->number) : NULL;

    if (part) {
        part->in_pool = true;
        part->fingerprint = job->fingerprint;
        pool_made(job->pool->pool, &part->base, clock_ns());
        if (part->fingerprint != job->pool->fingerprint) { /* changed meanwhile */
            pool_remove(job->pool->pool, &part->base);
            part->in_pool = false;
            remove_part(job->pools, job->pool, job->number);
        }
    } else {
        log_warn("pool of network %s: a part could not be made: %s", job->pool->network,
                 job->err.text);
        pool_failed(job->pool->pool, clock_ns());
    }
    job_end(job);
}

static void done_remove(struct job *base)
{
    struct part_job *job = (struct part_job *)base;

    if (job->rc < 0) {
        struct part *part = part_add(job->pools, job->pool, job->number);

        log_warn("pool of network %s: part %" PRIu64 " could not be removed: %s",
                 job->pool->network, job->number, job->err.text);
        if (part) {
            part->stuck = true;
        }
    } else {
        part_forget(job->pool, job->number);
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

static void remove_part(struct agent_pools *pools, struct agent_pool *pool, uint64_t number)
{
    struct part_job *job = job_new(pools, pool, number, run_remove, done_remove);

    if (job) {
        workers_submit(pools->agent->workers, LANE_REMOVE, &job->job);
    }
}

static void remove_stuck(struct agent_pools *pools, struct agent_pool *pool)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct part *part = pool->parts[i]; part; part = part->next) {
            if (part->stuck) {
                part->stuck = false;
                remove_part(pools, pool, part->base.number);
            }
        }
    }
}

/* ---- the pump: what is to be made and removed now ---- */

static void pump_one(struct agent_pools *pools, struct agent_pool *pool)
{
    struct agent *agent = pools->agent;
    int64_t now_ns = clock_ns();
    struct pool_part *surplus;
    struct pool_view view;
    unsigned n;

    while ((surplus = pool_to_remove(pool->pool, now_ns))) {
        ((struct part *)surplus)->in_pool = false;
        remove_part(pools, pool, surplus->number);
    }
    pool_view(pool->pool, now_ns, &view);
    n = pool_to_make(pool->pool, now_ns, agent->n_calls == 0,
                     view.making < MAKING_MAX ? (unsigned)(MAKING_MAX - view.making) : 0);
    for (; n > 0; n--) {
        struct part_job *job = job_new(pools, pool, ++pools->last_number, run_make, done_make);

        if (job) {
            workers_submit(agent->workers, LANE_SLOW, &job->job);
        } else {
            pool_failed(pool->pool, now_ns);
        }
    }
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

static void pump(struct agent_pools *pools)
{
    int64_t next_ns = INT64_MAX, now_ns;

    for (struct agent_pool *pool = pools->first; pool && pools->begun && !pools->agent->stopping;
         pool = pool->next) {
        int64_t its_ns;

        pump_one(pools, pool);
        now_ns = clock_ns();
        its_ns = pool_next_ns(pool->pool, now_ns);
        next_ns = its_ns < next_ns ? its_ns : next_ns;
    }
    if (next_ns == INT64_MAX) {
        uv_timer_stop(&pools->timer);
    } else {
        uv_update_time(&pools->agent->loop);
        uv_timer_start(&pools->timer, on_timer, (uint64_t)clock_left_ms(next_ns), 0);
    }
    if (pools->agent->stopping && pools->jobs == 0) {
        agent_calls_changed(pools->agent, 0);
    }
}

void agent_pools_calls_changed(struct agent *agent)
{
    if (agent->n_calls == 0 && agent->pools) {
        pump(agent->pools);
    }
}

size_t agent_pools_jobs(const struct agent *agent)
{
    return agent->pools ? agent->pools->jobs : 0;
}

/* ---- what comes back ---- */

static void take_back(struct agent_pools *pools, const struct returned *returned)
{
    struct agent_pool *pool = pool_find(pools, returned->network);
    struct part *part = pool ? *part_slot(pool, returned->part) : NULL;

    if (!pool || (part && part->in_pool)) {
        return;
    }
    if (!part) {
        if (returned->usable) { /* its record is gone, it is not */
            remove_part(pools, pool, returned->part);
        }
    } else if (!returned->usable) {
        part_forget(pool, returned->part);
    } else if (part->fingerprint == pool->fingerprint &&
               pool_give(pool->pool, &part->base, clock_ns())) {
        part->in_pool = true;
    } else {
        remove_part(pools, pool, returned->part);
    }
}

static void on_wake(uv_async_t *async)
{
    struct agent_pools *pools = async->data;
    struct returned *returned, *next;

    pthread_mutex_lock(&pools->lock);
    returned = pools->returned;
    pools->returned = NULL;
    pthread_mutex_unlock(&pools->lock);
    for (; returned; returned = next) {
        next = returned->next;
        take_back(pools, returned);
        free(returned->network);
        free(returned);
    }
    pump(pools);
}

/* ---- taking, for calls ---- */

/*
 * A configuration that says "pool" makes or changes its network's pool. What was set or drained
 * since it last said so holds until it says something else.
 */
void agent_pools_learn(struct agent *agent, const struct cni_conf *conf)
{
    struct agent_pool *pool = pool_find(agent->pools, conf->name);
    json_t *said = json_object_get(conf->json, "pool");
    bool same = pool && json_equal(pool->said, said);
    struct error err = {0};

    if (!conf->has_pool || conf->attachment.kind->plain ||
        (same && pool->fingerprint == fingerprint_of(conf->json))) {
        return;
    }
    if (agent_pools_set(agent, conf, same ? pool_get_limits(pool->pool) : &conf->pool, &err) < 0) {
        log_warn("pool of network %s: %s", conf->name, err.text);
        return;
    }
    pool = pool_find(agent->pools, conf->name);
    json_decref(pool->said);
    pool->said = json_incref(said);
}

uint64_t agent_pools_take(struct agent *agent, const struct cni_conf *conf)
{
    struct agent_pool *pool = pool_find(agent->pools, conf->name);
    const struct attachment *at = &conf->attachment;
    struct pool_part *part;

    if (!pool || pool->namespaces || at->n_requested || at->conf.has_mac ||
        pool->fingerprint != fingerprint_of(conf->json)) {
        return 0;
    }
    part = pool_take(pool->pool, clock_ns());
    if (!part) {
        return 0;
    }
    ((struct part *)part)->in_pool = false;
    return part->number;
}

/* A part that was to be taken is broken: what there is of it goes. */
void agent_pools_broken(struct agent *agent, const char *network, uint64_t part)
{
    struct agent_pool *pool = pool_find(agent->pools, network);
    struct part *found = pool ? *part_slot(pool, part) : NULL;

    if (found && !found->in_pool) {
        log_warn("pool of network %s: part %" PRIu64 " is broken and goes", network, part);
        remove_part(agent->pools, pool, part);
    }
}

int agent_pools_ready(struct agent *agent, const char *network, struct error *err)
{
    struct agent_pool *pool = pool_find(agent->pools, network);
    struct pool_view view;

    if (!pool || pool_ready(pool->pool)) {
        return 0;
    }
    pool_view(pool->pool, clock_ns(), &view);
    return error_code(err, CNI_NOT_AVAILABLE, -EAGAIN,
                      "the pool of network %s has %zu of the %u parts that it starts with", network,
                      view.free, view.limits.floor);
}

/* ---- the study's pool, over HTTP: on the loop's thread ---- */

struct device_search {
    const char *container_id;
    struct http_device *ret;
    bool found;
};

static int see_record(const struct record *record, void *cookie)
{
    struct device_search *search = cookie;

    if (record->part) {
        const char *type = json_string_value(json_object_get(record->conf, "poolType"));

        str_copy(search->ret->name, sizeof(search->ret->name), record->host_device);
        str_copy(search->ret->type, sizeof(search->ret->type),
                 type && !strcmp(type, "macvtap") ? type : "tctap");
        search->found = true;
    }
    return 0;
}

int agent_pools_device_find(void *cookie, const char *container_id, struct http_device *ret,
                            struct error *err)
{
    struct agent *agent = cookie;
    struct device_search search = {.container_id = container_id, .ret = ret};
    int rc =
        record_list_container(agent->options->instance, container_id, see_record, &search, err);

    if (rc == 0 && !search.found) {
        rc = error_set(err, -ENOENT, "container %.100s has no device", container_id);
    }
    return rc;
}

/* Gives a container the part; in its record it is interface eth0. */
static int device_take(struct agent *agent, struct agent_pool *pool, uint64_t part,
                       const char *container_id, struct error *err)
{
    struct part_job job = {.pools = agent->pools, .pool = pool, .conf = pool->conf};
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};
    autofree char *text = NULL;
    struct kind_env env;
    int rc = kind_env_open(&env, agent->options->instance, &agent->shared, err);

    if (rc < 0) {
        part_back(&agent->shared, pool->network, part, true);
        return rc;
    }
    rc = prepare(&job, &env, "ADD", container_id, PART_DEVICE, "", &conf, &text);
    if (rc < 0) {
        *err = job.err;
        part_back(&agent->shared, pool->network, part, true);
    } else {
        conf.attachment.part = part;
        attachment_prepare(&conf.attachment, env.instance);
        rc = attachment_add(&env, &conf.attachment, err);
    }
    cni_conf_clear(&conf);
    kind_env_close(&env);
    return rc;
}

int agent_pools_device_take(void *cookie, const char *container_id, struct http_device *ret,
                            struct error *err)
{
    struct agent *agent = cookie;
    struct agent_pool *pool = agent->pools->first;
    struct pool_part *part = NULL;
    int rc;

    if (agent_pools_device_find(agent, container_id, ret, err) == 0) {
        return error_set(err, -EEXIST, "container %.100s has device %s", container_id, ret->name);
    }
    while (pool && (pool->namespaces || !(part = pool_take(pool->pool, clock_ns())))) {
        pool = pool->next;
    }
    if (!part) {
        return error_set(err, -ENOENT, "no pool has a device that is free");
    }
    ((struct part *)part)->in_pool = false;
    rc = device_take(agent, pool, part->number, container_id, err);
    if (rc == -ESTALE) {
        agent_pools_broken(agent, pool->network, part->number);
    }
    pump(agent->pools);
    return rc < 0 ? rc : agent_pools_device_find(agent, container_id, ret, err);
}

/* ---- setting ---- */

int agent_pools_set(struct agent *agent, const struct cni_conf *conf,
                    const struct pool_limits *limits, struct error *err)
{
    struct agent_pools *pools = agent->pools;
    struct agent_pool *pool = pool_find(pools, conf->name);
    uint64_t fingerprint = fingerprint_of(conf->json);
    json_t *copy = json_copy(conf->json);
    int rc = 0;

    if (conf->attachment.addresses == ADDRESSES_DELEGATED) {
        json_decref(copy);
        return error_set(err, -EINVAL,
                         "ipam.type: \"%.64s\" is not allowed with a pool; must be host-local or "
                         "absent",
                         conf->attachment.delegate.type);
    }
    if (pool && pools->begun && pool->fingerprint != fingerprint) {
        /* Parts of another configuration are of no more use. */
        pool_drain(pool->pool);
        pump_one(pools, pool);
    }
    if (!pool) {
        pool = calloc(1, sizeof(*pool));
        if (!pool || !(pool->network = strdup(conf->name)) ||
            (rc = pool_new(limits, &pool->pool)) < 0) {
            free(pool ? pool->network : NULL);
            free(pool);
            json_decref(copy);
            return error_sys(err, -ENOMEM, "pool");
        }
        pool->next = pools->first;
        pools->first = pool;
    }
    drop_keys(copy);
    json_object_set_new(copy, "pool", limits_json(limits));
    json_decref(pool->conf);
    pool->conf = copy;
    pool->fingerprint = fingerprint;
    pool->namespaces = !conf->attachment.kind->outside;
    pool_set_limits(pool->pool, limits);
    pump(pools);
    return 0;
}

/* ---- methods ---- */

/* The plugin by itself may have removed parts with their pods: it tells nobody. */
static size_t count_taken(const struct agent *agent, struct agent_pool *pool)
{
    size_t taken = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct part *part = pool->parts[i], *next; part; part = next) {
            next = part->next;
            if (!part->in_pool && !part_exists(agent, pool, part->base.number)) {
                part_forget(pool, part->base.number);
            } else {
                taken += !part->in_pool;
            }
        }
    }
    return taken;
}

static json_t *pool_json(const struct agent *agent, struct agent_pool *pool)
{
    size_t taken = count_taken(agent, pool);
    struct pool_view view;

    pool_view(pool->pool, clock_ns(), &view);
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I}",
        "network", pool->network, "type", json_string_value(json_object_get(pool->conf, "type")),
        "parts", pool->namespaces ? "namespaces" : "devices", "limits", limits_json(&view.limits),
        "free", (json_int_t)view.free, "cooling", (json_int_t)view.cooling, "making",
        (json_int_t)view.making, "taken", (json_int_t)taken, "ready", view.ready, "draining",
        view.draining, "hits", (json_int_t)view.hits, "misses", (json_int_t)view.misses, "made",
        (json_int_t)view.made, "failed", (json_int_t)view.failed, "given", (json_int_t)view.given,
        "removed", (json_int_t)view.removed);
}

json_t *agent_pools_show(struct agent *agent)
{
    json_t *list = json_array();

    for (struct agent_pool *pool = agent->pools->first; pool; pool = pool->next) {
        json_array_append_new(list, pool_json(agent, pool));
    }
    return list;
}

static void pool_show_method(struct agent *agent, struct rpc_request *request)
{
    rpc_answer(request, json_pack("{s:o}", "pools", agent_pools_show(agent)), NULL, 0, NULL, 0);
}

/* The configuration that the request names: "conf", or that of the pool of "network". */
static int find_conf(struct agent *agent, const json_t *params, json_t **ret, struct error *err)
{
    const char *network = NULL;
    struct agent_pool *pool;
    json_t *conf = NULL;
    int rc = json_read_object(params, NULL, "conf", &conf, err);

    if (rc == 0 && !conf) {
        rc = json_need_string(params, NULL, "network", &network, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (conf) {
        *ret = json_copy(conf);
        return 0;
    }
    pool = pool_find(agent->pools, network);
    if (!pool) {
        return error_set(err, -ENOENT, "network \"%.100s\" has no pool: name its configuration",
                         network);
    }
    *ret = json_copy(pool->conf);
    return 0;
}

/* params: conf or network, and pool: {"target": ...}, which is laid over the configuration's own.
 */
static int set_pool(struct agent *agent, const json_t *params, struct error *err)
{
    struct attachment_key nobody = {.container_id = PART_OWNER, .ifname = "0"};
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};
    autojson json_t *json = NULL, *merged = NULL;
    autofree char *text = NULL;
    json_t *limits = NULL;
    int rc = find_conf(agent, params, &json, err);

    if (rc == 0) {
        rc = json_read_object(params, NULL, "pool", &limits, err);
    }
    if (rc < 0) {
        return rc;
    }
    merged = json_deep_copy(json_object_get(json, "pool"));
    if (!merged) {
        merged = json_object();
    }
    if (limits && json_object_get(limits, "target") && !json_object_get(limits, "maximum")) {
        json_object_del(merged, "maximum"); /* twice the target, unless it is said */
    }
    json_object_update(merged, limits);
    json_object_set(json, "pool", merged);
    rc = parse_conf(json, "ADD", &nobody, "", agent->options->instance, &conf, &text, err);
    if (rc == 0 && strcmp(conf.instance, agent->options->instance) != 0) {
        rc = error_set(err, -EXDEV, "sluiceDir: %s is not this agent's instance", conf.instance);
    }
    if (rc == 0 && conf.attachment.kind->plain) {
        rc = error_set(err, -EINVAL, "type: %s makes nothing that could be pooled",
                       conf.attachment.kind->type);
    }
    if (rc == 0) {
        rc = agent_pools_set(agent, &conf, &conf.pool, err);
    }
    cni_conf_clear(&conf);
    return rc;
}

static void pool_set_method(struct agent *agent, struct rpc_request *request)
{
    struct error err = {0};

    if (set_pool(agent, request->params, &err) < 0) {
        agent_refuse(request, &err);
    } else {
        pool_show_method(agent, request);
    }
}

static void pool_drain_method(struct agent *agent, struct rpc_request *request)
{
    const char *network = NULL;
    struct agent_pool *pool = NULL;
    struct error err = {0};

    if (json_need_string(request->params, NULL, "network", &network, &err) == 0 &&
        !(pool = pool_find(agent->pools, network))) {
        error_set(&err, -ENOENT, "network \"%.100s\" has no pool", network);
    }
    if (!pool) {
        agent_refuse(request, &err);
        return;
    }
    pool_drain(pool->pool);
    remove_stuck(agent->pools, pool);
    pump(agent->pools);
    pool_show_method(agent, request);
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

static void pool_take_method(struct agent *agent, struct rpc_request *request)
{
    const json_t *params = request->params;
    const char *network = NULL, *container_id = NULL, *netns = NULL, *ifname = PART_DEVICE;
    struct agent_pool *pool = NULL;
    struct pool_part *part = NULL;
    struct part_job *job = NULL;
    struct error err = {0};

    if (json_need_string(params, NULL, "network", &network, &err) == 0 &&
        json_need_string(params, NULL, "container_id", &container_id, &err) == 0 &&
        json_need_string(params, NULL, "netns", &netns, &err) == 0 &&
        cni_request_check(
            &(struct cni_request){
                .command = "ADD", .container_id = container_id, .ifname = ifname, .netns = netns},
            &err) == 0) {
        pool = pool_find(agent->pools, network);
        if (!pool || !pool->namespaces || agent->stopping) {
            error_set(&err, -ENOENT, "network \"%.100s\" has no pool of namespaces", network);
        } else if (!(part = pool_take(pool->pool, clock_ns()))) {
            error_set(&err, -EAGAIN, "the pool of network %s is empty", network);
        } else {
            ((struct part *)part)->in_pool = false;
            job = job_new(agent->pools, pool, part->number, run_take, done_take);
        }
    }
    if (!job) {
        agent_refuse(request, &err);
        return;
    }
    job->request = request;
    job->container_id = container_id;
    job->ifname = ifname;
    job->netns = netns;
    workers_submit(agent->workers, LANE_QUICK, &job->job);
}

static char *settings_path(const struct agent *agent)
{
    return str_printf("%s/" POOLS_FILE, agent->options->state_dir);
}

static void pool_save_method(struct agent *agent, struct rpc_request *request)
{
    autofree char *path = settings_path(agent), *text = NULL;
    autojson json_t *list = json_array(), *file = NULL;
    struct error err = {0};
    int rc;

    for (struct agent_pool *pool = agent->pools->first; pool; pool = pool->next) {
        json_array_append(list, pool->conf);
    }
    file = json_pack("{s:i, s:O}", "v", 1, "networks", list);
    text = file ? json_dumps(file, JSON_INDENT(2)) : NULL;
    rc = path && text ? dir_make(agent->options->state_dir, 0755) : -ENOMEM;
    if (rc == 0) {
        rc = file_write_atomic(path, text, strlen(text), 0600);
    }
    if (rc < 0) {
        error_sys(&err, rc, "write %s", path ? path : POOLS_FILE);
        agent_refuse(request, &err);
        return;
    }
    rpc_answer(request,
               json_pack("{s:s, s:I}", "file", path, "pools", (json_int_t)json_array_size(list)),
               NULL, 0, NULL, 0);
}

const struct agent_method agent_pool_methods[] = {
    {"pool.drain", pool_drain_method}, {"pool.save", pool_save_method},
    {"pool.set", pool_set_method},     {"pool.show", pool_show_method},
    {"pool.take", pool_take_method},   {0},
};

/* ---- start ---- */

/* A part of an earlier agent: free unless a record of a pod names it. */
int agent_pools_adopt(struct agent *agent, const struct record *record, bool taken)
{
    uint64_t number = part_of_key(record->key.container_id, record->key.ifname);
    struct attachment_key key = record->key;
    struct cni_conf conf = {.attachment = {.netns_fd = -1, .record_fd = -1}};
    autofree char *text = NULL;
    struct agent_pool *pool;
    struct error err = {0};
    struct part *part;
    int rc;

    agent_pools_reserve(agent, number);
    if (!record->conf) {
        /* Killed as it wrote its claim, before anything was made. */
        return record_remove(agent->options->instance, &key, &err);
    }
    rc = parse_conf(record->conf, "DEL", &key, "", agent->options->instance, &conf, &text, &err);
    if (rc == 0 && !pool_find(agent->pools, key.network)) {
        rc = agent_pools_set(agent, &conf, &conf.pool, &err);
    }
    pool = rc == 0 ? pool_find(agent->pools, key.network) : NULL;
    part = pool ? part_add(agent->pools, pool, number) : NULL;
    if (part) {
        part->fingerprint = fingerprint_of(conf.json);
    }
    if (part && !taken) {
        if (!strcmp(record->state, "ready") && pool->fingerprint == part->fingerprint) {
            part->in_pool = true;
            pool_adopt(pool->pool, &part->base, clock_ns());
        } else {
            remove_part(agent->pools, pool, number);
        }
    }
    cni_conf_clear(&conf);
    return rc;
}

void agent_pools_reserve(struct agent *agent, uint64_t number)
{
    if (number > agent->pools->last_number) {
        agent->pools->last_number = number;
    }
}

int agent_pools_load(struct agent *agent, struct error *err)
{
    autofree char *path = settings_path(agent), *text = NULL;
    autojson json_t *json = NULL;
    json_t *list = NULL, *conf;
    size_t len, i;
    int rc = path ? file_read(path, POOLS_FILE_MAX, &text, &len) : -ENOMEM;

    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0) {
        return error_sys(err, rc, "read %s", path ? path : POOLS_FILE);
    }
    rc = json_parse(text, len, &json, err);
    if (rc == 0) {
        rc = json_read_array(json, NULL, "networks", &list, err);
    }
    json_array_foreach (list, i, conf) {
        autojson json_t *params = json_pack("{s:O}", "conf", conf);

        rc = rc < 0 ? rc : set_pool(agent, params, err);
    }
    return rc < 0 ? error_wrap(err, "%s", path) : 0;
}

int agent_pools_start(struct agent *agent, struct error *err)
{
    struct agent_pools *pools = calloc(1, sizeof(*pools));

    if (!pools) {
        return error_sys(err, -ENOMEM, "pools");
    }
    pools->agent = agent;
    pthread_mutex_init(&pools->lock, NULL);
    uv_timer_init(&agent->loop, &pools->timer);
    uv_async_init(&agent->loop, &pools->wake, on_wake);
    pools->timer.data = pools->wake.data = pools;
    agent->pools = pools;
    agent->shared.part_back = part_back;
    return agent_pools_load(agent, err);
}

void agent_pools_begin(struct agent *agent)
{
    agent->pools->begun = true;
    pump(agent->pools);
}

/* Parts stay: the next agent finds them by their records. */
static void pool_forget(struct agent_pool *pool)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct part *part, *next;

        for (part = pool->parts[i]; part; part = next) {
            next = part->next;
            if (part->in_pool) {
                pool_remove(pool->pool, &part->base);
            }
            free(part);
        }
    }
    pool_free(pool->pool);
    json_decref(pool->conf);
    json_decref(pool->said);
    free(pool->network);
    free(pool);
}

static void on_closed(uv_handle_t *handle)
{
    struct agent_pools *pools = handle->data;

    pthread_mutex_destroy(&pools->lock);
    free(pools);
}

void agent_pools_stop(struct agent *agent)
{
    struct agent_pools *pools = agent->pools;

    if (!pools) {
        return;
    }
    while (pools->first) {
        struct agent_pool *pool = pools->first;

        pools->first = pool->next;
        pool_forget(pool);
    }
    while (pools->returned) {
        struct returned *returned = pools->returned;

        pools->returned = returned->next;
        free(returned->network);
        free(returned);
    }
    uv_close((uv_handle_t *)&pools->timer, NULL);
    uv_close((uv_handle_t *)&pools->wake, on_closed);
    agent->pools = NULL;
}
