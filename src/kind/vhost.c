/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kind `ovs-vhost`: a port of Open vSwitch with DPDK that is a client of the socket that the pod's
 * VMM serves, so that either side may be started again. There is no device: addresses, MAC and MTU
 * are told, and the VM's business.
 *
 * The socket's folder is the pod's own, so that a VMM of another user can be let into this one, by
 * chown, and into no other's: INSTANCE/vhost/NAME/socket.
 */
#include "kind/kind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_MTU 1500

static char *pod_folder(const struct kind_env *env, const struct attachment *at)
{
    return str_printf("%s/vhost/%s", env->instance, at->host_name);
}

static int check_path(const struct attachment *at, struct error *err)
{
    const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    return strlen(at->socket_path) <= max
               ? 0
               : error_set(err, -ENAMETOOLONG,
                           "sluiceDir: the socket's path %s has %zu bytes; a unix socket's may "
                           "have %zu: choose a shorter instance directory",
                           at->socket_path, strlen(at->socket_path), max);
}

/*
 * Its owner may be a VMM's user, who must not have anything else removed under its names: the
 * folder is ours first, and no link is followed.
 */
static int remove_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = 0;
    struct dirent *entry;
    DIR *dir;

    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0700) < 0 || !(dir = fdopendir(fd))) {
        rc = -errno;
        close(fd);
        return rc;
    }
    while (rc == 0 && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
            unlinkat(fd, entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0) < 0 &&
            errno != ENOENT) {
            rc = -errno;
        }
    }
    closedir(dir);
    if (rc == 0 && rmdir(path) < 0 && errno != ENOENT) {
        rc = -errno;
    }
    return rc;
}

/* What a killed ADD left under the name goes first. The folder above lets everybody pass through.
 */
static int make_folder(struct kind_env *env, const struct attachment *at, struct error *err)
{
    autofree char *above = str_printf("%s/vhost", env->instance);
    autofree char *path = pod_folder(env, at);
    int rc;

    if (!above || !path) {
        return error_sys(err, -ENOMEM, "folder of the socket");
    }
    if (mkdir(above, 0711) == 0) {
        chmod(above, 0711); /* whatever the umask is */
    }
    rc = remove_folder(path);
    if (rc == 0 && mkdir(path, 0700) < 0) {
        rc = -errno;
    }
    return rc < 0 ? error_sys(err, rc, "create %s", path) : 0;
}

static int add(struct kind_env *env, struct attachment *at, struct error *err)
{
    int64_t t0 = clock_ns();
    int rc = check_path(at, err);

    at->mtu = at->conf.mtu ? at->conf.mtu : DEFAULT_MTU;
    if (rc == 0) {
        rc = make_folder(env, at, err);
    }
    if (rc == 0) {
        rc = port_add(env, at, PORT_VHOST, err);
    }
    attachment_span(env, at, "cni.ovs", t0, rc);
    return rc;
}

static int del(struct kind_env *env, struct attachment *at, struct error *err)
{
    autofree char *path = pod_folder(env, at);
    int rc = port_delete(env, at, err), folder_rc = path ? remove_folder(path) : -ENOMEM;

    if (rc == 0 && folder_rc < 0) {
        rc = error_sys(err, folder_rc, "remove %s", path ? path : "the socket's folder");
    }
    return rc;
}

static int look(struct kind_env *env, struct attachment *at)
{
    autofree char *path = pod_folder(env, at);

    at->mtu = at->conf.mtu ? at->conf.mtu : DEFAULT_MTU;
    return !path ? -ENOMEM : access(path, F_OK) < 0 ? -errno : 0;
}

static int check(struct kind_env *env, struct attachment *at, struct error *err)
{
    int rc = look(env, at);

    if (rc == -ENOENT) {
        return error_set(err, -ESTALE, "the folder of socket %s is gone", at->socket_path);
    }
    return rc < 0 ? error_sys(err, rc, "look up %s", at->socket_path)
                  : port_check(env, at, at->host_name, err);
}

const struct kind kind_ovs_vhost = {
    .type = "ovs-vhost",
    .does = "vhost-user port, its socket served by the VMM",
    .nic = "vhost-user",
    .needs_bridge = true,
    .own_port = true,
    .no_device = true,
    .add = add,
    .del = del,
    .check = check,
    .look = look,
};
