/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other people's IPAM plugins: executed, asked for a version that both sides know, and their
 * answers read (CNI specification 1.1.0, sections 3 to 5).
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MAX         (1 << 20)
#define CNI_CODE_VERSION   1 /* incompatible CNI version */
#define CNI_CODE_TRY_AGAIN 11
#define VERSION_WITH_CHECK IPAM_VERSION(0, 4, 0)
#define VERSION_WITH_GC    IPAM_VERSION(1, 1, 0)
/* From it on, an address of a result does not say its family. */
#define VERSION_WITHOUT_FAMILY IPAM_VERSION(1, 0, 0)
#define FIRST_VERSION          "0.1.0" /* what a plugin speaks that doesn't say (section 2) */

extern char **environ;

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static int find_plugin(const struct ipam_delegate *delegate, char **ret, struct error *err)
{
    const char *type = delegate->type, *p = delegate->cni_path;

    if (!*type || strchr(type, '/') || !strcmp(type, ".") || !strcmp(type, "..")) {
        return error_set(err, -EINVAL,
                         "ipam.type: \"%.100s\" is not allowed; must be a plugin's file name "
                         "without '/'",
                         type);
    }
    while (*p) {
        size_t len = strcspn(p, ":");
        autofree char *path = str_printf("%.*s/%s", (int)len, p, type);

        if (!path) {
            return error_sys(err, -ENOMEM, "ipam plugin %s", type);
        }
        if (len && is_program(path)) {
            *ret = take_ptr(path);
            return 0;
        }
        p += len + (p[len] == ':');
    }
    return error_set(err, -ENOENT, "ipam plugin %s: not found in the plugin path \"%.300s\"", type,
                     delegate->cni_path);
}

static size_t count(const char *const *list)
{
    size_t n = 0;

    while (list && list[n]) {
        n++;
    }
    return n;
}

/* Whether one of the assignments is of the same variable. */
static bool is_set_by(const char *assignment, const char *const *list)
{
    size_t len = strcspn(assignment, "=") + 1;

    for (size_t i = 0; list && list[i]; i++) {
        if (!strncmp(list[i], assignment, len)) {
            return true;
        }
    }
    return false;
}

/* The base environment, over it the delegate's, over both the command; the list is the caller's,
 * its strings are borrowed. */
static const char **make_env(const struct ipam_delegate *delegate, const char *command)
{
    const char *const commands[] = {command, NULL}, *const *over = delegate->env;
    const char *const *base = delegate->base ? delegate->base : (const char *const *)environ;
    const char **env = calloc(count(base) + count(over) + 2, sizeof(*env));
    size_t used = 0;

    for (size_t i = 0; env && i < count(base); i++) {
        if (!is_set_by(base[i], over) && !is_set_by(base[i], commands)) {
            env[used++] = base[i];
        }
    }
    for (size_t i = 0; env && i < count(over); i++) {
        if (!is_set_by(over[i], commands)) {
            env[used++] = over[i];
        }
    }
    if (env) {
        env[used] = command;
    }
    return env;
}

/* A prevResult that an older plugin can read: its version, and before 1.0.0 each address's family.
 * A new object. */
static json_t *result_at(const json_t *result, const char *version)
{
    json_t *copy = json_deep_copy(result), *ip;
    size_t i;

    json_object_set_new(copy, "cniVersion", json_string(version));
    json_array_foreach (json_object_get(copy, "ips"), i, ip) {
        const char *address = json_string_value(json_object_get(ip, "address"));

        if (address && ipam_version(version) < VERSION_WITHOUT_FAMILY) {
            json_object_set_new(ip, "version", json_string(strchr(address, ':') ? "6" : "4"));
        }
    }
    return copy;
}

/* The network configuration as of a version. A new object. */
static json_t *conf_at(const json_t *conf, const char *version)
{
    json_t *copy = json_copy((json_t *)conf), *result = json_object_get(conf, "prevResult");

    json_object_set_new(copy, "cniVersion", json_string(version));
    if (json_is_object(result)) {
        json_object_set_new(copy, "prevResult", result_at(result, version));
    }
    return copy;
}

/* One call, no more known about its meaning than that it ended. */
static int run(const struct ipam_delegate *delegate, const char *path, const char *command,
               const char *version, struct proc_result *ret, struct error *err)
{
    autojson json_t *conf = conf_at(delegate->conf, version);
    autofree char *assignment = str_printf("CNI_COMMAND=%s", command);
    autofree const char **env = assignment ? make_env(delegate, assignment) : NULL;
    autofree char *input = conf ? json_dumps(conf, JSON_COMPACT) : NULL;
    const char *const argv[] = {path, NULL};
    struct proc_spec spec = {
        .argv = argv, .envp = env, .output_max = ANSWER_MAX, .deadline_ns = delegate->deadline_ns};
    int rc;

    if (!input || !env) {
        return error_sys(err, -ENOMEM, "ipam plugin %s", delegate->type);
    }
    spec.input = input;
    spec.input_len = strlen(input);
    rc = proc_run(&spec, ret);
    if (rc == -ETIMEDOUT) {
        return error_set(err, rc, "ipam plugin %s: %s did not end in time and was killed",
                         delegate->type, command);
    }
    if (rc < 0) {
        return error_sys(err, rc, "ipam plugin %s: execute %s", delegate->type, path);
    }
    if (ret->errout_len) {
        log_debug("ipam plugin %s: %s: %s", delegate->type, command, ret->errout);
    }
    return 0;
}

/* What a plugin that failed says, or what is to be seen of a failure that it says nothing about. */
static int plugin_error(const char *type, const struct proc_result *result, struct error *err)
{
    autojson json_t *answer = NULL;
    const char *msg = NULL, *details = NULL,
               *seen = result->errout_len ? result->errout : result->out;
    int64_t code = 0;

    if (json_parse(result->out ? result->out : "", result->out_len, &answer, NULL) == 0 &&
        json_is_object(answer) &&
        json_read_int(answer, NULL, "code", 1, UINT32_MAX, &code, NULL) == 0 && code &&
        json_read_string(answer, NULL, "msg", &msg, NULL) == 0) {
        json_read_string(answer, NULL, "details", &details, NULL);
        return error_code(err, (unsigned)code, code == CNI_CODE_TRY_AGAIN ? -EAGAIN : -EIO,
                          "ipam plugin %s: %s%s%s", type, msg ? msg : "error without message",
                          details && *details ? ": " : "", details ? details : "");
    }
    seen = seen && *seen ? seen : "it wrote nothing";
    if (WIFSIGNALED(result->status)) {
        return error_set(err, -EIO, "ipam plugin %s: killed by signal %d: %.300s", type,
                         WTERMSIG(result->status), seen);
    }
    return error_set(err, -EIO,
                     "ipam plugin %s: ended with status %d without an error in CNI's "
                     "form: %.300s",
                     type, WEXITSTATUS(result->status), seen);
}

static void cleanup_result(struct proc_result *result)
{
    proc_result_clear(result);
}

/* One verb at one version; the plugin's refusal to know the version is code CNI_CODE_VERSION. */
static int call(const struct ipam_delegate *delegate, const char *path, const char *command,
                const char *version, struct ipam_result *ret, struct error *err)
{
    __attribute__((cleanup(cleanup_result))) struct proc_result result = {0};
    autojson json_t *answer = NULL;
    int rc = run(delegate, path, command, version, &result, err);

    if (rc < 0) {
        return rc;
    }
    if (!proc_ok(&result)) {
        return plugin_error(delegate->type, &result, err);
    }
    if (strcmp(command, "ADD") || !ret) {
        return 0;
    }
    rc = json_parse(result.out ? result.out : "", result.out_len, &answer, err);
    if (rc == 0) {
        rc = ipam_result_parse(answer, ret, err);
    }
    if (rc < 0) {
        error_wrap(err, "ipam plugin %s: its result can't be read", delegate->type);
        if (err) {
            err->errnum = -EBADMSG;
        }
        return -EBADMSG;
    }
    return 0;
}

/* The highest of the versions a plugin offers that is not above limit. */
static int choose_version(const json_t *offered, const char *limit, char ret[16])
{
    int best = -1;

    for (size_t i = 0; i < json_array_size(offered); i++) {
        const char *text = json_string_value(json_array_get(offered, i));
        int version = text ? ipam_version(text) : -1;

        if (version > best && version <= ipam_version(limit) && str_copy(ret, 16, text) == 0) {
            best = version;
        }
    }
    return best < 0 ? -ENOENT : 0;
}

/* Asks the plugin (VERSION) and chooses. */
static int negotiate(const struct ipam_delegate *delegate, const char *path, char ret[16],
                     struct error *err)
{
    __attribute__((cleanup(cleanup_result))) struct proc_result result = {0};
    autojson json_t *answer = NULL;
    autofree char *text = NULL;
    json_t *offered;
    int rc = run(delegate, path, "VERSION", delegate->cni_version, &result, err);

    if (rc < 0) {
        return rc;
    }
    if (!proc_ok(&result)) {
        return plugin_error(delegate->type, &result, err);
    }
    rc = json_parse(result.out ? result.out : "", result.out_len, &answer, err);
    if (rc < 0) {
        return error_wrap(err, "ipam plugin %s: its answer to VERSION", delegate->type);
    }
    offered = json_object_get(answer, "supportedVersions");
    if (choose_version(offered, delegate->cni_version, ret) < 0) {
        text = offered ? json_dumps(offered, JSON_COMPACT) : NULL;
        return error_code(err, CNI_CODE_VERSION, -EPROTONOSUPPORT,
                          "ipam plugin %s: speaks none of the CNI versions up to %s, only %.200s",
                          delegate->type, delegate->cni_version, text ? text : "[]");
    }
    return 0;
}

/* Whether a version has the verb. */
static bool verb_exists(const char *command, const char *version)
{
    int number = ipam_version(version);

    if (!strcmp(command, "CHECK")) {
        return number >= VERSION_WITH_CHECK;
    }
    if (!strcmp(command, "GC") || !strcmp(command, "STATUS")) {
        return number >= VERSION_WITH_GC;
    }
    return true;
}

/*
 * A plugin from before GC and STATUS answers them "unknown command", code 4, before it looks at the
 * version; so for these it is asked first.
 */
static bool ask_first(const char *command)
{
    return !strcmp(command, "GC") || !strcmp(command, "STATUS");
}

int ipam_delegate(const struct ipam_delegate *delegate, const char *command,
                  struct ipam_result *ret, struct error *err)
{
    const char *wanted =
        delegate->cni_version && *delegate->cni_version ? delegate->cni_version : FIRST_VERSION;
    struct ipam_delegate checked = *delegate;
    autofree char *path = NULL;
    struct error own = {0};
    char chosen[16];
    int rc;

    checked.cni_version = wanted;
    if (ipam_version(wanted) < 0) {
        return error_set(err, -EINVAL,
                         "cniVersion: \"%.60s\" is not allowed; must be a version "
                         "like \"1.1.0\"",
                         wanted);
    }
    rc = find_plugin(&checked, &path, err);
    if (rc < 0 || !verb_exists(command, wanted)) {
        return rc;
    }
    err = err ? err : &own;
    if (!ask_first(command)) {
        rc = call(&checked, path, command, wanted, ret, err);
        if (rc == 0 || err->code != CNI_CODE_VERSION) {
            return rc;
        }
    }
    rc = negotiate(&checked, path, chosen, err);
    if (rc < 0 || !verb_exists(command, chosen)) {
        return rc;
    }
    return call(&checked, path, command, chosen, ret, err);
}
