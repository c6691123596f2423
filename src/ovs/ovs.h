/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open vSwitch: an OVSDB client (RFC 7047) on one connection, port transactions on top of it, and
 * private instances. Source of the schema: ovs-vswitchd.conf.db(5).
 */
#pragma once

#include "json/json.h"

/* ---- OVSDB client (ovsdb.c) ---- */

struct ovsdb;

/*
 * Connects to a unix socket ("unix:/path" or "/path"); waits while the server's backlog is full.
 * deadline_ns (clock_ns) bounds this call. Not safe for use from two threads at once.
 * -ENOENT/-ECONNREFUSED with the path in err; -ENAMETOOLONG past a unix socket's 107 bytes.
 */
int ovsdb_connect(const char *socket_path, int64_t deadline_ns, struct ovsdb **ret,
                  struct error *err);
void ovsdb_close(struct ovsdb *db);
void cleanup_ovsdb(struct ovsdb **db);
#define autoovsdb __attribute__((cleanup(cleanup_ovsdb)))

/* False once the connection was lost or given up; notices that the server closed it. */
bool ovsdb_usable(const struct ovsdb *db);

/*
 * One transaction on database Open_vSwitch: operations is a JSON array of RFC 7047 operations
 * (stolen). Blocks until the reply or the deadline (-ETIMEDOUT; the connection is then unusable).
 * On success *ret_results is the array of results, one an operation; when an operation failed,
 * -EREMOTEIO (or -EEXIST for a constraint violation, -ETIMEDOUT for a wait operation's timeout)
 * and err says OVSDB's error and details. Echo requests of the server are answered meanwhile, and
 * only then. Any other failure of the connection (-ECONNRESET, -EPIPE, -EBADMSG) is for good too:
 * every later call answers -ENOTCONN, and the caller connects anew.
 */
int ovsdb_transact(struct ovsdb *db, json_t *operations, int64_t deadline_ns, json_t **ret_results,
                   struct error *err);

/* ---- ports (port.c) ---- */

#define OVS_TRUNKS_MAX 4096

/* Who owns a port, in external_ids of its Port and Interface rows. */
struct ovs_owner {
    const char *network;      /* sluice-network */
    const char *container_id; /* sluice-container; NULL for a tenant's shared port */
    const char *ifname;       /* sluice-ifname; NULL likewise */
    const char *instance;     /* sluice-instance: the instance directory */
};

struct ovs_port_spec {
    const char *bridge;
    const char *name;       /* port and interface */
    const char *type;       /* "", "internal", "dpdkvhostuserclient" */
    const char *mac;        /* for internal ports; NULL: OVS chooses */
    const char *vhost_path; /* for dpdkvhostuserclient: the socket that the VM's side serves */
    int mtu;                /* mtu_request; 0: none */
    int tag;                /* access VLAN 1..4094; 0: none */
    const uint16_t *trunks; /* VLAN ids; with n_trunks 0: none. With a tag: that one is native */
    size_t n_trunks;
    struct ovs_owner owner; /* network NULL: no external_ids */
};

/*
 * Makes all n ports in one transaction and waits until ovs-vswitchd has really made each (ofport
 * set). When any fails, none is left and err names the port: -EINVAL for a spec that cannot be,
 * -ENODEV for no such bridge (err lists those there are), -EEXIST for a name taken, -EREMOTEIO with
 * ovs-vswitchd's own `error` text, -ETIMEDOUT when ovs-vswitchd is silent (err says whether any is
 * running). ret_ofports may be NULL. Blocks until done or the deadline, and past it up to 4 s to
 * take back what was not made. Only when OVSDB itself falls silent in the middle of the first
 * transaction may ports be left; ovs_ports_del removes them.
 */
int ovs_ports_add(struct ovsdb *db, const struct ovs_port_spec *specs, size_t n,
                  int64_t deadline_ns, int *ret_ofports, struct error *err);

/*
 * Removes the ports of these names from whatever bridge has them, in one transaction; a name that
 * no bridge has is fine. Does not wait for ovs-vswitchd unless wait is set (next_cfg/cur_cfg).
 */
int ovs_ports_del(struct ovsdb *db, const char *const *names, size_t n, bool wait,
                  int64_t deadline_ns, struct error *err);

/* A port as recorded in the database. Strings are borrowed from the list that holds it. */
struct ovs_port {
    const char *name, *bridge, *type;
    int ofport;        /* -1: ovs-vswitchd could not make it; 0: not yet */
    const char *error; /* ovs-vswitchd's text or "" */
    int tag;
    struct ovs_owner owner; /* network NULL: not Sluice's */
};

struct ovs_ports {
    struct ovs_port *ports;
    size_t n;
    json_t *rows; /* owns the strings */
};

/*
 * Lists ports: name NULL for all; ours_only leaves out those without Sluice's external_ids. Of a
 * bond the first interface is told. On failure *ret is untouched.
 */
int ovs_ports_list(struct ovsdb *db, const char *name, bool ours_only, int64_t deadline_ns,
                   struct ovs_ports *ret, struct error *err);
void ovs_ports_clear(struct ovs_ports *ports);

/* datapath_type of a bridge ("netdev" or "system"); -ENODEV when there is no such bridge, and err
 * lists those there are. */
int ovs_bridge_datapath(struct ovsdb *db, const char *bridge, int64_t deadline_ns,
                        char ret_datapath[16], struct error *err);

/* Whether a bridge can have vhost-user ports: 0, or -ENOTSUP and in err what it lacks. */
int ovs_bridge_vhost(struct ovsdb *db, const char *bridge, int64_t deadline_ns, struct error *err);

/* ---- the batcher (batcher.c) ---- */

/*
 * Port changes of many threads through one OVSDB connection: what arrives while a commit is under
 * way goes into the next one. A thread of its own writes the transactions; ofports come by a
 * monitor of table Interface. One per OVSDB socket.
 */
struct ovs_batcher;

#define OVS_BATCH_SIZES 12

/* Starts the thread, which connects at once if it can, and anew when there is something to do. */
int ovs_batcher_start(const char *socket_path, struct ovs_batcher **ret, struct error *err);

/* Fails whatever still waits with -ECANCELED and ends the thread. */
void ovs_batcher_stop(struct ovs_batcher *batcher);

/*
 * As ovs_ports_add: makes these n ports, all or none, and blocks until ovs-vswitchd has made each,
 * or the deadline, and up to 4 s past it. Another caller's failure in the same transaction (a name
 * taken, a bridge missing) does not fail it. Any number of threads may call. Also: -ENOENT,
 * -ECONNREFUSED when no server is there (one that was is waited for, 5 s); -ECANCELED, stopped;
 * -EAGAIN, to be tried again: 100000 ports wait already, or the connection was lost in the middle
 * and a port without an owner is there now.
 */
int ovs_batcher_add(struct ovs_batcher *batcher, const struct ovs_port_spec *specs, size_t n,
                    int64_t deadline_ns, int *ret_ofports, struct error *err);

/* As ovs_ports_del without wait: blocks until the database has it. Removals go behind additions
 * that wait, and few at a time, since ovs-vswitchd takes long over each and does nothing else
 * meanwhile. */
int ovs_batcher_del(struct ovs_batcher *batcher, const char *const *names, size_t n,
                    int64_t deadline_ns, struct error *err);

/* Whether there is a connection now; one that is lost shows at once. */
bool ovs_batcher_connected(struct ovs_batcher *batcher);

struct ovs_batcher_counts {
    uint64_t transactions;
    uint64_t added, removed, failed; /* ports, as callers were told */
    uint64_t refused;                /* ports that the queue had no room for */
    uint64_t retried;                /* requests that were to be sent again */
    uint64_t reconnects;             /* after the connection was lost */
    uint64_t sizes[OVS_BATCH_SIZES]; /* transactions of at most 1, 2, 4, ... ports; last: more */
};

void ovs_batcher_counts(struct ovs_batcher *batcher, struct ovs_batcher_counts *ret);

/* ---- which OVS (instance.c) ---- */

#define OVS_SYSTEM_SOCKET "/var/run/openvswitch/db.sock"

/*
 * Path of the OVSDB socket to use (which need not exist): configured ("unix:/path" or a path) when
 * given, else the instance's own OVS when it has one, else /var/run/openvswitch/db.sock. Returns
 * buf, which is to have PATH_MAX bytes.
 */
const char *ovs_socket_path(const char *configured, const char *instance, char *buf, size_t size);

/* ---- a private OVS (private.c) ---- */

#define OVS_HUGEPAGES_DEFAULT 128

struct ovs_private_options {
    const char *instance;       /* everything lives in <instance>/ovs */
    const char *const *bridges; /* made when missing, in the caller's netns */
    size_t n_bridges;
    const char *datapath; /* of the bridges that are made: "netdev" (or NULL), "system" */
    unsigned hugepages;   /* of 2 MB, for DPDK; 0: as it is, which is without DPDK at first */
};

struct ovs_private_status {
    bool running;
    bool dpdk;
    pid_t ovsdb_pid, vswitchd_pid; /* 0: not running */
    char version[32];              /* "" when OVSDB does not tell */
};

/*
 * Starts ovsdb-server and ovs-vswitchd in the caller's network namespace, or
 * only what is not running yet; waits until they serve and each bridge works. Safe to call from
 * several processes at once, and again after any of them was killed. The caller's descriptors
 * without CLOEXEC go to the daemons. -EEXIST when it runs already in another network namespace,
 * -ENAMETOOLONG when a socket's path would be too long for the kernel, -EOPNOTSUPP when datapath is
 * "system" and the kernel has none, -EBUSY when another OVS has it in this namespace; a bridge that
 * ovs-vswitchd cannot make is taken back and err has its words. With hugepages it runs with DPDK:
 * the host's number of them is raised by those that are missing, until ovs_private_down; -ENOMEM
 * when the kernel can't, -EEXIST when it runs already without DPDK or with another number.
 */
int ovs_private_up(const struct ovs_private_options *options, struct error *err);

/*
 * Kills them (after checking that the pids are theirs), removes their devices and <instance>/ovs;
 * all is gone when it returns 0. Fine when nothing runs. When both were dead already, the devices
 * are removed only if the caller is in the namespace where ovs_private_up was called.
 */
int ovs_private_down(const char *instance, struct error *err);

/* An instance directory that does not exist is one where nothing runs. */
int ovs_private_status(const char *instance, struct ovs_private_status *ret, struct error *err);
