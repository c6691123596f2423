/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /add_acl_inbatch of the study's lock server: so many rules that drop what some address sends to a
 * pod's, whose pod it may be. There the addresses are random, and rules wait until over 1000 are
 * there, the last ones for ever; here they are those of `acl` (docs/cni.md).
 */
#include "agent/http-internal.h"
#include "policy/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PARAM_NAME_MAX 15 /* characters of a bridge's name */

/* Between a request that waits and the agent's work, either of which may end first. */
struct waiter {
    struct http_request *request; /* NULL: the client went away */
    struct error err;             /* errnum 0: done */
};

static void done(void *cookie, const struct error *err)
{
    struct waiter *waiter = cookie;

    if (waiter->request == NULL) {
        free(waiter);
        return;
    }
    waiter->err = *err;
    http_wake(waiter->request, 0);
}

enum MHD_Result study_rules_woken(struct http_request *request)
{
    struct waiter *waiter = request->waiter;
    struct error err = waiter->err;

    request->waiter = NULL;
    free(waiter);
    return err.errnum < 0 ? http_answer(request, 500, "%s\n", err.text)
                          : http_answer(request, 200, "success");
}

void study_rules_give_up(struct http_request *request)
{
    request->waiter->request = NULL;
    request->waiter = NULL;
}

/* False: it is answered already. */
static bool params(struct http_request *request, const char **bridge, struct ip_addr *pod,
                   int64_t *n, enum MHD_Result *answered)
{
    const char *ip = http_param(request, "podIP");

    *bridge = http_param(request, "br_name");
    if (*bridge == NULL || **bridge == '\0' || strlen(*bridge) > PARAM_NAME_MAX ||
        strchr(*bridge, '/') != NULL) {
        *answered = study_answer_choice(request, "br_name", *bridge, "the name of an OVS bridge");
        return false;
    }
    if (ip == NULL || ip_parse(ip, pod) < 0 || pod->family != AF_INET ||
        pod->prefix != ip_bits(pod)) {
        *answered = study_answer_choice(request, "podIP", ip, "an IPv4 address");
        return false;
    }
    if (http_param(request, "num") == NULL) {
        *answered = study_answer_choice(request, "num", NULL, "a number of rules");
        return false;
    }
    return study_number(request, "num", 0, POLICY_ACL_MAX, n, answered);
}

enum MHD_Result study_rules_call(struct http_request *request)
{
    const struct http_api *api = http_api(request);
    enum MHD_Result answered;
    struct waiter *waiter;
    struct ip_addr pod;
    const char *bridge;
    int64_t n = 0;
    int rc;

    if (!params(request, &bridge, &pod, &n, &answered)) {
        return answered;
    }
    if (api->set_rules == NULL) {
        return http_answer(request, 501, "the agent has no Open vSwitch\n");
    }
    waiter = calloc(1, sizeof(*waiter));
    rc = waiter != NULL ? http_wait(request) : -ENOMEM;
    if (rc < 0) {
        free(waiter);
        return http_answer(request, 503, "cannot wait: %s\n", strerror(-rc));
    }
    request->waiter = waiter;
    waiter->request = request;
    rc = api->set_rules(api->cookie, bridge, &pod, (unsigned)n, done, waiter);
    if (rc < 0) {
        struct error err = {0};

        error_sys(&err, rc, "rules");
        done(waiter, &err);
    }
    return MHD_YES;
}
