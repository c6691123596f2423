/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STACK_SIZE (256 * 1024)
#define IDLE_S     10 /* then a thread ends */

const char *const lane_names[LANE_N + 1] = {"quick", "slow", "remove", NULL};

struct lane_state {
    struct workers *workers;
    pthread_cond_t work;
    unsigned width, threads, idle;
    size_t queued;
    struct job *first, **last;
};

struct workers {
    struct workers_options options;
    pthread_mutex_t lock;
    pthread_cond_t ended;            /* a thread did */
    struct lane_state lanes[LANE_N]; /* under lock */
    struct job *done, **done_last;   /* under lock */
    bool stopping;                   /* under lock */
    uv_async_t wake;
};

/* ---- on the workers' threads ---- */

/* The next job; NULL when the thread is to end. */
static struct job *take_locked(struct workers *workers, struct lane_state *lane)
{
    struct job *job;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    while (!lane->first) {
        int rc;

        if (workers->stopping) {
            return NULL;
        }
        lane->idle++;
        rc = pthread_cond_timedwait(&lane->work, &workers->lock, &until);
        lane->idle--;
        if (rc == ETIMEDOUT && !lane->first) {
            return NULL;
        }
    }
    job = lane->first;
    lane->first = job->next;
    if (!lane->first) {
        lane->last = &lane->first;
    }
    lane->queued--;
    return job;
}

static void finish_locked(struct workers *workers, struct job *job)
{
    bool first = !workers->done;

    job->next = NULL;
    *workers->done_last = job;
    workers->done_last = &job->next;
    if (first) {
        uv_async_send(&workers->wake);
    }
}

static void *work(void *cookie)
{
    struct lane_state *lane = cookie;
    struct workers *workers = lane->workers;
    struct kind_env env;
    struct error err;
    struct job *job;
    bool open = false;

    pthread_mutex_lock(&workers->lock);
    while ((job = take_locked(workers, lane))) {
        pthread_mutex_unlock(&workers->lock);
        if (open && !netlink_usable(env.host)) {
            kind_env_close(&env);
            open = false;
        }
        if (!open) {
            open =
                kind_env_open(&env, workers->options.instance, workers->options.shared, &err) == 0;
        }
        if (!open) {
            log_error("a worker has no environment: %s", err.text);
        }
        job->run(job, open ? &env : NULL);
        pthread_mutex_lock(&workers->lock);
        finish_locked(workers, job);
    }
    if (open) {
        kind_env_close(&env);
    }
    lane->threads--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

static int start_thread(struct lane_state *lane)
{
    pthread_attr_t attr;
    pthread_t thread;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    rc = -pthread_create(&thread, &attr, work, lane);
    pthread_attr_destroy(&attr);
    return rc;
}

/* ---- on the loop's thread ---- */

static void on_wake(uv_async_t *async)
{
    struct workers *workers = async->data;
    struct job *job, *next;

    pthread_mutex_lock(&workers->lock);
    job = workers->done;
    workers->done = NULL;
    workers->done_last = &workers->done;
    pthread_mutex_unlock(&workers->lock);
    for (; job; job = next) {
        next = job->next;
        job->done(job);
    }
}

void workers_submit(struct workers *workers, enum lane which, struct job *job)
{
    struct lane_state *lane = &workers->lanes[which];
    bool start;

    job->next = NULL;
    pthread_mutex_lock(&workers->lock);
    *lane->last = job;
    lane->last = &job->next;
    lane->queued++;
    start = lane->queued > lane->idle && lane->threads < lane->width;
    if (start) {
        lane->threads++;
    } else if (lane->idle) {
        pthread_cond_signal(&lane->work);
    }
    pthread_mutex_unlock(&workers->lock);
    if (start && start_thread(lane) < 0) {
        pthread_mutex_lock(&workers->lock);
        lane->threads--;
        start = lane->threads == 0;
        pthread_mutex_unlock(&workers->lock);
        if (start) {
            log_error("no thread can be started for lane %s: its work waits", lane_names[which]);
        }
    }
}

int workers_start(const struct workers_options *options, struct workers **ret, struct error *err)
{
    struct workers *workers = calloc(1, sizeof(*workers));
    pthread_condattr_t monotonic;
    int rc;

    if (!workers) {
        return error_sys(err, -ENOMEM, "workers");
    }
    workers->options = *options;
    rc = uv_async_init(options->loop, &workers->wake, on_wake);
    if (rc < 0) {
        free(workers);
        return error_sys(err, rc, "workers");
    }
    workers->wake.data = workers;
    workers->done_last = &workers->done;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&workers->ended, NULL);
    for (int i = 0; i < LANE_N; i++) {
        struct lane_state *lane = &workers->lanes[i];

        lane->workers = workers;
        lane->width = options->width[i];
        lane->last = &lane->first;
        pthread_cond_init(&lane->work, &monotonic);
    }
    pthread_condattr_destroy(&monotonic);
    *ret = workers;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct workers *workers = handle->data;

    for (int i = 0; i < LANE_N; i++) {
        pthread_cond_destroy(&workers->lanes[i].work);
    }
    pthread_cond_destroy(&workers->ended);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}

void workers_stop(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    for (int i = 0; i < LANE_N; i++) {
        pthread_cond_broadcast(&workers->lanes[i].work);
    }
    for (int i = 0; i < LANE_N; i++) {
        while (workers->lanes[i].threads) {
            pthread_cond_wait(&workers->ended, &workers->lock);
        }
    }
    pthread_mutex_unlock(&workers->lock);
    uv_close((uv_handle_t *)&workers->wake, on_closed);
}

void workers_view(struct workers *workers, enum lane which, struct lane_view *ret)
{
    const struct lane_state *lane = &workers->lanes[which];

    pthread_mutex_lock(&workers->lock);
    *ret = (struct lane_view){lane->width, lane->threads, lane->threads - lane->idle, lane->queued};
    pthread_mutex_unlock(&workers->lock);
}
