/* SPDX-License-Identifier: Apache-2.0 */
/* Where our programs are. */
#include "base/base.h"

#include <string.h>
#include <unistd.h>

const char *program_path(const char *name, const char *fallback_dir, char *buf, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", buf, size - 1);
    char *slash;

    buf[n > 0 ? n : 0] = '\0';
    slash = strrchr(buf, '/');
    if (slash && str_copy(slash + 1, size - (size_t)(slash + 1 - buf), name) == 0 &&
        access(buf, X_OK) == 0) {
        return buf;
    }
    snprintf(buf, size, "%s/%s", fallback_dir, name);
    return buf;
}
