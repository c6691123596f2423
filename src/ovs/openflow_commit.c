/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of flows made true in one bundle (OpenFlow 1.4, section 7.3.9). A bundle can't have meters
 * in it, so that new ones are made before it and taken back if it fails, and old ones go after it.
 * A switch refuses a message of a bundle when it gets it, and commits the rest if told to; so a
 * barrier comes between the last message and the commit.
 */
#include "ovs/openflow-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- sets as messages ---- */

static void *copy(const void *data, size_t n, size_t size)
{
    void *to = n ? reallocarray(NULL, n, size) : NULL;

    return to ? memcpy(to, data, n * size) : NULL;
}

int of_change_encode(const struct flow_set *set, uint32_t xid, struct of_change *ret,
                     struct error *err)
{
    struct of_change change = {.xid = xid,
                               .n_messages = set->n_flows + 1,
                               .n_meters = set->n_meters,
                               .n_old_meters = set->n_old_meters};
    uint8_t *end;

    if (set->cookie == 0) {
        return error_set(err, -EINVAL, "flows of cookie 0: those are the switch's own");
    }
    change.bytes = reallocarray(NULL, change.n_messages, OF_FLOW_MAX);
    change.meters = copy(set->meters, set->n_meters, sizeof(*set->meters));
    change.old_meters = copy(set->old_meters, set->n_old_meters, sizeof(*set->old_meters));
    if (!change.bytes || (set->n_meters && !change.meters) ||
        (set->n_old_meters && !change.old_meters)) {
        of_change_clear(&change);
        return error_sys(err, -ENOMEM, "flows");
    }
    end = of_write_remove(change.bytes, set->cookie, xid);
    for (size_t i = 0; i < set->n_flows; i++) {
        end = of_write_add(end, &set->flows[i], set->cookie, xid + 1 + (uint32_t)i);
    }
    change.len = (size_t)(end - change.bytes);
    *ret = change;
    return 0;
}

void of_change_clear(struct of_change *change)
{
    free(change->bytes);
    free(change->meters);
    free(change->old_meters);
    *change = (struct of_change){0};
}

int of_change_explain(const struct of_change *change, const struct flow_set *set, struct error *err)
{
    const struct of_refusal *refusal = &change->refusal;
    char words[128], flow[512];

    of_error_words(refusal->type, refusal->code, words, sizeof(words));
    switch (refusal->what) {
    case OF_METER:
        return error_set(err, -EREMOTEIO, "meter %u of %" PRIu64 " bit/s: %s",
                         change->meters[refusal->index].id, change->meters[refusal->index].rate_bps,
                         words);
    case OF_OLD_METER:
        return error_set(err, -EREMOTEIO, "remove meter %u: %s", change->old_meters[refusal->index],
                         words);
    case OF_FLOW:
        if (refusal->index > 0) {
            flow_format(&set->flows[refusal->index - 1], flow, sizeof(flow));
            return error_set(err, -EREMOTEIO, "flow \"%s\": %s", flow, words);
        }
        return error_set(err, -EREMOTEIO, "remove the flows of cookie 0x%" PRIx64 ": %s",
                         set->cookie, words);
    default:
        return error_set(err, -EREMOTEIO, "flows of cookie 0x%" PRIx64 ": %s", set->cookie, words);
    }
}

/* ---- a commit ---- */

/* A meter of a change: what was there, and what was done. */
struct meter_step {
    struct of_change *change;
    size_t index;
    struct of_meter_config wanted, old;
    bool exists, known, changed;
};

struct commit {
    struct openflow *of;
    struct of_change *const *changes;
    size_t n;
    int64_t deadline_ns;
    struct meter_step *steps;
    size_t n_steps;
    uint32_t xid; /* of the messages under way that are not of a change: the first one's */
    size_t n_xids;
    bool committed, failed;
    struct of_refusal refusal; /* of the bundle itself */
};

/* The first word counts: what follows often follows from it. */
static void refuse(struct commit *commit, struct of_refusal *refusal,
                   const struct of_refusal *found)
{
    commit->failed = true;
    if (refusal->what == OF_NOTHING) {
        *refusal = *found;
    }
}

/* Whether a message answers one of ours; *ret is then which. */
static bool is_answer(const struct commit *commit, const struct of_message *message, size_t *ret)
{
    *ret = message->xid - commit->xid;
    return message->xid >= commit->xid && *ret < commit->n_xids;
}

static int queue(struct commit *commit, const uint8_t *message, const uint8_t *end)
{
    return openflow_queue(commit->of, message, (size_t)(end - message));
}

static int exchange(struct commit *commit, int rc,
                    int (*take)(void *cookie, const struct of_message *message), struct error *err)
{
    return rc < 0 ? error_sys(err, rc, "ask %s", openflow_name(commit->of))
                  : openflow_exchange(commit->of, NULL, 0, commit->deadline_ns, take, commit, err);
}

static void number(struct commit *commit, size_t n)
{
    commit->xid = openflow_xids(commit->of, n);
    commit->n_xids = n;
}

/* ---- meters ---- */

static int take_meter(void *cookie, const struct of_message *message)
{
    struct commit *commit = cookie;
    struct of_refusal found = {.what = OF_METER};
    const uint8_t *body;
    size_t i, len;
    bool more;

    if (!is_answer(commit, message, &i)) {
        return 0;
    }
    if (of_read_error(message, &found.type, &found.code)) {
        if (!commit->steps[i].exists && found.type == OF_ERROR_METER_MOD_FAILED &&
            found.code == OF_ERROR_METER_EXISTS) {
            commit->steps[i].exists = true;
            return 0;
        }
        commit->steps[i].changed = false;
        found.index = commit->steps[i].index;
        refuse(commit, &commit->steps[i].change->refusal, &found);
        return 0;
    }
    if (of_read_multipart(message, OF_MP_METER_CONFIG, &body, &len, &more) == 0 && len > 0) {
        commit->steps[i].known = true;
        return of_read_meter(body, len, &commit->steps[i].old);
    }
    return 0;
}

static uint32_t meter_id(const struct meter_step *step)
{
    return step->change->meters[step->index].id;
}

static int queue_meter(struct commit *commit, size_t i, enum of_meter_command command,
                       const struct of_meter_config *config)
{
    uint8_t message[OF_CONTROL_MAX + OF_BANDS_MAX];
    uint32_t xid = commit->xid + (uint32_t)i;

    return queue(commit, message,
                 of_write_meter(message, command, meter_id(&commit->steps[i]), config, xid));
}

static bool same_meter(const struct of_meter_config *a, const struct of_meter_config *b)
{
    return a->flags == b->flags && a->len == b->len && !memcmp(a->bands, b->bands, a->len);
}

/* Asks what the meters are that were there. */
static int ask_meters(struct commit *commit, struct error *err)
{
    int rc = 0;

    number(commit, commit->n_steps);
    for (size_t i = 0; rc == 0 && i < commit->n_steps; i++) {
        uint32_t body[2] = {htobe32(meter_id(&commit->steps[i])), 0};
        uint8_t request[OF_CONTROL_MAX];

        if (commit->steps[i].exists) {
            rc = queue(commit, request,
                       of_write_multipart(request, OF_MP_METER_CONFIG, body, sizeof(body),
                                          commit->xid + (uint32_t)i));
        }
    }
    return exchange(commit, rc, take_meter, err);
}

/* Changes those that were there and are not as they are to be. */
static int change_meters(struct commit *commit, struct error *err)
{
    int rc = 0;

    number(commit, commit->n_steps);
    for (size_t i = 0; rc == 0 && i < commit->n_steps; i++) {
        struct meter_step *step = &commit->steps[i];

        if (step->exists && step->known && !same_meter(&step->wanted, &step->old)) {
            step->changed = true;
            rc = queue_meter(commit, i, OF_METER_MODIFY, &step->wanted);
        }
    }
    return exchange(commit, rc, take_meter, err);
}

/* Adding them all tells which were there. */
static int make_meters(struct commit *commit, struct error *err)
{
    bool any_exists = false;
    int rc = 0;

    number(commit, commit->n_steps);
    for (size_t i = 0; rc == 0 && i < commit->n_steps; i++) {
        struct meter_step *step = &commit->steps[i];

        of_meter_encode(&step->change->meters[step->index], &step->wanted);
        step->changed = true;
        rc = queue_meter(commit, i, OF_METER_ADD, &step->wanted);
    }
    rc = exchange(commit, rc, take_meter, err);
    for (size_t i = 0; i < commit->n_steps; i++) {
        any_exists |= commit->steps[i].exists;
        commit->steps[i].changed &= !commit->steps[i].exists;
    }
    if (rc == 0 && any_exists && !commit->failed) {
        rc = ask_meters(commit, err);
        rc = rc == 0 && !commit->failed ? change_meters(commit, err) : rc;
    }
    return rc;
}

/* Backwards, since two changes may have had to do with one meter. */
static int restore_meters(struct commit *commit, struct error *err)
{
    int rc = 0;

    number(commit, commit->n_steps);
    for (size_t i = commit->n_steps; rc == 0 && i-- > 0;) {
        const struct meter_step *step = &commit->steps[i];

        if (step->changed) {
            rc = step->exists ? queue_meter(commit, i, OF_METER_MODIFY, &step->old)
                              : queue_meter(commit, i, OF_METER_DELETE, NULL);
        }
    }
    return exchange(commit, rc, NULL, err);
}

static int take_old_meter(void *cookie, const struct of_message *message)
{
    struct commit *commit = cookie;
    struct of_refusal found = {.what = OF_OLD_METER};
    size_t k;

    if (!is_answer(commit, message, &k) || !of_read_error(message, &found.type, &found.code)) {
        return 0;
    }
    for (size_t i = 0; i < commit->n; i++) {
        if (k < commit->changes[i]->n_old_meters) {
            found.index = k;
            refuse(commit, &commit->changes[i]->refusal, &found);
            return 0;
        }
        k -= commit->changes[i]->n_old_meters;
    }
    return 0;
}

static int remove_old_meters(struct commit *commit, struct error *err)
{
    uint8_t message[OF_CONTROL_MAX];
    size_t n = 0, k = 0;
    int rc = 0;

    for (size_t i = 0; i < commit->n; i++) {
        n += commit->changes[i]->n_old_meters;
    }
    if (n == 0) {
        return 0;
    }
    number(commit, n);
    for (size_t i = 0; i < commit->n; i++) {
        const struct of_change *change = commit->changes[i];

        for (size_t j = 0; rc == 0 && j < change->n_old_meters; j++, k++) {
            rc = queue(commit, message,
                       of_write_meter(message, OF_METER_DELETE, change->old_meters[j], NULL,
                                      commit->xid + (uint32_t)k));
        }
    }
    return exchange(commit, rc, take_old_meter, err);
}

/* ---- the bundle ---- */

static int take_bundle(void *cookie, const struct of_message *message)
{
    struct commit *commit = cookie;
    struct of_refusal found = {.what = OF_BUNDLE_ITSELF};
    size_t i;

    if (is_answer(commit, message, &i) && of_is_committed(message)) {
        commit->committed = true;
    }
    if (!of_read_error(message, &found.type, &found.code)) {
        return 0;
    }
    if (is_answer(commit, message, &i)) {
        refuse(commit, &commit->refusal, &found);
        return 0;
    }
    for (i = 0; i < commit->n; i++) {
        uint32_t k = message->xid - commit->changes[i]->xid;

        if (k < commit->changes[i]->n_messages) {
            found.what = OF_FLOW;
            found.index = k;
            refuse(commit, &commit->changes[i]->refusal, &found);
            return 0;
        }
    }
    return 0;
}

static int fill_bundle(struct commit *commit, struct error *err)
{
    autofree struct iovec *parts = reallocarray(NULL, commit->n + 1, sizeof(*parts));
    uint8_t open[OF_CONTROL_MAX];

    if (!parts) {
        return error_sys(err, -ENOMEM, "flows");
    }
    number(commit, 1);
    parts[0].iov_base = open;
    parts[0].iov_len = (size_t)(of_write_bundle(open, OF_BUNDLE_OPEN, commit->xid) - open);
    for (size_t i = 0; i < commit->n; i++) {
        parts[i + 1] = (struct iovec){commit->changes[i]->bytes, commit->changes[i]->len};
    }
    return openflow_exchange(commit->of, parts, commit->n + 1, commit->deadline_ns, take_bundle,
                             commit, err);
}

static int end_bundle(struct commit *commit, struct error *err)
{
    uint8_t message[OF_CONTROL_MAX];
    int rc;

    number(commit, 1);
    rc = queue(commit, message,
               of_write_bundle(message, commit->failed ? OF_BUNDLE_DISCARD : OF_BUNDLE_COMMIT,
                               commit->xid));
    return exchange(commit, rc, take_bundle, err);
}

/* ---- all of it ---- */

static int new_commit(struct commit *commit)
{
    size_t n = 0;

    for (size_t i = 0; i < commit->n; i++) {
        commit->changes[i]->refusal = (struct of_refusal){0};
        n += commit->changes[i]->n_meters;
    }
    commit->steps = n ? calloc(n, sizeof(*commit->steps)) : NULL;
    if (n && !commit->steps) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < commit->n; i++) {
        for (size_t j = 0; j < commit->changes[i]->n_meters; j++) {
            commit->steps[commit->n_steps++] =
                (struct meter_step){.change = commit->changes[i], .index = j};
        }
    }
    return 0;
}

/* Whom the switch refused has it in words; what concerns nobody in particular is told here. */
static int failed(const struct commit *commit, struct error *err)
{
    char words[128];

    return commit->refusal.what
               ? error_set(err, -EREMOTEIO, "%s refused a bundle: %s", openflow_name(commit->of),
                           of_error_words(commit->refusal.type, commit->refusal.code, words,
                                          sizeof(words)))
               : error_set(err, -EREMOTEIO, "%s did not commit a bundle",
                           openflow_name(commit->of));
}

static int run(struct commit *commit, struct error *err)
{
    int rc = commit->n_steps ? make_meters(commit, err) : 0;

    if (rc == 0 && !commit->failed) {
        rc = fill_bundle(commit, err);
        rc = rc == 0 ? end_bundle(commit, err) : rc;
    }
    if (rc == 0 && !commit->committed) {
        failed(commit, err);
        rc = commit->n_steps ? restore_meters(commit, err) : 0;
        return rc < 0 ? rc : -EREMOTEIO;
    }
    return rc == 0 ? remove_old_meters(commit, err) : rc;
}

int openflow_commit(struct openflow *of, struct of_change *const *changes, size_t n,
                    int64_t deadline_ns, struct error *err)
{
    struct commit commit = {.of = of, .changes = changes, .n = n, .deadline_ns = deadline_ns};
    int rc = new_commit(&commit);

    if (rc < 0) {
        return error_sys(err, rc, "flows");
    }
    rc = run(&commit, err);
    free(commit.steps);
    return rc == 0 && commit.failed ? -EREMOTEIO : rc;
}

/* ---- for who has a connection ---- */

int openflow_apply(struct openflow *of, const struct flow_set *sets, size_t n, int64_t deadline_ns,
                   size_t *ret_failed, struct error *err)
{
    autofree struct of_change *changes = calloc(n + 1, sizeof(*changes));
    autofree struct of_change **pointers = calloc(n + 1, sizeof(*pointers));
    uint32_t xid = 0;
    size_t made = 0, at = n;
    int rc = changes && pointers ? 0 : error_sys(err, -ENOMEM, "flows");

    while (rc == 0 && made < n) {
        rc = of_change_encode(&sets[made], xid, &changes[made], err);
        if (rc < 0) {
            at = made;
            break;
        }
        xid += (uint32_t)changes[made].n_messages;
        pointers[made] = &changes[made];
        made++;
    }
    if (rc == 0 && n > 0) {
        rc = openflow_commit(of, pointers, n, deadline_ns, err);
    }
    for (size_t i = 0; rc == -EREMOTEIO && at == n && i < n; i++) {
        if (changes[i].refusal.what) {
            at = i;
            of_change_explain(&changes[i], &sets[i], err);
        }
    }
    for (size_t i = 0; i < made; i++) {
        of_change_clear(&changes[i]);
    }
    if (rc < 0 && ret_failed) {
        *ret_failed = at;
    }
    return rc;
}
