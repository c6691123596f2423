/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits at one gate: a list of tickets for each tenant, the tenants in a ring in which the turn
 * goes round, and in a hash table by name. A tenant is there only while it has waiters.
 */
#include "gate/gate-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct gate_tenant {
    struct gate_tenant *next, *prev; /* the ring */
    struct gate_tenant *chain;       /* others in the same bucket */
    struct gate_ticket *first, *last;
    uint64_t hash;
    size_t len;
    char name[]; /* without NUL */
};

static struct gate_tenant **bucket_of(const struct gate_queue *queue, uint64_t hash)
{
    return &queue->buckets[hash & (queue->n_buckets - 1)];
}

/* What points to the tenant of that name, or the NULL where it would be put. */
static struct gate_tenant **slot_of(const struct gate_queue *queue, uint64_t hash, const char *name,
                                    size_t len)
{
    struct gate_tenant **slot = bucket_of(queue, hash);

    while (*slot && ((*slot)->hash != hash || (*slot)->len != len ||
                     memcmp((*slot)->name, name, len) != 0)) {
        slot = &(*slot)->chain;
    }
    return slot;
}

static int grow(struct gate_queue *queue)
{
    size_t n = queue->n_buckets ? 2 * queue->n_buckets : 16;
    struct gate_tenant **buckets = calloc(n, sizeof(*buckets)), *tenant = queue->turn;

    if (!buckets) {
        return -ENOMEM;
    }
    free(queue->buckets);
    queue->buckets = buckets;
    queue->n_buckets = n;
    for (size_t i = 0; i < queue->tenants; i++, tenant = tenant->next) {
        struct gate_tenant **bucket = bucket_of(queue, tenant->hash);

        tenant->chain = *bucket;
        *bucket = tenant;
    }
    return 0;
}

static struct gate_tenant *tenant_new(uint64_t hash, const char *name, size_t len)
{
    struct gate_tenant *tenant = calloc(1, sizeof(*tenant) + len);

    if (tenant) {
        tenant->hash = hash;
        tenant->len = len;
        memcpy(tenant->name, name, len);
    }
    return tenant;
}

/* Behind all others: just before the one whose turn it is. */
static void ring_add(struct gate_queue *queue, struct gate_tenant *tenant)
{
    struct gate_tenant *turn = queue->turn;

    if (!turn) {
        queue->turn = tenant->next = tenant->prev = tenant;
    } else {
        tenant->next = turn;
        tenant->prev = turn->prev;
        tenant->prev->next = turn->prev = tenant;
    }
    queue->tenants++;
}

static void tenant_drop(struct gate_queue *queue, struct gate_tenant *tenant)
{
    struct gate_tenant **slot = slot_of(queue, tenant->hash, tenant->name, tenant->len);

    *slot = tenant->chain;
    tenant->next->prev = tenant->prev;
    tenant->prev->next = tenant->next;
    if (queue->turn == tenant) {
        queue->turn = tenant->next == tenant ? NULL : tenant->next;
    }
    queue->tenants--;
    free(tenant);
}

int gate_queue_add(struct gate_queue *queue, const char *tenant, struct gate_ticket *ticket)
{
    size_t len = strnlen(tenant, GATE_TENANT_MAX);
    uint64_t hash = hash64(HASH64_START, tenant, len);
    struct gate_tenant **slot;

    if (queue->tenants == queue->n_buckets && grow(queue) < 0) {
        return -ENOMEM;
    }
    slot = slot_of(queue, hash, tenant, len);
    if (!*slot) {
        *slot = tenant_new(hash, tenant, len);
        if (!*slot) {
            return -ENOMEM;
        }
        ring_add(queue, *slot);
    }
    ticket->tenant = *slot;
    ticket->next = NULL;
    ticket->prev = (*slot)->last;
    *((*slot)->last ? &(*slot)->last->next : &(*slot)->first) = ticket;
    (*slot)->last = ticket;
    queue->waiting++;
    return 0;
}

struct gate_ticket *gate_queue_take(struct gate_queue *queue)
{
    struct gate_ticket *ticket = queue->turn->first;

    queue->turn = queue->turn->next;
    gate_queue_remove(queue, ticket);
    return ticket;
}

void gate_queue_remove(struct gate_queue *queue, struct gate_ticket *ticket)
{
    struct gate_tenant *tenant = ticket->tenant;

    *(ticket->prev ? &ticket->prev->next : &tenant->first) = ticket->next;
    *(ticket->next ? &ticket->next->prev : &tenant->last) = ticket->prev;
    ticket->tenant = NULL;
    ticket->next = ticket->prev = NULL;
    queue->waiting--;
    if (!tenant->first) {
        tenant_drop(queue, tenant);
    }
}

int64_t gate_queue_oldest_ns(const struct gate_queue *queue)
{
    const struct gate_tenant *tenant = queue->turn;
    int64_t oldest = INT64_MAX;

    for (size_t i = 0; i < queue->tenants; i++, tenant = tenant->next) {
        oldest = tenant->first->asked_ns < oldest ? tenant->first->asked_ns : oldest;
    }
    return oldest;
}

void gate_queue_clear(struct gate_queue *queue)
{
    while (queue->turn) {
        tenant_drop(queue, queue->turn);
    }
    free(queue->buckets);
}
