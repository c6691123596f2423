/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The funnel: how many threads of a process may be inside the kernel's rtnetlink at once, by what
 * they do there. All of it takes RTNL, so that a crowd only spins and wakes; but a removal waits
 * for RCU without the lock, and must not be queued.
 */
#include "netlink/netlink.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

const char *const funnel_work_names[FUNNEL_N_WORKS + 1] = {"change", "create", "remove", NULL};

struct waiter {
    pthread_cond_t go;
    bool called;
    struct waiter *next;
};

struct passage {
    unsigned width; /* 0: no bound */
    unsigned busy, waiting;
    uint64_t passed;
    struct histogram wait;
    struct waiter *first, **last;
};

struct funnel {
    pthread_mutex_t lock;
    struct passage passages[FUNNEL_N_WORKS]; /* under lock */
};

int funnel_new(struct funnel **ret)
{
    struct funnel *funnel = calloc(1, sizeof(*funnel));

    if (!funnel) {
        return -ENOMEM;
    }
    pthread_mutex_init(&funnel->lock, NULL);
    for (int i = 0; i < FUNNEL_N_WORKS; i++) {
        funnel->passages[i].last = &funnel->passages[i].first;
    }
    *ret = funnel;
    return 0;
}

void funnel_free(struct funnel *funnel)
{
    if (funnel) {
        pthread_mutex_destroy(&funnel->lock);
        free(funnel);
    }
}

/* Lets in, in the order they came, as many as there is room for. */
static void call_locked(struct passage *passage)
{
    struct waiter *waiter;

    while ((waiter = passage->first) && (!passage->width || passage->busy < passage->width)) {
        passage->first = waiter->next;
        if (!passage->first) {
            passage->last = &passage->first;
        }
        passage->waiting--;
        passage->busy++;
        waiter->called = true;
        pthread_cond_signal(&waiter->go);
    }
}

void funnel_set_width(struct funnel *funnel, enum funnel_work work, unsigned width)
{
    pthread_mutex_lock(&funnel->lock);
    funnel->passages[work].width = width;
    call_locked(&funnel->passages[work]);
    pthread_mutex_unlock(&funnel->lock);
}

void funnel_enter(struct funnel *funnel, enum funnel_work work)
{
    struct passage *passage = &funnel->passages[work];
    int64_t t0 = 0;

    pthread_mutex_lock(&funnel->lock);
    if (passage->first || (passage->width && passage->busy >= passage->width)) {
        struct waiter self = {.go = PTHREAD_COND_INITIALIZER};

        t0 = clock_ns();
        *passage->last = &self;
        passage->last = &self.next;
        passage->waiting++;
        while (!self.called) {
            pthread_cond_wait(&self.go, &funnel->lock);
        }
        pthread_cond_destroy(&self.go);
    } else {
        passage->busy++;
    }
    passage->passed++;
    histogram_add(&passage->wait, t0 ? clock_ns() - t0 : 0);
    pthread_mutex_unlock(&funnel->lock);
}

void funnel_leave(struct funnel *funnel, enum funnel_work work)
{
    pthread_mutex_lock(&funnel->lock);
    funnel->passages[work].busy--;
    call_locked(&funnel->passages[work]);
    pthread_mutex_unlock(&funnel->lock);
}

void funnel_view(struct funnel *funnel, enum funnel_work work, struct funnel_view *ret)
{
    const struct passage *passage = &funnel->passages[work];

    pthread_mutex_lock(&funnel->lock);
    *ret = (struct funnel_view){passage->width, passage->busy, passage->waiting, passage->passed,
                                passage->wait};
    pthread_mutex_unlock(&funnel->lock);
}
