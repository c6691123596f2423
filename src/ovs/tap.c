/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The taps of a private Open vSwitch whose ovs-vswitchd was killed: it makes internal ports as
 * persistent taps (its lib/netdev-linux.c), which stay until someone lets go of them.
 */
#include "netlink/netlink.h"
#include "ovs/ovs-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define BATCH   256 /* descriptors held at a time: the usual limit is 1024 */
#define THREADS 64

/* ---- while ovs-vswitchd lives ---- */

/* A descriptor of ours for one of its, if that is a tap in another namespace than home. */
static void release_one(int pidfd, int fd, const struct netns_id *home)
{
    autoclose int tap = pidfd_getfd(pidfd, fd, 0), netns_fd = -1;
    struct netns_id id;

    if (tap < 0) {
        return;
    }
    netns_fd = ioctl(tap, TUNGETDEVNETNS);
    if (netns_fd >= 0 && netns_identify(netns_fd, &id) == 0 && !netns_same(&id, home)) {
        ioctl(tap, TUNSETPERSIST, 0);
    }
}

void ovs_taps_release_moved(pid_t pid, int netns_fd)
{
    autofree char *path = str_printf("/proc/%d/fd", (int)pid);
    autoclose int pidfd = pidfd_open(pid, 0);
    DIR *fds = path ? opendir(path) : NULL;
    const struct dirent *entry;
    struct netns_id home;

    while (fds && pidfd >= 0 && netns_identify(netns_fd, &home) == 0 && (entry = readdir(fds))) {
        char target[32] = "";
        int64_t fd;

        if (str_to_int64(entry->d_name, 0, INT32_MAX, &fd) == 0 &&
            readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1) > 0 &&
            !strcmp(target, "/dev/net/tun")) {
            release_one(pidfd, (int)fd, &home);
        }
    }
    if (fds) {
        closedir(fds);
    }
}

/* ---- when it is dead ---- */

/* Opens the tap, in the calling thread's namespace, and makes it go with the descriptor. -EBUSY
 * when a process holds it. */
static int adopt(const char *name, int *ret_fd)
{
    autoclose int fd = -1;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};

    if (str_copy(request.ifr_name, sizeof(request.ifr_name), name) < 0 || !if_nametoindex(name)) {
        return -ENODEV;
    }
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 0) < 0) {
        return -errno;
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

struct closing {
    const int *fds;
    size_t n;
    atomic_size_t next;
};

static void *close_some(void *cookie)
{
    struct closing *closing = cookie;
    size_t i;

    while ((i = atomic_fetch_add(&closing->next, 1)) < closing->n) {
        close(closing->fds[i]);
    }
    return NULL;
}

/* Each close of a tap waits for an RCU grace period (16 ms), and those of several threads for the
 * same one. */
static void close_together(const int *fds, size_t n)
{
    struct closing closing = {.fds = fds, .n = n};
    pthread_t threads[THREADS];
    size_t started = 0;

    while (started < THREADS && started + 1 < n &&
           pthread_create(&threads[started], NULL, close_some, &closing) == 0) {
        started++;
    }
    close_some(&closing);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
}

int ovs_taps_remove(int netns_fd, const json_t *names, struct error *err)
{
    size_t i = 0, n = json_array_size(names);
    int saved = -1, rc = netns_enter(netns_fd, &saved, err);

    if (rc < 0) {
        return rc;
    }
    while (i < n) {
        int fds[BATCH];
        size_t held = 0;

        for (; i < n && held < BATCH; i++) {
            const char *name = json_string_value(json_array_get(names, i));

            if (name && adopt(name, &fds[held]) == 0) {
                held++;
            }
        }
        close_together(fds, held);
    }
    rc = netns_leave(&saved);
    return rc < 0 ? error_sys(err, rc, "return to the network namespace") : 0;
}
