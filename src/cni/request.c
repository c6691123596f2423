/* SPDX-License-Identifier: Apache-2.0 */
/* What a runtime asks by environment: CNI specification 1.1.0, section 2. */
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTAINER_ID_MAX 100 /* a device alias has room for it, the network and more */

static const char *variable(const char *const *environment, const char *name)
{
    size_t len = strlen(name);

    for (; *environment; environment++) {
        if (!strncmp(*environment, name, len) && (*environment)[len] == '=') {
            return *environment + len + 1;
        }
    }
    return "";
}

void cni_request_from_environment(const char *const *environment, struct cni_request *ret)
{
    *ret = (struct cni_request){
        .command = variable(environment, "CNI_COMMAND"),
        .container_id = variable(environment, "CNI_CONTAINERID"),
        .netns = variable(environment, "CNI_NETNS"),
        .ifname = variable(environment, "CNI_IFNAME"),
        .args = variable(environment, "CNI_ARGS"),
        .path = variable(environment, "CNI_PATH"),
        .instance = variable(environment, "SLUICE_INSTANCE"),
        .spans = variable(environment, "SLUICE_SPANS"),
        .environment = environment,
    };
    if (!*ret->instance) {
        ret->instance = INSTANCE_DEFAULT_DIR;
    }
}

static int bad(struct error *err, const char *name, const char *value, const char *allowed)
{
    if (!*value) {
        return error_code(err, CNI_INVALID_ENVIRONMENT, -EINVAL, "%s: not set; must be %s", name,
                          allowed);
    }
    return error_code(err, CNI_INVALID_ENVIRONMENT, -EINVAL,
                      "%s: \"%.128s\" is not allowed; must be %s", name, value, allowed);
}

/* libcni's rules: a word that starts with a letter or digit. */
static bool is_id(const char *s)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

    return *s && strspn(s, letters) == strlen(s) && strspn(s, letters + 62) == 0 &&
           strlen(s) <= CONTAINER_ID_MAX;
}

/* What goes into records and results must be text that JSON can hold. */
static bool is_utf8(const char *s)
{
    autojson json_t *text = json_string(s);

    return text != NULL;
}

bool cni_ifname_ok(const char *s)
{
    return *s && strlen(s) < IFNAMSIZ && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
           !strpbrk(s, "/: \t\n\v\f\r") && is_utf8(s);
}

int cni_request_check(const struct cni_request *request, struct error *err)
{
    static const char *const commands[] = {"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"};
    bool known = false, about_pod, needs_netns;

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        known |= !strcmp(request->command, commands[i]);
    }
    if (!known) {
        return bad(err, "CNI_COMMAND", request->command,
                   "one of ADD, DEL, CHECK, GC, STATUS, VERSION");
    }
    needs_netns = !strcmp(request->command, "ADD") || !strcmp(request->command, "CHECK");
    about_pod = needs_netns || !strcmp(request->command, "DEL");
    if (about_pod && !is_id(request->container_id)) {
        return bad(err, "CNI_CONTAINERID", request->container_id,
                   "at most 100 letters, digits, '_', '.', '-', the first a letter or digit");
    }
    if (about_pod && !cni_ifname_ok(request->ifname)) {
        return bad(err, "CNI_IFNAME", request->ifname,
                   "an interface name: at most 15 characters, no '/', ':' or blanks");
    }
    if (needs_netns && !*request->netns) {
        return bad(err, "CNI_NETNS", "", "the path of the container's network namespace");
    }
    if (!is_utf8(request->netns)) {
        return bad(err, "CNI_NETNS", request->netns, "a path in UTF-8");
    }
    return 0;
}

int cni_args_get(const char *args, const char *key, char *dst, size_t size)
{
    size_t key_len = strlen(key);

    while (*args) {
        size_t len = strcspn(args, ";");

        if (len > key_len && !strncmp(args, key, key_len) && args[key_len] == '=') {
            len -= key_len + 1;
            if (len >= size) {
                return -ENAMETOOLONG;
            }
            memcpy(dst, args + key_len + 1, len);
            dst[len] = '\0';
            return 0;
        }
        args += len;
        args += *args == ';';
    }
    return -ENOENT;
}
