/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pod may send and receive, and how fast: security-group rules and rates, read from a
 * network configuration (rules.c, rates.c), turned into flows of the pod's OVS bridge (flows.c) and
 * a program that guards a device against spoofing (guard.c). Pure but for guard.c. Used by kind and
 * cni.
 *
 * Rules are stateless, as a network ACL's: an answer must be allowed as the question is.
 */
#pragma once

#include "json/json.h"
#include "ovs/openflow.h"

#define POLICY_RULES_MAX    10000
#define POLICY_PRIORITY_MAX 30000
#define POLICY_ACL_MAX      131072 /* addresses of 198.18.0.0/15 */

struct policy_rule {
    bool ingress; /* to the pod; else from it */
    bool deny;
    int protocol;                /* IP protocol number; -1: any */
    struct ip_addr cidr;         /* the other side; family 0: any */
    uint16_t port_min, port_max; /* destination ports; 0 and 65535: any */
    unsigned priority;           /* a higher one counts; of two that are equal, deny */
};

/* bps 0: unlimited. */
struct policy_rate {
    uint64_t bps, burst_bits;
    bool burst_given; /* by the configuration: what keeps the rate has no other */
};

enum policy_direction { POLICY_TO_POD, POLICY_FROM_POD, POLICY_DIRECTIONS };

struct policy {
    struct policy_rule *rules; /* owned */
    size_t n_rules;
    unsigned acl; /* so many rules more: the i-th drops IPv4 from 198.18.0.0 + i to the pod */
    struct policy_rate pod[POLICY_DIRECTIONS];
    struct policy_rate tenant[POLICY_DIRECTIONS]; /* of all its pods on the bridge together */
};

/*
 * Reads "rules", "acl", "qos", "bandwidth" and "tenantBandwidth" of a network configuration,
 * "rules" and "acl" of args.cni, which come on top, and "bandwidth" of its runtimeConfig, which
 * comes instead; args_cni and runtime may be NULL. -EINVAL with the key, the value and what is
 * allowed. What was read must be cleared, after a failure too.
 */
int policy_read(struct policy *policy, const json_t *conf, const json_t *args_cni,
                const json_t *runtime, struct error *err);
void policy_clear(struct policy *policy);

/* Whether anything is asked for; the pod's traffic must all pass the bridge then. */
bool policy_any(const struct policy *policy);

/* Whether the tenant has a rate. */
bool policy_tenant_any(const struct policy *policy);

/* ---- flows ---- */

/* The IPv6 link-local address that a device makes of its MAC. */
struct ip_addr policy_link_local(const struct mac_addr *mac);

/*
 * Cookies: 16 bits that say Sluice, 12 of the instance, 36 of the key. Under POLICY_COOKIE_MASK
 * all of an instance are what policy_cookie gives for no key (n 0).
 */
#define POLICY_COOKIE_MASK 0xfffffff000000000ULL
#define POLICY_COOKIE_MARK 0xffff000000000000ULL /* those of any instance */

uint64_t policy_cookie(const char *instance, const char *const *key, size_t n);

/* The meters that a cookie may have: one a direction. */
uint32_t policy_meter(uint64_t cookie, enum policy_direction direction);

/* A pod as the bridge sees it. */
struct policy_pod {
    uint64_t cookie;
    uint64_t tenant_cookie; /* 0: no rate of the tenant's */
    uint32_t port;          /* OpenFlow port number */
    bool shared;            /* others are behind the same port */
    bool shared_mac;        /* ... and have the same MAC address */
    struct mac_addr mac;
    const struct ip_addr *ips; /* none: any address may be its own */
    size_t n_ips;
    bool metered[POLICY_DIRECTIONS]; /* the pod's rate is the bridge's to keep */
};

/* What policy_program made; free with policy_program_clear. */
struct policy_program {
    struct flow *flows;
    size_t n_flows;
    struct flow_meter meters[POLICY_DIRECTIONS];
    size_t n_meters;
};

/* The flows and meters that make a policy hold for a pod. -ENOMEM, or -E2BIG past 1,000,000. */
int policy_program(const struct policy *policy, const struct policy_pod *pod,
                   struct policy_program *ret, struct error *err);

/* The meters of a tenant, and one flow that no packet meets, by which they are found again. */
int policy_tenant_program(const struct policy *policy, uint64_t cookie, struct policy_program *ret,
                          struct error *err);

/* The generated rules (policy.acl) for an IPv4 address, whoever has it: what the study's lock
 * server makes. */
int policy_acl_program(unsigned n, const struct ip_addr *pod, uint64_t cookie,
                       struct policy_program *ret, struct error *err);
void policy_program_clear(struct policy_program *program);

/* ---- the guard (guard.c) ---- */

/*
 * Loads a BPF program for the egress of a pod's device (SCHED_CLS, direct action) that drops what
 * has another source than the pod: MAC address, and IPv4, IPv6, ARP and neighbour advertisements
 * of addresses not its own; without addresses the MAC alone. Needs CAP_BPF or root.
 */
int policy_guard_load(const struct mac_addr *mac, const struct ip_addr *ips, size_t n_ips,
                      int *ret_fd, struct error *err);
