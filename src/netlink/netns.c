/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces: opened, made, entered. namespaces(7), ioctl_ns(2). */
#include "netlink/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN_NETNS "/proc/thread-self/ns/net"

static int check_netns(int fd, const char *name, struct error *err)
{
    return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET
               ? 0
               : error_set(err, -EINVAL, "%s is not a network namespace", name);
}

int netns_copy(int fd, const char *name, int *ret_fd, struct error *err)
{
    autoclose int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int rc = copy < 0 ? error_sys(err, -errno, "network namespace %s", name)
                      : check_netns(copy, name, err);

    if (rc == 0) {
        *ret_fd = take_fd(&copy);
    }
    return rc;
}

int netns_open(const char *path, int *ret_fd, struct error *err)
{
    /* O_NONBLOCK: a path to a FIFO must not hang us. */
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return error_sys(err, -errno, "network namespace %s", path);
    }
    if (check_netns(fd, path, err) < 0) {
        return -EINVAL;
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

int netns_open_own(int *ret_fd, struct error *err)
{
    return netns_open(OWN_NETNS, ret_fd, err);
}

int netns_enter(int fd, int *ret_saved, struct error *err)
{
    autoclose int saved = -1;
    int rc;

    if (ret_saved) {
        rc = netns_open_own(&saved, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (setns(fd, CLONE_NEWNET) < 0) {
        return error_sys(err, -errno, "enter the network namespace");
    }
    if (ret_saved) {
        *ret_saved = take_fd(&saved);
    }
    return 0;
}

int netns_leave(int *saved)
{
    int rc = setns(*saved, CLONE_NEWNET) < 0 ? -errno : 0;

    close(take_fd(saved));
    return rc;
}

int netns_create(const char *path, struct error *err)
{
    autoclose int file = -1;
    int saved = -1, rc;

    file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (file < 0) {
        return error_sys(err, -errno, "create %s", path);
    }
    rc = netns_open_own(&saved, err);
    if (rc < 0) {
        unlink(path);
        return rc;
    }
    if (unshare(CLONE_NEWNET) < 0) {
        rc = error_sys(err, -errno, "make a network namespace");
        close(take_fd(&saved));
        unlink(path);
        return rc;
    }
    if (mount(OWN_NETNS, path, NULL, MS_BIND, NULL) < 0) {
        rc = error_sys(err, -errno, "bind a network namespace to %s", path);
        unlink(path);
    }
    if (netns_leave(&saved) < 0) {
        return error_set(err, -EIO, "cannot get back to the first network namespace");
    }
    return rc;
}

int netns_bind(int fd, const char *path, struct error *err)
{
    autoclose int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    char source[64];

    if (file < 0) {
        return error_sys(err, -errno, "create %s", path);
    }
    snprintf(source, sizeof(source), "/proc/thread-self/fd/%d", fd);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0) {
        int rc = error_sys(err, -errno, "bind a network namespace to %s", path);

        unlink(path);
        return rc;
    }
    return 0;
}

int netns_delete(const char *path, struct error *err)
{
    if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT) {
        return error_sys(err, -errno, "unbind %s", path);
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        return error_sys(err, -errno, "remove %s", path);
    }
    return 0;
}

int netns_identify(int fd, struct netns_id *ret)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    ret->device = st.st_dev;
    ret->inode = st.st_ino;
    return 0;
}

bool netns_same(const struct netns_id *a, const struct netns_id *b)
{
    return a->device == b->device && a->inode == b->inode;
}
