/* SPDX-License-Identifier: Apache-2.0 */
/* A flow as ovs-ofctl(8) writes and reads it, for messages to people. */
#include "ovs/openflow.h"

#include <inttypes.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/socket.h>

/* Text that is cut at the end of its room. */
struct text {
    char *buf;
    size_t size, len;
};

static PRINTF_LIKE(2, 3) void put(struct text *text, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text->buf + text->len, text->size - text->len, fmt, args);
    va_end(args);
    if (n > 0) {
        text->len += (size_t)n < text->size - text->len ? (size_t)n : text->size - text->len - 1;
    }
}

static void put_mac(struct text *text, const char *name, bool has, const struct mac_addr *mac)
{
    char buf[MAC_TEXT_MAX];

    if (has) {
        put(text, ",%s=%s", name, mac_format(mac, buf));
    }
}

static void put_ip(struct text *text, const char *name, const struct ip_addr *ip)
{
    char buf[IP_TEXT_MAX];

    if (ip->family && ip->prefix) {
        put(text, ",%s=%s", name, ip_format(ip, ip->prefix < ip_bits(ip), buf));
    }
}

static void put_network(struct text *text, const struct flow_match *match, const struct ip_addr *ip,
                        bool is_dst)
{
    static const char *const names[3][2] = {
        {"nw_src", "nw_dst"}, {"arp_spa", "arp_tpa"}, {"ipv6_src", "ipv6_dst"}};
    int kind = ip->family == AF_INET6 ? 2 : match->eth_type == ETH_P_ARP;

    put_ip(text, names[kind][is_dst], ip);
}

static void put_ports(struct text *text, const char *name, uint16_t value, uint16_t mask)
{
    if (mask == UINT16_MAX) {
        put(text, ",%s=%u", name, value);
    } else if (mask) {
        put(text, ",%s=0x%x/0x%x", name, value & mask, mask);
    }
}

static void put_match(struct text *text, const struct flow_match *match)
{
    if (match->in_port) {
        put(text, ",in_port=%u", match->in_port);
    }
    if (match->has_metadata) {
        put(text, ",metadata=0x%" PRIx64, match->metadata);
    }
    put_mac(text, "dl_src", match->has_eth_src, &match->eth_src);
    put_mac(text, "dl_dst", match->has_eth_dst, &match->eth_dst);
    if (match->group && !match->has_eth_dst) {
        put(text, ",dl_dst=01:00:00:00:00:00/01:00:00:00:00:00");
    }
    if (match->eth_type) {
        put(text, ",dl_type=0x%04x", match->eth_type);
    }
    if (match->has_ip_proto) {
        put(text, ",nw_proto=%u", match->ip_proto);
    }
    put_network(text, match, &match->src, false);
    put_network(text, match, &match->dst, true);
    put_mac(text, "arp_sha", match->has_arp_sha, &match->arp_sha);
    put_ports(text, "tp_src", match->tp_src, match->tp_src_mask);
    put_ports(text, "tp_dst", match->tp_dst, match->tp_dst_mask);
    if (match->has_icmp_type) {
        put(text, ",%s=%u", match->ip_proto == IPPROTO_ICMPV6 ? "icmpv6_type" : "icmp_type",
            match->icmp_type);
    }
    put_ip(text, "nd_target", &match->nd_target);
}

static void put_output(struct text *text, uint32_t port)
{
    if (port == FLOW_PORT_IN) {
        put(text, "IN_PORT,");
    } else if (port == FLOW_PORT_NORMAL) {
        put(text, "NORMAL,");
    } else if (port != FLOW_PORT_NONE) {
        put(text, "output:%u,", port);
    }
}

static void put_actions(struct text *text, const struct flow *flow)
{
    size_t start = text->len;

    if (flow->meter) {
        put(text, "meter:%u,", flow->meter);
    }
    for (size_t i = 0; i < FLOW_OUTPUTS_MAX; i++) {
        put_output(text, flow->outputs[i]);
    }
    if (flow->write_metadata) {
        put(text, "write_metadata:0x%" PRIx64 ",", flow->metadata);
    }
    if (flow->goto_table) {
        put(text, "goto_table:%u,", flow->goto_table);
    }
    if (text->len == start) {
        put(text, "drop");
    } else if (text->len < text->size - 1) {
        text->buf[--text->len] = '\0'; /* the last comma */
    }
}

const char *flow_format(const struct flow *flow, char *buf, size_t size)
{
    struct text text = {.buf = buf, .size = size};

    put(&text, "table=%u,priority=%u", flow->table, flow->priority);
    put_match(&text, &flow->match);
    put(&text, ",actions=");
    put_actions(&text, flow);
    return buf;
}
