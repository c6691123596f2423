/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink: links, addresses, routes, qdiscs, filters; and network namespaces. Several messages go
 * in one send, each with its own answer. Nothing here dumps unless its name says list.
 * Source: linux/rtnetlink.h, linux/if_link.h, rtnetlink(7).
 */
#pragma once

#include "base/base.h"
#include "stats/stats.h"

#include <net/if.h>

#define MAC_LEN      6
#define MAC_TEXT_MAX 18

struct mac_addr {
    uint8_t bytes[MAC_LEN];
};

int mac_parse(const char *text, struct mac_addr *ret); /* "aa:bb:cc:dd:ee:ff", unicast; -EINVAL */
const char *mac_format(const struct mac_addr *mac, char buf[MAC_TEXT_MAX]);
int mac_random(struct mac_addr *ret); /* locally administered, unicast */

/* ---- network namespaces (netns.c) ---- */

/* Opens path and checks that it is a network namespace (-EINVAL when it is something else). */
int netns_open(const char *path, int *ret_fd, struct error *err);

/* The calling thread's own. */
int netns_open_own(int *ret_fd, struct error *err);

/* A copy of a descriptor that somebody passed, after the same check; name is for messages. */
int netns_copy(int fd, const char *name, int *ret_fd, struct error *err);

/*
 * Makes a new network namespace and binds it to path (created; must not exist: -EEXIST). The
 * calling thread is in its old namespace again when this returns. Parents must exist.
 */
int netns_create(const char *path, struct error *err);

/* Binds a namespace that is there to path, which is created and must not exist. */
int netns_bind(int fd, const char *path, struct error *err);

/* Unbinds and removes path; one that is missing, or bound to nothing, is fine. */
int netns_delete(const char *path, struct error *err);

/* Moves the calling thread; *ret_saved (if asked for) leads back through netns_leave. */
int netns_enter(int fd, int *ret_saved, struct error *err);
int netns_leave(int *saved);

struct netns_id {
    uint64_t device, inode;
};

int netns_identify(int fd, struct netns_id *ret);
bool netns_same(const struct netns_id *a, const struct netns_id *b);

/* ---- the funnel (funnel.c) ---- */

/* What a batch does at most: a creation with changes is a creation. */
enum funnel_work { FUNNEL_CHANGE, FUNNEL_CREATE, FUNNEL_REMOVE, FUNNEL_N_WORKS };

extern const char *const funnel_work_names[FUNNEL_N_WORKS + 1]; /* NULL at the end */

/* Bounds how many threads of this process are in rtnetlink at once; shared by many sockets. */
struct funnel;

int funnel_new(struct funnel **ret);
void funnel_free(struct funnel *funnel);

/* 0 (at first): no bound. May change at any time. */
void funnel_set_width(struct funnel *funnel, enum funnel_work work, unsigned width);

/* Blocks until there is room; first come, first served. netlink_send calls these. */
void funnel_enter(struct funnel *funnel, enum funnel_work work);
void funnel_leave(struct funnel *funnel, enum funnel_work work);

struct funnel_view {
    unsigned width, busy, waiting;
    uint64_t passed;
    struct histogram wait; /* of all that passed */
};

void funnel_view(struct funnel *funnel, enum funnel_work work, struct funnel_view *ret);

/* ---- the socket and the batch (socket.c) ---- */

struct netlink; /* a NETLINK_ROUTE socket in one network namespace; one thread at a time */

/* Opens the socket inside the namespace (-1: the calling thread's); it stays there for good. */
int netlink_open(int netns_fd, struct netlink **ret, struct error *err);

/* The same for a thread whose own namespace is home: it need not be looked up. */
int netlink_open_at(int netns_fd, int home_fd, struct netlink **ret, struct error *err);
void netlink_close(struct netlink *nl);
void cleanup_netlink(struct netlink **nl);
#define autonetlink __attribute__((cleanup(cleanup_netlink)))

/* False once answers were lost (ENOBUFS): it is to be opened anew. */
bool netlink_usable(const struct netlink *nl);

/* Every send of this socket goes through the funnel, which outlives it. */
void netlink_use_funnel(struct netlink *nl, struct funnel *funnel);

#define NETLINK_BATCH_MAX 64 /* messages in one send */

/* Answer to one message of a batch. */
struct netlink_answer {
    int errnum;          /* 0 or negative errno; -ECANCELED: no answer came */
    unsigned ifindex;    /* of a device created in the socket's own namespace; else 0 */
    char text[160];      /* the extended acknowledgement's words, or "" */
    const char *what;    /* what the message was for: "create macvlan" */
    char name[IFNAMSIZ]; /* of the device concerned, or "" */
};

/*
 * Sends all messages put since the last send, in one system call, and reads every answer. A message
 * that failed does not stop those behind it. Returns 0 when all succeeded, else the first error
 * with its text in err ("create veth eth0: File exists"). Whatever happens the batch is then empty.
 * ret_answers may be NULL, else has room for all messages put.
 */
int netlink_send(struct netlink *nl, struct netlink_answer *ret_answers, struct error *err);

/* ---- links (link.c) ---- */

/* A device to be made, in one message, with all it can have from the start (the kernel passes over
 * an alias there: it comes with the first change). */
struct link_spec {
    const char *kind; /* "veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "bridge" */
    const char *name;
    unsigned ifindex;           /* 0: the kernel's choice */
    const struct mac_addr *mac; /* NULL: the kernel's choice */
    unsigned mtu;               /* 0: the kernel's choice */
    bool up;                    /* not for a veth's peer: the kernel refuses, and takes 17 ms to */
    int netns_fd;               /* -1: the socket's namespace */
    unsigned parent;            /* macvlan and its like: the device below */
    int parent_nsid;            /* namespace of parent, as netns_nsid tells; -1: the socket's */
    uint32_t macvlan_mode;      /* MACVLAN_MODE_* */
    uint16_t ipvlan_mode;       /* IPVLAN_MODE_* */
    uint16_t ipvlan_flags;
    const struct link_spec *peer; /* veth */
};

/* Puts creation into the batch. */
void link_put_create(struct netlink *nl, const struct link_spec *spec);

/* Changes to a device; what is zero stays as it is. Named by ifindex, or by name where 0. */
struct link_change {
    unsigned ifindex;
    const char *name;
    bool up, down;
    bool all_multicast;    /* takes frames for groups that it did not join */
    bool no_ipv6_autoconf; /* no address generation: must come before up, and not at creation */
    const struct mac_addr *mac;
    unsigned mtu;
    const char *alias;
    const char *new_name;
    int *netns_fd; /* move there */
    unsigned master;
};

void link_put_change(struct netlink *nl, const struct link_change *change);
void link_put_delete(struct netlink *nl, unsigned ifindex, const char *name);

struct link_info {
    unsigned ifindex;
    char name[IFNAMSIZ];
    char kind[16];   /* "" for a physical device */
    char alias[256]; /* "" when none */
    struct mac_addr mac;
    unsigned mtu, flags; /* IFF_* */
    unsigned parent;     /* IFLA_LINK; 0: none */
};

/* One device, by ifindex or, where that is 0, by name; -ENODEV when there is none. */
int link_get(struct netlink *nl, unsigned ifindex, const char *name, struct link_info *ret,
             struct error *err);

/*
 * The ifindex, flags, MTU and MAC of a device by name, and nothing else: by ioctl, because these,
 * unlike a netlink request, need no RTNL. -ENODEV when there is none.
 */
int link_peek(struct netlink *nl, const char *name, struct link_info *ret);

/* What a device sends has its checksum already, and is no larger than its MTU allows. */
int link_no_checksum_offload(struct netlink *nl, const char *name, struct error *err);

/* Every device of the namespace: for GC, clean and doctor. A negative return of visit stops. */
int link_list(struct netlink *nl, int (*visit)(const struct link_info *info, void *cookie),
              void *cookie, struct error *err);

/* The id by which nl's namespace knows another (made when there is none yet). */
int netns_nsid(struct netlink *nl, int netns_fd, int *ret_nsid, struct error *err);

/* ---- taps (tap.c) ---- */

/*
 * Makes or opens a tap (IFF_TAP | IFF_NO_PI) inside a namespace (-1: own). Not persistent unless
 * asked: then it goes with its last descriptor. flags: further IFF_* of TUNSETIFF (IFF_VNET_HDR).
 */
int tap_open(int netns_fd, const char *name, short flags, bool persist, int *ret_fd,
             struct error *err);

/*
 * Opens a macvtap's or ipvtap's character device (by its numbers: another namespace's may have the
 * same name in /dev). name is for messages. Not blocking, CLOEXEC.
 */
int macvtap_open(const char *name, int *ret_fd, struct error *err);

/* ---- Open vSwitch's kernel datapath (datapath.c) ---- */

/* Whether the namespace has a datapath of this name. -ENODEV when not, -EOPNOTSUPP when the kernel
 * has no module for any; err then says so. */
int datapath_find(int netns_fd, const char *name, struct error *err);

/* Removes it, with its ports and the devices of its internal ones. None is fine. */
int datapath_delete(int netns_fd, const char *name, struct error *err);

/* ---- addresses and routes (addr.c) ---- */

/* Adds an address; IPv6 ones without duplicate address detection. */
void addr_put_add(struct netlink *nl, unsigned ifindex, const struct ip_addr *ip);

/*
 * Adds an address that is not to be the namespace's own: a device has it, and no route leads to it.
 * IPv4 only: IPv6's routes come later, by themselves.
 */
void addr_put_add_foreign(struct netlink *nl, unsigned ifindex, const struct ip_addr *ip);

struct route_spec {
    unsigned ifindex;
    struct ip_addr dst;
    struct ip_addr gw;                       /* family 0: on-link */
    int mtu, advmss, priority, table, scope; /* -1: the kernel's default */
};

void route_put_add(struct netlink *nl, const struct route_spec *route);

/* Addresses of a namespace (ifindex, address); a negative return of visit stops. */
int addr_list(struct netlink *nl,
              int (*visit)(unsigned ifindex, const struct ip_addr *ip, void *cookie), void *cookie,
              struct error *err);

/* Unicast routes of a namespace, with what they have of mtu, advmss and priority. */
int route_list(struct netlink *nl, int (*visit)(const struct route_spec *route, void *cookie),
               void *cookie, struct error *err);

/* ---- qdiscs and filters (tc.c) ---- */

/* "ingress" or "clsact". */
void qdisc_put_add(struct netlink *nl, unsigned ifindex, const char *kind);

/* Sends every frame that comes in at ifindex (its ingress qdisc) out of another device: u32
 * match-all with mirred egress redirect, as Kata's tcfilter model does. */
void filter_put_redirect(struct netlink *nl, unsigned ifindex, unsigned to_ifindex);

/*
 * Runs a BPF program (SCHED_CLS, direct action) on every frame that leaves a device (egress) or
 * comes in at it, instead of the one that was put there before. The first call puts the messages
 * into the batch only. -EINVAL when the device has an ingress qdisc of another kind than clsact.
 */
void tc_bpf_put_messages(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd,
                         const char *name);
int tc_bpf_put(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd, const char *name,
               struct error *err);

/* The same, but only where there was none put: else -EEXIST. */
int tc_bpf_add(struct netlink *nl, unsigned ifindex, bool egress, int prog_fd, const char *name,
               struct error *err);

struct tc_bpf_info {
    char name[64];
    uint32_t prog_id;
};

/* What tc_bpf_put put there; -ENOENT when there is none. */
int tc_bpf_get(struct netlink *nl, unsigned ifindex, bool egress, struct tc_bpf_info *ret,
               struct error *err);

/* Takes it away again; one that is gone is fine. */
int tc_bpf_delete(struct netlink *nl, unsigned ifindex, bool egress, struct error *err);

/*
 * Bounds what a device sends: a token bucket (tbf) as its root qdisc, instead of what was there.
 * The bucket has room for a frame of the device's MTU at least; what would wait longer than 50 ms
 * (at low rates: than ten frames) is dropped. Frames are counted with their Ethernet header. The
 * first call puts the message into the batch only.
 */
int tc_tbf_put_message(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
                       struct error *err);
int tc_tbf_put(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
               struct error *err);

/* -ESTALE, with what is so instead, when a device's bucket is not what tc_tbf_put made. */
int tc_tbf_check(struct netlink *nl, unsigned ifindex, uint64_t rate_bps, uint64_t burst_bits,
                 struct error *err);

/*
 * Runs a BPF program (SCHED_CLS, direct action) on what a device sends, in a root qdisc or, where
 * there is a token bucket, below it, instead of the one that was put there before: so that an
 * ingress qdisc, with which a runtime may join the device to a VM's tap, still has its place.
 */
int tc_guard_put(struct netlink *nl, unsigned ifindex, bool below_tbf, int prog_fd,
                 const char *name, struct error *err);

/* -ENOENT when there is none. */
int tc_guard_get(struct netlink *nl, unsigned ifindex, struct tc_bpf_info *ret, struct error *err);

/* Takes the bucket away again; one that is gone is fine. */
int tc_tbf_delete(struct netlink *nl, unsigned ifindex, struct error *err);
