/* SPDX-License-Identifier: Apache-2.0 */
/* Links: made, changed, deleted, looked at. */
#include "netlink/netlink-internal.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

int mac_parse(const char *text, struct mac_addr *ret)
{
    unsigned b[MAC_LEN];
    int used = 0;

    if (strlen(text) != MAC_TEXT_MAX - 1 || strspn(text, "0123456789abcdefABCDEF:") != 17 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
               &used) != MAC_LEN ||
        used != MAC_TEXT_MAX - 1 || (b[0] & 1) || !(b[0] | b[1] | b[2] | b[3] | b[4] | b[5])) {
        return -EINVAL;
    }
    for (int i = 0; i < MAC_LEN; i++) {
        ret->bytes[i] = (uint8_t)b[i];
    }
    return 0;
}

const char *mac_format(const struct mac_addr *mac, char buf[MAC_TEXT_MAX])
{
    const uint8_t *b = mac->bytes;

    snprintf(buf, MAC_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
             b[5]);
    return buf;
}

int mac_random(struct mac_addr *ret)
{
    int rc = random_fill(ret->bytes, sizeof(ret->bytes));

    ret->bytes[0] = (uint8_t)((ret->bytes[0] | 0x02) & ~0x01);
    return rc;
}

/* Attributes that a device and a veth's peer have in common. */
static void put_common(struct netlink *nl, const struct link_spec *spec)
{
    if (spec->name) {
        attr_put_string(nl, IFLA_IFNAME, spec->name);
    }
    if (spec->mac) {
        attr_put(nl, IFLA_ADDRESS, spec->mac->bytes, MAC_LEN);
    }
    if (spec->mtu) {
        attr_put_u32(nl, IFLA_MTU, spec->mtu);
    }
    if (spec->netns_fd >= 0) {
        attr_put_u32(nl, IFLA_NET_NS_FD, (uint32_t)spec->netns_fd);
    }
}

static void put_kind_data(struct netlink *nl, const struct link_spec *spec)
{
    size_t data = attr_nest_begin(nl, IFLA_INFO_DATA);

    if (str_has_prefix(spec->kind, "macv")) {
        attr_put_u32(nl, IFLA_MACVLAN_MODE, spec->macvlan_mode);
    } else if (str_has_prefix(spec->kind, "ipv")) {
        attr_put_u16(nl, IFLA_IPVLAN_MODE, spec->ipvlan_mode);
        if (spec->ipvlan_flags) { /* none would take those away that others' siblings need */
            attr_put_u16(nl, IFLA_IPVLAN_FLAGS, spec->ipvlan_flags);
        }
    } else if (spec->peer) {
        struct ifinfomsg info = {.ifi_index = (int)spec->peer->ifindex};
        size_t peer = attr_nest_begin(nl, VETH_INFO_PEER);

        attr_put_raw(nl, &info, sizeof(info));
        put_common(nl, spec->peer);
        attr_nest_end(nl, peer);
    }
    attr_nest_end(nl, data);
}

void link_put_create(struct netlink *nl, const struct link_spec *spec)
{
    struct ifinfomsg info = {.ifi_index = (int)spec->ifindex};
    size_t nest;

    if (spec->up) {
        info.ifi_flags = info.ifi_change = IFF_UP;
    }
    message_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, &info, sizeof(info),
                  "create device", spec->name);
    put_common(nl, spec);
    if (spec->parent) {
        attr_put_u32(nl, IFLA_LINK, spec->parent);
        if (spec->parent_nsid >= 0) {
            attr_put_u32(nl, IFLA_LINK_NETNSID, (uint32_t)spec->parent_nsid);
        }
    }
    nest = attr_nest_begin(nl, IFLA_LINKINFO);
    attr_put_string(nl, IFLA_INFO_KIND, spec->kind);
    put_kind_data(nl, spec);
    attr_nest_end(nl, nest);
    message_end(nl);
    if (spec->netns_fd < 0) {
        message_creates(nl);
    }
}

static const char *change_what(const struct link_change *change)
{
    return change->netns_fd           ? "move device"
           : change->new_name         ? "rename device"
           : change->no_ipv6_autoconf ? "switch off IPv6 autoconfiguration of device"
           : change->up               ? "set up device"
           : change->down             ? "set down device"
           : change->mtu              ? "set the MTU of device"
                                      : "change device";
}

void link_put_change(struct netlink *nl, const struct link_change *change)
{
    struct ifinfomsg info = {.ifi_index = (int)change->ifindex};

    if (change->up || change->down) {
        info.ifi_change = IFF_UP;
        info.ifi_flags = change->up ? IFF_UP : 0;
    }
    if (change->all_multicast) {
        info.ifi_change |= IFF_ALLMULTI;
        info.ifi_flags |= IFF_ALLMULTI;
    }
    message_begin(nl, RTM_NEWLINK, 0, &info, sizeof(info), change_what(change), change->name);
    if (!change->ifindex) {
        attr_put_string(nl, IFLA_IFNAME, change->name);
    } else if (change->new_name) {
        attr_put_string(nl, IFLA_IFNAME, change->new_name);
    }
    if (change->mac) {
        attr_put(nl, IFLA_ADDRESS, change->mac->bytes, MAC_LEN);
    }
    if (change->mtu) {
        attr_put_u32(nl, IFLA_MTU, change->mtu);
    }
    if (change->alias) {
        attr_put_string(nl, IFLA_IFALIAS, change->alias);
    }
    if (change->netns_fd) {
        attr_put_u32(nl, IFLA_NET_NS_FD, (uint32_t)*change->netns_fd);
    }
    if (change->master) {
        attr_put_u32(nl, IFLA_MASTER, change->master);
    }
    if (change->no_ipv6_autoconf) {
        size_t spec = attr_nest_begin(nl, IFLA_AF_SPEC);
        size_t inet6 = attr_nest_begin(nl, AF_INET6);

        attr_put_u8(nl, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        attr_nest_end(nl, inet6);
        attr_nest_end(nl, spec);
    }
    message_end(nl);
}

void link_put_delete(struct netlink *nl, unsigned ifindex, const char *name)
{
    struct ifinfomsg info = {.ifi_index = (int)ifindex};

    message_begin(nl, RTM_DELLINK, 0, &info, sizeof(info), "delete device", name);
    if (!ifindex) {
        attr_put_string(nl, IFLA_IFNAME, name);
    }
    message_end(nl);
}

static int parse_link(const struct nlmsghdr *message, struct link_info *ret)
{
    const struct nlattr *table[IFLA_MAX + 1], *linkinfo[IFLA_INFO_MAX + 1];
    const struct ifinfomsg *info = NLMSG_DATA(message);
    const void *attrs;
    size_t len;

    if (message->nlmsg_type != RTM_NEWLINK ||
        !message_attrs(message, sizeof(*info), &attrs, &len) ||
        attr_parse(attrs, len, table, IFLA_MAX) < 0) {
        return -EBADMSG;
    }
    memset(ret, 0, sizeof(*ret));
    ret->ifindex = (unsigned)info->ifi_index;
    ret->flags = info->ifi_flags;
    ret->mtu = attr_u32(table[IFLA_MTU]);
    ret->parent = attr_u32(table[IFLA_LINK]);
    attr_string(table[IFLA_IFNAME], ret->name, sizeof(ret->name));
    attr_string(table[IFLA_IFALIAS], ret->alias, sizeof(ret->alias));
    if (attr_len(table[IFLA_ADDRESS]) == MAC_LEN) {
        memcpy(ret->mac.bytes, attr_data(table[IFLA_ADDRESS]), MAC_LEN);
    }
    if (table[IFLA_LINKINFO] &&
        attr_parse(attr_data(table[IFLA_LINKINFO]), attr_len(table[IFLA_LINKINFO]), linkinfo,
                   IFLA_INFO_MAX) == 0) {
        attr_string(linkinfo[IFLA_INFO_KIND], ret->kind, sizeof(ret->kind));
    }
    return 0;
}

static int take_link(const struct nlmsghdr *message, void *cookie)
{
    return message ? parse_link(message, cookie) : 0;
}

static void put_get_link(struct netlink *nl, unsigned ifindex, const char *name)
{
    struct ifinfomsg info = {.ifi_index = (int)ifindex};

    message_begin(nl, RTM_GETLINK, 0, &info, sizeof(info), "look up device", name);
    if (!ifindex && name) {
        attr_put_string(nl, IFLA_IFNAME, name);
    }
    attr_put_u32(nl, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    message_end(nl);
}

int link_get(struct netlink *nl, unsigned ifindex, const char *name, struct link_info *ret,
             struct error *err)
{
    struct link_info info = {0};
    int rc;

    put_get_link(nl, ifindex, name);
    rc = netlink_query(nl, false, take_link, &info, err);
    if (rc == 0 && !info.ifindex) {
        rc = error_set(err, -EBADMSG, "look up device %s: no answer", name ? name : "");
    }
    if (rc == 0) {
        *ret = info;
    }
    return rc;
}

int link_peek(struct netlink *nl, const char *name, struct link_info *ret)
{
    struct ifreq request = {0};
    struct link_info info = {0};
    int fd = netlink_fd(nl);

    if (str_copy(request.ifr_name, sizeof(request.ifr_name), name) < 0) {
        return -ENODEV;
    }
    memcpy(info.name, request.ifr_name, sizeof(info.name));
    if (ioctl(fd, SIOCGIFINDEX, &request) < 0) {
        return -errno;
    }
    info.ifindex = (unsigned)request.ifr_ifindex;
    if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) {
        return -errno;
    }
    info.flags = (unsigned short)request.ifr_flags;
    if (ioctl(fd, SIOCGIFMTU, &request) < 0) {
        return -errno;
    }
    info.mtu = (unsigned)request.ifr_mtu;
    if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) {
        return -errno;
    }
    memcpy(info.mac.bytes, request.ifr_hwaddr.sa_data, MAC_LEN);
    *ret = info;
    return 0;
}

int link_no_checksum_offload(struct netlink *nl, const char *name, struct error *err)
{
    struct ethtool_value off = {.cmd = ETHTOOL_STXCSUM, .data = 0};
    struct ifreq request = {.ifr_data = (char *)&off};

    if (str_copy(request.ifr_name, sizeof(request.ifr_name), name) < 0) {
        return error_set(err, -ENODEV, "device name %s is too long", name);
    }
    return ioctl(netlink_fd(nl), SIOCETHTOOL, &request) < 0
               ? error_sys(err, -errno, "switch off checksum offload of device %s", name)
               : 0;
}

struct link_visit {
    int (*visit)(const struct link_info *info, void *cookie);
    void *cookie;
    struct link_info *links;
    size_t n, size;
    int rc;
};

/* Collected first and visited after, so that a disturbed dump shows no device twice. */
static int collect_link(const struct nlmsghdr *message, void *cookie)
{
    struct link_visit *visit = cookie;

    if (!message) {
        visit->n = 0;
        return 0;
    }
    if (visit->n == visit->size) {
        size_t size = visit->size ? visit->size * 2 : 64;
        struct link_info *links = reallocarray(visit->links, size, sizeof(*links));

        if (!links) {
            return -ENOMEM;
        }
        visit->links = links;
        visit->size = size;
    }
    return parse_link(message, &visit->links[visit->n++]);
}

int link_list(struct netlink *nl, int (*visit)(const struct link_info *info, void *cookie),
              void *cookie, struct error *err)
{
    struct link_visit collected = {.visit = visit, .cookie = cookie};
    int rc;

    put_get_link(nl, 0, NULL);
    rc = netlink_query(nl, true, collect_link, &collected, err);
    for (size_t i = 0; rc >= 0 && i < collected.n; i++) {
        rc = visit(&collected.links[i], cookie);
    }
    free(collected.links);
    return rc < 0 ? rc : 0;
}

static int take_nsid(const struct nlmsghdr *message, void *cookie)
{
    const struct nlattr *table[NETNSA_MAX + 1];
    int *nsid = cookie;
    const void *attrs;
    size_t len;

    if (!message || !message_attrs(message, sizeof(struct rtgenmsg), &attrs, &len) ||
        attr_parse(attrs, len, table, NETNSA_MAX) < 0) {
        return -EBADMSG;
    }
    *nsid = table[NETNSA_NSID] ? (int)attr_u32(table[NETNSA_NSID]) : NETNSA_NSID_NOT_ASSIGNED;
    return 0;
}

static void put_nsid(struct netlink *nl, uint16_t type, int netns_fd, const char *what)
{
    struct rtgenmsg header = {.rtgen_family = AF_UNSPEC};

    message_begin(nl, type, 0, &header, sizeof(header), what, NULL);
    attr_put_u32(nl, NETNSA_FD, (uint32_t)netns_fd);
    if (type == RTM_NEWNSID) {
        attr_put_u32(nl, NETNSA_NSID, (uint32_t)NETNSA_NSID_NOT_ASSIGNED);
    }
    message_end(nl);
}

int netns_nsid(struct netlink *nl, int netns_fd, int *ret_nsid, struct error *err)
{
    int nsid = NETNSA_NSID_NOT_ASSIGNED, rc;

    put_nsid(nl, RTM_NEWNSID, netns_fd, "give the host's network namespace an id");
    rc = netlink_send(nl, NULL, err);
    if (rc < 0 && rc != -EEXIST) {
        return rc;
    }
    put_nsid(nl, RTM_GETNSID, netns_fd, "look up the host's network namespace");
    rc = netlink_query(nl, false, take_nsid, &nsid, err);
    if (rc == 0 && nsid < 0) {
        rc = error_set(err, -ENOENT, "the host's network namespace got no id");
    }
    if (rc == 0) {
        *ret_nsid = nsid;
    }
    return rc;
}
