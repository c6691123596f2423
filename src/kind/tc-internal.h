/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of kind `ovs-tc-routing` share: the tenant's switch below OVS, which is one BPF
 * program and its two tables. Programs, records and processes come and go; the tables live with the
 * tenant's port, and are found by it.
 */
#pragma once

#include "kind/kind.h"

#define TC_PROGRAM_NAME "sluice_route"

/* ---- what is in the tables ---- */

enum { TC_DEVICE = 0, TC_IPV4 = 4, TC_IPV6 = 6 };

/* An address, in network order, or (TC_DEVICE) the ifindex of a pod's host end. */
struct tc_key {
    uint32_t family;
    uint8_t bytes[16];
};

#define TC_THROUGH_OVS 1U /* all of the pod's traffic passes the bridge */

/* Where it leads, and whose it is. */
struct tc_route {
    uint32_t ifindex, flags;
    uint8_t mac[MAC_LEN], pad[2];
};

#define TC_KEYS_MAX (IPAM_IPS_MAX + 2) /* the device, the addresses, a link-local one */

/* What an attachment has in the first table; by the name of its host end in the second. */
struct tc_owner {
    struct tc_route route;
    uint32_t n_keys;
    struct tc_key keys[TC_KEYS_MAX];
};

struct tc_switch {
    unsigned ifindex; /* of the end that is ours */
    unsigned mtu;
    int program, routes, owners; /* descriptors; -1: none */
};

#define autoswitch __attribute__((cleanup(tc_switch_close)))
#define TC_SWITCH_NONE                                                                             \
    {                                                                                              \
        .program = -1, .routes = -1, .owners = -1                                                  \
    }

void tc_switch_close(struct tc_switch *sw);

/* ---- the program (tc_program.c) ---- */

/* Makes the tables and the program for the tenant's end that has this ifindex. */
int tc_program_load(unsigned ifindex, struct tc_switch *ret, struct error *err);

/* ---- the tenant's port (tc_port.c) ---- */

/* Finds the switch of the attachment's port; -ENOENT when there is none. */
int tc_port_find(struct kind_env *env, const struct attachment *at, struct tc_switch *ret,
                 struct error *err);

/* The same, made or put right if need be. */
int tc_port_ensure(struct kind_env *env, const struct attachment *at, struct tc_switch *ret,
                   struct error *err);

/* -ESTALE when the port's devices are not there and up, or OVS does not have it. */
int tc_port_check(struct kind_env *env, const struct attachment *at, struct error *err);
