/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and routes. */
#include "netlink/netlink-internal.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

void addr_put_add(struct netlink *nl, unsigned ifindex, const struct ip_addr *ip)
{
    struct ifaddrmsg header = {.ifa_family = (uint8_t)ip->family,
                               .ifa_prefixlen = (uint8_t)ip->prefix,
                               .ifa_index = ifindex};
    struct ip_addr broadcast = ip_last(ip);

    if (ip->family == AF_INET6) {
        header.ifa_flags = IFA_F_NODAD;
    }
    message_begin(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header),
                  "add an address", NULL);
    attr_put(nl, IFA_LOCAL, ip->bytes, ip_bytes(ip));
    attr_put(nl, IFA_ADDRESS, ip->bytes, ip_bytes(ip));
    if (ip->family == AF_INET && ip->prefix < 31) {
        attr_put(nl, IFA_BROADCAST, broadcast.bytes, ip_bytes(ip));
    }
    message_end(nl);
}

static void put_delete_local_route(struct netlink *nl, unsigned ifindex, const struct ip_addr *ip)
{
    struct rtmsg header = {.rtm_family = (uint8_t)ip->family,
                           .rtm_dst_len = (uint8_t)ip_bits(ip),
                           .rtm_table = RT_TABLE_LOCAL,
                           .rtm_scope = RT_SCOPE_NOWHERE,
                           .rtm_type = RTN_LOCAL};

    message_begin(nl, RTM_DELROUTE, 0, &header, sizeof(header), "delete an address's route", NULL);
    attr_put(nl, RTA_DST, ip->bytes, ip_bytes(ip));
    attr_put_u32(nl, RTA_OIF, ifindex);
    message_end(nl);
}

void addr_put_add_foreign(struct netlink *nl, unsigned ifindex, const struct ip_addr *ip)
{
    struct ifaddrmsg header = {.ifa_family = (uint8_t)ip->family,
                               .ifa_prefixlen = (uint8_t)ip_bits(ip),
                               .ifa_index = ifindex};

    message_begin(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header),
                  "add an address", NULL);
    attr_put(nl, IFA_LOCAL, ip->bytes, ip_bytes(ip));
    attr_put_u32(nl, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    message_end(nl);
    if (ip->family == AF_INET) {
        put_delete_local_route(nl, ifindex, ip);
    }
}

void route_put_add(struct netlink *nl, const struct route_spec *route)
{
    struct rtmsg header = {
        .rtm_family = (uint8_t)route->dst.family,
        .rtm_dst_len = (uint8_t)route->dst.prefix,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = route->scope >= 0  ? (uint8_t)route->scope
                     : route->gw.family ? RT_SCOPE_UNIVERSE
                                        : RT_SCOPE_LINK,
        .rtm_type = RTN_UNICAST,
    };

    message_begin(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header),
                  "add a route", NULL);
    attr_put(nl, RTA_DST, route->dst.bytes, ip_bytes(&route->dst));
    if (route->gw.family) {
        attr_put(nl, RTA_GATEWAY, route->gw.bytes, ip_bytes(&route->gw));
    }
    attr_put_u32(nl, RTA_OIF, route->ifindex);
    if (route->table >= 0) {
        attr_put_u32(nl, RTA_TABLE, (uint32_t)route->table);
    }
    if (route->priority >= 0) {
        attr_put_u32(nl, RTA_PRIORITY, (uint32_t)route->priority);
    }
    if (route->mtu >= 0 || route->advmss >= 0) {
        size_t metrics = attr_nest_begin(nl, RTA_METRICS);

        if (route->mtu >= 0) {
            attr_put_u32(nl, RTAX_MTU, (uint32_t)route->mtu);
        }
        if (route->advmss >= 0) {
            attr_put_u32(nl, RTAX_ADVMSS, (uint32_t)route->advmss);
        }
        attr_nest_end(nl, metrics);
    }
    message_end(nl);
}

/* Copies an address attribute of the family's size; leaves ip as it was when it has another. */
static bool take_ip(const struct nlattr *attr, int family, unsigned prefix, struct ip_addr *ip)
{
    struct ip_addr found = {.family = family, .prefix = prefix};

    if (!attr || attr_len(attr) != ip_bytes(&found)) {
        return false;
    }
    memcpy(found.bytes, attr_data(attr), ip_bytes(&found));
    *ip = found;
    return true;
}

struct addr_visit {
    int (*visit)(unsigned ifindex, const struct ip_addr *ip, void *cookie);
    void *cookie;
};

static int visit_addr(const struct nlmsghdr *message, void *cookie)
{
    const struct nlattr *table[IFA_MAX + 1];
    const struct addr_visit *visit = cookie;
    const struct ifaddrmsg *header;
    struct ip_addr ip;
    const void *attrs;
    size_t len;

    if (!message) {
        return 0;
    }
    header = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWADDR ||
        !message_attrs(message, sizeof(*header), &attrs, &len) ||
        attr_parse(attrs, len, table, IFA_MAX) < 0) {
        return -EBADMSG;
    }
    if (take_ip(table[IFA_LOCAL], header->ifa_family, header->ifa_prefixlen, &ip) ||
        take_ip(table[IFA_ADDRESS], header->ifa_family, header->ifa_prefixlen, &ip)) {
        return visit->visit(header->ifa_index, &ip, visit->cookie);
    }
    return 0;
}

int addr_list(struct netlink *nl,
              int (*visit)(unsigned ifindex, const struct ip_addr *ip, void *cookie), void *cookie,
              struct error *err)
{
    struct addr_visit visitor = {visit, cookie};
    struct ifaddrmsg header = {0};

    message_begin(nl, RTM_GETADDR, 0, &header, sizeof(header), "list addresses", NULL);
    message_end(nl);
    return netlink_query(nl, true, visit_addr, &visitor, err);
}

static int metric(const struct nlattr *attr)
{
    return attr ? (int)attr_u32(attr) : -1;
}

static void take_metrics(const struct nlattr *attr, struct route_spec *route)
{
    const struct nlattr *table[RTAX_MAX + 1];

    if (attr && attr_parse(attr_data(attr), attr_len(attr), table, RTAX_MAX) == 0) {
        route->mtu = metric(table[RTAX_MTU]);
        route->advmss = metric(table[RTAX_ADVMSS]);
    }
}

struct route_visit {
    int (*visit)(const struct route_spec *route, void *cookie);
    void *cookie;
};

static int visit_route(const struct nlmsghdr *message, void *cookie)
{
    const struct nlattr *table[RTA_MAX + 1];
    const struct route_visit *visit = cookie;
    struct route_spec route = {.mtu = -1, .advmss = -1, .priority = -1};
    const struct rtmsg *header;
    const void *attrs;
    size_t len;

    if (!message) {
        return 0;
    }
    header = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWROUTE ||
        !message_attrs(message, sizeof(*header), &attrs, &len) ||
        attr_parse(attrs, len, table, RTA_MAX) < 0) {
        return -EBADMSG;
    }
    if (header->rtm_type != RTN_UNICAST ||
        (header->rtm_family != AF_INET && header->rtm_family != AF_INET6)) {
        return 0;
    }
    route.dst.family = header->rtm_family;
    route.dst.prefix = header->rtm_dst_len;
    take_ip(table[RTA_DST], header->rtm_family, header->rtm_dst_len, &route.dst);
    take_ip(table[RTA_GATEWAY], header->rtm_family, ip_bits(&route.dst), &route.gw);
    route.ifindex = attr_u32(table[RTA_OIF]);
    route.table = table[RTA_TABLE] ? (int)attr_u32(table[RTA_TABLE]) : header->rtm_table;
    route.scope = header->rtm_scope;
    route.priority = metric(table[RTA_PRIORITY]);
    take_metrics(table[RTA_METRICS], &route);
    return visit->visit(&route, visit->cookie);
}

int route_list(struct netlink *nl, int (*visit)(const struct route_spec *route, void *cookie),
               void *cookie, struct error *err)
{
    struct route_visit visitor = {visit, cookie};
    struct rtmsg header = {0};

    message_begin(nl, RTM_GETROUTE, 0, &header, sizeof(header), "list routes", NULL);
    message_end(nl);
    return netlink_query(nl, true, visit_route, &visitor, err);
}
