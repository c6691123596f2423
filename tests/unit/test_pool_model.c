/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A caller that lives through random events in virtual time and sleeps until pool_next_ns says, and
 * beside it a model that knows no queues, counters or tokens: it looks at all parts there ever
 * were, and at all that was ever begun.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "pool/pool.h"

#include <stdlib.h>
#include <string.h>

#define SEC  NSEC_PER_SEC
#define MSEC NSEC_PER_MSEC
enum place { GONE, MAKING, FREE, COOLING, USED };

struct item {
    struct pool_part part; /* first: a part's item is where the part is */
    enum place place;
    int64_t at_ns;  /* cooling: since when; making: until when */
    uint64_t order; /* of coming to this place */
};

struct begun {
    int64_t at_ns;
    int64_t n;
};

#define ITEMS_MAX 600
#define BEGUN_MAX 20000
#define PODS_MAX  100

struct sim {
    struct pool *pool;
    struct pool_limits limits;
    uint64_t random, order, adopted;
    int64_t now_ns, wake_ns, wait_ns, retry_ns;
    bool idle, asked_idle, draining, ready, reliable;
    unsigned workers, asked_most;
    struct item items[ITEMS_MAX];
    struct begun begun[BEGUN_MAX];
    size_t n_begun;
};

static uint64_t below(struct sim *sim, uint64_t n)
{
    sim->random = sim->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (sim->random >> 33) % n;
}

static size_t count(const struct sim *sim, enum place place)
{
    size_t n = 0;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        n += sim->items[i].place == place;
    }
    return n;
}

/* The one that came to that place first; NULL: none is there. */
static struct item *oldest(struct sim *sim, enum place place)
{
    struct item *found = NULL;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        struct item *item = &sim->items[i];

        if (item->place == place && (!found || item->order < found->order)) {
            found = item;
        }
    }
    return found;
}

static struct item *any(struct sim *sim, enum place place)
{
    size_t skip = count(sim, place) ? below(sim, count(sim, place)) : 0;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        if (sim->items[i].place == place && skip-- == 0) {
            return &sim->items[i];
        }
    }
    return NULL;
}

static void move(struct sim *sim, struct item *item, enum place place)
{
    item->place = place;
    item->at_ns = sim->now_ns;
    item->order = ++sim->order;
}

static size_t room(const struct sim *sim)
{
    return sim->draining || !sim->limits.target ? 0 : sim->limits.maximum;
}

static size_t total(const struct sim *sim)
{
    return count(sim, FREE) + count(sim, COOLING) + count(sim, MAKING);
}

/* What is free or cooling and more than may be. */
static bool surplus(const struct sim *sim)
{
    return count(sim, FREE) + count(sim, COOLING) > room(sim);
}

/* From any beginning until now, no more may have begun than the time's and one second's worth. */
static int64_t allowed_by_rate(const struct sim *sim, int64_t now_ns)
{
    int64_t rate = sim->limits.rate, allowed = rate, n = 0;

    for (size_t i = sim->n_begun; i-- > 0;) {
        int64_t worth = (rate * SEC + rate * (now_ns - sim->begun[i].at_ns)) / SEC;

        n += sim->begun[i].n;
        allowed = worth - n < allowed ? worth - n : allowed;
    }
    return allowed;
}

static int64_t allowed_to_make(const struct sim *sim, int64_t now_ns)
{
    int64_t goal = sim->asked_idle ? sim->limits.target : sim->limits.floor;
    int64_t n = goal - (int64_t)(count(sim, FREE) + count(sim, MAKING));
    int64_t spare = (int64_t)room(sim) - (int64_t)total(sim);
    int64_t by_rate = n > 0 ? allowed_by_rate(sim, now_ns) : 0;

    n = spare < n ? spare : n;
    n = sim->asked_most < n ? sim->asked_most : n;
    n = by_rate < n ? by_rate : n;
    return n < 0 || now_ns < sim->retry_ns ? 0 : n;
}

/* Is there anything to do at that time, if nothing happens before it? */
static bool any_work(const struct sim *sim, int64_t now_ns)
{
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        const struct item *item = &sim->items[i];

        if (item->place == COOLING && item->at_ns + sim->limits.cool_down_ns <= now_ns) {
            return true;
        }
    }
    return surplus(sim) || allowed_to_make(sim, now_ns) > 0;
}

static void settle(struct sim *sim)
{
    struct item *item;

    while ((item = oldest(sim, COOLING)) && item->at_ns + sim->limits.cool_down_ns <= sim->now_ns) {
        move(sim, item, FREE);
    }
    sim->ready = sim->ready || count(sim, FREE) >= sim->limits.floor;
}

/* Every part is in one place, and the pool and the model agree on it. */
static void check(struct sim *sim)
{
    struct pool_view view;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        const struct item *item = &sim->items[i];

        assert_int_equal(item->part.state, item->place == FREE      ? POOL_PART_FREE
                                           : item->place == COOLING ? POOL_PART_COOLING
                                                                    : POOL_PART_NONE);
    }
    pool_view(sim->pool, sim->now_ns, &view);
    assert_int_equal(view.free, count(sim, FREE));
    assert_int_equal(view.cooling, count(sim, COOLING));
    assert_int_equal(view.making, count(sim, MAKING));
    assert_int_equal(view.made + view.given + sim->adopted,
                     view.hits + view.removed + view.free + view.cooling);
    assert_int_equal(pool_ready(sim->pool), sim->ready);
}

static void begin(struct sim *sim, unsigned n)
{
    assert_true(total(sim) + n <= sim->limits.maximum);
    assert_true(sim->n_begun < BEGUN_MAX);
    sim->begun[sim->n_begun++] = (struct begun){sim->now_ns, n};
    while (n-- > 0) {
        struct item *item = any(sim, GONE);

        assert_non_null(item);
        memset(&item->part, 0, sizeof(item->part));
        move(sim, item, MAKING);
        item->at_ns += (int64_t)below(sim, 50) * MSEC;
    }
}

/* All that a caller does when anything happened and whenever it wakes. */
static void pump(struct sim *sim)
{
    unsigned n;

    settle(sim);
    do {
        sim->asked_idle = sim->idle;
        sim->asked_most = sim->workers - (unsigned)count(sim, MAKING);
        n = (unsigned)allowed_to_make(sim, sim->now_ns);
        assert_int_equal(pool_to_make(sim->pool, sim->now_ns, sim->asked_idle, sim->asked_most), n);
        if (n) {
            begin(sim, n);
        }
    } while (n);
    while (surplus(sim)) {
        struct item *item = oldest(sim, count(sim, FREE) ? FREE : COOLING);

        assert_ptr_equal(pool_to_remove(sim->pool, sim->now_ns), item);
        move(sim, item, GONE);
    }
    assert_null(pool_to_remove(sim->pool, sim->now_ns));
    check(sim);

    /* Not a nanosecond early, so it does not spin, nor late, so it misses nothing. */
    sim->wake_ns = pool_next_ns(sim->pool, sim->now_ns);
    assert_true(sim->wake_ns > sim->now_ns);
    if (sim->wake_ns == INT64_MAX) {
        assert_false(any_work(sim, sim->now_ns + 3600 * SEC));
    } else {
        assert_false(any_work(sim, sim->wake_ns - 1));
        assert_true(any_work(sim, sim->wake_ns));
    }
}

static struct item *next_finished(struct sim *sim)
{
    struct item *found = NULL;

    for (size_t i = 0; i < ITEMS_MAX; i++) {
        struct item *item = &sim->items[i];

        if (item->place == MAKING && (!found || item->at_ns < found->at_ns)) {
            found = item;
        }
    }
    return found;
}

static void finish(struct sim *sim, struct item *item)
{
    settle(sim);
    if (sim->reliable || below(sim, 4)) {
        move(sim, item, FREE);
        pool_made(sim->pool, &item->part, sim->now_ns);
        sim->wait_ns = sim->retry_ns = 0;
    } else {
        move(sim, item, GONE);
        pool_failed(sim->pool, sim->now_ns);
        if (sim->now_ns >= sim->retry_ns) {
            sim->wait_ns = sim->wait_ns ? sim->wait_ns * 2 : SEC / 10;
            sim->wait_ns = sim->wait_ns > 10 * SEC ? 10 * SEC : sim->wait_ns;
            sim->retry_ns = sim->now_ns + sim->wait_ns;
        }
    }
}

/* Lives until then: wakes when the pool said so, and takes parts that are made. */
static void live_until(struct sim *sim, int64_t then_ns)
{
    for (;;) {
        struct item *item = next_finished(sim);
        bool made = item && item->at_ns <= sim->wake_ns;
        int64_t next_ns = made ? item->at_ns : sim->wake_ns;

        if (next_ns > then_ns || next_ns == INT64_MAX) {
            break;
        }
        sim->now_ns = next_ns;
        if (made) {
            finish(sim, item);
        }
        pump(sim);
    }
    sim->now_ns = then_ns;
}

static void change_limits(struct sim *sim, unsigned target_min)
{
    struct pool_limits *limits = &sim->limits;

    limits->target = target_min + (unsigned)below(sim, 20);
    limits->floor = (unsigned)below(sim, limits->target + 1);
    limits->maximum = limits->target + (unsigned)below(sim, 20);
    limits->cool_down_ns = (int64_t)below(sim, 3000) * MSEC;
    sim->draining = false;
    sim->ready = sim->ready || count(sim, FREE) >= limits->floor;
}

static void take(struct sim *sim)
{
    struct item *item = sim->limits.target ? oldest(sim, FREE) : NULL;

    assert_ptr_equal(pool_take(sim->pool, sim->now_ns), item);
    if (item) {
        move(sim, item, USED);
    }
}

static void give(struct sim *sim)
{
    struct item *item = any(sim, USED);
    bool fits = total(sim) < room(sim);

    if (item) {
        assert_int_equal(pool_give(sim->pool, &item->part, sim->now_ns), fits);
        move(sim, item, fits ? COOLING : GONE);
    }
}

static void adopt_one(struct sim *sim)
{
    struct item *item = any(sim, GONE);

    assert_non_null(item);
    memset(&item->part, 0, sizeof(item->part));
    pool_adopt(sim->pool, &item->part, sim->now_ns);
    move(sim, item, FREE);
    sim->adopted++;
}

static void break_one(struct sim *sim)
{
    struct item *item = any(sim, below(sim, 2) ? FREE : COOLING);

    if (item) {
        pool_remove(sim->pool, &item->part);
        move(sim, item, GONE);
    }
}

static void happen(struct sim *sim)
{
    uint64_t what = below(sim, 100);

    if (what < 35 && count(sim, USED) < PODS_MAX) {
        take(sim);
    } else if (what < 70) {
        give(sim);
    } else if (what < 85) {
        sim->idle = !sim->idle;
    } else if (what < 90) {
        break_one(sim);
    } else if (what < 95) {
        adopt_one(sim);
    } else if (what < 99) {
        change_limits(sim, 0);
        pool_set_limits(sim->pool, &sim->limits);
    } else {
        sim->draining = true;
        pool_drain(sim->pool);
    }
}

/* From nothing at all to hours. */
static int64_t pause_ns(struct sim *sim)
{
    static const int64_t most_ns[] = {1, 2, MSEC, 10 * MSEC, 100 * MSEC, SEC, 5 * SEC, 60 * SEC};

    return (int64_t)below(sim, (uint64_t)most_ns[below(sim, ARRAY_SIZE(most_ns))]);
}

static void simulate(uint64_t seed)
{
    struct sim *sim = calloc(1, sizeof(*sim));

    assert_non_null(sim);
    sim->random = seed;
    sim->now_ns = 1000 * SEC;
    sim->idle = true;
    sim->workers = below(sim, 2) ? 1 + (unsigned)below(sim, 8) : 1000;
    sim->limits.rate = 1 + (unsigned)below(sim, below(sim, 2) ? 10 : 1000);
    change_limits(sim, 1);
    assert_int_equal(pool_limits_check(&sim->limits, NULL), 0);
    assert_int_equal(pool_new(&sim->limits, &sim->pool), 0);
    sim->ready = sim->limits.floor == 0;
    pump(sim);
    for (int i = 0; i < 300; i++) {
        live_until(sim, sim->now_ns + pause_ns(sim));
        happen(sim);
        /* Also before the caller asks again the pool knows whether there is anything to do. */
        assert_int_equal(pool_next_ns(sim->pool, sim->now_ns) == sim->now_ns,
                         any_work(sim, sim->now_ns));
        pump(sim);
    }

    /* Left alone, and with nothing failing, it reaches its target. */
    sim->reliable = sim->idle = true;
    change_limits(sim, 1);
    pool_set_limits(sim->pool, &sim->limits);
    pump(sim);
    live_until(sim, sim->now_ns + 120 * SEC);
    assert_int_equal(sim->wake_ns, INT64_MAX);
    assert_true(count(sim, FREE) >= sim->limits.target);
    assert_true(count(sim, FREE) <= sim->limits.maximum);
    assert_int_equal(count(sim, COOLING) + count(sim, MAKING), 0);

    /* Drained, it gives up every part it holds, each once. */
    sim->draining = true;
    pool_drain(sim->pool);
    pump(sim);
    assert_int_equal(total(sim), 0);
    pool_free(sim->pool);
    free(sim);
}

static void test_sleeping_caller_misses_nothing_and_never_spins(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        simulate(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sleeping_caller_misses_nothing_and_never_spins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
