/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard of a pod's device against frames: it sits on the egress of one end of a veth, and what
 * it let through comes out of the other. Needs root.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bpf/bpf.h"
#include "netlink/netlink.h"
#include "policy/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct mac_addr own_mac = {{2, 0, 0, 0xaa, 0xbb, 1}};
static const struct mac_addr other_mac = {{2, 0, 0, 0xaa, 0xbb, 2}};

#define OWN_LINK_LOCAL   "fe80::aa:bb01" /* not the one that EUI-64 makes of the MAC */
#define MAC_LINK_LOCAL   "fe80::ff:feaa:bb01"
#define OTHER_LINK_LOCAL "fe80::ff:feaa:bb02"

struct stage {
    struct netlink *nl;
    unsigned ifindex;
    int out, in, prog;
};

static int packet_socket(unsigned ifindex)
{
    struct sockaddr_ll at = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)ifindex};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static int set_stage(void **state)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    struct link_spec peer = {.name = "p1", .netns_fd = -1};
    struct link_spec spec = {.kind = "veth", .name = "p0", .netns_fd = -1, .peer = &peer};
    struct link_info info;
    struct error err;

    if (!stage || unshare(CLONE_NEWNET) < 0 || netlink_open(-1, &stage->nl, &err) < 0) {
        return -1;
    }
    link_put_create(stage->nl, &spec);
    for (int i = 0; i < 2; i++) { /* the kernel's own words would disturb */
        const char *name = i ? "p1" : "p0";

        link_put_change(stage->nl, &(struct link_change){.name = name, .no_ipv6_autoconf = true});
        link_put_change(stage->nl, &(struct link_change){.name = name, .up = true});
    }
    if (netlink_send(stage->nl, NULL, &err) < 0 || link_peek(stage->nl, "p1", &info) < 0) {
        return -1;
    }
    stage->in = packet_socket(info.ifindex);
    if (link_peek(stage->nl, "p0", &info) < 0) {
        return -1;
    }
    stage->ifindex = info.ifindex;
    stage->out = packet_socket(info.ifindex);
    stage->prog = -1;
    *state = stage;
    return 0;
}

static int clear_stage(void **state)
{
    struct stage *stage = *state;

    netlink_close(stage->nl);
    close(stage->out);
    close(stage->in);
    cleanup_fd(&stage->prog);
    free(stage);
    return 0;
}

static void guard(struct stage *stage, const char *const *texts, size_t n)
{
    struct ip_addr ips[16];
    struct error err;

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ip_parse(texts[i], &ips[i]), 0);
    }
    if (policy_guard_load(&own_mac, ips, n, &stage->prog, &err) < 0 ||
        tc_bpf_put(stage->nl, stage->ifindex, true, stage->prog, "guard", &err) < 0) {
        fail_msg("%s", err.text);
    }
}

/* ---- frames ---- */

struct frame {
    uint8_t bytes[256];
    size_t len;
};

static void put(struct frame *frame, const void *data, size_t len)
{
    memcpy(frame->bytes + frame->len, data, len);
    frame->len += len;
}

static void put16(struct frame *frame, unsigned value)
{
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};

    put(frame, bytes, sizeof(bytes));
}

static void put_ip(struct frame *frame, const char *text)
{
    struct ip_addr ip;

    assert_int_equal(ip_parse(text, &ip), 0);
    put(frame, ip.bytes, ip_bytes(&ip));
}

static struct frame ethernet(const struct mac_addr *source)
{
    static const uint8_t to[MAC_LEN] = {2, 9, 9, 9, 9, 9};
    struct frame frame = {.len = 0};

    put(&frame, to, sizeof(to));
    put(&frame, source, sizeof(*source));
    return frame;
}

static void put_ipv4(struct frame *frame, const char *source)
{
    static const uint8_t start[12] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17};
    static const uint8_t udp[8] = {0, 7, 0, 7, 0, 8};

    put16(frame, ETH_P_IP);
    put(frame, start, sizeof(start));
    put_ip(frame, source);
    put_ip(frame, "10.9.9.9");
    put(frame, udp, sizeof(udp));
}

static void put_arp(struct frame *frame, const struct mac_addr *mac, const char *source)
{
    static const uint8_t start[8] = {0, 1, 8, 0, 6, 4, 0, 1};
    static const uint8_t nobody[MAC_LEN];

    put16(frame, ETH_P_ARP);
    put(frame, start, sizeof(start));
    put(frame, mac, sizeof(*mac));
    put_ip(frame, source);
    put(frame, nobody, sizeof(nobody));
    put_ip(frame, "10.9.9.9");
}

static void put_ipv6(struct frame *frame, const char *source, uint8_t next)
{
    uint8_t start[8] = {0x60, 0, 0, 0, 0, 32, next, 255};

    put16(frame, ETH_P_IPV6);
    put(frame, start, sizeof(start));
    put_ip(frame, source);
    put_ip(frame, "ff02::1");
}

static void put_advertisement(struct frame *frame, const char *target)
{
    static const uint8_t start[8] = {136};

    put(frame, start, sizeof(start));
    put_ip(frame, target);
}

/* ---- what comes through ---- */

/* The kernel takes an outer tag off before it shows a frame. */
static struct frame as_shown(const struct frame *frame)
{
    struct frame shown = *frame;
    const uint8_t *type = frame->bytes + 2 * MAC_LEN;

    if ((type[0] << 8 | type[1]) == ETH_P_8021Q || (type[0] << 8 | type[1]) == ETH_P_8021AD) {
        shown.len -= 4;
        memmove(shown.bytes + 2 * MAC_LEN, type + 4, shown.len - 2 * MAC_LEN);
    }
    return shown;
}

static bool comes_out(struct stage *stage, const struct frame *frame)
{
    struct pollfd poll_in = {.fd = stage->in, .events = POLLIN};
    struct frame shown = as_shown(frame);
    uint8_t got[2048];

    if (send(stage->out, frame->bytes, frame->len, 0) < 0) {
        assert_int_equal(errno, ENOBUFS); /* how a drop is told */
    }
    while (poll(&poll_in, 1, 50) > 0) {
        ssize_t n = recv(stage->in, got, sizeof(got), 0);

        if (n >= (ssize_t)shown.len && !memcmp(got, shown.bytes, shown.len)) {
            return true;
        }
    }
    return false;
}

static void expect(struct stage *stage, struct frame frame, bool comes, const char *what)
{
    if (comes_out(stage, &frame) != comes) {
        fail_msg("%s: %s", comes ? "dropped" : "passed", what);
    }
}

#define PASSES(frame)  expect(*state, frame, true, #frame)
#define DROPPED(frame) expect(*state, frame, false, #frame)

static struct frame ipv4(const struct mac_addr *mac, const char *source)
{
    struct frame frame = ethernet(mac);

    put_ipv4(&frame, source);
    return frame;
}

static struct frame arp(const struct mac_addr *mac, const struct mac_addr *sender,
                        const char *source)
{
    struct frame frame = ethernet(mac);

    put_arp(&frame, sender, source);
    return frame;
}

static struct frame advertisement(const char *source, const char *target)
{
    struct frame frame = ethernet(&own_mac);

    put_ipv6(&frame, source, IPPROTO_ICMPV6);
    put_advertisement(&frame, target);
    return frame;
}

static struct frame udp6(const char *source)
{
    struct frame frame = ethernet(&own_mac);

    put_ipv6(&frame, source, IPPROTO_UDP);
    put16(&frame, 7);
    put16(&frame, 7);
    put16(&frame, 8);
    put16(&frame, 0);
    return frame;
}

/* An advertisement behind headers of types (the first in IPv6's own), 8 bytes each. */
static struct frame hidden(const uint8_t *types, size_t n, unsigned fragment, const char *target)
{
    struct frame frame = ethernet(&own_mac);

    put_ipv6(&frame, "fd00::1", types[0]);
    for (size_t i = 0; i < n; i++) {
        uint8_t header[8] = {i + 1 < n ? types[i + 1] : IPPROTO_ICMPV6, 0};

        if (types[i] == IPPROTO_FRAGMENT) {
            header[2] = (uint8_t)(fragment >> 5);
            header[3] = (uint8_t)(fragment << 3 | 1);
        }
        put(&frame, header, sizeof(header));
    }
    put_advertisement(&frame, target);
    return frame;
}

#define HIDDEN(fragment, target, ...)                                                              \
    hidden((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), fragment, target)

static struct frame tagged(unsigned n, unsigned outer, struct frame inner)
{
    struct frame frame = {.len = 0};

    put(&frame, inner.bytes, 2 * MAC_LEN);
    for (unsigned i = 0; i < n; i++) {
        put16(&frame, i + 1 < n ? outer : ETH_P_8021Q);
        put16(&frame, 5);
    }
    put(&frame, inner.bytes + 2 * MAC_LEN, inner.len - 2 * MAC_LEN);
    return frame;
}

static struct frame cut(struct frame frame, size_t len)
{
    frame.len = len;
    return frame;
}

static struct frame of_type(const struct mac_addr *mac, unsigned type)
{
    struct frame frame = ethernet(mac);

    put16(&frame, type);
    put(&frame, "something", 10);
    return frame;
}

/* ---- tests ---- */

static const char *const addresses[] = {"10.1.0.5/24", "10.1.0.6/24", "fd00::1/64", "fd00::2/64"};

static void test_own_ipv4_packets_pass(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    PASSES(ipv4(&own_mac, "10.1.0.5"));
    PASSES(ipv4(&own_mac, "10.1.0.6"));
    PASSES(tagged(1, 0, ipv4(&own_mac, "10.1.0.5")));
    PASSES(tagged(2, ETH_P_8021AD, ipv4(&own_mac, "10.1.0.5")));
}

static void test_foreign_ipv4_sources_are_dropped(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    DROPPED(ipv4(&own_mac, "10.1.0.7"));
    DROPPED(ipv4(&own_mac, "0.0.0.0"));
    DROPPED(ipv4(&other_mac, "10.1.0.5"));
    DROPPED(tagged(1, 0, ipv4(&own_mac, "10.1.0.7")));
    DROPPED(tagged(2, ETH_P_8021AD, ipv4(&own_mac, "10.1.0.7")));
    DROPPED(tagged(2, ETH_P_8021Q, ipv4(&own_mac, "10.1.0.7")));
    DROPPED(tagged(3, ETH_P_8021Q, ipv4(&own_mac, "10.1.0.5")));
    DROPPED(cut(ipv4(&own_mac, "10.1.0.5"), 29));
}

static void test_arp_of_own_addresses_and_probes_pass(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    PASSES(arp(&own_mac, &own_mac, "10.1.0.5"));
    PASSES(arp(&own_mac, &own_mac, "10.1.0.6"));
    PASSES(arp(&own_mac, &own_mac, "0.0.0.0"));
}

static void test_arp_of_others_is_dropped(void **state)
{
    struct frame odd = arp(&own_mac, &own_mac, "10.1.0.5");

    guard(*state, addresses, ARRAY_SIZE(addresses));
    DROPPED(arp(&own_mac, &own_mac, "10.1.0.7"));
    DROPPED(arp(&own_mac, &other_mac, "10.1.0.5"));
    DROPPED(arp(&own_mac, &other_mac, "0.0.0.0"));
    DROPPED(arp(&other_mac, &own_mac, "10.1.0.5"));
    DROPPED(tagged(1, 0, arp(&own_mac, &own_mac, "10.1.0.7")));
    odd.bytes[18] = 8; /* lengths that move the addresses */
    DROPPED(odd);
}

static void test_own_ipv6_packets_pass(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    PASSES(udp6("fd00::1"));
    PASSES(udp6("fd00::2"));
    PASSES(udp6(MAC_LINK_LOCAL));
    PASSES(udp6("::"));
    PASSES(tagged(1, 0, udp6("fd00::2")));
    PASSES(advertisement("fd00::1", "fd00::2"));
    PASSES(advertisement(MAC_LINK_LOCAL, MAC_LINK_LOCAL));
    PASSES(HIDDEN(0, "fd00::1", IPPROTO_HOPOPTS, IPPROTO_FRAGMENT, IPPROTO_DSTOPTS));
    PASSES(HIDDEN(7, "fd00::7", IPPROTO_FRAGMENT)); /* the middle of something */
}

static void test_foreign_ipv6_sources_are_dropped(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    DROPPED(udp6("fd00::3"));
    DROPPED(udp6("fd01::1"));
    DROPPED(udp6(OTHER_LINK_LOCAL));
    DROPPED(udp6(OWN_LINK_LOCAL));
    DROPPED(tagged(1, 0, udp6("fd00::3")));
    DROPPED(cut(udp6("fd00::1"), 37));
}

static void test_advertisements_of_others_addresses_are_dropped(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    DROPPED(advertisement("fd00::1", "fd00::3"));
    DROPPED(advertisement(MAC_LINK_LOCAL, OTHER_LINK_LOCAL));
    DROPPED(advertisement("::", "fd00::3"));
    DROPPED(tagged(1, 0, advertisement("fd00::1", "fd00::3")));
    DROPPED(HIDDEN(0, "fd00::3", IPPROTO_HOPOPTS));
    DROPPED(HIDDEN(0, "fd00::3", IPPROTO_DSTOPTS, IPPROTO_ROUTING));
    DROPPED(HIDDEN(0, "fd00::3", IPPROTO_FRAGMENT));
    DROPPED(HIDDEN(0, "fd00::3", IPPROTO_HOPOPTS, IPPROTO_FRAGMENT, IPPROTO_DSTOPTS));
    DROPPED(HIDDEN(0, "fd00::3", 60, 60, 60, 60, 60, 60, 60));
    DROPPED(cut(advertisement("fd00::1", "fd00::1"), 70));
}

static void test_what_is_neither_ip_nor_arp_is_dropped(void **state)
{
    guard(*state, addresses, ARRAY_SIZE(addresses));
    DROPPED(of_type(&own_mac, 0x88b5));
    DROPPED(of_type(&own_mac, 10)); /* a length: LLC may carry IP, too */
}

static void test_family_without_an_address_is_dropped(void **state)
{
    guard(*state, addresses, 2);
    PASSES(ipv4(&own_mac, "10.1.0.5"));
    DROPPED(udp6(MAC_LINK_LOCAL));
    clear_stage(state);
    assert_int_equal(set_stage(state), 0);
    guard(*state, addresses + 2, 2);
    PASSES(udp6("fd00::1"));
    DROPPED(ipv4(&own_mac, "10.1.0.5"));
    DROPPED(arp(&own_mac, &own_mac, "0.0.0.0"));
}

static void test_without_addresses_the_mac_alone_counts(void **state)
{
    guard(*state, NULL, 0);
    PASSES(ipv4(&own_mac, "10.1.0.7"));
    PASSES(udp6("fd00::3"));
    PASSES(of_type(&own_mac, 0x88b5));
    DROPPED(of_type(&other_mac, 0x88b5));
    DROPPED(ipv4(&other_mac, "10.1.0.7"));
}

static void test_as_many_addresses_as_a_pod_may_have(void **state)
{
    static const char *const many[] = {"fd00::1", "fd00::2", "fd00::3", "fd00::4",
                                       "fd00::5", "fd00::6", "fd00::7", "fd00::8"};

    guard(*state, many, ARRAY_SIZE(many));
    PASSES(advertisement("fd00::8", "fd00::8"));
    DROPPED(udp6("fd00::9"));
}

static void test_guard_is_found_replaced_and_removed(void **state)
{
    struct stage *stage = *state;
    struct tc_bpf_info first, second;
    struct error err;

    assert_int_equal(tc_bpf_get(stage->nl, stage->ifindex, true, &first, &err), -ENOENT);
    guard(stage, addresses, 1);
    assert_int_equal(tc_bpf_get(stage->nl, stage->ifindex, true, &first, &err), 0);
    assert_string_equal(first.name, "guard");
    assert_int_equal(tc_bpf_get(stage->nl, stage->ifindex, false, &second, &err), -ENOENT);
    cleanup_fd(&stage->prog);
    guard(stage, addresses + 1, 1);
    assert_int_equal(tc_bpf_get(stage->nl, stage->ifindex, true, &second, &err), 0);
    assert_int_not_equal(first.prog_id, second.prog_id);
    PASSES(ipv4(&own_mac, "10.1.0.6"));
    DROPPED(ipv4(&own_mac, "10.1.0.5"));
    assert_int_equal(tc_bpf_delete(stage->nl, stage->ifindex, true, &err), 0);
    PASSES(ipv4(&own_mac, "10.1.0.5"));
    assert_int_equal(tc_bpf_delete(stage->nl, stage->ifindex, true, &err), 0);
}

#define on_stage(test) cmocka_unit_test_setup_teardown(test, set_stage, clear_stage)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        on_stage(test_own_ipv4_packets_pass),
        on_stage(test_foreign_ipv4_sources_are_dropped),
        on_stage(test_arp_of_own_addresses_and_probes_pass),
        on_stage(test_arp_of_others_is_dropped),
        on_stage(test_own_ipv6_packets_pass),
        on_stage(test_foreign_ipv6_sources_are_dropped),
        on_stage(test_advertisements_of_others_addresses_are_dropped),
        on_stage(test_what_is_neither_ip_nor_arp_is_dropped),
        on_stage(test_family_without_an_address_is_dropped),
        on_stage(test_without_addresses_the_mac_alone_counts),
        on_stage(test_as_many_addresses_as_a_pod_may_have),
        on_stage(test_guard_is_found_replaced_and_removed),
    };

    if (geteuid() != 0) {
        fprintf(stderr, "needs root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
