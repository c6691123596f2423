/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program of kind `ovs-tc-routing`. One and the same sits where packets come in from OVS (the
 * tenant's end) and at every pod's host end. From a pod: whose MAC or address is not the pod's own
 * is dropped (the rules of policy/guard.c); what is for another pod goes to it, anything else to
 * OVS. From OVS: what is for a pod goes to it, anything else is dropped. ARP and neighbour
 * solicitations go by the address that they ask for, so that the pod itself answers. One look-up
 * instead of a chain of filters: the number of pods makes no difference.
 */
#include "bpf/bpf.h"
#include "kind/tc-internal.h"

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#define ROUTES_MAX 8192
#define OWNERS_MAX 4096

/* Kept through calls; SELF is the pod that sent it (its route), or 0: OVS did. */
enum { SKB = BPF_REG_6, AT = BPF_REG_7, TYPE = BPF_REG_8, SELF = BPF_REG_9 };

/* Ethernet's header and IPv4's, read in one go; ARP and IPv6 are longer. */
#define START_LEN (ETH_HLEN + 20)

/* The stack, from its end; the Ethernet header lies so that its source, and what is behind it, is
 * aligned. */
enum { ETHERNET = -38, BUFFER = -80, KEY = -104, KEY_BYTES = KEY + 4, TO = -120 };

struct maker {
    struct bpf_code *c;
    struct bpf_packet packet;
    unsigned ifindex; /* of the tenant's end */
    int routes;       /* the table */
    int from_ovs, to_ovs, route, deliver, drop;
};

static void read_packet(struct maker *m, int offset, int to, int len)
{
    bpf_packet_read(&m->packet, offset, to, len);
}

/* Copies words of the stack behind each other, and zeros up to the key's end. */
static void set_key(struct maker *m, uint32_t family, int from, int bytes)
{
    bpf_store_value(m->c, BPF_W, BPF_REG_10, KEY, (int32_t)family);
    for (int i = 0; i < 16; i += 4) {
        if (i < bytes) {
            bpf_load(m->c, BPF_W, BPF_REG_1, BPF_REG_10, from + i);
            bpf_store(m->c, BPF_W, BPF_REG_10, KEY_BYTES + i, BPF_REG_1);
        } else {
            bpf_store_value(m->c, BPF_W, BPF_REG_10, KEY_BYTES + i, 0);
        }
    }
}

/* Register 0: the key's route; goes to the label when there is none. */
static void look_up(struct maker *m, int none)
{
    bpf_set_map(m->c, BPF_REG_1, m->routes);
    bpf_move(m->c, BPF_REG_2, BPF_REG_10);
    bpf_math_with(m->c, BPF_ADD, BPF_REG_2, KEY);
    bpf_call(m->c, BPF_FUNC_map_lookup_elem);
    bpf_jump_if(m->c, BPF_JEQ, BPF_REG_0, 0, none);
}

/* Drops unless the key is an address of the pod that sent it. */
static void need_own(struct maker *m)
{
    look_up(m, m->drop);
    bpf_load(m->c, BPF_W, BPF_REG_1, BPF_REG_0, offsetof(struct tc_route, ifindex));
    bpf_load(m->c, BPF_W, BPF_REG_2, SELF, offsetof(struct tc_route, ifindex));
    bpf_jump_if_reg(m->c, BPF_JNE, BPF_REG_1, BPF_REG_2, m->drop);
}

/* Drops unless the bytes at a place of the stack (aligned) are that pod's MAC. */
static void need_own_mac(struct maker *m, int at)
{
    const int mac = offsetof(struct tc_route, mac);

    bpf_load(m->c, BPF_W, BPF_REG_1, BPF_REG_10, at);
    bpf_load(m->c, BPF_W, BPF_REG_2, SELF, mac);
    bpf_jump_if_reg(m->c, BPF_JNE, BPF_REG_1, BPF_REG_2, m->drop);
    bpf_load(m->c, BPF_H, BPF_REG_1, BPF_REG_10, at + 4);
    bpf_load(m->c, BPF_H, BPF_REG_2, SELF, mac + 4);
    bpf_jump_if_reg(m->c, BPF_JNE, BPF_REG_1, BPF_REG_2, m->drop);
}

/* The key says for whom it is. */
static void go(struct maker *m)
{
    bpf_jump_if(m->c, BPF_JEQ, SELF, 0, m->deliver);
    bpf_jump(m->c, m->route);
}

static void take_ipv4(struct maker *m)
{
    enum { HEADER = ETHERNET + ETH_HLEN, SOURCE = HEADER + 12, DESTINATION = HEADER + 16 };
    int foreign = bpf_label(m->c);

    bpf_jump_if(m->c, BPF_JEQ, SELF, 0, foreign);
    set_key(m, TC_IPV4, SOURCE, 4);
    need_own(m);
    bpf_place(m->c, foreign);
    set_key(m, TC_IPV4, DESTINATION, 4);
    go(m);
}

/* For Ethernet and IPv4; from a pod: of nobody (a probe, RFC 5227), or of an own address. */
static void take_arp(struct maker *m)
{
    static const uint8_t kind[] = {0, ARPHRD_ETHER, ETH_P_IP >> 8, ETH_P_IP & 0xff, ETH_ALEN, 4};
    enum { SENDER_MAC = 8, SENDER_IP = 14, TARGET_IP = 24 };
    struct bpf_code *c = m->c;
    int genuine = bpf_label(c);

    read_packet(m, 0, BUFFER, TARGET_IP + 4);
    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, BUFFER);
    bpf_jump_if_word(c, BPF_JNE, BPF_REG_1, bpf_word(kind), m->drop);
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, BUFFER + 4);
    bpf_jump_if(c, BPF_JNE, BPF_REG_1, bpf_half(kind + 4), m->drop);
    bpf_jump_if(c, BPF_JEQ, SELF, 0, genuine);
    need_own_mac(m, BUFFER + SENDER_MAC);
    /* It is not aligned: to where an aligned one would be read. */
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, BUFFER + SENDER_IP);
    bpf_store(c, BPF_H, BPF_REG_10, TO, BPF_REG_1);
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, BUFFER + SENDER_IP + 2);
    bpf_store(c, BPF_H, BPF_REG_10, TO + 2, BPF_REG_1);
    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, TO);
    bpf_jump_if(c, BPF_JEQ, BPF_REG_1, 0, genuine);
    set_key(m, TC_IPV4, TO, 4);
    need_own(m);
    bpf_place(c, genuine);
    set_key(m, TC_IPV4, BUFFER + TARGET_IP, 4);
    go(m);
}

/* The source is an own address or nobody's (RFC 4862); TO gets the destination. */
static void take_ipv6_header(struct maker *m)
{
    enum { NEXT = 6, SOURCE = 8, DESTINATION = 24, LENGTH = 40 };
    struct bpf_code *c = m->c;
    int check = bpf_label(c), genuine = bpf_label(c);

    read_packet(m, 0, BUFFER, LENGTH);
    for (int i = 0; i < 16; i += 4) {
        bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, BUFFER + DESTINATION + i);
        bpf_store(c, BPF_W, BPF_REG_10, TO + i, BPF_REG_1);
    }
    bpf_load(c, BPF_B, TYPE, BPF_REG_10, BUFFER + NEXT);
    bpf_math_with(c, BPF_ADD, AT, LENGTH);
    bpf_jump_if(c, BPF_JEQ, SELF, 0, genuine);
    for (int i = 0; i < 16; i += 4) {
        bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_10, BUFFER + SOURCE + i);
        bpf_jump_if(c, BPF_JNE, BPF_REG_1, 0, check);
    }
    bpf_jump(c, genuine);
    bpf_place(c, check);
    set_key(m, TC_IPV6, BUFFER + SOURCE, 16);
    need_own(m);
    bpf_place(c, genuine);
}

/* A pod must not answer for an address of another's; a solicitation goes to whom it asks for. */
static void take_ipv6(struct maker *m)
{
    struct bpf_code *c = m->c;
    int icmp = bpf_label(c), other = bpf_label(c), advertisement = bpf_label(c);

    take_ipv6_header(m);
    bpf_packet_skip_extensions(&m->packet, icmp, other);
    bpf_place(c, icmp);
    read_packet(m, 0, BUFFER, 4);
    bpf_load(c, BPF_B, BPF_REG_1, BPF_REG_10, BUFFER);
    bpf_jump_if(c, BPF_JEQ, BPF_REG_1, ND_NEIGHBOR_ADVERT, advertisement);
    bpf_jump_if(c, BPF_JNE, BPF_REG_1, ND_NEIGHBOR_SOLICIT, other);
    read_packet(m, 8, TO, 16);
    bpf_jump(c, other);
    bpf_place(c, advertisement);
    bpf_jump_if(c, BPF_JEQ, SELF, 0, other);
    read_packet(m, 8, BUFFER, 16);
    set_key(m, TC_IPV6, BUFFER, 16);
    need_own(m);
    bpf_place(c, other);
    set_key(m, TC_IPV6, TO, 16);
    go(m);
}

/* Whose it is: SELF. Registers 1 to 5 go. */
static void find_sender(struct maker *m)
{
    struct bpf_code *c = m->c;

    bpf_set(c, SELF, 0);
    bpf_load(c, BPF_W, BPF_REG_1, SKB, offsetof(struct __sk_buff, ifindex));
    bpf_jump_if_word(c, BPF_JEQ, BPF_REG_1, m->ifindex, m->from_ovs);
    bpf_store_value(c, BPF_W, BPF_REG_10, KEY, TC_DEVICE);
    bpf_store(c, BPF_W, BPF_REG_10, KEY_BYTES, BPF_REG_1);
    for (int i = 4; i < 16; i += 4) {
        bpf_store_value(c, BPF_W, BPF_REG_10, KEY_BYTES + i, 0);
    }
    look_up(m, m->drop);
    bpf_move(c, SELF, BPF_REG_0);
    need_own_mac(m, ETHERNET + ETH_ALEN);
    bpf_place(c, m->from_ovs);
}

static void jump_if_through_ovs(struct maker *m, int route)
{
    bpf_load(m->c, BPF_W, BPF_REG_1, route, offsetof(struct tc_route, flags));
    bpf_jump_if(m->c, BPF_JSET, BPF_REG_1, TC_THROUGH_OVS, m->to_ovs);
}

/* From a pod, the key being the destination. */
static void put_route(struct maker *m)
{
    struct bpf_code *c = m->c;

    bpf_place(c, m->route);
    jump_if_through_ovs(m, SELF);
    look_up(m, m->to_ovs);
    jump_if_through_ovs(m, BPF_REG_0);
    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_0, offsetof(struct tc_route, ifindex));
    bpf_load(c, BPF_W, BPF_REG_2, SELF, offsetof(struct tc_route, ifindex));
    bpf_jump_if_reg(c, BPF_JEQ, BPF_REG_1, BPF_REG_2, m->to_ovs); /* it tells of itself */
    bpf_set(c, BPF_REG_2, 0);
    bpf_call(c, BPF_FUNC_redirect);
    bpf_exit(c);
    bpf_place(c, m->to_ovs);
    bpf_set(c, BPF_REG_1, (int32_t)m->ifindex);
    bpf_set(c, BPF_REG_2, 0);
    bpf_call(c, BPF_FUNC_redirect);
    bpf_exit(c);
}

/* From OVS. */
static void put_deliver(struct maker *m)
{
    struct bpf_code *c = m->c;

    bpf_place(c, m->deliver);
    look_up(m, m->drop);
    bpf_load(c, BPF_W, BPF_REG_1, BPF_REG_0, offsetof(struct tc_route, ifindex));
    bpf_set(c, BPF_REG_2, 0);
    bpf_call(c, BPF_FUNC_redirect);
    bpf_exit(c);
    bpf_place(c, m->drop);
    bpf_return(c, TC_ACT_SHOT);
}

static void make(struct maker *m)
{
    struct bpf_code *c = m->c;
    int ipv4 = bpf_label(c), ipv6 = bpf_label(c);

    bpf_move(c, SKB, BPF_REG_1);
    bpf_set(c, AT, 0);
    bpf_load(c, BPF_W, BPF_REG_1, SKB, offsetof(struct __sk_buff, vlan_present));
    bpf_jump_if(c, BPF_JNE, BPF_REG_1, 0, m->drop);
    read_packet(m, 0, ETHERNET, START_LEN);
    find_sender(m);
    bpf_set(c, AT, ETH_HLEN);
    bpf_load(c, BPF_H, TYPE, BPF_REG_10, ETHERNET + 2 * ETH_ALEN);
    bpf_jump_if(c, BPF_JEQ, TYPE, htons(ETH_P_IP), ipv4);
    bpf_jump_if(c, BPF_JEQ, TYPE, htons(ETH_P_IPV6), ipv6);
    bpf_jump_if(c, BPF_JNE, TYPE, htons(ETH_P_ARP), m->drop);
    take_arp(m);
    bpf_place(c, ipv4);
    take_ipv4(m);
    bpf_place(c, ipv6);
    take_ipv6(m);
    put_route(m);
    put_deliver(m);
}

void tc_switch_close(struct tc_switch *sw)
{
    cleanup_fd(&sw->program);
    cleanup_fd(&sw->routes);
    cleanup_fd(&sw->owners);
    sw->program = sw->routes = sw->owners = -1;
}

/* The program does not use the owners, but holds them. */
static void hold(struct bpf_code *code, int map_fd)
{
    bpf_set_map(code, BPF_REG_2, map_fd);
}

int tc_program_load(unsigned ifindex, struct tc_switch *ret, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    struct bpf_code code;
    struct maker m = {.c = &code, .ifindex = ifindex};
    int rc = bpf_table_new("sluice_routes", sizeof(struct tc_key), sizeof(struct tc_route),
                           ROUTES_MAX, &sw.routes, err);

    if (rc == 0) {
        rc = bpf_table_new("sluice_owners", IFNAMSIZ, sizeof(struct tc_owner), OWNERS_MAX,
                           &sw.owners, err);
    }
    if (rc < 0) {
        return rc;
    }
    bpf_code_begin(&code);
    m.routes = sw.routes;
    m.from_ovs = bpf_label(&code);
    m.to_ovs = bpf_label(&code);
    m.route = bpf_label(&code);
    m.deliver = bpf_label(&code);
    m.drop = bpf_label(&code);
    m.packet = (struct bpf_packet){&code, SKB, AT, TYPE, BUFFER, m.drop};
    hold(&code, sw.owners);
    make(&m);
    rc = bpf_code_load(&code, TC_PROGRAM_NAME, &sw.program, err);
    if (rc == 0) {
        sw.ifindex = ifindex;
        *ret = sw;
        sw = (struct tc_switch)TC_SWITCH_NONE;
    }
    return rc;
}
