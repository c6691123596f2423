/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs: ADD, DEL, CHECK, GC, STATUS, VERSION. */
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_S 100 /* below the two minutes that runtimes give a plugin */

/* The namespace comes first, and its path from the environment. */
static int blame_netns(const struct cni_conf *conf, int rc, struct error *err)
{
    if (rc < 0 && conf->attachment.netns_fd < 0) {
        error_wrap(err, "CNI_NETNS");
        err->code = CNI_INVALID_ENVIRONMENT;
    }
    return rc;
}

static int verb_add(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err)
{
    int rc = attachment_add(env, &conf->attachment, err);

    if (rc == 0) {
        *ret = cni_result(conf);
    }
    return blame_netns(conf, rc, err);
}

static int verb_del(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err)
{
    (void)ret;
    return attachment_del(env, &conf->attachment, err);
}

static int verb_check(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err)
{
    struct attachment_expected expected;
    int rc = cni_expected(conf, &expected, err);

    (void)ret;
    if (rc == 0) {
        rc = blame_netns(conf, attachment_check(env, &conf->attachment, &expected, err), err);
        ipam_result_clear(&expected.result);
    }
    return rc;
}

static bool is_listed(const struct ipam_owner *owner, void *cookie)
{
    const json_t *list = cookie;
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        const char *id = json_string_value(json_object_get(item, "containerID"));
        const char *ifname = json_string_value(json_object_get(item, "ifname"));

        if (!strcmp(id, owner->container_id) && !strcmp(ifname, owner->ifname)) {
            return true;
        }
    }
    return false;
}

/* An entry that can't be read would have its pod removed: the whole list is refused. */
static int verb_gc(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err)
{
    static const char key[] = "cni.dev/valid-attachments";
    struct json_path list = {.key = key};
    json_t *item;
    size_t i;

    (void)ret;
    if (!conf->valid_attachments) {
        return json_bad(err, NULL, key, NULL, "a list of {\"containerID\", \"ifname\"}");
    }
    json_array_foreach (conf->valid_attachments, i, item) {
        struct json_path at = {.parent = &list, .index = i};
        const char *text;

        if (!json_is_object(item)) {
            return json_bad(err, &at, NULL, item, "{\"containerID\", \"ifname\"}");
        }
        if (json_need_string(item, &at, "containerID", &text, err) < 0 ||
            json_need_string(item, &at, "ifname", &text, err) < 0) {
            return -EINVAL;
        }
    }
    return attachment_gc(env, &conf->attachment, is_listed, conf->valid_attachments, err);
}

static int verb_status(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err)
{
    struct attachment *at = &conf->attachment;
    char datapath[16];
    struct ovsdb *db;
    int rc = 0;

    (void)ret;
    if (at->kind->needs_bridge) {
        rc = kind_env_ovs(env, &at->conf, &db, err);
        if (rc == 0) {
            rc = at->kind->no_device
                     ? ovs_bridge_vhost(db, at->conf.bridge, env->deadline_ns, err)
                     : ovs_bridge_datapath(db, at->conf.bridge, env->deadline_ns, datapath, err);
        }
    }
    if (rc == 0 && at->addresses == ADDRESSES_DELEGATED) {
        rc = attachment_delegate(at, "STATUS", NULL, err);
    }
    if (rc < 0) {
        err->code = CNI_NOT_AVAILABLE;
    }
    return rc;
}

static const struct cni_verb verbs[] = {
    {"ADD", CNI_0_1_0, verb_add},       {"DEL", CNI_0_1_0, verb_del},
    {"CHECK", CNI_0_4_0, verb_check},   {"GC", CNI_1_1_0, verb_gc},
    {"STATUS", CNI_1_1_0, verb_status},
};

static json_t *version_json(enum cni_version asked)
{
    json_t *names = json_array();

    for (int i = 0; i < CNI_N_VERSIONS; i++) {
        json_array_append_new(names, json_string(cni_version_names[i]));
    }
    return json_pack("{s:s, s:o}", "cniVersion", cni_version_names[asked], "supportedVersions",
                     names);
}

/* VERSION's configuration holds a version and nothing else; without one it is ours. */
static void answer_version(struct cni_call *call, const struct cni_request *request)
{
    autojson json_t *json = NULL;
    const char *text = cni_version_names[CNI_1_1_0];

    json_parse(request->input, request->input_len, &json, NULL);
    json_read_string(json, NULL, "cniVersion", &text, NULL);
    if (cni_version_parse(text, &call->conf.version, NULL) < 0) {
        call->conf.version = CNI_1_1_0;
    }
    call->json = version_json(call->conf.version);
    call->answered = true;
}

/* Older verbs work at any version; these came with one. */
static int check_verb(const struct cni_call *call, struct error *err)
{
    const struct cni_verb *verb = call->verb;

    if (call->conf.version < verb->since) {
        return error_code(err, CNI_INCOMPATIBLE_VERSION, -EPROTONOSUPPORT,
                          "cniVersion: \"%s\" has no %s; must be %s or newer",
                          cni_version_names[call->conf.version], verb->name,
                          cni_version_names[verb->since]);
    }
    return 0;
}

void cni_call_begin(struct cni_call *call, const struct cni_request *request)
{
    struct error err = {0};
    int rc;

    *call = (struct cni_call){
        .conf = {.version = CNI_1_1_0, .attachment = {.netns_fd = -1, .record_fd = -1}}};
    rc = cni_request_check(request, &err);
    if (rc == 0 && !strcmp(request->command, "VERSION")) {
        answer_version(call, request);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (!strcmp(request->command, verbs[i].name)) {
            call->verb = &verbs[i];
        }
    }
    if (rc == 0) {
        rc = cni_conf_parse(request, &call->conf, &err);
    }
    if (rc == 0) {
        rc = check_verb(call, &err);
    }
    if (rc < 0) {
        cni_call_fail(call, &err);
    }
}

void cni_call_fail(struct cni_call *call, const struct error *err)
{
    call->answered = true;
    call->rc = err->errnum;
    call->err = *err;
}

void cni_call_run(struct cni_call *call, struct kind_env *env, int64_t deadline_ns)
{
    struct attachment *at = &call->conf.attachment;

    if (call->answered) {
        return;
    }
    env->deadline_ns = at->delegate.deadline_ns = deadline_ns;
    if (env->shared && at->ipam) {
        ipam_config_use_cache(at->ipam, env->shared->ipam_cache);
    }
    call->rc = call->verb->run(env, &call->conf, &call->json, &call->err);
    call->answered = true;
}

char *cni_call_output(const struct cni_call *call)
{
    autojson json_t *json =
        call->rc < 0 ? cni_error_json(call->conf.version, &call->err) : json_incref(call->json);

    return json ? json_dumps(json, JSON_INDENT(4)) : strdup("");
}

void cni_call_clear(struct cni_call *call)
{
    cni_conf_clear(&call->conf);
    json_decref(call->json);
    call->json = NULL;
}

static int open_env(const struct cni_call *call, const struct cni_request *request,
                    struct kind_env *env, struct error *err)
{
    int rc;

    if (geteuid() != 0) {
        return error_set(err, -EPERM, "%s needs root: this process has user id %d",
                         call->conf.attachment.kind->type, (int)geteuid());
    }
    rc = kind_env_open(env, call->conf.instance, NULL, err);
    if (rc == 0) {
        kind_env_spans(env, request->spans);
    }
    return rc;
}

int cni_run(const struct cni_request *request, char **ret_output)
{
    struct cni_call call;
    struct kind_env env;
    struct error err = {0};
    int rc;

    cni_call_begin(&call, request);
    if (!call.answered) {
        if (open_env(&call, request, &env, &err) < 0) {
            cni_call_fail(&call, &err);
        } else {
            cni_call_run(&call, &env, clock_ns() + DEADLINE_S * NSEC_PER_SEC);
            kind_env_close(&env);
        }
    }
    *ret_output = cni_call_output(&call);
    rc = call.rc < 0;
    cni_call_clear(&call);
    return rc;
}

/* What a runtime would have to say for this record; input is the configuration's text. */
static struct cni_request request_of(const char *command, const char *instance,
                                     const struct record *record, const char *input)
{
    return (struct cni_request){.command = command,
                                .container_id = record->key.container_id,
                                .netns = record->netns_path,
                                .ifname = record->key.ifname,
                                .args = record->cni_args,
                                .path = record->cni_path,
                                .instance = instance,
                                .input = input,
                                .input_len = input ? strlen(input) : 0};
}

int cni_police_record(struct kind_env *env, const struct record *record, struct error *err)
{
    autofree char *input = json_dumps(record->conf, JSON_COMPACT);
    struct cni_request request = request_of("ADD", env->instance, record, input);
    struct attachment *at;
    struct cni_conf conf;
    int rc;

    if (!input) {
        return error_sys(err, -ENOMEM, "configuration");
    }
    rc = cni_conf_parse(&request, &conf, err);
    at = &conf.attachment;
    if (rc == 0) {
        rc = record_restore(record, at, err);
    }
    if (rc == 0) {
        attachment_prepare(at, env->instance); /* a part has names of its own */
        rc = police_flows(env, at, err);
    }
    /* Its DEL may have been faster. */
    if (rc == 0 && !record_exists(env->instance, &record->key)) {
        rc = police_del(env, at, err);
    }
    cni_conf_clear(&conf);
    return rc;
}

static int del_with_conf(const char *instance, const struct record *record, struct error *err)
{
    autofree char *input = json_dumps(record->conf, JSON_COMPACT);
    autofree char *output = NULL;
    struct cni_request request = request_of("DEL", instance, record, input);

    if (!input) {
        return error_sys(err, -ENOMEM, "configuration");
    }
    if (cni_run(&request, &output) != 0) {
        return error_set(err, -EREMOTEIO, "remove interface %s of container %s: %.400s",
                         record->key.ifname, record->key.container_id, output ? output : "");
    }
    return 0;
}

int cni_del_record(const char *instance, const struct record *record, struct error *err)
{
    int rc = record->conf ? del_with_conf(instance, record, err) : 0;

    return rc < 0 ? rc : record_remove(instance, &record->key, err);
}
