/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network kinds: how an attachment is built, checked and taken away. One file a kind, one row in
 * kinds.c. What all kinds share (addresses, records, undoing) is attachment.c's; a kind only makes
 * and removes its devices. Called by src/cni, which speaks the protocol.
 */
#pragma once

#include "ipam/ipam.h"
#include "netlink/netlink.h"
#include "ovs/ovs.h"
#include "policy/policy.h"
#include "span/span.h"

#include <limits.h>
#include <pthread.h>

#define KIND_ALIAS_MAX 256 /* IFALIASZ */

/* A kind's part of a network configuration. Strings are borrowed from the parsed JSON. */
struct kind_conf {
    const char *bridge;
    const char *port;        /* the tenant's OVS port; "" until attachment_prepare fills it */
    const char *tenant;      /* "" when not given */
    const char *socket_file; /* NULL: the instance's own OVS, else the system's */
    const char *datapath;    /* "netdev", "system", or NULL for either */
    int vlan;                /* 1..4094; 0: none */
    uint16_t *trunks;        /* owned by whoever filled the configuration */
    size_t n_trunks;
    unsigned mtu;  /* 0: not given */
    int mode;      /* index into the kind's modes */
    int pool_type; /* index into the kind's parts */
    bool has_mac;
    struct mac_addr mac;
    bool through_ovs; /* pods on one port must not be switched below OVS: it keeps their policies */
};

struct attachment_key {
    const char *network, *container_id, *ifname;
};

enum attachment_addresses { ADDRESSES_NONE, ADDRESSES_HOST_LOCAL, ADDRESSES_DELEGATED };

/* One interface of one container in one network. */
struct attachment {
    /* What is asked for: filled by the caller; strings are borrowed. */
    struct attachment_key key;
    const struct kind *kind;
    struct kind_conf conf;
    const json_t *conf_json; /* the network configuration, kept in the record for `sluice clean` */
    const char *netns_path;  /* "" when not known (DEL) */
    const int *passed_netns; /* its descriptor, borrowed; NULL: to be opened by the path */
    const char *cni_args;    /* CNI_ARGS, for IPAM plugins; "" for none */
    enum attachment_addresses addresses;
    struct ipam_config *ipam;      /* ADDRESSES_HOST_LOCAL */
    struct ipam_delegate delegate; /* ADDRESSES_DELEGATED */
    struct ip_addr requested[IPAM_IPS_MAX];
    size_t n_requested;
    const char *device;   /* its name in the pod; NULL: the key's ifname */
    uint64_t part;        /* made in advance, as this part of the pool; 0: not (part.c) */
    struct policy policy; /* what the pod may send and receive, and how fast (police.c) */

    /* What follows from the key: filled by attachment_prepare. */
    char host_name[IFNAMSIZ];   /* host end or OVS port */
    char socket_path[PATH_MAX]; /* that the VMM is to serve; "": none */
    char alias[KIND_ALIAS_MAX];
    char port_name[IFNAMSIZ]; /* conf.port points here when it was not given */
    uint64_t cookie;          /* of the policy's flows; 0: there is none */
    uint64_t tenant_cookie;   /* of the tenant's meters; 0: no rate */

    /* Which OVS: chosen at ADD, and from the record ever after. "": none. */
    char ovs_socket[PATH_MAX];

    /* What was made: filled by attachment_add. */
    int netns_fd;                  /* -1: none or gone */
    int record_fd;                 /* the claim; -1: none */
    struct netlink *pod;           /* a socket in the pod's namespace, or NULL */
    struct mac_addr mac, host_mac; /* mac is chosen before anything is made */
    unsigned mtu, ifindex;
    bool has_host_end;
    bool shares_mac;     /* with the others on the tenant's port */
    unsigned ofport;     /* of its own OVS port, where ADD was told; 0: not */
    size_t n_flows;      /* with the cookie */
    uint64_t flows_lost; /* kind_env_flows_lost when they were put there */
    struct ipam_result result;
};

/* OpenFlow port numbers of tenants' ports, by their devices: a port made anew has another device.
 */
struct kind_ports {
    pthread_mutex_t lock;
    struct {
        unsigned ifindex, ofport;
    } slots[1024]; /* ifindex modulo their number */
};

/* What the environments of a process with many threads share: the agent's. */
struct kind_shared {
    struct kind_ports ports;
    struct funnel *funnel;
    struct ipam_cache *ipam_cache;
    /* The batcher for an OVSDB socket. */
    int (*batcher)(struct kind_shared *shared, const char *socket_path, struct ovs_batcher **ret,
                   struct error *err);
    /* The same for a bridge's OpenFlow socket. */
    int (*flow_batcher)(struct kind_shared *shared, const char *socket_path,
                        struct flow_batcher **ret, struct error *err);
    /* A part of a network's pool is free again (true), or was removed. */
    void (*part_back)(struct kind_shared *shared, const char *network, uint64_t part, bool usable);
};

/* What a kind may use; supplied by the program that runs it. One thread at a time. */
struct kind_env {
    struct kind_shared *shared; /* NULL: in a process of its own */
    const char *instance;
    int64_t deadline_ns;  /* on clock_ns() */
    int span_fd;          /* -1: no spans */
    char *span_path;      /* of it, when kind_env_spans opened it */
    int host_netns_fd;    /* the host's network namespace */
    struct netlink *host; /* a socket in it */
    struct ovsdb *ovs;    /* connected on first use, by kind_env_ovs */
    char ovs_path[PATH_MAX];
    char kernel_bridge[IFNAMSIZ]; /* a bridge known to have the kernel's datapath */
    struct openflow *openflow;    /* connected on first use, by kind_env_flows */
    char openflow_path[PATH_MAX];
};

struct kind {
    const char *type;         /* the plugin's name */
    const char *does;         /* for lists */
    const char *nic;          /* what a VM's NIC is made from: "tap+tc", "fd" or "" */
    const char *const *modes; /* values of "mode", the default first; NULL: none allowed */
    bool needs_bridge;        /* an OVS bridge must be named */
    bool own_port;            /* every attachment is an OVS port */
    bool has_port;            /* shares the tenant's OVS port */
    bool plain;               /* no addresses, no record: the device is there already */
    bool outside;             /* its device stays with the host, and is handed over by descriptor */
    bool no_device;           /* nor there: a socket is told, which the VMM is to serve */
    bool guarded;             /* drops itself what a pod spoofs below the tenant's port */
    const char *const *parts; /* values of "poolType", the default first; NULL: none allowed */

    /* Whether its device has the tenant's port's MAC address, and is told from its neighbours by
     * its addresses; NULL: no. */
    bool (*port_mac)(const struct attachment *at);

    /* What else tells a tenant's ports apart whose name is derived; NULL: nothing. */
    const char *(*port_class)(const struct attachment *at);

    /*
     * Makes the device in the pod's namespace with its final name, MAC (at->mac) and MTU, but down;
     * sets ifindex and mtu. What was made before a failure is left to del.
     */
    int (*add)(struct kind_env *env, struct attachment *at, struct error *err);

    /* Removes all that add may have made; all of it may be gone already. */
    int (*del)(struct kind_env *env, struct attachment *at, struct error *err);

    /* Finds what changed outside the pod's namespace (inside it: attachment.c). May be NULL. */
    int (*check)(struct kind_env *env, struct attachment *at, struct error *err);

    /* Whether the attachment is there, where it has no device; sets mtu. A negative errno if not.
     */
    int (*look)(struct kind_env *env, struct attachment *at);

    /* What GC has to do besides DEL, before it looks at tenants' ports. May be NULL. */
    int (*gc)(struct kind_env *env, struct attachment *at, struct error *err);

    /* A descriptor of an outside device, as a VM wants it; -EBUSY while another has it. */
    int (*open)(struct kind_env *env, const struct attachment *at, int *ret_fd, struct error *err);

    /* Whether an outside device that was used may serve another pod: nobody can hold it still. */
    bool (*reusable)(struct kind_env *env, const struct attachment *at);
};

extern const struct kind kind_ovs, kind_ovs_macvlan, kind_ovs_macvtap, kind_ovs_ipvlan,
    kind_ovs_ipvtap, kind_ovs_tc_routing, kind_ovs_internal, kind_ovs_vhost, kind_ovs_dev_pool,
    kind_loopback;

/* All kinds, NULL at the end. */
extern const struct kind *const kinds[];

const struct kind *kind_find(const char *type);

bool kind_port_mac(const struct attachment *at);

/* ---- the environment (env.c) ---- */

/* Opens what every kind needs; instance and shared (NULL: none) are borrowed. No deadline, and no
 * spans: the caller sets them. */
int kind_env_open(struct kind_env *env, const char *instance, struct kind_shared *shared,
                  struct error *err);
void kind_env_close(struct kind_env *env);

/* Spans go to the file of that name (NULL or "": nowhere; nor when it can't be opened). It stays
 * open until another is named. */
void kind_env_spans(struct kind_env *env, const char *path);

/* The OVSDB connection for a configuration; made anew when the last one was lost. */
int kind_env_ovs(struct kind_env *env, const struct kind_conf *conf, struct ovsdb **ret,
                 struct error *err);

/* Whether there is a batcher for the configuration's OVSDB, and it has a connection. */
bool kind_env_connected(struct kind_env *env, const struct kind_conf *conf);

/* ovs_ports_add and ovs_ports_del for one port, through the batcher where there is one. ret_ofport
 * may be NULL. */
int kind_env_port_add(struct kind_env *env, const struct kind_conf *conf,
                      const struct ovs_port_spec *spec, int *ret_ofport, struct error *err);
int kind_env_port_del(struct kind_env *env, const struct kind_conf *conf, const char *name,
                      struct error *err);

/* What other threads found out of a tenant's port: its number, 0 when none did; and to tell them.
 */
unsigned kind_env_ofport(struct kind_env *env, unsigned ifindex);
void kind_env_note_ofport(struct kind_env *env, unsigned ifindex, unsigned ofport);

/*
 * openflow_apply for one set of the configuration's bridge, through the batcher where there is one.
 * -ENOENT or -ECONNREFUSED: no switch is there.
 */
int kind_env_flows(struct kind_env *env, const struct kind_conf *conf, const struct flow_set *set,
                   struct error *err);

/* Path of the OpenFlow socket of the configuration's bridge. */
int kind_env_flows_path(struct kind_env *env, const struct kind_conf *conf, char path[PATH_MAX],
                        struct error *err);

/* How often the batcher's connection for it was lost, and with it, perhaps, the flows. */
uint64_t kind_env_flows_lost(struct kind_env *env, const struct kind_conf *conf);

/* A connection for openflow_count and openflow_list; the environment's. */
int kind_env_openflow(struct kind_env *env, const struct kind_conf *conf, struct openflow **ret,
                      struct error *err);

/* ---- attachments (attachment.c) ---- */

/*
 * Derives names from the key and the instance. The alias is what attachment_alias_prefix says and
 * then "NETWORK/CONTAINER/IFNAME".
 */
void attachment_prepare(struct attachment *at, const char *instance);

/* "sluice/TAG/", where the tag tells instances on one host apart. Returns buf. */
const char *attachment_alias_prefix(const char *instance, char buf[KIND_ALIAS_MAX]);

/* Whose device it is that has an alias of this instance; the key's texts are in buf. */
bool attachment_alias_parse(const char *instance, const char *alias, char buf[KIND_ALIAS_MAX],
                            struct attachment_key *ret);

/*
 * Makes the attachment: claims its record, takes addresses, has the kind make the device, sets it
 * up. -EEXIST when there is one already. On failure nothing is left.
 */
int attachment_add(struct kind_env *env, struct attachment *at, struct error *err);

/* Calls the attachment's IPAM plugin (ADDRESSES_DELEGATED), as ipam_delegate. */
int attachment_delegate(const struct attachment *at, const char *command, struct ipam_result *ret,
                        struct error *err);

/* Takes the attachment away. Whatever of it is gone already is fine. */
int attachment_del(struct kind_env *env, struct attachment *at, struct error *err);

/* What a runtime believes to be so, for attachment_check: from a CNI prevResult. */
struct attachment_expected {
    bool has_mac;
    struct mac_addr mac;
    struct ipam_result result;
};

/* -ESTALE and a text when the attachment is not as expected. */
int attachment_check(struct kind_env *env, struct attachment *at,
                     const struct attachment_expected *expected, struct error *err);

void attachment_clear(struct attachment *at);

/* Opens the pod's namespace and a socket in it: netns_fd and pod. */
int attachment_open_pod(struct kind_env *env, struct attachment *at, struct error *err);

/* Gives back the addresses of the key, or, with the part's key, of the part. */
int attachment_release(struct kind_env *env, struct attachment *at,
                       const struct attachment_key *key, struct error *err);

/* ---- policies put on an attachment (police.c) ---- */

struct record;

/* Whether it is an OVS port, behind which nobody else is. */
bool attachment_own_port(const struct attachment *at);

/*
 * Makes the policy hold, if there is one: flows, meters, the device's queue and guard. The device
 * must be there and still be down; with addresses and MAC known. Returns when it holds.
 */
int police_add(struct kind_env *env, struct attachment *at, struct error *err);

/* The part of it that goes when ovs-vswitchd does: flows, meters and the queue on its port. */
int police_flows(struct kind_env *env, struct attachment *at, struct error *err);

/* To be called when the record is finished: from then on an agent puts flows there anew when the
 * switch was restarted, and before it was ours to do. */
int police_settle(struct kind_env *env, struct attachment *at, struct error *err);

/* Removes flows and meters; the device must be gone. A switch that is gone has none. */
int police_del(struct kind_env *env, struct attachment *at, struct error *err);

/* The same for a part that others will have: its device stays, without what was put on it. */
int police_free(struct kind_env *env, struct attachment *at, struct error *err);

/* -ESTALE when flows are missing, or the device's queue or guard is. */
int police_check(struct kind_env *env, struct attachment *at, const struct record *record,
                 struct error *err);

/*
 * Removes the flows and meters of cookies that no record has: the instance's, or any instance's
 * (bridge NULL: of all bridges). A switch that is gone has none.
 */
int police_gc(struct kind_env *env, const struct kind_conf *conf, bool any_instance,
              struct error *err);

/* ---- parts made in advance (part.c) ---- */

/*
 * A part is an attachment of PART_OWNER, whose interface name is the part's number: record, lease,
 * alias and external_ids say so for as long as it lives. Whoever takes it gets a record of its own
 * that names the part, and the lease.
 */
#define PART_OWNER    "sluice-pool"
#define PART_TEXT_MAX 24

/* The key of a part of at's network; text is for its number. */
struct attachment_key part_key(const struct attachment *at, uint64_t part,
                               char text[PART_TEXT_MAX]);

/* The part of a record or an owner that is one of PART_OWNER's; 0: it is not. */
uint64_t part_of_key(const char *container_id, const char *ifname);

/* ADD with a part that is free (at->part): record and lease. -ESTALE when the part is broken. */
int part_take(struct kind_env *env, struct attachment *at, struct error *err);

/* ADD failed before it did anything with its part (none: nothing happens): it is free again. */
void part_untouched(struct kind_env *env, const struct attachment *at);

/*
 * ADD of what pool.take took for this key with its whole namespace, which at now is: fills at from
 * the record. -EEXIST when it is something else.
 */
int part_join(struct kind_env *env, struct attachment *at, struct error *err);

/* DEL of what has a part: the part is free again where it may be used again, else removed. */
int part_give_back(struct kind_env *env, struct attachment *at, struct error *err);

/* ---- garbage (gc.c) ---- */

/*
 * Removes every attachment of at's network (kind, configuration and addresses are taken from at)
 * for which keep says no: records, devices, OVS ports, addresses; then tenants' ports that we made
 * and nothing uses. Goes on after a failure and returns the first.
 */
int attachment_gc(struct kind_env *env, struct attachment *at,
                  bool (*keep)(const struct ipam_owner *owner, void *cookie), void *cookie,
                  struct error *err);

/* ---- records (record.c) ---- */

/* A record as read back; strings are borrowed from json. */
struct record {
    struct attachment_key key;
    const char *type, *state; /* "adding", "ready" or "removing" */
    const char *netns_path, *port, *bridge, *ovs_socket;
    const char *cni_path, *cni_args; /* for IPAM plugins */
    const char *boot_id;             /* "" when not told */
    const char *host_device;         /* "" when there is none */
    struct netns_id netns;
    struct mac_addr mac;
    uint64_t part;                  /* 0: none */
    uint64_t cookie, tenant_cookie; /* 0: none */
    size_t n_flows;
    unsigned ifindex; /* of the pod's device; 0: not known */
    bool joined;      /* the runtime has called ADD for a namespace out of the pool */
    json_t *conf;     /* NULL: not known */
    json_t *json;
};

void record_clear(struct record *record);

/* Creates the record with state "adding"; -EEXIST when there is one. */
int record_claim(const struct kind_env *env, struct attachment *at, struct error *err);

/* Fills at, prepared from the record's configuration, with what ADD made: MAC, addresses, which
 * OVS. */
int record_restore(const struct record *record, struct attachment *at, struct error *err);

/* Adds the whole truth to the claim, state "ready". */
int record_finish(struct attachment *at, struct error *err);

/* Adds to the record of a namespace out of the pool that the runtime has called ADD for it, and how
 * many flows it has now. */
int record_join(const char *instance, const struct record *record, size_t n_flows,
                struct error *err);

/* Adds to the record of a part that it is being removed: whatever is left of it is of no more use.
 */
int record_removing(const char *instance, const struct attachment_key *key, struct error *err);

/* Whether it was written since the machine started: what another boot made is gone. */
bool record_of_this_boot(const struct record *record);

bool record_exists(const char *instance, const struct attachment_key *key);

/* -ENOENT when there is none; one that can't be read is removed by DEL all the same. */
int record_read(const char *instance, const struct attachment_key *key, struct record *ret,
                struct error *err);
int record_remove(const char *instance, const struct attachment_key *key, struct error *err);

/* Every record of the instance; visit may remove the one it is shown. */
int record_list(const char *instance, int (*visit)(const struct record *record, void *cookie),
                void *cookie, struct error *err);

/* Those of one container. A container ID that no folder may have has none. */
int record_list_container(const char *instance, const char *container_id,
                          int (*visit)(const struct record *record, void *cookie), void *cookie,
                          struct error *err);

/* Removes folders of containers that an ADD killed before it wrote its record left empty. */
void record_tidy(const char *instance);

/* ---- what kinds share (linked.c, ipvlan.c, pod.c, port.c) ---- */

/*
 * add, del and check of a device that is linked to the tenant's port: mode has what is particular
 * to the device's kind, the rest is filled in here.
 */
int linked_add(struct kind_env *env, struct attachment *at, const struct link_spec *mode,
               struct error *err);
int linked_del(struct kind_env *env, struct attachment *at, struct error *err);
int linked_check(struct kind_env *env, struct attachment *at, struct error *err);

/* Mode and flags of an ipvlan or ipvtap, and which port is for these. */
struct link_spec ipvlan_mode(const struct attachment *at);
const char *ipvlan_port_class(const struct attachment *at);

/* Mode of a macvlan or macvtap that bridges, unless all is to pass OVS. */
uint32_t macvlan_mode(const struct attachment *at, uint32_t mode);

/* -EEXIST when the pod has a device of the attachment's name. */
int pod_name_free(struct attachment *at, struct error *err);

/*
 * Deletes the pod's device if it is this attachment's: by its alias or, where ADD was killed before
 * it could set one, by the MAC that the record was claimed with.
 */
int pod_device_delete(struct attachment *at, struct error *err);

/*
 * Makes a veth of MTU at->mtu, both ends in one message, sent from inside the pod, each at once
 * where it belongs: at->device and at->host_name. Sets ifindex, host_mac and has_host_end.
 */
int veth_make(struct kind_env *env, struct attachment *at, struct error *err);

/* Puts into env->host's batch what sets the host's end up, with its alias. */
void veth_put_up(struct kind_env *env, const struct attachment *at);

/* Deletes a device of the host's namespace by name; one that is gone is fine. */
int host_device_delete(struct kind_env *env, const char *name, struct error *err);

/* -ESTALE when a device of the host's namespace is gone or down. */
int host_device_check(struct kind_env *env, const char *name, struct error *err);

/* The tenant's port: its device, up, made if need be. Sets parent's ifindex and MTU. */
int port_ensure(struct kind_env *env, const struct attachment *at, struct link_info *ret,
                struct error *err);

/*
 * Makes the tenant's port in OVS (type "" or "internal"), or finds that it is there and is what the
 * configuration says; *ret_ours: it is marked ours.
 */
int port_make(struct kind_env *env, const struct attachment *at, const char *type, bool *ret_ours,
              struct error *err);

/* Whether OVS answers, and, when the configuration names a datapath, the bridge has it (-EINVAL).
 */
int port_check_switch(struct kind_env *env, const struct kind_conf *conf, struct error *err);

/* Adds the attachment's own port to OVS (type "", PORT_INTERNAL, which has the pod's MAC and MTU,
 * or PORT_VHOST) and waits until it works. */
#define PORT_INTERNAL "internal"
#define PORT_VHOST    "dpdkvhostuserclient"
int port_add(struct kind_env *env, struct attachment *at, const char *type, struct error *err);

/* Removes the attachment's own port from OVS; one that is gone is fine. */
int port_delete(struct kind_env *env, const struct attachment *at, struct error *err);

/* Whether the pod's OVS port is there, works, and is this attachment's. */
int port_check(struct kind_env *env, const struct attachment *at, const char *name,
               struct error *err);

/*
 * Held shared from an attachment's claim until it uses the tenant's port, and by port_gc alone: a
 * port must not go between the two.
 */
int port_lock(const struct kind_env *env, bool shared, int *ret_fd, struct error *err);

/* The alias of a device that was made for a tenant's port, by which port_gc finds it. */
void port_device_alias(const struct kind_env *env, const char *port, char alias[KIND_ALIAS_MAX]);

/* Removes tenants' ports marked ours that no record uses (bridge NULL: of all bridges). */
int port_gc(struct kind_env *env, const struct kind_conf *conf, struct error *err);

/* Ends a step: a span "cni.STEP" of this attachment that began at t0_ns. */
void attachment_span(const struct kind_env *env, const struct attachment *at, const char *stage,
                     int64_t t0_ns, int rc);
