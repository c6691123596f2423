/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is let in, and when. Whatever frees a permit or passes a deadline only writes it down; one
 * loop (settle) ends one wait after the other and keeps no pointer over a call of `done`. A call
 * from within `done` leaves its part to the loop that is running, so that however many waits end
 * each other, the stack stays flat.
 */
#include "gate/gate-internal.h"

#include <errno.h>
#include <stdlib.h>

struct gate {
    unsigned limit; /* 0: none */
    size_t held;
    struct gate_queue queue;
    uint64_t admitted, expired, given_up, refused;
    struct histogram wait, hold;
};

struct gates {
    int64_t now_ns; /* the latest that a caller said */
    struct gate_deadlines deadlines;
    bool settling;
    bool doomed; /* gates_free was called from within `done` */
    struct gate stages[];
};

int gates_new(struct gates **ret)
{
    struct gates *gates = calloc(1, sizeof(*gates) + span_n_stages * sizeof(gates->stages[0]));

    if (!gates) {
        return -ENOMEM;
    }
    gates->now_ns = INT64_MIN;
    *ret = gates;
    return 0;
}

void gates_free(struct gates *gates)
{
    if (!gates) {
        return;
    }
    if (gates->settling) {
        gates->doomed = true;
        return;
    }
    for (size_t i = 0; i < span_n_stages; i++) {
        gate_queue_clear(&gates->stages[i].queue);
    }
    free(gates->deadlines.heap);
    free(gates);
}

/* Time does not run backwards, also when an outer call and one from within `done` say theirs. */
static void note_time(struct gates *gates, int64_t now_ns)
{
    if (now_ns > gates->now_ns) {
        gates->now_ns = now_ns;
    }
}

static bool has_room(const struct gate *gate)
{
    return gate->limit == 0 || gate->held < gate->limit;
}

static void hold(struct gates *gates, struct gate_ticket *ticket)
{
    struct gate *gate = &gates->stages[ticket->stage];

    ticket->state = GATE_HELD;
    ticket->admitted_ns = gates->now_ns;
    gate->held++;
    gate->admitted++;
    histogram_add(&gate->wait, ticket->admitted_ns - ticket->asked_ns);
}

/* Takes out one ticket whose wait is over; NULL when there is none. */
static struct gate_ticket *take_expired(struct gates *gates)
{
    struct gate_ticket *ticket = gate_deadlines_first(&gates->deadlines);

    if (!ticket || ticket->deadline_ns > gates->now_ns) {
        return NULL;
    }
    gate_deadlines_remove(&gates->deadlines, ticket);
    gate_queue_remove(&gates->stages[ticket->stage].queue, ticket);
    gates->stages[ticket->stage].expired++;
    ticket->state = GATE_NONE;
    return ticket;
}

static struct gate_ticket *take_admitted(struct gates *gates)
{
    for (size_t i = 0; i < span_n_stages; i++) {
        struct gate *gate = &gates->stages[i];

        if (gate->queue.waiting && has_room(gate)) {
            struct gate_ticket *ticket = gate_queue_take(&gate->queue);

            gate_deadlines_remove(&gates->deadlines, ticket);
            hold(gates, ticket);
            return ticket;
        }
    }
    return NULL;
}

/* Ends all waits that are over. gates may be gone afterwards. A permit goes to nobody whose
 * deadline is past: it may have stopped listening. */
static void settle(struct gates *gates, int64_t now_ns)
{
    note_time(gates, now_ns);
    if (gates->settling) {
        return;
    }
    gates->settling = true;
    while (!gates->doomed) {
        struct gate_ticket *expired = take_expired(gates);
        struct gate_ticket *ticket = expired ? expired : take_admitted(gates);

        if (!ticket) {
            break;
        }
        ticket->done(ticket, expired ? -ETIMEDOUT : 0);
    }
    gates->settling = false;
    if (gates->doomed) {
        gates_free(gates);
    }
}

static int wait_in_queue(struct gates *gates, const char *tenant, struct gate_ticket *ticket)
{
    struct gate_queue *queue = &gates->stages[ticket->stage].queue;
    int rc = queue->waiting < GATE_WAITERS_MAX ? 0 : -ENOBUFS;

    if (rc == 0) {
        rc = gate_deadlines_add(&gates->deadlines, ticket);
    }
    if (rc < 0) {
        return rc;
    }
    rc = gate_queue_add(queue, tenant, ticket);
    if (rc < 0) {
        gate_deadlines_remove(&gates->deadlines, ticket);
        return rc;
    }
    ticket->state = GATE_WAITING;
    return 0;
}

int gate_acquire(struct gates *gates, size_t stage, const char *tenant, int64_t now_ns,
                 int64_t deadline_ns, struct gate_ticket *ticket)
{
    struct gate *gate;
    int rc;

    if (stage >= span_n_stages) {
        return -EINVAL;
    }
    gate = &gates->stages[stage];
    note_time(gates, now_ns);
    ticket->stage = stage;
    ticket->asked_ns = gates->now_ns;
    ticket->deadline_ns = deadline_ns;
    if (gate->queue.waiting == 0 && has_room(gate)) {
        hold(gates, ticket);
        return 1;
    }
    rc = wait_in_queue(gates, tenant, ticket);
    gate->refused += rc < 0;
    return rc;
}

void gate_release(struct gates *gates, struct gate_ticket *ticket, int64_t now_ns)
{
    struct gate *gate = &gates->stages[ticket->stage];

    if (ticket->state == GATE_NONE) {
        return;
    }
    note_time(gates, now_ns);
    if (ticket->state == GATE_HELD) {
        gate->held--;
        histogram_add(&gate->hold, gates->now_ns - ticket->admitted_ns);
    } else {
        gate_deadlines_remove(&gates->deadlines, ticket);
        gate_queue_remove(&gate->queue, ticket);
        gate->given_up++;
    }
    ticket->state = GATE_NONE;
    settle(gates, now_ns);
}

int gate_set_limit(struct gates *gates, size_t stage, unsigned limit, int64_t now_ns)
{
    if (stage >= span_n_stages || limit > GATE_LIMIT_MAX) {
        return -EINVAL;
    }
    gates->stages[stage].limit = limit;
    settle(gates, now_ns);
    return 0;
}

void gates_put_limits(struct gates *gates, const unsigned *limits, int64_t now_ns)
{
    for (size_t i = 0; i < span_n_stages; i++) {
        gates->stages[i].limit = limits[i];
    }
    settle(gates, now_ns);
}

unsigned gate_limit(const struct gates *gates, size_t stage)
{
    return gates->stages[stage].limit;
}

int64_t gates_next_deadline(const struct gates *gates)
{
    const struct gate_ticket *first = gate_deadlines_first(&gates->deadlines);

    return first ? first->deadline_ns : INT64_MAX;
}

void gates_expire(struct gates *gates, int64_t now_ns)
{
    settle(gates, now_ns);
}

void gate_view(const struct gates *gates, size_t stage, int64_t now_ns, struct gate_view *ret)
{
    const struct gate *gate = &gates->stages[stage];
    int64_t oldest_ns = gate_queue_oldest_ns(&gate->queue);

    *ret = (struct gate_view){.limit = gate->limit,
                              .held = gate->held,
                              .waiting = gate->queue.waiting,
                              .tenants = gate->queue.tenants,
                              .longest_wait_ns = now_ns > oldest_ns ? now_ns - oldest_ns : 0,
                              .admitted = gate->admitted,
                              .expired = gate->expired,
                              .given_up = gate->given_up,
                              .refused = gate->refused,
                              .wait = &gate->wait,
                              .hold = &gate->hold};
}
