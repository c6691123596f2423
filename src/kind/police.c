/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies put on attachments, whatever the kind. Rules are flows of the bridge, which sees all of
 * a policed pod's traffic. Rates are kept where it costs least to do well: what a pod sends by a
 * tbf on its device, which queues and does not drop, where the device is ours to put one on; all
 * else, and a tenant's, by meters. Behind a shared port each device drops what is spoofed.
 */
#include "kind/kind.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#define GUARD "sluice-guard"

bool attachment_own_port(const struct attachment *at)
{
    const char *const *parts = at->kind->parts;

    return at->kind->own_port || (parts && !strcmp(parts[at->conf.pool_type], "tap"));
}

/* The device that the pod sends through is ours to put a queue and a guard on; else what there is
 * has the pod on its far side. */
static bool has_device(const struct attachment *at)
{
    return at->ifindex && !(at->kind->outside && attachment_own_port(at));
}

static struct netlink *device_of(struct kind_env *env, const struct attachment *at)
{
    return at->kind->outside ? env->host : at->pod;
}

/* The rate that the pod's device keeps; NULL: none. */
static const struct policy_rate *device_rate(const struct attachment *at)
{
    const struct policy_rate *rate = &at->policy.pod[POLICY_FROM_POD];

    return has_device(at) && rate->bps ? rate : NULL;
}

/* Of the host's device that sends to the pod. */
static const struct policy_rate *host_rate(const struct attachment *at)
{
    const struct policy_rate *rate = &at->policy.pod[POLICY_TO_POD];

    return at->has_host_end && (attachment_own_port(at) || !at->kind->outside) && rate->bps ? rate
                                                                                            : NULL;
}

static bool needs_guard(const struct attachment *at)
{
    return has_device(at) && !attachment_own_port(at) && !at->kind->guarded;
}

/* ---- the port ---- */

static int look_up_port(struct kind_env *env, const struct attachment *at, const char *name,
                        unsigned *ret, struct error *err)
{
    struct ovs_ports found = {0};
    struct ovsdb *db;
    int rc = kind_env_ovs(env, &at->conf, &db, err);

    if (rc == 0) {
        rc = ovs_ports_list(db, name, false, env->deadline_ns, &found, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (found.n && found.ports->ofport > 0) {
        *ret = (unsigned)found.ports->ofport;
    } else {
        rc = error_set(err, -EIO, "OVS port %s %s", name, found.n ? "does not work" : "is gone");
    }
    ovs_ports_clear(&found);
    return rc;
}

static int find_port(struct kind_env *env, const struct attachment *at, unsigned *ret,
                     struct error *err)
{
    struct link_info info;
    int rc;

    if (attachment_own_port(at)) {
        *ret = at->ofport;
        return at->ofport ? 0 : look_up_port(env, at, at->host_name, ret, err);
    }
    rc = link_peek(env->host, at->conf.port, &info);
    if (rc < 0) {
        return error_sys(err, rc, "look up port %s", at->conf.port);
    }
    *ret = kind_env_ofport(env, info.ifindex);
    if (!*ret) {
        rc = look_up_port(env, at, at->conf.port, ret, err);
    }
    if (rc == 0) {
        kind_env_note_ofport(env, info.ifindex, *ret);
    }
    return rc;
}

/* ---- flows ---- */

/* Those that a cookie had go in the same commit. */
static int apply(struct kind_env *env, const struct attachment *at, uint64_t cookie,
                 const struct policy_program *program, struct error *err)
{
    uint32_t meters[POLICY_DIRECTIONS];
    struct flow_set set = {.cookie = cookie,
                           .flows = program->flows,
                           .n_flows = program->n_flows,
                           .meters = program->meters,
                           .n_meters = program->n_meters,
                           .old_meters = meters};

    for (enum policy_direction i = 0; i < POLICY_DIRECTIONS; i++) {
        bool stays = false;

        meters[set.n_old_meters] = policy_meter(cookie, i);
        for (size_t j = 0; j < program->n_meters; j++) {
            stays |= program->meters[j].id == meters[set.n_old_meters];
        }
        set.n_old_meters += !stays;
    }
    return kind_env_flows(env, &at->conf, &set, err);
}

static int add_tenant(struct kind_env *env, const struct attachment *at, struct error *err)
{
    struct policy_program program;
    int rc = policy_tenant_program(&at->policy, at->tenant_cookie, &program, err);

    if (rc == 0) {
        rc = apply(env, at, at->tenant_cookie, &program, err);
        policy_program_clear(&program);
    }
    return rc;
}

/* The pod's addresses; returns how many. */
static size_t addresses_of(const struct attachment *at, struct ip_addr ips[IPAM_IPS_MAX])
{
    for (size_t i = 0; i < at->result.n_ips; i++) {
        ips[i] = at->result.ips[i].address;
    }
    return at->result.n_ips;
}

/* ovs-vswitchd takes a queue away that it finds when it starts; later it does not look. */
static int queue_host_end(struct kind_env *env, const struct attachment *at, struct error *err)
{
    const struct policy_rate *rate = host_rate(at);
    struct link_info info;
    int rc;

    if (!rate) {
        return 0;
    }
    rc = link_peek(env->host, at->host_name, &info);
    return rc < 0 ? error_sys(err, rc, "look up device %s", at->host_name)
                  : tc_tbf_put(env->host, info.ifindex, rate->bps, rate->burst_bits, err);
}

int police_flows(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct ip_addr ips[IPAM_IPS_MAX];
    struct policy_pod pod = {
        .cookie = at->cookie,
        .tenant_cookie = at->tenant_cookie,
        .shared = !attachment_own_port(at),
        .shared_mac = kind_port_mac(at),
        .mac = at->mac,
        .ips = ips,
        .n_ips = addresses_of(at, ips),
        .metered = {[POLICY_TO_POD] = !host_rate(at), [POLICY_FROM_POD] = !device_rate(at)}};
    struct policy_program program;
    int rc = queue_host_end(env, at, err);

    if (rc == 0 && at->tenant_cookie) {
        rc = add_tenant(env, at, err);
    }
    if (rc == 0) {
        rc = find_port(env, at, &pod.port, err);
    }
    if (rc == 0) {
        rc = policy_program(&at->policy, &pod, &program, err);
    }
    if (rc < 0) {
        return rc;
    }
    at->n_flows = program.n_flows;
    at->flows_lost = kind_env_flows_lost(env, &at->conf);
    rc = apply(env, at, at->cookie, &program, err);
    policy_program_clear(&program);
    return rc;
}

/* ---- the device ---- */

static int add_guard(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct ip_addr ips[IPAM_IPS_MAX];
    autoclose int program = -1;
    int rc = policy_guard_load(&at->mac, ips, addresses_of(at, ips), &program, err);

    return rc < 0 ? rc
                  : tc_guard_put(device_of(env, at), at->ifindex, device_rate(at), program, GUARD,
                                 err);
}

static int police_device(struct kind_env *env, struct attachment *at, struct error *err)
{
    const struct policy_rate *rate = device_rate(at);
    int rc = 0;

    if (rate) {
        rc = tc_tbf_put(device_of(env, at), at->ifindex, rate->bps, rate->burst_bits, err);
    }
    return rc == 0 && needs_guard(at) ? add_guard(env, at, err) : rc;
}

int police_add(struct kind_env *env, struct attachment *at, struct error *err)
{
    int64_t t0 = clock_ns();
    int rc;

    /* A part of a pool gets its policy when it is taken. */
    if (!at->cookie || part_of_key(at->key.container_id, at->key.ifname)) {
        return 0;
    }
    rc = police_device(env, at, err);
    if (rc == 0) {
        rc = police_flows(env, at, err);
    }
    attachment_span(env, at, "cni.policy", t0, rc);
    return rc < 0 ? error_wrap(err, "policy") : 0;
}

int police_settle(struct kind_env *env, struct attachment *at, struct error *err)
{
    bool lost = at->n_flows && kind_env_flows_lost(env, &at->conf) != at->flows_lost;

    return lost ? police_flows(env, at, err) : 0;
}

/* ---- taking away ---- */

static int remove_cookie(struct kind_env *env, const struct attachment *at, uint64_t cookie,
                         struct error *err)
{
    int rc = apply(env, at, cookie, &(struct policy_program){0}, err);

    return rc == -ENOENT || rc == -ECONNREFUSED ? 0 : rc;
}

int police_del(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = at->cookie ? remove_cookie(env, at, at->cookie, err) : 0;

    return rc < 0 ? error_wrap(err, "policy") : 0;
}

int police_free(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_info info;
    int rc = police_del(env, at, err);

    return rc < 0 || !at->cookie || link_peek(env->host, at->host_name, &info) < 0
               ? rc
               : tc_tbf_delete(env->host, info.ifindex, err);
}

/* ---- CHECK ---- */

static int check_flows(struct kind_env *env, const struct attachment *at,
                       const struct record *record, struct error *err)
{
    struct openflow *openflow;
    size_t n = 0;
    int rc = kind_env_openflow(env, &at->conf, &openflow, err);

    if (rc == 0) {
        rc = openflow_count(openflow, record->cookie, UINT64_MAX, env->deadline_ns, &n, err);
    }
    return rc == 0 && n != record->n_flows
               ? error_set(err, -ESTALE, "bridge %s has %zu of the policy's %zu flows",
                           at->conf.bridge, n, record->n_flows)
               : rc;
}

static int check_queue(struct netlink *nl, const char *device, const struct policy_rate *rate,
                       struct error *err)
{
    struct link_info info;
    int rc = rate ? link_peek(nl, device, &info) : 0;

    if (rc == 0 && rate) {
        rc = tc_tbf_check(nl, info.ifindex, rate->bps, rate->burst_bits, err);
    } else if (rc < 0) {
        error_sys(err, rc, "look it up");
    }
    return rc < 0 ? error_wrap(err, "device %s", device) : 0;
}

static int check_guard(struct kind_env *env, const struct attachment *at, const char *device,
                       struct error *err)
{
    struct tc_bpf_info guard;
    struct link_info info;
    int rc = link_peek(device_of(env, at), device, &info);

    if (rc == 0) {
        rc = tc_guard_get(device_of(env, at), info.ifindex, &guard, err);
    }
    return rc < 0 ? error_set(err, -ESTALE, "device %s has lost its guard", device) : 0;
}

int police_check(struct kind_env *env, struct attachment *at, const struct record *record,
                 struct error *err)
{
    const char *device = at->kind->outside ? at->host_name : at->device;
    int rc;

    if (!record->cookie) {
        return 0;
    }
    at->ifindex = record->ifindex;
    at->has_host_end = record->host_device[0];
    rc = check_flows(env, at, record, err);
    if (rc == 0) {
        rc = check_queue(device_of(env, at), device, device_rate(at), err);
    }
    if (rc == 0) {
        rc = check_queue(env->host, at->host_name, host_rate(at), err);
    }
    return rc == 0 && needs_guard(at) ? check_guard(env, at, device, err) : rc;
}

/* ---- what no record has ---- */

struct cookies {
    uint64_t *values;
    bool *used;
    size_t n, size;
};

static int note_flow(uint64_t value, uint8_t table, uint16_t priority, void *arg)
{
    struct cookies *cookies = arg;

    (void)table;
    (void)priority;
    if (cookies->n && cookies->values[cookies->n - 1] == value) {
        return 0;
    }
    if (cookies->n == cookies->size) {
        size_t size = cookies->size ? 2 * cookies->size : 64;
        uint64_t *values = reallocarray(cookies->values, size, sizeof(*values));

        if (!values) {
            return -ENOMEM;
        }
        cookies->values = values;
        cookies->size = size;
    }
    cookies->values[cookies->n++] = value;
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Each once, in order. */
static void sort(struct cookies *cookies)
{
    size_t n = 0;

    qsort(cookies->values, cookies->n, sizeof(*cookies->values), compare);
    for (size_t i = 0; i < cookies->n; i++) {
        if (n == 0 || cookies->values[n - 1] != cookies->values[i]) {
            cookies->values[n++] = cookies->values[i];
        }
    }
    cookies->n = n;
}

static int note_used(const struct record *record, void *arg)
{
    struct cookies *cookies = arg;
    const uint64_t has[] = {record->cookie, record->tenant_cookie};

    for (size_t i = 0; i < ARRAY_SIZE(has); i++) {
        uint64_t *found =
            bsearch(&has[i], cookies->values, cookies->n, sizeof(*cookies->values), compare);

        if (found) {
            cookies->used[found - cookies->values] = true;
        }
    }
    return 0;
}

/* Flows first, records after: an ADD's record is there before its flows. */
static int find_unused(struct kind_env *env, const struct kind_conf *conf, bool any_instance,
                       struct cookies *cookies, struct error *err)
{
    uint64_t mask = any_instance ? POLICY_COOKIE_MARK : POLICY_COOKIE_MASK;
    uint64_t ours = policy_cookie(env->instance, NULL, 0) & mask;
    struct openflow *openflow;
    int rc = kind_env_openflow(env, conf, &openflow, err);

    if (rc < 0) {
        return rc == -ENOENT || rc == -ECONNREFUSED ? 0 : rc; /* no switch, no flows */
    }
    rc = openflow_list(openflow, ours, mask, env->deadline_ns, note_flow, cookies, err);
    if (rc < 0 || cookies->n == 0) {
        return rc;
    }
    sort(cookies);
    cookies->used = calloc(cookies->n, sizeof(*cookies->used));
    if (!cookies->used) {
        return error_sys(err, -ENOMEM, "flows");
    }
    return record_list(env->instance, note_used, cookies, err);
}

static int gc_bridge(struct kind_env *env, const struct kind_conf *conf, bool any_instance,
                     struct error *err)
{
    struct attachment at = {.conf = *conf};
    struct cookies cookies = {0};
    int rc = find_unused(env, conf, any_instance, &cookies, err);

    for (size_t i = 0; rc == 0 && i < cookies.n; i++) {
        if (!cookies.used[i]) {
            rc = remove_cookie(env, &at, cookies.values[i], err);
        }
    }
    free(cookies.values);
    free(cookies.used);
    return rc;
}

int police_gc(struct kind_env *env, const struct kind_conf *conf, bool any_instance,
              struct error *err)
{
    struct kind_conf one = *conf;
    char pattern[PATH_MAX];
    glob_t found = {0};
    int rc = 0;

    if (conf->bridge) {
        return gc_bridge(env, conf, any_instance, err);
    }
    /* Every bridge has a socket of its name beside the database's. */
    one.bridge = "*";
    rc = kind_env_flows_path(env, &one, pattern, err);
    if (rc == 0) {
        glob(pattern, 0, NULL, &found);
    }
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
        char *name = strrchr(found.gl_pathv[i], '/') + 1;

        *strrchr(name, '.') = '\0';
        one.bridge = name;
        rc = gc_bridge(env, &one, any_instance, err);
    }
    globfree(&found);
    return rc;
}
