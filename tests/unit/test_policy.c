/* SPDX-License-Identifier: Apache-2.0 */
/* src/policy: what a configuration may say, and the flows that come of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/policy.h"

#include <errno.h>
#include <netinet/in.h>
#include <linux/if_ether.h>
#include <string.h>

static int read_text(const char *text, struct policy *policy, struct error *err)
{
    autojson json_t *json = NULL;
    json_t *args;

    *policy = (struct policy){0};
    assert_int_equal(json_parse(text, strlen(text), &json, err), 0);
    args = json_object_get(json_object_get(json, "args"), "cni");
    return policy_read(policy, json, args, json_object_get(json, "runtimeConfig"), err);
}

static struct policy policy_of(const char *text)
{
    struct policy policy;
    struct error err = {0};

    if (read_text(text, &policy, &err) < 0) {
        fail_msg("%s: %s", text, err.text);
    }
    return policy;
}

/* ---- what is read ---- */

static void test_a_rule_says_all_that_it_may(void **state)
{
    struct policy policy = policy_of(
        "{\"rules\": [{\"direction\": \"ingress\", \"action\": \"allow\", \"protocol\": \"tcp\","
        " \"cidr\": \"10.1.2.3/8\", \"ports\": \"8000-8080\", \"priority\": 7},"
        " {\"direction\": \"egress\", \"action\": \"deny\"}]}");
    char text[IP_TEXT_MAX];

    (void)state;
    assert_int_equal(policy.n_rules, 2);
    assert_true(policy.rules[0].ingress);
    assert_false(policy.rules[0].deny);
    assert_int_equal(policy.rules[0].protocol, IPPROTO_TCP);
    assert_string_equal(ip_format(&policy.rules[0].cidr, true, text), "10.0.0.0/8");
    assert_int_equal(policy.rules[0].port_min, 8000);
    assert_int_equal(policy.rules[0].port_max, 8080);
    assert_int_equal(policy.rules[0].priority, 7);
    assert_true(policy.rules[1].deny);
    assert_int_equal(policy.rules[1].protocol, -1);
    assert_int_equal(policy.rules[1].cidr.family, 0);
    assert_int_equal(policy.rules[1].port_max, 65535);
    policy_clear(&policy);
}

static void test_rules_of_args_come_on_top_and_rates_of_the_runtime_instead(void **state)
{
    struct policy policy = policy_of(
        "{\"rules\": [{\"direction\": \"egress\", \"action\": \"deny\"}], \"acl\": 3, \"qos\": 1,"
        " \"args\": {\"cni\": {\"rules\": [{\"direction\": \"ingress\", \"action\": \"deny\"}]}},"
        " \"tenantBandwidth\": {\"egressRate\": 9000},"
        " \"runtimeConfig\": {\"bandwidth\": {\"ingressRate\": 5000000, \"ingressBurst\": 20000}}}");

    (void)state;
    assert_int_equal(policy.n_rules, 2);
    assert_int_equal(policy.acl, 3);
    assert_int_equal(policy.pod[POLICY_TO_POD].bps, 5000000);
    assert_int_equal(policy.pod[POLICY_TO_POD].burst_bits, 20000);
    assert_int_equal(policy.tenant[POLICY_FROM_POD].bps, 9000);
    assert_int_equal(policy.tenant[POLICY_TO_POD].bps, 0);
    assert_true(policy_any(&policy));
    policy_clear(&policy);
}

static void test_qos_is_the_rate_of_the_study(void **state)
{
    struct policy policy = policy_of("{\"qos\": 1}");

    (void)state;
    for (int i = 0; i < POLICY_DIRECTIONS; i++) {
        assert_int_equal(policy.pod[i].bps, 368000000);
        assert_int_equal(policy.pod[i].burst_bits, 1000000);
    }
}

static void test_nothing_asked_for_is_no_policy(void **state)
{
    struct policy policy = policy_of("{\"rules\": [], \"acl\": 0, \"qos\": 0, \"bandwidth\": {},"
                                     " \"runtimeConfig\": {\"bandwidth\": {\"ingressRate\": 0}}}");

    (void)state;
    assert_false(policy_any(&policy));
    policy_clear(&policy);
}

static void test_what_is_wrong_is_named_with_what_is_allowed(void **state)
{
#define RULE(more) "{\"rules\": [{\"direction\": \"ingress\", \"action\": \"deny\"" more "}]}"
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"rules\": [5]}", "rules[0]: 5 is not allowed"},
        {"{\"rules\": [{\"action\": \"deny\"}]}", "rules[0].direction"},
        {"{\"rules\": [{\"direction\": \"ingress\"}]}", "\"allow\" or \"deny\""},
        {"{\"rules\": [{\"direction\": \"up\"}]}", "rules[0].direction: \"up\""},
        {RULE(", \"protocol\": \"ftp\""), "rules[0].protocol: \"ftp\""},
        {RULE(", \"protocol\": 256"), "rules[0].protocol: 256"},
        {RULE(", \"cidr\": \"10.0.0.0/33\""), "rules[0].cidr"},
        {RULE(", \"ports\": 80"), "must be absent: protocol must be"},
        {RULE(", \"protocol\": \"tcp\", \"ports\": \"9-8\""), "rules[0].ports: \"9-8\""},
        {RULE(", \"protocol\": \"tcp\", \"ports\": 65536"), "rules[0].ports: 65536"},
        {RULE(", \"priority\": 30001"), "from 0 to 30000"},
        {RULE(", \"port\": 80"), "rules[0].port: 80"},
        {RULE(", \"protocol\": \"icmp\", \"cidr\": \"fd00::/8\""), "an IPv4 network"},
        {"{\"acl\": -1}", "acl: -1"},
        {"{\"acl\": 131073}", "from 0 to 131072"},
        {"{\"qos\": 2}", "qos: 2"},
        {"{\"bandwidth\": {\"ingressRate\": 999}}", "bandwidth.ingressRate: 999"},
        {"{\"bandwidth\": {\"egressBurst\": 99999}}", "bandwidth.egressBurst: 99999"},
        {"{\"bandwidth\": {\"egressRate\": 1000, \"egressBurst\": 99}}", "at least 12800"},
        {"{\"args\": {\"cni\": {\"rules\": [{}]}}}", "args.cni.rules[0].direction"},
        {"{\"runtimeConfig\": {\"bandwidth\": {\"ingressRate\": \"1M\"}}}",
         "runtimeConfig.bandwidth.ingressRate"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct policy policy;
        struct error err = {0};

        if (read_text(cases[i].text, &policy, &err) != -EINVAL ||
            !strstr(err.text, cases[i].says)) {
            fail_msg("%s: \"%s\"", cases[i].text, err.text);
        }
        policy_clear(&policy);
    }
}

/* ---- flows ---- */

static struct ip_addr ip(const char *text)
{
    struct ip_addr ret;

    assert_int_equal(ip_parse(text, &ret), 0);
    return ret;
}

static const struct mac_addr own_mac = {{2, 0, 0, 0, 0, 1}};

static struct policy_program program_of(const char *text, const struct policy_pod *pod)
{
    struct policy policy = policy_of(text);
    struct policy_program program;
    struct error err = {0};

    assert_int_equal(policy_program(&policy, pod, &program, &err), 0);
    policy_clear(&policy);
    return program;
}

/* Flows of a table, which ports they match, and their number. */
static size_t matching(const struct policy_program *program, uint8_t table, uint32_t port)
{
    size_t n = 0;

    for (size_t i = 0; i < program->n_flows; i++) {
        const struct flow_match *match = &program->flows[i].match;

        n += program->flows[i].table == table && (port & match->tp_dst_mask) == match->tp_dst &&
             match->tp_dst_mask;
    }
    return n;
}

#define EGRESS  50
#define INGRESS 52

static void test_a_range_of_ports_is_covered_exactly_once(void **state)
{
    static const uint32_t ranges[][2] = {{0, 0},         {0, 65535}, {1, 65535},   {1, 65534},
                                         {8000, 8080},   {80, 80},   {1023, 1024}, {32768, 65535},
                                         {65535, 65535}, {5, 6}};
    struct policy_pod pod = {.cookie = 5, .port = 1, .mac = own_mac};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        struct policy_program program;
        char text[200];

        snprintf(text, sizeof(text),
                 "{\"rules\": [{\"direction\": \"ingress\", \"action\": \"deny\", \"protocol\": "
                 "\"udp\", \"cidr\": \"10.0.0.0/8\", \"ports\": \"%u-%u\"}]}",
                 ranges[i][0], ranges[i][1]);
        program = program_of(text, &pod);
        for (uint32_t port = 0; port <= 65535; port++) {
            bool within = port >= ranges[i][0] && port <= ranges[i][1];
            bool all = ranges[i][0] == 0 && ranges[i][1] == 65535; /* matches no port at all */

            assert_int_equal(matching(&program, INGRESS, port), within && !all);
        }
        policy_program_clear(&program);
    }
}

static void test_rules_are_a_flow_each_and_of_their_own_family(void **state)
{
    struct policy_pod pod = {.cookie = 5, .port = 1, .mac = own_mac};
    struct policy_program program =
        program_of("{\"acl\": 100, \"rules\": ["
                   "{\"direction\": \"egress\", \"action\": \"deny\", \"cidr\": \"10.0.0.0/8\"},"
                   "{\"direction\": \"egress\", \"action\": \"deny\", \"protocol\": \"icmpv6\"}]}",
                   &pod);
    size_t ingress = 0, egress_ipv4 = 0, egress_ipv6 = 0;

    (void)state;
    for (size_t i = 0; i < program.n_flows; i++) {
        const struct flow *flow = &program.flows[i];

        ingress += flow->table == INGRESS && flow->match.eth_type == ETH_P_IP;
        egress_ipv4 += flow->table == EGRESS && flow->match.eth_type == ETH_P_IP;
        egress_ipv6 += flow->table == EGRESS && flow->match.eth_type == ETH_P_IPV6 &&
                       !flow->match.has_icmp_type;
        assert_true(flow->table == 0 || !flow->match.has_metadata || flow->match.metadata == 5);
    }
    assert_int_equal(ingress, 100);
    assert_int_equal(egress_ipv4, 1);
    assert_int_equal(egress_ipv6, 1);
    policy_program_clear(&program);
}

static void test_the_generated_rules_are_the_stated_ones(void **state)
{
    struct policy_pod pod = {.cookie = 5, .port = 1, .mac = own_mac};
    struct policy_program program = program_of("{\"acl\": 257}", &pod);
    const struct flow *last = NULL;
    char text[IP_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < program.n_flows; i++) {
        if (program.flows[i].table == INGRESS && program.flows[i].match.src.family) {
            last = &program.flows[i];
        }
    }
    assert_non_null(last);
    assert_string_equal(ip_format(&last->match.src, false, text), "198.18.1.0");
    assert_int_equal(last->outputs[0], FLOW_PORT_NONE);
    assert_int_equal(last->goto_table, 0);
    policy_program_clear(&program);
}

static void test_no_two_flows_of_a_pod_are_the_same(void **state)
{
    struct ip_addr ips[] = {ip("10.1.0.2/24"), ip("10.1.0.3/24"), ip("fd00::2/64")};

    (void)state;
    for (int shared = 0; shared < 3; shared++) {
        struct policy_pod pod = {.cookie = 5,
                                 .port = 1,
                                 .shared = shared > 0,
                                 .shared_mac = shared == 2,
                                 .mac = own_mac,
                                 .ips = ips,
                                 .n_ips = ARRAY_SIZE(ips),
                                 .metered = {true, true}};
        struct policy_program program =
            program_of("{\"qos\": 1, \"acl\": 5, \"rules\": [{\"direction\": \"ingress\","
                       " \"action\": \"deny\"}]}",
                       &pod);

        for (size_t i = 0; i < program.n_flows; i++) {
            for (size_t j = 0; j < i; j++) {
                const struct flow *a = &program.flows[i], *b = &program.flows[j];

                assert_false(a->table == b->table && a->priority == b->priority &&
                             !memcmp(&a->match, &b->match, sizeof(a->match)));
            }
        }
        assert_int_equal(program.n_meters, 2);
        policy_program_clear(&program);
    }
}

/* ---- cookies ---- */

static void test_cookies_tell_instances_and_keys_apart(void **state)
{
    static const char *const one[] = {"net", "pod-1", "eth0"};
    static const char *const two[] = {"net", "pod-2", "eth0"};
    uint64_t all = policy_cookie("/run/sluice", NULL, 0);
    uint64_t a = policy_cookie("/run/sluice", one, 3), b = policy_cookie("/run/sluice", two, 3);

    (void)state;
    assert_int_not_equal(a, b);
    assert_int_equal(a & POLICY_COOKIE_MASK, all);
    assert_int_equal(b & POLICY_COOKIE_MASK, all);
    assert_int_not_equal(policy_cookie("/run/other", one, 3) & POLICY_COOKIE_MASK, all);
    assert_int_not_equal(policy_meter(a, POLICY_TO_POD), policy_meter(a, POLICY_FROM_POD));
    for (uint64_t i = 0; i < 10000; i++) {
        uint32_t meter = policy_meter(i * 0x9e3779b97f4a7c15, POLICY_FROM_POD);

        assert_true(meter > 0 && meter <= 0xffff0000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rule_says_all_that_it_may),
        cmocka_unit_test(test_rules_of_args_come_on_top_and_rates_of_the_runtime_instead),
        cmocka_unit_test(test_qos_is_the_rate_of_the_study),
        cmocka_unit_test(test_nothing_asked_for_is_no_policy),
        cmocka_unit_test(test_what_is_wrong_is_named_with_what_is_allowed),
        cmocka_unit_test(test_a_range_of_ports_is_covered_exactly_once),
        cmocka_unit_test(test_rules_are_a_flow_each_and_of_their_own_family),
        cmocka_unit_test(test_the_generated_rules_are_the_stated_ones),
        cmocka_unit_test(test_no_two_flows_of_a_pod_are_the_same),
        cmocka_unit_test(test_cookies_tell_instances_and_keys_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
