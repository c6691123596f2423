/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers `cni` and `conf`: execute CNI plugins as a runtime does, ours or anyone's, so that all
 * are measured by the same code. CNI specification 1.1.0, sections 2 and 3.
 */
#include "bench/bench-internal.h"
#include "kind/kind.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

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

/* The plugin's own words: its error's msg, else what it wrote to standard error. */
static int plugin_failed(const char *type, const char *command, const struct proc_result *result,
                         struct error *err)
{
    autojson json_t *json = NULL;
    const char *msg = NULL;

    if (result->out) {
        json_parse(result->out, result->out_len, &json, NULL);
    }
    msg = json_string_value(json_object_get(json, "msg"));
    if (!msg) {
        msg = result->errout && *result->errout ? result->errout : "no reason given";
    }
    return error_set(err, -EREMOTEIO, "%s of plugin %s failed: %.400s", command, type, msg);
}

static int exec_plugin(struct bench_pod *pod, const char *command, const json_t *list,
                       const json_t *plugin, json_t **ret_result, struct error *err)
{
    const struct bench_options *options = pod->run->options;
    const char *type = json_string_value(json_object_get(plugin, "type"));
    bool ours = pod->run->variant->driver == &bench_driver_cni;
    autojson json_t *conf = plugin_conf(list, plugin, pod->result);
    autofree char *input = json_dumps(conf, JSON_COMPACT);
    autofree char *path =
        ours ? strdup(options->plugin) : str_printf("%s/%s", options->cni_bin_dir, type);
    char env[6][600];
    const char *const argv[] = {path, NULL};
    const char *const envp[] = {env[0],
                                env[1],
                                env[2],
                                env[3],
                                env[4],
                                env[5],
                                "CNI_IFNAME=eth0",
                                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                NULL};
    struct proc_spec spec = {.argv = argv,
                             .envp = envp,
                             .input = input,
                             .input_len = input ? strlen(input) : 0,
                             .output_max = OUTPUT_MAX,
                             .deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC};
    struct proc_result result;
    int rc;

    snprintf(env[0], sizeof(env[0]), "CNI_COMMAND=%s", command);
    snprintf(env[1], sizeof(env[1]), "CNI_CONTAINERID=%s", pod->container_id);
    snprintf(env[2], sizeof(env[2]), "CNI_NETNS=%s", pod->netns_path);
    snprintf(env[3], sizeof(env[3]), "CNI_PATH=%s", options->cni_bin_dir);
    snprintf(env[4], sizeof(env[4]), "SLUICE_SPANS=%s", pod->run->spans_path);
    snprintf(env[5], sizeof(env[5]), "SLUICE_INSTANCE=%s", options->instance);
    if (!input || !path) {
        return error_sys(err, -ENOMEM, "plugin %s", type);
    }
    rc = proc_run(&spec, &result);
    if (rc < 0) {
        return error_sys(err, rc, "run plugin %s", path);
    }
    atomic_fetch_add(&pod->run->plugin_cpu_ns,
                     (result.usage.ru_utime.tv_sec + result.usage.ru_stime.tv_sec) * NSEC_PER_SEC +
                         (result.usage.ru_utime.tv_usec + result.usage.ru_stime.tv_usec) * 1000);
    if (!proc_ok(&result)) {
        rc = plugin_failed(type, command, &result, err);
    } else if (ret_result) {
        rc = json_parse(result.out ? result.out : "", result.out_len, ret_result, err);
        if (rc < 0) {
            error_wrap(err, "%s of plugin %s", command, type);
        }
    }
    proc_result_clear(&result);
    return rc;
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

        rc = exec_plugin(pod, "ADD", list, plugin, &result, err);
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
        rc = exec_plugin(pod, "DEL", list, json_array_get(plugins, i), NULL, err);
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

static int count_record(const struct record *record, void *cookie)
{
    struct record_count *count = cookie;
    char prefix[16];

    snprintf(prefix, sizeof(prefix), "b%s", count->run->id);
    count->n += str_has_prefix(record->key.container_id, prefix);
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
        const char *instance = found.ports[i].owner.instance;

        left += instance && !strcmp(instance, run->options->instance);
    }
    if (left) {
        bench_problem(run, "%d OVS ports are left", left);
    }
    ovs_ports_clear(&found);
    kind_env_close(&env);
    return rc;
}

static int leaks(struct bench_run *run, struct error *err)
{
    struct record_count records = {.run = run};
    int rc = 0;

    for (int t = 0; rc == 0 && t < run->options->tenants; t++) {
        rc = check_leases(run, run->confs[t], t, err);
    }
    if (rc < 0 || run->variant->driver != &bench_driver_cni) {
        return rc;
    }
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
