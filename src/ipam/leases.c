/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of leases that both back ends fill: an array in the order of handing out, a hash index
 * by owner (to give back) and one by address (to find a free one). Three allocations whatever the
 * number of leases, since it is built anew for every call of a short-lived plugin; an agent's
 * grows.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_GONE (LEASE_NONE - 1) /* a slot whose owner was renamed: not its, and not the end */

static void index_owners(struct leases *leases);

int leases_reserve(struct leases *leases, size_t more)
{
    size_t need = (leases->n > leases->n_names ? leases->n : leases->n_names) + more, slots = 16;
    size_t size;
    void *v, *by_owner, *by_ip;

    if (leases->by_owner && need <= leases->size) {
        return 0;
    }
    if (need >= LEASE_NONE / 4) {
        return -EFBIG;
    }
    while (slots < 2 * need) {
        slots *= 2;
    }
    size = leases->by_owner ? slots / 2 : need; /* to grow once is to grow again */
    v = realloc(leases->v, (size + 1) * sizeof(*leases->v));
    leases->v = v ? v : leases->v;
    by_owner = realloc(leases->by_owner, slots * sizeof(*leases->by_owner));
    leases->by_owner = by_owner ? by_owner : leases->by_owner;
    by_ip = realloc(leases->by_ip, slots * sizeof(*leases->by_ip));
    leases->by_ip = by_ip ? by_ip : leases->by_ip;
    if (!v || !by_owner || !by_ip) {
        return -ENOMEM;
    }
    leases->size = size;
    leases->mask = (uint32_t)(slots - 1);
    index_owners(leases);
    if (leases->indexed) {
        leases_index_ips(leases);
    }
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

char *leases_put_text(struct leases *leases, const char *data, size_t len)
{
    size_t need = leases->text_len + len;
    char *at;

    if (need > leases->text_size) {
        char *bigger = need < UINT32_MAX / 2 ? realloc(leases->text, 2 * need) : NULL;

        if (!bigger) {
            return NULL;
        }
        leases->text = bigger;
        leases->text_size = 2 * need;
    }
    at = leases->text + leases->text_len;
    memcpy(at, data, len);
    leases->text_len = need;
    return at;
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

        if (*slot == LEASE_GONE) {
            continue;
        }
        if (!lease || (lease->id_len == id_len && lease->ifname_len == ifname_len &&
                       !memcmp(leases->text + lease->owner, id, id_len) &&
                       !memcmp(leases->text + lease->owner + id_len + 1, ifname, ifname_len))) {
            return slot;
        }
    }
}

static void set_slot(struct leases *leases, uint32_t *slot, uint32_t index)
{
    leases->n_names += *slot == LEASE_NONE;
    *slot = index;
}

/* Anew: of an owner's live leases the last added is the first of its chain. */
static void index_owners(struct leases *leases)
{
    memset(leases->by_owner, 0xff, (leases->mask + 1ul) * sizeof(*leases->by_owner));
    leases->n_names = 0;
    for (uint32_t i = 0; i < leases->n; i++) {
        const struct lease *lease = &leases->v[i];

        if (lease->live) {
            const char *id = leases->text + lease->owner;

            set_slot(
                leases,
                owner_slot(leases, id, lease->id_len, id + lease->id_len + 1, lease->ifname_len),
                i);
        }
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

/* An address may have several holders (in a log that was tampered with); it is free after the last
 * has gone. */
static void hold_ip(struct leases *leases, uint32_t index)
{
    uint32_t *slot = ip_slot(leases, &leases->v[index].ip);

    if (*slot == LEASE_NONE) {
        *slot = index;
        leases->v[index].holders = 0;
    }
    leases->v[*slot].holders++;
}

void leases_index_ips(struct leases *leases)
{
    memset(leases->by_ip, 0xff, (leases->mask + 1ul) * sizeof(*leases->by_ip));
    for (uint32_t i = 0; i < leases->n; i++) {
        if (leases->v[i].live) {
            hold_ip(leases, i);
        }
    }
    leases->indexed = true;
}

bool leases_taken(const struct leases *leases, const struct ip_addr *ip)
{
    uint32_t index = *ip_slot(leases, ip);

    return index != LEASE_NONE && leases->v[index].holders > 0;
}

void leases_add(struct leases *leases, const struct ip_addr *ip, uint32_t owner, size_t id_len,
                size_t ifname_len)
{
    uint32_t index = (uint32_t)leases->n, *slot;
    const char *id = leases->text + owner;
    struct lease *lease;

    if (leases->n >= leases->size) {
        return;
    }
    lease = &leases->v[index];
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
    set_slot(leases, slot, index);
    leases->n++;
    leases->n_live++;
    if (leases->indexed) {
        hold_ip(leases, index);
    }
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
        if (leases->indexed) {
            leases->v[*ip_slot(leases, &leases->v[i].ip)].holders--;
        }
    }
}

int leases_move(struct leases *leases, const struct ipam_owner *from, uint32_t owner, size_t id_len,
                size_t ifname_len)
{
    const char *id = leases->text + owner;
    uint32_t first = leases_of(leases, from);

    if (first == LEASE_NONE || leases->n_names >= leases->size ||
        leases_of(leases, &(struct ipam_owner){id, id + id_len + 1}) != LEASE_NONE) {
        return -EINVAL;
    }
    *owner_slot(leases, from->container_id, strlen(from->container_id), from->ifname,
                strlen(from->ifname)) = LEASE_GONE;
    for (uint32_t i = first; i != LEASE_NONE; i = leases->v[i].next) {
        leases->v[i].owner = owner;
        leases->v[i].id_len = (uint16_t)id_len;
        leases->v[i].ifname_len = (uint16_t)ifname_len;
    }
    set_slot(leases, owner_slot(leases, id, id_len, id + id_len + 1, ifname_len), first);
    return 0;
}
