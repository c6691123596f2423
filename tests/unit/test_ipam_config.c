/* SPDX-License-Identifier: Apache-2.0 */
/* host-local's configuration: defaults, the older form, and what is refused with which words. */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* members: the inside of the "ipam" object; ' stands for ". */
static int try_config(const char *members, struct ipam_config **ret, struct error *err)
{
    autofree char *text = str_printf("{%s}", members);
    autojson json_t *ipam = NULL;

    for (char *p = text; (p = strchr(p, '\''));) {
        *p = '"';
    }
    assert_int_equal(json_parse(text, strlen(text), &ipam, err), 0);
    return ipam_config_parse(ipam, "net", ret, err);
}

static struct ipam_config *config(const char *members)
{
    struct ipam_config *made = NULL;
    struct error err = {0};

    if (try_config(members, &made, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return made;
}

static void config_defaults(void **state)
{
    __attribute__((cleanup(cleanup_ipam_config))) struct ipam_config *c =
        config("'ranges': [[{'subnet': '10.1.0.0/24'}],"
               "[{'subnet': 'fd00:1::/64'}]], 'routes': [{'dst': '0.0.0.0/0'},"
               "{'dst': '10.9.3.4/16', 'gw': '10.1.0.9', 'mtu': 1400,"
               "'priority': 5}]");
    char text[IP_TEXT_MAX];

    (void)state;
    assert_int_equal(c->n_sets, 2);
    assert_string_equal(ip_format(&c->sets[0].ranges[0].start, false, text), "10.1.0.1");
    assert_string_equal(ip_format(&c->sets[0].ranges[0].end, false, text), "10.1.0.254");
    assert_string_equal(ip_format(&c->sets[0].ranges[0].gateway, false, text), "10.1.0.1");
    assert_string_equal(ip_format(&c->sets[1].ranges[0].start, false, text), "fd00:1::1");
    assert_string_equal(ip_format(&c->sets[1].ranges[0].end, false, text),
                        "fd00:1::ffff:ffff:ffff:ffff");
    assert_int_equal(c->n_routes, 2);
    assert_int_equal(c->routes[0].gw.family, 0);
    assert_int_equal(c->routes[0].mtu, -1);
    assert_string_equal(ip_format(&c->routes[1].dst, true, text), "10.9.0.0/16");
    assert_int_equal(c->routes[1].mtu, 1400);
    assert_int_equal(c->routes[1].priority, 5);
    assert_int_equal(c->routes[1].table, -1);
}

static void config_older_keys_come_first(void **state)
{
    __attribute__((cleanup(cleanup_ipam_config))) struct ipam_config *c =
        config("'subnet': '10.2.0.0/16', 'rangeStart': '10.2.1.0', 'rangeEnd':"
               "'10.2.1.9', 'gateway': '10.2.200.1',"
               "'ranges': [[{'subnet': '10.3.0.0/16'}]]");
    char text[IP_TEXT_MAX];

    (void)state;
    assert_int_equal(c->n_sets, 2);
    assert_string_equal(ip_format(&c->sets[0].ranges[0].end, false, text), "10.2.1.9");
    assert_string_equal(ip_format(&c->sets[0].ranges[0].gateway, false, text), "10.2.200.1");
    assert_string_equal(ip_format(&c->sets[1].ranges[0].subnet, true, text), "10.3.0.0/16");
}

static void config_refusals(void **state)
{
    static const struct {
        const char *members, *said;
    } cases[] = {
        {"", "network net: ipam.ranges: missing; must be a list of 1 to 8 range sets"},
        {"'ranges': []", "ipam.ranges: [] is not allowed"},
        {"'ranges': [[]]", "ipam.ranges[0]: [] is not allowed; must be a range set"},
        {"'ranges': [[4]]", "ipam.ranges[0][0]: 4 is not allowed"},
        {"'ranges': {}", "ipam.ranges: {} is not allowed; must be a list"},
        {"'subnet': 7", "ipam.subnet: 7 is not allowed; must be a string"},
        {"'subnet': '10.0.0.1'", "prefix length"},
        {"'ranges': [[{'subnet': '10.0.0.5/24'}]]",
         "ipam.ranges[0][0].subnet: \"10.0.0.5/24\" is not allowed; must be a subnet without host "
         "bits, here 10.0.0.0/24"},
        {"'ranges': [[{}]]", "ipam.ranges[0][0].subnet: missing"},
        {"'subnet': '10.0.0.0/31'", "prefix length 30 or less"},
        {"'subnet': '10.0.0.0/32'", "prefix length 30 or less"},
        {"'subnet': 'fd00::/127'", "prefix length 126 or less"},
        {"'subnet': '10.0.0.0/24', 'rangeStart': '10.0.1.4'",
         "ipam.rangeStart: \"10.0.1.4\" is not allowed; must be an address of the subnet "
         "10.0.0.0/24"},
        {"'subnet': '10.0.0.0/24', 'rangeEnd': 'fd00::1'", "ipam.rangeEnd"},
        {"'subnet': '10.0.0.0/24', 'rangeEnd': '10.0.0.9/24'", "without prefix length"},
        {"'subnet': '10.0.0.0/24', 'rangeStart': '10.0.0.9', 'rangeEnd': '10.0.0.8'",
         "ipam.rangeStart: \"10.0.0.9\" is not allowed; must be an address not after"},
        {"'subnet': '10.0.0.0/24', 'rangeStart': '10.0.0.255'", "not after the range's end"},
        {"'subnet': '10.0.0.0/24', 'gateway': 'fd00::1'", "ipam.gateway: \"fd00::1\""},
        {"'ranges': [[{'subnet': '10.0.0.0/24'}, {'subnet': 'fd00::/64'}]]",
         "ipam.ranges[0][1].subnet: \"fd00::/64\" is not allowed; must be of the same family"},
        {"'ranges': [[{'subnet': '10.0.0.0/24'}, {'subnet': '10.0.0.0/25'}]]",
         "ipam.ranges[0][1] (10.0.0.1-10.0.0.126) overlaps ipam.ranges[0][0]"},
        {"'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': '10.0.0.0/16'}]]",
         "ipam.ranges[1][0] (10.0.0.1-10.0.255.254) overlaps ipam.ranges[0][0]"},
        {"'subnet': '10.0.0.0/24', 'ranges': [[{'subnet': '10.0.0.0/16'}]]",
         "ipam.ranges[0][0] (10.0.0.1-10.0.255.254) overlaps ipam.subnet"},
        {"'subnet': '10.0.0.0/24', 'routes': [{'gw': '10.0.0.1'}]", "ipam.routes[0].dst: missing"},
        {"'subnet': '10.0.0.0/24', 'routes': [{'dst': '10.0.0.0/8', 'gw': 'fd00::1'}]",
         "ipam.routes[0].gw"},
        {"'subnet': '10.0.0.0/24', 'routes': [{'dst': '10.0.0.0/8', 'mtu': -1}]",
         "ipam.routes[0].mtu: -1 is not allowed"},
        {"'subnet': '10.0.0.0/24', 'resolvConf': 'etc'", "ipam.resolvConf: \"etc\" is not allowed"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ipam_config *c = NULL;
        struct error err = {0};

        assert_int_equal(try_config(cases[i].members, &c, &err), -EINVAL);
        if (!strstr(err.text, cases[i].said)) {
            fail_msg("%s: %s", cases[i].members, err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_defaults),
        cmocka_unit_test(config_older_keys_come_first),
        cmocka_unit_test(config_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
