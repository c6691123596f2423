/* SPDX-License-Identifier: Apache-2.0 */
/*
 * src/netlink against the kernel: what is built is read back. Needs root. Every test runs in a
 * network namespace of its own, which ends with its last socket.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "netlink/netlink-internal.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct mac_addr mac_1 = {{2, 0, 0, 0, 0, 1}}, mac_2 = {{2, 0, 0, 0, 0, 2}};

static int enter_new_netns(void **state)
{
    struct netlink *nl = NULL;
    struct error err;

    if (unshare(CLONE_NEWNET) < 0 || netlink_open(-1, &nl, &err) < 0) {
        return -1;
    }
    *state = nl;
    return 0;
}

static int leave_netns(void **state)
{
    netlink_close(*state);
    return 0;
}

/* A second network namespace; the caller closes it. */
static int another_netns(void)
{
    int saved = -1, fd = -1;

    assert_int_equal(netns_open_own(&saved, NULL), 0);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_int_equal(netns_open_own(&fd, NULL), 0);
    assert_int_equal(netns_leave(&saved), 0);
    return fd;
}

static void send_all_of(struct netlink *nl)
{
    struct error err;

    if (netlink_send(nl, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static struct link_info look_up(struct netlink *nl, const char *name)
{
    struct link_info info = {0};
    struct error err;

    if (link_get(nl, 0, name, &info, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return info;
}

/* A veth pair in the socket's namespace; returns the first end's ifindex. */
static unsigned make_pair(struct netlink *nl, const char *name, const char *peer_name)
{
    struct link_spec peer = {.name = peer_name, .netns_fd = -1};
    struct link_spec spec = {.kind = "veth", .name = name, .netns_fd = -1, .peer = &peer};

    link_put_create(nl, &spec);
    send_all_of(nl);
    return look_up(nl, name).ifindex;
}

static void set_up(struct netlink *nl, const char *name)
{
    link_put_change(nl, &(struct link_change){.name = name, .up = true});
    send_all_of(nl);
}

/* The standard output of a shell command that must succeed. */
static char *shell(const char *command)
{
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    struct proc_spec spec = {.argv = argv, .output_max = 1 << 20};
    struct proc_result result;
    char *out;

    assert_int_equal(proc_run(&spec, &result), 0);
    if (!proc_ok(&result)) {
        fail_msg("%s: %s", command, result.errout);
    }
    out = take_ptr(result.out);
    proc_result_clear(&result);
    return out;
}

/* ---- devices ---- */

static void test_veth_is_made_with_both_ends_as_asked(void **state)
{
    autoclose int other = another_netns();
    autonetlink struct netlink *there = NULL;
    struct link_spec peer = {
        .name = "host0", .ifindex = 77, .mac = &mac_2, .mtu = 1300, .netns_fd = other};
    struct link_spec spec = {.kind = "veth",
                             .name = "eth0",
                             .ifindex = 55,
                             .mac = &mac_1,
                             .mtu = 1400,
                             .netns_fd = -1,
                             .peer = &peer};
    struct netlink_answer answer;
    struct link_info one, two;

    assert_int_equal(netlink_open(other, &there, NULL), 0);
    link_put_create(*state, &spec);
    assert_int_equal(netlink_send(*state, &answer, NULL), 0);
    assert_int_equal(answer.ifindex, 55);
    one = look_up(*state, "eth0");
    two = look_up(there, "host0");
    assert_int_equal(one.ifindex, 55);
    assert_int_equal(two.ifindex, 77);
    assert_int_equal(one.mtu, 1400);
    assert_int_equal(two.mtu, 1300);
    assert_memory_equal(&one.mac, &mac_1, sizeof(mac_1));
    assert_memory_equal(&two.mac, &mac_2, sizeof(mac_2));
    assert_string_equal(one.kind, "veth");
    assert_int_equal(one.parent, 77);
    assert_int_equal(one.flags & IFF_UP, 0);
}

/* A sub-device in another namespace than its parent, made from either side. False: no such kind. */
static bool make_sub_device(struct netlink *nl, const char *kind)
{
    autoclose int here = -1, other = another_netns();
    autonetlink struct netlink *there = NULL;
    struct link_spec spec = {.kind = kind, .name = "sub0", .netns_fd = other, .parent_nsid = -1};
    bool own_mac = str_has_prefix(kind, "macv");
    struct link_info info;
    struct error err;
    int rc;

    assert_int_equal(netns_open_own(&here, NULL), 0);
    assert_int_equal(netlink_open(other, &there, NULL), 0);
    spec.parent = make_pair(nl, "parent0", "peer0");
    spec.mac = own_mac ? &mac_1 : NULL;
    spec.macvlan_mode = MACVLAN_MODE_BRIDGE;
    spec.ipvlan_mode = 1; /* IPVLAN_MODE_L3 */
    link_put_create(nl, &spec);
    rc = netlink_send(nl, NULL, &err);
    if (rc == -EOPNOTSUPP) {
        print_message("this kernel has no %s: %s\n", kind, err.text);
        return false;
    }
    assert_int_equal(rc, 0);
    info = look_up(there, "sub0");
    assert_string_equal(info.kind, kind);
    assert_int_equal(info.parent, spec.parent);
    if (own_mac) {
        assert_memory_equal(&info.mac, &mac_1, sizeof(mac_1));
    }
    spec.name = "sub1";
    spec.netns_fd = -1;
    spec.mac = own_mac ? &mac_2 : NULL;
    spec.mtu = 1200;
    assert_int_equal(netns_nsid(there, here, &spec.parent_nsid, &err), 0);
    link_put_create(there, &spec);
    send_all_of(there);
    assert_int_equal(look_up(there, "sub1").mtu, 1200);
    return true;
}

/* skip() jumps: nothing may be held here. */
static void test_sub_device(void **state, const char *kind)
{
    if (!make_sub_device(*state, kind)) {
        skip();
    }
}

static void test_macvlan(void **state)
{
    test_sub_device(state, "macvlan");
}

static void test_macvtap(void **state)
{
    test_sub_device(state, "macvtap");
}

static void test_ipvlan(void **state)
{
    test_sub_device(state, "ipvlan");
}

static void test_ipvtap(void **state)
{
    test_sub_device(state, "ipvtap");
}

static void test_bridge_takes_a_port(void **state)
{
    struct link_spec bridge = {
        .kind = "bridge", .name = "br0", .mac = &mac_1, .up = true, .netns_fd = -1};
    autofree char *master = NULL;
    struct link_info info;

    make_pair(*state, "p0", "p1");
    link_put_create(*state, &bridge);
    send_all_of(*state);
    info = look_up(*state, "br0");
    assert_string_equal(info.kind, "bridge");
    assert_memory_equal(&info.mac, &mac_1, sizeof(mac_1));
    assert_true(info.flags & IFF_UP);
    link_put_change(*state, &(struct link_change){.name = "p0", .master = info.ifindex});
    send_all_of(*state);
    master = shell("ip -o link show master br0");
    assert_non_null(strstr(master, "p0@p1"));
}

static void test_tap_goes_with_its_descriptor_unless_persistent(void **state)
{
    autoclose int other = another_netns();
    autonetlink struct netlink *there = NULL;
    struct link_info info;
    struct error err;
    int fd = -1;

    assert_int_equal(netlink_open(other, &there, NULL), 0);
    assert_int_equal(tap_open(other, "tap0", 0, false, &fd, &err), 0);
    assert_string_equal(look_up(there, "tap0").kind, "tun");
    assert_int_equal(link_get(*state, 0, "tap0", &info, &err), -ENODEV);
    close(fd);
    assert_int_equal(link_get(there, 0, "tap0", &info, &err), -ENODEV);
    assert_int_equal(tap_open(-1, "tap1", 0, true, &fd, &err), 0);
    close(fd);
    look_up(*state, "tap1");
    assert_int_equal(tap_open(-1, "tap1", 0, false, &fd, &err), 0); /* opened again */
    close(fd);
}

static void test_tap_errors_have_text(void **state)
{
    struct error err;
    int fd = -1;

    make_pair(*state, "p0", "p1");
    assert_int_equal(tap_open(-1, "sixteen-letters-", 0, false, &fd, &err), -EINVAL);
    assert_string_equal(err.text, "tap sixteen-letters-: a name has at most 15 characters");
    assert_true(tap_open(-1, "p0", 0, false, &fd, &err) < 0);
    assert_true(str_has_prefix(err.text, "open tap p0: "));
    assert_int_equal(fd, -1);
}

static void test_device_is_changed_renamed_moved_and_deleted(void **state)
{
    autoclose int other = another_netns();
    autonetlink struct netlink *there = NULL;
    struct link_change change = {.name = "p0", .mac = &mac_2, .mtu = 1234, .alias = "what it is"};
    struct link_info info;
    struct error err;

    assert_int_equal(netlink_open(other, &there, NULL), 0);
    change.ifindex = make_pair(*state, "p0", "p1");
    change.new_name = "q0";
    change.netns_fd = &other;
    link_put_change(*state, &change);
    send_all_of(*state);
    info = look_up(there, "q0");
    assert_memory_equal(&info.mac, &mac_2, sizeof(mac_2));
    assert_int_equal(info.mtu, 1234);
    assert_string_equal(info.alias, "what it is");
    set_up(there, "q0");
    assert_true(look_up(there, "q0").flags & IFF_UP);
    link_put_change(there, &(struct link_change){.name = "q0", .down = true});
    send_all_of(there);
    assert_false(look_up(there, "q0").flags & IFF_UP);
    link_put_delete(there, info.ifindex, "q0");
    send_all_of(there);
    assert_int_equal(link_get(*state, 0, "p1", &info, &err), -ENODEV); /* the other end too */
    assert_string_equal(err.text, "look up device p1: No such device");
}

static void test_device_without_autoconfiguration_gets_no_ipv6_address(void **state)
{
    autofree char *quiet = NULL;
    autofree char *other = NULL;

    make_pair(*state, "p0", "p1");
    link_put_change(*state, &(struct link_change){.name = "p0", .no_ipv6_autoconf = true});
    link_put_change(*state, &(struct link_change){.name = "p0", .up = true});
    link_put_change(*state, &(struct link_change){.name = "p1", .up = true});
    send_all_of(*state);
    quiet = shell("ip -6 -o addr show dev p0");
    other = shell("ip -6 -o addr show dev p1");
    assert_string_equal(quiet, "");
    assert_non_null(strstr(other, "fe80::"));
}

static void test_peek_tells_what_get_tells(void **state)
{
    struct link_info peeked, got;

    make_pair(*state, "p0", "p1");
    set_up(*state, "p0");
    got = look_up(*state, "p0");
    assert_int_equal(link_peek(*state, "p0", &peeked), 0);
    assert_int_equal(peeked.ifindex, got.ifindex);
    assert_int_equal(peeked.mtu, got.mtu);
    assert_int_equal(peeked.flags & IFF_UP, IFF_UP);
    assert_memory_equal(&peeked.mac, &got.mac, sizeof(got.mac));
    assert_int_equal(link_peek(*state, "nobody", &peeked), -ENODEV);
    assert_int_equal(link_peek(*state, "sixteen-letters-", &peeked), -ENODEV);
}

struct names {
    char text[4096];
    int n, rc;
};

static int note_name(const struct link_info *info, void *cookie)
{
    struct names *names = cookie;
    size_t used = strlen(names->text);

    snprintf(names->text + used, sizeof(names->text) - used, "%s,", info->name);
    names->n++;
    return names->rc;
}

static void test_list_sees_every_device(void **state)
{
    struct names all = {.text = ""}, first = {.rc = -ECANCELED};
    struct error err;

    for (int i = 0; i < 100; i++) { /* more than one datagram */
        struct link_spec spec = {.kind = "bridge", .netns_fd = -1};
        char name[IFNAMSIZ];

        snprintf(name, sizeof(name), "br%d", i);
        spec.name = name;
        link_put_create(*state, &spec);
        send_all_of(*state);
    }
    assert_int_equal(link_list(*state, note_name, &all, &err), 0);
    assert_non_null(strstr(all.text, "lo,"));
    for (int i = 0; i < 100; i++) {
        char name[IFNAMSIZ + 1];

        snprintf(name, sizeof(name), "br%d,", i);
        assert_non_null(strstr(all.text, name));
    }
    assert_int_equal(link_list(*state, note_name, &first, &err), -ECANCELED);
    assert_int_equal(first.n, 1);
    assert_int_equal(link_list(*state, note_name, &all, &err), 0); /* and the socket works on */
}

/* ---- the batch ---- */

static void test_failed_message_does_not_stop_those_behind_it(void **state)
{
    struct link_spec spec = {.kind = "bridge", .name = "br0", .netns_fd = -1};
    struct netlink_answer answers[3];
    struct error err;

    link_put_create(*state, &spec);
    link_put_create(*state, &spec);
    spec.name = "br1";
    link_put_create(*state, &spec);
    assert_int_equal(netlink_send(*state, answers, &err), -EEXIST);
    assert_string_equal(err.text, "create device br0: File exists");
    assert_int_equal(answers[0].errnum, 0);
    assert_int_equal(answers[1].errnum, -EEXIST);
    assert_int_equal(answers[1].ifindex, 0);
    assert_int_equal(answers[2].errnum, 0);
    assert_string_equal(answers[2].name, "br1");
    assert_int_equal(answers[0].ifindex, look_up(*state, "br0").ifindex);
    assert_int_equal(answers[2].ifindex, look_up(*state, "br1").ifindex);
}

static void test_kernels_words_reach_the_error(void **state)
{
    struct netlink_answer answer;
    struct error err;

    make_pair(*state, "p0", "p1");
    link_put_change(*state, &(struct link_change){.name = "p0", .mtu = 100000});
    assert_int_equal(netlink_send(*state, &answer, &err), -EINVAL);
    assert_string_equal(answer.text, "mtu greater than device maximum");
    assert_string_equal(err.text, "set the MTU of device p0: mtu greater than device maximum: "
                                  "Invalid argument");
}

static void test_full_batch_gets_every_answer(void **state)
{
    struct netlink_answer answers[NETLINK_BATCH_MAX];
    struct error err = {0};

    for (int i = 0; i < NETLINK_BATCH_MAX; i++) {
        struct link_spec spec = {.kind = "bridge", .netns_fd = -1};
        char name[IFNAMSIZ];

        snprintf(name, sizeof(name), "br%d", i);
        spec.name = name;
        link_put_create(*state, &spec);
    }
    if (netlink_send(*state, answers, &err) < 0) {
        fail_msg("%s", err.text);
    }
    for (int i = 0; i < NETLINK_BATCH_MAX; i++) {
        assert_int_equal(answers[i].errnum, 0);
        assert_true(answers[i].ifindex > 0);
    }
}

static void test_too_many_messages_are_refused_whole(void **state)
{
    struct netlink_answer answers[NETLINK_BATCH_MAX + 1];
    struct link_spec spec = {.kind = "bridge", .name = "br0", .netns_fd = -1};
    struct link_info info;
    struct error err;

    for (int i = 0; i < NETLINK_BATCH_MAX + 1; i++) {
        link_put_create(*state, &spec);
    }
    assert_int_equal(netlink_send(*state, answers, &err), -EMSGSIZE);
    for (int i = 0; i < NETLINK_BATCH_MAX; i++) {
        assert_true(answers[i].errnum < 0); /* nothing was done */
    }
    assert_int_equal(link_get(*state, 0, "br0", &info, &err), -ENODEV);
    make_pair(*state, "p0", "p1"); /* the socket works on */
}

static void test_too_many_bytes_are_refused_whole(void **state)
{
    char alias[1000];
    struct link_info info;
    struct error err;

    memset(alias, 'a', sizeof(alias));
    alias[sizeof(alias) - 1] = '\0';
    for (int i = 0; i < 40; i++) {
        link_put_change(*state, &(struct link_change){.name = "lo", .alias = alias, .up = true});
    }
    assert_int_equal(netlink_send(*state, NULL, &err), -EMSGSIZE);
    info = look_up(*state, "lo");
    assert_int_equal(info.flags & IFF_UP, 0);
    set_up(*state, "lo");
}

static void test_empty_batch_is_nothing(void **state)
{
    assert_int_equal(netlink_send(*state, NULL, NULL), 0);
}

/* The answers to both would be told apart by nobody. */
static void test_question_inside_a_batch_is_refused(void **state)
{
    struct link_info info;
    struct error err;

    link_put_change(*state, &(struct link_change){.name = "lo", .up = true});
    assert_int_equal(link_get(*state, 0, "lo", &info, &err), -EBUSY);
    assert_false(look_up(*state, "lo").flags & IFF_UP);
}

static void test_sockets_stay_in_their_namespaces(void **state)
{
    autoclose int other = another_netns();
    autonetlink struct netlink *there = NULL;
    struct netns_id before, after;
    autoclose int own = -1;
    struct link_info info;
    struct error err;

    assert_int_equal(netns_open_own(&own, NULL), 0);
    assert_int_equal(netns_identify(own, &before), 0);
    assert_int_equal(netlink_open(other, &there, NULL), 0);
    cleanup_fd(&own);
    assert_int_equal(netns_open_own(&own, NULL), 0);
    assert_int_equal(netns_identify(own, &after), 0);
    assert_true(netns_same(&before, &after));
    make_pair(*state, "here0", "here1");
    make_pair(there, "there0", "there1");
    assert_int_equal(link_get(*state, 0, "there0", &info, &err), -ENODEV);
    assert_int_equal(link_get(there, 0, "here0", &info, &err), -ENODEV);
}

/* ---- addresses and routes ---- */

static struct ip_addr ip_of(const char *text)
{
    struct ip_addr ip = {0};

    assert_int_equal(ip_parse(text, &ip), 0);
    return ip;
}

static void add_address(struct netlink *nl, unsigned ifindex, const char *text)
{
    struct ip_addr ip = ip_of(text);

    addr_put_add(nl, ifindex, &ip);
    send_all_of(nl);
}

static int note_address(unsigned ifindex, const struct ip_addr *ip, void *cookie)
{
    struct names *names = cookie;
    size_t used = strlen(names->text);
    char text[IP_TEXT_MAX];

    snprintf(names->text + used, sizeof(names->text) - used, "%u %s,", ifindex,
             ip_format(ip, true, text));
    return names->rc;
}

static void test_addresses_are_there_at_once(void **state)
{
    struct names all = {.text = ""}, first = {.rc = -ECANCELED};
    autofree char *tentative = NULL;
    autofree char *broadcast = NULL;
    struct ip_addr again = ip_of("10.1.0.5/16");
    unsigned ifindex = make_pair(*state, "p0", "p1");
    char wanted[64];
    struct error err;

    set_up(*state, "p0");
    set_up(*state, "p1");
    add_address(*state, ifindex, "10.1.0.5/16");
    add_address(*state, ifindex, "10.2.0.5/32");
    add_address(*state, ifindex, "fd00::5/64");
    tentative = shell("ip -6 -o addr show dev p0 scope global tentative");
    assert_string_equal(tentative, "");
    broadcast = shell("ip -4 -o addr show dev p0");
    assert_non_null(strstr(broadcast, "10.1.0.5/16 brd 10.1.255.255 "));
    assert_int_equal(addr_list(*state, note_address, &all, &err), 0);
    snprintf(wanted, sizeof(wanted), "%u 10.1.0.5/16,%u 10.2.0.5/32,", ifindex, ifindex);
    assert_non_null(strstr(all.text, wanted));
    snprintf(wanted, sizeof(wanted), "%u fd00::5/64,", ifindex);
    assert_non_null(strstr(all.text, wanted));
    assert_int_equal(addr_list(*state, note_address, &first, &err), -ECANCELED);
    addr_put_add(*state, ifindex, &again);
    assert_int_equal(netlink_send(*state, NULL, &err), -EEXIST);
    assert_true(str_has_prefix(err.text, "add an address: "));
}

struct wanted_route {
    const char *dst;
    struct route_spec found;
};

static int find_route(const struct route_spec *route, void *cookie)
{
    struct wanted_route *wanted = cookie;
    char text[IP_TEXT_MAX];

    if (!strcmp(ip_format(&route->dst, true, text), wanted->dst)) {
        wanted->found = *route;
    }
    return 0;
}

static void test_routes_are_read_back(void **state)
{
    static const struct {
        const char *dst, *gw;
        int mtu, advmss, priority, table, scope, found_scope;
    } cases[] = {
        {"0.0.0.0/0", "10.1.0.1", -1, -1, -1, -1, -1, RT_SCOPE_UNIVERSE},
        {"10.7.0.0/16", NULL, -1, -1, -1, -1, -1, RT_SCOPE_LINK},
        {"10.8.0.0/16", "10.1.0.1", 1300, 1200, 7, 100, -1, RT_SCOPE_UNIVERSE},
        {"10.9.0.0/16", NULL, -1, 1100, 0, -1, RT_SCOPE_LINK, RT_SCOPE_LINK},
        {"fd07::/16", NULL, 1400, -1, 9, -1, -1, RT_SCOPE_UNIVERSE},
        {"fd08::/16", "fd00::1", -1, -1, -1, -1, -1, RT_SCOPE_UNIVERSE},
    };
    unsigned ifindex = make_pair(*state, "p0", "p1");

    set_up(*state, "p0");
    set_up(*state, "p1");
    add_address(*state, ifindex, "10.1.0.5/16");
    add_address(*state, ifindex, "fd00::5/64");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct route_spec route = {.ifindex = ifindex,
                                   .dst = ip_of(cases[i].dst),
                                   .mtu = cases[i].mtu,
                                   .advmss = cases[i].advmss,
                                   .priority = cases[i].priority,
                                   .table = cases[i].table,
                                   .scope = cases[i].scope};
        struct wanted_route wanted = {.dst = cases[i].dst};
        const struct route_spec *found = &wanted.found;
        struct error err;

        if (cases[i].gw) {
            route.gw = ip_of(cases[i].gw);
        }
        route_put_add(*state, &route);
        send_all_of(*state);
        assert_int_equal(route_list(*state, find_route, &wanted, &err), 0);
        assert_int_equal(found->ifindex, ifindex);
        assert_int_equal(found->gw.family, route.gw.family);
        assert_true(!cases[i].gw || ip_same(&found->gw, &route.gw));
        assert_int_equal(found->table, cases[i].table < 0 ? RT_TABLE_MAIN : cases[i].table);
        assert_int_equal(found->scope, cases[i].found_scope);
        assert_int_equal(found->mtu, cases[i].mtu);
        assert_int_equal(found->advmss, cases[i].advmss);
        assert_true(cases[i].priority <= 0 || found->priority == cases[i].priority);
    }
}

static void test_route_without_a_way_has_the_kernels_words(void **state)
{
    unsigned ifindex = make_pair(*state, "p0", "p1");
    struct route_spec route = {ifindex, ip_of("0.0.0.0/0"), ip_of("10.1.0.1"), -1, -1, -1, -1, -1};
    struct error err;

    set_up(*state, "p0");
    route_put_add(*state, &route);
    assert_int_equal(netlink_send(*state, NULL, &err), -ENETUNREACH);
    assert_string_equal(err.text,
                        "add a route: Nexthop has invalid gateway: Network is unreachable");
}

/* ---- qdiscs and filters ---- */

/* Reads until a frame of our type comes (IPv6 has its own to say); false when none does. */
static bool frame_comes(int fd, const char *frame, size_t len)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char buffer[2048];

    while (poll(&pfd, 1, 2000) == 1) {
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n >= (ssize_t)len && !memcmp(buffer, frame, len)) {
            return true;
        }
    }
    return false;
}

static void redirect_between_taps(struct netlink *nl, const char *qdisc)
{
    char frame[64] = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, (char)0x88, (char)0xb5, 'h', 'i'};
    autoclose int in = -1, out = -1;
    struct error err;

    assert_int_equal(tap_open(-1, "in0", 0, false, &in, &err), 0);
    assert_int_equal(tap_open(-1, "out0", 0, false, &out, &err), 0);
    set_up(nl, "in0");
    set_up(nl, "out0");
    qdisc_put_add(nl, look_up(nl, "in0").ifindex, qdisc);
    send_all_of(nl);
    filter_put_redirect(nl, look_up(nl, "in0").ifindex, look_up(nl, "out0").ifindex);
    send_all_of(nl);
    assert_int_equal(write(in, frame, sizeof(frame)), sizeof(frame));
    assert_true(frame_comes(out, frame, sizeof(frame)));
}

static void test_frame_is_redirected_by_ingress(void **state)
{
    redirect_between_taps(*state, "ingress");
}

static void test_frame_is_redirected_by_clsact(void **state)
{
    redirect_between_taps(*state, "clsact");
}

static void test_qdisc_and_filter_errors_have_text(void **state)
{
    unsigned ifindex = make_pair(*state, "p0", "p1");
    struct error err;

    filter_put_redirect(*state, ifindex, ifindex);
    assert_true(netlink_send(*state, NULL, &err) < 0);
    assert_true(str_has_prefix(err.text, "add a redirect filter: "));
    qdisc_put_add(*state, ifindex, "ingress");
    qdisc_put_add(*state, ifindex, "ingress");
    assert_int_equal(netlink_send(*state, NULL, &err), -EEXIST);
    assert_true(str_has_prefix(err.text, "add qdisc ingress: "));
}

/* ---- rates ---- */

static int packet_socket(struct netlink *nl, const char *device)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), size = 8 << 20;

    assert_true(fd >= 0);
    at.sll_ifindex = (int)look_up(nl, device).ifindex;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* Offers more than a device sends, for a while; returns the bytes that came out in that time. */
static uint64_t flood(int out, int in, int64_t duration_ns)
{
    char frame[1500] = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, (char)0x88, (char)0xb5}, got[2048];
    int64_t end = clock_ns() + duration_ns;
    uint64_t bytes = 0;
    ssize_t n;

    while (clock_ns() < end) {
        for (int i = 0; i < 8; i++) {
            (void)send(out, frame, sizeof(frame), 0); /* what is too much is dropped */
        }
        while ((n = recv(in, got, sizeof(got), 0)) > 0) {
            bytes += (uint64_t)n;
        }
        clock_sleep_ns(200000);
    }
    return bytes;
}

static void test_rate_of_a_device_is_kept_within_a_tenth(void **state)
{
    const uint64_t bps = 40000000, burst = 80000;
    unsigned ifindex = make_pair(*state, "p0", "p1");
    autoclose int out = -1, in = -1;
    struct error err;
    uint64_t bits;

    assert_int_equal(tc_tbf_put(*state, ifindex, bps, burst, &err), 0);
    set_up(*state, "p0");
    set_up(*state, "p1");
    out = packet_socket(*state, "p0");
    in = packet_socket(*state, "p1");
    flood(out, in, NSEC_PER_SEC / 10); /* the bucket is empty now */
    bits = 8 * flood(out, in, NSEC_PER_SEC);
    assert_in_range(bits, bps / 10 * 9, bps / 10 * 11);
}

static void test_rate_is_changed_checked_and_taken_away(void **state)
{
    const uint64_t fast = 80000000000ULL; /* more than 32 bits of bytes a second */
    unsigned ifindex = make_pair(*state, "p0", "p1");
    struct error err;

    assert_int_equal(tc_tbf_check(*state, ifindex, 1000000, 20000, &err), -ESTALE);
    assert_string_equal(err.text, "its rate is not limited");
    assert_int_equal(tc_tbf_put(*state, ifindex, fast, 800000000, &err), 0);
    assert_int_equal(tc_tbf_check(*state, ifindex, fast, 800000000, &err), 0);
    assert_int_equal(tc_tbf_put(*state, ifindex, 1000000, 20000, &err), 0);
    assert_int_equal(tc_tbf_check(*state, ifindex, 1000000, 20000, &err), 0);
    assert_int_equal(tc_tbf_check(*state, ifindex, 1000000, 40000, &err), -ESTALE);
    assert_int_equal(tc_tbf_check(*state, ifindex, fast, 20000, &err), -ESTALE);
    assert_string_equal(err.text, "its rate is 1000000 bit/s, not 80000000000");
    assert_int_equal(tc_tbf_put(*state, ifindex, 1, 0, &err), 0); /* a frame fits all the same */
    assert_int_equal(tc_tbf_check(*state, ifindex, 1, 0, &err), 0);
    assert_int_equal(tc_tbf_delete(*state, ifindex, &err), 0);
    assert_int_equal(tc_tbf_check(*state, ifindex, 1, 0, &err), -ESTALE);
    assert_int_equal(tc_tbf_delete(*state, ifindex, &err), 0);
    assert_int_equal(tc_tbf_put(*state, 4711, 1, 0, &err), -ENODEV);
}

/* ---- namespaces ---- */

static void test_namespace_is_made_once_and_removed_for_good(void **state)
{
    char dir[] = "/tmp/sluice-netns-XXXXXX";
    autofree char *path = NULL;
    struct netns_id own, made;
    autoclose int own_fd = -1, fd = -1;
    struct error err;

    (void)state;
    assert_non_null(mkdtemp(dir));
    path = str_printf("%s/n", dir);
    assert_int_equal(netns_create(path, &err), 0);
    assert_int_equal(netns_open(path, &fd, &err), 0);
    assert_int_equal(netns_open_own(&own_fd, &err), 0);
    assert_int_equal(netns_identify(fd, &made), 0);
    assert_int_equal(netns_identify(own_fd, &own), 0);
    assert_false(netns_same(&own, &made));
    assert_int_equal(netns_create(path, &err), -EEXIST);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(netns_delete(path, &err), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(netns_delete(path, &err), 0); /* missing */
    cleanup_fd(&fd);
    fd = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0400);
    assert_int_equal(netns_delete(path, &err), 0); /* bound to nothing */
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(netns_create(path, &err), -ENOENT);
}

static void test_what_is_no_namespace_is_refused(void **state)
{
    char dir[] = "/tmp/sluice-netns-XXXXXX";
    autofree char *fifo = NULL;
    struct error err;
    int fd = -1;

    (void)state;
    assert_non_null(mkdtemp(dir));
    fifo = str_printf("%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(netns_open("/dev/null", &fd, &err), -EINVAL);
    assert_string_equal(err.text, "/dev/null is not a network namespace");
    assert_int_equal(netns_open("/proc/self/ns/mnt", &fd, &err), -EINVAL);
    assert_int_equal(netns_open(fifo, &fd, &err), -EINVAL); /* and does not wait for a writer */
    assert_int_equal(netns_open("/nowhere/n", &fd, &err), -ENOENT);
    assert_string_equal(err.text, "network namespace /nowhere/n: No such file or directory");
    assert_int_equal(fd, -1);
    assert_int_equal(unlink(fifo) | rmdir(dir), 0);
}

static void test_namespace_id_stays(void **state)
{
    autoclose int other = another_netns();
    struct error err;
    int first = -1, second = -2;

    assert_int_equal(netns_nsid(*state, other, &first, &err), 0);
    assert_int_equal(netns_nsid(*state, other, &second, &err), 0);
    assert_true(first >= 0);
    assert_int_equal(first, second);
}

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static void test_no_descriptor_is_left_after_success_or_failure(void **state)
{
    autoclose int no_netns = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int before = count_descriptors();

    (void)state;
    for (int i = 0; i < 3; i++) {
        autoclose int other = another_netns();
        autonetlink struct netlink *nl = NULL;
        struct error err;
        int fd = -1;

        assert_int_equal(netlink_open(other, &nl, &err), 0);
        assert_true(netlink_open(no_netns, &nl, &err) < 0);
        assert_true(netns_open("/dev/null", &fd, &err) < 0);
        assert_true(tap_open(other, "lo", 0, false, &fd, &err) < 0);
        assert_true(tap_open(no_netns, "t", 0, false, &fd, &err) < 0);
        assert_int_equal(tap_open(other, "t", 0, false, &fd, &err), 0);
        close(fd);
    }
    assert_int_equal(count_descriptors(), before);
}

#define in_netns(test) cmocka_unit_test_setup_teardown(test, enter_new_netns, leave_netns)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_netns(test_veth_is_made_with_both_ends_as_asked),
        in_netns(test_macvlan),
        in_netns(test_macvtap),
        in_netns(test_ipvlan),
        in_netns(test_ipvtap),
        in_netns(test_bridge_takes_a_port),
        in_netns(test_tap_goes_with_its_descriptor_unless_persistent),
        in_netns(test_tap_errors_have_text),
        in_netns(test_device_is_changed_renamed_moved_and_deleted),
        in_netns(test_device_without_autoconfiguration_gets_no_ipv6_address),
        in_netns(test_peek_tells_what_get_tells),
        in_netns(test_list_sees_every_device),
        in_netns(test_failed_message_does_not_stop_those_behind_it),
        in_netns(test_kernels_words_reach_the_error),
        in_netns(test_full_batch_gets_every_answer),
        in_netns(test_too_many_messages_are_refused_whole),
        in_netns(test_too_many_bytes_are_refused_whole),
        in_netns(test_empty_batch_is_nothing),
        in_netns(test_question_inside_a_batch_is_refused),
        in_netns(test_sockets_stay_in_their_namespaces),
        in_netns(test_addresses_are_there_at_once),
        in_netns(test_routes_are_read_back),
        in_netns(test_route_without_a_way_has_the_kernels_words),
        in_netns(test_frame_is_redirected_by_ingress),
        in_netns(test_frame_is_redirected_by_clsact),
        in_netns(test_qdisc_and_filter_errors_have_text),
        in_netns(test_rate_of_a_device_is_kept_within_a_tenth),
        in_netns(test_rate_is_changed_checked_and_taken_away),
        in_netns(test_namespace_is_made_once_and_removed_for_good),
        in_netns(test_what_is_no_namespace_is_refused),
        in_netns(test_namespace_id_stays),
        in_netns(test_no_descriptor_is_left_after_success_or_failure),
    };

    if (geteuid() != 0) {
        fprintf(stderr, "needs root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
