/* SPDX-License-Identifier: Apache-2.0 */
/* What a kind is handed when it runs in a process of its own. */
#include "kind/kind.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int kind_env_open(struct kind_env *env, const char *instance, struct kind_shared *shared,
                  struct error *err)
{
    int rc;

    memset(env, 0, sizeof(*env));
    env->instance = instance;
    env->shared = shared;
    instance_register(instance);
    env->span_fd = env->host_netns_fd = -1;
    rc = netns_open_own(&env->host_netns_fd, err);
    if (rc == 0) {
        rc = netlink_open(-1, &env->host, err);
    }
    if (rc == 0 && shared) {
        netlink_use_funnel(env->host, shared->funnel);
    }
    if (rc < 0) {
        kind_env_close(env);
    }
    return rc;
}

void kind_env_spans(struct kind_env *env, const char *path)
{
    if (path && *path && env->span_path && !strcmp(path, env->span_path)) {
        return;
    }
    cleanup_fd(&env->span_fd);
    free(env->span_path);
    env->span_fd = -1;
    env->span_path = path && *path ? strdup(path) : NULL;
    if (env->span_path) {
        span_open(env->span_path, &env->span_fd);
    }
}

void kind_env_close(struct kind_env *env)
{
    free(env->span_path);
    env->span_path = NULL;
    netlink_close(env->host);
    ovsdb_close(env->ovs);
    openflow_close(env->openflow);
    cleanup_fd(&env->host_netns_fd);
    cleanup_fd(&env->span_fd);
    env->host = NULL;
    env->ovs = NULL;
    env->openflow = NULL;
    env->host_netns_fd = env->span_fd = -1;
}

int kind_env_ovs(struct kind_env *env, const struct kind_conf *conf, struct ovsdb **ret,
                 struct error *err)
{
    char path[PATH_MAX];
    int rc;

    ovs_socket_path(conf->socket_file, env->instance, path, sizeof(path));
    if (env->ovs && (strcmp(path, env->ovs_path) != 0 || !ovsdb_usable(env->ovs))) {
        ovsdb_close(env->ovs);
        env->ovs = NULL;
    }
    if (!env->ovs) {
        rc = ovsdb_connect(path, env->deadline_ns, &env->ovs, err);
        if (rc == -ENOENT) {
            err->errnum = rc = -ECONNREFUSED; /* no socket: not running, as one nobody listens at */
        }
        if (rc < 0) {
            return rc;
        }
        memcpy(env->ovs_path, path, sizeof(path));
    }
    *ret = env->ovs;
    return 0;
}

/* *ret is NULL in a process of its own. */
static int find_batcher(struct kind_env *env, const struct kind_conf *conf,
                        struct ovs_batcher **ret, struct error *err)
{
    char path[PATH_MAX];

    *ret = NULL;
    if (!env->shared) {
        return 0;
    }
    ovs_socket_path(conf->socket_file, env->instance, path, sizeof(path));
    return env->shared->batcher(env->shared, path, ret, err);
}

bool kind_env_connected(struct kind_env *env, const struct kind_conf *conf)
{
    struct ovs_batcher *batcher;
    struct error err;

    return find_batcher(env, conf, &batcher, &err) == 0 && batcher &&
           ovs_batcher_connected(batcher);
}

int kind_env_port_add(struct kind_env *env, const struct kind_conf *conf,
                      const struct ovs_port_spec *spec, int *ret_ofport, struct error *err)
{
    struct ovs_batcher *batcher;
    struct ovsdb *db;
    int rc = find_batcher(env, conf, &batcher, err);

    if (rc == 0 && batcher) {
        return ovs_batcher_add(batcher, spec, 1, env->deadline_ns, ret_ofport, err);
    }
    if (rc == 0) {
        rc = kind_env_ovs(env, conf, &db, err);
    }
    return rc < 0 ? rc : ovs_ports_add(db, spec, 1, env->deadline_ns, ret_ofport, err);
}

int kind_env_port_del(struct kind_env *env, const struct kind_conf *conf, const char *name,
                      struct error *err)
{
    struct ovs_batcher *batcher;
    struct ovsdb *db;
    int rc = find_batcher(env, conf, &batcher, err);

    if (rc == 0 && batcher) {
        return ovs_batcher_del(batcher, &name, 1, env->deadline_ns, err);
    }
    if (rc == 0) {
        rc = kind_env_ovs(env, conf, &db, err);
    }
    return rc < 0 ? rc : ovs_ports_del(db, &name, 1, false, env->deadline_ns, err);
}

unsigned kind_env_ofport(struct kind_env *env, unsigned ifindex)
{
    struct kind_ports *ports = env->shared ? &env->shared->ports : NULL;
    unsigned i = ifindex % ARRAY_SIZE(ports->slots), ofport;

    if (!ports) {
        return 0;
    }
    pthread_mutex_lock(&ports->lock);
    ofport = ports->slots[i].ifindex == ifindex ? ports->slots[i].ofport : 0;
    pthread_mutex_unlock(&ports->lock);
    return ofport;
}

void kind_env_note_ofport(struct kind_env *env, unsigned ifindex, unsigned ofport)
{
    struct kind_ports *ports = env->shared ? &env->shared->ports : NULL;
    unsigned i = ifindex % ARRAY_SIZE(ports->slots);

    if (!ports) {
        return;
    }
    pthread_mutex_lock(&ports->lock);
    ports->slots[i].ifindex = ifindex;
    ports->slots[i].ofport = ofport;
    pthread_mutex_unlock(&ports->lock);
}

int kind_env_flows_path(struct kind_env *env, const struct kind_conf *conf, char path[PATH_MAX],
                        struct error *err)
{
    char socket[PATH_MAX];

    ovs_socket_path(conf->socket_file, env->instance, socket, sizeof(socket));
    return openflow_path(socket, conf->bridge, path, PATH_MAX) < 0
               ? error_set(err, -ENAMETOOLONG, "bridge %s: its OpenFlow socket's path is too long",
                           conf->bridge)
               : 0;
}

int kind_env_openflow(struct kind_env *env, const struct kind_conf *conf, struct openflow **ret,
                      struct error *err)
{
    char path[PATH_MAX];
    int rc = kind_env_flows_path(env, conf, path, err);

    if (rc == 0 && env->openflow &&
        (strcmp(path, env->openflow_path) != 0 || !openflow_usable(env->openflow))) {
        openflow_close(env->openflow);
        env->openflow = NULL;
    }
    if (rc == 0 && !env->openflow) {
        rc = openflow_connect(path, env->deadline_ns, &env->openflow, err);
        memcpy(env->openflow_path, path, sizeof(path));
    }
    *ret = env->openflow;
    return rc;
}

/* *ret is NULL in a process of its own. */
static int find_flow_batcher(struct kind_env *env, const struct kind_conf *conf,
                             struct flow_batcher **ret, struct error *err)
{
    char path[PATH_MAX];
    int rc;

    *ret = NULL;
    if (!env->shared) {
        return 0;
    }
    rc = kind_env_flows_path(env, conf, path, err);
    return rc < 0 ? rc : env->shared->flow_batcher(env->shared, path, ret, err);
}

int kind_env_flows(struct kind_env *env, const struct kind_conf *conf, const struct flow_set *set,
                   struct error *err)
{
    struct flow_batcher *batcher;
    struct openflow *openflow;
    int rc = find_flow_batcher(env, conf, &batcher, err);

    if (rc == 0 && batcher) {
        return flow_batcher_apply(batcher, set, env->deadline_ns, err);
    }
    if (rc == 0) {
        rc = kind_env_openflow(env, conf, &openflow, err);
    }
    return rc < 0 ? rc : openflow_apply(openflow, set, 1, env->deadline_ns, NULL, err);
}

uint64_t kind_env_flows_lost(struct kind_env *env, const struct kind_conf *conf)
{
    struct flow_batcher_counts counts = {0};
    struct flow_batcher *batcher;
    struct error err;

    if (find_flow_batcher(env, conf, &batcher, &err) == 0 && batcher) {
        flow_batcher_counts(batcher, &counts);
    }
    return counts.reconnects;
}
