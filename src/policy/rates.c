/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rates out of a network configuration: CNI's capability `bandwidth` (CNI conventions; bits and
 * bits per second), the same keys in the configuration, and the study's `qos`.
 */
#include "policy/policy-internal.h"

#include <errno.h>
#include <stdlib.h>

#define RATE_MIN  1000ULL             /* bits per second: a meter counts in kbit/s */
#define RATE_MAX  4000000000000ULL    /* a meter's 32 bits of kbit/s */
#define BURST_MIN (8ULL * 1600)       /* bits: a full frame must go through */
#define BURST_MAX (8ULL * 0x7fffffff) /* tbf(8) counts bytes in 32 bits */

/* The study's `qos: 1`: 46,000,000 bytes per second. */
#define STUDY_RATE  368000000ULL
#define STUDY_BURST 1000000ULL

/* A burst that was not given: 10 ms' worth, and room for a few segments of 64 KiB. */
static uint64_t default_burst(uint64_t bps)
{
    uint64_t burst = bps / 100, least = 8ULL * 4 * 65536;

    return burst < least ? least : burst > BURST_MAX ? BURST_MAX : burst;
}

static int read_rate(const json_t *object, const struct json_path *path, const char *const keys[2],
                     struct policy_rate *ret, struct error *err)
{
    int64_t rate = 0, burst = 0;
    int rc = json_read_int(object, path, keys[0], 0, (int64_t)RATE_MAX, &rate, err);

    if (rc == 0) {
        rc = json_read_int(object, path, keys[1], 0, INT64_MAX, &burst, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (rate && (uint64_t)rate < RATE_MIN) {
        return json_bad(err, path, keys[0], json_object_get(object, keys[0]),
                        "0 or at least 1000 (bits per second)");
    }
    if (burst && !rate) {
        return json_bad(err, path, keys[1], json_object_get(object, keys[1]),
                        "0 where the rate is not given");
    }
    /* Some runtimes say "no limit" by the largest number there is. */
    *ret = (struct policy_rate){.bps = (uint64_t)rate,
                                .burst_bits = (uint64_t)burst > BURST_MAX ? BURST_MAX
                                              : burst                     ? (uint64_t)burst
                                                      : default_burst((uint64_t)rate),
                                .burst_given = burst > 0};
    if (rate && ret->burst_bits < BURST_MIN) {
        return json_bad(err, path, keys[1], json_object_get(object, keys[1]),
                        "0 or at least 12800 (bits: a full frame)");
    }
    return 0;
}

/* object[key], if it is there, as {"ingressRate", "ingressBurst", "egressRate", "egressBurst"}:
 * ingress is to the pod. */
static int read_bandwidth(const json_t *object, const struct json_path *parent, const char *key,
                          struct policy_rate rates[POLICY_DIRECTIONS], struct error *err)
{
    static const char *const to[] = {"ingressRate", "ingressBurst"};
    static const char *const from[] = {"egressRate", "egressBurst"};
    const struct json_path path = {.parent = parent, .key = key};
    json_t *values = NULL;
    int rc = json_read_object(object, parent, key, &values, err);

    if (rc == 0 && values) {
        rc = read_rate(values, &path, to, &rates[POLICY_TO_POD], err);
    }
    if (rc == 0 && values) {
        rc = read_rate(values, &path, from, &rates[POLICY_FROM_POD], err);
    }
    return rc;
}

/* 0, 1, true or false. */
static int read_qos(struct policy *policy, const json_t *conf, struct error *err)
{
    const json_t *value = json_object_get(conf, "qos");
    bool on = json_is_true(value) || (json_is_integer(value) && json_integer_value(value) == 1);
    bool off = !value || json_is_null(value) || json_is_false(value) ||
               (json_is_integer(value) && json_integer_value(value) == 0);

    if (!on && !off) {
        return json_bad(err, NULL, "qos", value, "0 or 1 (\"bandwidth\" has the numbers)");
    }
    for (int i = 0; on && i < POLICY_DIRECTIONS; i++) {
        policy->pod[i] = (struct policy_rate){.bps = STUDY_RATE, .burst_bits = STUDY_BURST};
    }
    return 0;
}

int policy_read(struct policy *policy, const json_t *conf, const json_t *args_cni,
                const json_t *runtime, struct error *err)
{
    const struct json_path args = {.key = "args"}, cni = {.parent = &args, .key = "cni"};
    const struct json_path runtime_config = {.key = "runtimeConfig"};
    int rc;

    if ((rc = policy_rules_read(policy, conf, NULL, err)) < 0 ||
        (rc = policy_rules_read(policy, args_cni, &cni, err)) < 0 ||
        (rc = read_qos(policy, conf, err)) < 0 ||
        (rc = read_bandwidth(conf, NULL, "bandwidth", policy->pod, err)) < 0 ||
        (rc = read_bandwidth(conf, NULL, "tenantBandwidth", policy->tenant, err)) < 0) {
        return rc;
    }
    return read_bandwidth(runtime, &runtime_config, "bandwidth", policy->pod, err);
}

bool policy_tenant_any(const struct policy *policy)
{
    return policy->tenant[POLICY_TO_POD].bps || policy->tenant[POLICY_FROM_POD].bps;
}

bool policy_any(const struct policy *policy)
{
    return policy->n_rules || policy->acl || policy->pod[POLICY_TO_POD].bps ||
           policy->pod[POLICY_FROM_POD].bps || policy_tenant_any(policy);
}

void policy_clear(struct policy *policy)
{
    free(policy->rules);
    policy->rules = NULL;
    policy->n_rules = 0;
}
