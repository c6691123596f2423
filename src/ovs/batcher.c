/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batcher: port changes of many threads over one OVSDB connection. Callers put a request into
 * a list and sleep; the thread here takes them out, keeps the connection and the time. What is sent
 * for them is written in batch.c.
 */
#include "ovs/batcher-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WAITING_MAX 100000               /* ports */
#define CONNECT_NS  (NSEC_PER_SEC / 4)   /* for the server's backlog to have room */
#define RETRY_NS    (20 * NSEC_PER_MSEC) /* between attempts to connect */
#define RESTART_NS  (5 * NSEC_PER_SEC)   /* a server that was there may be away */
#define SLACK_NS    (2 * NSEC_PER_SEC)   /* past the deadline, for OVSDB to answer what it got */
#define PAUSE_NS    NSEC_PER_SEC         /* how long a removal lets additions pass */

/* ---- counting ---- */

void ovs_batcher_count(struct ovs_batcher *b, uint64_t *counter, uint64_t n)
{
    pthread_mutex_lock(&b->lock);
    *counter += n;
    pthread_mutex_unlock(&b->lock);
}

void ovs_batcher_counts(struct ovs_batcher *b, struct ovs_batcher_counts *ret)
{
    pthread_mutex_lock(&b->lock);
    *ret = b->counts;
    pthread_mutex_unlock(&b->lock);
}

/* ---- a request's way ---- */

int64_t ovs_request_due(const struct ovs_batcher *b, const struct request *r)
{
    int64_t deadline_ns = b->stop_ns && b->stop_ns < r->deadline_ns ? b->stop_ns : r->deadline_ns;

    if (r->state == FAILED) {
        return r->pause_ns;
    }
    return r->state == SENT ? deadline_ns + SLACK_NS : deadline_ns;
}

void ovs_request_move(struct ovs_batcher *b, struct request *r, struct request_list *list,
                      enum request_state state, bool front)
{
    int64_t due_ns;

    if (r->list) {
        TAILQ_REMOVE(r->list, r, link);
    }
    if (front) {
        TAILQ_INSERT_HEAD(list, r, link);
    } else {
        TAILQ_INSERT_TAIL(list, r, link);
    }
    r->list = list;
    r->state = state;
    due_ns = ovs_request_due(b, r);
    b->next_ns = due_ns < b->next_ns ? due_ns : b->next_ns;
}

void ovs_request_finish(struct ovs_batcher *b, struct request *r)
{
    uint64_t *counter = r->err.errnum ? &b->counts.failed
                        : r->names    ? &b->counts.removed
                                      : &b->counts.added;

    TAILQ_REMOVE(r->list, r, link);
    pthread_mutex_lock(&b->lock);
    *counter += r->n;
    b->waiting -= r->n;
    pthread_mutex_unlock(&b->lock);
    sem_post(&r->done); /* r is gone */
}

/* Puts in front of the error what was to be done. */
static void wrap(struct request *r)
{
    if (r->names) {
        error_wrap(&r->err, "remove port %s", r->names[0]);
    } else {
        ovs_add_wrap(r->specs, r->n, r->err.errnum, &r->err);
    }
}

/* ---- time ---- */

/* Why a request that OVSDB does not have, or may not have, did not come further. */
static void set_reason(struct ovs_batcher *b, struct request *r)
{
    if (b->stop_ns) {
        error_set(&r->err, -ECANCELED, "canceled: whoever was to do it stops");
    } else if (!b->db && b->why.errnum) {
        error_set(&r->err, -ETIMEDOUT, "%s", b->why.text);
    } else if (b->flight != FLIGHT_NONE) {
        ovsdb_silent(b->path, &r->err);
    } else {
        error_set(&r->err, -ETIMEDOUT, "no time left to ask OVSDB at %s", b->path);
    }
    wrap(r);
}

static void expire(struct ovs_batcher *b, struct request *r)
{
    switch (r->state) {
    case COMMITTED:
        r->silent = !b->stop_ns;
        if (!r->silent) {
            set_reason(b, r);
        }
        ovs_batch_fail(b, r);
        return;
    case FAILED:
        if (r->silent) {
            ovsdb_silent(b->path, &r->err);
            wrap(r);
        }
        error_wrap(&r->err, "%zu ports are left behind", r->n);
        break;
    case DOUBTFUL:
        set_reason(b, r);
        error_wrap(&r->err, "%zu ports may be left behind", r->n);
        break;
    default:
        set_reason(b, r);
    }
    ovs_request_finish(b, r);
}

static void expire_list(struct ovs_batcher *b, struct request_list *list, int64_t now_ns)
{
    struct request *r, *next;

    for (r = TAILQ_FIRST(list); r; r = next) {
        int64_t due_ns = ovs_request_due(b, r);

        next = TAILQ_NEXT(r, link);
        if (due_ns <= now_ns) {
            expire(b, r);
        } else if (due_ns < b->next_ns) {
            b->next_ns = due_ns;
        }
    }
}

static void expire_all(struct ovs_batcher *b)
{
    int64_t now_ns = clock_ns();
    struct error silent;
    struct request *r;

    if (now_ns < b->next_ns) {
        return;
    }
    TAILQ_FOREACH(r, &b->flying, link)
    {
        if (ovs_request_due(b, r) <= now_ns) {
            ovsdb_silent(b->path, &silent);
            ovs_batcher_lose(b, &silent);
            break;
        }
    }
    b->next_ns = INT64_MAX;
    expire_list(b, &b->flying, now_ns);
    expire_list(b, &b->failed, now_ns);
    expire_list(b, &b->committed, now_ns);
    expire_list(b, &b->doubtful, now_ns);
    expire_list(b, &b->additions, now_ns);
    expire_list(b, &b->removals, now_ns);
}

/* ---- the connection ---- */

static bool has_work(const struct ovs_batcher *b)
{
    return !TAILQ_EMPTY(&b->additions) || !TAILQ_EMPTY(&b->removals) ||
           !TAILQ_EMPTY(&b->doubtful) || !TAILQ_EMPTY(&b->committed) || !TAILQ_EMPTY(&b->failed);
}

static void fail_queued(struct ovs_batcher *b, struct request_list *list)
{
    struct request *r;

    while ((r = TAILQ_FIRST(list))) {
        r->err = b->why;
        wrap(r);
        ovs_request_finish(b, r);
    }
}

/* There is no connection: who waits goes on waiting only if there was one lately. */
static void disconnected(struct ovs_batcher *b, const struct error *why)
{
    int64_t now_ns = clock_ns();

    b->why = *why;
    b->retry_ns = now_ns + RETRY_NS;
    if (now_ns >= b->give_up_ns) {
        fail_queued(b, &b->additions);
        fail_queued(b, &b->removals);
    }
}

void ovs_batcher_lose(struct ovs_batcher *b, const struct error *why)
{
    struct request *r;

    ovsdb_close(take_ptr(b->db));
    atomic_store(&b->connected, false);
    ovs_replica_clear(&b->replica);
    b->flight = FLIGHT_NONE;
    while ((r = TAILQ_LAST(&b->flying, request_list))) {
        if (r->state == FAILED) {
            ovs_request_move(b, r, &b->failed, FAILED, true);
        } else if (r->names) {
            ovs_request_move(b, r, &b->removals, QUEUED, true);
            ovs_batcher_count(b, &b->counts.retried, 1);
        } else {
            ovs_request_move(b, r, &b->doubtful, DOUBTFUL, true);
        }
    }
    if (b->ready) {
        b->give_up_ns = clock_ns() + RESTART_NS;
        b->ready = false;
    }
    disconnected(b, why);
}

static void connect_once(struct ovs_batcher *b)
{
    int64_t now_ns = clock_ns();
    struct error err;

    if (now_ns < b->retry_ns) {
        return;
    }
    if (ovsdb_connect(b->path, now_ns + CONNECT_NS, &b->db, &err) < 0) {
        disconnected(b, &err);
    }
    atomic_store(&b->connected, b->db != NULL);
}

bool ovs_batcher_connected(struct ovs_batcher *b)
{
    return atomic_load(&b->connected);
}

/* Deals with what has come and sends what is next; *ret is then what to poll for. -errno: the
 * connection is to be lost. */
static int serve(struct ovs_batcher *b, struct pollfd *ret, struct error *err)
{
    int rc;

    for (;;) {
        autojson json_t *message = NULL;

        rc = ovsdb_next(b->db, &message, err);
        if (rc == 0 && message) {
            rc = ovs_batch_take(b, message, err);
        }
        if (rc < 0 || !message) {
            break;
        }
    }
    if (rc == 0 && b->flight == FLIGHT_NONE) {
        rc = ovs_batch_send(b, err);
    }
    return rc == 0 ? ovsdb_flush(b->db, ret, err) : rc;
}

/* ---- the thread ---- */

/* Takes over what callers have queued. */
static void collect(struct ovs_batcher *b)
{
    struct request *r;

    pthread_mutex_lock(&b->lock);
    if (b->stopping && !b->stop_ns) {
        b->stop_ns = clock_ns();
        b->next_ns = 0;
    }
    while ((r = TAILQ_FIRST(&b->incoming))) {
        ovs_request_move(b, r, r->names ? &b->removals : &b->additions, QUEUED, false);
    }
    pthread_mutex_unlock(&b->lock);
}

static int64_t min_ns(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Sleeps until something comes or is due; pfds[0] is for callers, pfds[1] for OVSDB. */
static void sleep_until(struct ovs_batcher *b, struct pollfd pfds[2])
{
    int64_t until_ns = b->next_ns;
    eventfd_t ignored;

    if (b->db) {
        until_ns = min_ns(until_ns, ovs_batch_pause(b));
    } else if (has_work(b)) {
        until_ns = min_ns(until_ns, b->retry_ns);
    }
    if (poll(pfds, 2, until_ns == INT64_MAX ? -1 : clock_left_ms(until_ns)) <= 0) {
        pfds[0].revents = pfds[1].revents = 0;
    }
    if (pfds[0].revents) {
        eventfd_read(pfds[0].fd, &ignored);
    }
}

static void *run(void *cookie)
{
    struct ovs_batcher *b = cookie;

    connect_once(b); /* before the first burst, if the server is there */
    for (;;) {
        struct pollfd pfds[2] = {{.fd = b->event_fd, .events = POLLIN}, {.fd = -1}};
        struct error err;

        collect(b);
        expire_all(b);
        if (!b->db && has_work(b)) {
            connect_once(b);
        }
        if (b->db && serve(b, &pfds[1], &err) < 0) {
            ovs_batcher_lose(b, &err);
            continue;
        }
        if (b->stop_ns && !has_work(b) && TAILQ_EMPTY(&b->flying)) {
            return NULL;
        }
        sleep_until(b, pfds);
        if ((pfds[1].revents & ~POLLOUT) && ovsdb_receive(b->db, &err) < 0) {
            ovs_batcher_lose(b, &err);
        }
    }
}

static void batcher_free(struct ovs_batcher *b)
{
    ovsdb_close(b->db);
    ovs_replica_clear(&b->replica);
    if (b->event_fd >= 0) {
        close(b->event_fd);
    }
    pthread_mutex_destroy(&b->lock);
    free(b->path);
    free(b);
}

int ovs_batcher_start(const char *socket_path, struct ovs_batcher **ret, struct error *err)
{
    struct ovs_batcher *b = calloc(1, sizeof(*b));
    int rc;

    if (!b) {
        return error_sys(err, -ENOMEM, "start the batcher of OVSDB at %s", socket_path);
    }
    b->next_ns = INT64_MAX;
    b->waiting_max = WAITING_MAX;
    pthread_mutex_init(&b->lock, NULL);
    TAILQ_INIT(&b->incoming);
    TAILQ_INIT(&b->additions);
    TAILQ_INIT(&b->removals);
    TAILQ_INIT(&b->flying);
    TAILQ_INIT(&b->doubtful);
    TAILQ_INIT(&b->committed);
    TAILQ_INIT(&b->failed);
    b->path = strdup(ovs_socket_plain(socket_path));
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = !b->path ? -ENOMEM : b->event_fd < 0 ? -errno : ovs_thread_start(&b->thread, run, b);
    if (rc < 0) {
        batcher_free(b);
        return error_sys(err, rc, "start the batcher of OVSDB at %s", socket_path);
    }
    *ret = b;
    return 0;
}

void ovs_batcher_stop(struct ovs_batcher *b)
{
    if (!b) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    eventfd_write(b->event_fd, 1);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    batcher_free(b);
}

/* ---- callers ---- */

static int queue(struct ovs_batcher *b, struct request *r, struct error *err)
{
    int rc = 0;

    pthread_mutex_lock(&b->lock);
    if (b->stopping) {
        rc = error_set(err, -ECANCELED, "canceled: whoever was to do it stops");
    } else if (b->waiting + r->n > b->waiting_max) {
        rc = error_set(err, -EAGAIN, "%zu ports wait for OVSDB at %s already", b->waiting, b->path);
        b->counts.refused += r->n;
    } else {
        if (TAILQ_EMPTY(&b->incoming)) {
            eventfd_write(b->event_fd, 1);
        }
        r->list = &b->incoming;
        TAILQ_INSERT_TAIL(&b->incoming, r, link);
        b->waiting += r->n;
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

/* Queues a request and sleeps until it is done. A semaphore of its own: nobody else wakes. */
static int request_run(struct ovs_batcher *b, struct request *r, struct error *err)
{
    int rc;

    r->share = SIZE_MAX;
    r->deadline_ns = min_ns(r->deadline_ns, INT64_MAX / 2);
    sem_init(&r->done, 0, 0);
    rc = queue(b, r, err);
    if (rc == 0) {
        while (sem_wait(&r->done) < 0) {
        }
        rc = r->err.errnum;
        if (rc < 0 && err) {
            *err = r->err;
        }
    }
    sem_destroy(&r->done);
    return rc;
}

int ovs_batcher_add(struct ovs_batcher *b, const struct ovs_port_spec *specs, size_t n,
                    int64_t deadline_ns, int *ret_ofports, struct error *err)
{
    autofree struct watch *watches = calloc(n + 1, sizeof(*watches));
    autojson json_t *ops = json_array();
    struct request r = {
        .specs = specs, .n = n, .ops = ops, .watches = watches, .deadline_ns = deadline_ns};
    int rc = watches && ops ? 0 : error_sys(err, -ENOMEM, "add ports");

    if (n == 0) {
        return rc;
    }
    r.number = atomic_fetch_add(&b->last_number, n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = ovs_spec_check(&specs[i], err);
        ovs_add_insert(ops, &specs[i], r.number + i);
    }
    if (rc == 0 && json_array_size(ops) != 2 * n) {
        rc = error_set(err, -EINVAL, "write the ports: text is not UTF-8, or out of memory");
    }
    if (rc == 0) {
        rc = request_run(b, &r, err);
    }
    for (size_t i = 0; rc == 0 && ret_ofports && i < n; i++) {
        ret_ofports[i] = watches[i].ofport;
    }
    json_decref(r.interfaces);
    json_decref(r.ports);
    return rc;
}

/* Removes at most OVS_BATCH_REMOVALS ports. */
static int remove_some(struct ovs_batcher *b, const char *const *names, size_t n,
                       int64_t deadline_ns, struct error *err)
{
    autojson json_t *ops = json_array();
    int64_t now_ns = clock_ns();
    struct request r = {.names = names,
                        .n = n,
                        .ops = ops,
                        .deadline_ns = deadline_ns,
                        .pause_ns = min_ns(now_ns + PAUSE_NS, now_ns / 2 + deadline_ns / 2)};

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(ops, ovsdb_select("Port", ovsdb_where_name(names[i]), "_uuid"));
    }
    if (json_array_size(ops) != n) {
        return error_set(err, -EINVAL, "find ports: a name is not UTF-8, or out of memory");
    }
    return request_run(b, &r, err);
}

int ovs_batcher_del(struct ovs_batcher *b, const char *const *names, size_t n, int64_t deadline_ns,
                    struct error *err)
{
    int rc = 0;

    for (size_t done = 0; rc == 0 && done < n; done += OVS_BATCH_REMOVALS) {
        size_t left = n - done;

        rc = remove_some(b, names + done, left < OVS_BATCH_REMOVALS ? left : OVS_BATCH_REMOVALS,
                         deadline_ns, err);
    }
    return rc;
}
