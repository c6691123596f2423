/* SPDX-License-Identifier: Apache-2.0 */
/* Qdiscs and filters: tc-u32(8), tc-mirred(8), linux/pkt_sched.h. */
#include "netlink/netlink-internal.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <arpa/inet.h>
#include <string.h>

void qdisc_put_add(struct netlink *nl, unsigned ifindex, const char *kind)
{
    struct tcmsg header = {
        .tcm_family = AF_UNSPEC,
        .tcm_ifindex = (int)ifindex,
        .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0),
        .tcm_parent = TC_H_CLSACT, /* the same number as TC_H_INGRESS */
    };

    message_begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header), "add qdisc",
                  kind);
    attr_put_string(nl, TCA_KIND, kind);
    message_end(nl);
}

static void put_redirect_action(struct netlink *nl, unsigned to_ifindex)
{
    struct tc_mirred mirred = {
        .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to_ifindex};
    size_t actions = attr_nest_begin(nl, TCA_U32_ACT);
    size_t first = attr_nest_begin(nl, 1);
    size_t options;

    attr_put_string(nl, TCA_ACT_KIND, "mirred");
    options = attr_nest_begin(nl, TCA_ACT_OPTIONS);
    attr_put(nl, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
    attr_nest_end(nl, options);
    attr_nest_end(nl, first);
    attr_nest_end(nl, actions);
}

void filter_put_redirect(struct netlink *nl, unsigned ifindex, unsigned to_ifindex)
{
    struct tcmsg header = {
        .tcm_family = AF_UNSPEC,
        .tcm_ifindex = (int)ifindex,
        .tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), /* both qdiscs know it */
        .tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL)),
    };
    /* The selector, and behind it one key of zeros: it matches everything. */
    char match[sizeof(struct tc_u32_sel) + sizeof(struct tc_u32_key)] = {0};
    struct tc_u32_sel selector = {.flags = TC_U32_TERMINAL, .nkeys = 1};
    size_t options;

    message_begin(nl, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header),
                  "add a redirect filter", NULL);
    attr_put_string(nl, TCA_KIND, "u32");
    options = attr_nest_begin(nl, TCA_OPTIONS);
    memcpy(match, &selector, sizeof(selector));
    attr_put(nl, TCA_U32_SEL, match, sizeof(match));
    put_redirect_action(nl, to_ifindex);
    attr_nest_end(nl, options);
    message_end(nl);
}
