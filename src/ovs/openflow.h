/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenFlow 1.4: flows and meters of one bridge, on one connection (openflow.c), and many callers'
 * changes in one bundle (flow_batcher.c). Source: OpenFlow Switch Specification 1.4.0;
 * ovs-fields(7). Used by policy and kind.
 */
#pragma once

#include "netlink/netlink.h"

/* ---- flows ---- */

#define FLOW_PORT_NONE   0u
#define FLOW_PORT_IN     0xfffffff8u /* OFPP_IN_PORT: back where it came from */
#define FLOW_PORT_NORMAL 0xfffffffau /* OFPP_NORMAL: as a learning switch does */
#define FLOW_OUTPUTS_MAX 2

/* What a packet must look like; zero is anything, whatever the field. Prerequisites (eth_type for
 * ip_proto, ...) are the caller's to give. */
struct flow_match {
    uint32_t in_port;
    bool has_metadata; /* all 64 bits of it */
    uint64_t metadata;
    bool has_eth_src, has_eth_dst;
    struct mac_addr eth_src, eth_dst;
    bool group; /* eth_dst is a group address: broadcast or multicast */
    uint16_t eth_type;
    bool has_ip_proto;
    uint8_t ip_proto;
    struct ip_addr src, dst; /* a network (family 0: any); of ARP: sender and target address */
    bool has_arp_sha;
    struct mac_addr arp_sha;
    /* A range of ports as one value under a mask (ports 0-65535 are mask 0). */
    uint16_t tp_src, tp_src_mask, tp_dst, tp_dst_mask;
    bool has_icmp_type;
    uint8_t icmp_type;        /* ICMP or, with its ip_proto, ICMPv6 */
    struct ip_addr nd_target; /* family 0: any */
};

/* Nothing of an instruction set: the packet is dropped. */
struct flow {
    uint8_t table;
    uint16_t priority;
    struct flow_match match;
    uint32_t meter; /* 0: none */
    bool write_metadata;
    uint64_t metadata;
    uint8_t goto_table;                 /* 0: none */
    uint32_t outputs[FLOW_OUTPUTS_MAX]; /* FLOW_PORT_*, or a port's number */
};

/* Drops what goes past a rate. */
struct flow_meter {
    uint32_t id;       /* 1 .. 0xffff0000 */
    uint64_t rate_bps; /* bits per second; 1 kbit/s is the smallest step */
    uint64_t burst_bits;
};

/*
 * All there is to be of one cookie: what the bridge has of it and is not named here goes, in the
 * same commit. No flows, and no meters: it is removed.
 */
struct flow_set {
    uint64_t cookie; /* not 0, which the switch's own flows have */
    const struct flow *flows;
    size_t n_flows;
    const struct flow_meter *meters; /* made, or changed to this, before the flows */
    size_t n_meters;
    /* Removed after the flows are, and with them whatever flows go through them; those that are
     * not there are fine. */
    const uint32_t *old_meters;
    size_t n_old_meters;
};

/* ---- a connection (openflow.c) ---- */

struct openflow; /* one thread at a time */

/* Path of a bridge's management socket beside the OVSDB socket: "<rundir>/<bridge>.mgmt". */
int openflow_path(const char *ovsdb_socket, const char *bridge, char *buf, size_t size);

/*
 * Connects and agrees on OpenFlow 1.4; waits while the server's backlog is full. -ENOENT or
 * -ECONNREFUSED when no switch is there, -EPROTONOSUPPORT when the bridge's `protocols` leaves
 * OpenFlow14 out (err says how to allow it).
 */
int openflow_connect(const char *socket_path, int64_t deadline_ns, struct openflow **ret,
                     struct error *err);
void openflow_close(struct openflow *of);
void cleanup_openflow(struct openflow **of);
#define autoopenflow __attribute__((cleanup(cleanup_openflow)))

/* False once the connection was lost or given up; notices that the switch closed it. */
bool openflow_usable(const struct openflow *of);

/*
 * Makes all n sets true in one bundle (ordered, atomic: all or nothing of the flows) and returns
 * after the barrier: they hold now. On failure ret_failed (may be NULL) is the index of the set
 * that the switch refused, or n when it was none of them in particular; err has the switch's
 * reason in words, the flow in the notation of ovs-ofctl(8). -EREMOTEIO: refused; nothing was
 * changed, meters included (unless err says that an old meter could not be removed). -ETIMEDOUT,
 * -ECONNRESET and the like: connect anew; what holds is not known, so apply again, or remove.
 */
int openflow_apply(struct openflow *of, const struct flow_set *sets, size_t n, int64_t deadline_ns,
                   size_t *ret_failed, struct error *err);

/* How many flows have this cookie, under a mask. */
int openflow_count(struct openflow *of, uint64_t cookie, uint64_t mask, int64_t deadline_ns,
                   size_t *ret, struct error *err);

/* Every flow whose cookie is this under the mask; a negative return of visit stops. */
int openflow_list(struct openflow *of, uint64_t cookie, uint64_t mask, int64_t deadline_ns,
                  int (*visit)(uint64_t cookie, uint8_t table, uint16_t priority, void *cookie_arg),
                  void *cookie_arg, struct error *err);

/* A flow as ovs-ofctl(8) writes it: "table=0,priority=5,in_port=3,...,actions=...". Returns buf. */
const char *flow_format(const struct flow *flow, char *buf, size_t size);

/* ---- many callers, one bundle (flow_batcher.c) ---- */

/*
 * Sets of many threads through one connection to one bridge: what arrives while a commit is under
 * way goes into the next. A set that the switch refuses fails only its caller. When the connection
 * is lost the sets that wait are tried again on the next one, for some seconds if none comes about.
 */
struct flow_batcher;

struct flow_batcher_hooks {
    /*
     * Called on every connection, the first one included, before anything is sent on it: a switch
     * that was restarted has lost all flows and meters. In the batcher's own thread, so that it
     * must neither block nor call the batcher. With this hook lost connections are made anew at
     * once, else when there is something to be sent.
     */
    void (*on_connect)(void *cookie, bool first);
    void *cookie;
};

/* hooks may be NULL. Connects in its own time: that there is no switch is told by apply. */
int flow_batcher_start(const char *socket_path, const struct flow_batcher_hooks *hooks,
                       struct flow_batcher **ret, struct error *err);

/* What waits fails with -ECANCELED; of what was under way it is not known whether it holds. */
void flow_batcher_stop(struct flow_batcher *batcher);

/*
 * As openflow_apply for one set; blocks until it holds, at most until the deadline. Any number of
 * threads may call. Sets of one cookie are done in the order in which they came. -ETIMEDOUT:
 * it may hold later all the same, if err says so. -EAGAIN: too many flows wait already.
 */
int flow_batcher_apply(struct flow_batcher *batcher, const struct flow_set *set,
                       int64_t deadline_ns, struct error *err);

/* Whether a switch is connected now. */
bool flow_batcher_connected(struct flow_batcher *batcher);

#define FLOW_BATCH_SIZES 12

struct flow_batcher_counts {
    uint64_t bundles;     /* sent, whatever became of them */
    uint64_t sets, flows; /* that hold */
    uint64_t failed;      /* sets: refused by the switch, late or canceled */
    uint64_t refused;     /* sets: too many waited */
    uint64_t retried;     /* sets: sent again because of another's failure, or a lost connection */
    uint64_t reconnects;
    uint64_t sizes[FLOW_BATCH_SIZES]; /* bundles of at most 1, 2, 4, ... sets; last: more */
};

void flow_batcher_counts(struct flow_batcher *batcher, struct flow_batcher_counts *ret);
