/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API of the study's two lock servers (artifact of IMC 2024, doi 10.1145/3646547.3688436), so
 * that its patched containerd and Kata and its plugins find here what they ask for. Its clients
 * look at nothing but whether they were answered. What its servers mean, and where this differs:
 *
 * - All that succeeds is answered with "success".
 * - /get_lock with a stage (its server on port 5005): a counting lock a stage, here the agent's
 *   gates. Without (port 5000): one for the calls of ovs-vsctl and ovs-ofctl. /seq_lock is another.
 * - A permit belongs to no connection: clients end between obtain and release. There a release adds
 *   a permit whatever was obtained; here one that nobody over HTTP holds is a conflict.
 * - /barrier and /barrierVM: callers wait until there are as many as a constant of the server, 1.
 * - /get_ifname: the shared port of the next tenant, each for its share of the pods, then anew.
 * - /get_virtdev: fromCNI takes a device of the pool, fromKATA asks which: "NAME,TYPE".
 * - /add_acl_inbatch (study_rules.c): rules for an address, which there wait until there are enough
 *   of them for one call of ovs-ofctl, and here hold when it answers.
 *
 * Its servers poll ten times a second and know no time limit. Here a wait is a ticket at a gate,
 * also for what is not a stage: seq, ovs and the barriers are gates of the server's own. A barrier
 * is a gate of limit 1 whose one permit is held, until it opens.
 */
#include "agent/http-internal.h"
#include "agent/metrics.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Gates of the server's own, named as if they were the first stages. */
enum { OWN_SEQ, OWN_OVS, OWN_BARRIER, OWN_BARRIER_VM };

#define N_BARRIERS 2
#define NAMES_MAX  256

/* A gate that is obtained and released over HTTP. */
struct lock {
    const char *name;
    struct gates *gates;
    size_t stage;
    struct permit *first, *last; /* held by clients, the longest first */
    uint64_t held;
    uint64_t overdue;  /* given back by max_hold_s */
    uint64_t returned; /* given back because the client went before it got the answer */
};

struct barrier {
    size_t stage; /* in own */
    struct gate_ticket bar;
    unsigned n; /* who waits said so */
    unsigned waiting;
};

struct permit {
    struct gate_ticket ticket;
    struct http_request *request;
    struct lock *lock;       /* either */
    struct barrier *barrier; /* or */
    int64_t since_ns;        /* held by the client */
    struct permit *next;
};

struct study {
    const struct http_api *api;
    struct gates *own;
    uv_timer_t timer; /* for own's deadlines and max_hold */
    int64_t max_hold_ns;
    unsigned barrier_n, pods, tenants;
    unsigned ifnames; /* given out in this round */
    struct barrier barriers[N_BARRIERS];
    size_t n_locks; /* the stages', seq, ovs */
    struct lock locks[];
};

static const struct {
    const char *name, *stage;
} study_stages[] = {
    {"cniAdd", "cni"}, {"resource1", "cgroup"}, {"kataInterface", "nic"},
    {"startVM", "vm"}, {"resource2", "limits"},
};

/* ---- time ---- */

static void due(uv_timer_t *timer);

static void arm(struct study *study)
{
    int64_t next_ns = gates_next_deadline(study->own);

    for (size_t i = 0; study->max_hold_ns > 0 && i < study->n_locks; i++) {
        const struct permit *first = study->locks[i].first;

        if (first != NULL && first->since_ns + study->max_hold_ns < next_ns) {
            next_ns = first->since_ns + study->max_hold_ns;
        }
    }
    if (next_ns == INT64_MAX) {
        uv_timer_stop(&study->timer);
    } else {
        uv_timer_start(&study->timer, due, (uint64_t)clock_left_ms(next_ns), 0);
    }
}

/* Of these gates permits were asked for or given back. */
static void changed(struct study *study, const struct gates *gates)
{
    if (gates != study->own && study->api->gates_changed != NULL) {
        study->api->gates_changed(study->api->cookie);
    }
    arm(study);
}

/* ---- permits ---- */

static void hold(struct lock *lock, struct permit *permit)
{
    permit->request = NULL;
    permit->since_ns = clock_ns();
    if (lock->last != NULL) {
        lock->last->next = permit;
    } else {
        lock->first = permit;
    }
    lock->last = permit;
    lock->held++;
}

/* Gives back the permit that is held longest: they are all alike. False: none is. */
static bool give_back(struct lock *lock)
{
    struct permit *permit = lock->first;

    if (permit == NULL) {
        return false;
    }
    lock->first = permit->next;
    if (lock->first == NULL) {
        lock->last = NULL;
    }
    lock->held--;
    gate_release(lock->gates, &permit->ticket, clock_ns());
    free(permit);
    return true;
}

/* Ends a request's permit or its place in a queue. */
static void drop(struct study *study, struct http_request *request)
{
    struct permit *permit = request->permit;
    struct gates *gates = permit->barrier != NULL ? study->own : permit->lock->gates;

    request->permit = NULL;
    if (permit->barrier != NULL) {
        permit->barrier->waiting--;
    }
    gate_release(gates, &permit->ticket, clock_ns());
    free(permit);
    changed(study, gates);
}

static void due(uv_timer_t *timer)
{
    struct study *study = timer->data;
    int64_t now_ns = clock_ns();

    gates_expire(study->own, now_ns);
    for (size_t i = 0; study->max_hold_ns > 0 && i < study->n_locks; i++) {
        struct lock *lock = &study->locks[i];
        unsigned n = 0;

        while (lock->first != NULL && lock->first->since_ns + study->max_hold_ns <= now_ns) {
            give_back(lock);
            n++;
        }
        if (n > 0) {
            lock->overdue += n;
            log_warn("HTTP clients held %u permits of %s for over %lld s: given back", n,
                     lock->name, (long long)(study->max_hold_ns / NSEC_PER_SEC));
        }
    }
    changed(study, study->api->gates);
}

/* The wait at a gate is over: the permit is held, or it took too long. */
static void admitted(struct gate_ticket *ticket, int rc)
{
    struct permit *permit = (struct permit *)((char *)ticket - offsetof(struct permit, ticket));
    struct http_request *request = permit->request;

    if (permit->barrier != NULL) {
        drop(http_study(request), request);
    } else if (rc < 0) {
        request->permit = NULL;
        free(permit);
    }
    http_wake(request, rc);
}

/*
 * Asks a gate for a permit. 1: request->permit is it; 0: the request waits; -errno: neither. One of
 * lock and barrier is given.
 */
static int ask(struct http_request *request, struct lock *lock, struct barrier *barrier,
               const char *tenant, int64_t timeout_s)
{
    struct study *study = http_study(request);
    struct gates *gates = lock != NULL ? lock->gates : study->own;
    struct permit *permit = calloc(1, sizeof(*permit));
    int64_t now_ns = clock_ns();
    int rc;

    if (permit == NULL) {
        return -ENOMEM;
    }
    permit->request = request;
    permit->lock = lock;
    permit->barrier = barrier;
    permit->ticket.done = admitted;
    rc = gate_acquire(gates, lock != NULL ? lock->stage : barrier->stage, tenant, now_ns,
                      now_ns + timeout_s * NSEC_PER_SEC, &permit->ticket);
    if (rc == 0) {
        rc = http_wait(request);
        if (rc < 0) {
            gate_release(gates, &permit->ticket, now_ns);
        }
    }
    if (rc < 0) {
        free(permit);
    } else {
        request->permit = permit;
    }
    /* At last: with timeout_s=0 it may end the wait at once. */
    changed(study, gates);
    return rc;
}

/* ---- parameters ---- */

bool study_number(struct http_request *request, const char *name, int64_t min, int64_t max,
                  int64_t *ret, enum MHD_Result *answered)
{
    const char *text = http_param(request, name);

    if (text == NULL || str_to_int64(text, min, max, ret) == 0) {
        return true;
    }
    *answered = http_answer(request, 400, "%s=%.64s: a whole number from %lld to %lld is allowed\n",
                            name, text, (long long)min, (long long)max);
    return false;
}

static bool timeout_param(struct http_request *request, int64_t *ret, enum MHD_Result *answered)
{
    *ret = HTTP_TIMEOUT_S;
    return study_number(request, "timeout_s", 0, HTTP_TIMEOUT_MAX_S, ret, answered);
}

enum MHD_Result study_answer_choice(struct http_request *request, const char *name,
                                    const char *value, const char *allowed)
{
    if (value == NULL) {
        return http_answer(request, 400, "%s is missing: %s is allowed\n", name, allowed);
    }
    return http_answer(request, 400, "%s=%.64s: %s is allowed\n", name, value, allowed);
}

/* ---- locks ---- */

static enum MHD_Result answer_obtained(struct http_request *request)
{
    if (http_client_gone(request)) {
        return MHD_NO; /* study_settle gives it back */
    }
    return http_answer(request, 200, "success");
}

static enum MHD_Result answer_cannot_wait(struct http_request *request, int rc)
{
    return http_answer(request, 503, "cannot wait: %s\n", strerror(-rc));
}

static enum MHD_Result lock_obtain(struct http_request *request, struct lock *lock)
{
    const char *tenant = http_param(request, "tenant");
    enum MHD_Result answered;
    int64_t timeout_s;
    int rc;

    if (!timeout_param(request, &timeout_s, &answered)) {
        return answered;
    }
    rc = ask(request, lock, NULL, tenant != NULL ? tenant : "", timeout_s);
    if (rc < 0) {
        return answer_cannot_wait(request, rc);
    }
    return rc == 1 ? answer_obtained(request) : MHD_YES;
}

static enum MHD_Result lock_release(struct http_request *request, struct lock *lock)
{
    if (!give_back(lock)) {
        return http_answer(request, 409, "no permit of %s is held over HTTP\n", lock->name);
    }
    changed(http_study(request), lock->gates);
    return http_answer(request, 200, "success");
}

static enum MHD_Result lock_call(struct http_request *request, struct lock *lock)
{
    const char *op = http_param(request, "op");

    if (op != NULL && strcmp(op, "obtain") == 0) {
        return lock_obtain(request, lock);
    }
    if (op != NULL && strcmp(op, "release") == 0) {
        return lock_release(request, lock);
    }
    return study_answer_choice(request, "op", op, "obtain or release");
}

static struct lock *stage_lock(struct study *study, const char *stage)
{
    size_t i = 0;

    for (size_t j = 0; j < ARRAY_SIZE(study_stages); j++) {
        if (strcmp(study_stages[j].name, stage) == 0) {
            stage = study_stages[j].stage;
        }
    }
    while (i < span_n_stages && strcmp(span_stages[i].name, stage) != 0) {
        i++;
    }
    return i < span_n_stages ? &study->locks[i] : NULL;
}

static enum MHD_Result answer_stages(struct http_request *request, const char *stage)
{
    char allowed[NAMES_MAX] = "one of";
    size_t len = strlen(allowed);

    for (size_t i = 0; i < span_n_stages; i++) {
        len += (size_t)snprintf(allowed + len, sizeof(allowed) - len, " %s", span_stages[i].name);
    }
    for (size_t i = 0; i < ARRAY_SIZE(study_stages); i++) {
        len += (size_t)snprintf(allowed + len, sizeof(allowed) - len, " %s", study_stages[i].name);
    }
    return study_answer_choice(request, "stage", stage, allowed);
}

static enum MHD_Result call_get_lock(struct http_request *request)
{
    struct study *study = http_study(request);
    const char *stage = http_param(request, "stage");
    struct lock *lock =
        stage == NULL ? &study->locks[span_n_stages + OWN_OVS] : stage_lock(study, stage);

    return lock != NULL ? lock_call(request, lock) : answer_stages(request, stage);
}

static enum MHD_Result call_seq_lock(struct http_request *request)
{
    return lock_call(request, &http_study(request)->locks[span_n_stages + OWN_SEQ]);
}

/* ---- barriers ---- */

/* Lets all who wait go: the gate opens, and closes behind them. */
static void barrier_open(struct study *study, struct barrier *barrier)
{
    int64_t now_ns = clock_ns();

    gate_set_limit(study->own, barrier->stage, 0, now_ns);
    gate_set_limit(study->own, barrier->stage, 1, now_ns);
}

static enum MHD_Result barrier_call(struct http_request *request, struct barrier *barrier)
{
    struct study *study = http_study(request);
    enum MHD_Result answered;
    int64_t n = study->barrier_n, timeout_s;
    int rc;

    if (!study_number(request, "n", 1, GATE_WAITERS_MAX, &n, &answered) ||
        !timeout_param(request, &timeout_s, &answered)) {
        return answered;
    }
    if (barrier->waiting > 0 && n != barrier->n) {
        return http_answer(request, 409, "n=%lld: those who wait said %u\n", (long long)n,
                           barrier->n);
    }
    if (barrier->waiting + 1 >= n) {
        barrier_open(study, barrier);
        return http_answer(request, 200, "success");
    }
    barrier->waiting++;
    barrier->n = (unsigned)n;
    rc = ask(request, NULL, barrier, "", timeout_s);
    if (rc < 0) {
        barrier->waiting--;
        return answer_cannot_wait(request, rc);
    }
    return MHD_YES;
}

static enum MHD_Result call_barrier(struct http_request *request)
{
    return barrier_call(request, &http_study(request)->barriers[0]);
}

static enum MHD_Result call_barrier_vm(struct http_request *request)
{
    return barrier_call(request, &http_study(request)->barriers[1]);
}

/* ---- devices ---- */

/* Tenants in turn, each for its share of the pods; the first ones take what does not divide. */
static unsigned ifname_tenant(unsigned pod, unsigned pods, unsigned tenants)
{
    unsigned share = pods / tenants, rest = pods % tenants;

    if (pod < rest * (share + 1)) {
        return pod / (share + 1);
    }
    return rest + (pod - rest * (share + 1)) / share;
}

static enum MHD_Result call_get_ifname(struct http_request *request)
{
    struct study *study = http_study(request);
    unsigned tenant = ifname_tenant(study->ifnames, study->pods, study->tenants);

    study->ifnames = (study->ifnames + 1) % study->pods;
    return http_answer(request, 200, "tap%u", tenant);
}

/* As the CNI specification has it. */
static bool container_id_ok(const char *id)
{
    size_t len = strlen(id);

    if (len == 0 || len >= SPAN_POD_MAX || !isalnum((unsigned char)id[0])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)id[i]) && strchr("_.-", id[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static enum MHD_Result answer_no_device(struct http_request *request, bool take, int rc,
                                        const struct error *err)
{
    unsigned status = 500;

    if (rc == -EEXIST) {
        status = 409;
    } else if (rc == -ENOENT) {
        status = take ? 503 : 404;
    }
    return http_answer(request, status, "%s\n", err->text[0] != '\0' ? err->text : strerror(-rc));
}

static enum MHD_Result call_get_virtdev(struct http_request *request)
{
    const struct http_api *api = http_api(request);
    const char *role = http_param(request, "role"), *container_id = http_param(request, "cid");
    bool take = role != NULL && strcmp(role, "fromCNI") == 0;
    struct http_device device = {0};
    struct error err = {0};
    int rc;

    if (!take && (role == NULL || strcmp(role, "fromKATA") != 0)) {
        return study_answer_choice(request, "role", role, "fromCNI or fromKATA");
    }
    if (container_id == NULL || !container_id_ok(container_id)) {
        return study_answer_choice(request, "cid", container_id,
                                   "a container's ID (letters, digits, _ . -)");
    }
    if (api->device_take == NULL || api->device_find == NULL) {
        return http_answer(request, 501, "the agent has no pool of devices\n");
    }
    rc = (take ? api->device_take : api->device_find)(api->cookie, container_id, &device, &err);
    if (rc < 0) {
        return answer_no_device(request, take, rc, &err);
    }
    return http_answer(request, 200, "%s,%s", device.name, device.type);
}

const struct http_route study_routes[] = {
    {"/get_lock", call_get_lock},
    {"/seq_lock", call_seq_lock},
    {"/barrier", call_barrier},
    {"/barrierVM", call_barrier_vm},
    {"/get_ifname", call_get_ifname},
    {"/get_virtdev", call_get_virtdev},
    {"/add_acl_inbatch", study_rules_call},
};
const size_t study_n_routes = ARRAY_SIZE(study_routes);

/* ---- for http.c ---- */

enum MHD_Result study_woken(struct http_request *request)
{
    if (request->waiter != NULL) {
        return study_rules_woken(request);
    }
    if (request->rc < 0) {
        return http_answer(request, 408, "timeout_s passed\n");
    }
    return request->permit != NULL ? answer_obtained(request)
                                   : http_answer(request, 200, "success");
}

void study_give_up(struct http_request *request)
{
    if (request->waiter != NULL) {
        study_rules_give_up(request);
        return;
    }
    drop(http_study(request), request);
}

void study_settle(struct http_request *request, bool delivered)
{
    struct permit *permit = request->permit;

    if (permit == NULL) {
        return;
    }
    if (delivered) {
        request->permit = NULL;
        hold(permit->lock, permit);
        arm(http_study(request));
    } else {
        permit->lock->returned++;
        drop(http_study(request), request);
    }
}

static unsigned or_default(unsigned value, unsigned missing)
{
    return value > 0 ? value : missing;
}

static int gates_of_own(struct study *study, const struct http_options *options)
{
    int64_t now_ns = clock_ns();
    int rc = gates_new(&study->own);

    if (rc < 0) {
        return rc;
    }
    gate_set_limit(study->own, OWN_SEQ, or_default(options->seq_limit, 100), now_ns);
    gate_set_limit(study->own, OWN_OVS, or_default(options->ovs_limit, 60), now_ns);
    for (size_t i = 0; i < N_BARRIERS; i++) {
        struct barrier *barrier = &study->barriers[i];

        barrier->stage = OWN_BARRIER + i;
        gate_set_limit(study->own, barrier->stage, 1, now_ns);
        rc = gate_acquire(study->own, barrier->stage, "", now_ns, INT64_MAX, &barrier->bar);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int study_new(uv_loop_t *loop, const struct http_options *options, const struct http_api *api,
              struct study **ret)
{
    size_t n_locks = span_n_stages + OWN_OVS + 1;
    struct study *study = calloc(1, sizeof(*study) + n_locks * sizeof(study->locks[0]));
    int rc;

    if (study == NULL) {
        return -ENOMEM;
    }
    study->api = api;
    study->max_hold_ns = options->max_hold_s * NSEC_PER_SEC;
    study->barrier_n = or_default(options->barrier, 1);
    study->pods = or_default(options->pods, 1);
    study->tenants = or_default(options->tenants, 1);
    rc = gates_of_own(study, options);
    if (rc < 0) {
        gates_free(study->own);
        free(study);
        return rc;
    }
    study->n_locks = n_locks;
    for (size_t i = 0; i < span_n_stages; i++) {
        study->locks[i] = (struct lock){span_stages[i].name, api->gates, i};
    }
    study->locks[span_n_stages + OWN_SEQ] = (struct lock){"seq", study->own, OWN_SEQ};
    study->locks[span_n_stages + OWN_OVS] = (struct lock){"ovs", study->own, OWN_OVS};
    uv_timer_init(loop, &study->timer);
    study->timer.data = study;
    *ret = study;
    return 0;
}

void study_free(struct study *study)
{
    if (study == NULL) {
        return;
    }
    for (size_t i = 0; i < study->n_locks; i++) {
        while (give_back(&study->locks[i])) {
        }
    }
    changed(study, study->api->gates);
    gates_free(study->own);
    uv_close((uv_handle_t *)&study->timer, timer_closed);
}

void study_metrics(struct study *study, FILE *to)
{
    static const struct {
        const char *name, *help;
        enum metrics_type type;
        size_t offset;
    } families[] = {
        {"sluice_http_permits_held", "Permits that HTTP clients hold.", METRICS_GAUGE,
         offsetof(struct lock, held)},
        {"sluice_http_permits_overdue_total", "Permits given back for being held too long.",
         METRICS_COUNTER, offsetof(struct lock, overdue)},
        {"sluice_http_permits_returned_total", "Permits whose client was gone before the answer.",
         METRICS_COUNTER, offsetof(struct lock, returned)},
    };

    for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
        metrics_family(to, families[f].type, families[f].name, families[f].help);
        for (size_t i = 0; i < study->n_locks; i++) {
            const struct metrics_label labels[] = {{"lock", study->locks[i].name}, {NULL}};

            metrics_count(to, families[f].name, labels,
                          *(const uint64_t *)((const char *)&study->locks[i] + families[f].offset));
        }
    }
}
