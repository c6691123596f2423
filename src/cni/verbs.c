/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs: ADD, DEL, CHECK, GC, STATUS, VERSION. */
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_S 100 /* below the two minutes that runtimes give a plugin */

/* Older verbs work at any version; these came with one. */
static int check_verb_version(const struct cni_conf *conf, const char *command, struct error *err)
{
    enum cni_version since = !strcmp(command, "CHECK")                              ? CNI_0_4_0
                             : !strcmp(command, "GC") || !strcmp(command, "STATUS") ? CNI_1_1_0
                                                                                    : CNI_0_1_0;

    if (conf->version < since) {
        return error_code(err, CNI_INCOMPATIBLE_VERSION, -EPROTONOSUPPORT,
                          "cniVersion: \"%s\" has no %s; must be %s or newer",
                          cni_version_names[conf->version], command, cni_version_names[since]);
    }
    return 0;
}

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
            rc = ovs_bridge_datapath(db, at->conf.bridge, env->deadline_ns, datapath, err);
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

static const struct verb {
    const char *name;
    int (*run)(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err);
} verbs[] = {
    {"ADD", verb_add}, {"DEL", verb_del},       {"CHECK", verb_check},
    {"GC", verb_gc},   {"STATUS", verb_status},
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

static int run_verb(const struct verb *verb, struct cni_conf *conf, json_t **ret, struct error *err)
{
    struct kind_env env;
    int rc = check_verb_version(conf, verb->name, err);

    if (rc < 0) {
        return rc;
    }
    if (geteuid() != 0) {
        return error_set(err, -EPERM, "%s needs root: this process has user id %d",
                         conf->attachment.kind->type, (int)geteuid());
    }
    rc = kind_env_open(&env, conf->instance, clock_ns() + DEADLINE_S * NSEC_PER_SEC, err);
    if (rc < 0) {
        return rc;
    }
    conf->attachment.delegate.deadline_ns = env.deadline_ns;
    rc = verb->run(&env, conf, ret, err);
    kind_env_close(&env);
    return rc;
}

static int answer(const struct cni_request *request, struct cni_conf *conf, json_t **ret,
                  struct error *err)
{
    int rc = cni_request_check(request, err);

    if (rc < 0) {
        return rc;
    }
    if (!strcmp(request->command, "VERSION")) {
        /* Its configuration holds a version and nothing else; without one it is ours. */
        autojson json_t *json = NULL;
        const char *text = cni_version_names[CNI_1_1_0];

        json_parse(request->input, request->input_len, &json, NULL);
        json_read_string(json, NULL, "cniVersion", &text, NULL);
        if (cni_version_parse(text, &conf->version, NULL) < 0) {
            conf->version = CNI_1_1_0;
        }
        *ret = version_json(conf->version);
        return 0;
    }
    rc = cni_conf_parse(request, conf, err);
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(verbs); i++) {
        if (!strcmp(request->command, verbs[i].name)) {
            return run_verb(&verbs[i], conf, ret, err);
        }
    }
    return rc;
}

int cni_run(const struct cni_request *request, char **ret_output)
{
    struct cni_conf conf = {
        .version = CNI_1_1_0, .attachment.netns_fd = -1, .attachment.record_fd = -1};
    autojson json_t *json = NULL;
    struct error err = {0};
    int rc = answer(request, &conf, &json, &err);

    if (rc < 0) {
        json = cni_error_json(conf.version, &err);
    }
    *ret_output = json ? json_dumps(json, JSON_INDENT(4)) : strdup("");
    cni_conf_clear(&conf);
    return rc < 0;
}
