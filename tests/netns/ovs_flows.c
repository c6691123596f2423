/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpenFlow client on a real Open vSwitch. Run by ovs_flows.bats: ovs_flows DIR BRIDGE, DIR
 * having db.sock and the bridge's management socket; nothing is left on the bridge. What holds is
 * told by ovs-ofctl.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs/openflow-internal.h"
#include "ovs_flows.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define COOKIE 0x51ce000000000001ULL
#define OTHER  0x51ce000000000002ULL
#define MANY   40000

static int setup(void **state)
{
    struct error err;
    struct openflow *of = NULL;

    if (openflow_connect(flows_socket, flows_soon(), &of, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    *state = of;
    return 0;
}

static int teardown(void **state)
{
    openflow_close(*state);
    return flows_none_left();
}

static void apply(struct openflow *of, const struct flow_set *set)
{
    struct error err = {0};
    int rc = openflow_apply(of, set, 1, flows_soon(), NULL, &err);

    assert_string_equal(err.text, "");
    assert_int_equal(rc, 0);
}

static void remove_all(struct openflow *of, uint64_t cookie)
{
    struct flow_set none = {.cookie = cookie};

    apply(of, &none);
}

/* ---- flows come and go ---- */

static void test_flows_are_made_replaced_and_removed(void **state)
{
    struct flow flows[30];
    struct flow_set set = {.cookie = COOKIE, .flows = flows, .n_flows = 30};
    struct flow_set other = {.cookie = OTHER, .flows = flows, .n_flows = 3};
    struct error err = {0};
    size_t n;

    flows_fill(flows, 30, 1, 0);
    apply(*state, &set);
    assert_int_equal(flows_counted(COOKIE), 30);
    flows_fill(flows, 3, 2, 0);
    apply(*state, &other);

    flows_fill(flows, 30, 1, 25); /* five of the old ones stay */
    apply(*state, &set);
    assert_int_equal(flows_counted(COOKIE), 30);
    assert_int_equal(flows_counted(OTHER), 3);
    assert_int_equal(openflow_count(*state, COOKIE, UINT64_MAX, flows_soon(), &n, &err), 0);
    assert_int_equal(n, 30);
    assert_int_equal(openflow_count(*state, COOKIE, 0xffffULL << 48, flows_soon(), &n, &err), 0);
    assert_int_equal(n, 33);

    set.n_flows = 1;
    apply(*state, &set);
    assert_int_equal(flows_counted(COOKIE), 1);
    remove_all(*state, COOKIE);
    assert_int_equal(flows_counted(COOKIE), 0);
    assert_int_equal(flows_counted(OTHER), 3);
    remove_all(*state, OTHER);
    remove_all(*state, OTHER); /* nothing to do */
}

/* A flow that changes its cookie is the last one's who asked for it. */
static void test_the_last_of_two_sets_holds(void **state)
{
    struct flow flows[5];
    struct flow_set sets[] = {{.cookie = COOKIE, .flows = flows, .n_flows = 5},
                              {.cookie = OTHER, .flows = flows, .n_flows = 5},
                              {.cookie = COOKIE, .flows = flows, .n_flows = 2}};
    struct error err = {0};

    flows_fill(flows, 5, 1, 0);
    assert_int_equal(openflow_apply(*state, sets, 3, flows_soon(), NULL, &err), 0);
    assert_int_equal(flows_counted(COOKIE), 2);
    assert_int_equal(flows_counted(OTHER), 3);
    remove_all(*state, COOKIE);
    remove_all(*state, OTHER);
    assert_int_equal(openflow_apply(*state, NULL, 0, flows_soon(), NULL, &err), 0);
}

static void test_forty_thousand_at_once(void **state)
{
    autofree struct flow *flows = calloc(MANY, sizeof(*flows));
    struct flow_set set = {.cookie = COOKIE, .flows = flows, .n_flows = MANY};

    assert_non_null(flows);
    flows_fill(flows, MANY, 1, 0);
    apply(*state, &set);
    assert_int_equal(flows_counted(COOKIE), MANY);
    apply(*state, &set);
    assert_int_equal(flows_counted(COOKIE), MANY);
    remove_all(*state, COOKIE);
}

struct seen {
    size_t n, stop_at;
    uint64_t cookies;
    unsigned tables, priorities;
};

static int see(uint64_t cookie, uint8_t table, uint16_t priority, void *cookie_arg)
{
    struct seen *seen = cookie_arg;

    seen->n++;
    seen->cookies += cookie;
    seen->tables += table;
    seen->priorities += priority;
    return seen->n == seen->stop_at ? -EINTR : 0;
}

static void test_flows_are_listed(void **state)
{
    struct flow flows[3000]; /* more than a message has room for */
    struct flow_set set = {.cookie = COOKIE, .flows = flows, .n_flows = 3000};
    struct seen seen = {0}, stopped = {.stop_at = 5};
    struct error err = {0};

    flows_fill(flows, 3000, 7, 0);
    apply(*state, &set);
    assert_int_equal(openflow_list(*state, COOKIE, UINT64_MAX, flows_soon(), see, &stopped, &err),
                     -EINTR);
    assert_int_equal(stopped.n, 5);
    assert_int_equal(openflow_list(*state, COOKIE, UINT64_MAX, flows_soon(), see, &seen, &err), 0);
    assert_int_equal(seen.n, 3000);
    assert_true(seen.cookies == 3000 * COOKIE);
    assert_int_equal(seen.tables, 3000 * 7);
    assert_int_equal(seen.priorities, 3000 * 100);
    remove_all(*state, COOKIE);
    assert_int_equal(openflow_list(*state, COOKIE, UINT64_MAX, flows_soon(), see, &seen, &err), 0);
    assert_int_equal(seen.n, 3000);
}

/* ---- what a flow can be ---- */

#define MAC(a, b)                                                                                  \
    {                                                                                              \
        {                                                                                          \
            0x02, 0, 0, 0, a, b                                                                    \
        }                                                                                          \
    }

static const struct flow all_sorts[] = {
    {.table = 1, .priority = 1},
    {.table = 1, .priority = 65535, .outputs = {FLOW_PORT_NORMAL, FLOW_PORT_IN}},
    {.table = 1, .match = {.in_port = 5}, .outputs = {7, 9}},
    {.table = 1,
     .match = {.has_metadata = true, .metadata = 0x1122334455667788},
     .write_metadata = true,
     .metadata = 0x8877665544332211,
     .goto_table = 2},
    {.table = 1, .match = {.has_eth_src = true, .has_eth_dst = true, MAC(1, 2), MAC(3, 4)}},
    {.table = 1, .match = {.group = true}, .outputs = {FLOW_PORT_NORMAL}},
    {.table = 1, .match = {.eth_type = ETH_P_IP, .src = {AF_INET, 32, {10, 1, 2, 3}}}},
    {.table = 1, .match = {.eth_type = ETH_P_IP, .src = {AF_INET, 20, {10, 1, 2, 3}}}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IP, .dst = {AF_INET, 0, {10, 1, 2, 3}}, .has_ip_proto = true}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IPV6,
               .src = {AF_INET6, 128, {0xfd, [15] = 1}},
               .dst = {AF_INET6, 61, {0xfd, [7] = 0xff, [15] = 1}}}},
    {.table = 1,
     .match = {.eth_type = ETH_P_ARP,
               .src = {AF_INET, 32, {10, 1, 2, 3}},
               .dst = {AF_INET, 8, {10}},
               .has_arp_sha = true,
               .arp_sha = MAC(5, 6)}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IP,
               .has_ip_proto = true,
               .ip_proto = IPPROTO_TCP,
               .tp_src = 0x1234,
               .tp_src_mask = 0xfff0,
               .tp_dst = 443,
               .tp_dst_mask = 0xffff}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IPV6,
               .has_ip_proto = true,
               .ip_proto = IPPROTO_UDP,
               .tp_src_mask = 0xffff,
               .tp_dst = 0x8000,
               .tp_dst_mask = 0x8000}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IP,
               .has_ip_proto = true,
               .ip_proto = IPPROTO_SCTP,
               .tp_src = 1,
               .tp_src_mask = 0xffff,
               .tp_dst = 2,
               .tp_dst_mask = 0xffff}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IP,
               .has_ip_proto = true,
               .ip_proto = IPPROTO_ICMP,
               .has_icmp_type = true,
               .icmp_type = 8}},
    {.table = 1,
     .match = {.eth_type = ETH_P_IPV6,
               .has_ip_proto = true,
               .ip_proto = IPPROTO_ICMPV6,
               .has_icmp_type = true,
               .icmp_type = ND_NEIGHBOR_ADVERT,
               .nd_target = {AF_INET6, 128, {0xfe, 0x80, [15] = 9}}},
     .goto_table = 53},
};

/* Through our client and through ovs-ofctl, from our text of it, it becomes the same. */
static void test_every_sort_of_flow_is_what_ovs_ofctl_makes_of_its_text(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(all_sorts); i++) {
        struct flow_set set = {.cookie = COOKIE, .flows = &all_sorts[i], .n_flows = 1};
        autofree char *ours = NULL, *theirs = NULL;
        char text[512], command[600];

        apply(*state, &set);
        ours = flows_dumped();
        remove_all(*state, COOKIE);
        flow_format(&all_sorts[i], text, sizeof(text));
        snprintf(command, sizeof(command), "cookie=0x%llx,%s", COOKIE, text);
        free(flows_ofctl("add-flow", command));
        theirs = flows_dumped();
        remove_all(*state, COOKIE);
        assert_non_null(strstr(ours, "cookie=0x51ce"));
        assert_string_equal(ours, theirs);
    }
}

/* ---- refusals ---- */

struct bad {
    struct flow flow;
    const char *words, *text;
};

static const struct bad all_bad[] = {
    {{.table = 3, .goto_table = 2}, "must be there, and come after", "table=3,priority=0,actions="},
    {{.table = 3, .match = {.src = {AF_INET, 32, {10, 1, 2, 3}}}}, "eth_type", "nw_src=10.1.2.3"},
    {{.table = 3, .match = {.eth_type = ETH_P_IP, .tp_dst = 80, .tp_dst_mask = 0xffff}},
     "ip_proto",
     "dl_type=0x0800,tp_dst=80"},
    {{.table = 3, .meter = 77}, "no such meter", "actions=meter:77"},
    {{.table = 255}, "no such table", "table=255"},
    {{.table = 3, .outputs = {0xfffffff0}}, "output port", "output:4294967280"},
};

static void test_a_refused_flow_is_named_and_changes_nothing(void **state)
{
    struct flow flows[20];
    struct flow_set sets[3] = {{.cookie = COOKIE, .flows = flows, .n_flows = 10},
                               {.cookie = OTHER, .flows = flows + 10, .n_flows = 10},
                               {.cookie = COOKIE + 9, .flows = flows, .n_flows = 0}};

    flows_fill(flows, 20, 1, 0);
    apply(*state, &sets[0]);
    sets[0].n_flows = 3;
    for (size_t i = 0; i < ARRAY_SIZE(all_bad); i++) {
        struct error err = {0};
        size_t failed = 77;

        flows[15] = all_bad[i].flow;
        assert_int_equal(openflow_apply(*state, sets, 3, flows_soon(), &failed, &err), -EREMOTEIO);
        assert_int_equal(err.errnum, -EREMOTEIO);
        assert_non_null(strstr(err.text, all_bad[i].words));
        assert_non_null(strstr(err.text, all_bad[i].text));
        assert_int_equal(failed, 1);
        assert_true(openflow_usable(*state));
        assert_int_equal(flows_counted(COOKIE), 10);
        assert_int_equal(flows_counted(OTHER), 0);
    }
    remove_all(*state, COOKIE);
}

/* That there is no room shows only when the bundle is committed. */
static void test_a_full_table_undoes_the_whole_bundle(void **state)
{
    struct flow flows[20];
    struct flow_set sets[2] = {{.cookie = COOKIE, .flows = flows, .n_flows = 10},
                               {.cookie = OTHER, .flows = flows + 10, .n_flows = 10}};
    struct error err = {0};
    size_t failed = 77;

    flows_limit(9, 15);
    flows_fill(flows, 20, 9, 0);
    apply(*state, &sets[0]);
    sets[0].n_flows = 6;
    assert_int_equal(openflow_apply(*state, sets, 2, flows_soon(), &failed, &err), -EREMOTEIO);
    assert_int_equal(failed, 1);
    assert_non_null(strstr(err.text, "table is full"));
    assert_non_null(strstr(err.text, "table=9,"));
    assert_int_equal(flows_counted(COOKIE), 10);
    assert_int_equal(flows_counted(OTHER), 0);
    sets[0].n_flows = 5;
    assert_int_equal(openflow_apply(*state, sets, 2, flows_soon(), &failed, &err), 0);
    assert_int_equal(flows_counted(COOKIE), 5);
    assert_int_equal(flows_counted(OTHER), 10);
    remove_all(*state, COOKIE);
    remove_all(*state, OTHER);
    flows_limit(9, 0);
}

/* The name, in brackets behind the words, is the one that OVS knows. */
static void test_errors_have_the_names_that_ovs_has(void **state)
{
    size_t known = 0;

    (void)state;
    for (uint16_t type = 0; type < 20; type++) {
        for (uint16_t code = 0; code < 20; code++) {
            autofree char *printed = NULL;
            char words[128], hex[64];
            char *name;

            of_error_words(type, code, words, sizeof(words));
            name = strrchr(words, '(');
            if (name) {
                snprintf(hex, sizeof(hex), "0501000c00000001%04x%04x", type, code);
                printed = flows_printed(hex);
                *strchr(name, ')') = '\n';
                assert_non_null(strstr(printed, name + 1));
                known++;
            }
        }
    }
    assert_true(known > 30);
}

static void test_flows_without_a_cookie_are_not_ours(void **state)
{
    struct flow_set sets[] = {{.cookie = COOKIE}, {.cookie = 0}};
    autofree char *flows = NULL;
    struct error err = {0};
    size_t failed = 77;

    assert_int_equal(openflow_apply(*state, sets, 2, flows_soon(), &failed, &err), -EINVAL);
    assert_int_equal(failed, 1);
    assert_non_null(strstr(err.text, "cookie 0"));
    flows = flows_dumped();
    assert_non_null(strstr(flows, "actions=NORMAL")); /* the bridge's own */
}

/* ---- meters ---- */

static void assert_meter(uint32_t id, const char *words)
{
    autofree char *meters = flows_ofctl("dump-meters", NULL);
    char start[32];
    const char *at;

    snprintf(start, sizeof(start), "meter=%u ", id);
    at = strstr(meters, start);
    if (!words) {
        assert_null(at);
        return;
    }
    assert_non_null(at);
    at = strstr(at, "type=drop ");
    assert_non_null(at);
    assert_memory_equal(at + 10, words, strlen(words));
    assert_true(at[10 + strlen(words)] == '\n' || at[10 + strlen(words)] == '\0');
}

static void test_meters_come_change_and_go_with_their_flows(void **state)
{
    struct flow flow = {.table = 1, .meter = 0xffff0000, .outputs = {FLOW_PORT_NORMAL}};
    struct flow_meter meters[] = {{.id = 5, .rate_bps = 1},
                                  {.id = 0xffff0000, .rate_bps = 1500000, .burst_bits = 90001}};
    uint32_t old[] = {5, 0xffff0000, 1234};
    struct flow_set set = {
        .cookie = COOKIE, .flows = &flow, .n_flows = 1, .meters = meters, .n_meters = 2};

    apply(*state, &set);
    assert_meter(5, "rate=1");
    assert_meter(0xffff0000, "rate=1500 burst_size=91");
    apply(*state, &set);
    meters[1].rate_bps = 3000000;
    meters[1].burst_bits = 0;
    apply(*state, &set);
    assert_meter(5, "rate=1");
    assert_meter(0xffff0000, "rate=3000");
    assert_int_equal(flows_counted(COOKIE), 1);

    set = (struct flow_set){.cookie = COOKIE, .old_meters = old, .n_old_meters = 3};
    apply(*state, &set);
    assert_int_equal(flows_counted(COOKIE), 0);
    assert_meter(5, NULL);
    assert_meter(0xffff0000, NULL);
}

static void test_a_failure_leaves_meters_as_they_were(void **state)
{
    struct flow good = {.table = 1, .outputs = {FLOW_PORT_NORMAL}};
    struct flow_meter first[] = {{.id = 5, .rate_bps = 5000000, .burst_bits = 1000}};
    struct flow_meter meters[] = {{.id = 4, .rate_bps = 1000000},
                                  {.id = 5, .rate_bps = 7000000},
                                  {.id = 4, .rate_bps = 2000000},
                                  {.id = 5, .rate_bps = 8000000}};
    struct flow_set before = {.cookie = OTHER, .meters = first, .n_meters = 1};
    struct flow_set sets[] = {
        {.cookie = COOKIE, .flows = &good, .n_flows = 1, .meters = meters, .n_meters = 4},
        {.cookie = COOKIE, .flows = &all_bad[0].flow, .n_flows = 1}};
    uint32_t old[] = {4, 5};
    struct flow_set after = {.cookie = COOKIE, .old_meters = old, .n_old_meters = 2};
    struct error err = {0};
    size_t failed;

    apply(*state, &before);
    assert_int_equal(openflow_apply(*state, sets, 2, flows_soon(), &failed, &err), -EREMOTEIO);
    assert_int_equal(failed, 1);
    assert_meter(4, NULL);
    assert_meter(5, "rate=5000 burst_size=1");
    assert_int_equal(openflow_apply(*state, sets, 1, flows_soon(), &failed, &err), 0);
    assert_meter(4, "rate=2000");
    assert_meter(5, "rate=8000");
    apply(*state, &after);
}

static void test_a_refused_meter_is_named_and_changes_nothing(void **state)
{
    struct flow good = {.table = 1};
    struct flow_meter meters[] = {{.id = 4, .rate_bps = 1000000}, {.id = 0, .rate_bps = 1000}};
    struct flow_set sets[] = {{.cookie = OTHER, .flows = &good, .n_flows = 1},
                              {.cookie = COOKIE, .meters = meters, .n_meters = 2}};
    struct error err = {0};
    size_t failed;

    assert_int_equal(openflow_apply(*state, sets, 2, flows_soon(), &failed, &err), -EREMOTEIO);
    assert_int_equal(failed, 1);
    assert_non_null(strstr(err.text, "meter 0 of 1000 bit/s"));
    assert_meter(4, NULL);
    assert_int_equal(flows_counted(OTHER), 0);
}

/* ---- connections ---- */

static void test_no_switch_there(void **state)
{
    struct openflow *of = NULL;
    struct error err = {0};
    char path[108];

    (void)state;
    assert_int_equal(openflow_path(flows_database, "nobr", path, sizeof(path)), 0);
    assert_int_equal(openflow_connect(path, flows_soon(), &of, &err), -ENOENT);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "no such bridge"));
    assert_int_equal(openflow_connect("br0.mgmt", flows_soon(), &of, &err), -EINVAL);
}

static void test_a_bridge_without_openflow_14_is_told_how_to_allow_it(void **state)
{
    struct openflow *of = NULL;
    struct error err = {0};

    (void)state;
    flows_vsctl("set bridge %s protocols=OpenFlow10,OpenFlow13", flows_bridge);
    assert_int_equal(openflow_connect(flows_socket, flows_soon(), &of, &err), -EPROTONOSUPPORT);
    assert_non_null(strstr(err.text, flows_socket));
    assert_non_null(strstr(err.text, "ovs-vsctl add bridge br0 protocols OpenFlow14"));
    flows_vsctl("add bridge %s protocols OpenFlow14", flows_bridge);
    assert_int_equal(openflow_connect(flows_socket, flows_soon(), &of, &err), 0);
    assert_true(openflow_usable(of));
    flows_vsctl("set bridge %s protocols=OpenFlow10", flows_bridge); /* ends connections */
    assert_false(openflow_usable(of));
    openflow_close(of);
    flows_vsctl("clear bridge %s protocols", flows_bridge);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flows_are_made_replaced_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_last_of_two_sets_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forty_thousand_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flows_are_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_sort_of_flow_is_what_ovs_ofctl_makes_of_its_text,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_flow_is_named_and_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_full_table_undoes_the_whole_bundle, setup, teardown),
        cmocka_unit_test(test_errors_have_the_names_that_ovs_has),
        cmocka_unit_test_setup_teardown(test_flows_without_a_cookie_are_not_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meters_come_change_and_go_with_their_flows, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_failure_leaves_meters_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_meter_is_named_and_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test(test_no_switch_there),
        cmocka_unit_test(test_a_bridge_without_openflow_14_is_told_how_to_allow_it),
    };

    if (argc != 3 || flows_begin(argv[1], argv[2]) < 0) {
        fprintf(stderr, "usage: ovs_flows DIR BRIDGE\n");
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
