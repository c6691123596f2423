/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_len)
{
    autofree char *data = NULL;
    size_t len = 0, size = 0;

    for (;;) {
        ssize_t n;

        if (size - len < 2) {
            size_t want = size ? size * 2 : 4096;
            char *bigger = realloc(data, want);

            if (!bigger) {
                return -ENOMEM;
            }
            data = bigger;
            size = want;
        }
        n = read(fd, data + len, size - len - 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
        if (len > max) {
            return -EFBIG;
        }
    }
    data[len] = '\0';
    *ret_data = take_ptr(data);
    if (ret_len) {
        *ret_len = len;
    }
    return 0;
}

int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd_read_all(fd, max, ret_data, ret_len);
}

int fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int memfd_sealed(const void *data, size_t len, int *ret_fd)
{
    autoclose int fd = memfd_create("sluice", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = fd_write_all(fd, data, len);
    if (rc < 0) {
        return rc;
    }
    if (lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) {
        return -errno;
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode)
{
    autofree char *temporary = str_printf("%s.tmp", path);
    autoclose int fd = -1;
    int rc;

    if (!temporary) {
        return -ENOMEM;
    }
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    rc = fd_write_all(fd, data, len);
    if (rc == 0 && rename(temporary, path) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        unlink(temporary);
    }
    return rc;
}

int dir_make(const char *path, mode_t mode)
{
    autofree char *copy = NULL;

    if (mkdir(path, mode) == 0) {
        return 0;
    }
    if (errno == EEXIST) {
        struct stat st;

        return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    }
    if (errno != ENOENT) {
        return -errno;
    }
    copy = strdup(path);
    if (!copy) {
        return -ENOMEM;
    }
    for (char *p = copy + 1; *p; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            return -errno;
        }
        *p = '/';
    }
    return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int dir_remove(const char *path)
{
    int rc = nftw(path, remove_one, 32, FTW_DEPTH | FTW_MOUNT | FTW_PHYS);

    if (rc == -1) {
        return errno == ENOENT ? 0 : -errno;
    }
    return rc;
}

int file_lock(const char *path, bool shared, int *ret_fd)
{
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0) {
        return -errno;
    }
    while (flock(fd, shared ? LOCK_SH : LOCK_EX) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

static char this_boot[37]; /* "" when it can't be read */

static void read_boot_id(void)
{
    autoclose int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, this_boot, 36) != 36) {
        this_boot[0] = '\0';
    }
}

int boot_id(char out[37])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* it never changes while we live */

    pthread_once(&once, read_boot_id);
    memcpy(out, this_boot, sizeof(this_boot));
    return *out ? 0 : -EIO;
}
