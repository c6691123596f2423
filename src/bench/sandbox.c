/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandbox `process`: a pause process in the pod's namespaces, in cgroups of its own: what a runtime
 * without a VM does, without a runtime. Works with cgroup v1 hierarchies and with v2.
 */
#include "bench/bench-internal.h"
#include "netlink/netlink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUP_ROOT   "/sys/fs/cgroup"
#define READY_WAIT_MS 60000
#define REMOVE_TRIES  200

/* Hierarchies that a container gets a group in; "" is v2's only one. */
static const char *const hierarchies_v1[] = {"cpu", "memory", "pids", NULL};
static const char *const hierarchies_v2[] = {"", NULL};

static const char *const *hierarchies(void)
{
    return access(CGROUP_ROOT "/cgroup.controllers", F_OK) == 0 ? hierarchies_v2 : hierarchies_v1;
}

static bool group_path(const struct bench_pod *pod, const char *hierarchy, const char *file,
                       char *buf, size_t size)
{
    snprintf(buf, size, "%s/%s", CGROUP_ROOT, hierarchy);
    if (access(buf, F_OK) < 0) {
        return false; /* a hierarchy that this host has not mounted */
    }
    return snprintf(buf, size, "%s/%s/sluice/%s/%s", CGROUP_ROOT, hierarchy, pod->container_id,
                    file) < (int)size;
}

static int make_groups(struct bench_pod *pod, struct error *err)
{
    char path[512];
    int rc = 0;

    for (const char *const *h = hierarchies(); *h && rc == 0; h++) {
        if (group_path(pod, *h, "", path, sizeof(path))) {
            path[strlen(path) - 1] = '\0';
            rc = dir_make(path, 0755);
        }
    }
    return rc < 0 ? error_sys(err, rc, "create cgroup %s", path) : 0;
}

static int write_file(const char *path, const char *text)
{
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

/* The process joins its groups; a limit that a hierarchy does not have is none. */
static int set_limits(struct bench_pod *pod, struct error *err)
{
    static const char *const limits[][2] = {
        {"pids.max", "64"}, {"memory.limit_in_bytes", "134217728"}, {"memory.max", "134217728"}};
    char path[512], pid[16];
    int rc;

    snprintf(pid, sizeof(pid), "%d", (int)pod->pause_pid);
    for (const char *const *h = hierarchies(); *h; h++) {
        for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
            if (group_path(pod, *h, limits[i][0], path, sizeof(path)) && access(path, W_OK) == 0 &&
                (rc = write_file(path, limits[i][1])) < 0) {
                return error_sys(err, rc, "write %s", path);
            }
        }
        if (group_path(pod, *h, "cgroup.procs", path, sizeof(path)) &&
            (rc = write_file(path, pid)) < 0) {
            return error_sys(err, rc, "write %s", path);
        }
    }
    return 0;
}

/*
 * Started from inside the pod's network namespace; one byte on its standard output means ready. Its
 * argument is for `sluice clean`, which must know it before it is in a cgroup.
 */
static int start_pause(struct bench_pod *pod, struct error *err)
{
    const char *const argv[] = {pod->run->options->pause, pod->container_id, NULL};
    autoclose int netns = -1, ready = -1, child_end = -1;
    int saved = -1, ends[2], rc = netns_open(pod->netns_path, &netns, err);
    struct pollfd wait;
    char byte;

    if (rc < 0) {
        return rc;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return error_sys(err, -errno, "pipe");
    }
    ready = ends[0];
    child_end = ends[1];
    rc = netns_enter(netns, &saved, err);
    if (rc < 0) {
        return rc;
    }
    rc = proc_start(argv, NULL, child_end, &pod->pause_pid);
    if (netns_leave(&saved) < 0) {
        return error_set(err, -EIO, "cannot get back to the first network namespace");
    }
    if (rc < 0) {
        pod->pause_pid = 0;
        return error_sys(err, rc, "start %s", argv[0]);
    }
    close(take_fd(&child_end));
    wait = (struct pollfd){.fd = ready, .events = POLLIN};
    if (poll(&wait, 1, READY_WAIT_MS) != 1 || read(ready, &byte, 1) != 1) {
        return error_set(err, -EIO, "%s did not become ready", argv[0]);
    }
    return 0;
}

int bench_sandbox_start(struct bench_pod *pod, struct error *err)
{
    int rc = bench_pod_gated(pod, "cgroup", make_groups, err);

    if (rc == 0) {
        rc = bench_pod_gated(pod, "vm", start_pause, err);
    }
    return rc < 0 ? rc : bench_pod_gated(pod, "limits", set_limits, err);
}

int bench_sandbox_left(const struct bench_run *run)
{
    int left = 0;

    for (const char *const *h = hierarchies(); *h; h++) {
        char path[128], prefix[16];
        struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof(path), "%s/%s/sluice", CGROUP_ROOT, *h);
        snprintf(prefix, sizeof(prefix), "b%s-", run->id);
        dir = opendir(path);
        while (dir && (entry = readdir(dir))) {
            left += str_has_prefix(entry->d_name, prefix);
        }
        if (dir) {
            closedir(dir);
            rmdir(path); /* fails while any pod has a group in it */
        }
    }
    return left;
}

/* An empty group stays busy for a moment after its last process was reaped. */
static int remove_group(const char *path)
{
    for (int i = 0; i < REMOVE_TRIES; i++) {
        if (rmdir(path) == 0 || errno == ENOENT) {
            return 0;
        }
        if (errno != EBUSY) {
            return -errno;
        }
        clock_sleep_ns(5 * NSEC_PER_MSEC);
    }
    return -EBUSY;
}

int bench_sandbox_stop(struct bench_pod *pod, struct error *err)
{
    int64_t t0 = clock_ns();
    char path[512];
    int rc = 0;

    if (pod->pause_pid) {
        kill(pod->pause_pid, SIGKILL);
        while (waitpid(pod->pause_pid, NULL, 0) < 0 && errno == EINTR) {
        }
        pod->pause_pid = 0;
    }
    for (const char *const *h = hierarchies(); *h && rc == 0; h++) {
        if (group_path(pod, *h, "", path, sizeof(path))) {
            path[strlen(path) - 1] = '\0';
            rc = remove_group(path);
        }
    }
    span_end(pod->run->spans_fd, pod->container_id, "del.sandbox", t0, 0, rc == 0);
    return rc < 0 ? error_sys(err, rc, "remove cgroup %s", path) : 0;
}
