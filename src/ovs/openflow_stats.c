/* SPDX-License-Identifier: Apache-2.0 */
/* What a switch tells of its flows: multipart requests of OpenFlow 1.4, section 7.3.5. */
#include "ovs/openflow-internal.h"

#include <errno.h>

/* One request, and what is to become of its replies. */
struct question {
    enum of_multipart what;
    uint32_t xid;
    bool answered;
    bool is_error;
    uint16_t error_type, error_code;
    int (*visit)(uint64_t cookie, uint8_t table, uint16_t priority, void *cookie_arg);
    void *cookie_arg;
    int visit_rc;
    size_t flows;
};

/* After visit wanted no more, what comes is taken in all the same: others will use the connection.
 */
static int take_flows(struct question *question, const uint8_t *body, size_t len)
{
    struct of_flow_stats flow;
    int rc;

    while ((rc = of_read_flow(&body, &len, &flow)) > 0) {
        question->flows++;
        if (question->visit_rc >= 0) {
            question->visit_rc =
                question->visit(flow.cookie, flow.table, flow.priority, question->cookie_arg);
        }
    }
    return rc;
}

static int take_aggregate(struct question *question, const uint8_t *body, size_t len)
{
    uint32_t flows = 0;
    int rc = of_read_aggregate(body, len, &flows);

    question->flows = flows;
    return rc;
}

static int take(void *cookie, const struct of_message *message)
{
    struct question *question = cookie;
    const uint8_t *body;
    size_t len;
    bool more;
    int rc;

    if (message->xid != question->xid) {
        return 0;
    }
    if (of_read_error(message, &question->error_type, &question->error_code)) {
        question->is_error = true;
        return 0;
    }
    rc = of_read_multipart(message, question->what, &body, &len, &more);
    if (rc == 0) {
        rc = question->what == OF_MP_FLOW ? take_flows(question, body, len)
                                          : take_aggregate(question, body, len);
        question->answered |= !more;
    }
    return rc;
}

static int ask(struct openflow *of, struct question *question, uint64_t cookie, uint64_t mask,
               int64_t deadline_ns, struct error *err)
{
    uint8_t body[OF_FLOWS_BODY], request[OF_CONTROL_MAX];
    char words[128];
    int rc;

    question->xid = openflow_xids(of, 1);
    of_write_flows_body(body, cookie, mask);
    rc = openflow_queue(
        of, request,
        (size_t)(of_write_multipart(request, question->what, body, sizeof(body), question->xid) -
                 request));
    if (rc < 0) {
        return error_sys(err, rc, "ask %s for flows", openflow_name(of));
    }
    rc = openflow_exchange(of, NULL, 0, deadline_ns, take, question, err);
    if (rc == 0 && question->is_error) {
        return error_set(
            err, -EREMOTEIO, "%s does not tell its flows: %s", openflow_name(of),
            of_error_words(question->error_type, question->error_code, words, sizeof(words)));
    }
    if (rc == 0 && !question->answered) {
        return error_set(err, -EBADMSG, "%s did not tell its flows", openflow_name(of));
    }
    return rc;
}

int openflow_count(struct openflow *of, uint64_t cookie, uint64_t mask, int64_t deadline_ns,
                   size_t *ret, struct error *err)
{
    struct question question = {.what = OF_MP_AGGREGATE};
    int rc = ask(of, &question, cookie, mask, deadline_ns, err);

    if (rc == 0) {
        *ret = question.flows;
    }
    return rc;
}

int openflow_list(struct openflow *of, uint64_t cookie, uint64_t mask, int64_t deadline_ns,
                  int (*visit)(uint64_t cookie, uint8_t table, uint16_t priority, void *cookie_arg),
                  void *cookie_arg, struct error *err)
{
    struct question question = {.what = OF_MP_FLOW, .visit = visit, .cookie_arg = cookie_arg};
    int rc = ask(of, &question, cookie, mask, deadline_ns, err);

    if (rc == 0 && question.visit_rc < 0) {
        rc = error_sys(err, question.visit_rc, "flows of %s", openflow_name(of));
    }
    return rc;
}
