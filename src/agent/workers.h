/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes of worker threads: straight-line code that blocks, with a bounded number of threads a lane,
 * started when they are needed and gone when they are idle for long. A finished job goes back to
 * the loop's thread.
 */
#pragma once

#include "kind/kind.h"

#include <uv.h>

/*
 * quick: what does not wait for others: few threads, so that they don't crowd on RTNL and never
 *        sleep while there is work.
 * slow:  what waits for Open vSwitch or for other programs; as many threads as waits.
 * remove: what waits for RCU: each thread alone, all at the same time.
 */
enum lane { LANE_QUICK, LANE_SLOW, LANE_REMOVE, LANE_N };

extern const char *const lane_names[LANE_N + 1]; /* NULL at the end */

struct job {
    /* On a worker's thread. env is the thread's own: deadline and span_fd are the job's to set. */
    void (*run)(struct job *job, struct kind_env *env);
    void (*done)(struct job *job); /* on the loop's thread */
    struct job *next;
};

struct workers;

struct workers_options {
    uv_loop_t *loop;
    const char *instance;       /* for the threads' environments; borrowed */
    struct kind_shared *shared; /* likewise */
    unsigned width[LANE_N];     /* threads at most */
};

int workers_start(const struct workers_options *options, struct workers **ret, struct error *err);

/* All jobs must be done. Ends the threads; memory goes as the loop runs on. */
void workers_stop(struct workers *workers);

/* Never blocks. */
void workers_submit(struct workers *workers, enum lane lane, struct job *job);

struct lane_view {
    unsigned width, threads, busy;
    size_t queued;
};

void workers_view(struct workers *workers, enum lane lane, struct lane_view *ret);
