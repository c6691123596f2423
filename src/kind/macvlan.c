/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds `ovs-macvlan` and `ovs-macvtap`: a sub-device of the tenant's OVS internal port. */
#include "kind/kind.h"

#include <linux/if_link.h>

static const char *const modes[] = {"bridge", "private", "vepa", "passthru", NULL};
static const uint32_t mode_values[] = {MACVLAN_MODE_BRIDGE, MACVLAN_MODE_PRIVATE, MACVLAN_MODE_VEPA,
                                       MACVLAN_MODE_PASSTHRU};

uint32_t macvlan_mode(const struct attachment *at, uint32_t mode)
{
    return at->conf.through_ovs && mode == MACVLAN_MODE_BRIDGE ? MACVLAN_MODE_VEPA : mode;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct link_spec mode = {.macvlan_mode = macvlan_mode(at, mode_values[at->conf.mode])};

    return linked_add(env, at, &mode, err);
}

const struct kind kind_ovs_macvlan = {
    .type = "ovs-macvlan",
    .does = "macvlan on the tenant's OVS port",
    .nic = "tap+tc",
    .modes = modes,
    .needs_bridge = true,
    .has_port = true,
    .add = add,
    .del = linked_del,
    .check = linked_check,
};

const struct kind kind_ovs_macvtap = {
    .type = "ovs-macvtap",
    .does = "macvtap on the tenant's OVS port",
    .nic = "fd",
    .modes = modes,
    .needs_bridge = true,
    .has_port = true,
    .add = add,
    .del = linked_del,
    .check = linked_check,
};
