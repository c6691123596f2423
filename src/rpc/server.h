/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of the agent's socket, on a libuv loop: accepts, reads requests, sends replies,
 * and tells when a peer is gone. All of it on the loop's thread.
 */
#pragma once

#include "json/json.h"
#include "rpc/rpc.h"

#include <uv.h>

#define RPC_REQUESTS_MAX 20000 /* unanswered ones of one connection; then it is not read from */

struct rpc_server;
struct rpc_peer; /* one connection */

/* One request, until it is answered. */
struct rpc_request {
    struct rpc_peer *peer; /* NULL: gone; an answer is then dropped */
    int64_t id;
    const char *method;
    const json_t *params;       /* an object; empty when none came */
    struct rpc_message message; /* body and descriptors */
    void *data;                 /* the handler's own */

    /* The handler's, or NULL: called when the peer went before the answer; may answer (to nobody).
     */
    void (*gone)(struct rpc_request *request);

    json_t *json;          /* the room's own, and so on */
    struct rpc_peer *link; /* the same as peer, and not forgotten when that is gone */
    bool answered;
    struct rpc_request *next, *prev;
};

struct rpc_handler {
    void *cookie;

    /* Is to answer sooner or later: by rpc_answer or rpc_refuse, once. */
    void (*request)(void *cookie, struct rpc_request *request);

    /* Before the peer's memory goes; its open requests have no peer any more. */
    void (*closed)(void *cookie, struct rpc_peer *peer);
};

/*
 * Listens on the instance's socket, mode 0600; one that a dead agent left is replaced (the caller
 * holds the instance's lock). Peers that are neither root nor of our own user are refused.
 */
int rpc_server_start(uv_loop_t *loop, const char *instance, const struct rpc_handler *handler,
                     struct rpc_server **ret, struct error *err);

/* Stops accepting new connections (true), or goes on. What is connected is served. */
void rpc_server_pause(struct rpc_server *server, bool pause);

/* Closes everything and removes the socket; memory goes as the loop runs on. */
void rpc_server_stop(struct rpc_server *server);

/* Connections there are. */
size_t rpc_server_peers(const struct rpc_server *server);

/* What the handler keeps for a connection: the handler's own, freed by it in closed. */
void **rpc_peer_data(struct rpc_peer *peer);

/* Answers and frees the request. result is stolen (NULL: an empty object); body and fds may be
 * NULL, and are borrowed. */
void rpc_answer(struct rpc_request *request, json_t *result, const void *body, size_t body_len,
                const int *fds, size_t n_fds);

/*
 * Sends the answer now, from any thread while nobody else touches the request; rpc_answer or
 * rpc_refuse on the loop's thread is due all the same, and then only frees it. Where the socket has
 * no room, it sends.
 */
void rpc_answer_early(struct rpc_request *request, const void *body, size_t body_len);
void rpc_refuse_early(struct rpc_request *request, int code, const char *msg, const void *body,
                      size_t body_len);

/* As rpc_answer, with an error: {"code", "msg"}. */
void rpc_refuse(struct rpc_request *request, int code, const char *msg, const void *body,
                size_t body_len);
