/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of tickets by deadline. Each knows its place in it, so that any can be taken out.
 */
#include "gate/gate-internal.h"

#include <errno.h>
#include <stdlib.h>

static void place(struct gate_deadlines *deadlines, size_t i, struct gate_ticket *ticket)
{
    deadlines->heap[i] = ticket;
    ticket->heap_index = i;
}

/* Moves the gap at i up to where the ticket belongs. */
static void sift_up(struct gate_deadlines *deadlines, size_t i, struct gate_ticket *ticket)
{
    while (i > 0 && deadlines->heap[(i - 1) / 2]->deadline_ns > ticket->deadline_ns) {
        place(deadlines, i, deadlines->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(deadlines, i, ticket);
}

/* Moves the gap at i down to the bottom, by way of the earlier child, and from there up. */
static void fill_gap(struct gate_deadlines *deadlines, size_t i, struct gate_ticket *ticket)
{
    struct gate_ticket **heap = deadlines->heap;

    for (size_t child; (child = 2 * i + 1) < deadlines->n; i = child) {
        if (child + 1 < deadlines->n && heap[child + 1]->deadline_ns < heap[child]->deadline_ns) {
            child++;
        }
        place(deadlines, i, heap[child]);
    }
    sift_up(deadlines, i, ticket);
}

int gate_deadlines_add(struct gate_deadlines *deadlines, struct gate_ticket *ticket)
{
    if (deadlines->n == deadlines->size) {
        size_t size = deadlines->size ? 2 * deadlines->size : 64;
        void *heap = reallocarray(deadlines->heap, size, sizeof(struct gate_ticket *));

        if (!heap) {
            return -ENOMEM;
        }
        deadlines->heap = heap;
        deadlines->size = size;
    }
    sift_up(deadlines, deadlines->n++, ticket);
    return 0;
}

void gate_deadlines_remove(struct gate_deadlines *deadlines, struct gate_ticket *ticket)
{
    struct gate_ticket *last = deadlines->heap[--deadlines->n];

    if (last != ticket) {
        fill_gap(deadlines, ticket->heap_index, last);
    }
}

struct gate_ticket *gate_deadlines_first(const struct gate_deadlines *deadlines)
{
    return deadlines->n ? deadlines->heap[0] : NULL;
}
