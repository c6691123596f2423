/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batcher's transactions: which requests go into one, how it is written, and what its reply
 * means for each of them. One is in flight at a time. Runs in the batcher's thread only.
 */
#include "ovs/batcher-internal.h"

#include <errno.h>
#include <search.h>
#include <string.h>

#define ADD_PORTS_MAX 500                /* in one transaction, unless one request alone has more */
#define DEL_PORTS_MAX OVS_BATCH_REMOVALS /* likewise */
#define UNDO_NS       (2 * NSEC_PER_SEC) /* to take back what did not work */

/* ---- sending ---- */

static int send_flight(struct ovs_batcher *b, enum flight flight, json_t *ops, struct error *err)
{
    b->flight = flight;
    b->flight_n = json_array_size(ops);
    return ovsdb_send(b->db, "transact", ovsdb_transaction(ops), &b->flight_id, err);
}

static void count_transaction(struct ovs_batcher *b, size_t ports)
{
    ovs_batcher_count(b, &b->counts.transactions, 1);
    ovs_batcher_count(b, &b->counts.sizes[ovs_batch_size(ports, OVS_BATCH_SIZES)], 1);
}

/* ---- additions: into one transaction ---- */

/* Whether it cannot work if the database is as we know it. It then goes alone, so that it fails
 * nobody else: it is the database that decides, which may have changed. */
static bool is_suspect(const struct ovs_batcher *b, const struct request *r)
{
    for (size_t i = 0; i < r->n; i++) {
        if (ovs_table_has(&b->replica.interfaces, r->specs[i].name) ||
            !ovs_table_has(&b->replica.bridges, r->specs[i].bridge)) {
            return true;
        }
    }
    return false;
}

/* False when one of its names was claimed before. */
static bool claim_names(json_t *names, const struct request *r)
{
    bool was_free = true;

    for (size_t i = 0; i < r->n; i++) {
        was_free = was_free && !json_object_get(names, r->specs[i].name);
        json_object_set_new(names, r->specs[i].name, json_true());
    }
    return was_free;
}

/*
 * Moves to flying those that go together: no suspects, no name twice, and after a failure no more
 * than their share. Suspects go one by one, in turn with the others.
 */
static void choose_additions(struct ovs_batcher *b)
{
    autojson json_t *names = json_object();
    struct request *r = TAILQ_FIRST(&b->additions), *next, *suspect = NULL;
    size_t ports = 0, n = 0, share = SIZE_MAX;

    for (; r && n < share && (n > 0 || !suspect || b->was_suspect); r = next) {
        next = TAILQ_NEXT(r, link);
        r->suspect = is_suspect(b, r);
        if (r->suspect) {
            suspect = suspect ? suspect : r;
            continue;
        }
        if (n > 0 && (ports + r->n > ADD_PORTS_MAX || n >= r->share)) {
            break;
        }
        share = r->share < share ? r->share : share;
        if (!claim_names(names, r)) {
            if (n > 0) {
                continue;
            }
            share = 1; /* one of its own names twice */
        }
        ovs_request_move(b, r, &b->flying, SENT, false);
        ports += r->n;
        n++;
    }
    b->was_suspect = n == 0;
    if (n == 0 && suspect) {
        ovs_request_move(b, suspect, &b->flying, SENT, false);
    }
}

/* Operations: a select of the bridges there are, a wait for each that is needed, insertions,
 * mutations. */
static int send_additions(struct ovs_batcher *b, struct error *err)
{
    autojson json_t *ops = json_array(), *bridges = json_object();
    struct request *r;
    size_t ports = 0;

    choose_additions(b);
    TAILQ_FOREACH(r, &b->flying, link)
    {
        r->first = json_array_size(ops);
        json_array_extend(ops, r->ops);
        for (size_t i = 0; i < r->n; i++) {
            ovs_add_refer(bridges, &r->specs[i], r->number + i);
        }
        ports += r->n;
    }
    ovs_add_bridges(ops, bridges);
    json_array_insert_new(ops, 0, ovsdb_select("Bridge", json_array(), "name"));
    b->first = 1 + json_object_size(bridges);
    if (json_array_size(ops) != 2 * ports + 2 * json_object_size(bridges) + 1) {
        return error_sys(err, -ENOMEM, "write a transaction");
    }
    count_transaction(b, ports);
    return send_flight(b, FLIGHT_ADD, take_ptr(ops), err);
}

/* ---- additions: who is to blame ---- */

/* The words for a transaction that one request alone failed. */
static void blame_one(struct ovs_batcher *b, struct request *r, const json_t *results, int rc,
                      const struct error *err)
{
    const json_t *bridges = ovsdb_rows(results, 0), *row;

    r->err = *err;
    if (rc != -ETIMEDOUT) {
        ovs_add_wrap(r->specs, r->n, rc, &r->err);
        return;
    }
    /* A wait for a bridge ended it. */
    for (size_t i = 0; i < r->n; i++) {
        bool found = false;
        size_t k;

        json_array_foreach (bridges, k, row) {
            const char *name = json_string_value(json_object_get(row, "name"));

            found = found || (name && !strcmp(name, r->specs[i].bridge));
        }
        if (!found) {
            ovs_no_bridge(b->path, r->specs[i].bridge, bridges, &r->err);
            return;
        }
    }
}

/* Nothing of a transaction was done. Each request that was in it tries again in one of half the
 * size, until the guilty ones are alone. */
static void additions_refused(struct ovs_batcher *b, const json_t *results, int rc,
                              const struct error *err)
{
    struct request *r;
    size_t n = 0;

    TAILQ_FOREACH(r, &b->flying, link)
    {
        n++;
    }
    if (n == 1) {
        blame_one(b, TAILQ_FIRST(&b->flying), results, rc, err);
        ovs_request_finish(b, TAILQ_FIRST(&b->flying));
        return;
    }
    ovs_batcher_count(b, &b->counts.retried, n);
    while ((r = TAILQ_LAST(&b->flying, request_list))) {
        r->share = (n + 1) / 2;
        ovs_request_move(b, r, &b->additions, QUEUED, true);
    }
}

/* ---- additions: waiting for ovs-vswitchd ---- */

static int compare_watches(const void *a, const void *b)
{
    return strcmp(((const struct watch *)a)->uuid, ((const struct watch *)b)->uuid);
}

static void unwatch(struct ovs_batcher *b, struct request *r)
{
    for (size_t i = 0; i < r->n && r->watches[i].uuid; i++) {
        tdelete(&r->watches[i], &b->watches, compare_watches);
        r->watches[i].uuid = NULL;
    }
}

void ovs_batch_fail(struct ovs_batcher *b, struct request *r)
{
    unwatch(b, r);
    r->pause_ns = clock_ns() + UNDO_NS;
    ovs_request_move(b, r, &b->failed, FAILED, false);
}

/* What the database says of a port that is waited for; row NULL: it is gone. True when that was the
 * last one, and the request is done and gone. */
static bool look(struct ovs_batcher *b, struct watch *watch, const json_t *row)
{
    struct request *r = watch->request;

    if (watch->ofport > 0 || (row && ovs_row_ofport(row) == 0)) {
        return false;
    }
    if (ovs_port_judge(watch->spec, row, &r->err) < 0) {
        ovs_batch_fail(b, r);
        return false;
    }
    watch->ofport = ovs_row_ofport(row);
    if (++r->n_made < r->n) {
        return false;
    }
    unwatch(b, r);
    ovs_request_finish(b, r);
    return true;
}

static void changed(void *cookie, const char *uuid, const json_t *row)
{
    struct ovs_batcher *b = cookie;
    struct watch key = {.uuid = uuid}, **found = tfind(&key, &b->watches, compare_watches);

    if (found) {
        look(b, *found, row);
    }
}

static void look_at_all(struct ovs_batcher *b, struct request *r)
{
    for (size_t i = 0; i < r->n && r->state == COMMITTED; i++) {
        if (look(b, &r->watches[i],
                 json_object_get(b->replica.interfaces.rows, r->watches[i].uuid))) {
            return;
        }
    }
}

/*
 * The database has a request's ports: interfaces and ports are the uuids (stolen). Its update comes
 * before its reply (as all clients of ovsdb-server rely on), so the replica knows the rows already.
 */
static int commit(struct ovs_batcher *b, struct request *r, json_t *interfaces, json_t *ports,
                  struct error *err)
{
    json_decref(r->interfaces);
    json_decref(r->ports);
    r->interfaces = interfaces;
    r->ports = ports;
    r->n_made = 0;
    if (json_array_size(interfaces) != r->n || json_array_size(ports) != r->n) {
        return error_set(err, -EBADMSG, "OVSDB at %s did not tell what it inserted", b->path);
    }
    for (size_t i = 0; i < r->n; i++) {
        struct watch *watch = &r->watches[i];

        *watch = (struct watch){.uuid = ovs_uuid_text(json_array_get(interfaces, i)),
                                .request = r,
                                .spec = &r->specs[i]};
        if (!tsearch(watch, &b->watches, compare_watches)) {
            unwatch(b, r);
            return error_sys(err, -ENOMEM, "wait for ports");
        }
    }
    ovs_request_move(b, r, &b->committed, COMMITTED, false);
    look_at_all(b, r);
    return 0;
}

static int additions_done(struct ovs_batcher *b, const json_t *results, struct error *err)
{
    struct request *r, *next;
    int rc = 0;

    for (r = TAILQ_FIRST(&b->flying); rc == 0 && r; r = next) {
        json_t *interfaces = json_array(), *ports = json_array();

        next = TAILQ_NEXT(r, link);
        for (size_t i = 0; i < r->n; i++) {
            json_array_append(interfaces, ovsdb_inserted(results, b->first + r->first + 2 * i));
            json_array_append(ports, ovsdb_inserted(results, b->first + r->first + 2 * i + 1));
        }
        rc = commit(b, r, interfaces, ports, err);
    }
    return rc;
}

/* ---- additions: taking back ---- */

static int send_undo(struct ovs_batcher *b, struct error *err)
{
    autojson json_t *uuids = json_array();
    struct request *r;
    bool silent = false;
    json_int_t unlock_id;
    int rc = 0;

    while ((r = TAILQ_FIRST(&b->failed))) {
        json_array_extend(uuids, r->ports);
        silent = silent || r->silent;
        ovs_request_move(b, r, &b->flying, FAILED, false);
    }
    count_transaction(b, json_array_size(uuids));
    if (silent) {
        b->switch_present = true;
        rc = ovsdb_send(b->db, "lock", json_pack("[s]", OVS_SWITCH_LOCK), &b->lock_id, err);
        if (rc == 0) {
            rc = ovsdb_send(b->db, "unlock", json_pack("[s]", OVS_SWITCH_LOCK), &unlock_id, err);
        }
    }
    return rc < 0 ? rc : send_flight(b, FLIGHT_UNDO, json_pack("[o]", ovs_detach(uuids)), err);
}

static void undone(struct ovs_batcher *b, int rc, const struct error *err)
{
    struct request *r;

    while ((r = TAILQ_FIRST(&b->flying))) {
        if (r->silent) {
            ovs_switch_silent_words(b->path, b->switch_present, &r->err);
            ovs_add_wrap(r->specs, r->n, r->err.errnum, &r->err);
        }
        if (rc < 0) {
            error_wrap(&r->err, "%zu ports are left behind (%s)", r->n, err->text);
        }
        ovs_request_finish(b, r);
    }
}

/* ---- additions: in flight when the connection was lost ---- */

static int send_find_lost(struct ovs_batcher *b, struct error *err)
{
    json_t *ops = json_array();
    struct request *r;

    TAILQ_FOREACH(r, &b->doubtful, link)
    {
        r->first = json_array_size(ops);
        for (size_t i = 0; i < r->n; i++) {
            json_array_append_new(ops, ovsdb_select("Port", ovsdb_where_name(r->specs[i].name),
                                                    "_uuid external_ids interfaces"));
        }
    }
    return send_flight(b, FLIGHT_FIND_LOST, ops, err);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

static bool is_of(const json_t *row, const struct ovs_owner *owner)
{
    struct ovs_owner is = ovs_row_owner(row);

    return same_text(is.network, owner->network) &&
           same_text(is.container_id, owner->container_id) && same_text(is.ifname, owner->ifname) &&
           same_text(is.instance, owner->instance);
}

/*
 * What became of one: a transaction is done whole or not at all. Ports of its names and its owner
 * are its own, since they were not there when it was sent; without an owner nobody can tell.
 */
static int find_one(struct ovs_batcher *b, struct request *r, const json_t *results,
                    struct error *err)
{
    json_t *interfaces = json_array(), *ports = json_array();
    bool ours = !r->suspect, unowned = false;

    for (size_t i = 0; i < r->n; i++) {
        json_t *row = json_array_get(ovsdb_rows(results, r->first + i), 0);

        unowned = unowned || (row && !r->specs[i].owner.network);
        ours = ours && row && is_of(row, &r->specs[i].owner);
        json_array_append(ports, json_object_get(row, "_uuid"));
        json_array_append(interfaces, ovs_row_reference(row, "interfaces", 0));
    }
    if (ours && !unowned) {
        return commit(b, r, interfaces, ports, err);
    }
    json_decref(interfaces);
    json_decref(ports);
    if (unowned && !r->suspect) {
        error_set(&r->err, -EAGAIN,
                  "the connection to OVSDB at %s was lost in the middle: it may be there now",
                  b->path);
        ovs_add_wrap(r->specs, r->n, -EAGAIN, &r->err);
        ovs_request_finish(b, r);
        return 0;
    }
    ovs_batcher_count(b, &b->counts.retried, 1);
    ovs_request_move(b, r, &b->additions, QUEUED, true);
    return 0;
}

static int lost_found(struct ovs_batcher *b, const json_t *results, struct error *err)
{
    struct request *r;
    int rc = 0;

    while (rc == 0 && (r = TAILQ_LAST(&b->doubtful, request_list))) {
        rc = find_one(b, r, results, err);
    }
    return rc;
}

/* ---- removals ---- */

static int send_find(struct ovs_batcher *b, struct error *err)
{
    json_t *ops = json_array();
    struct request *r;

    while ((r = TAILQ_FIRST(&b->removals)) &&
           (TAILQ_EMPTY(&b->flying) || json_array_size(ops) + r->n <= DEL_PORTS_MAX)) {
        json_array_extend(ops, r->ops);
        ovs_request_move(b, r, &b->flying, SENT, false);
    }
    return send_flight(b, FLIGHT_FIND, ops, err);
}

static void finish_flying(struct ovs_batcher *b, const struct error *err)
{
    struct request *r;

    while ((r = TAILQ_FIRST(&b->flying))) {
        r->err = *err;
        ovs_request_finish(b, r);
    }
}

static int found(struct ovs_batcher *b, const json_t *results, struct error *err)
{
    autojson json_t *uuids = json_array();
    const struct error none = {0};
    const json_t *result, *row;
    size_t i, k;

    json_array_foreach (results, i, result) {
        json_array_foreach (ovsdb_rows(results, i), k, row) {
            json_array_append(uuids, json_object_get(row, "_uuid"));
        }
    }
    if (json_array_size(uuids) == 0) {
        finish_flying(b, &none);
        return 0;
    }
    count_transaction(b, json_array_size(uuids));
    return send_flight(b, FLIGHT_DEL, json_pack("[o]", ovs_detach(uuids)), err);
}

/* ---- what comes next, and what has come ---- */

int64_t ovs_batch_pause(const struct ovs_batcher *b)
{
    const struct request *r = TAILQ_FIRST(&b->removals);

    return r && b->flight == FLIGHT_NONE ? r->pause_ns : INT64_MAX;
}

int ovs_batch_send(struct ovs_batcher *b, struct error *err)
{
    bool remove = !TAILQ_EMPTY(&b->removals);

    if (!b->ready) {
        b->flight = FLIGHT_MONITOR;
        return ovsdb_send(b->db, "monitor", ovs_replica_monitor(), &b->flight_id, err);
    }
    if (!TAILQ_EMPTY(&b->failed)) {
        return send_undo(b, err);
    }
    if (!TAILQ_EMPTY(&b->doubtful)) {
        return send_find_lost(b, err);
    }
    if (remove && ovs_batch_pause(b) <= clock_ns()) {
        return send_find(b, err);
    }
    if (!TAILQ_EMPTY(&b->additions)) {
        return send_additions(b, err);
    }
    return remove && TAILQ_EMPTY(&b->committed) ? send_find(b, err) : 0;
}

/* The reply to "monitor": all that there is. */
static int replica_ready(struct ovs_batcher *b, const json_t *rows, struct error *err)
{
    struct request *r, *next;
    int rc = ovs_replica_update(&b->replica, rows, NULL, NULL);

    if (rc < 0) {
        return error_sys(err, rc, "what OVSDB at %s told of its tables", b->path);
    }
    b->ready = true;
    if (b->give_up_ns) {
        b->give_up_ns = 0;
        ovs_batcher_count(b, &b->counts.reconnects, 1);
    }
    for (r = TAILQ_FIRST(&b->committed); r; r = next) {
        next = TAILQ_NEXT(r, link);
        look_at_all(b, r);
    }
    return 0;
}

static int landed(struct ovs_batcher *b, enum flight flight, const json_t *reply, struct error *err)
{
    struct error refusal = {0};
    json_t *results = NULL;
    int rc = ovsdb_result(reply, &results, &refusal);

    if (rc == 0 && flight != FLIGHT_MONITOR) {
        rc = ovsdb_results(b->path, results, b->flight_n, &refusal);
    }
    if (rc == -EBADMSG || (rc < 0 && (flight == FLIGHT_MONITOR || flight == FLIGHT_FIND_LOST))) {
        *err = refusal;
        return rc;
    }
    switch (flight) {
    case FLIGHT_MONITOR:
        return replica_ready(b, results, err);
    case FLIGHT_FIND_LOST:
        return lost_found(b, results, err);
    case FLIGHT_ADD:
        if (rc == 0) {
            return additions_done(b, results, err);
        }
        additions_refused(b, results, rc, &refusal);
        return 0;
    case FLIGHT_FIND:
        if (rc == 0) {
            return found(b, results, err);
        }
        finish_flying(b, &refusal);
        return 0;
    case FLIGHT_UNDO:
        undone(b, rc, &refusal);
        return 0;
    default:
        finish_flying(b, &refusal);
        return 0;
    }
}

static int updated(struct ovs_batcher *b, const json_t *params, struct error *err)
{
    int rc = ovs_replica_update(&b->replica, json_array_get(params, 1), changed, b);

    return rc < 0 ? error_sys(err, rc, "an update of OVSDB at %s", b->path) : 0;
}

int ovs_batch_take(struct ovs_batcher *b, const json_t *message, struct error *err)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    enum flight flight = b->flight;

    if (method) {
        return !strcmp(method, "update") ? updated(b, json_object_get(message, "params"), err) : 0;
    }
    if (flight == FLIGHT_UNDO && ovsdb_is_reply(message, b->lock_id)) {
        b->switch_present =
            !json_is_true(json_object_get(json_object_get(message, "result"), "locked"));
    } else if (flight != FLIGHT_NONE && ovsdb_is_reply(message, b->flight_id)) {
        b->flight = FLIGHT_NONE;
        return landed(b, flight, message, err);
    }
    return 0;
}
