/* SPDX-License-Identifier: Apache-2.0 */
/* A set of runs: variants interleaved, their OVS, the result folder. */
#include "bench/bench-internal.h"
#include "kind/kind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

const char *const bench_sandbox_names[] = {"none", "process", NULL};

atomic_bool bench_interrupted;

static const struct bench_driver *const drivers[] = {&bench_driver_cni,        &bench_driver_pooled,
                                                     &bench_driver_standalone, &bench_driver_socket,
                                                     &bench_driver_conf,       &bench_driver_raw};

int bench_add_variant(struct bench_options *options, const char *driver, const char *what,
                      struct error *err)
{
    struct bench_variant variant = {.what = what};
    int rc;

    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (!strcmp(drivers[i]->name, driver)) {
            variant.driver = drivers[i];
        }
    }
    if (options->n_variants == ARRAY_SIZE(options->variants)) {
        return error_set(err, -EINVAL, "more than %zu variants", ARRAY_SIZE(options->variants));
    }
    rc = variant.driver->check(what, variant.name, err);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < options->n_variants; i++) {
        if (!strcmp(options->variants[i].name, variant.name)) {
            return error_set(err, -EEXIST, "there are two variants named %s", variant.name);
        }
    }
    options->variants[options->n_variants++] = variant;
    return 0;
}

const char *bench_variant_driver(const struct bench_variant *variant)
{
    return variant->driver->name;
}

static void on_signal(int number)
{
    (void)number;
    atomic_store(&bench_interrupted, true);
}

static void watch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN; /* whoever read our tables may go; the pods must still */
    sigaction(SIGPIPE, &action, NULL);
}

/* A pod's plugin needs four descriptors of ours while it runs. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int check_out(const char *out, struct error *err)
{
    autofree char *set = str_printf("%s/set.json", out);
    autofree char *runs = str_printf("%s/runs", out);
    int rc;

    if (!set || !runs) {
        return error_sys(err, -ENOMEM, "result folder");
    }
    if (access(set, F_OK) == 0 || access(runs, F_OK) == 0) {
        return error_set(err, -EEXIST, "%s holds a result already: name another folder", out);
    }
    rc = dir_make(runs, 0755);
    return rc < 0 ? error_sys(err, rc, "create %s", runs) : 0;
}

/* A folder without any run must not stand in the way of another try. */
static void drop_empty(const char *out)
{
    autofree char *runs = str_printf("%s/runs", out);

    if (runs && rmdir(runs) == 0) {
        rmdir(out);
    }
}

static json_t *set_json(const struct bench_options *options)
{
    char created[32];
    time_t now = time(NULL);
    struct tm utc;
    json_t *variants = json_array();

    strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    for (size_t i = 0; i < options->n_variants; i++) {
        const struct bench_variant *variant = &options->variants[i];

        json_array_append_new(variants,
                              json_pack("{s:s, s:s, s:s}", "name", variant->name, "driver",
                                        variant->driver->name, "network", variant->what));
    }
    return json_pack("{s:i, s:s, s:s, s:i, s:o, s:[]}", "v", 1, "sluice_version", SLUICE_VERSION,
                     "created", created, "repeat", options->repeat, "variants", variants, "runs");
}

static int save_set(const char *out, const json_t *set, struct error *err)
{
    autofree char *path = str_printf("%s/set.json", out);
    autofree char *text = json_dumps(set, JSON_INDENT(2));
    int rc = path && text ? file_write_atomic(path, text, strlen(text), 0644) : -ENOMEM;

    return rc < 0 ? error_sys(err, rc, "write %s/set.json", out) : 0;
}

static bool needs_ovs(const struct bench_options *options)
{
    for (size_t i = 0; i < options->n_variants; i++) {
        if (options->variants[i].driver->needs_ovs && !options->ovs_socket) {
            return true;
        }
    }
    return false;
}

static bool needs_dpdk(const struct bench_options *options)
{
    bool needs = false;

    for (size_t i = 0; i < options->n_variants; i++) {
        const struct kind *kind =
            options->variants[i].driver->needs_ovs ? kind_find(options->variants[i].what) : NULL;

        needs |= kind && kind->no_device;
    }
    return needs;
}

/* Starts the instance's OVS, or adds the bridge to the one that runs; *ret_started: to be stopped.
 */
static int ovs_ready(const struct bench_options *options, bool *ret_started, struct error *err)
{
    struct ovs_private_options ovs = {
        .instance = options->instance, .bridges = &options->bridge, .n_bridges = 1};
    struct ovs_private_status status;
    int rc;

    if (!needs_ovs(options)) {
        return 0;
    }
    rc = ovs_private_status(options->instance, &status, err);
    if (rc == 0) {
        *ret_started = !status.running;
        ovs.hugepages = needs_dpdk(options) && !status.dpdk ? OVS_HUGEPAGES_DEFAULT : 0;
        rc = ovs_private_up(&ovs, err);
    }
    return rc;
}

/* Two benches on one instance would measure each other. */
static int take_turn(const struct bench_options *options, int *ret_lock, struct error *err)
{
    autofree char *dir = str_printf("%s/bench", options->instance);
    autofree char *path = str_printf("%s/bench/lock", options->instance);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd, rc;

    if (!dir || !path) {
        return error_sys(err, -ENOMEM, "lock");
    }
    rc = dir_make(dir, 0700);
    if (rc < 0) {
        return error_sys(err, rc, "create %s", dir);
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_sys(err, -errno, "open %s", path);
    }
    if (fcntl(fd, F_SETLK, &lock) < 0) {
        rc = error_set(err, -EBUSY, "another bench is at work on instance %s", options->instance);
        close(fd);
        return rc;
    }
    *ret_lock = fd;
    return 0;
}

static int interrupted(bool clean, struct error *err)
{
    return error_set(err, -ECANCELED,
                     clean ? "interrupted; what was started is removed"
                           : "interrupted, and something is left: see above, and `sluice clean`");
}

static int run_all(const struct bench_options *options, const struct bench_agent *agent,
                   json_t *set, bool *ret_valid, struct error *err)
{
    bool clean = true;
    int n = 0, rc;

    *ret_valid = true;
    for (int repeat = 1; repeat <= options->repeat; repeat++) {
        for (size_t i = 0; i < options->n_variants; i++) {
            const struct bench_variant *variant = &options->variants[i];
            char folder[32], dir[512];
            struct bench_outcome outcome;

            if (atomic_load(&bench_interrupted)) {
                return interrupted(true, err);
            }
            snprintf(folder, sizeof(folder), "runs/%04d", ++n);
            snprintf(dir, sizeof(dir), "%s/%s", options->out, folder);
            if (!options->json) {
                printf("%s, run %d of %d: %d pods, %s%s\n", variant->name, repeat, options->repeat,
                       options->pods,
                       variant->driver->serial_start ? "one thread" : options->arrival.text,
                       options->netns_ready ? ", namespaces ready" : "");
                fflush(stdout);
            }
            rc = bench_run_one(options, variant, agent, dir, &outcome, err);
            if (rc < 0) {
                dir_remove(dir); /* it says nothing; another try may use the folder */
                return rc;
            }
            *ret_valid &= outcome.valid;
            clean &= outcome.clean;
            json_array_append_new(json_object_get(set, "runs"),
                                  json_pack("{s:s, s:s, s:i, s:b}", "dir", folder, "variant",
                                            variant->name, "repeat", repeat, "valid",
                                            outcome.valid));
            rc = save_set(options->out, set, err);
            if (rc < 0) {
                return rc;
            }
        }
    }
    return atomic_load(&bench_interrupted) ? interrupted(clean, err) : 0;
}

int bench_run(const struct bench_options *options, struct error *err)
{
    autojson json_t *set = set_json(options);
    autoclose int lock = -1;
    bool started = false, valid = false;
    struct bench_agent agent = {0};
    struct error later;
    int rc = take_turn(options, &lock, err);

    if (rc == 0) {
        rc = check_out(options->out, err);
    }
    if (rc < 0) {
        return rc;
    }
    instance_register(options->instance);
    watch_signals();
    raise_descriptor_limit();
    rc = ovs_ready(options, &started, err);
    if (rc == 0 && !options->no_agent) {
        rc = bench_agent_ready(options, &agent, err);
    }
    if (rc == 0) {
        rc = run_all(options, &agent, set, &valid, err);
    }
    bench_agent_end(&agent);
    if (started && ovs_private_down(options->instance, &later) < 0) {
        log_error("the private Open vSwitch did not stop: %s", later.text);
        rc = rc < 0 ? rc : error_set(err, -EIO, "the private Open vSwitch did not stop");
    }
    if (rc < 0) {
        drop_empty(options->out);
    }
    if (rc == 0 && !valid) {
        rc = error_set(err, -EREMOTEIO, "not every run is a result; see %s", options->out);
    }
    return rc;
}
