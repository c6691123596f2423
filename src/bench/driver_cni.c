/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers `cni` (ours, through the agent where there is one), `standalone` (ours, without) and
 * `conf` (anyone's): execute CNI plugins as a runtime does, so that all are measured by the same
 * code. `socket` calls the agent without a plugin. CNI specification 1.1.0, sections 2 and 3.
 */
#include "bench/bench-internal.h"
#include "kind/kind.h"
#include "rpc/call.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_MAX (1 << 20)
#define DEADLINE_S 300

/* ---- one plugin, once ---- */

/* name, cniVersion and prevResult go from the list into each plugin's part. A new object. */
static json_t *plugin_conf(const json_t *list, const json_t *plugin, json_t *prev_result)
{
    json_t *conf = json_copy((json_t *)plugin);

    json_object_set(conf, "name", json_object_get(list, "name"));
    json_object_set(conf, "cniVersion", json_object_get(list, "cniVersion"));
    if (prev_result) {
        json_object_set(conf, "prevResult", prev_result);
    }
    return conf;
}

struct environment {
    char text[6][600];
    const char *list[9];
};

static void make_environment(const struct bench_pod *pod, const char *command,
                             struct environment *ret)
{
    const struct bench_run *run = pod->run;
    size_t n = ARRAY_SIZE(ret->text), size = sizeof(ret->text[0]);

    snprintf(ret->text[0], size, "CNI_COMMAND=%s", command);
    snprintf(ret->text[1], size, "CNI_CONTAINERID=%s", pod->container_id);
    snprintf(ret->text[2], size, "CNI_NETNS=%s", pod->netns_path);
    snprintf(ret->text[3], size, "CNI_PATH=%s", run->options->cni_bin_dir);
    snprintf(ret->text[4], size, "SLUICE_SPANS=%s", run->spans_path);
    snprintf(ret->text[5], size, "SLUICE_INSTANCE=%s", run->options->instance);
    for (size_t i = 0; i < n; i++) {
        ret->list[i] = ret->text[i];
    }
    ret->list[n] = "CNI_IFNAME=eth0";
    ret->list[n + 1] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    ret->list[n + 2] = NULL;
}

/* The assignments one after the other, each with its NUL, and the input behind them. New. */
static char *environment_block(const struct environment *env, const char *input, size_t *ret_len)
{
    char *block, *p;

    *ret_len = 0;
    for (size_t i = 0; env->list[i]; i++) {
        *ret_len += strlen(env->list[i]) + 1;
    }
    block = p = malloc(*ret_len + strlen(input) + 1);
    for (size_t i = 0; block && env->list[i]; i++) {
        p = stpcpy(p, env->list[i]) + 1;
    }
    if (block) {
        strcpy(p, input);
    }
    return block;
}

static char *find_plugin(const struct bench_run *run, const char *type)
{
    const struct bench_options *options = run->options;

    if (run->variant->driver == &bench_driver_conf) {
        return str_printf("%s/%s", options->cni_bin_dir, type);
    }
    return strdup(run->agent_pid && run->variant->driver != &bench_driver_standalone
                      ? options->thin_plugin
                      : options->plugin);
}

struct answer {
    bool ok;
    const char *out;
    size_t out_len;
    const char *errout;
};

/* Its result; or its own words: its error's msg, else what it wrote to standard error. */
static int read_answer(const char *type, const char *command, const struct answer *answer,
                       json_t **ret_result, struct error *err)
{
    autojson json_t *json = NULL;
    const char *msg = NULL;
    int rc;

    if (answer->ok && !ret_result) {
        return 0;
    }
    rc = json_parse(answer->out ? answer->out : "", answer->out_len, &json, err);
    if (answer->ok) {
        if (rc < 0) {
            return error_wrap(err, "%s of plugin %s", command, type);
        }
        *ret_result = take_ptr(json);
        return 0;
    }
    msg = json_string_value(json_object_get(json, "msg"));
    if (!msg) {
        msg = answer->errout && *answer->errout ? answer->errout : "no reason given";
    }
    return error_set(err, -EREMOTEIO, "%s of plugin %s failed: %.400s", command, type, msg);
}

static int exec_plugin(struct bench_pod *pod, const char *command, const json_t *list,
                       const json_t *plugin, json_t **ret_result, struct error *err)
{
    const char *type = json_string_value(json_object_get(plugin, "type"));
    autojson json_t *conf = plugin_conf(list, plugin, pod->result);
    autofree char *input = json_dumps(conf, JSON_COMPACT);
    autofree char *path = find_plugin(pod->run, type);
    struct environment env;
    const char *const argv[] = {path, NULL};
    struct proc_spec spec = {.argv = argv,
                             .envp = env.list,
                             .input = input,
                             .input_len = input ? strlen(input) : 0,
                             .output_max = OUTPUT_MAX,
                             .deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC};
    struct proc_result result;
    int rc;

    if (!input || !path) {
        return error_sys(err, -ENOMEM, "plugin %s", type);
    }
    make_environment(pod, command, &env);
    rc = proc_run(&spec, &result);
    if (rc < 0) {
        return error_sys(err, rc, "run plugin %s", path);
    }
    atomic_fetch_add(&pod->run->plugin_cpu_ns,
                     (result.usage.ru_utime.tv_sec + result.usage.ru_stime.tv_sec) * NSEC_PER_SEC +
                         (result.usage.ru_utime.tv_usec + result.usage.ru_stime.tv_usec) * 1000);
    rc = read_answer(type, command,
                     &(struct answer){proc_ok(&result), result.out, result.out_len, result.errout},
                     ret_result, err);
    proc_result_clear(&result);
    return rc;
}

/* What the thin plugin does, without a process: the agent's part alone. */
static int call_agent(struct bench_pod *pod, const char *command, const json_t *list,
                      const json_t *plugin, json_t **ret_result, struct error *err)
{
    const char *type = json_string_value(json_object_get(plugin, "type"));
    autojson json_t *conf = plugin_conf(list, plugin, pod->result);
    autofree char *input = json_dumps(conf, JSON_COMPACT), *body = NULL;
    int64_t deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC;
    autoclose int fd = -1, netns = -1;
    struct rpc_message message;
    struct environment env;
    struct rpc_part part;
    char header[128];
    size_t block_len;
    int rc;

    make_environment(pod, command, &env);
    body = input ? environment_block(&env, input, &block_len) : NULL;
    if (!body) {
        return error_sys(err, -ENOMEM, "configuration");
    }
    netns = open(pod->netns_path, O_RDONLY | O_CLOEXEC);
    snprintf(header, sizeof(header),
             "{\"id\":1,\"method\":\"cni.run\",\"params\":{\"environment\":%zu}}", block_len);
    part = (struct rpc_part){header, body, block_len + strlen(input), &netns, netns >= 0};
    rc = rpc_open(pod->run->options->instance, deadline_ns, &fd, err);
    if (rc < 0) {
        return rc;
    }
    rc = rpc_call(fd, &part, deadline_ns, &message);
    if (rc < 0) {
        return error_sys(err, rc, "call the agent");
    }
    rc = read_answer(
        type, command,
        &(struct answer){rpc_reply_ok(&message), message.body, message.body_len, message.header},
        ret_result, err);
    rpc_message_clear(&message);
    return rc;
}

static int call_plugin(struct bench_pod *pod, const char *command, const json_t *list,
                       const json_t *plugin, json_t **ret_result, struct error *err)
{
    return (pod->run->variant->driver == &bench_driver_socket ? call_agent : exec_plugin)(
        pod, command, list, plugin, ret_result, err);
}

/* ---- the list ---- */

static int list_add(struct bench_pod *pod, struct error *err)
{
    const json_t *list = pod->run->confs[pod->tenant];
    json_t *plugins = json_object_get(list, "plugins"), *plugin;
    size_t i;
    int rc = 0;

    json_array_foreach (plugins, i, plugin) {
        json_t *result = NULL;

        rc = call_plugin(pod, "ADD", list, plugin, &result, err);
        if (rc < 0) {
            return rc;
        }
        json_decref(pod->result);
        pod->result = result;
    }
    return 0;
}

static int list_del(struct bench_pod *pod, struct error *err)
{
    const json_t *list = pod->run->confs[pod->tenant];
    json_t *plugins = json_object_get(list, "plugins");
    int rc = 0;

    for (size_t i = json_array_size(plugins); i-- > 0 && rc == 0;) {
        rc = call_plugin(pod, "DEL", list, json_array_get(plugins, i), NULL, err);
    }
    return rc;
}

/* ---- what is left ---- */

/* host-local leases, ours or the Go program's: the same reading of the same places. */
static int check_leases(struct bench_run *run, const json_t *list, int tenant, struct error *err)
{
    json_t *plugin;
    size_t i;

    json_array_foreach (json_object_get(list, "plugins"), i, plugin) {
        json_t *ipam = json_object_get(plugin, "ipam");
        const char *type = json_string_value(json_object_get(ipam, "type"));
        struct ipam_config *config;
        int held = 0;

        if (!type || strcmp(type, "host-local") != 0) {
            continue;
        }
        if (ipam_config_parse(ipam, json_string_value(json_object_get(list, "name")), &config,
                              err) < 0) {
            return -EINVAL;
        }
        for (int p = 0; p < run->n_pods; p++) {
            struct ipam_owner owner = {run->pods[p].container_id, "eth0"};

            held += run->pods[p].tenant == tenant &&
                    ipam_check(config, run->options->instance, &owner, NULL) == 0;
        }
        ipam_config_free(config);
        if (held) {
            bench_problem(run, "%d addresses of %s are left", held,
                          json_string_value(json_object_get(list, "name")));
        }
    }
    return 0;
}

struct record_count {
    const struct bench_run *run;
    int n;
};

static bool is_of_run(const struct bench_run *run, const char *container_id)
{
    return container_id[0] == 'b' && str_has_prefix(container_id + 1, run->id);
}

static int count_record(const struct record *record, void *cookie)
{
    struct record_count *count = cookie;

    count->n += is_of_run(count->run, record->key.container_id);
    return 0;
}

static int check_ports(struct bench_run *run, struct error *err)
{
    struct kind_conf conf = {.bridge = run->options->bridge,
                             .socket_file = run->options->ovs_socket};
    struct ovs_ports found = {0};
    struct kind_env env;
    int rc = kind_env_open(&env, run->options->instance, NULL, err);
    int left = 0;

    if (rc < 0) {
        return rc;
    }
    env.deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC;
    rc = port_gc(&env, &conf, err); /* tenants' ports go when nothing uses them */
    if (rc == 0) {
        rc = ovs_ports_list(env.ovs, NULL, true, env.deadline_ns, &found, err);
    }
    for (size_t i = 0; rc == 0 && i < found.n; i++) {
        const struct ovs_owner *owner = &found.ports[i].owner;

        left += owner->instance && !strcmp(owner->instance, run->options->instance) &&
                owner->container_id && is_of_run(run, owner->container_id);
    }
    if (left) {
        bench_problem(run, "%d OVS ports are left", left);
    }
    ovs_ports_clear(&found);
    kind_env_close(&env);
    return rc;
}

/* Folders of sockets are found by their pods: others' are beside them. */
static void check_sockets(struct bench_run *run)
{
    struct attachment at = {.kind = kind_find(run->variant->what), .conf = {.tenant = ""}};
    int left = 0;

    for (int i = 0; at.kind->no_device && i < run->n_pods; i++) {
        const struct bench_pod *pod = &run->pods[i];

        at.key = (struct attachment_key){
            json_string_value(json_object_get(run->confs[pod->tenant], "name")), pod->container_id,
            "eth0"};
        attachment_prepare(&at, run->options->instance);
        *strrchr(at.socket_path, '/') = '\0';
        left += access(at.socket_path, F_OK) == 0;
    }
    if (left) {
        bench_problem(run, "%d folders of sockets are left", left);
    }
}

static int leaks(struct bench_run *run, struct error *err)
{
    struct record_count records = {.run = run};
    int rc = 0;

    for (int t = 0; rc == 0 && t < run->options->tenants; t++) {
        rc = check_leases(run, run->confs[t], t, err);
    }
    if (rc < 0 || run->variant->driver == &bench_driver_conf) {
        return rc;
    }
    check_sockets(run);
    rc = record_list(run->options->instance, count_record, &records, err);
    if (records.n) {
        bench_problem(run, "%d attachment records are left", records.n);
    }
    return rc < 0 ? rc : check_ports(run, err);
}

/* ---- configurations ---- */

static int check_kind(const char *what, char name[64], struct error *err)
{
    char known[512] = "";
    size_t used = 0;

    for (size_t i = 0; kinds[i]; i++) {
        if (kinds[i]->plain) {
            continue;
        }
        if (!strcmp(kinds[i]->type, what)) {
            return str_copy(name, 64, what);
        }
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
                                 kinds[i]->type);
    }
    return error_set(err, -EINVAL, "network kind \"%.64s\" is not allowed; must be one of %s", what,
                     known);
}

static bool tenant_ports(const char *what)
{
    return kind_find(what)->has_port;
}

static int alloc_confs(struct bench_run *run, struct error *err)
{
    run->confs = calloc((size_t)run->options->tenants, sizeof(*run->confs));
    return run->confs ? 0 : error_sys(err, -ENOMEM, "configurations");
}

static int prepare_kind(struct bench_run *run, struct error *err)
{
    int rc = alloc_confs(run, err);

    for (int t = 0; rc == 0 && t < run->options->tenants; t++) {
        run->confs[t] = bench_conf_for_kind(run->options, run->variant->what, t);
        rc = run->confs[t] ? 0 : error_sys(err, -ENOMEM, "configurations");
    }
    return rc;
}

static void finish(struct bench_run *run)
{
    for (int t = 0; run->confs && t < run->options->tenants; t++) {
        json_decref(run->confs[t]);
    }
    free(run->confs);
    run->confs = NULL;
}

static int check_file(const char *what, char name[64], struct error *err)
{
    autofree char *copy = strdup(what);
    autojson json_t *list = NULL;
    char *base, *dot;
    int rc = bench_conf_from_file(what, &list, err);

    if (rc < 0 || !copy) {
        return rc;
    }
    base = basename(copy);
    dot = strrchr(base, '.');
    if (dot && dot != base) {
        *dot = '\0';
    }
    snprintf(name, 64, "%.60s", base);
    return 0;
}

static int prepare_file(struct bench_run *run, struct error *err)
{
    int rc = alloc_confs(run, err);

    if (rc == 0 && run->options->tenants > 1) {
        rc = error_set(err, -EINVAL, "tenants: a configuration file makes one network; must be 1");
    }
    return rc < 0 ? rc : bench_conf_from_file(run->variant->what, &run->confs[0], err);
}

const struct bench_driver bench_driver_cni = {
    .name = "cni",
    .check = check_kind,
    .prepare = prepare_kind,
    .finish = finish,
    .add = list_add,
    .del = list_del,
    .leaks = leaks,
    .tenant_ports = tenant_ports,
    .agent_gates = true,
    .needs_ovs = true,
};

static int check_named(const char *what, const char *suffix, char name[64], struct error *err)
{
    int rc = check_kind(what, name, err);

    if (rc == 0) {
        snprintf(name, 64, "%.40s-%s", what, suffix);
    }
    return rc;
}

static int check_pooled(const char *what, char name[64], struct error *err)
{
    return check_named(what, "pooled", name, err);
}

/* Devices that stay outside are taken by ADD, whole namespaces before it. */
static int prepare_pooled(struct bench_run *run, struct error *err)
{
    run->pooled_namespaces = !kind_find(run->variant->what)->outside;
    if (run->pooled_namespaces && run->options->netns_ready) {
        return error_set(err, -EINVAL,
                         "netns-ready: pods of %s take their namespaces from the pool",
                         run->variant->name);
    }
    return prepare_kind(run, err);
}

const struct bench_driver bench_driver_pooled = {
    .name = "pooled",
    .check = check_pooled,
    .prepare = prepare_pooled,
    .finish = finish,
    .add = list_add,
    .del = list_del,
    .leaks = leaks,
    .tenant_ports = tenant_ports,
    .agent_gates = true,
    .needs_ovs = true,
    .pooled = true,
};

static int check_standalone(const char *what, char name[64], struct error *err)
{
    return check_named(what, "standalone", name, err);
}

const struct bench_driver bench_driver_standalone = {
    .name = "standalone",
    .check = check_standalone,
    .prepare = prepare_kind,
    .finish = finish,
    .add = list_add,
    .del = list_del,
    .leaks = leaks,
    .tenant_ports = tenant_ports,
    .needs_ovs = true,
};

static int check_socket(const char *what, char name[64], struct error *err)
{
    return check_named(what, "socket", name, err);
}

const struct bench_driver bench_driver_socket = {
    .name = "socket",
    .check = check_socket,
    .prepare = prepare_kind,
    .finish = finish,
    .add = list_add,
    .del = list_del,
    .leaks = leaks,
    .tenant_ports = tenant_ports,
    .agent_gates = true,
    .needs_ovs = true,
};

const struct bench_driver bench_driver_conf = {
    .name = "conf",
    .check = check_file,
    .prepare = prepare_file,
    .finish = finish,
    .add = list_add,
    .del = list_del,
    .leaks = leaks,
};
