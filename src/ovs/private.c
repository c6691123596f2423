/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private Open vSwitch in <instance>/ovs: database, sockets, pid files, logs. Every step looks at
 * what is there already, so that a start or a stop that was cut off is completed by the next one.
 */
#include "netlink/netlink.h"
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TOOL     "/usr/bin/ovsdb-tool"
#define SCHEMA   "/usr/share/openvswitch/vswitch.ovsschema"
#define DATAPATH "ovs-netdev" /* the device of the userspace datapath */

#define START_NS  (60 * NSEC_PER_SEC)
#define STOP_NS   (60 * NSEC_PER_SEC)
#define STATUS_NS (2 * NSEC_PER_SEC)

/* Where things are; dir is <instance>/ovs without links or dots. */
struct layout {
    char dir[PATH_MAX];
    char instance[PATH_MAX - 16];
};

static int find_layout(const char *instance, struct layout *ret, struct error *err)
{
    autofree char *real = realpath(instance, NULL);
    int rc = real ? str_copy(ret->instance, sizeof(ret->instance), real) : -errno;

    if (rc < 0) {
        return error_sys(err, rc, "instance directory %s", instance);
    }
    snprintf(ret->dir, sizeof(ret->dir), "%s/ovs", ret->instance);
    return 0;
}

static int lock_layout(const struct layout *at, int *ret_fd, struct error *err)
{
    autofree char *path = str_printf("%s/ovs.lock", at->instance);
    int rc = path ? file_lock(path, false, ret_fd) : -ENOMEM;

    return rc < 0 ? error_sys(err, rc, "lock %s/ovs.lock", at->instance) : 0;
}

/* ---- what must be so before anything is started ---- */

/* The longest socket is that of a bridge's OpenFlow, or a daemon's control socket. */
static int check_paths(const struct ovs_private_options *options, const struct layout *at,
                       struct error *err)
{
    static const char *const sockets[] = {"db.sock", "ovs-vswitchd.ctl", "ovsdb-server.ctl"};
    const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    const char *longest = sockets[0], *suffix = "";

    for (size_t i = 0; i < ARRAY_SIZE(sockets); i++) {
        longest = strlen(sockets[i]) > strlen(longest) ? sockets[i] : longest;
    }
    for (size_t i = 0; i < options->n_bridges; i++) {
        int rc = ovs_name_check("bridge", options->bridges[i], err);

        if (rc < 0) {
            return rc;
        }
        if (strlen(options->bridges[i]) + strlen(".snoop") > strlen(longest) + strlen(suffix)) {
            longest = options->bridges[i];
            suffix = ".snoop";
        }
    }
    if (strlen(at->dir) + 1 + strlen(longest) + strlen(suffix) > max) {
        return error_set(err, -ENAMETOOLONG,
                         "the path of the socket %s/%s%s has %zu bytes; a unix socket's may have "
                         "%zu: choose a shorter instance directory",
                         at->dir, longest, suffix,
                         strlen(at->dir) + 1 + strlen(longest) + strlen(suffix), max);
    }
    return 0;
}

/* The namespace that the devices are in, kept for a stop that finds no process to ask. */
static int record_netns(const struct layout *at, const struct netns_id *id)
{
    autofree char *path = str_printf("%s/netns", at->dir);
    char text[64];
    int len = snprintf(text, sizeof(text), "%llu:%llu\n", (unsigned long long)id->device,
                       (unsigned long long)id->inode);

    return path ? file_write_atomic(path, text, (size_t)len, 0600) : -ENOMEM;
}

static bool recorded_netns(const struct layout *at, struct netns_id *ret)
{
    autofree char *path = str_printf("%s/netns", at->dir);
    autofree char *text = NULL;
    unsigned long long device, inode;

    if (!path || file_read(path, 64, &text, NULL) < 0 ||
        sscanf(text, "%llu:%llu", &device, &inode) != 2) {
        return false;
    }
    ret->device = device;
    ret->inode = inode;
    return true;
}

/* Refuses when ovs-vswitchd runs already in another namespace; else records the caller's. */
static int settle_netns(const struct layout *at, pid_t vswitchd, struct error *err)
{
    autoclose int own_fd = -1, its_fd = -1;
    struct netns_id own, its;
    int rc = netns_open_own(&own_fd, err);

    if (rc < 0) {
        return rc;
    }
    rc = netns_identify(own_fd, &own);
    if (rc == 0 && vswitchd) {
        rc = ovs_daemon_netns(vswitchd, &its_fd, err);
        if (rc < 0) {
            return rc;
        }
        rc = netns_identify(its_fd, &its);
        if (rc == 0 && !netns_same(&own, &its)) {
            return error_set(err, -EEXIST,
                             "ovs-vswitchd of %s (pid %d) runs in another network namespace",
                             at->instance, (int)vswitchd);
        }
    }
    if (rc == 0) {
        rc = record_netns(at, &own);
    }
    return rc < 0 ? error_sys(err, rc, "record the network namespace in %s", at->dir) : 0;
}

/* ---- the database ---- */

/* Runs ovsdb-tool; its output goes to *ret_out, which may be NULL. */
static int run_tool(const char *command, const char *database, const char *argument, char **ret_out,
                    struct error *err)
{
    const char *argv[] = {TOOL, "-vconsole:off", "-vsyslog:off", command, database, argument, NULL};
    struct proc_spec spec = {
        .argv = argv, .output_max = OVSDB_MESSAGE_MAX, .deadline_ns = clock_ns() + START_NS};
    struct proc_result result;
    int rc = proc_run(&spec, &result);

    if (rc < 0) {
        return error_sys(err, rc, "run %s", TOOL);
    }
    if (!proc_ok(&result)) {
        rc = error_set(err, -EIO, "%s %s: %.400s", TOOL, command,
                       result.errout && *result.errout ? result.errout : "it failed");
    } else if (ret_out) {
        *ret_out = take_ptr(result.out);
    }
    proc_result_clear(&result);
    return rc;
}

/* Made under another name first, so that what has the name is whole. */
static int make_database(const struct layout *at, struct error *err)
{
    autofree char *path = str_printf("%s/conf.db", at->dir);
    autofree char *fresh = str_printf("%s/conf.db.new", at->dir);
    int rc;

    if (!path || !fresh) {
        return error_sys(err, -ENOMEM, "make the database");
    }
    if (access(path, F_OK) == 0) {
        return 0;
    }
    unlink(fresh);
    rc = run_tool("create", fresh, SCHEMA, NULL, err);
    if (rc == 0 && rename(fresh, path) < 0) {
        rc = error_sys(err, -errno, "rename %s", fresh);
    }
    return rc;
}

static int connect_layout(const struct layout *at, int64_t deadline_ns, struct ovsdb **ret,
                          struct error *err)
{
    autofree char *path = str_printf("%s/db.sock", at->dir);

    return path ? ovsdb_connect(path, deadline_ns, ret, err)
                : error_sys(err, -ENOMEM, "connect to OVSDB");
}

/* "3.1.0" out of "ovs-vswitchd (Open vSwitch) 3.1.0\n..."; "" when it does not tell. */
static void run_version(char *version, size_t size)
{
    const char *argv[] = {ovs_daemon_switch.path, "--version", NULL};
    struct proc_spec spec = {
        .argv = argv, .output_max = 4096, .deadline_ns = clock_ns() + STATUS_NS};
    struct proc_result result = {0};
    const char *at = proc_run(&spec, &result) == 0 && result.out ? strstr(result.out, ") ") : NULL;

    snprintf(version, size, "%.*s", at ? (int)strcspn(at + 2, " \n") : 0, at ? at + 2 : "");
    proc_result_clear(&result);
}

/* The one row of the table Open_vSwitch, without which ovs-vswitchd does nothing. */
static int init_database(struct ovsdb *db, int64_t deadline_ns, struct error *err)
{
    autojson json_t *found = NULL, *made = NULL;
    char version[32];
    json_t *row;
    int rc =
        ovsdb_transact(db, json_pack("[o]", ovsdb_select("Open_vSwitch", json_array(), "_uuid")),
                       deadline_ns, &found, err);

    if (rc < 0 || json_array_size(ovsdb_rows(found, 0)) > 0) {
        return rc;
    }
    run_version(version, sizeof(version));
    row = json_pack("{s:s}", "ovs_version", version);
    return ovsdb_transact(db, json_pack("[o]", ovsdb_insert("Open_vSwitch", "root", row)),
                          deadline_ns, &made, err);
}

/* ---- start ---- */

/* With DPDK where that is asked for, or was when it ran last. */
static int start_switch(const struct layout *at, struct ovsdb *db, unsigned hugepages,
                        int64_t deadline_ns, struct error *err)
{
    struct ovs_daemon daemon = ovs_daemon_switch;
    bool running = ovs_daemon_find(&daemon, at->dir);
    autoclose int lock = -1; /* until it has its memory */
    int rc = ovs_dpdk_settle(db, hugepages, running, deadline_ns, &hugepages, err);

    if (rc < 0 || running) {
        return rc;
    }
    if (hugepages) {
        daemon = ovs_daemon_switch_dpdk;
        rc = ovs_hugepages_reserve(at->dir, hugepages, &lock, err);
    }
    if (ovs_kernel_used(at->dir)) {
        daemon.options[ARRAY_SIZE(daemon.options) - 1] = NULL; /* --disable-system */
    }
    return rc < 0 ? rc : ovs_daemon_start(&daemon, at->dir, deadline_ns, err);
}

static int start_daemons(const struct layout *at, unsigned hugepages, int64_t deadline_ns,
                         struct ovsdb **ret_db, struct error *err)
{
    autoovsdb struct ovsdb *db = NULL;
    int rc = 0;

    if (!ovs_daemon_find(&ovs_daemon_server, at->dir)) {
        rc = make_database(at, err);
        if (rc == 0) {
            rc = ovs_daemon_start(&ovs_daemon_server, at->dir, deadline_ns, err);
        }
    }
    if (rc == 0) {
        rc = connect_layout(at, deadline_ns, &db, err);
    }
    if (rc == 0) {
        rc = init_database(db, deadline_ns, err);
    }
    if (rc == 0) {
        rc = start_switch(at, db, hugepages, deadline_ns, err);
    }
    if (rc == 0) {
        *ret_db = take_ptr(db);
    }
    return rc;
}

int ovs_private_up(const struct ovs_private_options *options, struct error *err)
{
    int64_t deadline_ns = clock_ns() + START_NS;
    autoovsdb struct ovsdb *db = NULL;
    autoclose int lock = -1;
    struct error undo;
    struct layout at;
    bool in_kernel;
    pid_t running;
    int rc = dir_make(options->instance, 0755);

    if (rc < 0) {
        return error_sys(err, rc, "make the instance directory %s", options->instance);
    }
    rc = find_layout(options->instance, &at, err);
    if (rc == 0) {
        rc = check_paths(options, &at, err);
    }
    if (rc == 0) {
        rc = lock_layout(&at, &lock, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = dir_make(at.dir, 0700);
    if (rc < 0) {
        return error_sys(err, rc, "make %s", at.dir);
    }
    running = ovs_daemon_find(&ovs_daemon_switch, at.dir);
    rc = settle_netns(&at, running, err);
    in_kernel = options->datapath && !strcmp(options->datapath, "system");
    if (rc == 0 && (in_kernel || ovs_kernel_used(at.dir))) {
        rc = ovs_kernel_claim(at.dir, running, err);
    }
    if (rc == 0) {
        rc = start_daemons(&at, options->hugepages, deadline_ns, &db, err);
    }
    if (rc == 0) {
        rc = ovs_bridges_make(db, at.dir, options, deadline_ns, err);
    }
    if (rc == 0) {
        instance_register(options->instance);
    } else if (!running) {
        /* Daemons without their bridges would pass for the instance's OVS. */
        close(take_fd(&lock));
        ovs_private_down(options->instance, &undo);
    }
    return rc;
}

/* ---- stop ---- */

/* The namespace of ovs-vswitchd or, when that is dead, of ovsdb-server, or the caller's if that is
 * where they were; -1 when nobody knows. */
static int find_netns(const struct layout *at, pid_t vswitchd)
{
    pid_t pid = vswitchd ? vswitchd : ovs_daemon_find(&ovs_daemon_server, at->dir);
    struct netns_id recorded, own;
    autoclose int fd = -1;

    if (pid && ovs_daemon_netns(pid, &fd, NULL) == 0) {
        return take_fd(&fd);
    }
    if (recorded_netns(at, &recorded) && netns_open_own(&fd, NULL) == 0 &&
        netns_identify(fd, &own) == 0 && netns_same(&own, &recorded)) {
        return take_fd(&fd);
    }
    return -1;
}

/* Names of the internal ports that the database file has, and of the datapath's device. */
static int read_tap_names(const struct layout *at, json_t **ret_names, struct error *err)
{
    autofree char *path = str_printf("%s/conf.db", at->dir);
    autofree char *text = NULL;
    autojson json_t *results = NULL, *names = json_pack("[s]", DATAPATH);
    const json_t *row;
    size_t i;
    int rc = 0;

    if (!path || !names) {
        return error_sys(err, -ENOMEM, "read the database");
    }
    if (access(path, F_OK) == 0) {
        rc =
            run_tool("query", path,
                     "[\"Open_vSwitch\", {\"op\": \"select\", \"table\": \"Interface\", \"where\": "
                     "[[\"type\", \"==\", \"internal\"]], \"columns\": [\"name\"]}]",
                     &text, err);
        if (rc == 0) {
            rc = json_parse(text, strlen(text), &results, err);
        }
    }
    json_array_foreach (ovsdb_rows(results, 0), i, row) {
        json_array_append(names, json_object_get(row, "name"));
    }
    *ret_names = take_ptr(names);
    return rc;
}

int ovs_private_down(const char *instance, struct error *err)
{
    int64_t deadline_ns = clock_ns() + STOP_NS;
    autoclose int lock = -1, netns_fd = -1;
    autojson json_t *names = NULL;
    struct error damaged; /* a database that cannot be read must not keep us from removing it */
    struct layout at;
    pid_t vswitchd;
    int rc = find_layout(instance, &at, err);

    if (rc == -ENOENT) {
        return 0;
    }
    if (rc == 0) {
        rc = lock_layout(&at, &lock, err);
    }
    if (rc < 0) {
        return rc;
    }
    vswitchd = ovs_daemon_find(&ovs_daemon_switch, at.dir);
    netns_fd = find_netns(&at, vswitchd);
    if (vswitchd && netns_fd >= 0) {
        ovs_taps_release_moved(vswitchd, netns_fd);
    }
    rc = ovs_daemon_stop(&ovs_daemon_switch, at.dir, deadline_ns, err);
    if (rc == 0) {
        rc = ovs_daemon_stop(&ovs_daemon_server, at.dir, deadline_ns, err);
    }
    if (rc == 0 && netns_fd >= 0) {
        read_tap_names(&at, &names, &damaged);
        rc = ovs_taps_remove(netns_fd, names, err);
    }
    if (rc == 0 && netns_fd >= 0) {
        rc = ovs_kernel_remove(at.dir, netns_fd, err);
    }
    if (rc == 0) {
        rc = ovs_hugepages_return(at.dir, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = dir_remove(at.dir);
    if (rc < 0) {
        return error_sys(err, rc, "remove %s", at.dir);
    }
    instance_forget_unused(instance);
    return 0;
}

/* ---- status ---- */

static void read_root(const struct layout *at, struct ovs_private_status *ret)
{
    int64_t deadline_ns = clock_ns() + STATUS_NS;
    autoovsdb struct ovsdb *db = NULL;
    autojson json_t *results = NULL;
    const json_t *row;
    const char *text;
    int rc = connect_layout(at, deadline_ns, &db, NULL);

    if (rc == 0) {
        rc = ovsdb_transact(db,
                            json_pack("[o]", ovsdb_select("Open_vSwitch", json_array(),
                                                          "ovs_version dpdk_initialized")),
                            deadline_ns, &results, NULL);
    }
    if (rc < 0) {
        return;
    }
    row = json_array_get(ovsdb_rows(results, 0), 0);
    ret->dpdk = json_is_true(json_object_get(row, "dpdk_initialized"));
    text = json_string_value(json_object_get(row, "ovs_version"));
    str_copy(ret->version, sizeof(ret->version), text ? text : "");
}

int ovs_private_status(const char *instance, struct ovs_private_status *ret, struct error *err)
{
    struct ovs_private_status status = {0};
    struct layout at;
    int rc = find_layout(instance, &at, err);

    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    if (rc == 0) {
        status.ovsdb_pid = ovs_daemon_find(&ovs_daemon_server, at.dir);
        status.vswitchd_pid = ovs_daemon_find(&ovs_daemon_switch, at.dir);
        status.running = status.ovsdb_pid && status.vswitchd_pid;
    }
    if (status.running) {
        read_root(&at, &status);
    }
    *ret = status;
    return 0;
}
