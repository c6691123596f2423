/* SPDX-License-Identifier: Apache-2.0 */
/* Results and errors as CNI wants them, in every version. */
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *text_of(const struct ip_addr *ip, bool with_prefix)
{
    char text[IP_TEXT_MAX];

    return json_string(ip_format(ip, with_prefix, text));
}

static void add_int(json_t *object, const char *key, int value)
{
    if (value >= 0) {
        json_object_set_new(object, key, json_integer(value));
    }
}

static json_t *route_json(const struct ipam_route *route, enum cni_version version)
{
    json_t *json = json_object();

    json_object_set_new(json, "dst", text_of(&route->dst, true));
    if (route->gw.family) {
        json_object_set_new(json, "gw", text_of(&route->gw, false));
    }
    if (version >= CNI_1_1_0) {
        add_int(json, "mtu", route->mtu);
        add_int(json, "advmss", route->advmss);
        add_int(json, "priority", route->priority);
        add_int(json, "table", route->table);
        add_int(json, "scope", route->scope);
    }
    return json;
}

static json_t *interface_json(const char *name, const struct mac_addr *mac, unsigned mtu,
                              const char *sandbox, enum cni_version version)
{
    char text[MAC_TEXT_MAX];
    json_t *json = json_pack("{s:s, s:s}", "name", name, "mac", mac_format(mac, text));

    if (version >= CNI_1_1_0 && mtu) {
        json_object_set_new(json, "mtu", json_integer(mtu));
    }
    if (sandbox) {
        json_object_set_new(json, "sandbox", json_string(sandbox));
    }
    return json;
}

static json_t *ip_json(const struct ipam_ip *ip, size_t interface, enum cni_version version)
{
    json_t *json = json_object();

    if (version < CNI_1_0_0) {
        json_object_set_new(json, "version",
                            json_string(ip->address.family == AF_INET6 ? "6" : "4"));
    }
    json_object_set_new(json, "interface", json_integer((json_int_t)interface));
    json_object_set_new(json, "address", text_of(&ip->address, true));
    if (ip->gateway.family) {
        json_object_set_new(json, "gateway", text_of(&ip->gateway, false));
    }
    return json;
}

/* 0.1.0 and 0.2.0: one address of each family, and no interfaces. */
static void add_old_ips(json_t *json, const struct ipam_result *result, enum cni_version version)
{
    for (size_t i = 0; i < result->n_ips; i++) {
        const struct ipam_ip *ip = &result->ips[i];
        const char *key = ip->address.family == AF_INET6 ? "ip6" : "ip4";
        json_t *one, *routes = json_array();

        for (size_t r = 0; r < result->n_routes; r++) {
            if (result->routes[r].dst.family == ip->address.family) {
                json_array_append_new(routes, route_json(&result->routes[r], version));
            }
        }
        one = json_pack("{s:o}", "ip", text_of(&ip->address, true));
        if (ip->gateway.family) {
            json_object_set_new(one, "gateway", text_of(&ip->gateway, false));
        }
        if (json_array_size(routes)) {
            json_object_set(one, "routes", routes);
        }
        json_decref(routes);
        if (!json_object_get(json, key)) {
            json_object_set(json, key, one);
        }
        json_decref(one);
    }
}

/* A list of prevResult to add to, or a new one. */
static json_t *list_from(const json_t *prev, const char *key)
{
    json_t *list = json_object_get(prev, key);

    return json_is_array(list) ? json_copy(list) : json_array();
}

/* The pod's own, by which the rest of the answer goes. */
static json_t *own_interface_json(const struct attachment *at, enum cni_version version)
{
    json_t *json = interface_json(at->key.ifname, &at->mac, at->mtu, at->netns_path, version);

    if (version >= CNI_1_1_0 && at->socket_path[0]) {
        json_object_set_new(json, "socketPath", json_string(at->socket_path));
    }
    return json;
}

static void add_lists(json_t *json, const struct cni_conf *conf)
{
    const struct attachment *at = &conf->attachment;
    json_t *interfaces = list_from(conf->prev_result, "interfaces");
    json_t *ips = list_from(conf->prev_result, "ips");
    json_t *routes = list_from(conf->prev_result, "routes");

    if (at->has_host_end) {
        json_array_append_new(
            interfaces, interface_json(at->host_name, &at->host_mac, at->mtu, NULL, conf->version));
    }
    json_array_append_new(interfaces, own_interface_json(at, conf->version));
    for (size_t i = 0; i < at->result.n_ips; i++) {
        json_array_append_new(
            ips, ip_json(&at->result.ips[i], json_array_size(interfaces) - 1, conf->version));
    }
    for (size_t i = 0; i < at->result.n_routes; i++) {
        json_array_append_new(routes, route_json(&at->result.routes[i], conf->version));
    }
    json_object_set_new(json, "interfaces", interfaces);
    if (json_array_size(ips)) {
        json_object_set(json, "ips", ips);
    }
    if (json_array_size(routes)) {
        json_object_set(json, "routes", routes);
    }
    json_decref(ips);
    json_decref(routes);
}

json_t *cni_result(const struct cni_conf *conf)
{
    const struct ipam_result *result = &conf->attachment.result;
    json_t *json = json_pack("{s:s}", "cniVersion", cni_version_names[conf->version]);
    json_t *dns = result->dns ? result->dns : conf->dns;

    if (!dns) {
        dns = json_object_get(conf->prev_result, "dns");
    }
    if (conf->version < CNI_0_3_0) {
        add_old_ips(json, result, conf->version);
    } else {
        add_lists(json, conf);
    }
    json_object_set_new(json, "dns", dns ? json_deep_copy(dns) : json_object());
    return json;
}

/* The index in prevResult of the interface that is ours; -1: not listed. */
static json_int_t own_interface(const struct cni_conf *conf)
{
    json_t *interfaces = json_object_get(conf->prev_result, "interfaces"), *item;
    size_t i;

    json_array_foreach (interfaces, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *sandbox = json_string_value(json_object_get(item, "sandbox"));

        if (name && !strcmp(name, conf->attachment.key.ifname) && sandbox && *sandbox) {
            return (json_int_t)i;
        }
    }
    return -1;
}

/* prevResult with the ips of other plugins' interfaces left out. A new object. */
static json_t *own_part(const struct cni_conf *conf, json_int_t own)
{
    json_t *copy = json_copy(conf->prev_result), *ips = json_object_get(copy, "ips");
    json_t *kept = json_array(), *item;
    size_t i;

    json_array_foreach (ips, i, item) {
        json_t *interface = json_object_get(item, "interface");

        if (!json_is_integer(interface) || own < 0 || json_integer_value(interface) == own) {
            json_array_append(kept, item);
        }
    }
    if (json_is_array(ips)) {
        json_object_set(copy, "ips", kept);
    }
    json_decref(kept);
    return copy;
}

int cni_expected(const struct cni_conf *conf, struct attachment_expected *ret, struct error *err)
{
    autojson json_t *mine = NULL;
    json_int_t own;
    const char *mac;
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (!conf->prev_result) {
        return error_set(err, -EINVAL, "prevResult: missing; must be what ADD answered");
    }
    own = own_interface(conf);
    if (own < 0 && conf->version >= CNI_0_3_0) {
        return error_set(err, -EINVAL,
                         "prevResult.interfaces: names no %s in the container; must be what ADD "
                         "answered",
                         conf->attachment.key.ifname);
    }
    mac = json_string_value(json_object_get(
        json_array_get(json_object_get(conf->prev_result, "interfaces"), (size_t)own), "mac"));
    ret->has_mac = mac && mac_parse(mac, &ret->mac) == 0;
    mine = own_part(conf, own);
    rc = ipam_result_parse(mine, &ret->result, err);
    return rc < 0 ? error_wrap(err, "prevResult") : 0;
}

json_t *cni_error_json(enum cni_version version, const struct error *err)
{
    char text[sizeof(err->text)];

    /* It may quote what is not UTF-8, or have been cut inside a character. */
    memcpy(text, err->text, sizeof(text));
    str_make_utf8(text);
    return json_pack("{s:s, s:i, s:s}", "cniVersion", cni_version_names[version], "code",
                     (int)cni_error_code(err), "msg", text);
}
