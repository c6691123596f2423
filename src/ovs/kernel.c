/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's datapath of a private Open vSwitch. A network namespace has one for all OVSes in it,
 * and ovs-vswitchd takes away what it does not know there: so a file says whose it is. It outlives
 * ovs-vswitchd.
 */
#include "netlink/netlink.h"
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DATAPATH "ovs-system" /* what ovs-vswitchd calls it */
#define MARK_MAX 128

static char *mark_path(const char *dir)
{
    return str_printf("%s/kernel-datapath", dir);
}

/* What the file says: this boot and namespace. */
static int write_mark(int netns_fd, char mark[MARK_MAX])
{
    struct netns_id id;
    char boot[37];
    int rc = boot_id(boot);

    if (rc == 0) {
        rc = netns_identify(netns_fd, &id);
    }
    if (rc == 0) {
        snprintf(mark, MARK_MAX, "%s %llu:%llu\n", boot, (unsigned long long)id.device,
                 (unsigned long long)id.inode);
    }
    return rc;
}

static bool is_ours(const char *dir, const char *mark)
{
    autofree char *path = mark_path(dir), *text = NULL;

    return path && file_read(path, MARK_MAX, &text, NULL) == 0 && !strcmp(text, mark);
}

bool ovs_kernel_used(const char *dir)
{
    autofree char *path = mark_path(dir);

    return path && access(path, F_OK) == 0;
}

int ovs_kernel_claim(const char *dir, bool running, struct error *err)
{
    autofree char *path = mark_path(dir);
    autoclose int netns_fd = -1;
    char mark[MARK_MAX];
    int rc = netns_open_own(&netns_fd, err);

    if (rc < 0) {
        return rc;
    }
    rc = path ? write_mark(netns_fd, mark) : -ENOMEM;
    if (rc < 0) {
        return error_sys(err, rc, "look at the network namespace");
    }
    if (is_ours(dir, mark)) {
        return 0;
    }
    if (running) {
        return error_set(err, -EBUSY,
                         "ovs-vswitchd of %s was started without the kernel's datapath: stop it "
                         "first",
                         dir);
    }
    rc = datapath_find(netns_fd, DATAPATH, err);
    if (rc == 0) {
        return error_set(err, -EBUSY,
                         "another Open vSwitch has the kernel's datapath of this network "
                         "namespace (%s)",
                         DATAPATH);
    }
    if (rc != -ENODEV) {
        return rc;
    }
    rc = file_write_atomic(path, mark, strlen(mark), 0600);
    return rc < 0 ? error_sys(err, rc, "write %s", path) : 0;
}

int ovs_kernel_remove(const char *dir, int netns_fd, struct error *err)
{
    char mark[MARK_MAX];

    return write_mark(netns_fd, mark) == 0 && is_ours(dir, mark)
               ? datapath_delete(netns_fd, DATAPATH, err)
               : 0;
}
