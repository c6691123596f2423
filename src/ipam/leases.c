/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of leases that both back ends fill: an array in the order of handing out, a hash index
 * by owner (to give back) and one by address (to find a free one). Three allocations whatever the
 * number of leases, since it is built anew for every call of a short-lived plugin.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int leases_reserve(struct leases *leases, size_t size)
{
    size_t slots = 16;

    if (size >= LEASE_NONE / 4) {
        return -EFBIG;
    }
    while (slots < 2 * size) {
        slots *= 2;
    }
    leases->v = calloc(size + 1, sizeof(*leases->v));
    leases->by_owner = malloc(slots * sizeof(*leases->by_owner));
    leases->by_ip = malloc(slots * sizeof(*leases->by_ip));
    if (!leases->v || !leases->by_owner || !leases->by_ip) {
        return -ENOMEM;
    }
    memset(leases->by_owner, 0xff, slots * sizeof(*leases->by_owner));
    memset(leases->by_ip, 0xff, slots * sizeof(*leases->by_ip));
    leases->size = size;
    leases->mask = (uint32_t)(slots - 1);
    return 0;
}

void leases_clear(struct leases *leases)
{
    free(leases->text);
    free(leases->v);
    free(leases->by_owner);
    free(leases->by_ip);
    memset(leases, 0, sizeof(*leases));
}

/* Eight bytes a step: container IDs have 64 characters, and every one is hashed on every call. */
static uint32_t hash_bytes(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t h = HASH64_START ^ len, word;

    for (; len > 0; p += sizeof(word)) {
        size_t step = len < sizeof(word) ? len : sizeof(word);

        word = 0;
        if (step == sizeof(word)) {
            memcpy(&word, p, sizeof(word));
        } else {
            memcpy(&word, p, step);
        }
        h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
        h ^= h >> 32;
        len -= step;
    }
    /* The last word's high bytes, where IDs in a row differ, must reach the bits that are used. */
    h *= 0xff51afd7ed558ccdULL;
    return (uint32_t)(h >> 32);
}

struct ipam_owner lease_owner(const struct leases *leases, const struct lease *lease)
{
    const char *id = leases->text + lease->owner;

    return (struct ipam_owner){.container_id = id, .ifname = id + lease->id_len + 1};
}

/* The owner's slot: the one that holds its leases, else the empty one where they would go. */
static uint32_t *owner_slot(const struct leases *leases, const char *id, size_t id_len,
                            const char *ifname, size_t ifname_len)
{
    uint32_t h = hash_bytes(id, id_len) ^ (hash_bytes(ifname, ifname_len) * 31);

    for (;; h++) {
        uint32_t *slot = &leases->by_owner[h & leases->mask];
        const struct lease *lease = *slot == LEASE_NONE ? NULL : &leases->v[*slot];

        if (!lease || (lease->id_len == id_len && lease->ifname_len == ifname_len &&
                       !memcmp(leases->text + lease->owner, id, id_len) &&
                       !memcmp(leases->text + lease->owner + id_len + 1, ifname, ifname_len))) {
            return slot;
        }
    }
}

void leases_add(struct leases *leases, const struct ip_addr *ip, uint32_t owner, size_t id_len,
                size_t ifname_len)
{
    uint32_t index = (uint32_t)leases->n, *slot;
    struct lease *lease = &leases->v[index];
    const char *id = leases->text + owner;

    if (leases->n >= leases->size) {
        return;
    }
    slot = owner_slot(leases, id, id_len, id + id_len + 1, ifname_len);
    *lease = (struct lease){.ip = *ip,
                            .owner = owner,
                            .id_len = (uint16_t)id_len,
                            .ifname_len = (uint16_t)ifname_len,
                            .next = LEASE_NONE,
                            .live = true};
    /* An owner's leases are all live or all given back; a chain of the latter is dropped here. */
    if (*slot != LEASE_NONE && leases->v[*slot].live) {
        lease->next = *slot;
    }
    *slot = index;
    leases->n++;
    leases->n_live++;
}

void leases_mark(struct leases *leases, const struct ip_addr *ip)
{
    if (leases->n < leases->size) {
        leases->v[leases->n++] = (struct lease){.ip = *ip, .next = LEASE_NONE};
    }
}

uint32_t leases_of(const struct leases *leases, const struct ipam_owner *owner)
{
    uint32_t index;

    if (!leases->by_owner) {
        return LEASE_NONE;
    }
    index = *owner_slot(leases, owner->container_id, strlen(owner->container_id), owner->ifname,
                        strlen(owner->ifname));
    return index != LEASE_NONE && leases->v[index].live ? index : LEASE_NONE;
}

void leases_drop_owner(struct leases *leases, const struct ipam_owner *owner)
{
    for (uint32_t i = leases_of(leases, owner); i != LEASE_NONE; i = leases->v[i].next) {
        leases->v[i].live = false;
        leases->n_live--;
    }
}

static uint32_t *ip_slot(const struct leases *leases, const struct ip_addr *ip)
{
    uint32_t h = hash_bytes(ip->bytes, ip_bytes(ip));

    for (;; h++) {
        uint32_t *slot = &leases->by_ip[h & leases->mask];

        if (*slot == LEASE_NONE || ip_same(&leases->v[*slot].ip, ip)) {
            return slot;
        }
    }
}

void leases_index_ips(struct leases *leases)
{
    for (uint32_t i = 0; i < leases->n; i++) {
        if (leases->v[i].live) {
            *ip_slot(leases, &leases->v[i].ip) = i;
        }
    }
}

bool leases_taken(const struct leases *leases, const struct ip_addr *ip)
{
    return leases->by_ip && *ip_slot(leases, ip) != LEASE_NONE;
}
