/* SPDX-License-Identifier: Apache-2.0 */
/* The two processes of a private Open vSwitch: started, found again, killed. */
#include "ovs/ovs-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define CMDLINE_MAX 65536

const struct ovs_daemon ovs_daemon_server = {
    .name = "ovsdb-server",
    .path = "/usr/sbin/ovsdb-server",
    .options = {"%s/conf.db", "--remote=punix:%s/db.sock"},
};

/*
 * Without --disable-system, which comes off where the kernel's datapath is ours, it would delete
 * kernel datapaths that another ovs-vswitchd made. Without --disable-system-route it would read all
 * devices and addresses anew whenever one of them changes, which is quadratic in pods; tunnels, if
 * ever, need `ovs-appctl ovs/route/add`. dpif_netdev has a line for each port of DPDK whenever one
 * comes.
 */
const struct ovs_daemon ovs_daemon_switch = {
    .name = "ovs-vswitchd",
    .path = "/usr/sbin/ovs-vswitchd",
    .options = {"unix:%s/db.sock", "--disable-system-route", "-vdpif_netdev:file:warn",
                "--disable-system"},
};

/* Debian's second build of it. */
const struct ovs_daemon ovs_daemon_switch_dpdk = {
    .name = "ovs-vswitchd",
    .path = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk",
    .options = {"unix:%s/db.sock", "--disable-system-route", "-vdpif_netdev:file:warn",
                "--disable-system"},
};

/* ---- finding ---- */

/* Whether the process is this daemon with this directory: by its name and its own arguments, so
 * that a pid that has gone to another process is told apart. */
static bool is_daemon(pid_t pid, const struct ovs_daemon *daemon, const char *dir)
{
    autofree char *comm_path = str_printf("/proc/%d/comm", (int)pid);
    autofree char *cmdline_path = str_printf("/proc/%d/cmdline", (int)pid);
    autofree char *wanted = str_printf("--pidfile=%s/%s.pid", dir, daemon->name);
    autofree char *comm = NULL, *cmdline = NULL;
    size_t len = 0;

    if (!comm_path || !cmdline_path || !wanted || file_read(comm_path, 64, &comm, NULL) < 0) {
        return false;
    }
    comm[strcspn(comm, "\n")] = '\0';
    /* "ovs-vswitchd-dp" is one too: the kernel cuts the program's name. */
    if (!str_has_prefix(comm, daemon->name) ||
        file_read(cmdline_path, CMDLINE_MAX, &cmdline, &len) < 0) {
        return false;
    }
    for (size_t i = 0; i < len; i += strlen(cmdline + i) + 1) {
        if (!strcmp(cmdline + i, wanted)) {
            return true;
        }
    }
    return false;
}

/* Open vSwitch's daemons hold a lock on their pid file as long as they live (its
 * lib/daemon-unix.c): the lock's owner is right where the text may be stale. */
static pid_t pid_file_owner(const struct ovs_daemon *daemon, const char *dir)
{
    autofree char *path = str_printf("%s/%s.pid", dir, daemon->name);
    autoclose int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK || lock.l_pid <= 0) {
        return 0;
    }
    return lock.l_pid;
}

pid_t ovs_daemon_find(const struct ovs_daemon *daemon, const char *dir)
{
    pid_t pid = pid_file_owner(daemon, dir), found = 0;
    const struct dirent *entry;
    DIR *proc;

    if (pid && is_daemon(pid, daemon, dir)) {
        return pid;
    }
    /* One that is just starting, or whose pid file someone removed. */
    proc = opendir("/proc");
    while (proc && !found && (entry = readdir(proc))) {
        int64_t number;

        if (str_to_int64(entry->d_name, 1, INT32_MAX, &number) == 0 &&
            is_daemon((pid_t)number, daemon, dir)) {
            found = (pid_t)number;
        }
    }
    if (proc) {
        closedir(proc);
    }
    return found;
}

int ovs_daemon_netns(pid_t pid, int *ret_fd, struct error *err)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? error_sys(err, -errno, "open %s", path) : 0;
}

/* ---- starting ---- */

#define ENV_N     6
#define OPTIONS_N 12

/* "NAME=dir" for every directory that Open vSwitch, or DPDK, would otherwise take from elsewhere.
 */
static int write_environment(const char *dir, char *env[ENV_N + 1])
{
    static const char *const names[] = {"OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR",
                                        "RUNTIME_DIRECTORY"};

    env[0] = strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        env[i + 1] = str_printf("%s=%s", names[i], dir);
    }
    for (size_t i = 0; i < ENV_N; i++) {
        if (!env[i]) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int write_arguments(const struct ovs_daemon *daemon, const char *dir,
                           char *argv[OPTIONS_N + 1])
{
    size_t n = 0;

    argv[n++] = strdup(daemon->path);
    for (size_t i = 0; i < ARRAY_SIZE(daemon->options) && daemon->options[i]; i++) {
        const char *at = strstr(daemon->options[i], "%s");

        argv[n++] = at ? str_printf("%.*s%s%s", (int)(at - daemon->options[i]), daemon->options[i],
                                    dir, at + 2)
                       : strdup(daemon->options[i]);
    }
    argv[n++] = str_printf("--pidfile=%s/%s.pid", dir, daemon->name);
    argv[n++] = str_printf("--unixctl=%s/%s.ctl", dir, daemon->name);
    argv[n++] = str_printf("--log-file=%s/%s.log", dir, daemon->name);
    argv[n++] = strdup("--no-chdir");
    argv[n++] = strdup("--detach");
    argv[n++] = strdup("-vconsole:off");
    argv[n++] = strdup("-vsyslog:off");
    for (size_t i = 0; i < n; i++) {
        if (!argv[i]) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void free_strings(char **strings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(strings[i]);
    }
}

int ovs_daemon_start(const struct ovs_daemon *daemon, const char *dir, int64_t deadline_ns,
                     struct error *err)
{
    char *env[ENV_N + 1] = {NULL}, *argv[OPTIONS_N + 1] = {NULL};
    struct proc_spec spec = {.argv = (const char *const *)argv,
                             .envp = (const char *const *)env,
                             .output_max = 65536,
                             .deadline_ns = deadline_ns};
    struct proc_result result = {0};
    int rc = write_environment(dir, env);

    if (rc == 0) {
        rc = write_arguments(daemon, dir, argv);
    }
    if (rc == 0) {
        rc = proc_run(&spec, &result);
    }
    free_strings(env, ENV_N);
    free_strings(argv, OPTIONS_N);
    if (rc < 0) {
        return error_sys(err, rc, "start %s", daemon->path);
    }
    if (!proc_ok(&result)) {
        rc = error_set(err, -EIO, "start %s: %.400s (see %s/%s.log)", daemon->path,
                       result.errout && *result.errout ? result.errout : "it failed", dir,
                       daemon->name);
    }
    proc_result_clear(&result);
    return rc;
}

/* ---- killing ---- */

/* Kills one process, if it is still the daemon, and waits until all of it has ended. */
static int kill_one(pid_t pid, const struct ovs_daemon *daemon, const char *dir,
                    int64_t deadline_ns, struct error *err)
{
    autoclose int fd = pidfd_open(pid, 0);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    int n;

    if (fd < 0) {
        return errno == ESRCH ? 0 : error_sys(err, -errno, "stop %s: pidfd_open", daemon->name);
    }
    if (!is_daemon(pid, daemon, dir)) { /* now that the pid cannot go to another */
        return 0;
    }
    if (pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
        return error_sys(err, -errno, "stop %s (pid %d)", daemon->name, (int)pid);
    }
    do {
        n = poll(&pfd, 1, clock_left_ms(deadline_ns));
    } while (n < 0 && errno == EINTR);
    return n > 0 ? 0
                 : error_set(err, -ETIMEDOUT, "%s (pid %d) was killed and does not end",
                             daemon->name, (int)pid);
}

int ovs_daemon_stop(const struct ovs_daemon *daemon, const char *dir, int64_t deadline_ns,
                    struct error *err)
{
    pid_t pid;

    while ((pid = ovs_daemon_find(daemon, dir))) {
        int rc = kill_one(pid, daemon, dir, deadline_ns, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}
