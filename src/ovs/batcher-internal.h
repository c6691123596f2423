/* SPDX-License-Identifier: Apache-2.0 */
/* What the batcher's files share: the replica (monitor.c), requests and their life cycle. */
#pragma once

#include "ovs/ovs-internal.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* ---- monitor.c: what the database told of a table's rows ---- */

struct ovs_table {
    json_t *rows;  /* by uuid: the monitored columns */
    json_t *names; /* by name: the uuid of the row that has it */
};

struct ovs_replica {
    struct ovs_table interfaces, bridges;
};

void ovs_replica_clear(struct ovs_replica *replica);

/* Parameters of the request "monitor" (RFC 7047, section 4.1.5) that a replica wants. */
json_t *ovs_replica_monitor(void);

/*
 * Takes in the reply to that request, or the second parameter of an "update" (section 4.1.6).
 * changed (may be NULL) is called for each Interface that changed, with NULL for one that is gone;
 * it may not change the replica. -EBADMSG when it is no such thing; the replica is then to be
 * cleared.
 */
int ovs_replica_update(struct ovs_replica *replica, const json_t *updates,
                       void (*changed)(void *cookie, const char *uuid, const json_t *row),
                       void *cookie);

bool ovs_table_has(const struct ovs_table *table, const char *name);

/* ---- requests ---- */

#define OVS_BATCH_REMOVALS 20 /* ports, in one transaction */

/*
 * 1. QUEUED in additions or removals; 2. SENT, in flight; 3. removals are done with the reply,
 * additions COMMITTED: they wait until all their ports have an ofport; 4. FAILED: one has none, so
 * all are to be taken back. DOUBTFUL: the connection was lost while it was SENT.
 */
enum request_state { QUEUED, SENT, DOUBTFUL, COMMITTED, FAILED };

TAILQ_HEAD(request_list, request);

/* A port whose ofport is waited for; in a tree by uuid. */
struct watch {
    const char *uuid; /* of the Interface; in request->interfaces */
    struct request *request;
    const struct ovs_port_spec *spec;
    int ofport;
};

/* On the stack of the thread that waits for it; from queueing to done it is the batcher's. */
struct request {
    TAILQ_ENTRY(request) link;
    struct request_list *list; /* that it is in */
    enum request_state state;
    int64_t deadline_ns;
    int64_t
        pause_ns; /* removal: till then it lets additions pass. FAILED: till then to take back */
    size_t n;     /* ports */
    json_t *ops;  /* insertions, or the selects that find what to remove */
    size_t share; /* how many requests may be in its transaction */
    size_t first; /* of the transaction's results the first that is its own */

    const char *const *names;          /* of a removal; NULL for an addition */
    const struct ovs_port_spec *specs; /* of an addition, as all below */
    size_t number;                     /* of the first of its ports, see ovs_add_insert */
    bool suspect;                      /* in conflict with the database as known when it was sent */
    json_t *interfaces, *ports;        /* uuids of the rows, once COMMITTED */
    struct watch *watches;
    size_t n_made;
    bool silent; /* FAILED because ovs-vswitchd did not answer */

    struct error err; /* errnum 0: done well */
    sem_t done;
};

/* The one request to OVSDB that is under way. */
enum flight {
    FLIGHT_NONE,
    FLIGHT_MONITOR,
    FLIGHT_FIND_LOST,
    FLIGHT_ADD,
    FLIGHT_FIND,
    FLIGHT_DEL,
    FLIGHT_UNDO
};

struct ovs_batcher {
    char *path;
    pthread_t thread;
    int event_fd;
    size_t waiting_max; /* ports; tests lower it */
    atomic_size_t last_number;
    atomic_bool connected;

    pthread_mutex_t lock;
    struct request_list incoming;     /* under lock */
    size_t waiting;                   /* ports of requests not done; under lock */
    bool stopping;                    /* under lock */
    struct ovs_batcher_counts counts; /* under lock */

    /* The thread's own. */
    struct request_list additions, removals, flying, doubtful, committed, failed;
    int64_t stop_ns; /* when it was told to stop; 0: not yet */
    int64_t next_ns; /* no request's time is up before */
    void *watches;   /* tsearch(3) */

    struct ovsdb *db; /* NULL: not connected */
    struct ovs_replica replica;
    bool ready;         /* the replica is whole */
    int64_t retry_ns;   /* when to connect next */
    int64_t give_up_ns; /* a server that was lost may be away till then; 0: was not lost */
    struct error why;   /* there is no connection */
    enum flight flight;
    json_int_t flight_id, lock_id;
    size_t flight_n, first; /* operations in it; which of them are the first request's */
    bool switch_present;    /* as of the last lock_id */
    bool was_suspect;       /* the last addition was one */
};

/* ---- batcher.c ---- */

/* When something is to happen to a request that nothing else happened to. */
int64_t ovs_request_due(const struct ovs_batcher *batcher, const struct request *request);
void ovs_request_move(struct ovs_batcher *batcher, struct request *request,
                      struct request_list *list, enum request_state state, bool front);

/* Ends it as request->err says and wakes who waits for it. */
void ovs_request_finish(struct ovs_batcher *batcher, struct request *request);

/* Ends the connection; what was in flight is to be found out, or done again. */
void ovs_batcher_lose(struct ovs_batcher *batcher, const struct error *why);

void ovs_batcher_count(struct ovs_batcher *batcher, uint64_t *counter, uint64_t n);

/* ---- batch.c: the transactions ---- */

/* Sends what is to be done next, if anything; nothing may be in flight. -errno: the connection is
 * to be lost. */
int ovs_batch_send(struct ovs_batcher *batcher, struct error *err);

/* When a removal that lets additions pass is to be sent; INT64_MAX: none. */
int64_t ovs_batch_pause(const struct ovs_batcher *batcher);

/* Takes in a message of the server. -errno: the connection is to be lost. */
int ovs_batch_take(struct ovs_batcher *batcher, const json_t *message, struct error *err);

/* A request's ports have to be taken back: request->err says why, unless it is silent. */
void ovs_batch_fail(struct ovs_batcher *batcher, struct request *request);
