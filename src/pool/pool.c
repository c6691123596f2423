/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two queues, free and cooling, each in the order in which parts came into it, and a token bucket.
 * Nothing happens by itself: every call that is told the time first catches up with it.
 */
#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>

#define LIMIT_MAX        100000
#define COOL_DOWN_MAX_NS (3600 * NSEC_PER_SEC)
#define BACK_OFF_MIN_NS  (100 * NSEC_PER_MSEC)
#define BACK_OFF_MAX_NS  (10 * NSEC_PER_SEC)

/* In what a nanosecond at a rate of one part a second earns: nothing is lost by rounding. */
#define CREDIT_PER_PART NSEC_PER_SEC

struct queue {
    struct pool_part ends; /* its next is the first, its prev the last */
    size_t n;
};

struct pool {
    struct pool_limits limits;
    struct queue queues[POOL_PART_COOLING + 1]; /* by state */
    struct pool_view view;                      /* but for limits, free and cooling */
    int64_t now_ns;                             /* the latest time told */
    int64_t credit;                             /* for making, at now_ns */
    int64_t wait_ns;  /* the last back-off's length; 0: the last part made was made well */
    int64_t retry_ns; /* none is begun before */
    bool idle;        /* idle and most, as pool_to_make was asked last */
    unsigned most;
};

/* The maximum is 0, too: who fills in doubles the target. */
const struct pool_limits pool_limits_default = {.rate = 200, .cool_down_ns = 2 * NSEC_PER_SEC};

int pool_limits_check(const struct pool_limits *limits, struct error *err)
{
    if (limits->floor > limits->target || limits->target > limits->maximum ||
        limits->maximum > LIMIT_MAX) {
        return error_set(err, -EINVAL,
                         "floor %u, target %u, maximum %u: must be floor <= target <= maximum <= "
                         "%d",
                         limits->floor, limits->target, limits->maximum, LIMIT_MAX);
    }
    if (limits->rate < 1 || limits->rate > LIMIT_MAX) {
        return error_set(err, -EINVAL, "rate %u: must be 1 to %d parts a second", limits->rate,
                         LIMIT_MAX);
    }
    if (limits->cool_down_ns < 0 || limits->cool_down_ns > COOL_DOWN_MAX_NS) {
        return error_set(err, -EINVAL, "cool-down %lld ns: must be 0 to an hour",
                         (long long)limits->cool_down_ns);
    }
    return 0;
}

/* ---- the two queues ---- */

static struct pool_part *first(const struct pool *pool, enum pool_part_state state)
{
    const struct queue *queue = &pool->queues[state];

    return queue->n ? queue->ends.next : NULL;
}

static size_t n_free(const struct pool *pool)
{
    return pool->queues[POOL_PART_FREE].n;
}

static void note_ready(struct pool *pool)
{
    pool->view.ready = pool->view.ready || n_free(pool) >= pool->limits.floor;
}

static void enter(struct pool *pool, struct pool_part *part, enum pool_part_state state)
{
    struct queue *queue = &pool->queues[state];

    part->state = state;
    part->since_ns = pool->now_ns;
    part->next = &queue->ends;
    part->prev = queue->ends.prev;
    part->prev->next = part;
    queue->ends.prev = part;
    queue->n++;
    note_ready(pool);
}

static void leave(struct pool *pool, struct pool_part *part)
{
    pool->queues[part->state].n--;
    part->prev->next = part->next;
    part->next->prev = part->prev;
    part->next = part->prev = NULL;
    part->state = POOL_PART_NONE;
}

/* ---- what is so ---- */

static size_t n_held(const struct pool *pool)
{
    return n_free(pool) + pool->queues[POOL_PART_COOLING].n;
}

/* The maximum that holds now. */
static size_t room(const struct pool *pool)
{
    return pool->view.draining || pool->limits.target == 0 ? 0 : pool->limits.maximum;
}

static int64_t cooled_ns(const struct pool *pool, const struct pool_part *part)
{
    return part->since_ns + pool->limits.cool_down_ns;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t less(size_t a, size_t b)
{
    return a > b ? a - b : 0;
}

/* How many parts more there may be. */
static size_t n_spare(const struct pool *pool)
{
    return less(room(pool), n_held(pool) + pool->view.making);
}

/* How many parts would be begun now, were there no rate and no back-off. */
static size_t n_wanted(const struct pool *pool)
{
    size_t goal = pool->idle ? pool->limits.target : pool->limits.floor;
    size_t lacking = less(goal, n_free(pool) + pool->view.making);

    return least(pool->most, least(lacking, n_spare(pool)));
}

/* ---- as time passes ---- */

static void cap_credit(struct pool *pool)
{
    int64_t most = pool->limits.rate * CREDIT_PER_PART;

    if (pool->credit > most) {
        pool->credit = most;
    }
}

static void catch_up(struct pool *pool, int64_t now_ns)
{
    int64_t passed_ns = now_ns > pool->now_ns ? now_ns - pool->now_ns : 0;
    struct pool_part *part;

    pool->now_ns += passed_ns;
    pool->credit += (passed_ns < NSEC_PER_SEC ? passed_ns : NSEC_PER_SEC) * pool->limits.rate;
    cap_credit(pool);
    while ((part = first(pool, POOL_PART_COOLING)) && cooled_ns(pool, part) <= pool->now_ns) {
        leave(pool, part);
        enter(pool, part, POOL_PART_FREE);
    }
}

/* When one part may be begun, as far as rate and back-off go. */
static int64_t make_ns(const struct pool *pool)
{
    int64_t lacking = CREDIT_PER_PART - pool->credit, rate = pool->limits.rate;
    int64_t earned_ns = pool->now_ns + (lacking > 0 ? (lacking + rate - 1) / rate : 0);

    return earned_ns > pool->retry_ns ? earned_ns : pool->retry_ns;
}

int64_t pool_next_ns(const struct pool *pool, int64_t now_ns)
{
    const struct pool_part *cooling = first(pool, POOL_PART_COOLING);
    int64_t next_ns = cooling ? cooled_ns(pool, cooling) : INT64_MAX;

    if (n_held(pool) > room(pool)) {
        return now_ns;
    }
    if (n_wanted(pool) && make_ns(pool) < next_ns) {
        next_ns = make_ns(pool);
    }
    return next_ns > now_ns ? next_ns : now_ns;
}

/* ---- making ---- */

unsigned pool_to_make(struct pool *pool, int64_t now_ns, bool idle, unsigned most)
{
    size_t n;

    catch_up(pool, now_ns);
    pool->idle = idle;
    pool->most = most;
    if (pool->now_ns < pool->retry_ns) {
        return 0;
    }
    n = least(n_wanted(pool), (size_t)(pool->credit / CREDIT_PER_PART));
    pool->credit -= (int64_t)n * CREDIT_PER_PART;
    pool->view.making += n;
    return (unsigned)n;
}

void pool_made(struct pool *pool, struct pool_part *part, int64_t now_ns)
{
    catch_up(pool, now_ns);
    pool->view.making--;
    pool->view.made++;
    pool->wait_ns = pool->retry_ns = 0;
    enter(pool, part, POOL_PART_FREE);
}

void pool_failed(struct pool *pool, int64_t now_ns)
{
    catch_up(pool, now_ns);
    pool->view.making--;
    pool->view.failed++;
    /* What fails while waiting was begun before: the same trouble, not another one. */
    if (pool->now_ns >= pool->retry_ns) {
        pool->wait_ns = pool->wait_ns ? 2 * pool->wait_ns : BACK_OFF_MIN_NS;
        if (pool->wait_ns > BACK_OFF_MAX_NS) {
            pool->wait_ns = BACK_OFF_MAX_NS;
        }
        pool->retry_ns = pool->now_ns + pool->wait_ns;
    }
}

void pool_adopt(struct pool *pool, struct pool_part *part, int64_t now_ns)
{
    catch_up(pool, now_ns);
    enter(pool, part, POOL_PART_FREE);
}

/* ---- taking, giving back, removing ---- */

struct pool_part *pool_take(struct pool *pool, int64_t now_ns)
{
    struct pool_part *part;

    catch_up(pool, now_ns);
    part = pool->limits.target ? first(pool, POOL_PART_FREE) : NULL;
    if (!part) {
        pool->view.misses++;
        return NULL;
    }
    pool->view.hits++;
    leave(pool, part);
    return part;
}

bool pool_give(struct pool *pool, struct pool_part *part, int64_t now_ns)
{
    catch_up(pool, now_ns);
    pool->view.given++;
    if (n_spare(pool) == 0) {
        pool->view.removed++;
        return false;
    }
    enter(pool, part, POOL_PART_COOLING);
    return true;
}

struct pool_part *pool_to_remove(struct pool *pool, int64_t now_ns)
{
    struct pool_part *part = NULL;

    catch_up(pool, now_ns);
    if (n_held(pool) > room(pool)) {
        part = first(pool, n_free(pool) ? POOL_PART_FREE : POOL_PART_COOLING);
        pool_remove(pool, part);
    }
    return part;
}

void pool_remove(struct pool *pool, struct pool_part *part)
{
    leave(pool, part);
    pool->view.removed++;
}

/* ---- the pool itself ---- */

void pool_set_limits(struct pool *pool, const struct pool_limits *limits)
{
    pool->limits = *limits;
    pool->view.draining = false;
    cap_credit(pool);
    note_ready(pool);
}

int pool_new(const struct pool_limits *limits, struct pool **ret)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    if (!pool) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < ARRAY_SIZE(pool->queues); i++) {
        pool->queues[i].ends.next = pool->queues[i].ends.prev = &pool->queues[i].ends;
    }
    pool->credit = INT64_MAX;
    pool->idle = true;
    pool->most = LIMIT_MAX;
    pool_set_limits(pool, limits);
    *ret = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    free(pool);
}

const struct pool_limits *pool_get_limits(const struct pool *pool)
{
    return &pool->limits;
}

void pool_drain(struct pool *pool)
{
    pool->view.draining = true;
}

bool pool_ready(const struct pool *pool)
{
    return pool->view.ready;
}

void pool_view(const struct pool *pool, int64_t now_ns, struct pool_view *ret)
{
    const struct queue *cooling = &pool->queues[POOL_PART_COOLING];
    const struct pool_part *part = cooling->ends.next;
    size_t cooled = 0;

    /* The queue's end is in no state. */
    for (; part->state && cooled_ns(pool, part) <= now_ns; part = part->next) {
        cooled++;
    }
    *ret = pool->view;
    ret->limits = pool->limits;
    ret->free = n_free(pool) + cooled;
    ret->cooling = cooling->n - cooled;
}
