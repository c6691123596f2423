/* SPDX-License-Identifier: Apache-2.0 */
/* Which instance a command talks to. */
#include "base/base.h"

#include <stdlib.h>

const char *instance_dir(const char *explicit_dir)
{
    const char *env;

    if (explicit_dir && *explicit_dir) {
        return explicit_dir;
    }
    env = getenv("SLUICE_INSTANCE");
    return env && *env ? env : INSTANCE_DEFAULT_DIR;
}
