/* SPDX-License-Identifier: Apache-2.0 */
/* Security-group rules out of a network configuration. */
#include "policy/policy-internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define PRIORITY_DEFAULT 1000

static const struct {
    const char *name;
    int number;
} protocols[] = {{"any", -1},          {"icmp", IPPROTO_ICMP},     {"tcp", IPPROTO_TCP},
                 {"udp", IPPROTO_UDP}, {"icmpv6", IPPROTO_ICMPV6}, {"sctp", IPPROTO_SCTP}};

static int read_protocol(const json_t *object, const struct json_path *path, int *ret,
                         struct error *err)
{
    const json_t *value = json_object_get(object, "protocol");

    if (!value || json_is_null(value)) {
        return 0;
    }
    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        json_integer_value(value) <= 255) {
        *ret = (int)json_integer_value(value);
        return 0;
    }
    for (size_t i = 0; json_is_string(value) && i < ARRAY_SIZE(protocols); i++) {
        if (!strcmp(json_string_value(value), protocols[i].name)) {
            *ret = protocols[i].number;
            return 0;
        }
    }
    return json_bad(
        err, path, "protocol", value,
        "\"any\", \"tcp\", \"udp\", \"sctp\", \"icmp\", \"icmpv6\" or a number from 0 to "
        "255");
}

static int read_cidr(const json_t *object, const struct json_path *path, struct ip_addr *ret,
                     struct error *err)
{
    const char *text = NULL;
    int rc = json_read_string(object, path, "cidr", &text, err);

    if (rc < 0 || !text) {
        return rc;
    }
    if (ip_parse(text, ret) < 0) {
        return json_bad(err, path, "cidr", json_object_get(object, "cidr"),
                        "a network such as 10.0.0.0/8 or fd00::/8, or an address");
    }
    *ret = ip_network(ret);
    return 0;
}

/* A number, "N" or "N-M". */
static int parse_ports(const json_t *value, int64_t *min, int64_t *max)
{
    char text[16], *dash;

    if (json_is_integer(value)) {
        *min = *max = json_integer_value(value);
        return *min >= 0 && *min <= UINT16_MAX ? 0 : -EINVAL;
    }
    if (!json_is_string(value) || str_copy(text, sizeof(text), json_string_value(value)) < 0) {
        return -EINVAL;
    }
    dash = strchr(text, '-');
    if (dash) {
        *dash++ = '\0';
    }
    return str_to_int64(text, 0, UINT16_MAX, min) < 0 ||
                   str_to_int64(dash ? dash : text, *min, UINT16_MAX, max) < 0
               ? -EINVAL
               : 0;
}

static int read_ports(const json_t *object, const struct json_path *path, struct policy_rule *rule,
                      struct error *err)
{
    const json_t *value = json_object_get(object, "ports");
    int64_t min, max;

    if (!value || json_is_null(value)) {
        return 0;
    }
    if (parse_ports(value, &min, &max) < 0) {
        return json_bad(err, path, "ports", value,
                        "a port from 0 to 65535 or a range such as \"8000-8080\"");
    }
    if (rule->protocol != IPPROTO_TCP && rule->protocol != IPPROTO_UDP &&
        rule->protocol != IPPROTO_SCTP) {
        return json_bad(err, path, "ports", value,
                        "absent: protocol must be \"tcp\", \"udp\" or \"sctp\"");
    }
    rule->port_min = (uint16_t)min;
    rule->port_max = (uint16_t)max;
    return 0;
}

/* A key that we don't know might be what makes a rule narrow. */
static int check_keys(const json_t *object, const struct json_path *path, struct error *err)
{
    static const char *const known[] = {"direction", "protocol", "cidr",
                                        "ports",     "action",   "priority"};
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)object, key, value) {
        bool found = false;

        for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
            found |= !strcmp(key, known[i]);
        }
        if (!found) {
            return json_bad(
                err, path, key, value,
                "absent: a rule has direction, protocol, cidr, ports, action, priority");
        }
    }
    return 0;
}

/* ICMP belongs to one family; a rule that can never match is a mistake. */
static int check_family(const json_t *object, const struct json_path *path,
                        const struct policy_rule *rule, struct error *err)
{
    int want = rule->protocol == IPPROTO_ICMP     ? AF_INET
               : rule->protocol == IPPROTO_ICMPV6 ? AF_INET6
                                                  : 0;

    if (want && rule->cidr.family && rule->cidr.family != want) {
        return json_bad(err, path, "cidr", json_object_get(object, "cidr"),
                        want == AF_INET ? "an IPv4 network: protocol is \"icmp\""
                                        : "an IPv6 network: protocol is \"icmpv6\"");
    }
    return 0;
}

static int read_rule(const json_t *object, const struct json_path *path, struct policy_rule *rule,
                     struct error *err)
{
    static const char *const directions[] = {"ingress", "egress", NULL};
    static const char *const actions[] = {"allow", "deny", NULL};
    int direction = -1, action = -1;
    int64_t priority = PRIORITY_DEFAULT;
    int rc;

    *rule = (struct policy_rule){.protocol = -1, .port_max = UINT16_MAX};
    if (!json_is_object(object)) {
        return json_bad(err, path, NULL, object, "an object: {\"direction\", \"action\", ...}");
    }
    if ((rc = check_keys(object, path, err)) < 0 ||
        (rc = json_read_word(object, path, "direction", directions, &direction, err)) < 0 ||
        (rc = json_read_word(object, path, "action", actions, &action, err)) < 0 ||
        (rc = json_read_int(object, path, "priority", 0, POLICY_PRIORITY_MAX, &priority, err)) <
            0 ||
        (rc = read_protocol(object, path, &rule->protocol, err)) < 0 ||
        (rc = read_cidr(object, path, &rule->cidr, err)) < 0 ||
        (rc = read_ports(object, path, rule, err)) < 0 ||
        (rc = check_family(object, path, rule, err)) < 0) {
        return rc;
    }
    if (direction < 0) {
        return json_bad(err, path, "direction", NULL, "\"ingress\" or \"egress\"");
    }
    if (action < 0) {
        return json_bad(err, path, "action", NULL, "\"allow\" or \"deny\"");
    }
    rule->ingress = direction == 0;
    rule->deny = action == 1;
    rule->priority = (unsigned)priority;
    return 0;
}

static int read_list(struct policy *policy, const json_t *list, const struct json_path *path,
                     struct error *err)
{
    size_t n = policy->n_rules + json_array_size(list), i;
    struct policy_rule *rules;
    json_t *item;

    if (n > POLICY_RULES_MAX) {
        return error_set(err, -EINVAL, "rules: %zu of them; at most %d are allowed", n,
                         POLICY_RULES_MAX);
    }
    rules = n ? reallocarray(policy->rules, n, sizeof(*rules)) : NULL;
    if (n && !rules) {
        return error_sys(err, -ENOMEM, "rules");
    }
    policy->rules = rules;
    json_array_foreach (list, i, item) {
        struct json_path at = {.parent = path, .index = i};
        int rc = read_rule(item, &at, &rules[policy->n_rules], err);

        if (rc < 0) {
            return rc;
        }
        policy->n_rules++;
    }
    return 0;
}

int policy_rules_read(struct policy *policy, const json_t *object, const struct json_path *path,
                      struct error *err)
{
    struct json_path at = {.parent = path, .key = "rules"};
    json_t *list = NULL;
    int64_t acl = 0;
    int rc = json_read_array(object, path, "rules", &list, err);

    if (rc == 0 && list && json_array_size(list)) {
        rc = read_list(policy, list, &at, err);
    }
    if (rc == 0) {
        rc = json_read_int(object, path, "acl", 0, POLICY_ACL_MAX, &acl, err);
    }
    if (rc == 0 && acl) {
        policy->acl = (unsigned)acl;
    }
    return rc;
}
