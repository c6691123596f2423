/* SPDX-License-Identifier: Apache-2.0 */
/* Logging: one line, one write, to standard error. */
#include "base/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static enum log_level level_wanted(void)
{
    const char *s = getenv("SLUICE_LOG");

    for (size_t i = 0; s && i < ARRAY_SIZE(level_names); i++) {
        if (!strcmp(s, level_names[i])) {
            return (enum log_level)i;
        }
    }
    return LOG_LEVEL_INFO;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    char line[2048];
    va_list args;
    int n, m;

    if (level > level_wanted()) {
        return;
    }
    n = snprintf(line, sizeof(line), "sluice: %s: ", level_names[level]);
    va_start(args, fmt);
    m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
    va_end(args);
    if (m < 0) {
        return;
    }
    n = (int)strlen(line);
    line[n] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n + 1) < 0) {
        return; /* nowhere left to say so */
    }
}
