/* SPDX-License-Identifier: Apache-2.0 */
/* Taps: /dev/net/tun, Documentation/networking/tuntap.rst. */
#include "netlink/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

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
        rc = error_sys(err, -errno, "make tap %s", name);
    }
    if (netns_fd >= 0 && netns_leave(&saved) < 0) {
        return error_set(err, -EIO, "cannot get back to the first network namespace");
    }
    if (rc == 0) {
        *ret_fd = take_fd(&fd);
    }
    return rc;
}
