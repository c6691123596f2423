/* SPDX-License-Identifier: Apache-2.0 */
/* sluice bench: the options, and the programs' whereabouts. */
#include "command.h"
#include "bench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "Usage: sluice bench (--cni KIND | --cni-conf FILE | --raw DEVICE)... [OPTION]...\n"
    "\n"
    "Starts pods' networks through real CNI calls, measures every step, removes them, and\n"
    "checks that nothing is left. Several networks are variants, run in turn.\n"
    "\n"
    "Networks:\n"
    "  --cni KIND           one of our kinds: ovs, ovs-macvlan, ovs-macvtap, ovs-ipvlan,\n"
    "                       ovs-ipvtap, ovs-tc-routing, ovs-internal, ovs-vhost,\n"
    "                       ovs-dev-pool\n"
    "  --cni-standalone KIND  the same by the plugin that needs no agent\n"
    "  --cni-pooled KIND    the same with a pool, full before the clock starts: of devices for\n"
    "                       ovs-dev-pool, of whole namespaces for the others\n"
    "  --cni-socket KIND    the same by calls of the agent alone, without a plugin process\n"
    "  --cni-conf FILE      anybody's plugins: a .conf or .conflist file\n"
    "  --cni-bin-dir DIR    where those plugins are (default /usr/lib/cni)\n"
    "  --raw DEVICE         macvlan or veth by rtnetlink alone, from one thread: a lower bound\n"
    "\n"
    "Load:\n"
    "  --pods N             pods to start (default 100, at most 10000)\n"
    "  --tenants T          each with its own OVS port, VLAN and addresses (default 1)\n"
    "  --rules R            R generated security-group rules a pod (our kinds)\n"
    "  --qos MBPS           each pod's traffic limited to so many Mbit/s each way (our kinds)\n"
    "  --arrival HOW        burst (default), seq, or closed:K, K at a time\n"
    "  --sandbox WHAT       none (default), or process: a pause process and cgroups a pod\n"
    "  --netns-ready        make the namespaces before the clock starts\n"
    "  --warmup N           unmeasured pods a tenant before each run (default 1)\n"
    "  --repeat R           runs of each variant (default 1)\n"
    "\n"
    "Where:\n"
    "  --out DIR            result folder (default results/DATE-TIME)\n"
    "  --instance DIR       the instance to use (default $SLUICE_INSTANCE or /run/sluice); its\n"
    "                       own OVS is used, and started and stopped when it does not run\n"
    "  --no-agent           use no agent (default: the instance's own; when none runs, one is\n"
    "                       started, and stopped at the end)\n"
    "  --no-ipam            our kinds' pods get no addresses\n"
    "  --pool N             parts that pooled kinds start with (default: as many as pods)\n"
    "  --bridge NAME        OVS bridge (default sluice0)\n"
    "  --ovs-socket PATH    use this OVS instead; the bridge must be there\n"
    "  --json               one JSON line a run instead of tables\n";

enum {
    OPT_ARRIVAL = 256,
    OPT_BRIDGE,
    OPT_CNI,
    OPT_CNI_BIN_DIR,
    OPT_CNI_CONF,
    OPT_CNI_POOLED,
    OPT_CNI_SOCKET,
    OPT_CNI_STANDALONE,
    OPT_INSTANCE,
    OPT_JSON,
    OPT_NETNS_READY,
    OPT_NO_AGENT,
    OPT_NO_IPAM,
    OPT_OUT,
    OPT_OVS_SOCKET,
    OPT_PODS,
    OPT_POOL,
    OPT_QOS,
    OPT_RAW,
    OPT_REPEAT,
    OPT_RULES,
    OPT_SANDBOX,
    OPT_TENANTS,
    OPT_WARMUP,
};

static const struct option long_options[] = {
    {"arrival", required_argument, NULL, OPT_ARRIVAL},
    {"bridge", required_argument, NULL, OPT_BRIDGE},
    {"cni", required_argument, NULL, OPT_CNI},
    {"cni-bin-dir", required_argument, NULL, OPT_CNI_BIN_DIR},
    {"cni-conf", required_argument, NULL, OPT_CNI_CONF},
    {"cni-pooled", required_argument, NULL, OPT_CNI_POOLED},
    {"cni-socket", required_argument, NULL, OPT_CNI_SOCKET},
    {"cni-standalone", required_argument, NULL, OPT_CNI_STANDALONE},
    {"help", no_argument, NULL, 'h'},
    {"instance", required_argument, NULL, OPT_INSTANCE},
    {"json", no_argument, NULL, OPT_JSON},
    {"netns-ready", no_argument, NULL, OPT_NETNS_READY},
    {"no-agent", no_argument, NULL, OPT_NO_AGENT},
    {"no-ipam", no_argument, NULL, OPT_NO_IPAM},
    {"out", required_argument, NULL, OPT_OUT},
    {"ovs-socket", required_argument, NULL, OPT_OVS_SOCKET},
    {"pods", required_argument, NULL, OPT_PODS},
    {"pool", required_argument, NULL, OPT_POOL},
    {"qos", required_argument, NULL, OPT_QOS},
    {"raw", required_argument, NULL, OPT_RAW},
    {"repeat", required_argument, NULL, OPT_REPEAT},
    {"rules", required_argument, NULL, OPT_RULES},
    {"sandbox", required_argument, NULL, OPT_SANDBOX},
    {"tenants", required_argument, NULL, OPT_TENANTS},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {0},
};

static int read_number(const char *name, const char *text, int min, int max, int *ret,
                       struct error *err)
{
    int64_t value;

    if (str_to_int64(text, min, max, &value) < 0) {
        return error_set(err, -EINVAL,
                         "--%s \"%.32s\" is not allowed; must be a whole number from %d to %d",
                         name, text, min, max);
    }
    *ret = (int)value;
    return 0;
}

static int read_sandbox(const char *text, enum bench_sandbox *ret, struct error *err)
{
    for (int i = 0; bench_sandbox_names[i]; i++) {
        if (!strcmp(text, bench_sandbox_names[i])) {
            *ret = (enum bench_sandbox)i;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "--sandbox \"%.32s\" is not allowed; must be none or process",
                     text);
}

static int read_option(int opt, const char *arg, struct bench_options *o, struct error *err)
{
    switch (opt) {
    case OPT_CNI:
        return bench_add_variant(o, "cni", arg, err);
    case OPT_CNI_CONF:
        return bench_add_variant(o, "conf", arg, err);
    case OPT_CNI_POOLED:
        return bench_add_variant(o, "pooled", arg, err);
    case OPT_CNI_SOCKET:
        return bench_add_variant(o, "socket", arg, err);
    case OPT_CNI_STANDALONE:
        return bench_add_variant(o, "standalone", arg, err);
    case OPT_NO_AGENT:
        o->no_agent = true;
        return 0;
    case OPT_NO_IPAM:
        o->no_ipam = true;
        return 0;
    case OPT_RAW:
        return bench_add_variant(o, "raw", arg, err);
    case OPT_CNI_BIN_DIR:
        o->cni_bin_dir = arg;
        return 0;
    case OPT_PODS:
        return read_number("pods", arg, 1, BENCH_PODS_MAX, &o->pods, err);
    case OPT_POOL:
        return read_number("pool", arg, 1, 100000, &o->pool, err);
    case OPT_TENANTS:
        return read_number("tenants", arg, 1, BENCH_TENANTS_MAX, &o->tenants, err);
    case OPT_RULES:
        return read_number("rules", arg, 0, BENCH_RULES_MAX, &o->rules, err);
    case OPT_QOS:
        return read_number("qos", arg, 0, BENCH_QOS_MAX, &o->qos_mbps, err);
    case OPT_REPEAT:
        return read_number("repeat", arg, 1, 1000, &o->repeat, err);
    case OPT_WARMUP:
        return read_number("warmup", arg, 0, 100, &o->warmup, err);
    case OPT_ARRIVAL:
        return bench_arrival_parse(arg, &o->arrival, err);
    case OPT_SANDBOX:
        return read_sandbox(arg, &o->sandbox, err);
    case OPT_NETNS_READY:
        o->netns_ready = true;
        return 0;
    case OPT_OUT:
        o->out = arg;
        return 0;
    case OPT_INSTANCE:
        o->instance = arg;
        return 0;
    case OPT_BRIDGE:
        o->bridge = arg;
        return 0;
    case OPT_OVS_SOCKET:
        o->ovs_socket = arg;
        return 0;
    default:
        o->json = true;
        return 0;
    }
}

static int check_options(const struct bench_options *options, struct error *err)
{
    if (!options->n_variants) {
        return error_set(err, -EINVAL, "nothing to start: give --cni, --cni-conf or --raw");
    }
    if (options->tenants > options->pods) {
        return error_set(err, -EINVAL, "--tenants %d is not allowed; must be at most --pods %d",
                         options->tenants, options->pods);
    }
    for (size_t i = 0; (options->rules || options->qos_mbps) && i < options->n_variants; i++) {
        const char *driver = bench_variant_driver(&options->variants[i]);

        if (!strcmp(driver, "conf") || !strcmp(driver, "raw")) {
            return error_set(err, -EINVAL, "--rules and --qos go with our kinds, not with --%s",
                             !strcmp(driver, "raw") ? "raw" : "cni-conf");
        }
    }
    for (size_t i = 0; options->no_agent && i < options->n_variants; i++) {
        const char *driver = bench_variant_driver(&options->variants[i]);

        if (!strcmp(driver, "socket") || !strcmp(driver, "pooled")) {
            return error_set(err, -EINVAL, "--cni-%s and --no-agent exclude each other", driver);
        }
    }
    if (options->netns_ready && options->sandbox != BENCH_SANDBOX_NONE) {
        return error_set(err, -EINVAL, "--netns-ready goes with --sandbox none only");
    }
    return 0;
}

int command_bench(int argc, char **argv)
{
    char agent[512], thin[512], plugin[512], pause_program[512], out[64];
    struct bench_options options = {.pods = 100,
                                    .tenants = 1,
                                    .repeat = 1,
                                    .warmup = 1,
                                    .bridge = "sluice0",
                                    .cni_bin_dir = "/usr/lib/cni",
                                    .arrival = {.text = "burst"}};
    time_t now = time(NULL);
    struct error err = {0};
    struct tm local;
    int opt, rc;

    while ((opt = command_option(argc, argv, "h", long_options, help, &rc)) != -1) {
        if (read_option(opt, optarg, &options, &err) < 0) {
            return command_usage(argv[0], "%s", err.text);
        }
    }
    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (optind < argc) {
        return command_usage(argv[0], "unexpected argument '%s'", argv[optind]);
    }
    if (check_options(&options, &err) < 0) {
        return command_usage(argv[0], "%s", err.text);
    }
    if ((rc = command_instance(argv[0], options.instance, &options.instance)) != COMMAND_GO_ON ||
        (rc = command_need_root(argv[0])) != COMMAND_GO_ON) {
        return rc;
    }
    options.agent = program_path("sluiced", SLUICE_SBINDIR, agent, sizeof(agent));
    options.thin_plugin = program_path("sluice-cni", SLUICE_LIBEXECDIR, thin, sizeof(thin));
    options.plugin =
        program_path("sluice-cni-standalone", SLUICE_LIBEXECDIR, plugin, sizeof(plugin));
    options.pause =
        program_path("sluice-pause", SLUICE_LIBEXECDIR, pause_program, sizeof(pause_program));
    if (!options.out) {
        strftime(out, sizeof(out), "results/%Y%m%d-%H%M%S", localtime_r(&now, &local));
        options.out = out;
    }
    rc = bench_run(&options, &err);
    if (rc < 0) {
        command_fail(argv[0], &err);
        return rc == -EREMOTEIO ? EXIT_INVALID_RESULT : EXIT_FAILED;
    }
    if (!options.json) {
        printf("Result: %s\n", options.out);
    }
    return EXIT_DONE;
}
