/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IPAM room from a shell, for the tests beside real plugins and for measuring:
 *
 *     ipam_tool allocate CONF INSTANCE CONTAINER IFNAME [ADDRESS...]
 *     ipam_tool release|check CONF INSTANCE CONTAINER IFNAME
 *     ipam_tool gc CONF INSTANCE [CONTAINER...]        keeps these containers' leases
 *     ipam_tool delegate COMMAND CONF                  to ipam.type, found in CNI_PATH
 *     ipam_tool cost CONF INSTANCE LEASES [cached]     microseconds a call with so many held
 *
 * CONF is a file with a network configuration. Errors: "error CODE TEXT" and exit status 1.
 */
#include "ipam/ipam.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COST_ROUNDS 200

static int fail(const struct error *err)
{
    printf("error %u %s\n", err->code, err->text);
    return 1;
}

static void print_result(struct ipam_result *result)
{
    char text[IP_TEXT_MAX];

    for (size_t i = 0; i < result->n_ips; i++) {
        printf("ip %s", ip_format(&result->ips[i].address, true, text));
        printf(" gateway %s\n", result->ips[i].gateway.family
                                    ? ip_format(&result->ips[i].gateway, false, text)
                                    : "none");
    }
    for (size_t i = 0; i < result->n_routes; i++) {
        printf("route %s", ip_format(&result->routes[i].dst, true, text));
        printf(" gw %s\n", result->routes[i].gw.family
                               ? ip_format(&result->routes[i].gw, false, text)
                               : "none");
    }
    ipam_result_clear(result);
}

static int load(const char *path, json_t **ret_conf, struct ipam_config **ret, struct error *err)
{
    autofree char *text = NULL;
    const char *name = "";
    size_t len;
    int rc = file_read(path, 1 << 20, &text, &len);

    if (rc < 0) {
        return error_sys(err, rc, "%s", path);
    }
    rc = json_parse(text, len, ret_conf, err);
    if (rc == 0) {
        rc = json_need_string(*ret_conf, NULL, "name", &name, err);
    }
    if (rc == 0 && ret) {
        rc = ipam_config_parse(json_object_get(*ret_conf, "ipam"), name, ret, err);
    }
    return rc;
}

struct keep_list {
    char **ids;
    int n;
};

static bool keep(const struct ipam_owner *owner, void *cookie)
{
    const struct keep_list *list = cookie;

    for (int i = 0; i < list->n; i++) {
        if (!strcmp(list->ids[i], owner->container_id)) {
            return true;
        }
    }
    return false;
}

static int allocate(const struct ipam_config *config, const char *instance,
                    const struct ipam_owner *owner, char **ips, int n_ips, struct error *err)
{
    struct ip_addr requested[IPAM_IPS_MAX];
    struct ipam_result result;
    int rc = 0;

    for (int i = 0; i < n_ips && i < IPAM_IPS_MAX; i++) {
        if (ip_parse(ips[i], &requested[i]) < 0) {
            return error_set(err, -EINVAL, "%s is no address", ips[i]);
        }
    }
    rc = ipam_allocate(config, instance, owner, requested, (size_t)n_ips, &result, err);
    if (rc == 0) {
        print_result(&result);
    }
    return rc;
}

static int delegate(const char *command, const char *path, struct error *err)
{
    const char *cni_path = getenv("CNI_PATH");
    struct ipam_delegate to = {.cni_path = cni_path ? cni_path : "", .cni_version = ""};
    autojson json_t *conf = NULL;
    struct ipam_result result = {0};
    int rc = load(path, &conf, NULL, err);

    if (rc == 0) {
        rc = json_need_string(json_object_get(conf, "ipam"), NULL, "type", &to.type, err);
    }
    if (rc == 0) {
        rc = json_read_string(conf, NULL, "cniVersion", &to.cni_version, err);
    }
    if (rc == 0) {
        to.conf = conf;
        to.deadline_ns = clock_ns() + 20 * NSEC_PER_SEC;
        rc = ipam_delegate(&to, command, &result, err);
    }
    if (rc == 0) {
        print_result(&result);
    }
    return rc;
}

static int compare_ns(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static int timed(const struct ipam_config *config, const char *instance, const char *id,
                 int64_t *ret_allocate_ns, int64_t *ret_release_ns, struct error *err)
{
    struct ipam_owner owner = {id, "eth0"};
    struct ipam_result result;
    int64_t start = clock_ns(), middle;
    int rc = ipam_allocate(config, instance, &owner, NULL, 0, &result, err);

    middle = clock_ns();
    if (rc == 0) {
        ipam_result_clear(&result);
        rc = ret_release_ns ? ipam_release(config, instance, &owner, err) : 0;
    }
    if (rc == 0 && ret_release_ns) {
        *ret_allocate_ns = middle - start;
        *ret_release_ns = clock_ns() - middle;
    }
    return rc;
}

/* Container IDs of 64 characters, as containerd's are. */
static int cost(const struct ipam_config *config, const char *instance, int leases,
                struct error *err)
{
    int64_t allocate_ns[COST_ROUNDS], release_ns[COST_ROUNDS];
    char id[80];
    int rc = 0;

    for (int i = 0; rc == 0 && i < leases; i++) {
        snprintf(id, sizeof(id), "%064d", i);
        rc = timed(config, instance, id, NULL, NULL, err);
    }
    for (int i = 0; rc == 0 && i < COST_ROUNDS; i++) {
        snprintf(id, sizeof(id), "%064d", leases + i);
        rc = timed(config, instance, id, &allocate_ns[i], &release_ns[i], err);
    }
    if (rc == 0) {
        qsort(allocate_ns, COST_ROUNDS, sizeof(int64_t), compare_ns);
        qsort(release_ns, COST_ROUNDS, sizeof(int64_t), compare_ns);
        printf("leases %d allocate_us %.1f p99 %.1f release_us %.1f\n", leases,
               (double)allocate_ns[COST_ROUNDS / 2] / 1e3,
               (double)allocate_ns[COST_ROUNDS * 99 / 100] / 1e3,
               (double)release_ns[COST_ROUNDS / 2] / 1e3);
    }
    return rc;
}

static void cleanup_cache(struct ipam_cache **cache)
{
    ipam_cache_free(*cache);
}

static int on_network(int argc, char **argv, struct error *err)
{
    __attribute__((cleanup(cleanup_ipam_config))) struct ipam_config *config = NULL;
    autojson json_t *conf = NULL;
    const char *verb = argv[1], *instance = argv[3];
    struct ipam_owner owner = {.container_id = argc > 4 ? argv[4] : "",
                               .ifname = argc > 5 ? argv[5] : ""};
    __attribute__((cleanup(cleanup_cache))) struct ipam_cache *cache = NULL;
    int64_t leases = 0;
    int rc = load(argv[2], &conf, &config, err);

    if (rc == 0 && argc > 5 && !strcmp(argv[5], "cached")) {
        rc = ipam_cache_new(&cache);
    }
    if (rc < 0) {
        return rc;
    }
    ipam_config_use_cache(config, cache);
    if (!strcmp(verb, "allocate") && argc > 5) {
        return allocate(config, instance, &owner, argv + 6, argc - 6, err);
    }
    if (!strcmp(verb, "release")) {
        return ipam_release(config, instance, &owner, err);
    }
    if (!strcmp(verb, "check")) {
        return ipam_check(config, instance, &owner, err);
    }
    if (!strcmp(verb, "cost")) {
        return str_to_int64(owner.container_id, 0, 60000, &leases) < 0
                   ? error_set(err, -EINVAL, "LEASES must be 0 to 60000")
                   : cost(config, instance, (int)leases, err);
    }
    if (!strcmp(verb, "gc")) {
        struct keep_list list = {argv + 4, argc - 4};
        size_t n = 0;

        rc = ipam_gc(config, instance, keep, &list, &n, err);
        if (rc == 0) {
            printf("released %zu\n", n);
        }
        return rc;
    }
    return error_set(err, -EINVAL, "%s: unknown", verb);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    int rc;

    if (argc < 4) {
        fprintf(stderr, "usage: see the top of ipam_tool.c\n");
        return 2;
    }
    rc = !strcmp(argv[1], "delegate") ? delegate(argv[2], argv[3], &err)
                                      : on_network(argc, argv, &err);
    return rc < 0 ? fail(&err) : 0;
}
