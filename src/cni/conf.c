/* SPDX-License-Identifier: Apache-2.0 */
/* The network configuration: every key that Sluice knows, checked. */
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NETWORK_NAME_MAX 100

static int read_name(struct cni_conf *conf, struct error *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    int rc = json_need_string(conf->json, NULL, "name", &conf->name, err);

    if (rc == 0 && (strspn(conf->name, letters) != strlen(conf->name) ||
                    strspn(conf->name, letters + 62) || strlen(conf->name) > NETWORK_NAME_MAX)) {
        rc = json_bad(err, NULL, "name", json_object_get(conf->json, "name"),
                      "at most 100 letters, digits, '_', '.', '-', the first a letter or digit");
    }
    return rc;
}

static int read_type(struct cni_conf *conf, struct error *err)
{
    const char *type = NULL;
    char allowed[512] = "one of";
    size_t used = strlen(allowed);
    int rc = json_need_string(conf->json, NULL, "type", &type, err);

    if (rc < 0) {
        return rc;
    }
    conf->attachment.kind = kind_find(type);
    for (size_t i = 0; !conf->attachment.kind && kinds[i] && used < sizeof(allowed); i++) {
        used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, "%s %s", i ? "," : "",
                                 kinds[i]->type);
    }
    return conf->attachment.kind
               ? 0
               : json_bad(err, NULL, "type", json_object_get(conf->json, "type"), allowed);
}

static int read_ifname(const json_t *json, const char *key, const char **ret, struct error *err)
{
    int rc = json_read_string(json, NULL, key, ret, err);

    if (rc == 0 && *ret && !cni_ifname_ok(*ret)) {
        rc = json_bad(err, NULL, key, json_object_get(json, key),
                      "a device name: 1 to 15 characters, no '/', ':' or blanks");
    }
    return rc;
}

/* ovs-cni's form: a list of {"id": n} and {"minID": a, "maxID": b}. */
static int read_trunk(struct kind_conf *conf, const json_t *json, struct error *err)
{
    struct json_path list = {.key = "trunk"};
    json_t *trunk = NULL, *item;
    size_t i;
    int rc = json_read_array(json, NULL, "trunk", &trunk, err);

    if (rc < 0 || !trunk) {
        return rc;
    }
    conf->trunks = calloc(OVS_TRUNKS_MAX, sizeof(*conf->trunks));
    if (!conf->trunks) {
        return error_sys(err, -ENOMEM, "trunk");
    }
    json_array_foreach (trunk, i, item) {
        struct json_path at = {.parent = &list, .index = i};
        int64_t id = -1, min = -1, max = -1;

        if (!json_is_object(item)) {
            return json_bad(err, &at, NULL, item, "{\"id\": VLAN} or {\"minID\": A, \"maxID\": B}");
        }
        if ((rc = json_read_int(item, &at, "id", 0, 4094, &id, err)) < 0 ||
            (rc = json_read_int(item, &at, "minID", 0, 4094, &min, err)) < 0 ||
            (rc = json_read_int(item, &at, "maxID", min < 0 ? 0 : min, 4094, &max, err)) < 0) {
            return rc;
        }
        if (id >= 0) {
            min = max = id;
        }
        if (min < 0 || max < 0) {
            return json_bad(err, &at, NULL, item, "{\"id\": VLAN} or {\"minID\": A, \"maxID\": B}");
        }
        if (max - min >= (int64_t)(OVS_TRUNKS_MAX - conf->n_trunks)) {
            return json_bad(err, &at, NULL, item, "one of at most 4096 VLANs");
        }
        for (; min <= max; min++) {
            conf->trunks[conf->n_trunks++] = (uint16_t)min;
        }
    }
    return 0;
}

static int read_mode(struct attachment *at, const json_t *json, struct error *err)
{
    static const char *const none[] = {NULL};
    json_t *value = json_object_get(json, "mode");

    if (!at->kind->modes && value && !json_is_null(value)) {
        return json_bad(err, NULL, "mode", value, "absent: this type has no modes");
    }
    return json_read_word(json, NULL, "mode", at->kind->modes ? at->kind->modes : none,
                          &at->conf.mode, err);
}

static int read_pool_type(struct attachment *at, const json_t *json, struct error *err)
{
    static const char *const none[] = {NULL};
    json_t *value = json_object_get(json, "poolType");

    if (!at->kind->parts && value && !json_is_null(value)) {
        return json_bad(err, NULL, "poolType", value, "absent: this type has none");
    }
    return json_read_word(json, NULL, "poolType", at->kind->parts ? at->kind->parts : none,
                          &at->conf.pool_type, err);
}

/* {"floor", "target", "maximum", "rate", "cool_down_ms"}: how many parts the agent keeps ready. */
static int read_pool(struct cni_conf *conf, struct error *err)
{
    const struct json_path path = {.key = "pool"};
    struct pool_limits limits = pool_limits_default;
    int64_t floor = 0, target = 0, maximum = -1, rate = limits.rate;
    int64_t cool_down_ms = limits.cool_down_ns / NSEC_PER_MSEC;
    json_t *pool = NULL;
    int rc = json_read_object(conf->json, NULL, "pool", &pool, err);

    if (rc < 0 || !pool) {
        return rc;
    }
    if ((rc = json_read_int(pool, &path, "floor", 0, UINT32_MAX, &floor, err)) < 0 ||
        (rc = json_read_int(pool, &path, "target", 0, UINT32_MAX, &target, err)) < 0 ||
        (rc = json_read_int(pool, &path, "maximum", 0, UINT32_MAX, &maximum, err)) < 0 ||
        (rc = json_read_int(pool, &path, "rate", 0, UINT32_MAX, &rate, err)) < 0 ||
        (rc = json_read_int(pool, &path, "cool_down_ms", 0, UINT32_MAX, &cool_down_ms, err)) < 0) {
        return rc;
    }
    limits = (struct pool_limits){(unsigned)floor, (unsigned)target,
                                  (unsigned)(maximum >= 0              ? maximum
                                             : target > UINT32_MAX / 2 ? target
                                                                       : 2 * target),
                                  (unsigned)rate, cool_down_ms * NSEC_PER_MSEC};
    conf->pool = limits;
    conf->has_pool = true;
    rc = pool_limits_check(&limits, err);
    return rc < 0 ? error_wrap(err, "pool") : 0;
}

static int parse_mac(struct kind_conf *conf, const char *where, const char *text, struct error *err)
{
    if (mac_parse(text, &conf->mac) < 0) {
        return error_set(err, -EINVAL,
                         "%s: \"%.64s\" is not allowed; must be a unicast MAC address such as "
                         "02:00:00:00:00:01",
                         where, text);
    }
    conf->has_mac = true;
    return 0;
}

/* A value of CNI_ARGS; "" when it is not there. */
static int read_arg(const struct cni_request *request, const char *key, char *dst, size_t size,
                    struct error *err)
{
    int rc = cni_args_get(request->args, key, dst, size);

    if (rc == -ENAMETOOLONG) {
        return error_set(err, -EINVAL, "CNI_ARGS %s: too long; must be at most %zu characters", key,
                         size - 1);
    }
    if (rc < 0) {
        dst[0] = '\0';
    }
    return 0;
}

/* Where messages say that a value stood. */
static const struct json_path runtime_path = {.key = "runtimeConfig"}, args_path = {.key = "args"},
                              args_cni_path = {.parent = &args_path, .key = "cni"};

/* By order of strength: the capability, args.cni, CNI_ARGS, the configuration. */
static int read_mac(struct cni_conf *conf, const struct cni_request *request, const json_t *runtime,
                    const json_t *args, struct error *err)
{
    const char *texts[4] = {NULL, NULL, NULL, NULL};
    static const char *const where[4] = {"runtimeConfig.mac", "args.cni.mac", "CNI_ARGS MAC",
                                         "mac"};
    char from_args[64];
    int rc;

    if ((rc = json_read_string(runtime, &runtime_path, "mac", &texts[0], err)) < 0 ||
        (rc = json_read_string(args, &args_cni_path, "mac", &texts[1], err)) < 0 ||
        (rc = read_arg(request, "MAC", from_args, sizeof(from_args), err)) < 0 ||
        (rc = json_read_string(conf->json, NULL, "mac", &texts[3], err)) < 0) {
        return rc;
    }
    texts[2] = from_args;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (texts[i] && *texts[i] && kind_port_mac(&conf->attachment)) {
            return error_set(
                err, -EINVAL,
                "%s: \"%.64s\" is not allowed; a device of type %s has the MAC address "
                "of its OVS port",
                where[i], texts[i], conf->attachment.kind->type);
        }
        if (texts[i] && *texts[i]) {
            return parse_mac(&conf->attachment.conf, where[i], texts[i], err);
        }
    }
    return 0;
}

static int add_requested(struct attachment *at, const char *where, const char *text,
                         struct error *err)
{
    struct ip_addr ip;

    if (ip_parse(text, &ip) < 0) {
        return error_set(err, -EINVAL, "%s: \"%.64s\" is not allowed; must be an IP address", where,
                         text);
    }
    if (at->n_requested == ARRAY_SIZE(at->requested)) {
        return error_set(err, -EINVAL, "%s: more than %d addresses", where, IPAM_IPS_MAX);
    }
    for (size_t i = 0; i < at->n_requested; i++) {
        if (ip_same(&at->requested[i], &ip)) {
            return 0;
        }
    }
    at->requested[at->n_requested++] = ip;
    return 0;
}

static int add_requested_list(struct attachment *at, const char *where, const json_t *object,
                              const struct json_path *path, struct error *err)
{
    json_t *ips = NULL, *item;
    size_t i;
    int rc = json_read_array(object, path, "ips", &ips, err);

    json_array_foreach (ips, i, item) {
        if (rc == 0) {
            rc = json_is_string(item)
                     ? add_requested(at, where, json_string_value(item), err)
                     : error_set(err, -EINVAL, "%s: must be a list of strings", where);
        }
    }
    return rc;
}

static int read_requested(struct attachment *at, const struct cni_request *request,
                          const json_t *runtime, const json_t *args, struct error *err)
{
    char list[512], *save, *text;
    int rc = add_requested_list(at, "runtimeConfig.ips", runtime, &runtime_path, err);

    if (rc == 0) {
        rc = add_requested_list(at, "args.cni.ips", args, &args_cni_path, err);
    }
    if (rc == 0) {
        rc = read_arg(request, "IP", list, sizeof(list), err);
    }
    if (rc < 0) {
        return rc;
    }
    for (text = strtok_r(list, ",", &save); rc == 0 && text; text = strtok_r(NULL, ",", &save)) {
        rc = add_requested(at, "CNI_ARGS IP", text, err);
    }
    return rc;
}

static int read_addresses(struct cni_conf *conf, const struct cni_request *request,
                          struct error *err)
{
    struct attachment *at = &conf->attachment;
    json_t *ipam = NULL;
    const char *type = "";
    int rc = json_read_object(conf->json, NULL, "ipam", &ipam, err);

    if (rc == 0 && ipam) {
        struct json_path path = {.key = "ipam"};

        rc = json_read_string(ipam, &path, "type", &type, err);
        if (rc == 0 && strchr(type, '/')) {
            rc = json_bad(err, &path, "type", json_object_get(ipam, "type"),
                          "the name of an IPAM plugin");
        }
    }
    if (rc < 0 || !*type || at->kind->plain) {
        return rc;
    }
    if (!strcmp(type, "host-local")) {
        at->addresses = ADDRESSES_HOST_LOCAL;
        return ipam_config_parse(ipam, conf->name, &at->ipam, err);
    }
    at->addresses = ADDRESSES_DELEGATED;
    at->delegate = (struct ipam_delegate){.type = type,
                                          .cni_path = request->path,
                                          .cni_version = cni_version_names[conf->version],
                                          .base = request->environment,
                                          .conf = conf->json};
    return 0;
}

/* Rules and rates, which OVS keeps. */
static int read_policy(struct attachment *at, const json_t *json, const json_t *args,
                       const json_t *runtime, struct error *err)
{
    int rc = policy_read(&at->policy, json, args, runtime, err);

    if (rc == 0 && policy_any(&at->policy) && !at->kind->needs_bridge) {
        rc = error_code(err, CNI_UNSUPPORTED_FIELD, -EINVAL,
                        "acl, rules, qos, bandwidth: not supported by type %s, which is on no OVS "
                        "bridge; must be absent, 0 or empty",
                        at->kind->type);
    }
    return rc;
}

static int read_kind_keys(struct cni_conf *conf, struct error *err)
{
    static const char *const datapaths[] = {"netdev", "system", NULL};
    struct attachment *at = &conf->attachment;
    const json_t *json = conf->json;
    int64_t vlan = 0, mtu = 0;
    int rc, datapath = -1;

    at->conf.tenant = "";
    if ((rc = read_ifname(json, "bridge", &at->conf.bridge, err)) < 0 ||
        (rc = read_ifname(json, "port", &at->conf.port, err)) < 0 ||
        (rc = json_read_string(json, NULL, "tenant", &at->conf.tenant, err)) < 0 ||
        (rc = json_read_string(json, NULL, "socket_file", &at->conf.socket_file, err)) < 0 ||
        (rc = json_read_word(json, NULL, "datapath", datapaths, &datapath, err)) < 0 ||
        (rc = json_read_int(json, NULL, "vlan", 0, 4094, &vlan, err)) < 0 ||
        (rc = json_read_int(json, NULL, "mtu", 0, 65535, &mtu, err)) < 0 ||
        (rc = read_mode(at, json, err)) < 0 || (rc = read_pool_type(at, json, err)) < 0 ||
        (rc = read_trunk(&at->conf, json, err)) < 0) {
        return rc;
    }
    if (mtu && mtu < 68) {
        return json_bad(err, NULL, "mtu", json_object_get(json, "mtu"),
                        "0 or a whole number from 68 to 65535");
    }
    if (at->kind->needs_bridge && !at->conf.bridge) {
        return json_bad(err, NULL, "bridge", NULL, "the name of an OVS bridge");
    }
    at->conf.datapath = datapath >= 0 ? datapaths[datapath] : NULL;
    at->conf.vlan = (int)vlan;
    at->conf.mtu = (unsigned)mtu;
    return 0;
}

static int read_all(const struct cni_request *request, struct cni_conf *conf, struct error *err)
{
    json_t *runtime = NULL, *args = NULL, *args_cni = NULL;
    const char *version = "", *dir = NULL;
    int rc;

    if (!json_is_object(conf->json)) {
        return error_set(err, -EBADMSG, "the network configuration is not a JSON object");
    }
    if ((rc = json_read_string(conf->json, NULL, "cniVersion", &version, err)) < 0 ||
        (rc = cni_version_parse(version, &conf->version, err)) < 0 ||
        (rc = read_name(conf, err)) < 0 || (rc = read_type(conf, err)) < 0 ||
        (rc = json_read_object(conf->json, NULL, "runtimeConfig", &runtime, err)) < 0 ||
        (rc = json_read_object(conf->json, NULL, "args", &args, err)) < 0 ||
        (rc = json_read_object(args, &args_path, "cni", &args_cni, err)) < 0 ||
        (rc = json_read_object(conf->json, NULL, "prevResult", &conf->prev_result, err)) < 0 ||
        (rc = json_read_object(conf->json, NULL, "dns", &conf->dns, err)) < 0 ||
        (rc = json_read_array(conf->json, NULL, "cni.dev/valid-attachments",
                              &conf->valid_attachments, err)) < 0 ||
        (rc = json_read_string(conf->json, NULL, "sluiceDir", &dir, err)) < 0 ||
        (rc = read_kind_keys(conf, err)) < 0 || (rc = read_pool(conf, err)) < 0 ||
        (rc = read_addresses(conf, request, err)) < 0) {
        return rc;
    }
    /* What is wanted of a new device is nothing that taking one away may fail for. */
    if (strcmp(request->command, "DEL") != 0 &&
        ((rc = read_policy(&conf->attachment, conf->json, args_cni, runtime, err)) < 0 ||
         (rc = read_mac(conf, request, runtime, args_cni, err)) < 0 ||
         (rc = read_requested(&conf->attachment, request, runtime, args_cni, err)) < 0)) {
        return rc;
    }
    conf->instance = instance_dir(dir && *dir ? dir : request->instance);
    if (conf->instance[0] != '/') {
        return error_set(err, -EINVAL,
                         "sluiceDir: \"%.128s\" is not allowed; must be an absolute path",
                         conf->instance);
    }
    return 0;
}

int cni_conf_parse(const struct cni_request *request, struct cni_conf *ret, struct error *err)
{
    int rc;

    memset(ret, 0, sizeof(*ret));
    ret->version = CNI_0_1_0;
    ret->attachment.netns_fd = ret->attachment.record_fd = -1;
    rc = json_parse(request->input, request->input_len, &ret->json, err);
    if (rc < 0) {
        return error_wrap(err, "network configuration");
    }
    rc = read_all(request, ret, err);
    if (rc < 0) {
        return rc;
    }
    ret->attachment.key =
        (struct attachment_key){ret->name, request->container_id, request->ifname};
    if (ret->attachment.kind->plain) {
        ret->attachment.key.ifname = "lo"; /* whatever the runtime calls it */
    }
    ret->attachment.netns_path = request->netns;
    ret->attachment.passed_netns = request->netns_fd;
    ret->attachment.cni_args = request->args;
    ret->attachment.conf_json = ret->json;
    attachment_prepare(&ret->attachment, ret->instance);
    return 0;
}

void cni_conf_clear(struct cni_conf *conf)
{
    attachment_clear(&conf->attachment);
    json_decref(conf->json);
    conf->json = NULL;
}
