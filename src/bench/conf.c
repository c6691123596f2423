/* SPDX-License-Identifier: Apache-2.0 */
/* Network configurations for a bench: made for our kinds, read for everybody else's plugins. */
#include "bench/bench-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define CONF_MAX    (1 << 20)
#define FIRST_VLAN  100
#define CNI_VERSION "1.1.0"

/* Each tenant's part of 10/8: a /16, or less where there are more than 256. */
static struct ip_addr tenant_subnet(const struct bench_options *options, int tenant)
{
    struct ip_addr subnet = {.family = AF_INET, .prefix = 16, .bytes = {10}};

    while (1 << (subnet.prefix - 8) < options->tenants || 1 << (subnet.prefix - 8) <= tenant) {
        subnet.prefix++;
    }
    return ip_plus(&subnet, (int64_t)tenant << (32 - subnet.prefix));
}

/* What is asked of the pods' traffic; both directions have the same rate. */
static void add_policy(const struct bench_options *options, json_t *plugin)
{
    json_int_t bps = (json_int_t)options->qos_mbps * 1000000;

    if (options->rules) {
        json_object_set_new(plugin, "acl", json_integer(options->rules));
    }
    if (options->qos_mbps) {
        json_object_set_new(plugin, "bandwidth",
                            json_pack("{s:I, s:I}", "ingressRate", bps, "egressRate", bps));
    }
}

json_t *bench_conf_for_kind(const struct bench_options *options, const char *kind, int tenant)
{
    char name[64], tenant_name[32], subnet[IP_TEXT_MAX], gateway[IP_TEXT_MAX];
    struct ip_addr net = tenant_subnet(options, tenant), last = ip_last(&net);
    json_t *plugin;

    last = ip_plus(&last, -1);
    snprintf(name, sizeof(name), "sluice-bench-%s-t%d", kind, tenant);
    snprintf(tenant_name, sizeof(tenant_name), "bench%d", tenant);
    ip_format(&net, true, subnet);
    ip_format(&last, false, gateway);
    plugin = json_pack("{s:s, s:s, s:s, s:i, s:s, s:{s:s, s:[[{s:s, s:s}]], s:[{s:s}]}}", "type",
                       kind, "bridge", options->bridge, "tenant", tenant_name, "vlan",
                       FIRST_VLAN + tenant % (4094 - FIRST_VLAN), "sluiceDir", options->instance,
                       "ipam", "type", "host-local", "ranges", "subnet", subnet, "gateway", gateway,
                       "routes", "dst", "0.0.0.0/0");
    if (plugin) {
        add_policy(options, plugin);
    }
    if (plugin && options->no_ipam) {
        json_object_del(plugin, "ipam");
    }
    if (plugin && options->ovs_socket) {
        json_object_set_new(plugin, "socket_file", json_string(options->ovs_socket));
    }
    return json_pack("{s:s, s:s, s:[o]}", "cniVersion", CNI_VERSION, "name", name, "plugins",
                     plugin);
}

/* A single plugin's configuration becomes a list of one. */
static int as_list(json_t *json, const char *path, json_t **ret, struct error *err)
{
    const char *name = NULL, *version = "";
    json_t *plugins = NULL;
    int rc;

    if (!json_is_object(json)) {
        return error_set(err, -EINVAL, "%s: not a JSON object", path);
    }
    if ((rc = json_need_string(json, NULL, "name", &name, err)) < 0 ||
        (rc = json_read_string(json, NULL, "cniVersion", &version, err)) < 0 ||
        (rc = json_read_array(json, NULL, "plugins", &plugins, err)) < 0) {
        return error_wrap(err, "%s", path);
    }
    *ret = plugins ? json_incref(json)
                   : json_pack("{s:s, s:s, s:[O]}", "cniVersion", version, "name", name, "plugins",
                               json);
    return 0;
}

int bench_conf_from_file(const char *path, json_t **ret, struct error *err)
{
    autofree char *data = NULL;
    autojson json_t *json = NULL, *list = NULL;
    json_t *plugin;
    size_t len, i;
    int rc = file_read(path, CONF_MAX, &data, &len);

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path);
    }
    rc = json_parse(data, len, &json, err);
    if (rc < 0) {
        return error_wrap(err, "%s", path);
    }
    rc = as_list(json, path, &list, err);
    if (rc < 0) {
        return rc;
    }
    if (json_array_size(json_object_get(list, "plugins")) == 0) {
        return error_set(err, -EINVAL, "%s: plugins: [] is not allowed; must name a plugin", path);
    }
    json_array_foreach (json_object_get(list, "plugins"), i, plugin) {
        struct json_path plugins = {.key = "plugins"}, at = {.parent = &plugins, .index = i};
        const char *type;

        rc = json_need_string(plugin, &at, "type", &type, err);
        if (rc < 0 || strchr(type, '/')) {
            return rc < 0 ? error_wrap(err, "%s", path)
                          : error_set(err, -EINVAL, "%s: type \"%s\" holds a '/'", path, type);
        }
    }
    *ret = take_ptr(list);
    return 0;
}
