/* SPDX-License-Identifier: Apache-2.0 */
/* The files of the settings' directory: JSON, replaced in one step. */
#include "agent/agent-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SETTINGS_MAX (16 << 20)

static char *path_of(const struct agent *agent, const char *name)
{
    return str_printf("%s/%s", agent->options->state_dir, name);
}

int agent_settings_read(const struct agent *agent, const char *name, json_t **ret,
                        struct error *err)
{
    autofree char *path = path_of(agent, name), *text = NULL;
    size_t len;
    int rc = path ? file_read(path, SETTINGS_MAX, &text, &len) : -ENOMEM;

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path ? path : name);
    }
    rc = json_parse(text, len, ret, err);
    return rc < 0 ? error_wrap(err, "%s", path) : 0;
}

int agent_settings_write(const struct agent *agent, const char *name, const json_t *json,
                         char **ret_path, struct error *err)
{
    autofree char *path = path_of(agent, name);
    autofree char *dump = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    autofree char *text = dump ? str_printf("%s\n", dump) : NULL;
    int rc = path && text ? dir_make(agent->options->state_dir, 0755) : -ENOMEM;

    if (rc == 0) {
        rc = file_write_atomic(path, text, strlen(text), 0600);
    }
    if (rc < 0) {
        return error_sys(err, rc, "write %s", path ? path : name);
    }
    *ret_path = take_ptr(path);
    return 0;
}
