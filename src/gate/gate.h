/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates: how many pods may be in a stage at once. Counting gates with queues: first come first
 * served within a tenant, round-robin between tenants. Pure logic: no threads, no clock, no I/O; one
 * thread calls, and says what time it is. Called by the agent (src/agent), which binds permits to
 * connections.
 */
#pragma once

#include "json/json.h"
#include "span/span.h"
#include "stats/stats.h"

#define GATE_WAITERS_MAX 100000 /* at one gate */
#define GATE_TENANT_MAX  64     /* bytes of a tenant's name that count */
#define GATE_LIMIT_MAX   1000000

struct gates;       /* one gate for each of span_stages */
struct gate_tenant; /* a tenant's queue at one gate */

enum gate_state { GATE_NONE, GATE_WAITING, GATE_HELD };

/* A place in a queue and then a permit; the caller's memory, zeroed before its first use. */
struct gate_ticket {
    /* The caller's: called when the wait is over, never from within gate_acquire: rc 0, and the
     * permit is held; -ETIMEDOUT, past the deadline. It may call anything of this room, and may free
     * the ticket. */
    void (*done)(struct gate_ticket *ticket, int rc);

    /* To be read. */
    enum gate_state state;
    size_t stage;
    int64_t asked_ns, admitted_ns, deadline_ns;

    /* The room's own. */
    struct gate_tenant *tenant;
    struct gate_ticket *next, *prev;
    size_t heap_index;
};

/* All gates open (limit 0). -ENOMEM. */
int gates_new(struct gates **ret);

/* Tickets that still wait or hold are forgotten: their done is not called. */
void gates_free(struct gates *gates);

/*
 * Asks for a permit of a stage (span_stage_index). Returns 1: held at once; 0: waits, done will be
 * called, at deadline_ns at the latest; -ENOBUFS: GATE_WAITERS_MAX wait already; -ENOMEM; -EINVAL:
 * no such stage. tenant "" is one too. Whoever comes when others wait does not pass them.
 */
int gate_acquire(struct gates *gates, size_t stage, const char *tenant, int64_t now_ns,
                 int64_t deadline_ns, struct gate_ticket *ticket);

/* Gives a permit back, or a place in the queue up (done is then not called); fine when neither. */
void gate_release(struct gates *gates, struct gate_ticket *ticket, int64_t now_ns);

/* 0: no limit. A lower limit takes no permit away. -EINVAL: no such stage, or over the maximum. */
int gate_set_limit(struct gates *gates, size_t stage, unsigned limit, int64_t now_ns);
unsigned gate_limit(const struct gates *gates, size_t stage);

/* When gates_expire is to be called next; INT64_MAX: nobody waits. */
int64_t gates_next_deadline(const struct gates *gates);

/* Ends every wait whose deadline is past. */
void gates_expire(struct gates *gates, int64_t now_ns);

/* What is so and what was so far; for metrics and `sluice gate show`. */
struct gate_view {
    unsigned limit;
    size_t held, waiting, tenants; /* tenants that have somebody waiting */
    int64_t longest_wait_ns;       /* of those that wait now */
    uint64_t admitted, expired, given_up, refused;
    const struct histogram *wait, *hold; /* of all that were admitted; of all that were released */
};

void gate_view(const struct gates *gates, size_t stage, int64_t now_ns, struct gate_view *ret);

/* {"v":1,"limits":{"cni":4,...}}: every stage, 0 for no limit; a new object. */
json_t *gates_limits(const struct gates *gates);

/*
 * Sets the limits that such an object names; others stay. Checked whole before anything is set:
 * -EINVAL with key, value and what is allowed. "evidence" and unknown keys beside "limits" are let
 * be.
 */
int gates_set_limits(struct gates *gates, const json_t *json, int64_t now_ns, struct error *err);

/* "cni=4": *ret_stage and *ret_limit; -EINVAL with what is allowed. */
int gate_setting_parse(const char *text, size_t *ret_stage, unsigned *ret_limit, struct error *err);

/* A stage by its name; -EINVAL with what is allowed. */
int gate_stage_parse(const char *text, size_t *ret, struct error *err);
