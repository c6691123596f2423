/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clean: takes away all that Sluice made and nothing else. Attachments go by DEL with the
 * configuration that their record holds; what has no record is known by its mark: a device's alias,
 * an OVS port's external_ids, a place below the instance's directory.
 */
#include "host/host.h"
#include "cni/cni.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_S  60
#define AGENT_END_S 3

struct clean {
    const char *instance;
    bool all_instances;
    char alias_prefix[KIND_ALIAS_MAX];
    struct kind_env env;
    struct host_clean_report *report;
    struct error first;
};

static void note(struct clean *clean, int rc, const struct error *err)
{
    if (rc < 0 && !clean->first.errnum) {
        clean->first = *err;
        clean->first.errnum = rc;
    }
}

/* Calls visit for each name in a directory; a directory that is not there has none. */
static void for_names(const char *path, void (*visit)(const char *name, void *cookie), void *cookie)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            visit(entry->d_name, cookie);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* ---- attachments ---- */

static int clean_record(const struct record *record, void *cookie)
{
    struct clean *clean = cookie;
    struct error err = {0};
    int rc = cni_del_record(clean->instance, record, &err);

    clean->report->attachments += rc == 0;
    note(clean, rc, &err);
    return 0;
}

/* ---- marked things ---- */

static int clean_device(const struct link_info *info, void *cookie)
{
    struct clean *clean = cookie;
    struct error err = {0};
    int rc;

    if (!str_has_prefix(info->alias, clean->all_instances ? "sluice/" : clean->alias_prefix)) {
        return 0;
    }
    rc = host_device_delete(&clean->env, info->name, &err);
    clean->report->devices += rc == 0;
    note(clean, rc, &err);
    return 0;
}

/* Ports in one OVS, if it answers at all: one that does not run has none that work. */
static void clean_ports(struct clean *clean, const char *socket_path)
{
    int64_t deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC;
    struct ovs_ports found = {0};
    const char **names = NULL;
    struct ovsdb *db = NULL;
    struct error err = {0};
    size_t n = 0;
    int rc;

    if (access(socket_path, F_OK) < 0 || ovsdb_connect(socket_path, deadline_ns, &db, NULL) < 0) {
        return;
    }
    rc = ovs_ports_list(db, NULL, true, deadline_ns, &found, &err);
    if (rc == 0 && found.n) {
        names = calloc(found.n, sizeof(*names));
        rc = names ? 0 : error_sys(&err, -ENOMEM, "ports");
    }
    for (size_t i = 0; rc == 0 && i < found.n; i++) {
        const char *owner = found.ports[i].owner.instance;

        if (clean->all_instances || (owner && !strcmp(owner, clean->instance))) {
            names[n++] = found.ports[i].name;
        }
    }
    if (rc == 0 && n) {
        rc = ovs_ports_del(db, names, n, true, deadline_ns, &err);
        clean->report->ports += rc == 0 ? (int)n : 0;
    }
    note(clean, rc, &err);
    free(names);
    ovs_ports_clear(&found);
    ovsdb_close(db);
}

/* A private switch takes its flows with it. */
static void clean_system_flows(struct clean *clean)
{
    struct kind_conf conf = {.socket_file = OVS_SYSTEM_SOCKET};
    struct error err = {0};

    note(clean, police_gc(&clean->env, &conf, clean->all_instances, &err), &err);
}

/* ---- what a bench that was killed leaves ---- */

static const char *const cgroup_roots[] = {"/sys/fs/cgroup/sluice", "/sys/fs/cgroup/cpu/sluice",
                                           "/sys/fs/cgroup/memory/sluice",
                                           "/sys/fs/cgroup/pids/sluice"};

struct bench_left {
    struct clean *clean;
    const char *run; /* name of the run's folder: its container IDs are b<run>-... */
    const char *cgroup_root;
};

/* A pause process says in its argument whose it is, from before it is in any cgroup. */
static void clean_process(const char *name, void *cookie)
{
    const struct bench_left *left = cookie;
    char path[64], target[PATH_MAX] = "";
    autofree char *arguments = NULL;
    const char *argument;
    size_t len;
    int64_t pid;

    if (str_to_int64(name, 1, INT32_MAX, &pid) < 0) {
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    if (readlink(path, target, sizeof(target) - 1) < 0 || !strstr(target, "/sluice-pause")) {
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    if (file_read(path, PATH_MAX, &arguments, &len) < 0 || strlen(arguments) + 1 >= len) {
        return;
    }
    argument = arguments + strlen(arguments) + 1;
    if (argument[0] == 'b' && str_has_prefix(argument + 1, left->run) &&
        kill((pid_t)pid, SIGKILL) == 0) {
        left->clean->report->processes++;
    }
}

static void clean_cgroup(const char *name, void *cookie)
{
    const struct bench_left *left = cookie;
    autofree char *path = str_printf("%s/%s", left->cgroup_root, name);

    if (!path || name[0] != 'b' || !str_has_prefix(name + 1, left->run)) {
        return;
    }
    for (int i = 0; i < 200; i++) {
        if (rmdir(path) == 0) {
            left->clean->report->cgroups++;
            return;
        }
        clock_sleep_ns(5 * NSEC_PER_MSEC);
    }
}

static void clean_namespace(const char *name, void *cookie)
{
    const struct bench_left *left = cookie;
    autofree char *path = str_printf("%s/bench/%s/%s", left->clean->instance, left->run, name);
    struct error err = {0};
    int rc = path ? netns_delete(path, &err) : error_sys(&err, -ENOMEM, "path");

    left->clean->report->namespaces += rc == 0;
    note(left->clean, rc, &err);
}

static void clean_bench_run(const char *name, void *cookie)
{
    struct bench_left left = {.clean = cookie, .run = name};
    autofree char *path = str_printf("%s/bench/%s", left.clean->instance, name);
    struct stat st;

    if (!path || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        return;
    }
    for_names("/proc", clean_process, &left);
    for (size_t i = 0; i < ARRAY_SIZE(cgroup_roots); i++) {
        left.cgroup_root = cgroup_roots[i];
        for_names(cgroup_roots[i], clean_cgroup, &left);
    }
    for_names(path, clean_namespace, &left);
}

static void clean_pool_namespace(const char *name, void *cookie)
{
    struct clean *clean = cookie;
    autofree char *path = str_printf("%s/pool/%s", clean->instance, name);
    struct error err = {0};
    int rc = path ? netns_delete(path, &err) : error_sys(&err, -ENOMEM, "path");

    clean->report->namespaces += rc == 0;
    note(clean, rc, &err);
}

/* An agent would go on serving what is taken away under it; none starts while *ret_fd (-1: there
 * is no lock) is open. */
static int lock_out_agent(const char *instance, int *ret_fd, struct error *err)
{
    autofree char *path = str_printf("%s/sluiced.lock", instance), *pid = NULL;
    autoclose int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    int64_t deadline_ns = clock_ns() + AGENT_END_S * NSEC_PER_SEC;
    int rc = fd >= 0 ? flock(fd, LOCK_EX | LOCK_NB) : 0;

    /* That of a bench that was killed is about to end. */
    while (rc < 0 && clock_left_ms(deadline_ns) > 0) {
        clock_sleep_ns(20 * NSEC_PER_MSEC);
        rc = flock(fd, LOCK_EX | LOCK_NB);
    }
    if (rc < 0) {
        fd_read_all(fd, 16, &pid, NULL);
        return error_set(err, -EBUSY, "an agent serves instance %s (process %s): stop it first",
                         instance, pid ? pid : "?");
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

/* A bench at work would have its pods taken away under it. */
static int check_no_bench(const char *instance, struct error *err)
{
    autofree char *path = str_printf("%s/bench/lock", instance);
    autoclose int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd >= 0 && fcntl(fd, F_SETLK, &lock) < 0) {
        return error_set(err, -EBUSY, "a bench is at work on instance %s: let it end first",
                         instance);
    }
    return 0;
}

/* Only what Sluice keeps there: a directory that a user named may hold other things. */
static void clean_files(struct clean *clean)
{
    static const char *const ours[] = {"attachments", "bench", "ipam",         "ovs.lock",
                                       "ports.lock",  "pool",  "sluiced.lock", "sluiced.sock",
                                       "state",       "vhost"};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        autofree char *path = str_printf("%s/%s", clean->instance, ours[i]);
        int rc = path ? dir_remove(path) : -ENOMEM;

        note(clean, rc < 0 ? error_sys(&err, rc, "remove %s", path ? path : ours[i]) : 0, &err);
    }
    rmdir(clean->instance);
    instance_forget(clean->instance);
}

/* One instance. Its records and leases stay when something of theirs could not be removed. */
static int clean_instance(const char *instance, bool all_marks, struct host_clean_report *report,
                          struct error *err)
{
    struct clean clean = {.instance = instance, .all_instances = all_marks, .report = report};
    autofree char *bench = str_printf("%s/bench", instance);
    autoclose int agent_lock = -1;
    struct ovs_private_status ovs;
    struct error later = {0};
    char socket_path[PATH_MAX];
    autofree char *pool = str_printf("%s/pool", instance);
    int rc = check_no_bench(instance, err);

    if (rc == 0) {
        rc = lock_out_agent(instance, &agent_lock, err);
    }
    if (rc == 0) {
        rc = kind_env_open(&clean.env, instance, NULL, err);
        clean.env.deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC;
    }
    if (rc < 0) {
        return rc;
    }
    attachment_alias_prefix(instance, clean.alias_prefix);
    if (bench) {
        for_names(bench, clean_bench_run, &clean);
    }
    note(&clean, record_list(instance, clean_record, &clean, &later), &later);
    note(&clean, link_list(clean.env.host, clean_device, &clean, &later), &later);
    ovs_socket_path(NULL, instance, socket_path, sizeof(socket_path));
    clean_ports(&clean, socket_path);
    if (strcmp(socket_path, OVS_SYSTEM_SOCKET) != 0) {
        clean_ports(&clean, OVS_SYSTEM_SOCKET);
    }
    clean_system_flows(&clean);
    if (ovs_private_status(instance, &ovs, NULL) == 0 && (ovs.ovsdb_pid || ovs.vswitchd_pid)) {
        report->switches++;
    }
    note(&clean, ovs_private_down(instance, &later), &later);
    if (pool) {
        for_names(pool, clean_pool_namespace, &clean);
    }
    if (!clean.first.errnum) {
        clean_files(&clean);
    }
    kind_env_close(&clean.env);
    if (clean.first.errnum) {
        *err = clean.first;
    }
    return clean.first.errnum;
}

struct clean_all {
    struct host_clean_report *report;
    struct error *err;
    int rc;
};

static void clean_noted(const char *instance, void *cookie)
{
    struct clean_all *all = cookie;
    struct error err = {0};
    int rc = strcmp(instance, INSTANCE_DEFAULT_DIR) == 0
                 ? 0
                 : clean_instance(instance, false, all->report, &err);

    if (rc < 0 && all->rc == 0) {
        all->rc = rc;
        *all->err = err;
    }
}

int host_clean(const char *instance, struct host_clean_report *ret, struct error *err)
{
    struct clean_all all = {.report = ret, .err = err};
    struct error later = {0};
    int rc;

    if (instance) {
        rc = clean_instance(instance, false, ret, err);
    } else {
        /* Those that were noted, each by its own records; then the default one and every mark. */
        instance_list(clean_noted, &all);
        rc = clean_instance(INSTANCE_DEFAULT_DIR, all.rc == 0, ret, all.rc < 0 ? &later : err);
        rc = all.rc < 0 ? all.rc : rc;
    }
    for (size_t i = 0; i < ARRAY_SIZE(cgroup_roots); i++) {
        rmdir(cgroup_roots[i]); /* goes when nobody has a group in it */
    }
    return rc;
}
