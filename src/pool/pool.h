/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: parts made ready in idle time, taken when a pod comes, given back when it goes. One pool a
 * network. Pure logic: it counts, orders and decides; what a part is, and how one is made and
 * removed, is the caller's business (src/agent). One thread calls, and says what time it is.
 */
#pragma once

#include "base/base.h"

struct pool_limits {
    unsigned floor;       /* free parts before the pool counts as ready for the first time */
    unsigned target;      /* free parts that refilling keeps; 0: no pool */
    unsigned maximum;     /* parts free, cooling and being made; what is given back beyond goes */
    unsigned rate;        /* parts made a second at most */
    int64_t cool_down_ns; /* before what was given back is free again */
};

/* Fills what a user did not give: floor 0, maximum = 2 x target, rate 200, cool-down 2 s. */
extern const struct pool_limits pool_limits_default;

/* -EINVAL with what is allowed: floor <= target <= maximum <= 100000, rate 1..100000, cool-down at
 * most an hour. */
int pool_limits_check(const struct pool_limits *limits, struct error *err);

enum pool_part_state { POOL_PART_NONE, POOL_PART_FREE, POOL_PART_COOLING };

/* One ready-made part; embedded in the caller's structure, zeroed before its first use. */
struct pool_part {
    uint64_t number; /* the caller's */
    enum pool_part_state state;
    int64_t since_ns;
    struct pool_part *next, *prev; /* the room's own */
};

struct pool;

int pool_new(const struct pool_limits *limits, struct pool **ret);

/* Parts in it are the caller's to remove: pool_remove one after the other first. */
void pool_free(struct pool *pool);
void pool_set_limits(struct pool *pool, const struct pool_limits *limits);
const struct pool_limits *pool_get_limits(const struct pool *pool);

/* The part that has been free longest; NULL, counted as a miss, when there is none. */
struct pool_part *pool_take(struct pool *pool, int64_t now_ns);

/*
 * A used part comes back: it cools down and is free after. False: the pool has its maximum; the
 * caller removes the part.
 */
bool pool_give(struct pool *pool, struct pool_part *part, int64_t now_ns);

/*
 * How many parts to begin making now, at most `most`; they count as being made until pool_made or
 * pool_failed is called once for each. idle: nobody is being served. Below the floor parts are made
 * even when not idle. The rate bounds it: a bucket of at most a second's worth of tokens. After
 * failures it waits longer and longer, from 0.1 to 10 s, until one succeeds.
 */
unsigned pool_to_make(struct pool *pool, int64_t now_ns, bool idle, unsigned most);
void pool_made(struct pool *pool, struct pool_part *part, int64_t now_ns); /* it is free now */
void pool_failed(struct pool *pool, int64_t now_ns);

/* A part that survived a restart: free at once, beyond any limit. */
void pool_adopt(struct pool *pool, struct pool_part *part, int64_t now_ns);

/* A part to be removed because there are more free or cooling ones than the maximum (or, draining,
 * any); it is out of the pool then. NULL: none. */
struct pool_part *pool_to_remove(struct pool *pool, int64_t now_ns);

/* Takes one certain part out (it was found broken). */
void pool_remove(struct pool *pool, struct pool_part *part);

/* Draining: makes none, gives up all; until pool_set_limits. */
void pool_drain(struct pool *pool);

/* True once as many parts as the floor says were free at the same time. */
bool pool_ready(const struct pool *pool);

/*
 * When pool_to_make, asked again with the same idle and most, or pool_to_remove may next answer
 * otherwise, or a part has cooled; INT64_MAX: not by time alone.
 */
int64_t pool_next_ns(const struct pool *pool, int64_t now_ns);

struct pool_view {
    struct pool_limits limits;
    size_t free, cooling, making;
    bool ready, draining;
    uint64_t hits, misses, made, failed, given, removed; /* a part refused counts as the last two */
};

void pool_view(const struct pool *pool, int64_t now_ns, struct pool_view *ret);
