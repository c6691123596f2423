/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP connections: one libmicrohttpd daemon a port, its epoll descriptor watched by the agent's
 * loop; routes, answers, and requests that wait. What the study's calls mean is in study.c.
 */
#include "agent/http.h"
#include "agent/http-internal.h"
#include "agent/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_TIMEOUT_S 30 /* of connections that neither ask nor wait */
#define BACKLOG        4096
#define SPARE          256 /* connections a port beyond max_requests, to answer 503 on */

struct http_daemon {
    struct http_server *server;
    struct MHD_Daemon *mhd;
    uint16_t port;
    uv_poll_t poll;   /* libmicrohttpd's epoll descriptor */
    uv_timer_t timer; /* when it wants to run without an event */
    bool woken;       /* one of its connections was resumed: it is to run soon */
};

/* A suspended connection's socket, which libmicrohttpd does not look at. */
struct http_watch {
    uv_poll_t poll;
    struct http_request *request;
};

struct http_counters {
    uint64_t answers[6]; /* by the status's first digit */
    uint64_t too_many;   /* answered 503 for max_requests */
    uint64_t gone;       /* clients that went away while they waited */
};

struct http_server {
    uv_loop_t *loop;
    struct http_api api;
    struct study *study;
    unsigned max_requests;
    unsigned requests; /* now */
    bool stopping;
    struct http_counters counters;
    struct http_request *waiting; /* a list */
    size_t handles;               /* of the loop's; the last one's closing frees the server */
    size_t n_daemons;
    struct http_daemon daemons[];
};

struct study *http_study(struct http_request *request)
{
    return request->server->study;
}

const struct http_api *http_api(struct http_request *request)
{
    return &request->server->api;
}

const char *http_param(struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

static int connection_fd(struct http_request *request)
{
    return MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD)
        ->connect_fd;
}

static short poll_now(struct http_request *request, short events)
{
    struct pollfd pollfd = {.fd = connection_fd(request), .events = events};

    return poll(&pollfd, 1, 0) == 1 ? pollfd.revents : 0;
}

bool http_client_gone(struct http_request *request)
{
    return poll_now(request, POLLRDHUP) != 0;
}

/* ---- answers ---- */

/*
 * Queues a response and lets go of it. Every answer closes its connection: the study's clients
 * never read to the end nor close, and would pile up.
 */
static enum MHD_Result send_response(struct http_request *request, unsigned status,
                                     const char *content_type, struct MHD_Response *response)
{
    enum MHD_Result queued;

    if (response == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", content_type);
    MHD_add_response_header(response, "Connection", "close");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, "Allow", "GET");
    }
    queued = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    request->server->counters.answers[status / 100]++;
    return queued;
}

enum MHD_Result http_answer(struct http_request *request, unsigned status, const char *fmt, ...)
{
    char text[1280];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return send_response(
        request, status, "text/plain; charset=utf-8",
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY));
}

static void own_metrics(struct http_server *server, FILE *to)
{
    const struct http_counters *counters = &server->counters;
    size_t waiting = 0;

    for (struct http_request *r = server->waiting; r != NULL; r = r->next) {
        waiting++;
    }
    metrics_gauge(to, "sluice_http_requests", "HTTP requests under way.", server->requests);
    metrics_gauge(to, "sluice_http_waiting", "HTTP requests that wait.", (double)waiting);
    metrics_family(to, METRICS_COUNTER, "sluice_http_answers_total", "HTTP answers by status.");
    for (unsigned i = 2; i < ARRAY_SIZE(counters->answers); i++) {
        const char code[] = {(char)('0' + i), 'x', 'x', '\0'};
        const struct metrics_label labels[] = {{"code", code}, {NULL}};

        metrics_count(to, "sluice_http_answers_total", labels, counters->answers[i]);
    }
    metrics_counter(to, "sluice_http_too_many_total", "HTTP requests refused for their number.",
                    counters->too_many);
    metrics_counter(to, "sluice_http_gone_total", "HTTP clients that went away as they waited.",
                    counters->gone);
    study_metrics(server->study, to);
}

static enum MHD_Result call_metrics(struct http_request *request)
{
    struct http_server *server = request->server;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    int rc;

    if (to == NULL) {
        return http_answer(request, 500, "metrics: out of memory\n");
    }
    rc = server->api.metrics != NULL ? server->api.metrics(server->api.cookie, to) : 0;
    own_metrics(server, to);
    if (ferror(to)) {
        rc = -ENOMEM;
    }
    if (fclose(to) != 0 || rc < 0) {
        free(text);
        return http_answer(request, 500, "metrics: %s\n", strerror(rc < 0 ? -rc : ENOMEM));
    }
    return send_response(request, MHD_HTTP_OK, METRICS_CONTENT_TYPE,
                         MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result call_healthz(struct http_request *request)
{
    const struct http_api *api = &request->server->api;
    char why[512] = "";

    if (api->healthy != NULL && !api->healthy(api->cookie, why, sizeof(why))) {
        return http_answer(request, MHD_HTTP_SERVICE_UNAVAILABLE, "%s\n", why);
    }
    return http_answer(request, MHD_HTTP_OK, "ok\n");
}

/* ---- waiting ---- */

static void timer_fired(uv_timer_t *timer);

static void watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void watch_close(struct http_request *request)
{
    request->watch->request = NULL;
    uv_close((uv_handle_t *)&request->watch->poll, watch_closed);
    request->watch = NULL;
}

/* Whatever the event, even an error: the client is not there any more. */
static void client_went(uv_poll_t *poll, int status, int events)
{
    struct http_watch *watch = poll->data;
    struct http_request *request = watch->request;

    (void)status;
    (void)events;
    request->server->counters.gone++;
    study_give_up(request);
    http_wake(request, -ECONNRESET);
}

int http_wait(struct http_request *request)
{
    struct http_server *server = request->server;
    struct http_watch *watch = calloc(1, sizeof(*watch));
    int rc;

    if (watch == NULL || server->stopping) {
        free(watch);
        return watch == NULL ? -ENOMEM : -ESHUTDOWN;
    }
    /* The socket itself and not a duplicate, though libmicrohttpd has it too: it neither watches
     * nor closes a suspended connection's. */
    rc = uv_poll_init(server->loop, &watch->poll, connection_fd(request));
    if (rc < 0) {
        free(watch);
        return rc;
    }
    watch->poll.data = watch;
    watch->request = request;
    request->watch = watch;
    rc = uv_poll_start(&watch->poll, UV_DISCONNECT, client_went);
    if (rc < 0) {
        watch_close(request);
        return rc;
    }
    request->prev = NULL;
    request->next = server->waiting;
    if (request->next != NULL) {
        request->next->prev = request;
    }
    server->waiting = request;
    MHD_suspend_connection(request->connection);
    return 0;
}

void http_wake(struct http_request *request, int rc)
{
    if (request->prev != NULL) {
        request->prev->next = request->next;
    } else {
        request->server->waiting = request->next;
    }
    if (request->next != NULL) {
        request->next->prev = request->prev;
    }
    watch_close(request);
    request->woken = true;
    request->rc = rc;
    /* Without a thread of its own libmicrohttpd has nothing to wake itself by. */
    MHD_resume_connection(request->connection);
    request->httpd->woken = true;
    uv_timer_start(&request->httpd->timer, timer_fired, 0, 0);
}

/* ---- requests ---- */

static const struct http_route own_routes[] = {
    {"/metrics", call_metrics},
    {"/healthz", call_healthz},
};

static const struct http_route *route_in(const struct http_route *routes, size_t n,
                                         const char *path)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(routes[i].path, path) == 0) {
            return &routes[i];
        }
    }
    return NULL;
}

static const struct http_route *route_find(const char *path)
{
    const struct http_route *route = route_in(own_routes, ARRAY_SIZE(own_routes), path);

    return route != NULL ? route : route_in(study_routes, study_n_routes, path);
}

static enum MHD_Result answer_unknown(struct http_request *request)
{
    char paths[512] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_SIZE(own_routes); i++) {
        len += (size_t)snprintf(paths + len, sizeof(paths) - len, " %s", own_routes[i].path);
    }
    for (size_t i = 0; i < study_n_routes; i++) {
        len += (size_t)snprintf(paths + len, sizeof(paths) - len, " %s", study_routes[i].path);
    }
    return http_answer(request, MHD_HTTP_NOT_FOUND, "no such path; there are%s\n", paths);
}

static bool has_body(struct MHD_Connection *connection)
{
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");

    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding") != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

/* Ends the look at a query's parameters when one holds a zero byte (%00): its text would be cut. */
static enum MHD_Result whole(void *cookie, enum MHD_ValueKind kind, const char *name,
                             size_t name_len, const char *value, size_t len)
{
    bool *ret = cookie;

    (void)kind;
    *ret = strlen(name) == name_len && (value == NULL || strlen(value) == len);
    return *ret ? MHD_YES : MHD_NO;
}

static bool query_ok(struct MHD_Connection *connection)
{
    bool ok = true;

    MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, whole, &ok);
    return ok;
}

/* A request's headers came: it is refused, or has a route. */
static enum MHD_Result admit(struct http_request *request, const char *path, const char *method)
{
    struct http_server *server = request->server;
    const struct http_route *route = route_find(path);

    if (server->stopping) {
        return http_answer(request, MHD_HTTP_SERVICE_UNAVAILABLE, "the agent stops\n");
    }
    if (server->requests > server->max_requests) {
        server->counters.too_many++;
        return http_answer(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                           "%u requests are under way, the most allowed\n", server->max_requests);
    }
    if (route == NULL) {
        return answer_unknown(request);
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0) {
        return http_answer(request, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET is allowed\n");
    }
    if (has_body(request->connection)) {
        return http_answer(request, MHD_HTTP_CONTENT_TOO_LARGE, "no body is allowed\n");
    }
    if (!query_ok(request->connection)) {
        return http_answer(request, MHD_HTTP_BAD_REQUEST, "no zero byte is allowed\n");
    }
    request->route = route;
    return MHD_YES; /* and is called again */
}

static enum MHD_Result handle_woken(struct http_request *request)
{
    request->woken = false;
    if (request->rc == -ECONNRESET) {
        return MHD_NO; /* closes the connection */
    }
    if (request->rc == -ESHUTDOWN) {
        return http_answer(request, MHD_HTTP_SERVICE_UNAVAILABLE, "the agent stops\n");
    }
    return study_woken(request);
}

/* libmicrohttpd calls it when the headers came, then for the body's pieces and its end, and again
 * after each wait. */
static enum MHD_Result handle(void *cookie, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **request_cookie)
{
    struct http_daemon *httpd = cookie;
    struct http_server *server = httpd->server;
    struct http_request *request = *request_cookie;

    (void)version;
    (void)upload;
    if (request == NULL) {
        request = calloc(1, sizeof(*request));
        if (request == NULL) {
            return MHD_NO;
        }
        request->server = server;
        request->httpd = httpd;
        request->connection = connection;
        *request_cookie = request;
        server->requests++;
        return admit(request, path, method);
    }
    if (*upload_size > 0 || request->route == NULL) {
        *upload_size = 0;
        return MHD_YES;
    }
    return request->woken ? handle_woken(request) : request->route->call(request);
}

/*
 * The request is over. An answer counts as delivered when it went into a socket that the peer did
 * not reset: on loopback the reset of a client that had closed is there as soon as the answer is
 * sent.
 */
static void completed(void *cookie, struct MHD_Connection *connection, void **request_cookie,
                      enum MHD_RequestTerminationCode code)
{
    struct http_server *server = cookie;
    struct http_request *request = *request_cookie;

    (void)connection;
    if (request == NULL) {
        return;
    }
    study_settle(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK &&
                              (poll_now(request, 0) & POLLERR) == 0);
    server->requests--;
    *request_cookie = NULL;
    free(request);
}

/* ---- the loop ---- */

/* libmicrohttpd says after each run when it wants the next without an event. */
static void run(struct http_daemon *httpd)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    httpd->woken = false;
    MHD_run(httpd->mhd);
    if (httpd->woken) {
        uv_timer_start(&httpd->timer, timer_fired, 0, 0);
    } else if (MHD_get_timeout(httpd->mhd, &timeout_ms) == MHD_YES) {
        uv_timer_start(&httpd->timer, timer_fired, timeout_ms, 0);
    } else {
        uv_timer_stop(&httpd->timer);
    }
}

static void timer_fired(uv_timer_t *timer)
{
    run(timer->data);
}

static void readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

static void mhd_log(void *cookie, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

static void mhd_log(void *cookie, const char *fmt, va_list args)
{
    char text[512];
    size_t len;

    (void)cookie;
    vsnprintf(text, sizeof(text), fmt, args);
    len = strlen(text);
    if (len > 0 && text[len - 1] == '\n') {
        text[len - 1] = '\0';
    }
    log_debug("http: %s", text);
}

/* ---- start and stop ---- */

/* A listening socket on loopback; *port is filled when it was 0. */
static int listen_on(uint16_t *port, int *ret_fd, struct error *err)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons(*port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(addr);
    autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return error_sys(err, -errno, "socket");
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        return error_sys(err, -errno, "listen on 127.0.0.1:%u", *port);
    }
    *port = ntohs(addr.sin_port);
    *ret_fd = take_fd(&fd);
    return 0;
}

static int daemon_start(struct http_server *server, uint16_t port, struct error *err)
{
    struct http_daemon *httpd = &server->daemons[server->n_daemons];
    autoclose int listen_fd = -1;
    int rc;

    httpd->server = server;
    httpd->port = port;
    rc = listen_on(&httpd->port, &listen_fd, err);
    if (rc < 0) {
        return rc;
    }
    httpd->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, httpd,
        MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
        MHD_OPTION_NOTIFY_COMPLETED, completed, server, MHD_OPTION_CONNECTION_LIMIT,
        server->max_requests + SPARE, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_END);
    if (httpd->mhd == NULL) {
        return error_set(err, -ENOMEM, "listen on 127.0.0.1:%u: no HTTP daemon", port);
    }
    take_fd(&listen_fd); /* MHD_stop_daemon closes it */
    server->n_daemons++;
    rc = uv_poll_init(server->loop, &httpd->poll,
                      MHD_get_daemon_info(httpd->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    if (rc < 0) {
        return error_sys(err, rc, "watch the HTTP daemon");
    }
    uv_timer_init(server->loop, &httpd->timer);
    httpd->poll.data = httpd->timer.data = httpd;
    server->handles += 2;
    rc = uv_poll_start(&httpd->poll, UV_READABLE, readable);
    return rc < 0 ? error_sys(err, rc, "watch the HTTP daemon") : 0;
}

int http_start(uv_loop_t *loop, const struct http_options *options, const struct http_api *api,
               struct http_server **ret, struct error *err)
{
    struct http_server *server =
        calloc(1, sizeof(*server) + options->n_ports * sizeof(server->daemons[0]));
    int rc;

    if (server == NULL) {
        return error_set(err, -ENOMEM, "out of memory");
    }
    server->loop = loop;
    server->api = *api;
    server->max_requests = options->max_requests > 0 ? options->max_requests : 16000;
    rc = study_new(loop, options, &server->api, &server->study);
    if (rc < 0) {
        error_sys(err, rc, "the study's locks");
    }
    for (size_t i = 0; rc == 0 && i < options->n_ports; i++) {
        rc = daemon_start(server, options->ports[i], err);
    }
    if (rc < 0) {
        http_stop(server);
        return rc;
    }
    *ret = server;
    return 0;
}

uint16_t http_port(const struct http_server *server, size_t n)
{
    return server->daemons[n].port;
}

static void handle_closed(uv_handle_t *handle)
{
    struct http_daemon *httpd = handle->data;
    struct http_server *server = httpd->server;

    if (--server->handles == 0) {
        free(server);
    }
}

void http_stop(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    server->stopping = true;
    while (server->waiting != NULL) {
        struct http_request *request = server->waiting;

        study_give_up(request);
        http_wake(request, -ESHUTDOWN);
    }
    /* The handles first: they must not outlive the descriptors they watch. */
    for (size_t i = 0; i < server->n_daemons && 2 * i < server->handles; i++) {
        uv_close((uv_handle_t *)&server->daemons[i].poll, handle_closed);
        uv_close((uv_handle_t *)&server->daemons[i].timer, handle_closed);
    }
    for (size_t i = 0; i < server->n_daemons; i++) {
        MHD_run(server->daemons[i].mhd); /* sends the 503s */
        MHD_stop_daemon(server->daemons[i].mhd);
    }
    study_free(server->study);
    if (server->handles == 0) {
        free(server);
    }
}
