/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds `ovs-ipvlan` and `ovs-ipvtap`: a sub-device of the tenant's OVS internal port that has the
 * port's MAC address and is told from its neighbours by its IP addresses. The kernel keeps mode and
 * flags by port, not by device, the last device's word counting for all: so every mode has a port
 * of its own, unless one is named.
 */
#include "kind/kind.h"

#include <linux/if_link.h>

/* In l3s a packet goes to the pod's IP layer past its device: no tap would see it. */
static const char *const modes[] = {"l2", "l3", "l3s", NULL};
static const char *const tap_modes[] = {"l2", "l3", NULL};
static const uint16_t mode_values[] = {IPVLAN_MODE_L2, IPVLAN_MODE_L3, IPVLAN_MODE_L3S};

const char *ipvlan_port_class(const struct attachment *at)
{
    static const char *const classes[2][ARRAY_SIZE(mode_values)] = {
        {"ipvlan l2", "ipvlan l3", "ipvlan l3s"},
        {"ipvlan l2 vepa", "ipvlan l3 vepa", "ipvlan l3s vepa"}};

    return classes[at->conf.through_ovs][at->conf.mode];
}

struct link_spec ipvlan_mode(const struct attachment *at)
{
    return (struct link_spec){.ipvlan_mode = mode_values[at->conf.mode],
                              .ipvlan_flags = at->conf.through_ovs ? IPVLAN_F_VEPA : 0};
}

static bool port_mac(const struct attachment *at)
{
    (void)at;
    return true;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_spec mode = ipvlan_mode(at);

    return linked_add(env, at, &mode, err);
}

const struct kind kind_ovs_ipvlan = {
    .type = "ovs-ipvlan",
    .does = "ipvlan on the tenant's OVS port",
    .nic = "tap+tc",
    .modes = modes,
    .needs_bridge = true,
    .has_port = true,
    .port_mac = port_mac,
    .port_class = ipvlan_port_class,
    .add = add,
    .del = linked_del,
    .check = linked_check,
};

const struct kind kind_ovs_ipvtap = {
    .type = "ovs-ipvtap",
    .does = "ipvtap on the tenant's OVS port",
    .nic = "fd",
    .modes = tap_modes,
    .needs_bridge = true,
    .has_port = true,
    .port_mac = port_mac,
    .port_class = ipvlan_port_class,
    .add = add,
    .del = linked_del,
    .check = linked_check,
};
