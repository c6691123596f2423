/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kinds. */
#include "kind/kind.h"

#include <string.h>

const struct kind *const kinds[] = {
    &kind_ovs,
    &kind_ovs_macvlan,
    &kind_ovs_macvtap,
    &kind_ovs_ipvlan,
    &kind_ovs_ipvtap,
    &kind_ovs_tc_routing,
    &kind_ovs_internal,
    &kind_ovs_vhost,
    &kind_ovs_dev_pool,
    &kind_loopback,
    NULL,
};

const struct kind *kind_find(const char *type)
{
    for (size_t i = 0; kinds[i]; i++) {
        if (!strcmp(kinds[i]->type, type)) {
            return kinds[i];
        }
    }
    return NULL;
}

bool kind_port_mac(const struct attachment *at)
{
    return at->kind->port_mac && at->kind->port_mac(at);
}
