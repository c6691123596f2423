/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts made in advance: attachments of nobody yet. What is expensive (the device, its OVS port)
 * keeps its owner and its names for life; taking one is a record and a lease.
 *
 * A record that names a part means that it is taken, whatever else is so: killed at any point,
 * DEL of the taker's key or the next agent finds all there is.
 */
#include "kind/kind.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

struct attachment_key part_key(const struct attachment *at, uint64_t part, char text[PART_TEXT_MAX])
{
    snprintf(text, PART_TEXT_MAX, "%" PRIu64, part);
    return (struct attachment_key){at->key.network, PART_OWNER, text};
}

uint64_t part_of_key(const char *container_id, const char *ifname)
{
    int64_t number;

    return !strcmp(container_id, PART_OWNER) && str_to_int64(ifname, 1, INT64_MAX, &number) == 0
               ? (uint64_t)number
               : 0;
}

/* The part's MAC, and that its device is there. */
static int look_at_part(struct kind_env *env, struct attachment *at, struct error *err)
{
    char text[PART_TEXT_MAX];
    struct attachment_key key = part_key(at, at->part, text);
    struct record record = {0};
    struct link_info info;
    int rc = record_read(env->instance, &key, &record, err);

    if (rc == 0) {
        at->mac = record.mac;
        record_clear(&record);
        rc = at->kind->no_device ? at->kind->look(env, at)
             : at->kind->outside ? link_peek(env->host, at->host_name, &info)
                                 : link_peek(at->pod, at->device, &info);
    }
    if (rc < 0) {
        return error_set(err, -ESTALE, "part %" PRIu64 " of the pool is gone", at->part);
    }
    if (at->kind->no_device) {
        return 0;
    }
    at->ifindex = info.ifindex;
    at->mtu = info.mtu;
    at->host_mac = info.mac;
    at->has_host_end = at->kind->outside;
    return 0;
}

/* Makes the lease of one key the other's. */
static int move_lease(struct kind_env *env, struct attachment *at,
                      const struct attachment_key *from, const struct attachment_key *to,
                      struct error *err)
{
    struct ipam_owner giver = {from->container_id, from->ifname};
    struct ipam_owner taker = {to->container_id, to->ifname};
    int64_t t0 = clock_ns();
    int rc;

    if (at->addresses != ADDRESSES_HOST_LOCAL) {
        return 0;
    }
    ipam_result_clear(&at->result);
    rc = ipam_reown(at->ipam, env->instance, &giver, &taker, &at->result, err);
    attachment_span(env, at, "cni.ipam", t0, rc);
    return rc;
}

void part_untouched(struct kind_env *env, const struct attachment *at)
{
    if (at->part && env->shared) {
        env->shared->part_back(env->shared, at->key.network, at->part, true);
    }
}

int part_take(struct kind_env *env, struct attachment *at, struct error *err)
{
    char text[PART_TEXT_MAX];
    struct attachment_key part = part_key(at, at->part, text);
    struct error undo;
    int rc = look_at_part(env, at, err);

    if (rc < 0) {
        return rc;
    }
    rc = record_claim(env, at, err);
    if (rc < 0) {
        part_untouched(env, at);
        return rc;
    }
    rc = move_lease(env, at, &part, &at->key, err);
    if (rc == 0 && at->addresses == ADDRESSES_DELEGATED) {
        rc = attachment_delegate(at, "ADD", &at->result, err);
    }
    if (rc == 0) {
        rc = police_add(env, at, err);
    }
    if (rc == 0) {
        rc = record_finish(at, err);
    }
    if (rc == 0) {
        rc = police_settle(env, at, err);
    }
    if (rc < 0 && part_give_back(env, at, &undo) < 0) {
        log_warn("part %s of the pool: what the failed ADD took could not be given back, DEL will: "
                 "%s",
                 text, undo.text);
    }
    return rc;
}

/* What the runtime says of this pod may be more than what the network's configuration does. */
static int join_policy(struct kind_env *env, struct attachment *at, const struct record *record,
                       struct error *err)
{
    if (!record->cookie) {
        return error_set(err, -EINVAL,
                         "rules and rates of a single pod: network %s, whose pool has namespaces, "
                         "must have some itself",
                         at->key.network);
    }
    return police_add(env, at, err);
}

int part_join(struct kind_env *env, struct attachment *at, struct error *err)
{
    struct record record = {0};
    struct ipam_owner owner = {at->key.container_id, at->key.ifname};
    struct netns_id id;
    int rc = record_read(env->instance, &at->key, &record, NULL);

    if (rc < 0 || !record.part || record.joined || at->kind->outside ||
        strcmp(record.state, "ready") != 0 || netns_identify(at->netns_fd, &id) < 0 ||
        !netns_same(&id, &record.netns)) {
        record_clear(&record);
        return -EEXIST; /* err says it already */
    }
    at->part = record.part;
    at->mac = record.mac;
    attachment_prepare(at, env->instance);
    rc = look_at_part(env, at, err);
    if (rc == 0 && at->addresses == ADDRESSES_HOST_LOCAL) {
        rc = ipam_held(at->ipam, env->instance, &owner, &at->result, err);
    }
    if (rc == 0 && at->cookie) {
        rc = join_policy(env, at, &record, err);
    }
    if (rc == 0) {
        rc = record_join(env->instance, &record, at->n_flows, err);
    }
    record_clear(&record);
    return rc;
}

/* All of a part goes, whoever's it is: device, leases, records. */
static int remove_all(struct kind_env *env, struct attachment *at, struct error *err)
{
    char text[PART_TEXT_MAX];
    struct attachment_key part = part_key(at, at->part, text);
    int rc = at->kind->del(env, at, err);

    if (rc == 0) {
        rc = police_del(env, at, err);
    }
    if (rc == 0) {
        rc = attachment_release(env, at, &at->key, err);
    }
    if (rc == 0 && at->addresses == ADDRESSES_HOST_LOCAL) {
        rc = attachment_release(env, at, &part, err);
    }
    if (rc == 0) {
        rc = record_remove(env->instance, &part, err);
    }
    return rc < 0 ? rc : record_remove(env->instance, &at->key, err);
}

/* Whether the part may serve another pod: an agent keeps a pool, and nobody holds the device. A
 * namespace that was used never does. */
static bool usable(struct kind_env *env, const struct attachment *at)
{
    return env->shared && at->kind->outside && at->kind->reusable(env, at);
}

static int give(struct kind_env *env, struct attachment *at, struct error *err)
{
    char text[PART_TEXT_MAX];
    struct attachment_key part = part_key(at, at->part, text);
    int rc = police_free(env, at, err);

    if (rc == 0) {
        rc = move_lease(env, at, &at->key, &part, err);
    }
    if (rc == 0 && at->addresses == ADDRESSES_DELEGATED) {
        rc = attachment_delegate(at, "DEL", NULL, err);
    }
    return rc < 0 ? rc : record_remove(env->instance, &at->key, err);
}

int part_give_back(struct kind_env *env, struct attachment *at, struct error *err)
{
    /* A lease that can't be the part's again (the configuration changed, or a kill came between)
     * would make it fail whoever is next: it goes. */
    bool keep = usable(env, at) && give(env, at, err) == 0;
    int rc = keep ? 0 : remove_all(env, at, err);

    if (rc == 0 && env->shared) {
        env->shared->part_back(env->shared, at->key.network, at->part, keep);
    }
    return rc;
}
