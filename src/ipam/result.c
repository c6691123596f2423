/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CNI results as IPAM plugins answer them: version 0.1.0 and 0.2.0 with "ip4" and "ip6" objects,
 * 0.3.0 and later with a list "ips" (CNI specification, "Result types" of each version). What a
 * plugin says is not trusted to be sane, only read.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void ipam_result_clear(struct ipam_result *result)
{
    json_decref(result->dns);
    memset(result, 0, sizeof(*result));
}

int ipam_version(const char *text)
{
    int64_t part[3] = {0};
    char copy[32];
    char *p = copy;

    if (str_copy(copy, sizeof(copy), text) < 0) {
        return -EINVAL;
    }
    for (int i = 0; i < 3; i++) {
        char *end = i < 2 ? strchr(p, '.') : p + strlen(p);

        if (!end) {
            return -EINVAL;
        }
        *end = '\0';
        if (str_to_int64(p, 0, 999, &part[i]) < 0) {
            return -EINVAL;
        }
        p = end + 1;
    }
    return IPAM_VERSION((int)part[0], (int)part[1], (int)part[2]);
}

/* ---- routes ---- */

static int read_metric(const json_t *object, const struct json_path *path, const char *key,
                       int *ret, struct error *err)
{
    int64_t value = -1;
    int rc = json_read_int(object, path, key, 0, INT_MAX, &value, err);

    if (rc == 0) {
        *ret = (int)value;
    }
    return rc;
}

static int read_metrics(const json_t *object, const struct json_path *path,
                        struct ipam_route *route, struct error *err)
{
    const struct {
        const char *key;
        int *ret;
    } metrics[] = {{"mtu", &route->mtu},
                   {"advmss", &route->advmss},
                   {"priority", &route->priority},
                   {"table", &route->table},
                   {"scope", &route->scope}};

    for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
        int rc = read_metric(object, path, metrics[i].key, metrics[i].ret, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int read_route(const json_t *object, const struct json_path *path, struct ipam_route *route,
                      struct error *err)
{
    int rc;

    memset(route, 0, sizeof(*route));
    if (!json_is_object(object)) {
        return json_bad(err, path, NULL, object, "a route like {\"dst\": \"0.0.0.0/0\"}");
    }
    rc = ipam_read_subnet(object, path, "dst", &route->dst, err);
    if (rc == 0 && !route->dst.family) {
        rc = json_bad(err, path, "dst", json_object_get(object, "dst"),
                      "a subnet, like \"0.0.0.0/0\"");
    }
    if (rc == 0) {
        rc = ipam_read_address(object, path, "gw", &route->gw, err);
    }
    if (rc == 0 && route->gw.family && route->gw.family != route->dst.family) {
        rc = json_bad(err, path, "gw", json_object_get(object, "gw"),
                      "an address of dst's family (IPv4 or IPv6)");
    }
    if (rc == 0) {
        rc = read_metrics(object, path, route, err);
    }
    route->dst = ip_network(&route->dst);
    return rc;
}

/* As ipam_read_routes, after the *n that there are. */
static int add_routes(const json_t *object, const struct json_path *path, struct ipam_route *routes,
                      size_t *n, struct error *err)
{
    struct json_path list_path = {.parent = path, .key = "routes"};
    json_t *list = NULL;
    int rc = json_read_array(object, path, "routes", &list, err);

    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        struct json_path at = {.parent = &list_path, .index = i};

        if (*n >= IPAM_ROUTES_MAX) {
            return error_set(err, -EINVAL, "routes: %zu are too many; must be %d at most",
                             json_array_size(list), IPAM_ROUTES_MAX);
        }
        rc = read_route(json_array_get(list, i), &at, &routes[*n], err);
        *n += rc == 0;
    }
    return rc;
}

int ipam_read_routes(const json_t *object, const struct json_path *path, struct ipam_route *routes,
                     size_t *ret_n, struct error *err)
{
    size_t n = 0;
    int rc = add_routes(object, path, routes, &n, err);

    if (rc == 0) {
        *ret_n = n;
    }
    return rc;
}

/* ---- addresses ---- */

/* address_key: "address", before 0.3.0 "ip". */
static int read_ip(const json_t *object, const struct json_path *path, const char *address_key,
                   struct ipam_ip *ip, struct error *err)
{
    int rc;

    memset(ip, 0, sizeof(*ip));
    if (!json_is_object(object)) {
        return json_bad(err, path, NULL, object, "an object");
    }
    rc = ipam_read_subnet(object, path, address_key, &ip->address, err);
    if (rc == 0 && !ip->address.family) {
        rc = json_bad(err, path, address_key, json_object_get(object, address_key),
                      "an address with prefix length, like \"10.1.0.5/16\"");
    }
    if (rc == 0) {
        rc = ipam_read_address(object, path, "gateway", &ip->gateway, err);
    }
    if (rc == 0 && ip->gateway.family && ip->gateway.family != ip->address.family) {
        rc = json_bad(err, path, "gateway", json_object_get(object, "gateway"),
                      "an address of the same family (IPv4 or IPv6)");
    }
    return rc;
}

static int read_old(const json_t *object, struct ipam_result *result, struct error *err)
{
    static const char *const keys[] = {"ip4", "ip6"};
    static const int families[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct json_path path = {.key = keys[i]};
        struct ipam_ip *ip = &result->ips[result->n_ips];
        json_t *part = NULL;
        int rc = json_read_object(object, NULL, keys[i], &part, err);

        if (rc == 0 && !part) {
            continue;
        }
        if (rc == 0) {
            rc = read_ip(part, &path, "ip", ip, err);
        }
        if (rc == 0 && ip->address.family != families[i]) {
            rc = json_bad(err, &path, "ip", json_object_get(part, "ip"),
                          i ? "an IPv6 address" : "an IPv4 address");
        }
        if (rc == 0) {
            rc = add_routes(part, &path, result->routes, &result->n_routes, err);
        }
        if (rc < 0) {
            return rc;
        }
        result->n_ips++;
    }
    return 0;
}

static int read_new(const json_t *object, struct ipam_result *result, struct error *err)
{
    struct json_path path = {.key = "ips"};
    json_t *ips = NULL;
    int rc = json_read_array(object, NULL, "ips", &ips, err);

    if (rc == 0 && json_array_size(ips) > IPAM_IPS_MAX) {
        return error_set(err, -EINVAL, "ips: %zu are too many; must be %d at most",
                         json_array_size(ips), IPAM_IPS_MAX);
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(ips); i++) {
        struct json_path at = {.parent = &path, .index = i};

        rc = read_ip(json_array_get(ips, i), &at, "address", &result->ips[i], err);
        result->n_ips = i + 1;
    }
    if (rc == 0) {
        rc = add_routes(object, NULL, result->routes, &result->n_routes, err);
    }
    return rc;
}

/* By the version it says; a result that says none (some plugins leave it out) by its shape. */
static int result_is_old(const json_t *object, bool *ret, struct error *err)
{
    const char *text = NULL;
    int version, rc = json_read_string(object, NULL, "cniVersion", &text, err);

    if (rc < 0) {
        return rc;
    }
    if (!text || !*text) {
        *ret = !json_object_get(object, "ips") &&
               (json_object_get(object, "ip4") || json_object_get(object, "ip6"));
        return 0;
    }
    version = ipam_version(text);
    if (version < 0) {
        return json_bad(err, NULL, "cniVersion", json_object_get(object, "cniVersion"),
                        "a version like \"1.0.0\"");
    }
    *ret = version < IPAM_VERSION(0, 3, 0);
    return 0;
}

static int read_dns(const json_t *object, json_t **ret, struct error *err)
{
    json_t *dns = NULL;
    int rc = json_read_object(object, NULL, "dns", &dns, err);

    if (rc == 0 && json_object_size(dns)) {
        *ret = json_deep_copy(dns);
        if (!*ret) {
            return error_sys(err, -ENOMEM, "dns");
        }
    }
    return rc;
}

int ipam_result_parse(const json_t *object, struct ipam_result *ret, struct error *err)
{
    struct ipam_result result = {0};
    bool old = false;
    int rc;

    if (!json_is_object(object)) {
        return error_set(err, -EINVAL, "result: must be an object");
    }
    rc = result_is_old(object, &old, err);
    if (rc == 0) {
        rc = old ? read_old(object, &result, err) : read_new(object, &result, err);
    }
    if (rc == 0) {
        rc = read_dns(object, &result.dns, err);
    }
    if (rc < 0) {
        ipam_result_clear(&result);
        return rc;
    }
    *ret = result;
    return 0;
}
