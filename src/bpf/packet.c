/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that reads packets. By copies to the stack, because who sent a packet decides how it lies in
 * memory; a packet that ends before what is read goes to the label for those.
 */
#include "bpf/bpf-internal.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#define VLAN_TAGS_MAX 2
#define IPV6_EXT_MAX  6 /* headers between IPv6's and what it carries; more is nobody's good */

void bpf_packet_read(const struct bpf_packet *p, int offset, int to, int len)
{
    bpf_move(p->code, BPF_REG_1, p->skb);
    bpf_move(p->code, BPF_REG_2, p->at);
    if (offset) {
        bpf_math_with(p->code, BPF_ADD, BPF_REG_2, offset);
    }
    bpf_move(p->code, BPF_REG_3, BPF_REG_10);
    bpf_math_with(p->code, BPF_ADD, BPF_REG_3, to);
    bpf_set(p->code, BPF_REG_4, len);
    bpf_call(p->code, BPF_FUNC_skb_load_bytes);
    bpf_jump_if(p->code, BPF_JNE, BPF_REG_0, 0, p->bad);
}

void bpf_packet_skip_tags(const struct bpf_packet *p)
{
    struct bpf_code *c = p->code;
    int end = bpf_label(c);

    for (int i = 0; i < VLAN_TAGS_MAX; i++) {
        int tag = bpf_label(c);

        bpf_jump_if(c, BPF_JEQ, p->type, htons(ETH_P_8021Q), tag);
        bpf_jump_if(c, BPF_JNE, p->type, htons(ETH_P_8021AD), end);
        bpf_place(c, tag);
        bpf_packet_read(p, 0, p->buffer, 4);
        bpf_load(c, BPF_H, p->type, BPF_REG_10, p->buffer + 2);
        bpf_math_with(c, BPF_ADD, p->at, 4);
    }
    bpf_place(c, end);
}

/* One header further. The first of a packet's fragments says what it is, the others can't. */
static void skip_extension(const struct bpf_packet *p, int icmp, int other)
{
    struct bpf_code *c = p->code;
    int options = bpf_label(c), next = bpf_label(c), fragment = bpf_label(c);

    bpf_jump_if(c, BPF_JEQ, p->type, IPPROTO_ICMPV6, icmp);
    bpf_jump_if(c, BPF_JEQ, p->type, IPPROTO_FRAGMENT, fragment);
    bpf_jump_if(c, BPF_JEQ, p->type, IPPROTO_HOPOPTS, options);
    bpf_jump_if(c, BPF_JEQ, p->type, IPPROTO_ROUTING, options);
    bpf_jump_if(c, BPF_JNE, p->type, IPPROTO_DSTOPTS, other);
    bpf_place(c, options);
    bpf_packet_read(p, 0, p->buffer, 2);
    bpf_load(c, BPF_B, BPF_REG_1, BPF_REG_10, p->buffer + 1);
    bpf_math_with(c, BPF_ADD, BPF_REG_1, 1);
    bpf_math_with(c, BPF_LSH, BPF_REG_1, 3);
    bpf_math(c, BPF_ADD, p->at, BPF_REG_1);
    bpf_jump(c, next);
    bpf_place(c, fragment);
    bpf_packet_read(p, 0, p->buffer, 4);
    bpf_load(c, BPF_H, BPF_REG_1, BPF_REG_10, p->buffer + 2);
    bpf_jump_if(c, BPF_JSET, BPF_REG_1, htons(0xfff8), other);
    bpf_math_with(c, BPF_ADD, p->at, 8);
    bpf_place(c, next);
    bpf_load(c, BPF_B, p->type, BPF_REG_10, p->buffer);
}

void bpf_packet_skip_extensions(const struct bpf_packet *p, int icmp, int other)
{
    for (int i = 0; i < IPV6_EXT_MAX; i++) {
        skip_extension(p, icmp, other);
    }
    bpf_jump_if(p->code, BPF_JEQ, p->type, IPPROTO_ICMPV6, icmp);
    bpf_jump(p->code, p->bad);
}
