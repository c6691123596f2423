/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's HTTP server, on 127.0.0.1 only: /metrics, /healthz, and the study's lock server
 * (docs/http.md). libmicrohttpd without threads of its own, driven by the caller's libuv loop: all
 * functions and callbacks run on the loop's thread. A client that waits costs a suspended
 * connection and a ticket at a gate.
 */
#pragma once

#include "base/base.h"
#include "gate/gate.h"

#include <net/if.h>
#include <uv.h>

#define HTTP_TIMEOUT_S     3600 /* of those that wait, unless they say otherwise */
#define HTTP_TIMEOUT_MAX_S 86400
#define HTTP_MEMORY        4096 /* bytes a connection: request, headers of the answer */

/* Zeros mean the defaults. */
struct http_options {
    const uint16_t *ports; /* 0: any free one; see http_port */
    size_t n_ports;
    unsigned max_requests; /* at once, waiting ones included; others get 503; default 16000 */
    unsigned max_hold_s;   /* permits held for longer are given back; 0: never */
    unsigned barrier;      /* how many a barrier waits for when the caller doesn't say; default 1 */
    unsigned seq_limit;    /* permits of /seq_lock; default 100, the study's */
    unsigned ovs_limit;    /* permits of /get_lock without a stage; default 60, the study's */
    unsigned pods;         /* /get_ifname: so many calls a round, default 1, ... */
    unsigned tenants;      /* ... spread over so many tenants, default 1 */
};

struct http_device {
    char name[IF_NAMESIZE];
    char type[16]; /* as the study's Kata calls it: "tctap" */
};

/* What the server asks of the agent. No callback may block or call http_stop. */
struct http_api {
    void *cookie;
    struct gates *gates;

    /* Permits were asked for or given back: deadlines may have changed. */
    void (*gates_changed)(void *cookie);

    /* Writes Prometheus text (agent/metrics.h); a negative errno: 500. The server adds its own. */
    int (*metrics)(void *cookie, FILE *to);

    /* False: 503 with why. */
    bool (*healthy)(void *cookie, char *why, size_t size);

    /*
     * The study's pool; NULL: 501. take: a device for a container that has none yet: -EEXIST, it
     * has one; -ENOENT, none is free. find: the one it took: -ENOENT. err's text is the answer's.
     */
    int (*device_take)(void *cookie, const char *container_id, struct http_device *ret,
                       struct error *err);
    int (*device_find)(void *cookie, const char *container_id, struct http_device *ret,
                       struct error *err);

    /*
     * The study's rules; NULL: 501. Drops what n generated addresses send to an IPv4 address
     * behind a bridge, instead of what was asked for before. done is called once, later, on the
     * loop's thread; -errno: it never is.
     */
    int (*set_rules)(void *cookie, const char *bridge, const struct ip_addr *pod, unsigned n,
                     void (*done)(void *waiter, const struct error *err), void *waiter);
};

struct http_server;

/*
 * Listens on every port, or on none. api is copied; its gates must outlive the server. -EADDRINUSE,
 * -EACCES, -ENOMEM, ...
 */
int http_start(uv_loop_t *loop, const struct http_options *options, const struct http_api *api,
               struct http_server **ret, struct error *err);

/* The n-th port's number. */
uint16_t http_port(const struct http_server *server, size_t n);

/*
 * Who waits gets 503, connections are closed, permits that clients hold are given back. The loop
 * must run once more (after a failed start too): closing its handles frees the memory. NULL is
 * fine.
 */
void http_stop(struct http_server *server);
