/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories. */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

static int remove_at(int parent, const char *name, dev_t device);

/* Removes what is in a directory, whose descriptor it takes over. */
static int empty_dir(int fd, dev_t device)
{
    const struct dirent *entry;
    DIR *dir = fdopendir(fd);
    int rc = dir ? 0 : -errno;

    if (!dir) {
        close(fd);
        return rc;
    }
    while (rc == 0 && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = remove_at(fd, entry->d_name, device);
        }
    }
    closedir(dir);
    return rc;
}

/* Directories of another device than that are not entered. Files are not asked: on an overlay they
 * may have another than their directory. */
static int remove_at(int parent, const char *name, dev_t device)
{
    struct stat st;
    int rc = unlinkat(parent, name, 0) < 0 ? -errno : 0, fd;

    if (rc != -EISDIR) {
        return rc == -ENOENT ? 0 : rc;
    }
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = -errno;
    } else if (st.st_dev == device) {
        rc = empty_dir(take_fd(&fd), device);
    } else {
        rc = 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0) {
        rc = -errno;
    }
    return rc == -ENOENT ? 0 : rc;
}

int dir_remove(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    return remove_at(AT_FDCWD, path, st.st_dev);
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
