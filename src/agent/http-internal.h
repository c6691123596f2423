/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between http.c (connections, answers, waiting) and study.c (what the study's calls mean): study.c
 * answers by http_answer, or has the request wait by http_wait until it calls http_wake.
 */
#pragma once

#include "agent/http.h"

#include <microhttpd.h>

struct http_daemon;
struct http_watch;
struct permit;
struct study;

struct http_request {
    struct http_server *server;
    struct http_daemon *httpd; /* the port it came by */
    struct MHD_Connection *connection;
    const struct http_route *route; /* NULL: it was answered when it came */
    struct http_watch *watch;       /* while it waits */
    struct http_request *next, *prev;
    bool woken;
    int rc;                /* how its wait ended */
    struct permit *permit; /* study.c's: its place in a queue, then what it got */
    struct waiter *waiter; /* study_rules.c's */
};

struct http_route {
    const char *path;
    enum MHD_Result (*call)(struct http_request *request);
};

/* ---- http.c ---- */

struct study *http_study(struct http_request *request);
const struct http_api *http_api(struct http_request *request);

/* A parameter of the query; NULL: not there. */
const char *http_param(struct http_request *request, const char *name);

/* Queues a whole answer in plain text. */
enum MHD_Result http_answer(struct http_request *request, unsigned status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/*
 * Suspends the request until http_wake; study_woken is called then. -ENOMEM, -errno: it does not
 * wait. If the client goes away before, study_gone is called and the connection closed.
 */
int http_wait(struct http_request *request);
void http_wake(struct http_request *request, int rc);

/* Whether the client closed its side of the connection, or reset it. */
bool http_client_gone(struct http_request *request);

/* ---- study.c ---- */

extern const struct http_route study_routes[];
extern const size_t study_n_routes;

int study_new(uv_loop_t *loop, const struct http_options *options, const struct http_api *api,
              struct study **ret);

/* Gives back what clients hold; the memory goes when the loop closed its timer. NULL is fine. */
void study_free(struct study *study);

/* The wait is over, by request->rc: the answer. */
enum MHD_Result study_woken(struct http_request *request);

/* Gives the place in the queue up: the client went away while it waited, or the server stops. */
void study_give_up(struct http_request *request);

/* The request is over: what it got stays held if the answer arrived, and else is given back. */
void study_settle(struct http_request *request, bool delivered);

void study_metrics(struct study *study, FILE *to);

/* A number in [min, max]; a missing one leaves *ret as it is. False: it is answered already. */
bool study_number(struct http_request *request, const char *name, int64_t min, int64_t max,
                  int64_t *ret, enum MHD_Result *answered);

/* 400: a parameter is missing (value NULL) or wrong. */
enum MHD_Result study_answer_choice(struct http_request *request, const char *name,
                                    const char *value, const char *allowed);

/* ---- study_rules.c: /add_acl_inbatch ---- */

enum MHD_Result study_rules_call(struct http_request *request);
enum MHD_Result study_rules_woken(struct http_request *request);
void study_rules_give_up(struct http_request *request);
