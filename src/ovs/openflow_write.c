/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenFlow 1.4 messages, written into memory that is large enough. Source: OpenFlow Switch
 * Specification 1.4.0, section 7; field numbers: section 7.2.3.7. Nothing is allocated here.
 */
#include "ovs/openflow-internal.h"

#include <endian.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define ANY          0xffffffffu /* OFPP_ANY, OFPG_ANY, OFP_NO_BUFFER */
#define ALL_TABLES   0xff
#define BUNDLE_ID    1 /* a connection has one at a time */
#define BUNDLE_FLAGS 3 /* atomic, ordered */

/* OXM_OF_*: in the order in which OVS wants what comes first to be there. */
enum field {
    IN_PORT = 0,
    METADATA = 2,
    ETH_DST = 3,
    ETH_SRC = 4,
    ETH_TYPE = 5,
    IP_PROTO = 10,
    IPV4_SRC = 11,
    IPV4_DST = 12,
    TCP_SRC = 13,
    TCP_DST = 14,
    UDP_SRC = 15,
    UDP_DST = 16,
    SCTP_SRC = 17,
    SCTP_DST = 18,
    ICMPV4_TYPE = 19,
    ARP_SPA = 22,
    ARP_TPA = 23,
    ARP_SHA = 24,
    IPV6_SRC = 26,
    IPV6_DST = 27,
    ICMPV6_TYPE = 29,
    ND_TARGET = 31,
};

/* ---- numbers ---- */

static uint8_t *put(uint8_t *at, const void *data, size_t len)
{
    memcpy(at, data, len);
    return at + len;
}

static uint8_t *put_zeros(uint8_t *at, size_t len)
{
    memset(at, 0, len);
    return at + len;
}

static uint8_t *put8(uint8_t *at, uint8_t value)
{
    *at = value;
    return at + 1;
}

static uint8_t *put16(uint8_t *at, uint16_t value)
{
    value = htobe16(value);
    return put(at, &value, sizeof(value));
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    return put(at, &value, sizeof(value));
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    return put(at, &value, sizeof(value));
}

/* ---- small messages ---- */

uint8_t *of_write_header(uint8_t *at, enum of_type type, size_t len, uint32_t xid)
{
    at = put8(at, OF_VERSION);
    at = put8(at, (uint8_t)type);
    at = put16(at, (uint16_t)len);
    return put32(at, xid);
}

/* One element: the bitmap of versions, of which there is one. */
uint8_t *of_write_hello(uint8_t *at, uint32_t xid)
{
    at = of_write_header(at, OF_HELLO, 16, xid);
    at = put16(at, 1);
    at = put16(at, 8);
    return put32(at, 1u << OF_VERSION);
}

uint8_t *of_write_bundle(uint8_t *at, enum of_bundle what, uint32_t xid)
{
    at = of_write_header(at, OF_BUNDLE_CONTROL, 16, xid);
    at = put32(at, BUNDLE_ID);
    at = put16(at, (uint16_t)what);
    return put16(at, BUNDLE_FLAGS);
}

uint8_t *of_write_multipart(uint8_t *at, enum of_multipart what, const void *body, size_t len,
                            uint32_t xid)
{
    at = of_write_header(at, OF_MULTIPART_REQUEST, 16 + len, xid);
    at = put64(at, (uint64_t)what << 48); /* no flags */
    return put(at, body, len);
}

/* A match of anything. */
static uint8_t *put_no_match(uint8_t *at)
{
    at = put16(at, 1);
    at = put16(at, 4);
    return put_zeros(at, 4);
}

void of_write_flows_body(uint8_t *at, uint64_t cookie, uint64_t mask)
{
    at = put8(at, ALL_TABLES);
    at = put_zeros(at, 3);
    at = put32(at, ANY);
    at = put32(at, ANY);
    at = put_zeros(at, 4);
    at = put64(at, cookie);
    at = put64(at, mask);
    put_no_match(at);
}

/* ---- a match ---- */

static uint8_t *put_field(uint8_t *at, enum field field, bool masked, size_t len)
{
    at = put16(at, 0x8000); /* OFPXMC_OPENFLOW_BASIC */
    at = put8(at, (uint8_t)(field << 1 | masked));
    return put8(at, (uint8_t)(masked ? 2 * len : len));
}

static uint8_t *put_field8(uint8_t *at, enum field field, uint8_t value)
{
    return put8(put_field(at, field, false, 1), value);
}

static uint8_t *put_mac(uint8_t *at, enum field field, const struct mac_addr *mac)
{
    return put(put_field(at, field, false, MAC_LEN), mac->bytes, MAC_LEN);
}

/* The bit that tells groups is the lowest of the first byte. */
static uint8_t *put_group(uint8_t *at)
{
    at = put_field(at, ETH_DST, true, MAC_LEN);
    for (int i = 0; i < 2; i++) {
        at = put_zeros(put8(at, 1), MAC_LEN - 1);
    }
    return at;
}

/* A network: OVS wants no bit of the value outside of the mask. */
static uint8_t *put_ip(uint8_t *at, enum field field, const struct ip_addr *ip)
{
    struct ip_addr network = ip_network(ip);
    size_t len = ip_bytes(ip);
    bool masked = ip->prefix < ip_bits(ip);

    if (!ip->family || !ip->prefix) {
        return at;
    }
    at = put(put_field(at, field, masked, len), network.bytes, len);
    for (size_t i = 0; masked && i < len; i++) {
        unsigned bits = ip->prefix <= 8 * i         ? 0
                        : ip->prefix >= 8 * (i + 1) ? 8
                                                    : ip->prefix - 8 * (unsigned)i;

        at = put8(at, (uint8_t)(0xff00 >> bits));
    }
    return at;
}

static uint8_t *put_network(uint8_t *at, const struct flow_match *match, const struct ip_addr *ip,
                            bool is_dst)
{
    enum field field = ip->family == AF_INET6         ? IPV6_SRC
                       : match->eth_type == ETH_P_ARP ? ARP_SPA
                                                      : IPV4_SRC;

    return put_ip(at, field + is_dst, ip);
}

static uint8_t *put_ports(uint8_t *at, enum field field, uint16_t value, uint16_t mask)
{
    bool masked = mask != UINT16_MAX;

    if (!mask) {
        return at;
    }
    at = put16(put_field(at, field, masked, 2), value & mask);
    return masked ? put16(at, mask) : at;
}

static uint8_t *put_transport(uint8_t *at, const struct flow_match *match)
{
    enum field src = match->ip_proto == IPPROTO_UDP    ? UDP_SRC
                     : match->ip_proto == IPPROTO_SCTP ? SCTP_SRC
                                                       : TCP_SRC;

    at = put_ports(at, src, match->tp_src, match->tp_src_mask);
    at = put_ports(at, src + 1, match->tp_dst, match->tp_dst_mask);
    if (match->has_icmp_type) {
        at = put_field8(at, match->ip_proto == IPPROTO_ICMPV6 ? ICMPV6_TYPE : ICMPV4_TYPE,
                        match->icmp_type);
    }
    return put_ip(at, ND_TARGET, &match->nd_target);
}

static uint8_t *put_fields(uint8_t *at, const struct flow_match *match)
{
    if (match->in_port) {
        at = put32(put_field(at, IN_PORT, false, 4), match->in_port);
    }
    if (match->has_metadata) {
        at = put64(put_field(at, METADATA, false, 8), match->metadata);
    }
    if (match->has_eth_dst) {
        at = put_mac(at, ETH_DST, &match->eth_dst);
    } else if (match->group) {
        at = put_group(at);
    }
    if (match->has_eth_src) {
        at = put_mac(at, ETH_SRC, &match->eth_src);
    }
    if (match->eth_type) {
        at = put16(put_field(at, ETH_TYPE, false, 2), match->eth_type);
    }
    if (match->has_ip_proto) {
        at = put_field8(at, IP_PROTO, match->ip_proto);
    }
    at = put_network(at, match, &match->src, false);
    at = put_network(at, match, &match->dst, true);
    if (match->has_arp_sha) {
        at = put_mac(at, ARP_SHA, &match->arp_sha);
    }
    return put_transport(at, match);
}

/* Its length is that of the fields; zeros fill it up to a multiple of 8. */
static uint8_t *put_match(uint8_t *at, const struct flow_match *match)
{
    uint8_t *end = put_fields(at + 4, match);
    size_t len = (size_t)(end - at);

    put16(put16(at, 1), (uint16_t)len);
    return put_zeros(end, -len & 7);
}

/* ---- instructions ---- */

static uint8_t *put_outputs(uint8_t *at, const struct flow *flow)
{
    uint8_t *actions = at + 8;
    uint8_t *end = actions;

    for (size_t i = 0; i < FLOW_OUTPUTS_MAX; i++) {
        if (flow->outputs[i]) {
            end = put16(put16(end, 0), 16); /* OFPAT_OUTPUT */
            end = put_zeros(put32(end, flow->outputs[i]), 8);
        }
    }
    if (end == actions) {
        return at;
    }
    put_zeros(put16(put16(at, 4), (uint16_t)(end - at)), 4); /* OFPIT_APPLY_ACTIONS */
    return end;
}

static uint8_t *put_instructions(uint8_t *at, const struct flow *flow)
{
    if (flow->meter) {
        at = put32(put16(put16(at, 6), 8), flow->meter);
    }
    at = put_outputs(at, flow);
    if (flow->write_metadata) {
        at = put_zeros(put16(put16(at, 2), 24), 4);
        at = put64(put64(at, flow->metadata), UINT64_MAX);
    }
    if (flow->goto_table) {
        at = put_zeros(put8(put16(put16(at, 1), 8), flow->goto_table), 3);
    }
    return at;
}

/* ---- flows, within a bundle ---- */

/* The envelope and what it holds have the same number. */
static void close_envelope(uint8_t *at, const uint8_t *end, uint32_t xid)
{
    of_write_header(at, OF_BUNDLE_ADD, (size_t)(end - at), xid);
    of_write_header(at + 16, OF_FLOW_MOD, (size_t)(end - at) - 16, xid);
}

static uint8_t *put_envelope(uint8_t *at)
{
    at = put32(at + OF_HEADER, BUNDLE_ID);
    return put16(put_zeros(at, 2), BUNDLE_FLAGS) + OF_HEADER;
}

/* A flow_mod up to its match: no time-outs, no buffered packet, no flags. */
static uint8_t *put_flow_mod(uint8_t *at, uint64_t cookie, uint64_t mask, uint8_t table,
                             uint8_t command, uint16_t priority)
{
    at = put64(put64(at, cookie), mask);
    at = put8(put8(at, table), command);
    at = put16(put_zeros(at, 4), priority);
    at = put32(put32(put32(at, ANY), ANY), ANY);
    return put_zeros(at, 4);
}

uint8_t *of_write_add(uint8_t *at, const struct flow *flow, uint64_t cookie, uint32_t xid)
{
    uint8_t *end = put_flow_mod(put_envelope(at), cookie, 0, flow->table, 0, flow->priority);

    end = put_instructions(put_match(end, &flow->match), flow);
    close_envelope(at, end, xid);
    return end;
}

/* By the whole cookie: that is what OVS has an index of. */
uint8_t *of_write_remove(uint8_t *at, uint64_t cookie, uint32_t xid)
{
    uint8_t *end = put_flow_mod(put_envelope(at), cookie, UINT64_MAX, ALL_TABLES, 3, 0);

    end = put_no_match(end);
    close_envelope(at, end, xid);
    return end;
}

/* ---- meters ---- */

static uint32_t to_kilo(uint64_t value, uint32_t least)
{
    uint64_t kilo = value / 1000 + (value % 1000 != 0);

    return kilo < least ? least : kilo > UINT32_MAX ? UINT32_MAX : (uint32_t)kilo;
}

/* In kbit/s with a burst, and a band that drops. */
void of_meter_encode(const struct flow_meter *meter, struct of_meter_config *ret)
{
    uint8_t *at = ret->bands;

    ret->flags = meter->burst_bits ? 1 | 4 : 1;
    ret->len = 16;
    at = put32(put16(put16(at, 1), 16), to_kilo(meter->rate_bps, 1));
    put_zeros(put32(at, to_kilo(meter->burst_bits, 0)), 4);
}

uint8_t *of_write_meter(uint8_t *at, enum of_meter_command command, uint32_t id,
                        const struct of_meter_config *config, uint32_t xid)
{
    size_t len = config ? config->len : 0;

    at = of_write_header(at, OF_METER_MOD, 16 + len, xid);
    at = put16(put16(at, (uint16_t)command), config ? config->flags : 0);
    at = put32(at, id);
    return config ? put(at, config->bands, len) : at;
}
