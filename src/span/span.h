/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of what happened when: one span a stage a pod. Written by plugins and bench as one
 * JSON line a span (O_APPEND, one write), read by bench and reports.
 */
#pragma once

#include "base/base.h"

#define SPAN_STAGE_MAX 32
#define SPAN_POD_MAX   128

struct span {
    char pod[SPAN_POD_MAX];     /* container ID */
    char stage[SPAN_STAGE_MAX]; /* "cni", "cni.link", ... */
    int64_t t0_ns, t1_ns;       /* CLOCK_MONOTONIC */
    int64_t wait_ns;            /* at the gate, inside [t0, t1] */
    int pid, tid;
    int64_t batch; /* shared by pods of one batch; 0: none */
    bool ok;
};

/* ---- stages ---- */

struct span_stage {
    const char *name;       /* "cni" */
    const char *study_name; /* "AddCNI" */
    const char *does;       /* for legends: "CNI ADD" */
};

/* The stages in order, `total` last; the n-th colour of a figure is the n-th stage's. */
extern const struct span_stage span_stages[];
extern const size_t span_n_stages;

/* Index in span_stages of a stage or of the stage a step belongs to; span_n_stages: none of them.
 */
size_t span_stage_index(const char *name);

/*
 * Order of stages' names for tables and figures, as strcmp: total, which is what the others add up
 * to; the stages in order; unknown ones; del. A stage stands before its steps, which follow in the
 * order they happen.
 */
int span_stage_compare(const char *a, const char *b);

/* ---- writing ---- */

/* Opens path for appending. */
int span_open(const char *path, int *ret_fd);

/* Writes one line; fd -1 writes nothing. A span that could not be written whole is -EIO. */
int span_write(int fd, const struct span *span);

/* Fills name, pid and tid and writes a span of [t0, now], of which wait was at the gate. */
int span_end(int fd, const char *pod, const char *stage, int64_t t0_ns, int64_t wait_ns, bool ok);

/* The same for a step that was nothing but waiting, from t0 to t1. */
int span_waited(int fd, const char *pod, const char *stage, int64_t t0_ns, int64_t t1_ns);

/* ---- reading ---- */

struct span_list {
    struct span *spans;
    size_t n, size;
    size_t bad_lines; /* lines that were not spans, counted and left out */
};

int span_read(const char *path, struct span_list *ret, struct error *err);
void span_list_clear(struct span_list *list);

/* One line, without its newline; -EBADMSG when it is not a span. */
int span_parse(const char *line, size_t len, struct span *ret);
