/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OVSDB client: JSON-RPC 1.0 on a unix stream socket (RFC 7047, section 4), one request at a
 * time. Knows nothing of the Open_vSwitch schema but its name.
 */
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE 65536

struct ovsdb {
    int fd;
    char *path;
    char *in; /* received; taken up to in_start */
    size_t in_start, in_len, in_size;
    struct ovsdb_frame frame;
    char *out; /* to be sent from out_sent on */
    size_t out_len, out_sent;
    json_int_t last_id;
    bool broken;
};

int ovsdb_frame_scan(struct ovsdb_frame *frame, const char *data, size_t len, size_t *ret_len)
{
    while (frame->pos < len) {
        char c = data[frame->pos++];

        if (frame->in_string) {
            if (frame->escaped) {
                frame->escaped = false;
            } else if (c == '\\') {
                frame->escaped = true;
            } else if (c == '"') {
                frame->in_string = false;
            }
        } else if (c == '{') {
            frame->depth++;
        } else if (frame->depth == 0) {
            if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
                return -EBADMSG;
            }
        } else if (c == '"') {
            frame->in_string = true;
        } else if (c == '}' && --frame->depth == 0) {
            *ret_len = frame->pos;
            memset(frame, 0, sizeof(*frame));
            return 1;
        }
    }
    return 0;
}

/* ---- connection ---- */

int ovsdb_attach(int fd, const char *path, struct ovsdb **ret)
{
    autoovsdb struct ovsdb *db = calloc(1, sizeof(*db));

    if (!db) {
        close(fd);
        return -ENOMEM;
    }
    db->fd = fd;
    db->path = strdup(path);
    if (!db->path) {
        return -ENOMEM;
    }
    *ret = take_ptr(db);
    return 0;
}

int ovsdb_connect(const char *socket_path, int64_t deadline_ns, struct ovsdb **ret,
                  struct error *err)
{
    const char *path = ovs_socket_plain(socket_path);
    int fd, rc = ovs_socket_connect("OVSDB", socket_path, deadline_ns, &fd, err);

    if (rc < 0) {
        return rc;
    }
    rc = ovsdb_attach(fd, path, ret);
    return rc < 0 ? error_sys(err, rc, "connect to OVSDB at %s", path) : 0;
}

void ovsdb_close(struct ovsdb *db)
{
    if (!db) {
        return;
    }
    if (db->fd >= 0) {
        close(db->fd);
    }
    free(db->path);
    free(db->in);
    free(db->out);
    free(db);
}

void cleanup_ovsdb(struct ovsdb **db)
{
    ovsdb_close(*db);
}

const char *ovsdb_path(const struct ovsdb *db)
{
    return db->path;
}

bool ovsdb_usable(const struct ovsdb *db)
{
    struct pollfd pfd = {.fd = db->fd, .events = POLLRDHUP};

    return !db->broken && poll(&pfd, 1, 0) == 0;
}

/* ---- bytes ---- */

/* Appends a message to what is to be sent. */
static int queue(struct ovsdb *db, const json_t *message)
{
    autofree char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
    size_t len = text ? strlen(text) : 0, pending = db->out_len - db->out_sent;
    char *bigger;

    if (!text) {
        return -ENOMEM;
    }
    if (pending == 0) {
        free(db->out);
        db->out = take_ptr(text);
        db->out_len = len;
        db->out_sent = 0;
        return 0;
    }
    bigger = realloc(db->out, db->out_len + len);
    if (!bigger) {
        return -ENOMEM;
    }
    memcpy(bigger + db->out_len, text, len);
    db->out = bigger;
    db->out_len += len;
    return 0;
}

static int send_some(struct ovsdb *db)
{
    while (db->out_sent < db->out_len) {
        ssize_t n = send(db->fd, db->out + db->out_sent, db->out_len - db->out_sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        db->out_sent += (size_t)n;
    }
    return 0;
}

static int receive_some(struct ovsdb *db)
{
    ssize_t n;

    if (db->in_start) {
        db->in_len -= db->in_start;
        memmove(db->in, db->in + db->in_start, db->in_len);
        db->in_start = 0;
    }
    if (db->in_len > OVSDB_MESSAGE_MAX) {
        return -EMSGSIZE;
    }
    if (db->in_size - db->in_len < READ_SIZE) {
        size_t want = db->in_size ? db->in_size * 2 : 2 * READ_SIZE;
        char *bigger = realloc(db->in, want);

        if (!bigger) {
            return -ENOMEM;
        }
        db->in = bigger;
        db->in_size = want;
    }
    n = recv(db->fd, db->in + db->in_len, db->in_size - db->in_len, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    db->in_len += (size_t)n;
    return n == 0 ? -ECONNRESET : 0;
}

/* ---- messages ---- */

/* Takes the next whole message that was received; *ret is NULL when there is none. */
static int take_message(struct ovsdb *db, json_t **ret, struct error *err)
{
    const char *data;
    size_t len;
    int rc;

    *ret = NULL;
    if (db->in_start == db->in_len) {
        return 0;
    }
    data = db->in + db->in_start;
    rc = ovsdb_frame_scan(&db->frame, data, db->in_len - db->in_start, &len);
    if (rc < 0) {
        return error_set(err, rc, "OVSDB at %s sent what is not JSON-RPC", db->path);
    }
    if (rc == 0) {
        return 0;
    }
    db->in_start += len;
    rc = json_parse(data, len, ret, err);
    if (rc < 0) {
        error_wrap(err, "message of OVSDB at %s", db->path);
    }
    return rc;
}

static int answer_echo(struct ovsdb *db, const json_t *request)
{
    autojson json_t *reply =
        json_pack("{s:O?, s:n, s:O?}", "result", json_object_get(request, "params"), "error", "id",
                  json_object_get(request, "id"));

    return queue(db, reply);
}

static bool is_echo(const json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    const json_t *id = json_object_get(message, "id");

    return method && !strcmp(method, "echo") && id && !json_is_null(id);
}

bool ovsdb_is_reply(const json_t *message, json_int_t id)
{
    const json_t *message_id = json_object_get(message, "id");

    return !json_is_string(json_object_get(message, "method")) && json_is_integer(message_id) &&
           json_integer_value(message_id) == id;
}

int ovsdb_next(struct ovsdb *db, json_t **ret, struct error *err)
{
    for (;;) {
        autojson json_t *message = NULL;
        int rc = take_message(db, &message, err);

        if (rc < 0 || !message || !is_echo(message)) {
            *ret = take_ptr(message);
            return rc;
        }
        rc = answer_echo(db, message);
        if (rc < 0) {
            *ret = NULL;
            return error_sys(err, rc, "answer OVSDB at %s", db->path);
        }
    }
}

int ovsdb_flush(struct ovsdb *db, struct pollfd *ret, struct error *err)
{
    int rc = send_some(db);

    if (rc < 0) {
        return error_sys(err, rc, "send to OVSDB at %s", db->path);
    }
    *ret = (struct pollfd){.fd = db->fd, .events = POLLIN};
    if (db->out_sent < db->out_len) {
        ret->events |= POLLOUT;
    }
    return 0;
}

int ovsdb_receive(struct ovsdb *db, struct error *err)
{
    int rc = receive_some(db);

    return rc < 0 ? error_sys(err, rc, "receive from OVSDB at %s", db->path) : 0;
}

/* Sends and receives until the reply to request id is there. */
static int exchange(struct ovsdb *db, json_int_t id, int64_t deadline_ns, json_t **ret,
                    struct error *err)
{
    for (;;) {
        autojson json_t *message = NULL;
        struct pollfd pfd;
        int rc = ovsdb_next(db, &message, err);

        if (rc < 0) {
            return rc;
        }
        if (message && ovsdb_is_reply(message, id)) {
            *ret = take_ptr(message);
            return 0;
        }
        if (message) {
            continue;
        }
        rc = ovsdb_flush(db, &pfd, err);
        if (rc < 0) {
            return rc;
        }
        rc = poll(&pfd, 1, clock_left_ms(deadline_ns));
        if (rc == 0) {
            return ovsdb_silent(db->path, err);
        }
        if (rc > 0 && (pfd.revents & ~POLLOUT)) {
            rc = ovsdb_receive(db, err);
            if (rc < 0) {
                return rc;
            }
        }
    }
}

int ovsdb_silent(const char *path, struct error *err)
{
    return error_set(err, -ETIMEDOUT, "OVSDB at %s did not answer in time", path);
}

/* Puts what the server calls an error (RFC 7047, section 3.1) into err. */
static int remote_error(const json_t *error, struct error *err)
{
    const char *name = json_string_value(json_object_get(error, "error"));
    const char *details = json_string_value(json_object_get(error, "details"));
    autofree char *text = name ? NULL : json_dumps(error, JSON_COMPACT | JSON_ENCODE_ANY);
    int errnum = -EREMOTEIO;

    if (name && !strcmp(name, "constraint violation")) {
        errnum = -EEXIST;
    } else if (name && !strcmp(name, "timed out")) {
        errnum = -ETIMEDOUT;
    }
    return error_set(err, errnum, "OVSDB: %s%s%s",
                     name   ? name
                     : text ? text
                            : "error",
                     details ? ": " : "", details ? details : "");
}

int ovsdb_send(struct ovsdb *db, const char *method, json_t *params, json_int_t *ret_id,
               struct error *err)
{
    autojson json_t *request =
        json_pack("{s:s, s:o, s:I}", "method", method, "params", params, "id", db->last_id + 1);
    int rc = queue(db, request);

    if (rc < 0) {
        return error_sys(err, rc, "write a request to OVSDB");
    }
    *ret_id = ++db->last_id;
    return 0;
}

int ovsdb_result(const json_t *reply, json_t **ret, struct error *err)
{
    const json_t *error = json_object_get(reply, "error");

    if (error && !json_is_null(error)) {
        remote_error(error, err);
        if (err) {
            err->errnum = -EREMOTEIO;
        }
        return -EREMOTEIO;
    }
    *ret = json_object_get(reply, "result");
    return 0;
}

int ovsdb_request(struct ovsdb *db, const char *method, json_t *params, int64_t deadline_ns,
                  json_t **ret_result, struct error *err)
{
    autojson json_t *reply = NULL;
    json_t *result = NULL;
    json_int_t id;
    int rc;

    if (db->broken || clock_left_ms(deadline_ns) == 0) {
        json_decref(params);
        return db->broken
                   ? error_set(err, -ENOTCONN, "the connection to OVSDB at %s was lost", db->path)
                   : error_set(err, -ETIMEDOUT, "no time left to ask OVSDB at %s", db->path);
    }
    rc = ovsdb_send(db, method, params, &id, err);
    if (rc < 0) {
        return rc;
    }
    rc = exchange(db, id, deadline_ns, &reply, err);
    if (rc < 0) {
        db->broken = true;
        return rc;
    }
    rc = ovsdb_result(reply, &result, err);
    if (rc == 0) {
        *ret_result = json_incref(result);
    }
    return rc;
}

json_t *ovsdb_transaction(json_t *operations)
{
    if (!operations || json_array_insert_new(operations, 0, json_string("Open_vSwitch")) < 0) {
        json_decref(operations);
        return NULL;
    }
    return operations;
}

int ovsdb_results(const char *path, const json_t *results, size_t n, struct error *err)
{
    const json_t *result;
    size_t i;

    /* A failed commit adds one element, so that there may be more than operations. */
    json_array_foreach (results, i, result) {
        if (json_object_get(result, "error")) {
            return remote_error(result, err);
        }
    }
    return json_array_size(results) < n
               ? error_set(err, -EBADMSG, "OVSDB at %s answered %zu of %zu operations", path,
                           json_array_size(results), n)
               : 0;
}

int ovsdb_transact(struct ovsdb *db, json_t *operations, int64_t deadline_ns, json_t **ret_results,
                   struct error *err)
{
    autojson json_t *results = NULL;
    size_t n = json_array_size(operations);
    json_t *params = ovsdb_transaction(operations);
    int rc = params ? ovsdb_request(db, "transact", params, deadline_ns, &results, err)
                    : error_sys(err, -ENOMEM, "write a transaction");

    if (rc == 0) {
        rc = ovsdb_results(db->path, results, n, err);
        db->broken = rc == -EBADMSG;
    }
    if (rc == 0) {
        *ret_results = take_ptr(results);
    }
    return rc;
}

json_t *ovsdb_rows(const json_t *results, size_t index)
{
    json_t *rows = json_object_get(json_array_get(results, index), "rows");

    return json_is_array(rows) ? rows : NULL;
}

json_t *ovsdb_inserted(const json_t *results, size_t index)
{
    return json_object_get(json_array_get(results, index), "uuid");
}
