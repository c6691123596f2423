/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: which networks have one, what parts they have, and what is to be done now. A network's
 * pool is told by the key "pool" of its configuration, as an ADD or `sluice pool set` brings it;
 * every part's record holds that configuration, so that the next agent finds both.
 *
 * Parts of a kind whose device stays outside are devices; of any other kind, whole namespaces.
 */
#include "agent/pools-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAKING_MAX 32 /* parts of a pool being made at once */

/* What a worker reports: it is told to the loop's thread. */
struct returned {
    char *network;
    uint64_t part;
    bool usable;
    struct returned *next;
};

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

json_t *agent_pool_limits(const struct pool_limits *limits)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "floor", (json_int_t)limits->floor, "target",
                     (json_int_t)limits->target, "maximum", (json_int_t)limits->maximum, "rate",
                     (json_int_t)limits->rate, "cool_down_ms",
                     (json_int_t)(limits->cool_down_ns / NSEC_PER_MSEC));
}

int agent_pool_parse(const json_t *json, const char *command, const struct attachment_key *key,
                     const char *netns, const char *instance, struct cni_conf *ret, char **ret_text,
                     struct error *err)
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

/* ---- parts ---- */

struct part **agent_part_slot(struct agent_pool *pool, uint64_t number)
{
    struct part **slot = &pool->parts[number % POOL_BUCKETS];

    while (*slot && (*slot)->base.number != number) {
        slot = &(*slot)->next;
    }
    return slot;
}

struct part *agent_part_add(struct agent_pools *pools, struct agent_pool *pool, uint64_t number)
{
    struct part **slot = agent_part_slot(pool, number);

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

bool agent_part_exists(const struct agent *agent, const struct agent_pool *pool, uint64_t number)
{
    char text[PART_TEXT_MAX];
    struct attachment_key key = {pool->network, PART_OWNER, text};

    snprintf(text, sizeof(text), "%" PRIu64, number);
    return record_exists(agent->options->instance, &key);
}

void agent_part_forget(struct agent_pool *pool, uint64_t number)
{
    struct part **slot = agent_part_slot(pool, number), *part = *slot;

    if (part) {
        *slot = part->next;
        free(part);
    }
}

struct agent_pool *agent_pool_find(struct agent_pools *pools, const char *network)
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
        agent_part_remove(pools, pool, surplus->number);
    }
    pool_view(pool->pool, now_ns, &view);
    n = pool_to_make(pool->pool, now_ns, agent->n_calls == 0,
                     view.making < MAKING_MAX ? (unsigned)(MAKING_MAX - view.making) : 0);
    for (; n > 0; n--) {
        if (!agent_part_make(pools, pool)) {
            pool_failed(pool->pool, now_ns);
        }
    }
}

static void on_timer(uv_timer_t *timer)
{
    agent_pools_pump(timer->data);
}

void agent_pools_pump(struct agent_pools *pools)
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
        agent_pools_pump(agent->pools);
    }
}

size_t agent_pools_jobs(const struct agent *agent)
{
    return agent->pools ? agent->pools->jobs : 0;
}

/* ---- what comes back ---- */

static void take_back(struct agent_pools *pools, const struct returned *returned)
{
    struct agent_pool *pool = agent_pool_find(pools, returned->network);
    struct part *part = pool ? *agent_part_slot(pool, returned->part) : NULL;

    if (!pool || (part && part->in_pool)) {
        return;
    }
    if (!part) {
        if (returned->usable) { /* its record is gone, it is not */
            agent_part_remove(pools, pool, returned->part);
        }
    } else if (!returned->usable) {
        agent_part_forget(pool, returned->part);
    } else if (part->fingerprint == pool->fingerprint &&
               pool_give(pool->pool, &part->base, clock_ns())) {
        part->in_pool = true;
    } else {
        agent_part_remove(pools, pool, returned->part);
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
    agent_pools_pump(pools);
}

/* ---- taking, for calls ---- */

/*
 * A configuration that says "pool" makes or changes its network's pool. What was set or drained
 * since it last said so holds until it says something else.
 */
void agent_pools_learn(struct agent *agent, const struct cni_conf *conf)
{
    struct agent_pool *pool = agent_pool_find(agent->pools, conf->name);
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
    pool = agent_pool_find(agent->pools, conf->name);
    json_decref(pool->said);
    pool->said = json_incref(said);
}

uint64_t agent_pools_take(struct agent *agent, const struct cni_conf *conf)
{
    struct agent_pool *pool = agent_pool_find(agent->pools, conf->name);
    const struct attachment *at = &conf->attachment;
    struct pool_part *part;

    /* A pod's own rules want the device on another port than the pool's are. */
    if (!pool || pool->namespaces || at->n_requested || at->conf.has_mac ||
        pool->policed != at->conf.through_ovs || pool->fingerprint != fingerprint_of(conf->json)) {
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
    struct agent_pool *pool = agent_pool_find(agent->pools, network);

    struct part *found = pool ? *agent_part_slot(pool, part) : NULL;

    if (found && !found->in_pool) {
        log_warn("pool of network %s: part %" PRIu64 " is broken and goes", network, part);
        agent_part_remove(agent->pools, pool, part);
    }
}

int agent_pools_ready(struct agent *agent, const char *network, struct error *err)
{
    struct agent_pool *pool = agent_pool_find(agent->pools, network);
    struct pool_view view;

    if (!pool || pool_ready(pool->pool)) {
        return 0;
    }
    pool_view(pool->pool, clock_ns(), &view);
    return error_code(err, CNI_NOT_AVAILABLE, -EAGAIN,
                      "the pool of network %s has %zu of the %u parts that it starts with", network,
                      view.free, view.limits.floor);
}

/* ---- setting ---- */

static bool is_policed(const json_t *conf)
{
    struct policy policy = {0};
    struct error err;
    bool any = policy_read(&policy, conf, NULL, NULL, &err) == 0 && policy_any(&policy);

    policy_clear(&policy);
    return any;
}

int agent_pools_set(struct agent *agent, const struct cni_conf *conf,
                    const struct pool_limits *limits, struct error *err)
{
    struct agent_pools *pools = agent->pools;
    struct agent_pool *pool = agent_pool_find(pools, conf->name);
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
    json_object_set_new(copy, "pool", agent_pool_limits(limits));
    json_decref(pool->conf);
    pool->conf = copy;
    pool->fingerprint = fingerprint;
    pool->namespaces = !conf->attachment.kind->outside;
    pool->policed = is_policed(copy);
    pool_set_limits(pool->pool, limits);
    agent_pools_pump(pools);
    return 0;
}

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
    if (!record->conf) { /* cut off in its first line: nothing was made by then */
        return record_remove(agent->options->instance, &key, &err);
    }
    rc = agent_pool_parse(record->conf, "DEL", &key, "", agent->options->instance, &conf, &text,
                          &err);
    if (rc == 0 && !agent_pool_find(agent->pools, key.network)) {
        rc = agent_pools_set(agent, &conf, &conf.pool, &err);
    }
    pool = rc == 0 ? agent_pool_find(agent->pools, key.network) : NULL;
    part = pool ? agent_part_add(agent->pools, pool, number) : NULL;
    if (part) {
        part->fingerprint = fingerprint_of(conf.json);
    }
    if (part && !taken) {
        if (!strcmp(record->state, "ready") && pool->fingerprint == part->fingerprint) {
            part->in_pool = true;
            pool_adopt(pool->pool, &part->base, clock_ns());
        } else {
            agent_part_remove(agent->pools, pool, number);
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
    agent_pools_pump(agent->pools);
}

/* Parts stay: the next agent finds them by their records. */
static void pool_forget(struct agent_pool *pool)
{
    for (size_t i = 0; i < POOL_BUCKETS; i++) {
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
