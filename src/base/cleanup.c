/* SPDX-License-Identifier: Apache-2.0 */
/* The functions behind the cleanup attributes. */
#include "base/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cleanup_fd(int *fd)
{
    int saved = errno;

    if (*fd >= 0) {
        close(*fd);
    }
    errno = saved;
}

void cleanup_free(void *p)
{
    void *memory;

    memcpy(&memory, p, sizeof(memory));
    free(memory);
}

void cleanup_file(FILE **f)
{
    if (*f) {
        fclose(*f);
    }
}

int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}
