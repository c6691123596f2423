/* SPDX-License-Identifier: Apache-2.0 */
/* Pools over the socket, and, for the study's programs, over HTTP: on the loop's thread. */
#include "agent/pools-internal.h"

#include <errno.h>
#include <string.h>

#define POOLS_FILE "pools.json"

/* The plugin by itself may have removed parts with their pods: it tells nobody. */
static size_t count_taken(const struct agent *agent, struct agent_pool *pool)
{
    size_t taken = 0;

    for (size_t i = 0; i < POOL_BUCKETS; i++) {
        for (struct part *part = pool->parts[i], *next; part; part = next) {
            next = part->next;
            if (!part->in_pool && !agent_part_exists(agent, pool, part->base.number)) {
                agent_part_forget(pool, part->base.number);
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
        "parts", pool->namespaces ? "namespaces" : "devices", "limits",
        agent_pool_limits(&view.limits), "free", (json_int_t)view.free, "cooling",
        (json_int_t)view.cooling, "making", (json_int_t)view.making, "taken", (json_int_t)taken,
        "ready", view.ready, "draining", view.draining, "hits", (json_int_t)view.hits, "misses",
        (json_int_t)view.misses, "made", (json_int_t)view.made, "failed", (json_int_t)view.failed,
        "given", (json_int_t)view.given, "removed", (json_int_t)view.removed);
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
    pool = agent_pool_find(agent->pools, network);
    if (!pool) {
        return error_set(err, -ENOENT, "network \"%.100s\" has no pool: name its configuration",
                         network);
    }
    *ret = json_copy(pool->conf);
    return 0;
}

/* params: conf or network, and pool: {"target": ...}, which is laid over the configuration's own.
 */
int agent_pools_set_by(struct agent *agent, const json_t *params, struct error *err)
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
    rc = agent_pool_parse(json, "ADD", &nobody, "", agent->options->instance, &conf, &text, err);
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

    if (agent_pools_set_by(agent, request->params, &err) < 0) {
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
        !(pool = agent_pool_find(agent->pools, network))) {
        error_set(&err, -ENOENT, "network \"%.100s\" has no pool", network);
    }
    if (!pool) {
        agent_refuse(request, &err);
        return;
    }
    pool_drain(pool->pool);
    agent_parts_remove_stuck(agent->pools, pool);
    agent_pools_pump(agent->pools);
    pool_show_method(agent, request);
}

static void pool_take_method(struct agent *agent, struct rpc_request *request)
{
    const json_t *params = request->params;
    const char *network = NULL, *container_id = NULL, *netns = NULL;
    struct agent_pool *pool = NULL;
    struct pool_part *part = NULL;
    bool begun = false;
    struct error err = {0};

    if (json_need_string(params, NULL, "network", &network, &err) == 0 &&
        json_need_string(params, NULL, "container_id", &container_id, &err) == 0 &&
        json_need_string(params, NULL, "netns", &netns, &err) == 0 &&
        cni_request_check(&(struct cni_request){.command = "ADD",
                                                .container_id = container_id,
                                                .ifname = POOL_PART_DEVICE,
                                                .netns = netns},
                          &err) == 0) {
        pool = agent_pool_find(agent->pools, network);
        if (!pool || !pool->namespaces || agent->stopping) {
            error_set(&err, -ENOENT, "network \"%.100s\" has no pool of namespaces", network);
        } else if (!(part = pool_take(pool->pool, clock_ns()))) {
            error_set(&err, -EAGAIN, "the pool of network %s is empty", network);
        } else {
            ((struct part *)part)->in_pool = false;
            begun = agent_part_take(agent->pools, pool, part->number, request, container_id, netns);
        }
    }
    if (!begun) {
        agent_refuse(request, &err);
    }
}

static void pool_save_method(struct agent *agent, struct rpc_request *request)
{
    autojson json_t *list = json_array(), *file = NULL;
    autofree char *path = NULL;
    struct error err = {0};

    for (struct agent_pool *pool = agent->pools->first; pool; pool = pool->next) {
        json_array_append(list, pool->conf);
    }
    file = json_pack("{s:i, s:O}", "v", 1, "networks", list);
    if (agent_settings_write(agent, POOLS_FILE, file, &path, &err) < 0) {
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

int agent_pools_load(struct agent *agent, struct error *err)
{
    autojson json_t *json = NULL;
    json_t *list = NULL, *conf;
    size_t i;
    int rc = agent_settings_read(agent, POOLS_FILE, &json, err);

    if (rc == -ENOENT) {
        return 0;
    }
    if (rc == 0) {
        rc = json_read_array(json, NULL, "networks", &list, err);
    }
    json_array_foreach (list, i, conf) {
        autojson json_t *params = json_pack("{s:O}", "conf", conf);

        rc = rc < 0 ? rc : agent_pools_set_by(agent, params, err);
    }
    return rc < 0 ? error_wrap(err, POOLS_FILE) : 0;
}

/* ---- the study's pool, over HTTP ---- */

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
    rc = agent_part_take_now(agent->pools, pool, part->number, container_id, err);
    if (rc == -ESTALE) {
        agent_pools_broken(agent, pool->network, part->number);
    }
    agent_pools_pump(agent->pools);
    return rc < 0 ? rc : agent_pools_device_find(agent, container_id, ret, err);
}
