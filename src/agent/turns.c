/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/turns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096 /* calls in flight at most, or nearly */

struct turns {
    struct turn *holders[BUCKETS];
};

int turns_new(struct turns **ret)
{
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : -ENOMEM;
}

void turns_free(struct turns *turns)
{
    free(turns);
}

/* Where the holder of a key is, or would be. */
static struct turn **find(struct turns *turns, const char *key)
{
    struct turn **at = &turns->holders[hash64_str(HASH64_START, key) % BUCKETS];

    while (*at && strcmp((*at)->key, key) != 0) {
        at = &(*at)->next;
    }
    return at;
}

bool turns_take(struct turns *turns, struct turn *turn)
{
    struct turn **at = find(turns, turn->key), *holder = *at;

    turn->next = turn->first = turn->last = NULL;
    turn->held = !holder;
    if (!holder) {
        *at = turn;
    } else if (holder->last) {
        holder->last = holder->last->next = turn;
    } else {
        holder->first = holder->last = turn;
    }
    return turn->held;
}

void turns_pass(struct turns *turns, struct turn *turn)
{
    struct turn **at, *next = turn->first;

    if (!turn->held) {
        return;
    }
    turn->held = false;
    at = find(turns, turn->key);
    if (!next) {
        *at = turn->next;
        return;
    }
    *at = next;
    next->first = next->next;
    next->last = next->first ? turn->last : NULL;
    next->next = turn->next;
    next->held = true;
    next->go(next);
}
