/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The "ipam" object of a host-local network configuration, with host-local's keys, defaults and
 * refusals (containernetworking/plugins, plugins/ipam/host-local: README, backend/allocator).
 */
#include "ipam/ipam-internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DATA_DIR_DEFAULT "/var/lib/cni/networks"
#define NETWORK_NAME_MAX 200 /* with what is put behind it, still a file name */
#define CONTAINER_ID_MAX 255
#define IFNAME_MAX       15

bool ipam_name_ok(const char *name, size_t max)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    return isalnum((unsigned char)name[0]) && name[len] == '\0' && len <= max;
}

int ipam_owner_check(const struct ipam_owner *owner, struct error *err)
{
    const char *ifname = owner->ifname;
    size_t len = strlen(ifname);

    if (!ipam_name_ok(owner->container_id, CONTAINER_ID_MAX)) {
        return error_set(err, -EINVAL,
                         "container ID \"%.300s\" is not allowed; must be a letter or digit, then "
                         "letters, digits, '_', '.', '-', at most %d characters",
                         owner->container_id, CONTAINER_ID_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)ifname[i] <= ' ' || ifname[i] == 0x7f || strchr("/:", ifname[i])) {
            len = 0;
        }
    }
    if (len == 0 || len > IFNAME_MAX || !strcmp(ifname, ".") || !strcmp(ifname, "..")) {
        return error_set(err, -EINVAL,
                         "interface name \"%.100s\" is not allowed; must be 1 to %d characters "
                         "without space, '/', ':'",
                         ifname, IFNAME_MAX);
    }
    return 0;
}

bool ipam_range_holds(const struct ipam_range *range, const struct ip_addr *ip)
{
    return range->start.family == ip->family && ip_compare(ip, &range->start) >= 0 &&
           ip_compare(ip, &range->end) <= 0;
}

bool ipam_set_holds(const struct ipam_set *set, const struct ip_addr *ip)
{
    for (size_t i = 0; i < set->n_ranges; i++) {
        if (ipam_range_holds(&set->ranges[i], ip)) {
            return true;
        }
    }
    return false;
}

int ipam_read_address(const json_t *object, const struct json_path *path, const char *key,
                      struct ip_addr *ret, struct error *err)
{
    const char *text = NULL;
    int rc = json_read_string(object, path, key, &text, err);

    if (rc < 0 || !text || !*text) {
        return rc;
    }
    if (strchr(text, '/') || ip_parse(text, ret) < 0) {
        return json_bad(err, path, key, json_object_get(object, key),
                        "an IPv4 or IPv6 address without prefix length");
    }
    return 0;
}

int ipam_read_subnet(const json_t *object, const struct json_path *path, const char *key,
                     struct ip_addr *ret, struct error *err)
{
    const char *text = NULL;
    int rc = json_read_string(object, path, key, &text, err);

    if (rc < 0 || !text || !*text) {
        return rc;
    }
    if (!strchr(text, '/') || ip_parse(text, ret) < 0) {
        return json_bad(err, path, key, json_object_get(object, key),
                        "an IPv4 or IPv6 address with prefix length, like \"10.1.0.0/16\"");
    }
    return 0;
}

static int read_subnet(const json_t *object, const struct json_path *path, struct ipam_range *range,
                       struct error *err)
{
    char allowed[128], text[IP_TEXT_MAX];
    struct ip_addr network;
    int rc = ipam_read_subnet(object, path, "subnet", &range->subnet, err);

    if (rc < 0) {
        return rc;
    }
    if (!range->subnet.family) {
        return json_bad(err, path, "subnet", json_object_get(object, "subnet"),
                        "an IPv4 or IPv6 subnet, like \"10.1.0.0/16\"");
    }
    network = ip_network(&range->subnet);
    if (!ip_same(&network, &range->subnet)) {
        snprintf(allowed, sizeof(allowed), "a subnet without host bits, here %s",
                 ip_format(&network, true, text));
        return json_bad(err, path, "subnet", json_object_get(object, "subnet"), allowed);
    }
    if (range->subnet.prefix > ip_bits(&range->subnet) - 2) {
        snprintf(allowed, sizeof(allowed),
                 "a subnet of prefix length %u or less: there is "
                 "nothing to hand out in a smaller one",
                 ip_bits(&range->subnet) - 2);
        return json_bad(err, path, "subnet", json_object_get(object, "subnet"), allowed);
    }
    return 0;
}

/* A bound of the range: must lie in the subnet. */
static int read_bound(const json_t *object, const struct json_path *path, const char *key,
                      const struct ip_addr *subnet, struct ip_addr *ret, struct error *err)
{
    char allowed[128], text[IP_TEXT_MAX];
    int rc = ipam_read_address(object, path, key, ret, err);

    if (rc < 0) {
        return rc;
    }
    if (!ip_in_subnet(ret, subnet)) {
        snprintf(allowed, sizeof(allowed), "an address of the subnet %s",
                 ip_format(subnet, true, text));
        return json_bad(err, path, key, json_object_get(object, key), allowed);
    }
    ret->prefix = subnet->prefix;
    return 0;
}

/* host-local's defaults: gateway .1; range from .1 (the gateway is skipped) to the last address,
 * for IPv4 without the broadcast address. */
static int read_range(const json_t *object, const struct json_path *path, struct ipam_range *range,
                      struct error *err)
{
    char allowed[128], text[IP_TEXT_MAX];
    struct ip_addr last;
    int rc;

    memset(range, 0, sizeof(*range));
    if (!json_is_object(object)) {
        return json_bad(err, path, NULL, object, "a range like {\"subnet\": \"10.1.0.0/16\"}");
    }
    rc = read_subnet(object, path, range, err);
    if (rc < 0) {
        return rc;
    }
    last = ip_last(&range->subnet);
    range->start = range->gateway = ip_plus(&range->subnet, 1);
    range->end = range->subnet.family == AF_INET ? ip_plus(&last, -1) : last;
    rc = read_bound(object, path, "rangeStart", &range->subnet, &range->start, err);
    if (rc == 0) {
        rc = read_bound(object, path, "rangeEnd", &range->subnet, &range->end, err);
    }
    if (rc == 0) {
        rc = ipam_read_address(object, path, "gateway", &range->gateway, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (ip_compare(&range->start, &range->end) > 0) {
        snprintf(allowed, sizeof(allowed), "an address not after the range's end, %s",
                 ip_format(&range->end, false, text));
        return json_bad(err, path, "rangeStart", json_object_get(object, "rangeStart"), allowed);
    }
    /* It may lie outside of the subnet, as host-local lets it; only the family must be right. */
    if (range->gateway.family != range->subnet.family) {
        return json_bad(err, path, "gateway", json_object_get(object, "gateway"),
                        "an address of the subnet's family");
    }
    range->gateway.prefix = ip_bits(&range->gateway);
    return 0;
}

static int read_set(const json_t *list, const struct json_path *path, struct ipam_set *set,
                    struct error *err)
{
    char allowed[96];

    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > IPAM_RANGES_MAX) {
        snprintf(allowed, sizeof(allowed), "a range set: a list of 1 to %d ranges",
                 IPAM_RANGES_MAX);
        return json_bad(err, path, NULL, list, allowed);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct json_path at = {.parent = path, .index = i};
        int rc = read_range(json_array_get(list, i), &at, &set->ranges[i], err);

        if (rc < 0) {
            return rc;
        }
        if (set->ranges[i].subnet.family != set->ranges[0].subnet.family) {
            return json_bad(err, &at, "subnet", json_object_get(json_array_get(list, i), "subnet"),
                            "of the same family (IPv4 or IPv6) as the set's first range");
        }
        set->n_ranges = i + 1;
    }
    return 0;
}

static int read_sets(const json_t *ipam, const struct json_path *path, struct ipam_config *config,
                     struct error *err)
{
    struct json_path ranges_path = {.parent = path, .key = "ranges"};
    const json_t *subnet = json_object_get(ipam, "subnet");
    json_t *ranges = NULL;
    char allowed[96];
    int rc = json_read_array(ipam, path, "ranges", &ranges, err);

    if (rc == 0 && subnet && !json_is_null(subnet)) {
        rc = read_range(ipam, path, &config->sets[0].ranges[0], err);
        config->sets[0].n_ranges = config->n_sets = 1;
    }
    if (rc < 0) {
        return rc;
    }
    if (json_array_size(ranges) + config->n_sets > IPAM_IPS_MAX ||
        json_array_size(ranges) + config->n_sets == 0) {
        snprintf(allowed, sizeof(allowed), "a list of 1 to %d range sets", IPAM_IPS_MAX);
        return json_bad(err, path, "ranges", ranges, allowed);
    }
    for (size_t i = 0; i < json_array_size(ranges); i++) {
        struct json_path at = {.parent = &ranges_path, .index = i};

        rc = read_set(json_array_get(ranges, i), &at, &config->sets[config->n_sets], err);
        if (rc < 0) {
            return rc;
        }
        config->n_sets++;
    }
    return 0;
}

/* How a message names a range: where it stands, and its bounds. */
static void name_range(const json_t *ipam, const struct ipam_config *config, size_t set,
                       size_t range, char *buf, size_t size)
{
    const struct ipam_range *r = &config->sets[set].ranges[range];
    size_t lists = json_array_size(json_object_get(ipam, "ranges"));
    char start[IP_TEXT_MAX], end[IP_TEXT_MAX];

    ip_format(&r->start, false, start);
    ip_format(&r->end, false, end);
    if (lists < config->n_sets && set == 0) {
        snprintf(buf, size, "ipam.subnet (%s-%s)", start, end);
    } else {
        snprintf(buf, size, "ipam.ranges[%zu][%zu] (%s-%s)", set - (config->n_sets - lists), range,
                 start, end);
    }
}

/* No address may be in two ranges, else it could be handed out twice. */
static int check_overlap(const json_t *ipam, const struct ipam_config *config, size_t set,
                         size_t range, struct error *err)
{
    const struct ipam_range *a = &config->sets[set].ranges[range];

    for (size_t s = 0; s <= set; s++) {
        for (size_t r = 0; r < (s == set ? range : config->sets[s].n_ranges); r++) {
            const struct ipam_range *b = &config->sets[s].ranges[r];
            char mine[192], other[192];

            if (ipam_range_holds(a, &b->start) || ipam_range_holds(b, &a->start)) {
                name_range(ipam, config, set, range, mine, sizeof(mine));
                name_range(ipam, config, s, r, other, sizeof(other));
                return error_set(err, -EINVAL,
                                 "%s overlaps %s; must be ranges that have no address in common",
                                 mine, other);
            }
        }
    }
    return 0;
}

static int check_overlaps(const json_t *ipam, const struct ipam_config *config, struct error *err)
{
    for (size_t s = 0; s < config->n_sets; s++) {
        for (size_t r = 0; r < config->sets[s].n_ranges; r++) {
            int rc = check_overlap(ipam, config, s, r, err);

            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

static int read_path(const json_t *ipam, const struct json_path *path, const char *key,
                     const char *otherwise, char **ret, struct error *err)
{
    const char *text = NULL;
    int rc = json_read_string(ipam, path, key, &text, err);

    if (rc < 0) {
        return rc;
    }
    if (text && *text && *text != '/') {
        return json_bad(err, path, key, json_object_get(ipam, key), "an absolute path");
    }
    text = text && *text ? text : otherwise;
    if (text) {
        *ret = strdup(text);
        if (!*ret) {
            return error_sys(err, -ENOMEM, "%s", key);
        }
    }
    return 0;
}

static int parse(const json_t *ipam, struct ipam_config *config, struct error *err)
{
    struct json_path path = {.key = "ipam"};
    int rc;

    if (!json_is_object(ipam)) {
        return json_bad(err, &path, NULL, ipam, "an object");
    }
    rc = read_sets(ipam, &path, config, err);
    if (rc == 0) {
        rc = check_overlaps(ipam, config, err);
    }
    if (rc == 0) {
        rc = ipam_read_routes(ipam, &path, config->routes, &config->n_routes, err);
    }
    if (rc == 0) {
        rc = read_path(ipam, &path, "dataDir", DATA_DIR_DEFAULT, &config->data_dir, err);
    }
    if (rc == 0) {
        rc = read_path(ipam, &path, "resolvConf", NULL, &config->resolv_conf, err);
    }
    return rc;
}

int ipam_config_parse(const json_t *ipam, const char *network, struct ipam_config **ret,
                      struct error *err)
{
    __attribute__((cleanup(cleanup_ipam_config))) struct ipam_config *config = NULL;
    int rc;

    if (!ipam_name_ok(network, NETWORK_NAME_MAX)) {
        return error_set(err, -EINVAL,
                         "network name \"%.300s\" is not allowed; must be a letter or digit, then "
                         "letters, digits, '_', '.', '-', at most %d characters",
                         network, NETWORK_NAME_MAX);
    }
    config = calloc(1, sizeof(*config));
    if (!config || !(config->network = strdup(network))) {
        return error_sys(err, -ENOMEM, "network %s", network);
    }
    rc = parse(ipam, config, err);
    if (rc < 0) {
        error_wrap(err, "network %s", network);
        return rc;
    }
    *ret = take_ptr(config);
    return 0;
}

void ipam_config_free(struct ipam_config *config)
{
    if (config) {
        free(config->network);
        free(config->data_dir);
        free(config->resolv_conf);
        free(config);
    }
}

void cleanup_ipam_config(struct ipam_config **config)
{
    ipam_config_free(*config);
}
