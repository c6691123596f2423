/* SPDX-License-Identifier: Apache-2.0 */
/* Taps: /dev/net/tun, Documentation/networking/tuntap.rst. */
#include "netlink/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int tap_open(int netns_fd, const char *name, short flags, bool persist, int *ret_fd,
             struct error *err)
{
    struct ifreq request = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
    autoclose int fd = -1;
    int saved = -1, rc = 0;

    if (str_copy(request.ifr_name, sizeof(request.ifr_name), name) < 0) {
        return error_set(err, -EINVAL, "tap %s: a name has at most %d characters", name,
                         IFNAMSIZ - 1);
    }
    if (netns_fd >= 0) {
        rc = netns_enter(netns_fd, &saved, err);
        if (rc < 0) {
            return rc;
        }
    }
    /* A tap belongs to the namespace in which /dev/net/tun was opened. */
    fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        rc = error_sys(err, -errno, "open /dev/net/tun");
    } else if (ioctl(fd, TUNSETIFF, &request) < 0 || (persist && ioctl(fd, TUNSETPERSIST, 1) < 0)) {
        rc = error_sys(err, -errno, "%s tap %s", persist ? "make" : "open", name);
    }
    if (netns_fd >= 0 && netns_leave(&saved) < 0) {
        return error_set(err, -EIO, "cannot get back to the first network namespace");
    }
    if (rc == 0) {
        *ret_fd = take_fd(&fd);
    }
    return rc;
}

/* Reads "MAJOR:MINOR" of the one tap that a device's folder in /sys holds. */
static int tap_numbers(const char *folder, dev_t *ret)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    unsigned major_number, minor_number;
    int rc = -ENODEV;

    while (dir && rc < 0 && (entry = readdir(dir))) {
        autofree char *path = str_printf("%s/%s/dev", folder, entry->d_name), *text = NULL;

        if (path && str_has_prefix(entry->d_name, "tap") && file_read(path, 64, &text, NULL) == 0 &&
            sscanf(text, "%u:%u", &major_number, &minor_number) == 2) {
            *ret = makedev(major_number, minor_number);
            rc = 0;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return rc;
}

/* A node of our own: opened and removed at once. */
static int open_node(dev_t numbers)
{
    char path[] = "/dev/.sluice-XXXXXX";
    int fd, rc = -EEXIST;

    for (int tries = 0; tries < 100 && rc == -EEXIST; tries++) {
        char name[14];
        uint64_t random;

        if (random_fill(&random, sizeof(random)) < 0) {
            return -EIO;
        }
        hash64_text(random, name);
        memcpy(strchr(path, '-') + 1, name, 6);
        rc = mknod(path, S_IFCHR | 0600, numbers) < 0 ? -errno : 0;
    }
    if (rc < 0) {
        return rc;
    }
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    rc = fd < 0 ? -errno : fd;
    unlink(path);
    return rc;
}

int macvtap_open(const char *name, int *ret_fd, struct error *err)
{
    static const char *const kinds[] = {"macvtap", "ipvtap"};
    dev_t numbers;
    int rc = -ENODEV;

    for (size_t i = 0; rc < 0 && i < ARRAY_SIZE(kinds); i++) {
        autofree char *folder = str_printf("/sys/class/net/%s/%s", name, kinds[i]);

        rc = folder ? tap_numbers(folder, &numbers) : -ENOMEM;
    }
    if (rc == 0) {
        rc = open_node(numbers);
    }
    if (rc < 0) {
        return error_sys(err, rc, "open the tap of %s", name);
    }
    *ret_fd = rc;
    return 0;
}
