/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the gate room share: a gate's queue, the deadlines of all that wait. */
#pragma once

#include "gate/gate.h"

/* ---- a gate's queue (queue.c) ---- */

struct gate_queue {
    struct gate_tenant *turn;     /* whose turn is next, in a ring of all that have waiters */
    struct gate_tenant **buckets; /* the same by name */
    size_t n_buckets;             /* a power of two, or 0 before the first tenant */
    size_t tenants, waiting;
};

/* Puts a ticket at the end of its tenant's queue; a new tenant's turn comes last. -ENOMEM. */
int gate_queue_add(struct gate_queue *queue, const char *tenant, struct gate_ticket *ticket);

/* Takes out the ticket whose turn it is, and passes the turn on. Somebody must wait. */
struct gate_ticket *gate_queue_take(struct gate_queue *queue);

/* Takes a ticket out wherever it stands. A tenant goes with its last one. */
void gate_queue_remove(struct gate_queue *queue, struct gate_ticket *ticket);

/* The earliest asked_ns of those that wait; INT64_MAX: nobody does. Looks at each tenant once. */
int64_t gate_queue_oldest_ns(const struct gate_queue *queue);

/* Frees the tenants; the tickets are not touched. */
void gate_queue_clear(struct gate_queue *queue);

/* ---- the deadlines of all that wait at any gate (deadlines.c) ---- */

struct gate_deadlines {
    struct gate_ticket **heap;
    size_t n, size;
};

int gate_deadlines_add(struct gate_deadlines *deadlines, struct gate_ticket *ticket); /* -ENOMEM */
void gate_deadlines_remove(struct gate_deadlines *deadlines, struct gate_ticket *ticket);
struct gate_ticket *gate_deadlines_first(const struct gate_deadlines *deadlines); /* NULL: none */

/* ---- limits (gate.c) ---- */

/* Sets all limits, one for each stage and in range, before anybody is admitted. */
void gates_put_limits(struct gates *gates, const unsigned *limits, int64_t now_ns);
