/* SPDX-License-Identifier: Apache-2.0 */
/* Limits as people and files say them: {"v":1,"limits":{"cni":4}} and "cni=4". */
#include "gate/gate-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Unlike span_stage_index, not by a step's name: "cni.link" has no gate to set. */
static int find_stage(const char *name, size_t len, size_t *ret)
{
    for (size_t i = 0; i < span_n_stages; i++) {
        if (strlen(span_stages[i].name) == len && !memcmp(span_stages[i].name, name, len)) {
            *ret = i;
            return 0;
        }
    }
    return -EINVAL;
}

/* Writes "one of netns, cni, ..."; returns buf. */
static const char *list_stages(char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "one of");

    for (size_t i = 0; i < span_n_stages && used < size; i++) {
        used +=
            (size_t)snprintf(buf + used, size - used, "%s %s", i ? "," : "", span_stages[i].name);
    }
    return buf;
}

json_t *gates_limits(const struct gates *gates)
{
    autojson json_t *limits = json_object();

    for (size_t i = 0; i < span_n_stages; i++) {
        if (json_object_set_new(limits, span_stages[i].name, json_integer(gate_limit(gates, i))) <
            0) {
            return NULL;
        }
    }
    return json_pack("{s:i, s:O}", "v", 1, "limits", limits);
}

static int read_limit(const json_t *object, const struct json_path *path, const char *name,
                      unsigned *limits, struct error *err)
{
    int64_t limit = -1;
    char stages[256];
    size_t stage;
    int rc;

    if (find_stage(name, strlen(name), &stage) < 0) {
        autojson json_t *said = json_string(name);

        return json_bad(err, path, NULL, said, list_stages(stages, sizeof(stages)));
    }
    rc = json_read_int(object, path, name, 0, GATE_LIMIT_MAX, &limit, err);
    if (rc == 0 && limit >= 0) {
        limits[stage] = (unsigned)limit;
    }
    return rc;
}

static int read_limits(const json_t *json, unsigned *limits, struct error *err)
{
    const struct json_path path = {.key = "limits"};
    const json_t *version = json_object_get(json, "v");
    json_t *object = NULL, *value;
    const char *name;
    int rc;

    if (!json_is_object(json)) {
        return json_bad(err, NULL, "gate limits", json,
                        "an object such as {\"v\":1,\"limits\":{\"cni\":4}}");
    }
    if (json_integer_value(version) != 1) {
        return json_bad(err, NULL, "v", version, "1");
    }
    rc = json_read_object(json, NULL, "limits", &object, err);
    if (rc == 0 && !object) {
        rc = json_bad(err, NULL, "limits", NULL, "an object of stages and their limits");
    }
    json_object_foreach (object, name, value) {
        rc = rc < 0 ? rc : read_limit(object, &path, name, limits, err);
    }
    return rc;
}

int gates_set_limits(struct gates *gates, const json_t *json, int64_t now_ns, struct error *err)
{
    autofree unsigned *limits = calloc(span_n_stages, sizeof(*limits));
    int rc;

    if (!limits) {
        return error_sys(err, -ENOMEM, "limits");
    }
    for (size_t i = 0; i < span_n_stages; i++) {
        limits[i] = gate_limit(gates, i);
    }
    rc = read_limits(json, limits, err);
    if (rc == 0) {
        gates_put_limits(gates, limits, now_ns);
    }
    return rc;
}

int gate_setting_parse(const char *text, size_t *ret_stage, unsigned *ret_limit, struct error *err)
{
    size_t len = strcspn(text, "="), stage;
    char stages[256];
    int64_t limit;

    if (text[len] != '=' || find_stage(text, len, &stage) < 0 ||
        str_to_int64(text + len + 1, 0, GATE_LIMIT_MAX, &limit) < 0) {
        return error_set(err, -EINVAL,
                         "gate \"%.100s\" is not allowed; must be STAGE=LIMIT, STAGE %s, LIMIT a "
                         "whole number from 0 (no limit) to %d",
                         text, list_stages(stages, sizeof(stages)), GATE_LIMIT_MAX);
    }
    *ret_stage = stage;
    *ret_limit = (unsigned)limit;
    return 0;
}
