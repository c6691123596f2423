/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses for pods: host-local's configuration and meaning, done in-process; any other plugin by
 * delegation. Called by the plugins' verbs (src/cni) and, later, by the agent.
 */
#pragma once

#include "json/json.h"

#define IPAM_IPS_MAX    8
#define IPAM_ROUTES_MAX 64

struct ipam_ip {
    struct ip_addr address; /* with the subnet's prefix length */
    struct ip_addr gateway; /* family 0: none */
};

struct ipam_route {
    struct ip_addr dst;
    struct ip_addr gw; /* family 0: the gateway of the first address of dst's family */
    int mtu, advmss, priority, table, scope; /* CNI 1.1.0 keys; -1 (all) when absent */
};

/* What an allocation yields; what a CNI result's ips, routes and dns are made from. */
struct ipam_result {
    struct ipam_ip ips[IPAM_IPS_MAX];
    size_t n_ips;
    struct ipam_route routes[IPAM_ROUTES_MAX];
    size_t n_routes;
    json_t *dns; /* owned object or NULL */
};

void ipam_result_clear(struct ipam_result *result);

struct ipam_range {
    struct ip_addr subnet, start, end; /* start and end inclusive */
    struct ip_addr gateway;            /* family 0: none (never handed out otherwise) */
};

#define IPAM_RANGES_MAX 16 /* ranges in a set */

struct ipam_config; /* host-local's part of a network configuration, checked; opaque */

/*
 * Reads the "ipam" object of a host-local network configuration: ranges or the older subnet,
 * rangeStart, rangeEnd, gateway; routes; resolvConf; dataDir (default /var/lib/cni/networks).
 * network is the network's name. -EINVAL with key, value and what is allowed.
 */
int ipam_config_parse(const json_t *ipam, const char *network, struct ipam_config **ret,
                      struct error *err);
void ipam_config_free(struct ipam_config *config);
void cleanup_ipam_config(struct ipam_config **config);

/*
 * Leases kept in memory between calls, for a process that makes many (the agent). Any thread may
 * use it. What another process changed is noticed: the lock is taken on disk for every call, as
 * without a cache, and the log is read again when it is not as we left it. Not for a forked child:
 * it would share its parent's lock.
 */
struct ipam_cache;

int ipam_cache_new(struct ipam_cache **ret);
void ipam_cache_free(struct ipam_cache *cache);

/* All calls with this configuration go through the cache (NULL: none), which outlives it. */
void ipam_config_use_cache(struct ipam_config *config, struct ipam_cache *cache);

struct ipam_owner {
    const char *container_id;
    const char *ifname;
};

/*
 * Allocates one address of each range set, or the requested ones (each must lie in a range; at most
 * one a set). instance: the instance directory. Errors: -ENOSPC no address left, -EADDRINUSE a
 * requested one is taken, -EEXIST the owner has an address already, -EINVAL a requested one is in
 * no range. Takes the network's lock for as long as it works; nothing is kept on failure.
 */
int ipam_allocate(const struct ipam_config *config, const char *instance,
                  const struct ipam_owner *owner, const struct ip_addr *requested,
                  size_t n_requested, struct ipam_result *ret, struct error *err);

/* Gives back all that the owner has on this network; having nothing is fine. */
int ipam_release(const struct ipam_config *config, const char *instance,
                 const struct ipam_owner *owner, struct error *err);

/*
 * Makes all that one owner holds another's, in one step that no kill can halve; the addresses in
 * *ret (routes and DNS too), as ipam_allocate tells them. -ENOENT when from holds nothing, -EEXIST
 * when to holds something already, -EINVAL when what from holds is not one address of each range
 * set, as the configuration now has them. In host-local's files it is a step for each address, and
 * a call that was killed in between is finished by the next one with the same owners.
 */
int ipam_reown(const struct ipam_config *config, const char *instance,
               const struct ipam_owner *from, const struct ipam_owner *to, struct ipam_result *ret,
               struct error *err);

/* 0 when the owner holds at least one address of this network, -ENOENT otherwise. */
int ipam_check(const struct ipam_config *config, const char *instance,
               const struct ipam_owner *owner, struct error *err);

/*
 * Gives back what belongs to none of the owners that keep says true for; counts the addresses. keep
 * is called under the network's lock. Records that don't name an interface (host-local's before
 * 0.8) stay: nobody can tell whose they are.
 */
int ipam_gc(const struct ipam_config *config, const char *instance,
            bool (*keep)(const struct ipam_owner *owner, void *cookie), void *cookie,
            size_t *ret_released, struct error *err);

/* ---- delegation (CNI specification 1.1.0, section 4) ---- */

struct ipam_delegate {
    const char *type;        /* the plugin's file name */
    const char *cni_path;    /* directories separated by colons */
    const char *cni_version; /* of the network configuration */
    const json_t *conf;      /* the whole network configuration; borrowed */
    const char *const *env;  /* "NAME=VALUE", over our environment; NULL: none */
    int64_t deadline_ns;     /* 0: none */
};

/*
 * Executes the plugin with that environment but CNI_COMMAND=command, and blocks until it ends or
 * the deadline kills it. When the plugin answers that it does not know the version, asks for its
 * versions and calls again with the highest it offers that is not above cni_version. CHECK does
 * nothing where that is below 0.4.0, GC and STATUS where it is below 1.1.0: the verb is not there.
 * ADD fills ret (may be NULL for the others). The plugin's own error becomes err with its code;
 * -ENOENT no such plugin, -ETIMEDOUT, -EBADMSG and -EIO leave the code 0.
 */
int ipam_delegate(const struct ipam_delegate *delegate, const char *command,
                  struct ipam_result *ret, struct error *err);

/* Reads ips, routes and dns of a result of any CNI version from 0.1.0 on. */
int ipam_result_parse(const json_t *result, struct ipam_result *ret, struct error *err);
