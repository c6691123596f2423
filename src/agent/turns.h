/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls about one container take turns: a DEL that comes while an ADD of the same container is
 * still at work, because its caller was killed, must find all that it made. On the loop's thread.
 */
#pragma once

#include "base/base.h"

/* A place in the line of its key; the caller's memory, zeroed before its first use. */
struct turn {
    const char *key;               /* borrowed while it is in line */
    void (*go)(struct turn *turn); /* called when a turn that had to wait comes */
    bool held;
    struct turn *next;         /* in the same bucket; of one that waits: in line */
    struct turn *first, *last; /* who waits behind the one that holds it */
};

struct turns;

int turns_new(struct turns **ret);
void turns_free(struct turns *turns);

/* True: it is its turn. False: it waits, and go is called. */
bool turns_take(struct turns *turns, struct turn *turn);

/* It is done (fine if it never took one): the next in line goes. */
void turns_pass(struct turns *turns, struct turn *turn);
