/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handing out and giving back, on whatever store a network has. Next is the first free address
 * after the last one handed out, as host-local does it, so that an address that was just given
 * back, and that peers may still have in their caches, is used again as late as possible.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_gateway(const struct ipam_config *config, const struct ip_addr *ip)
{
    for (size_t s = 0; s < config->n_sets; s++) {
        for (size_t r = 0; r < config->sets[s].n_ranges; r++) {
            if (ip_same(&config->sets[s].ranges[r].gateway, ip)) {
                return true;
            }
        }
    }
    return false;
}

static const struct ipam_range *range_of(const struct ipam_set *set, const struct ip_addr *ip)
{
    for (size_t i = 0; i < set->n_ranges; i++) {
        if (ipam_range_holds(&set->ranges[i], ip)) {
            return &set->ranges[i];
        }
    }
    return NULL;
}

/* The address after ip in the set: in its range, else the first of the next one, around. */
static struct ip_addr next_ip(const struct ipam_set *set, const struct ip_addr *ip)
{
    const struct ipam_range *range = range_of(set, ip);

    if (!range) {
        return set->ranges[0].start;
    }
    if (ip_same(ip, &range->end)) {
        size_t next = (size_t)(range - set->ranges) + 1;

        return set->ranges[next % set->n_ranges].start;
    }
    return ip_plus(ip, 1);
}

static void format_set(const struct ipam_set *set, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < set->n_ranges && used < size; i++) {
        char start[IP_TEXT_MAX], end[IP_TEXT_MAX];

        used += (size_t)snprintf(buf + used, size - used, "%s%s-%s", i ? ", " : "",
                                 ip_format(&set->ranges[i].start, false, start),
                                 ip_format(&set->ranges[i].end, false, end));
    }
}

/* The walk ends after as many steps as addresses are taken, however large the range is. */
static int pick_next(struct store *store, size_t s, struct ip_addr *ret, struct error *err)
{
    const struct ipam_set *set = &store->config->sets[s];
    struct ip_addr last, first, ip;
    char text[512];

    first = store->ops->last(store, s, &last) == 0 ? next_ip(set, &last) : set->ranges[0].start;
    ip = first;
    do {
        if (!is_gateway(store->config, &ip) && !leases_taken(&store->leases, &ip)) {
            *ret = ip;
            return 0;
        }
        ip = next_ip(set, &ip);
    } while (!ip_same(&ip, &first));
    format_set(set, text, sizeof(text));
    return error_set(err, -ENOSPC, "no address left in range set %zu (%s)", s, text);
}

/* Puts one requested address to its set's pick; the same one asked for twice counts once. */
static int place_request(struct store *store, const struct ip_addr *ip, struct ipam_pick *picks,
                         struct error *err)
{
    const struct ipam_config *config = store->config;
    char text[IP_TEXT_MAX], other[IP_TEXT_MAX];
    size_t s = 0;

    ip_format(ip, false, text);
    while (s < config->n_sets && !ipam_set_holds(&config->sets[s], ip)) {
        s++;
    }
    if (s == config->n_sets) {
        return error_set(err, -EINVAL, "requested address %s is in no range of the network", text);
    }
    if (is_gateway(config, ip)) {
        return error_set(err, -EINVAL, "requested address %s is a gateway", text);
    }
    if (picks[s].ip.family && !ip_same(&picks[s].ip, ip)) {
        return error_set(err, -EINVAL,
                         "requested addresses %s and %s are both of range set %zu; must be one "
                         "a set at most",
                         ip_format(&picks[s].ip, false, other), text, s);
    }
    if (leases_taken(&store->leases, ip)) {
        return error_set(err, -EADDRINUSE, "requested address %s is taken", text);
    }
    picks[s].ip = *ip;
    return 0;
}

static int pick_all(struct store *store, const struct ip_addr *requested, size_t n_requested,
                    struct ipam_pick *picks, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n_requested; i++) {
        rc = place_request(store, &requested[i], picks, err);
    }
    for (size_t s = 0; rc == 0 && s < store->config->n_sets; s++) {
        picks[s].set = s;
        if (!picks[s].ip.family) {
            rc = pick_next(store, s, &picks[s].ip, err);
        }
    }
    return rc;
}

static void fill_result(const struct ipam_config *config, const struct ipam_pick *picks,
                        struct ipam_result *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (size_t s = 0; s < config->n_sets; s++) {
        const struct ipam_range *range = range_of(&config->sets[s], &picks[s].ip);

        ret->ips[s].address = picks[s].ip;
        ret->ips[s].address.prefix = range->subnet.prefix;
        ret->ips[s].gateway = range->gateway;
    }
    ret->n_ips = config->n_sets;
    memcpy(ret->routes, config->routes, config->n_routes * sizeof(config->routes[0]));
    ret->n_routes = config->n_routes;
}

/* The owner's leases: by container ID and interface, else those of old files that name only the
 * container. */
static uint32_t leases_of_either(const struct leases *leases, const struct ipam_owner *owner)
{
    uint32_t index = leases_of(leases, owner);

    return index != LEASE_NONE ? index
                               : leases_of(leases, &(struct ipam_owner){owner->container_id, ""});
}

static int allocate(const struct ipam_config *config, const char *instance,
                    const struct ipam_owner *owner, const struct ip_addr *requested,
                    size_t n_requested, struct ipam_pick *picks, struct error *err)
{
    autostore struct store store;
    char text[IP_TEXT_MAX];
    uint32_t held;
    int rc = store_open(&store, config, instance, err);

    if (rc < 0) {
        return rc;
    }
    held = leases_of_either(&store.leases, owner);
    if (held != LEASE_NONE) {
        return error_set(err, -EEXIST, "has the address %s already; must be given back first",
                         ip_format(&store.leases.v[held].ip, false, text));
    }
    rc = pick_all(&store, requested, n_requested, picks, err);
    return rc < 0 ? rc : store.ops->add(&store, picks, config->n_sets, owner, err);
}

/* Who and where, in front of what went wrong. */
static int wrap(int rc, const struct ipam_config *config, const struct ipam_owner *owner,
                struct error *err)
{
    if (rc < 0) {
        error_wrap(err, "network %s: container %s, interface %s", config->network,
                   owner->container_id, owner->ifname);
    }
    return rc;
}

int ipam_allocate(const struct ipam_config *config, const char *instance,
                  const struct ipam_owner *owner, const struct ip_addr *requested,
                  size_t n_requested, struct ipam_result *ret, struct error *err)
{
    struct ipam_pick picks[IPAM_IPS_MAX] = {0};
    autojson json_t *dns = NULL;
    int rc = ipam_owner_check(owner, err);

    if (rc < 0) {
        return rc;
    }
    if (config->resolv_conf) {
        rc = ipam_dns_read(config->resolv_conf, &dns, err);
    }
    if (rc == 0) {
        rc = allocate(config, instance, owner, requested, n_requested, picks, err);
    }
    if (rc < 0) {
        return wrap(rc, config, owner, err);
    }
    fill_result(config, picks, ret);
    ret->dns = take_ptr(dns);
    return 0;
}

/* Puts an owner's addresses to their sets' picks; false when one is in no set, or in one that has
 * its pick. */
static bool sort_into_sets(const struct store *store, uint32_t first, struct ipam_pick *picks)
{
    const struct ipam_config *config = store->config;

    for (uint32_t i = first; i != LEASE_NONE; i = store->leases.v[i].next) {
        const struct ip_addr *ip = &store->leases.v[i].ip;
        size_t s = 0;

        while (s < config->n_sets && !ipam_set_holds(&config->sets[s], ip)) {
            s++;
        }
        if (s == config->n_sets || picks[s].ip.family) {
            return false;
        }
        picks[s] = (struct ipam_pick){.set = s, .ip = *ip};
    }
    return true;
}

static bool all_picked(const struct ipam_config *config, const struct ipam_pick *picks)
{
    size_t s = 0;

    while (s < config->n_sets && picks[s].ip.family) {
        s++;
    }
    return s == config->n_sets;
}

/*
 * In host-local's files a move is a step for each address. When one owner holds some sets'
 * addresses and the other those of all other sets, it is a move that was killed and is to be
 * finished: else an owner always gets an address of every set.
 */
static int reown(const struct ipam_config *config, const char *instance,
                 const struct ipam_owner *from, const struct ipam_owner *to,
                 struct ipam_pick *picks, struct error *err)
{
    autostore struct store store;
    char text[IP_TEXT_MAX];
    uint32_t first, held;
    int rc = store_open(&store, config, instance, err);

    if (rc < 0) {
        return rc;
    }
    first = leases_of_either(&store.leases, from);
    held = leases_of_either(&store.leases, to);
    if (first == LEASE_NONE) {
        return error_set(err, -ENOENT, "has no address");
    }
    rc = sort_into_sets(&store, first, picks) ? 0 : -EINVAL;
    if (held != LEASE_NONE &&
        (rc < 0 || store.ops == &store_log_ops || !sort_into_sets(&store, held, picks) ||
         !all_picked(config, picks))) {
        return error_set(err, -EEXIST, "container %s, interface %s, has the address %s already",
                         to->container_id, to->ifname,
                         ip_format(&store.leases.v[held].ip, false, text));
    }
    if (rc < 0 || !all_picked(config, picks)) {
        return error_set(err, -EINVAL,
                         "its addresses are not one of each range set; the configuration has "
                         "changed since they were handed out");
    }
    return store.ops->move(&store, first, to, err);
}

int ipam_reown(const struct ipam_config *config, const char *instance,
               const struct ipam_owner *from, const struct ipam_owner *to, struct ipam_result *ret,
               struct error *err)
{
    struct ipam_pick picks[IPAM_IPS_MAX] = {0};
    autojson json_t *dns = NULL;
    int rc = ipam_owner_check(from, err);

    if (rc == 0) {
        rc = ipam_owner_check(to, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (config->resolv_conf) {
        rc = ipam_dns_read(config->resolv_conf, &dns, err);
    }
    if (rc == 0) {
        rc = reown(config, instance, from, to, picks, err);
    }
    if (rc < 0) {
        return wrap(rc, config, from, err);
    }
    fill_result(config, picks, ret);
    ret->dns = take_ptr(dns);
    return 0;
}

static int held_by(const struct ipam_config *config, const char *instance,
                   const struct ipam_owner *owner, struct ipam_pick *picks, struct error *err)
{
    autostore struct store store;
    int rc = store_open(&store, config, instance, err);
    uint32_t first = rc == 0 ? leases_of_either(&store.leases, owner) : LEASE_NONE;

    if (rc == 0 && first == LEASE_NONE) {
        rc = error_set(err, -ENOENT, "has no address");
    }
    if (rc == 0 && (!sort_into_sets(&store, first, picks) || !all_picked(config, picks))) {
        rc = error_set(err, -EINVAL,
                       "its addresses are not one of each range set; the configuration has "
                       "changed since they were handed out");
    }
    return rc;
}

int ipam_held(const struct ipam_config *config, const char *instance,
              const struct ipam_owner *owner, struct ipam_result *ret, struct error *err)
{
    struct ipam_pick picks[IPAM_IPS_MAX] = {0};
    autojson json_t *dns = NULL;
    int rc = ipam_owner_check(owner, err);

    if (rc == 0 && config->resolv_conf) {
        rc = ipam_dns_read(config->resolv_conf, &dns, err);
    }
    if (rc == 0) {
        rc = wrap(held_by(config, instance, owner, picks, err), config, owner, err);
    }
    if (rc == 0) {
        fill_result(config, picks, ret);
        ret->dns = take_ptr(dns);
    }
    return rc;
}

static int release(const struct ipam_config *config, const char *instance,
                   const struct ipam_owner *owner, struct error *err)
{
    autostore struct store store;
    int rc = store_open(&store, config, instance, err);
    uint32_t first = rc == 0 ? leases_of_either(&store.leases, owner) : LEASE_NONE;

    return first == LEASE_NONE ? rc : store.ops->remove(&store, &first, 1, err);
}

int ipam_release(const struct ipam_config *config, const char *instance,
                 const struct ipam_owner *owner, struct error *err)
{
    int rc = ipam_owner_check(owner, err);

    return rc < 0 ? rc : wrap(release(config, instance, owner, err), config, owner, err);
}

int ipam_check(const struct ipam_config *config, const char *instance,
               const struct ipam_owner *owner, struct error *err)
{
    autostore struct store store;
    int rc = store_open(&store, config, instance, err);

    if (rc == 0 && leases_of_either(&store.leases, owner) == LEASE_NONE) {
        rc = error_set(err, -ENOENT, "has no address");
    }
    return wrap(rc, config, owner, err);
}

/* The first leases of owners that are not kept, and how many all their leases are; the caller
 * frees. NULL when memory is out. */
static uint32_t *list_unkept(const struct leases *leases,
                             bool (*keep)(const struct ipam_owner *owner, void *cookie),
                             void *cookie, size_t *ret_n, size_t *ret_leases)
{
    uint32_t *firsts = malloc((leases->n_live + 1) * sizeof(*firsts));

    for (uint32_t i = 0; firsts && i < leases->n; i++) {
        const struct lease *lease = &leases->v[i];
        struct ipam_owner owner = lease_owner(leases, lease);

        /* A record that does not name its interface may be anybody's: unknown means alive. */
        if (!lease->live || !*owner.container_id || !*owner.ifname ||
            leases_of(leases, &owner) != i || keep(&owner, cookie)) {
            continue;
        }
        firsts[(*ret_n)++] = i;
        for (uint32_t k = i; k != LEASE_NONE; k = leases->v[k].next) {
            ++*ret_leases;
        }
    }
    return firsts;
}

int ipam_gc(const struct ipam_config *config, const char *instance,
            bool (*keep)(const struct ipam_owner *owner, void *cookie), void *cookie,
            size_t *ret_released, struct error *err)
{
    autostore struct store store;
    autofree uint32_t *firsts = NULL;
    size_t n = 0, n_leases = 0;
    int rc = store_open(&store, config, instance, err);

    if (rc == 0) {
        firsts = list_unkept(&store.leases, keep, cookie, &n, &n_leases);
        rc = firsts ? 0 : error_sys(err, -ENOMEM, "list leases");
    }
    if (rc == 0 && n) {
        rc = store.ops->remove(&store, firsts, n, err);
    }
    if (rc < 0) {
        error_wrap(err, "network %s", config->network);
        return rc;
    }
    *ret_released = n_leases;
    return 0;
}
