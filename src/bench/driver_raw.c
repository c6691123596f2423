/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driver `raw`: a pod's device, address and route by rtnetlink from one thread, and nothing else:
 * no process, no IPAM, no OVS. The lower bound that plugins are measured against.
 */
#include "bench/bench-internal.h"
#include "netlink/netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>

struct raw {
    struct netlink *host;
    int host_fd;
    unsigned parent;
    bool veth;
};

static int check(const char *what, char name[64], struct error *err)
{
    if (strcmp(what, "macvlan") != 0 && strcmp(what, "veth") != 0) {
        return error_set(err, -EINVAL,
                         "raw device kind \"%.32s\" is not allowed; must be macvlan or veth", what);
    }
    snprintf(name, 64, "raw-%s", what);
    return 0;
}

static int prepare(struct bench_run *run, struct error *err)
{
    struct link_change up = {.name = run->options->bridge, .up = true};
    struct raw *raw = calloc(1, sizeof(*raw));
    struct link_info parent;
    int rc;

    if (!raw) {
        return error_sys(err, -ENOMEM, "raw");
    }
    run->driver_state = raw;
    raw->host_fd = -1;
    raw->veth = !strcmp(run->variant->what, "veth");
    rc = netns_open_own(&raw->host_fd, err);
    if (rc == 0) {
        rc = netlink_open(-1, &raw->host, err);
    }
    if (rc == 0 && !raw->veth) {
        rc = link_get(raw->host, 0, run->options->bridge, &parent, err);
        raw->parent = rc == 0 ? parent.ifindex : 0;
        if (rc == 0 && !(parent.flags & IFF_UP)) {
            link_put_change(raw->host, &up);
            rc = netlink_send(raw->host, NULL, err);
        }
    }
    return rc;
}

static void finish(struct bench_run *run)
{
    struct raw *raw = run->driver_state;

    if (raw) {
        netlink_close(raw->host);
        cleanup_fd(&raw->host_fd);
        free(raw);
        run->driver_state = NULL;
    }
}

static void host_name(const struct bench_pod *pod, char name[IFNAMSIZ])
{
    snprintf(name, IFNAMSIZ, "sr%.6s%d", pod->run->id, pod->index);
}

static int make_device(struct bench_pod *pod, struct netlink *nl, unsigned *ret_ifindex,
                       struct error *err)
{
    const struct raw *raw = pod->run->driver_state;
    struct netlink_answer answer;
    char name[IFNAMSIZ];
    struct link_spec host = {.name = name, .netns_fd = raw->host_fd};
    struct link_spec spec = {.kind = raw->veth ? "veth" : "macvlan",
                             .name = "eth0",
                             .netns_fd = -1,
                             .parent = raw->parent,
                             .macvlan_mode = MACVLAN_MODE_BRIDGE,
                             .peer = raw->veth ? &host : NULL};
    struct link_change up = {.name = name, .up = true};
    int rc = raw->veth ? 0 : netns_nsid(nl, raw->host_fd, &spec.parent_nsid, err);

    if (rc < 0) {
        return rc;
    }
    host_name(pod, name);
    link_put_create(nl, &spec);
    rc = netlink_send(nl, &answer, err);
    *ret_ifindex = answer.ifindex;
    if (rc == 0 && raw->veth) {
        link_put_change(raw->host, &up);
        rc = netlink_send(raw->host, NULL, err);
    }
    return rc;
}

static int add(struct bench_pod *pod, struct error *err)
{
    struct link_change quiet = {.no_ipv6_autoconf = true}, up = {.up = true};
    struct route_spec route = {.mtu = -1, .advmss = -1, .priority = -1, .table = -1, .scope = -1};
    autonetlink struct netlink *nl = NULL;
    autoclose int fd = -1;
    struct ip_addr base, ip;
    unsigned ifindex = 0;
    int rc = netns_open(pod->netns_path, &fd, err);

    if (rc == 0) {
        rc = netlink_open(fd, &nl, err);
    }
    if (rc == 0) {
        rc = make_device(pod, nl, &ifindex, err);
    }
    if (rc < 0) {
        return rc;
    }
    ip_parse("10.63.0.0/16", &base);
    ip = ip_plus(&base, pod->index + 2);
    quiet.ifindex = up.ifindex = route.ifindex = ifindex;
    ip_parse("0.0.0.0/0", &route.dst);
    route.gw = ip_plus(&base, 1);
    link_put_change(nl, &quiet);
    link_put_change(nl, &up);
    addr_put_add(nl, ifindex, &ip);
    route_put_add(nl, &route);
    return netlink_send(nl, NULL, err);
}

static int del(struct bench_pod *pod, struct error *err)
{
    autonetlink struct netlink *nl = NULL;
    autoclose int fd = -1;
    int rc = netns_open(pod->netns_path, &fd, err);

    if (rc == 0) {
        rc = netlink_open(fd, &nl, err);
    }
    if (rc == 0) {
        link_put_delete(nl, 0, "eth0");
        rc = netlink_send(nl, NULL, err);
    }
    return rc == -ENODEV ? 0 : rc;
}

const struct bench_driver bench_driver_raw = {
    .name = "raw",
    .check = check,
    .prepare = prepare,
    .finish = finish,
    .add = add,
    .del = del,
    .serial_start = true,
    .needs_ovs = true, /* for the bridge's device below the macvlans */
};
