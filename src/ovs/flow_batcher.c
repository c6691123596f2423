/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows of many threads over one OpenFlow connection. A caller writes his own messages, so that the
 * thread here has but to send what has gathered, in one bundle. He also keeps his own time: a set
 * that he gave up stays the thread's until it lets go of it. Used by the agent.
 */
#include "ovs/openflow-internal.h"
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#define WAITING_MAX      2000000               /* flows of all callers; 200 bytes each or so */
#define BUNDLE_FLOWS_MAX 5000                  /* unless one set alone has more */
#define CONNECT_NS       (30 * NSEC_PER_SEC)   /* for a busy switch to say hello */
#define RETRY_NS         (50 * NSEC_PER_MSEC)  /* between attempts to connect */
#define IDLE_NS          (500 * NSEC_PER_MSEC) /* likewise, when nothing waits */
#define RESTART_NS       (5 * NSEC_PER_SEC)    /* a switch that was there may be away */

enum { WAITING, FINISHED, GIVEN_UP };

/* Shared by caller and thread: who comes second to its end frees it. */
struct request {
    TAILQ_ENTRY(request) link;
    struct of_change change;
    int64_t deadline_ns;
    bool sent;        /* under the batcher's lock */
    int rc;           /* -EREMOTEIO with change.refusal.what: the caller makes the words */
    struct error err; /* till it is done: why it failed last time, under the batcher's lock */
    atomic_int state;
    sem_t done;
};

TAILQ_HEAD(request_list, request);

struct flow_batcher {
    char *path;
    struct flow_batcher_hooks hooks;
    pthread_t thread;
    int event_fd, stop_fd; /* something was queued; stop, whatever is under way */
    atomic_uint next_xid;
    atomic_bool connected;

    pthread_mutex_t lock;
    struct request_list incoming;      /* under lock */
    size_t waiting;                    /* flows of requests not done; under lock */
    bool stopping;                     /* under lock */
    struct error why;                  /* there is no connection; under lock */
    size_t callers;                    /* in flow_batcher_apply; under lock */
    pthread_cond_t left;               /* one of them went */
    struct flow_batcher_counts counts; /* under lock */

    /* The thread's own. */
    struct request_list queue;
    struct openflow *of; /* NULL: not connected */
    bool was_connected;
    int64_t retry_ns;   /* when to connect next */
    int64_t give_up_ns; /* a switch that was lost may be away till then; 0: was not lost */
    size_t window;      /* requests in a bundle: fewer after a failure, to find whose it is */
    struct of_change **chosen;
    size_t n_chosen, chosen_size;
};

/* ---- a request's end ---- */

static void request_free(struct request *r)
{
    of_change_clear(&r->change);
    sem_destroy(&r->done);
    free(r);
}

static struct request *of_request(struct of_change *change)
{
    return (struct request *)((char *)change - offsetof(struct request, change));
}

/* Takes it out of the queue and tells its caller, if he is still there. */
static void finish(struct flow_batcher *b, struct request *r, int rc, const struct error *err)
{
    TAILQ_REMOVE(&b->queue, r, link);
    pthread_mutex_lock(&b->lock);
    b->waiting -= r->change.n_messages;
    b->counts.sets += rc == 0;
    b->counts.flows += rc == 0 ? r->change.n_messages - 1 : 0;
    b->counts.failed += rc != 0;
    r->rc = rc;
    if (err) {
        r->err = *err;
    }
    pthread_mutex_unlock(&b->lock);
    if (atomic_exchange(&r->state, FINISHED) == GIVEN_UP) {
        request_free(r);
    } else {
        sem_post(&r->done); /* r is gone */
    }
}

static void finish_all(struct flow_batcher *b, int rc, const struct error *err)
{
    struct request *r;

    while ((r = TAILQ_FIRST(&b->queue))) {
        finish(b, r, rc, err);
    }
}

static void drop_given_up(struct flow_batcher *b)
{
    struct request *r, *next;

    for (r = TAILQ_FIRST(&b->queue); r; r = next) {
        next = TAILQ_NEXT(r, link);
        if (atomic_load(&r->state) == GIVEN_UP) {
            finish(b, r, -ETIMEDOUT, NULL);
        }
    }
}

/* ---- the connection ---- */

/* There is no connection: who waits goes on waiting only if there was one lately. */
static void disconnected(struct flow_batcher *b, const struct error *why)
{
    int64_t now_ns = clock_ns();

    pthread_mutex_lock(&b->lock);
    b->why = *why;
    pthread_mutex_unlock(&b->lock);
    b->retry_ns = now_ns + RETRY_NS;
    if (now_ns >= b->give_up_ns) {
        finish_all(b, why->errnum, why);
    }
}

static void lose(struct flow_batcher *b, const struct error *why)
{
    openflow_close(take_ptr(b->of));
    atomic_store(&b->connected, false);
    b->give_up_ns = clock_ns() + RESTART_NS;
    disconnected(b, why);
}

static void connect_once(struct flow_batcher *b)
{
    bool first = !b->was_connected;
    struct error err;

    if (clock_ns() < b->retry_ns) {
        return;
    }
    if (openflow_open(b->path, b->stop_fd, clock_ns() + CONNECT_NS, &b->of, &err) < 0) {
        disconnected(b, &err);
        return;
    }
    atomic_store(&b->connected, true);
    b->was_connected = true;
    pthread_mutex_lock(&b->lock);
    b->counts.reconnects += !first;
    pthread_mutex_unlock(&b->lock);
    if (b->hooks.on_connect) {
        b->hooks.on_connect(b->hooks.cookie, first);
    }
}

/* ---- bundles ---- */

static int reserve(struct flow_batcher *b, size_t n)
{
    struct of_change **bigger;

    if (n <= b->chosen_size) {
        return 0;
    }
    bigger = reallocarray(b->chosen, 2 * n, sizeof(struct of_change *));
    if (!bigger) {
        return -ENOMEM;
    }
    b->chosen = bigger;
    b->chosen_size = 2 * n;
    return 0;
}

/* The first of the queue, as many as may go together; returns the latest deadline of any. */
static int64_t choose(struct flow_batcher *b)
{
    int64_t deadline_ns = 0;
    size_t messages = 0;
    struct request *r;

    b->n_chosen = 0;
    pthread_mutex_lock(&b->lock);
    TAILQ_FOREACH(r, &b->queue, link)
    {
        messages += r->change.n_messages;
        if (b->n_chosen > 0 && (b->n_chosen >= b->window || messages > BUNDLE_FLOWS_MAX)) {
            break;
        }
        if (reserve(b, b->n_chosen + 1) < 0) {
            break;
        }
        r->sent = true;
        b->chosen[b->n_chosen++] = &r->change;
        deadline_ns = r->deadline_ns > deadline_ns ? r->deadline_ns : deadline_ns;
    }
    b->counts.bundles++;
    b->counts.sizes[ovs_batch_size(b->n_chosen, FLOW_BATCH_SIZES)]++;
    pthread_mutex_unlock(&b->lock);
    return deadline_ns;
}

/* Those that were not refused are to be sent again, fewer at once: a switch names only the first
 * flow that fails a commit. */
static void refused(struct flow_batcher *b, const struct error *err)
{
    for (size_t i = 0; i < b->n_chosen; i++) {
        struct request *r = of_request(b->chosen[i]);

        if (r->change.refusal.what || b->n_chosen == 1) {
            finish(b, r, -EREMOTEIO, err);
            continue;
        }
        pthread_mutex_lock(&b->lock);
        b->counts.retried++;
        r->sent = false;
        pthread_mutex_unlock(&b->lock);
    }
}

static void commit(struct flow_batcher *b)
{
    int64_t deadline_ns = choose(b);
    struct error err;
    int rc;

    if (b->n_chosen == 0) {
        error_sys(&err, -ENOMEM, "flows");
        finish(b, TAILQ_FIRST(&b->queue), -ENOMEM, &err);
        return;
    }
    rc = openflow_commit(b->of, b->chosen, b->n_chosen, deadline_ns, &err);
    if (rc == 0) {
        for (size_t i = 0; i < b->n_chosen; i++) {
            finish(b, of_request(b->chosen[i]), 0, NULL);
        }
        b->window = b->window < SIZE_MAX / 2 ? 2 * b->window : b->window;
        return;
    }
    b->window = b->n_chosen > 1 ? b->n_chosen / 2 : 1;
    if (rc == -EREMOTEIO) {
        refused(b, &err);
        return;
    }
    pthread_mutex_lock(&b->lock);
    b->counts.retried += b->n_chosen;
    for (size_t i = 0; i < b->n_chosen; i++) {
        of_request(b->chosen[i])->err = err;
    }
    pthread_mutex_unlock(&b->lock);
    lose(b, &err);
}

/* ---- the thread ---- */

/* Takes over what callers have queued; false when it is time to stop. */
static bool collect(struct flow_batcher *b)
{
    bool stopping;

    pthread_mutex_lock(&b->lock);
    stopping = b->stopping;
    TAILQ_CONCAT(&b->queue, &b->incoming, link);
    pthread_mutex_unlock(&b->lock);
    return !stopping;
}

static bool wants_connection(const struct flow_batcher *b)
{
    return !b->of && (!TAILQ_EMPTY(&b->queue) || b->hooks.on_connect);
}

/* Milliseconds until it is time to connect; -1 for never. */
static int until_connect(const struct flow_batcher *b)
{
    int64_t idle_ns = TAILQ_EMPTY(&b->queue) && clock_ns() >= b->give_up_ns ? IDLE_NS : 0;

    return wants_connection(b) ? clock_left_ms(b->retry_ns + idle_ns) : -1;
}

/* Sleeps until something comes, or it is time to connect again. */
static void wait_for_work(struct flow_batcher *b)
{
    struct pollfd pfds[2] = {{.fd = b->event_fd, .events = POLLIN},
                             {.fd = b->of ? openflow_fd(b->of) : -1, .events = POLLIN}};
    struct error err;
    eventfd_t ignored;

    if (b->of && !TAILQ_EMPTY(&b->queue)) {
        return;
    }
    if (poll(pfds, 2, until_connect(b)) <= 0) {
        return;
    }
    if (pfds[0].revents) {
        eventfd_read(b->event_fd, &ignored);
    }
    if (pfds[1].revents && openflow_idle(b->of, &err) < 0) {
        lose(b, &err);
    }
}

static void *run(void *cookie)
{
    struct flow_batcher *b = cookie;
    struct error err;

    connect_once(b); /* before the first burst, if the switch is there */
    while (collect(b)) {
        drop_given_up(b);
        if (wants_connection(b)) {
            connect_once(b);
        }
        if (b->of && !TAILQ_EMPTY(&b->queue)) {
            commit(b);
        }
        wait_for_work(b);
    }
    error_set(&err, -ECANCELED, "canceled: whoever was to do it stops");
    finish_all(b, -ECANCELED, &err);
    return NULL;
}

/* ---- start and stop ---- */

static void batcher_free(struct flow_batcher *b)
{
    openflow_close(b->of);
    if (b->event_fd >= 0) {
        close(b->event_fd);
    }
    if (b->stop_fd >= 0) {
        close(b->stop_fd);
    }
    pthread_cond_destroy(&b->left);
    pthread_mutex_destroy(&b->lock);
    free(b->chosen);
    free(b->path);
    free(b);
}

int flow_batcher_start(const char *socket_path, const struct flow_batcher_hooks *hooks,
                       struct flow_batcher **ret, struct error *err)
{
    struct flow_batcher *b = calloc(1, sizeof(*b));
    int rc;

    if (!b) {
        return error_sys(err, -ENOMEM, "start the batcher of flows at %s", socket_path);
    }
    if (hooks) {
        b->hooks = *hooks;
    }
    b->window = SIZE_MAX / 2;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->left, NULL);
    TAILQ_INIT(&b->incoming);
    TAILQ_INIT(&b->queue);
    b->path = strdup(ovs_socket_plain(socket_path));
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    b->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = !b->path                            ? -ENOMEM
         : b->event_fd < 0 || b->stop_fd < 0 ? -errno
                                             : ovs_thread_start(&b->thread, run, b);
    if (rc < 0) {
        batcher_free(b);
        return error_sys(err, rc, "start the batcher of flows at %s", socket_path);
    }
    *ret = b;
    return 0;
}

void flow_batcher_stop(struct flow_batcher *b)
{
    if (!b) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_mutex_unlock(&b->lock);
    eventfd_write(b->stop_fd, 1);
    eventfd_write(b->event_fd, 1);
    pthread_join(b->thread, NULL);
    pthread_mutex_lock(&b->lock);
    while (b->callers > 0) { /* all are done, and some not gone yet */
        pthread_cond_wait(&b->left, &b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    batcher_free(b);
}

bool flow_batcher_connected(struct flow_batcher *b)
{
    return atomic_load(&b->connected);
}

void flow_batcher_counts(struct flow_batcher *b, struct flow_batcher_counts *ret)
{
    pthread_mutex_lock(&b->lock);
    *ret = b->counts;
    pthread_mutex_unlock(&b->lock);
}

/* ---- callers ---- */

/* Numbers that no other set has which might be in the same bundle. */
static uint32_t take_xids(struct flow_batcher *b, size_t n)
{
    uint32_t first = atomic_load(&b->next_xid), next;

    do {
        first = first > OF_XID_OWN - n ? 0 : first;
        next = first + (uint32_t)n;
    } while (!atomic_compare_exchange_weak(&b->next_xid, &first, next));
    return first;
}

static int request_new(struct flow_batcher *b, const struct flow_set *set, int64_t deadline_ns,
                       struct request **ret, struct error *err)
{
    struct request *r = calloc(1, sizeof(*r));
    int rc;

    if (!r) {
        return error_sys(err, -ENOMEM, "flows");
    }
    sem_init(&r->done, 0, 0);
    r->deadline_ns = deadline_ns;
    rc = of_change_encode(set, take_xids(b, set->n_flows + 1), &r->change, err);
    if (rc < 0) {
        request_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

static int queue(struct flow_batcher *b, struct request *r, struct error *err)
{
    int rc = 0;

    pthread_mutex_lock(&b->lock);
    if (b->stopping) {
        rc = error_set(err, -ECANCELED, "canceled: whoever was to do it stops");
    } else if (b->waiting + r->change.n_messages > WAITING_MAX) {
        rc = error_set(err, -EAGAIN, "%zu flows wait for OpenFlow at %s already", b->waiting,
                       b->path);
        b->counts.refused++;
    } else {
        if (TAILQ_EMPTY(&b->incoming)) {
            eventfd_write(b->event_fd, 1);
        }
        TAILQ_INSERT_TAIL(&b->incoming, r, link);
        b->waiting += r->change.n_messages;
        b->callers++;
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

static void leave(struct flow_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->callers--;
    pthread_cond_signal(&b->left);
    pthread_mutex_unlock(&b->lock);
}

/* The time is up, and r is not done: why. */
static void set_late(struct flow_batcher *b, const struct request *r, struct error *err)
{
    pthread_mutex_lock(&b->lock);
    if (r->err.errnum) {
        error_set(err, -ETIMEDOUT, "%s", r->err.text);
    } else if (!atomic_load(&b->connected) && b->why.errnum) {
        error_set(err, -ETIMEDOUT, "%s", b->why.text);
    } else {
        error_set(err, -ETIMEDOUT, "OpenFlow at %s did not answer in time", b->path);
    }
    if (r->sent) {
        error_wrap(err, "the flows may hold all the same");
    }
    pthread_mutex_unlock(&b->lock);
}

/* Sleeps until r is done, or its time is up: then false, and r is the thread's. */
static bool wait_done(struct flow_batcher *b, struct request *r, struct error *err)
{
    struct timespec until = {r->deadline_ns / NSEC_PER_SEC, r->deadline_ns % NSEC_PER_SEC};
    struct error late;
    int rc;

    do {
        rc = sem_clockwait(&r->done, CLOCK_MONOTONIC, &until);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0) {
        return atomic_load(&r->state) == FINISHED;
    }
    set_late(b, r, &late); /* while r is ours too */
    if (atomic_exchange(&r->state, GIVEN_UP) == WAITING) {
        if (err) {
            *err = late;
        }
        return false;
    }
    while (sem_wait(&r->done) < 0) {
    }
    return true;
}

/* What became of r, which is ours alone. */
static int take_result(struct request *r, const struct flow_set *set, struct error *err)
{
    int rc = r->rc;

    if (rc == -EREMOTEIO && r->change.refusal.what) {
        of_change_explain(&r->change, set, err);
    } else if (rc < 0 && err) {
        *err = r->err;
    }
    request_free(r);
    return rc;
}

int flow_batcher_apply(struct flow_batcher *b, const struct flow_set *set, int64_t deadline_ns,
                       struct error *err)
{
    struct request *r = NULL;
    int rc = clock_left_ms(deadline_ns) > 0
                 ? request_new(b, set, deadline_ns, &r, err)
                 : error_set(err, -ETIMEDOUT, "no time left to ask OpenFlow at %s", b->path);

    if (rc < 0) {
        return rc;
    }
    rc = queue(b, r, err);
    if (rc < 0) {
        request_free(r);
        return rc;
    }
    rc = wait_done(b, r, err) ? take_result(r, set, err) : -ETIMEDOUT;
    leave(b);
    return rc;
}
