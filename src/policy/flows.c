/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies as flows. A packet passes five tables: SOURCE says whose it is and drops what is
 * spoofed, EGRESS has the rules of the pod that sent it, DEST says whom it is for, INGRESS has that
 * pod's rules, OUT gives it to the switch. The metadata holds the cookie of the pod whose turn it
 * is, so that a rule is one flow whatever a pod is known by. All flows of a pod have its cookie;
 * none is shared. What concerns no pod of ours stays with the bridge's own flows.
 */
#include "policy/policy-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define FLOWS_MAX 1000000

/* Table 0 is the bridge's; the others are nobody else's by convention only. */
enum { SOURCE = 0, EGRESS = 50, DEST = 51, INGRESS = 52, OUT = 53 };

/* Within SOURCE, above what others may have put there. */
enum {
    TO_OURS = 64000,
    SPOOFED_MAC = 65000,
    SPOOFED_IP = 65010,
    GENUINE = 65020,
    SPOOFED_NEIGHBOUR = 65030,
    GENUINE_NEIGHBOUR = 65040,
    GENERATED = 65050,
};

/* Within the others. */
enum { DEFAULT = 1, GROUP = 10, KNOWN = 20, RULE_0 = 10, NEIGHBOURS = 65000 };

struct builder {
    const struct policy *policy;
    const struct policy_pod *pod;
    struct flow *flows;
    size_t n, size;
    int rc;
    struct flow nowhere; /* what comes after a failure */
};

/* A new flow, all zero but table, priority and, past SOURCE, the pod's metadata. */
static struct flow *add(struct builder *b, uint8_t table, uint16_t priority)
{
    struct flow *flow = &b->nowhere;

    if (b->rc == 0 && b->n == b->size) {
        size_t size = b->size ? 2 * b->size : 64;
        struct flow *flows =
            size <= 2 * FLOWS_MAX ? reallocarray(b->flows, size, sizeof(*flows)) : NULL;

        b->rc = flows ? 0 : size > 2 * FLOWS_MAX ? -E2BIG : -ENOMEM;
        b->flows = flows ? flows : b->flows;
        b->size = flows ? size : b->size;
    }
    if (b->rc == 0) {
        flow = &b->flows[b->n++];
    }
    *flow = (struct flow){.table = table, .priority = priority};
    if (table != SOURCE) {
        flow->match.has_metadata = true;
        flow->match.metadata = b->pod->cookie;
    }
    return flow;
}

/* ---- what a packet goes through ---- */

static uint32_t pod_meter(const struct builder *b, enum policy_direction direction)
{
    return b->policy->pod[direction].bps && b->pod->metered[direction]
               ? policy_meter(b->pod->cookie, direction)
               : 0;
}

static uint32_t tenant_meter(const struct builder *b, enum policy_direction direction)
{
    return b->pod->tenant_cookie && b->policy->tenant[direction].bps
               ? policy_meter(b->pod->tenant_cookie, direction)
               : 0;
}

/* The pod sent it. */
static void begin_egress(struct builder *b, struct flow *flow)
{
    flow->meter = tenant_meter(b, POLICY_FROM_POD);
    flow->write_metadata = true;
    flow->metadata = b->pod->cookie;
    flow->goto_table = EGRESS;
}

/* It is for the pod. */
static void begin_ingress(struct builder *b, struct flow *flow)
{
    flow->meter = tenant_meter(b, POLICY_TO_POD);
    flow->write_metadata = true;
    flow->metadata = b->pod->cookie;
    flow->goto_table = INGRESS;
}

/* The rules have let it through. */
static void pass(struct builder *b, struct flow *flow, bool ingress)
{
    flow->meter = pod_meter(b, ingress ? POLICY_TO_POD : POLICY_FROM_POD);
    flow->goto_table = ingress ? OUT : DEST;
}

/* ---- whose a packet is ---- */

static struct flow *from_pod(struct builder *b, uint16_t priority, uint16_t eth_type)
{
    struct flow *flow = add(b, SOURCE, priority);

    flow->match.in_port = b->pod->port;
    flow->match.eth_type = eth_type;
    return flow;
}

static struct flow *genuine(struct builder *b, uint16_t priority, uint16_t eth_type)
{
    struct flow *flow = from_pod(b, priority, eth_type);

    flow->match.has_eth_src = true;
    flow->match.eth_src = b->pod->mac;
    begin_egress(b, flow);
    return flow;
}

static void genuine_ipv4(struct builder *b, const struct ip_addr *ip)
{
    struct flow *flow = genuine(b, GENUINE, ETH_P_IP);

    flow->match.src = *ip;
    flow = genuine(b, GENUINE, ETH_P_ARP);
    flow->match.src = *ip;
    flow->match.has_arp_sha = true;
    flow->match.arp_sha = b->pod->mac;
    if (b->pod->shared) {
        from_pod(b, SPOOFED_IP, ETH_P_IP)->match.src = *ip;
        from_pod(b, SPOOFED_IP, ETH_P_ARP)->match.src = *ip;
    }
}

static void genuine_ipv6(struct builder *b, const struct ip_addr *ip)
{
    struct flow *flow = genuine(b, GENUINE, ETH_P_IPV6);

    flow->match.src = *ip;
    flow = genuine(b, GENUINE_NEIGHBOUR, ETH_P_IPV6);
    flow->match.has_ip_proto = flow->match.has_icmp_type = true;
    flow->match.ip_proto = IPPROTO_ICMPV6;
    flow->match.icmp_type = ND_NEIGHBOR_ADVERT;
    flow->match.nd_target = *ip;
    if (b->pod->shared) {
        from_pod(b, SPOOFED_IP, ETH_P_IPV6)->match.src = *ip;
    }
}

/* Advertising another's address is spoofing whatever the source says. */
static void forbid_neighbours(struct builder *b)
{
    struct flow *flow = from_pod(b, SPOOFED_NEIGHBOUR, ETH_P_IPV6);

    flow->match.has_ip_proto = flow->match.has_icmp_type = true;
    flow->match.ip_proto = IPPROTO_ICMPV6;
    flow->match.icmp_type = ND_NEIGHBOR_ADVERT;
    if (b->pod->shared) {
        flow->match.has_eth_src = true;
        flow->match.eth_src = b->pod->mac;
    }
}

/* An address as the network of its own that flows match. */
static struct ip_addr whole(const struct ip_addr *ip)
{
    struct ip_addr all = *ip;

    all.prefix = ip_bits(ip);
    return all;
}

/* fe80:: and the MAC's EUI-64 (RFC 4291, appendix A). */
struct ip_addr policy_link_local(const struct mac_addr *mac)
{
    const uint8_t *m = mac->bytes;

    return (struct ip_addr){
        AF_INET6,
        128,
        {0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}};
}

static void add_sources(struct builder *b)
{
    static const struct ip_addr any4 = {.family = AF_INET, .prefix = 32};
    static const struct ip_addr any6 = {.family = AF_INET6, .prefix = 128};
    struct ip_addr link_local = policy_link_local(&b->pod->mac);
    bool families[2] = {false, false};
    struct flow *flow;

    for (size_t i = 0; i < b->pod->n_ips; i++) {
        struct ip_addr ip = whole(&b->pod->ips[i]);
        bool six = ip.family == AF_INET6;

        (six ? genuine_ipv6 : genuine_ipv4)(b, &ip);
        families[six] = true;
    }
    if (!b->pod->n_ips) {
        genuine(b, GENUINE, 0);
    }
    if (families[0]) { /* "does anybody have my address?" (RFC 5227) */
        flow = genuine(b, GENUINE, ETH_P_ARP);
        flow->match.src = any4;
        flow->match.has_arp_sha = true;
        flow->match.arp_sha = b->pod->mac;
    }
    if (families[1]) {
        genuine_ipv6(b, &link_local);
        genuine(b, GENUINE, ETH_P_IPV6)->match.src = any6;
        forbid_neighbours(b);
    }
    flow = from_pod(b, SPOOFED_MAC, 0);
    if (b->pod->shared) {
        flow->match.has_eth_src = true;
        flow->match.eth_src = b->pod->mac;
    }
}

/* A flow of what is for the pod, for each thing that it is known by. */
static void add_destinations(struct builder *b, uint8_t table, uint16_t priority,
                             void (*then)(struct builder *, struct flow *))
{
    size_t n = b->pod->shared_mac ? b->pod->n_ips : 0;

    for (size_t i = 0; i < (n ? n : 1); i++) {
        int families = n && b->pod->ips[i].family == AF_INET ? 2 : 1; /* IPv4 comes with ARP */

        for (int j = 0; j < families; j++) {
            struct flow *flow = add(b, table, priority);

            flow->match.has_metadata = false;
            flow->match.has_eth_dst = true;
            flow->match.eth_dst = b->pod->mac;
            if (n) {
                flow->match.dst = whole(&b->pod->ips[i]);
                flow->match.eth_type = families == 1 ? ETH_P_IPV6 : j ? ETH_P_ARP : ETH_P_IP;
            }
            then(b, flow);
        }
    }
}

static void go_to_dest(struct builder *b, struct flow *flow)
{
    (void)b;
    flow->goto_table = DEST;
}

/* ---- rules ---- */

static void match_rule(struct flow *flow, const struct policy_rule *rule, int family)
{
    struct flow_match *match = &flow->match;

    match->eth_type = family == AF_INET ? ETH_P_IP : ETH_P_IPV6;
    if (rule->protocol >= 0) {
        match->has_ip_proto = true;
        match->ip_proto = (uint8_t)rule->protocol;
    }
    if (rule->cidr.prefix) {
        *(rule->ingress ? &match->src : &match->dst) = rule->cidr;
    }
}

/* The largest block of ports that starts at one and ends by another, as a mask. */
static uint16_t port_block(uint32_t first, uint32_t last)
{
    uint32_t size = 1;

    while (first % (2 * size) == 0 && first + 2 * size - 1 <= last && size < 0x8000) {
        size *= 2;
    }
    return (uint16_t) ~(size - 1);
}

static void add_rule_of(struct builder *b, const struct policy_rule *rule, int family)
{
    bool all = rule->port_min == 0 && rule->port_max == UINT16_MAX;
    uint32_t port = rule->port_min;

    do {
        struct flow *flow = add(b, rule->ingress ? INGRESS : EGRESS,
                                (uint16_t)(RULE_0 + 2 * rule->priority + (rule->deny ? 1 : 0)));

        match_rule(flow, rule, family);
        if (!all) {
            flow->match.tp_dst = (uint16_t)port;
            flow->match.tp_dst_mask = port_block(port, rule->port_max);
        }
        if (!rule->deny) {
            pass(b, flow, rule->ingress);
        }
        port += all ? 0x10000 : 0x10000U - flow->match.tp_dst_mask;
    } while (b->rc == 0 && port <= rule->port_max);
}

static bool rule_is_of(const struct policy_rule *rule, int family)
{
    return rule->protocol == IPPROTO_ICMP     ? family == AF_INET
           : rule->protocol == IPPROTO_ICMPV6 ? family == AF_INET6
           : rule->cidr.family                ? family == rule->cidr.family
                                              : true;
}

/* Without its neighbours no pod reaches anybody: ARP is no rule's business, and so is this. */
static void add_neighbours(struct builder *b, bool ingress)
{
    for (uint8_t type = ND_ROUTER_SOLICIT; type <= ND_NEIGHBOR_ADVERT; type++) {
        struct flow *flow = add(b, ingress ? INGRESS : EGRESS, NEIGHBOURS);

        flow->match.eth_type = ETH_P_IPV6;
        flow->match.has_ip_proto = flow->match.has_icmp_type = true;
        flow->match.ip_proto = IPPROTO_ICMPV6;
        flow->match.icmp_type = type;
        pass(b, flow, ingress);
    }
}

/* The i-th generated rule: a flow that drops. */
static struct flow *add_generated(struct builder *b, uint8_t table, uint16_t priority, unsigned i)
{
    struct flow *flow = add(b, table, priority);
    uint32_t address = htonl(0xc6120000U + i); /* 198.18.0.0 */

    flow->match.eth_type = ETH_P_IP;
    flow->match.src = (struct ip_addr){.family = AF_INET, .prefix = 32};
    memcpy(flow->match.src.bytes, &address, sizeof(address));
    return flow;
}

static void add_rules(struct builder *b)
{
    static const int families[] = {AF_INET, AF_INET6};
    bool neighbours[2] = {false, false};

    for (size_t i = 0; i < b->policy->n_rules; i++) {
        const struct policy_rule *rule = &b->policy->rules[i];

        for (size_t j = 0; j < ARRAY_SIZE(families); j++) {
            if (rule_is_of(rule, families[j])) {
                add_rule_of(b, rule, families[j]);
                neighbours[rule->ingress] |= rule->deny && families[j] == AF_INET6;
            }
        }
    }
    for (unsigned i = 0; i < b->policy->acl; i++) {
        add_generated(b, INGRESS, RULE_0 + 1, i);
    }
    for (int ingress = 0; ingress < 2; ingress++) {
        if (neighbours[ingress]) {
            add_neighbours(b, ingress);
        }
        pass(b, add(b, ingress ? INGRESS : EGRESS, DEFAULT), ingress);
    }
}

/* ---- the way out ---- */

static void add_outputs(struct builder *b)
{
    struct flow *flow;

    /* From the pod to whom it may concern. */
    add(b, DEST, DEFAULT)->outputs[0] = FLOW_PORT_NORMAL;
    add(b, OUT, DEFAULT)->outputs[0] = FLOW_PORT_NORMAL;
    if (b->pod->shared) {
        /* A switch doesn't send back to where a packet came from: here others are. */
        flow = add(b, DEST, GROUP);
        flow->match.group = true;
        flow->outputs[0] = FLOW_PORT_NORMAL;
        flow->outputs[1] = FLOW_PORT_IN;
        flow = add(b, OUT, KNOWN);
        flow->match.in_port = b->pod->port;
        flow->outputs[0] = FLOW_PORT_IN;
    }
}

/*
 * A meter drops what a queue would hold back. TCP between neighbours then gets a small part of the
 * rate, unless the burst is worth many of its round trips and of its 200 ms before it tries again.
 */
static uint64_t meter_burst(const struct policy_rate *rate)
{
    uint64_t least = rate->bps / 10 * 3;

    return rate->burst_given || rate->burst_bits > least ? rate->burst_bits : least;
}

static void add_meters(const struct policy_rate rates[POLICY_DIRECTIONS], const bool *wanted,
                       uint64_t cookie, struct policy_program *program)
{
    for (enum policy_direction i = 0; i < POLICY_DIRECTIONS; i++) {
        if (rates[i].bps && (!wanted || wanted[i])) {
            program->meters[program->n_meters++] =
                (struct flow_meter){policy_meter(cookie, i), rates[i].bps, meter_burst(&rates[i])};
        }
    }
}

int policy_program(const struct policy *policy, const struct policy_pod *pod,
                   struct policy_program *ret, struct error *err)
{
    struct builder b = {.policy = policy, .pod = pod};
    struct policy_program program = {0};

    add_sources(&b);
    add_destinations(&b, SOURCE, TO_OURS, go_to_dest);
    add_destinations(&b, DEST, KNOWN, begin_ingress);
    add_rules(&b);
    add_outputs(&b);
    if (b.rc < 0) {
        free(b.flows);
        return b.rc == -E2BIG ? error_set(err, b.rc,
                                          "rules: they take more than %d flows; port "
                                          "ranges that aren't powers of two take many",
                                          FLOWS_MAX)
                              : error_sys(err, b.rc, "flows");
    }
    add_meters(policy->pod, pod->metered, pod->cookie, &program);
    program.flows = b.flows;
    program.n_flows = b.n;
    *ret = program;
    return 0;
}

int policy_tenant_program(const struct policy *policy, uint64_t cookie, struct policy_program *ret,
                          struct error *err)
{
    struct policy_pod tenant = {.cookie = cookie};
    struct builder b = {.policy = policy, .pod = &tenant};
    struct policy_program program = {0};

    add(&b, OUT, DEFAULT);
    if (b.rc < 0) {
        return error_sys(err, b.rc, "flows");
    }
    add_meters(policy->tenant, NULL, cookie, &program);
    program.flows = b.flows;
    program.n_flows = b.n;
    *ret = program;
    return 0;
}

int policy_acl_program(unsigned n, const struct ip_addr *pod, uint64_t cookie,
                       struct policy_program *ret, struct error *err)
{
    struct policy_pod nobody = {.cookie = cookie};
    struct builder b = {.pod = &nobody};

    for (unsigned i = 0; i < n; i++) {
        add_generated(&b, SOURCE, GENERATED, i)->match.dst = whole(pod);
    }
    if (b.rc < 0) {
        free(b.flows);
        return error_sys(err, b.rc, "flows");
    }
    *ret = (struct policy_program){.flows = b.flows, .n_flows = b.n};
    return 0;
}

void policy_program_clear(struct policy_program *program)
{
    free(program->flows);
    *program = (struct policy_program){0};
}

/* ---- cookies ---- */

uint64_t policy_cookie(const char *instance, const char *const *key, size_t n)
{
    uint64_t tag = hash64_str(HASH64_START, instance), hash = tag;

    for (size_t i = 0; i < n; i++) {
        hash = hash64_str(hash, key[i]);
    }
    /* The hash's last byte hardly stirs its upper bits: fold them in. */
    return 0x51ceULL << 48 | ((tag ^ tag >> 29) & 0xfff) << 36 |
           (n ? (hash ^ hash >> 31) & ~POLICY_COOKIE_MASK : 0);
}

uint32_t policy_meter(uint64_t cookie, enum policy_direction direction)
{
    uint64_t hash = hash64(HASH64_START, &cookie, sizeof(cookie));

    /* 31 bits of it, and the direction; the ids from 0xffff0000 are reserved. */
    return (uint32_t)((hash ^ hash >> 31) % 0x7fff0000) * 2 + 1 + (uint32_t)direction;
}
