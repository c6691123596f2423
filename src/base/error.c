/* SPDX-License-Identifier: Apache-2.0 */
/* Errors with text. Filled where something goes wrong, wrapped with context on the way up. */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static int fill(struct error *err, unsigned code, int errnum, bool with_errno, const char *fmt,
                va_list args)
{
    int n;

    if (!err) {
        return errnum;
    }
    err->errnum = errnum;
    err->code = code;
    n = vsnprintf(err->text, sizeof(err->text), fmt, args);
    if (with_errno && n >= 0 && (size_t)n < sizeof(err->text)) {
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", strerror(-errnum));
    }
    return errnum;
}

int error_set(struct error *err, int errnum, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fill(err, 0, errnum, false, fmt, args);
    va_end(args);
    return errnum;
}

int error_sys(struct error *err, int errnum, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fill(err, 0, errnum, true, fmt, args);
    va_end(args);
    return errnum;
}

int error_code(struct error *err, unsigned code, int errnum, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fill(err, code, errnum, false, fmt, args);
    va_end(args);
    return errnum;
}

int error_wrap(struct error *err, const char *fmt, ...)
{
    char context[sizeof(err->text)];
    size_t used, room;
    va_list args;

    if (!err) {
        return -EIO;
    }
    va_start(args, fmt);
    vsnprintf(context, sizeof(context), fmt, args);
    va_end(args);
    used = strlen(context);
    if (used + 2 < sizeof(err->text)) {
        room = sizeof(err->text) - used - 3;
        if (strlen(err->text) < room) {
            room = strlen(err->text);
        }
        memmove(err->text + used + 2, err->text, room);
        err->text[used + 2 + room] = '\0';
        memcpy(err->text, context, used);
        memcpy(err->text + used, ": ", 2);
    }
    return err->errnum;
}
