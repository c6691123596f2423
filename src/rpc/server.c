/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG      4096
#define ACCEPT_BATCH 64 /* before the others get their turn */
#define READ_BATCH   64
#define UNSENT_MAX   ((size_t)64 << 20) /* bytes that a peer does not read before it is cut off */

/* An answer that the peer's socket had no room for. */
struct unsent {
    char *header, *body;
    size_t body_len;
    int fds[RPC_FDS_MAX];
    size_t n_fds;
    struct unsent *next;
};

struct rpc_peer {
    uv_poll_t poll;
    struct rpc_server *server;
    int fd;
    bool closing, closed; /* closed: the loop has let go of it */
    size_t n_requests;
    size_t n_links; /* requests that may still send: the descriptor stays open */
    struct rpc_request *requests;
    struct unsent *unsent, **unsent_last;
    size_t unsent_bytes;
    void *data;
    struct rpc_peer *next, *prev;
};

struct rpc_server {
    uv_loop_t *loop;
    uv_poll_t poll;
    int fd;
    bool paused, stopped;
    struct rpc_handler handler;
    struct rpc_peer *peers;
    size_t n_peers;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    char buffer[RPC_INLINE_MAX + 1];
};

static void on_readable(uv_poll_t *poll, int status, int events);
static void peer_watch(struct rpc_peer *peer);

/* ---- connections ---- */

static void unsent_free(struct unsent *unsent)
{
    for (size_t i = 0; i < unsent->n_fds; i++) {
        close(unsent->fds[i]);
    }
    free(unsent->header);
    free(unsent->body);
    free(unsent);
}

static void peer_free_unused(struct rpc_peer *peer)
{
    if (peer->closed && peer->n_links == 0) {
        close(peer->fd);
        free(peer);
    }
}

static void on_peer_closed(uv_handle_t *handle)
{
    struct rpc_peer *peer = handle->data;

    peer->closed = true;
    peer_free_unused(peer);
}

static void request_unlink(struct rpc_request *request)
{
    struct rpc_peer *peer = request->peer;

    if (!peer) {
        return;
    }
    if (request->prev) {
        request->prev->next = request->next;
    } else {
        peer->requests = request->next;
    }
    if (request->next) {
        request->next->prev = request->prev;
    }
    if (peer->n_requests-- == RPC_REQUESTS_MAX && !peer->closing) {
        peer_watch(peer);
    }
}

static void peer_close(struct rpc_peer *peer)
{
    struct rpc_server *server = peer->server;

    if (peer->closing) {
        return;
    }
    peer->closing = true;
    while (peer->requests) {
        struct rpc_request *request = peer->requests;

        request_unlink(request);
        request->peer = NULL;
        if (request->gone) {
            request->gone(request);
        }
    }
    server->handler.closed(server->handler.cookie, peer);
    while (peer->unsent) {
        struct unsent *unsent = peer->unsent;

        peer->unsent = unsent->next;
        unsent_free(unsent);
    }
    if (peer->prev) {
        peer->prev->next = peer->next;
    } else {
        server->peers = peer->next;
    }
    if (peer->next) {
        peer->next->prev = peer->prev;
    }
    server->n_peers--;
    uv_close((uv_handle_t *)&peer->poll, on_peer_closed);
}

/* Reads while it may hold more requests, writes while there is something to write. */
static void peer_watch(struct rpc_peer *peer)
{
    int events = UV_DISCONNECT | (peer->n_requests < RPC_REQUESTS_MAX ? UV_READABLE : 0) |
                 (peer->unsent ? UV_WRITABLE : 0);

    uv_poll_start(&peer->poll, events, on_readable);
}

static bool peer_allowed(int fd)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

static void accept_one(struct rpc_server *server, int fd)
{
    struct rpc_peer *peer = peer_allowed(fd) ? calloc(1, sizeof(*peer)) : NULL;

    if (!peer || uv_poll_init(server->loop, &peer->poll, fd) < 0) {
        close(fd);
        free(peer);
        return;
    }
    peer->server = server;
    peer->fd = fd;
    peer->poll.data = peer;
    peer->unsent_last = &peer->unsent;
    peer->next = server->peers;
    if (server->peers) {
        server->peers->prev = peer;
    }
    server->peers = peer;
    server->n_peers++;
    peer_watch(peer);
    /* A plugin's request mostly is there already. */
    on_readable(&peer->poll, 0, UV_READABLE);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct rpc_server *server = poll->data;

    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_BATCH && !server->paused && !server->stopped; i++) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                log_warn("accept: %s", strerror(errno));
                clock_sleep_ns(NSEC_PER_MSEC); /* out of descriptors: those there are go on */
            }
            return;
        }
        accept_one(server, fd);
    }
}

/* ---- requests ---- */

static void request_free(struct rpc_request *request)
{
    struct rpc_peer *link = request->link;

    json_decref(request->json);
    rpc_message_clear(&request->message);
    free(request);
    link->n_links--;
    peer_free_unused(link);
}

static int request_parse(struct rpc_request *request, struct error *err)
{
    static const char allowed[] = "an object with method (text), id (a number), params (an object)";
    json_t *params = NULL, *id;
    int rc = json_parse(request->message.header, request->message.header_len, &request->json, err);

    if (rc < 0) {
        return rc;
    }
    id = json_object_get(request->json, "id");
    request->id = json_is_integer(id) ? json_integer_value(id) : 0;
    if ((id && !json_is_integer(id)) ||
        json_need_string(request->json, NULL, "method", &request->method, err) < 0 ||
        json_read_object(request->json, NULL, "params", &params, err) < 0) {
        return error_set(err, -EINVAL, "the request must be %s", allowed);
    }
    if (!params) {
        params = json_object();
        json_object_set_new(request->json, "params", params);
    }
    request->params = params;
    return 0;
}

static void take_request(struct rpc_peer *peer, struct rpc_message *message)
{
    struct rpc_request *request = calloc(1, sizeof(*request));
    struct error err = {0};

    if (!request) {
        rpc_message_clear(message);
        peer_close(peer);
        return;
    }
    request->message = *message;
    request->peer = request->link = peer;
    peer->n_links++;
    request->next = peer->requests;
    if (peer->requests) {
        peer->requests->prev = request;
    }
    peer->requests = request;
    peer->n_requests++;
    if (request_parse(request, &err) < 0) {
        rpc_refuse(request, EINVAL, err.text, NULL, 0);
        return;
    }
    peer->server->handler.request(peer->server->handler.cookie, request);
}

static void read_requests(struct rpc_peer *peer)
{
    for (int i = 0; i < READ_BATCH && !peer->closing && peer->n_requests < RPC_REQUESTS_MAX; i++) {
        struct rpc_message message;
        int rc = rpc_receive(peer->fd, peer->server->buffer, &message);

        if (rc == -EAGAIN || rc == -EINTR) {
            return;
        }
        if (rc == 1) {
            take_request(peer, &message);
            continue;
        }
        if (rc < 0) {
            log_debug("a request was refused: %s", strerror(-rc));
        }
        peer_close(peer);
    }
    if (!peer->closing && peer->n_requests >= RPC_REQUESTS_MAX) {
        peer_watch(peer);
    }
}

/* ---- answers ---- */

static int unsent_add(struct rpc_peer *peer, const struct rpc_part *part)
{
    struct unsent *unsent = calloc(1, sizeof(*unsent));

    if (!unsent) {
        return -ENOMEM;
    }
    unsent->header = strdup(part->header);
    unsent->body = part->body_len ? malloc(part->body_len) : NULL;
    if (!unsent->header || (part->body_len && !unsent->body)) {
        unsent_free(unsent);
        return -ENOMEM;
    }
    if (part->body_len) {
        memcpy(unsent->body, part->body, part->body_len);
    }
    unsent->body_len = part->body_len;
    for (size_t i = 0; i < part->n_fds; i++) {
        int copy = fcntl(part->fds[i], F_DUPFD_CLOEXEC, 0);

        if (copy < 0) {
            unsent_free(unsent);
            return -errno;
        }
        unsent->fds[unsent->n_fds++] = copy;
    }
    *peer->unsent_last = unsent;
    peer->unsent_last = &unsent->next;
    peer->unsent_bytes += strlen(unsent->header) + unsent->body_len;
    peer_watch(peer);
    return peer->unsent_bytes > UNSENT_MAX ? -ENOBUFS : 0;
}

static void send_unsent(struct rpc_peer *peer)
{
    while (peer->unsent) {
        struct unsent *unsent = peer->unsent;
        struct rpc_part part = {unsent->header, unsent->body, unsent->body_len, unsent->fds,
                                unsent->n_fds};
        int rc = rpc_send(peer->fd, &part);

        if (rc == -EAGAIN) {
            return;
        }
        if (rc < 0) {
            peer_close(peer);
            return;
        }
        peer->unsent = unsent->next;
        if (!peer->unsent) {
            peer->unsent_last = &peer->unsent;
        }
        peer->unsent_bytes -= strlen(unsent->header) + unsent->body_len;
        unsent_free(unsent);
    }
    peer_watch(peer);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct rpc_peer *peer = poll->data;

    if (status < 0) {
        peer_close(peer);
        return;
    }
    if (events & UV_WRITABLE) {
        send_unsent(peer);
    }
    if ((events & UV_READABLE) && !peer->closing) {
        read_requests(peer);
    }
    /* What it sent before it went was read above; nobody is there for the answers. */
    if ((events & UV_DISCONNECT) && !peer->closing) {
        peer_close(peer);
    }
}

/* {"id", what: value} (stolen) as text; new. */
static char *reply_header(const struct rpc_request *request, const char *what, json_t *value)
{
    autojson json_t *json = json_pack("{s:I, s:o}", "id", (json_int_t)request->id, what, value);

    return json ? json_dumps(json, JSON_COMPACT) : NULL;
}

static json_t *error_value(int code, const char *msg)
{
    char text[1024];

    snprintf(text, sizeof(text), "%s", msg);
    str_make_utf8(text);
    return json_pack("{s:i, s:s}", "code", code, "msg", text);
}

/* Sends the reply, unless that was done early, and frees the request. */
static void reply(struct rpc_request *request, const char *what, json_t *value,
                  const struct rpc_part *rest)
{
    struct rpc_peer *peer = request->peer;
    bool answered = request->answered;
    autofree char *header = reply_header(request, what, value);
    char short_header[64];
    struct rpc_part part = *rest;
    int rc = -ENOMEM;

    snprintf(short_header, sizeof(short_header), "{\"id\":%lld,\"result\":null}",
             (long long)request->id);

    request_unlink(request);
    request_free(request);
    if (!peer || answered) {
        return;
    }
    if (header) {
        part.header = header;
        if (strlen(header) > RPC_INLINE_MAX && !part.body_len) {
            part = (struct rpc_part){short_header, header, strlen(header), part.fds, part.n_fds};
        }
        rc = peer->unsent ? -EAGAIN : rpc_send(peer->fd, &part);
    }
    if (rc == -EAGAIN) {
        rc = unsent_add(peer, &part);
    }
    if (rc < 0) {
        log_debug("an answer could not be sent: %s", strerror(-rc));
        peer_close(peer);
    }
}

void rpc_answer(struct rpc_request *request, json_t *result, const void *body, size_t body_len,
                const int *fds, size_t n_fds)
{
    struct rpc_part part = {.body = body, .body_len = body_len, .fds = fds, .n_fds = n_fds};

    reply(request, "result", result ? result : json_object(), &part);
}

void rpc_refuse(struct rpc_request *request, int code, const char *msg, const void *body,
                size_t body_len)
{
    struct rpc_part part = {.body = body, .body_len = body_len};

    reply(request, "error", error_value(code, msg), &part);
}

static void reply_early(struct rpc_request *request, const char *what, json_t *value,
                        const void *body, size_t body_len)
{
    autofree char *header = reply_header(request, what, value);
    struct rpc_part part = {.header = header, .body = body, .body_len = body_len};

    request->answered = header && rpc_send(request->link->fd, &part) == 0;
}

void rpc_answer_early(struct rpc_request *request, const void *body, size_t body_len)
{
    reply_early(request, "result", json_object(), body, body_len);
}

void rpc_refuse_early(struct rpc_request *request, int code, const char *msg, const void *body,
                      size_t body_len)
{
    reply_early(request, "error", error_value(code, msg), body, body_len);
}

/* ---- the socket ---- */

static int listen_at(struct rpc_server *server, const char *instance, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int rc = rpc_socket_path(instance, server->path, sizeof(server->path));

    if (rc < 0) {
        return error_set(err, rc, "instance %s: the path is too long for a unix socket", instance);
    }
    str_copy(address.sun_path, sizeof(address.sun_path), server->path);
    server->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->fd < 0) {
        return error_sys(err, -errno, "socket");
    }
    /* The mode is the new inode's from the start: nobody can connect in between. */
    if (unlink(server->path) < 0 && errno != ENOENT) {
        return error_sys(err, -errno, "remove %s", server->path);
    }
    if (fchmod(server->fd, 0600) < 0 ||
        bind(server->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(server->fd, BACKLOG) < 0) {
        return error_sys(err, -errno, "listen at %s", server->path);
    }
    return 0;
}

int rpc_server_start(uv_loop_t *loop, const char *instance, const struct rpc_handler *handler,
                     struct rpc_server **ret, struct error *err)
{
    struct rpc_server *server = calloc(1, sizeof(*server));
    int rc;

    if (!server) {
        return error_sys(err, -ENOMEM, "server");
    }
    server->loop = loop;
    server->handler = *handler;
    server->fd = -1;
    rc = listen_at(server, instance, err);
    if (rc == 0) {
        rc = uv_poll_init(loop, &server->poll, server->fd);
        rc = rc < 0 ? error_sys(err, rc, "watch %s", server->path) : 0;
    }
    if (rc < 0) {
        cleanup_fd(&server->fd);
        free(server);
        return rc;
    }
    server->poll.data = server;
    uv_poll_start(&server->poll, UV_READABLE, on_connection);
    *ret = server;
    return 0;
}

void rpc_server_pause(struct rpc_server *server, bool pause)
{
    if (server->paused != pause && !server->stopped) {
        server->paused = pause;
        if (pause) {
            uv_poll_stop(&server->poll);
        } else {
            uv_poll_start(&server->poll, UV_READABLE, on_connection);
        }
    }
}

static void on_server_closed(uv_handle_t *handle)
{
    struct rpc_server *server = handle->data;

    close(server->fd);
    free(server);
}

void rpc_server_stop(struct rpc_server *server)
{
    server->stopped = true;
    unlink(server->path);
    while (server->peers) {
        peer_close(server->peers);
    }
    uv_close((uv_handle_t *)&server->poll, on_server_closed);
}

size_t rpc_server_peers(const struct rpc_server *server)
{
    return server->n_peers;
}

void **rpc_peer_data(struct rpc_peer *peer)
{
    return &peer->data;
}
