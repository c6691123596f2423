/* SPDX-License-Identifier: Apache-2.0 */
/* Qdiscs and filters: tc-u32(8), tc-mirred(8), tc-tbf(8), tc-bpf(8), linux/pkt_sched.h. */
#include "netlink/netlink-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>
#include <sys/ioctl.h>

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

/* ---- BPF filters ---- */

#define BPF_FILTER_PRIORITY 1
#define BPF_FILTER_HANDLE   1

static struct tcmsg bpf_filter_header(unsigned ifindex, bool egress)
{
    return (struct tcmsg){
        .tcm_family = AF_UNSPEC,
        .tcm_ifindex = (int)ifindex,
        .tcm_handle = BPF_FILTER_HANDLE,
        .tcm_parent = TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS),
        .tcm_info = TC_H_MAKE(BPF_FILTER_PRIORITY << 16, htons(ETH_P_ALL)),
    };
}

static void put_bpf_filter(struct netlink *nl, const struct tcmsg *filter, int prog_fd,
                           const char *name, uint16_t flags)
{
    size_t options;

    message_begin(nl, RTM_NEWTFILTER, NLM_F_CREATE | flags, filter, sizeof(*filter),
                  "add BPF filter", name);
    attr_put_string(nl, TCA_KIND, "bpf");
    options = attr_nest_begin(nl, TCA_OPTIONS);
    attr_put_u32(nl, TCA_BPF_FD, (uint32_t)prog_fd);
    attr_put_string(nl, TCA_BPF_NAME, name);
    attr_put_u32(nl, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    attr_nest_end(nl, options);
    message_end(nl);
}

static void put_bpf(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd,
                    const char *name, uint16_t flags)
{
    struct tcmsg qdisc = {
        .tcm_family = AF_UNSPEC,
        .tcm_ifindex = (int)ifindex,
        .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0),
        .tcm_parent = TC_H_CLSACT,
    };
    struct tcmsg filter = bpf_filter_header(ifindex, egress);

    message_begin(nl, RTM_NEWQDISC, NLM_F_CREATE, &qdisc, sizeof(qdisc), "add qdisc", "clsact");
    attr_put_string(nl, TCA_KIND, "clsact");
    message_end(nl);
    put_bpf_filter(nl, &filter, prog_fd, name, flags);
}

void tc_bpf_put_messages(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd,
                         const char *name)
{
    put_bpf(nl, ifindex, egress, prog_fd, name, 0);
}

int tc_bpf_add(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd, const char *name,
               struct error *err)
{
    put_bpf(nl, ifindex, egress, prog_fd, name, NLM_F_EXCL);
    return netlink_send(nl, NULL, err);
}

int tc_bpf_put(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd, const char *name,
               struct error *err)
{
    tc_bpf_put_messages(nl, ifindex, egress, prog_fd, name);
    return netlink_send(nl, NULL, err);
}

static int take_bpf_filter(const struct nlmsghdr *message, void *cookie)
{
    const struct nlattr *table[TCA_MAX + 1], *options[TCA_BPF_MAX + 1];
    struct tc_bpf_info *info = cookie;
    const void *attrs;
    size_t len;

    if (!message || !message_attrs(message, sizeof(struct tcmsg), &attrs, &len) ||
        attr_parse(attrs, len, table, TCA_MAX) < 0 || !table[TCA_OPTIONS] ||
        attr_parse(attr_data(table[TCA_OPTIONS]), attr_len(table[TCA_OPTIONS]), options,
                   TCA_BPF_MAX) < 0) {
        return -EBADMSG;
    }
    attr_string(options[TCA_BPF_NAME], info->name, sizeof(info->name));
    info->prog_id = attr_u32(options[TCA_BPF_ID]);
    return 0;
}

static int get_bpf_filter(struct netlink *nl, const struct tcmsg *header, struct tc_bpf_info *ret,
                          struct error *err)
{
    struct tc_bpf_info info = {0};
    int rc;

    message_begin(nl, RTM_GETTFILTER, 0, header, sizeof(*header), "look up BPF filter", NULL);
    attr_put_string(nl, TCA_KIND, "bpf");
    message_end(nl);
    rc = netlink_query(nl, false, take_bpf_filter, &info, err);
    if (rc == 0) {
        *ret = info;
    }
    /* Without the qdisc the kernel says that the parent is wrong. */
    return rc == -EINVAL ? error_set(err, -ENOENT, "there is no BPF filter") : rc;
}

int tc_bpf_get(struct netlink *nl, unsigned ifindex, bool egress, struct tc_bpf_info *ret,
               struct error *err)
{
    struct tcmsg header = bpf_filter_header(ifindex, egress);

    return get_bpf_filter(nl, &header, ret, err);
}

int tc_bpf_delete(struct netlink *nl, unsigned ifindex, bool egress, struct error *err)
{
    struct tcmsg header = bpf_filter_header(ifindex, egress);
    int rc;

    message_begin(nl, RTM_DELTFILTER, 0, &header, sizeof(header), "delete BPF filter", NULL);
    attr_put_string(nl, TCA_KIND, "bpf");
    message_end(nl);
    rc = netlink_send(nl, NULL, err);
    return rc == -ENOENT || rc == -EINVAL || rc == -ENODEV ? 0 : rc;
}

/* ---- the token bucket ---- */

#define TBF_LATENCY_MS 50 /* a frame waits no longer for its turn; then it is dropped */
#define TBF_FRAMES_MIN 10 /* or for so many frames of full size, at low rates */
#define TBF_TICK_NS    64 /* the kernel's unit for buffers */

#define TBF_HANDLE TC_H_MAKE(1U << 16, 0)

struct tbf {
    uint64_t rate; /* bytes a second */
    uint32_t burst, limit;
};

/* By ioctl, as link_peek: no RTNL. */
static int frame_size(struct netlink *nl, unsigned ifindex, uint32_t *ret)
{
    struct ifreq request = {.ifr_ifindex = (int)ifindex};

    if (ioctl(netlink_fd(nl), SIOCGIFNAME, &request) < 0 ||
        ioctl(netlink_fd(nl), SIOCGIFMTU, &request) < 0) {
        return -errno;
    }
    *ret = (uint32_t)request.ifr_mtu + ETH_HLEN + 4; /* and a VLAN tag */
    return 0;
}

static uint32_t at_most_u32(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

/* A frame larger than the bucket would never get through. */
static int tbf_plan(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
                    struct tbf *ret, struct error *err)
{
    uint64_t burst = burst_bits / 8, backlog;
    uint32_t frame = 0;
    int rc = frame_size(nl, ifindex, &frame);

    if (rc < 0) {
        return error_sys(err, rc, "look up the MTU of device %u", ifindex);
    }
    ret->rate = rate_bps / 8 ? rate_bps / 8 : 1;
    ret->burst = at_most_u32(burst > frame ? burst : frame);
    backlog = ret->rate / 1000 * TBF_LATENCY_MS;
    backlog = backlog > TBF_FRAMES_MIN * frame ? backlog : TBF_FRAMES_MIN * frame;
    ret->limit = at_most_u32(ret->burst + backlog);
    return 0;
}

static struct tcmsg root_header(unsigned ifindex)
{
    return (struct tcmsg){
        .tcm_family = AF_UNSPEC, .tcm_ifindex = (int)ifindex, .tcm_parent = TC_H_ROOT};
}

int tc_tbf_put_message(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
                       struct error *err)
{
    struct tcmsg header = root_header(ifindex);
    struct tc_tbf_qopt options = {.rate.linklayer = TC_LINKLAYER_ETHERNET};
    struct tbf tbf;
    size_t nest;
    int rc = tbf_plan(nl, ifindex, rate_bps, burst_bits, &tbf, err);

    if (rc < 0) {
        return rc;
    }
    header.tcm_handle = TBF_HANDLE;
    options.rate.rate = at_most_u32(tbf.rate);
    options.limit = tbf.limit;
    message_begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header),
                  "add qdisc", "tbf");
    attr_put_string(nl, TCA_KIND, "tbf");
    nest = attr_nest_begin(nl, TCA_OPTIONS);
    attr_put(nl, TCA_TBF_PARMS, &options, sizeof(options));
    attr_put(nl, TCA_TBF_RATE64, &tbf.rate, sizeof(tbf.rate));
    attr_put_u32(nl, TCA_TBF_BURST, tbf.burst);
    attr_nest_end(nl, nest);
    message_end(nl);
    return 0;
}

int tc_tbf_put(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
               struct error *err)
{
    int rc = tc_tbf_put_message(nl, ifindex, rate_bps, burst_bits, err);

    return rc < 0 ? rc : netlink_send(nl, NULL, err);
}

struct tbf_found {
    char kind[16];
    uint64_t rate;
    uint32_t buffer; /* ticks */
};

static int take_qdisc(const struct nlmsghdr *message, void *cookie)
{
    const struct nlattr *table[TCA_MAX + 1], *options[TCA_TBF_MAX + 1];
    struct tbf_found *found = cookie;
    struct tc_tbf_qopt parms;
    const void *attrs;
    size_t len;

    if (!message || !message_attrs(message, sizeof(struct tcmsg), &attrs, &len) ||
        attr_parse(attrs, len, table, TCA_MAX) < 0) {
        return -EBADMSG;
    }
    attr_string(table[TCA_KIND], found->kind, sizeof(found->kind));
    if (strcmp(found->kind, "tbf") != 0 || !table[TCA_OPTIONS]) {
        return 0;
    }
    if (attr_parse(attr_data(table[TCA_OPTIONS]), attr_len(table[TCA_OPTIONS]), options,
                   TCA_TBF_MAX) < 0 ||
        attr_len(options[TCA_TBF_PARMS]) < sizeof(parms)) {
        return -EBADMSG;
    }
    memcpy(&parms, attr_data(options[TCA_TBF_PARMS]), sizeof(parms));
    found->rate = parms.rate.rate;
    found->buffer = parms.buffer;
    if (attr_len(options[TCA_TBF_RATE64]) >= sizeof(found->rate)) {
        memcpy(&found->rate, attr_data(options[TCA_TBF_RATE64]), sizeof(found->rate));
    }
    return 0;
}

/* The kernel tells the bucket's size as the time that it takes to fill, rounded. */
static bool same_burst(const struct tbf *tbf, uint32_t buffer)
{
    uint64_t ticks = tbf->burst * (uint64_t)NSEC_PER_SEC / tbf->rate / TBF_TICK_NS;
    uint64_t margin = ticks / 100 + 1;

    return ticks > UINT32_MAX - margin || (buffer + margin >= ticks && buffer <= ticks + margin);
}

int tc_tbf_check(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
                 struct error *err)
{
    struct tcmsg header = root_header(ifindex);
    struct tbf_found found = {0};
    struct tbf tbf;
    int rc = tbf_plan(nl, ifindex, rate_bps, burst_bits, &tbf, err);

    if (rc < 0) {
        return rc;
    }
    /* The kernel answers as it tells of changes: the one who asks only by echo. */
    message_begin(nl, RTM_GETQDISC, NLM_F_ECHO, &header, sizeof(header), "look up the root qdisc",
                  NULL);
    message_end(nl);
    rc = netlink_query(nl, false, take_qdisc, &found, err);
    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    if (strcmp(found.kind, "tbf") != 0) {
        return error_set(err, -ESTALE, "its rate is not limited");
    }
    if (found.rate != tbf.rate) {
        return error_set(err, -ESTALE, "its rate is %" PRIu64 " bit/s, not %" PRIu64,
                         found.rate * 8, tbf.rate * 8);
    }
    return same_burst(&tbf, found.buffer)
               ? 0
               : error_set(err, -ESTALE, "its burst is not %" PRIu32 " bytes", tbf.burst);
}

int tc_tbf_delete(struct netlink *nl, unsigned ifindex, struct error *err)
{
    struct tcmsg header = root_header(ifindex);
    int rc;

    message_begin(nl, RTM_DELQDISC, 0, &header, sizeof(header), "delete qdisc", "tbf");
    attr_put_string(nl, TCA_KIND, "tbf");
    message_end(nl);
    rc = netlink_send(nl, NULL, err);
    return rc == -ENOENT || rc == -ENODEV || rc == -EINVAL ? 0 : rc;
}

/* ---- a filter of what a device sends ---- */

/*
 * No qdisc but one with classes takes filters, and this kernel's htb without a class holds nothing
 * back. Its queue is for what the bucket above it does not let through yet.
 */
#define GUARD_HANDLE TC_H_MAKE(2U << 16, 0)
#define GUARD_QUEUE  64 /* frames, of up to 64 KiB */

static struct tcmsg guard_filter_header(unsigned ifindex)
{
    struct tcmsg header = bpf_filter_header(ifindex, true);

    header.tcm_parent = GUARD_HANDLE;
    return header;
}

static void put_guard_qdisc(struct netlink *nl, unsigned ifindex, bool below_tbf)
{
    struct tc_htb_glob options = {.version = 3, .rate2quantum = 10};
    struct tcmsg qdisc = {.tcm_family = AF_UNSPEC,
                          .tcm_ifindex = (int)ifindex,
                          .tcm_handle = GUARD_HANDLE,
                          .tcm_parent = below_tbf ? TBF_HANDLE | 1 : TC_H_ROOT};
    size_t nest;

    message_begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &qdisc, sizeof(qdisc),
                  "add qdisc", "htb");
    attr_put_string(nl, TCA_KIND, "htb");
    nest = attr_nest_begin(nl, TCA_OPTIONS);
    attr_put(nl, TCA_HTB_INIT, &options, sizeof(options));
    attr_put_u32(nl, TCA_HTB_DIRECT_QLEN, GUARD_QUEUE);
    attr_nest_end(nl, nest);
    message_end(nl);
}

int tc_guard_put(struct netlink *nl, unsigned ifindex, bool below_tbf, int prog_fd,
                 const char *name, struct error *err)
{
    struct tcmsg filter = guard_filter_header(ifindex);
    int rc;

    put_guard_qdisc(nl, ifindex, below_tbf);
    put_bpf_filter(nl, &filter, prog_fd, name, 0);
    rc = netlink_send(nl, NULL, err);
    if (rc < 0) {
        /* The kernel can't change an htb that is there, not even to what it is. */
        put_bpf_filter(nl, &filter, prog_fd, name, 0);
        rc = netlink_send(nl, NULL, NULL) == 0 ? 0 : rc;
    }
    return rc;
}

int tc_guard_get(struct netlink *nl, unsigned ifindex, struct tc_bpf_info *ret, struct error *err)
{
    struct tcmsg header = guard_filter_header(ifindex);

    return get_bpf_filter(nl, &header, ret, err);
}
