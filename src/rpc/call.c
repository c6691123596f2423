/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int rpc_open(const char *instance, int64_t deadline_ns, int *ret_fd, struct error *err)
{
    int rc = rpc_connect(instance, deadline_ns, ret_fd);

    if (rc == -ECONNREFUSED) {
        return error_set(err, rc, "no agent runs on instance %s: start sluiced", instance);
    }
    return rc < 0 ? error_sys(err, rc, "connect to the agent of instance %s", instance) : 0;
}

/* The answer's error, in its own words. */
static int refused(const json_t *json, struct error *err)
{
    const json_t *error = json_object_get(json, "error");
    const char *msg = json_string_value(json_object_get(error, "msg"));
    json_int_t code = json_integer_value(json_object_get(error, "code"));

    return error_set(err, code > 0 && code < 4096 ? -(int)code : -EREMOTEIO, "%s",
                     msg ? msg : "the agent refused without a reason");
}

static int read_answer(struct rpc_message *answer, json_t **ret_result, int *ret_fds,
                       size_t *ret_n_fds, struct error *err)
{
    autojson json_t *json = NULL;
    int rc = json_parse(answer->header, answer->header_len, &json, err);

    if (rc == 0 && json_is_null(json_object_get(json, "result")) && answer->body_len) {
        json_decref(take_ptr(json)); /* it did not fit: see rpc.h */
        rc = json_parse(answer->body, answer->body_len, &json, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (!rpc_reply_ok(answer)) {
        return refused(json, err);
    }
    if (ret_result) {
        *ret_result = json_incref(json_object_get(json, "result"));
    }
    if (ret_fds) {
        memcpy(ret_fds, answer->fds, answer->n_fds * sizeof(answer->fds[0]));
        *ret_n_fds = answer->n_fds;
        answer->n_fds = 0;
    }
    return 0;
}

int rpc_ask(int fd, const char *method, json_t *params, int64_t deadline_ns, json_t **ret_result,
            int *ret_fds, size_t *ret_n_fds, struct error *err)
{
    autojson json_t *json = json_pack("{s:i, s:s, s:o}", "id", 1, "method", method, "params",
                                      params ? params : json_object());
    autofree char *header = json ? json_dumps(json, JSON_COMPACT) : NULL;
    struct rpc_part request = {.header = header};
    struct rpc_message answer;
    int rc = header ? rpc_call(fd, &request, deadline_ns, &answer) : -ENOMEM;

    if (rc < 0) {
        return error_sys(err, rc, "call %s of the agent", method);
    }
    rc = read_answer(&answer, ret_result, ret_fds, ret_n_fds, err);
    rpc_message_clear(&answer);
    return rc;
}

int rpc_ask_once(const char *instance, const char *method, json_t *params, int64_t deadline_ns,
                 json_t **ret_result, struct error *err)
{
    autoclose int fd = -1;
    int rc = rpc_open(instance, deadline_ns, &fd, err);

    if (rc < 0) {
        json_decref(params);
        return rc;
    }
    return rpc_ask(fd, method, params, deadline_ns, ret_result, NULL, NULL, err);
}
