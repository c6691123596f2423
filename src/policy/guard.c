/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard of a pod's device: the rules by which SOURCE in flows.c tells a pod's own packets, as a
 * BPF program. It is for kinds whose pods are switched below OVS, where no flow sees who sends.
 * The pod's addresses are constants of its program.
 */
#include "bpf/bpf.h"
#include "policy/policy-internal.h"

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <string.h>

#define IPV6_SOURCE     8 /* within the header */
#define IPV6_HEADER_LEN 40

/* Kept through calls: the packet, how far it was read, and what comes there (network order). */
enum { PACKET = BPF_REG_6, AT = BPF_REG_7, TYPE = BPF_REG_8 };

/* The stack, from its end. The Ethernet header lies so that its source is aligned. */
enum { ETHERNET = -22, BUFFER = -64 };

struct guard {
    struct bpf_code code;
    struct bpf_packet packet;
    const struct mac_addr *mac;
    const struct ip_addr *ips;
    size_t n_ips;
    struct ip_addr link_local;
    bool has[2]; /* IPv4, IPv6 */
    int pass, drop;
};

/* Drops unless the six bytes at a place of the stack (aligned) are the pod's MAC. */
static void need_mac(struct guard *g, int at)
{
    struct bpf_code *c = &g->code;

    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, at);
    bpf_jump_if_word(c, BPF_JNE, BPF_REG_1, bpf_word(g->mac->bytes), g->drop);
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, at + 4);
    bpf_jump_if(c, BPF_JNE, BPF_REG_1, bpf_half(g->mac->bytes + 4), g->drop);
}

static void check_ipv4(struct guard *g)
{
    struct bpf_code *c = &g->code;

    bpf_packet_read(&g->packet, 12, BUFFER, 4);
    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, BUFFER);
    for (size_t i = 0; i < g->n_ips; i++) {
        if (g->ips[i].family == AF_INET) {
            bpf_jump_if_word(c, BPF_JEQ, BPF_REG_1, bpf_word(g->ips[i].bytes), g->pass);
        }
    }
    bpf_jump(c, g->drop);
}

/* For Ethernet and IPv4; of nobody (a probe, RFC 5227), or of an own address. */
static void check_arp(struct guard *g)
{
    static const uint8_t kind[] = {0, ARPHRD_ETHER, ETH_P_IP >> 8, ETH_P_IP & 0xff, ETH_ALEN, 4};
    enum { SENDER_MAC = 8, SENDER_IP = 14 };
    struct bpf_code *c = &g->code;

    bpf_packet_read(&g->packet, 0, BUFFER, SENDER_IP + 4);
    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, BUFFER);
    bpf_jump_if_word(c, BPF_JNE, BPF_REG_1, bpf_word(kind), g->drop);
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, BUFFER + 4);
    bpf_jump_if(c, BPF_JNE, BPF_REG_1, bpf_half(kind + 4), g->drop);
    need_mac(g, BUFFER + SENDER_MAC);
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, BUFFER + SENDER_IP);
    bpf_load(c, BPF_H, BPF_REG_2, BPF_REG_10, BUFFER + SENDER_IP + 2);
    for (size_t i = 0; i <= g->n_ips; i++) {
        static const struct ip_addr nobody = {.family = AF_INET};
        const struct ip_addr *ip = i < g->n_ips ? &g->ips[i] : &nobody;
        int next = bpf_label(c);

        if (ip->family == AF_INET) {
            bpf_jump_if(c, BPF_JNE, BPF_REG_1, bpf_half(ip->bytes), next);
            bpf_jump_if(c, BPF_JEQ, BPF_REG_2, bpf_half(ip->bytes + 2), g->pass);
        }
        bpf_place(c, next);
    }
    bpf_jump(c, g->drop);
}

static void jump_if_ipv6(struct guard *g, const struct ip_addr *ip, int label)
{
    struct bpf_code *c = &g->code;
    int next = bpf_label(c);

    for (int i = 0; i < 4; i++) {
        bpf_jump_if_word(c, i < 3 ? BPF_JNE : BPF_JEQ, BPF_REG_1 + i, bpf_word(ip->bytes + 4 * i),
                         i < 3 ? next : label);
    }
    bpf_place(c, next);
}

/* Jumps when the address at a place of the stack is one of the pod's. */
static void jump_if_own_ipv6(struct guard *g, int at, int label)
{
    for (int i = 0; i < 4; i++) {
        bpf_load(&g->code, BPF_W, BPF_REG_1 + i, BPF_REG_10, at + 4 * i);
    }
    for (size_t i = 0; i < g->n_ips; i++) {
        if (g->ips[i].family == AF_INET6) {
            jump_if_ipv6(g, &g->ips[i], label);
        }
    }
    jump_if_ipv6(g, &g->link_local, label);
}

/* Who may answer for an address is as little to be believed. TYPE is ICMPv6, at AT. */
static void check_advertisement(struct guard *g)
{
    struct bpf_code *c = &g->code;

    bpf_packet_read(&g->packet, 0, BUFFER, 1);
    bpf_load(c, BPF_B, BPF_REG_1, BPF_REG_10, BUFFER);
    bpf_jump_if(c, BPF_JNE, BPF_REG_1, ND_NEIGHBOR_ADVERT, g->pass);
    bpf_packet_read(&g->packet, 8, BUFFER, 16);
    jump_if_own_ipv6(g, BUFFER, g->pass);
    bpf_jump(c, g->drop);
}

static void check_ipv6(struct guard *g)
{
    static const struct ip_addr nobody = {.family = AF_INET6};
    struct bpf_code *c = &g->code;
    int own = bpf_label(c), icmp = bpf_label(c);

    bpf_packet_read(&g->packet, 0, BUFFER, IPV6_SOURCE + 16);
    jump_if_own_ipv6(g, BUFFER + IPV6_SOURCE, own);
    jump_if_ipv6(g, &nobody, own); /* "has anybody my address?" (RFC 4862) */
    bpf_jump(c, g->drop);
    bpf_place(c, own);
    bpf_load(c, BPF_B, TYPE, BPF_REG_10, BUFFER + 6);
    bpf_math_with(c, BPF_ADD, AT, IPV6_HEADER_LEN);
    bpf_packet_skip_extensions(&g->packet, icmp, g->pass);
    bpf_place(c, icmp);
    check_advertisement(g);
}

static void check_addresses(struct guard *g)
{
    struct bpf_code *c = &g->code;
    int ipv4 = bpf_label(c), ipv6 = bpf_label(c), arp = bpf_label(c);

    bpf_load(c, BPF_H, TYPE, BPF_REG_10, ETHERNET + 2 * ETH_ALEN);
    bpf_packet_skip_tags(&g->packet); /* a third one is of no type that passes */
    if (g->has[0]) {
        bpf_jump_if(c, BPF_JEQ, TYPE, htons(ETH_P_IP), ipv4);
        bpf_jump_if(c, BPF_JEQ, TYPE, htons(ETH_P_ARP), arp);
    }
    if (g->has[1]) {
        bpf_jump_if(c, BPF_JEQ, TYPE, htons(ETH_P_IPV6), ipv6);
    }
    bpf_jump(c, g->drop);
    if (g->has[0]) {
        bpf_place(c, ipv4);
        check_ipv4(g);
        bpf_place(c, arp);
        check_arp(g);
    }
    if (g->has[1]) {
        bpf_place(c, ipv6);
        check_ipv6(g);
    }
}

int policy_guard_load(const struct mac_addr *mac, const struct ip_addr *ips, size_t n_ips,
                      int *ret_fd, struct error *err)
{
    struct guard g = {.mac = mac, .ips = ips, .n_ips = n_ips};
    struct bpf_code *c = &g.code;

    g.link_local = policy_link_local(mac);
    for (size_t i = 0; i < n_ips; i++) {
        g.has[ips[i].family == AF_INET6] = true;
    }
    bpf_code_begin(c);
    g.pass = bpf_label(c);
    g.drop = bpf_label(c);
    g.packet = (struct bpf_packet){c, PACKET, AT, TYPE, BUFFER, g.drop};
    bpf_move(c, PACKET, BPF_REG_1);
    bpf_set(c, AT, 0);
    bpf_packet_read(&g.packet, 0, ETHERNET, ETH_HLEN);
    bpf_set(c, AT, ETH_HLEN);
    need_mac(&g, ETHERNET + ETH_ALEN);
    if (n_ips) {
        check_addresses(&g);
    }
    bpf_place(c, g.pass);
    bpf_return(c, TC_ACT_UNSPEC); /* whoever looks at it next */
    bpf_place(c, g.drop);
    bpf_return(c, TC_ACT_SHOT);
    return bpf_code_load(c, "sluice_guard", ret_fd, err);
}
