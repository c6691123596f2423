/* SPDX-License-Identifier: Apache-2.0 */
/* sluice ovs: a private Open vSwitch, started, stopped, looked at. */
#include "command.h"
#include "ovs/ovs.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define BRIDGES_MAX 64
#define LIST_NS     (5 * NSEC_PER_SEC)

#define HUGEPAGES_MIN 32 /* with fewer a guest that connects gets no packets */
#define HUGEPAGES_MAX (1 << 20)

struct arguments {
    const char *instance;
    const char *bridges[BRIDGES_MAX];
    size_t n_bridges;
    const char *datapath;
    bool dpdk, json;
    unsigned hugepages; /* 0 unless dpdk */
};

static const char help[] =
    "Usage: sluice ovs up|down|status [OPTION]...\n"
    "\n"
    "A private Open vSwitch: its database, sockets and logs are in DIR/ovs, its devices in the\n"
    "network namespace where 'up' was called.\n"
    "\n"
    "  up                start it, or what is not running of it, and make the bridges\n"
    "  down              stop it and remove DIR/ovs\n"
    "  status            tell whether it runs, and what it has; exit code 1 when not\n"
    "\n"
    "  --instance DIR    the instance (default: $SLUICE_INSTANCE, else " INSTANCE_DEFAULT_DIR ")\n"
    "  --bridge NAME     with up: a bridge that there must be; may be repeated\n"
    "  --datapath TYPE   with up: datapath of the bridges that are made: netdev (the default, in\n"
    "                    userspace) or system (the kernel's, which must have openvswitch)\n"
    "  --dpdk            with up: with DPDK, for ports of kind ovs-vhost; takes hugepages of 2 MB,\n"
    "                    which 'down' gives back\n"
    "  --hugepages N     so many (default 128)\n"
    "  --json            print JSON\n"
    "  --help            print this\n";

/* COMMAND_GO_ON or an exit code. */
static int parse(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {{"instance", required_argument, NULL, 'i'},
                                            {"bridge", required_argument, NULL, 'b'},
                                            {"datapath", required_argument, NULL, 'd'},
                                            {"dpdk", no_argument, NULL, 'D'},
                                            {"hugepages", required_argument, NULL, 'p'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *instance = NULL;
    int64_t pages;
    int c, rc;

    while ((c = command_option(argc, argv, "h", options, help, &rc)) != -1) {
        switch (c) {
        case 'i':
            instance = optarg;
            break;
        case 'b':
            if (ret->n_bridges == BRIDGES_MAX) {
                return command_usage(argv[0], "more than %d bridges", BRIDGES_MAX);
            }
            ret->bridges[ret->n_bridges++] = optarg;
            break;
        case 'd':
            if (strcmp(optarg, "netdev") && strcmp(optarg, "system")) {
                return command_usage(argv[0], "--datapath: '%s' is not netdev or system", optarg);
            }
            ret->datapath = optarg;
            break;
        case 'D':
            ret->dpdk = true;
            break;
        case 'p':
            if (str_to_int64(optarg, HUGEPAGES_MIN, HUGEPAGES_MAX, &pages) < 0) {
                return command_usage(argv[0],
                                     "--hugepages \"%.32s\" is not allowed; must be a whole number "
                                     "from %d to %d",
                                     optarg, HUGEPAGES_MIN, HUGEPAGES_MAX);
            }
            ret->hugepages = (unsigned)pages;
            break;
        default:
            ret->json = true;
            break;
        }
    }
    if (rc == COMMAND_GO_ON && ret->hugepages && !ret->dpdk) {
        return command_usage(argv[0], "--hugepages goes with --dpdk");
    }
    if (ret->dpdk && !ret->hugepages) {
        ret->hugepages = OVS_HUGEPAGES_DEFAULT;
    }
    return rc != COMMAND_GO_ON ? rc : command_instance(argv[0], instance, &ret->instance);
}

/* ---- status ---- */

/* Bridges as a list of {"name", "ports"}: the bridge's own port is not counted. */
static int read_bridges(const char *socket_path, json_t *bridges, struct error *err)
{
    int64_t deadline_ns = clock_ns() + LIST_NS;
    autoovsdb struct ovsdb *db = NULL;
    struct ovs_ports ports = {0};
    int rc = ovsdb_connect(socket_path, deadline_ns, &db, err);

    if (rc == 0) {
        rc = ovs_ports_list(db, NULL, false, deadline_ns, &ports, err);
    }
    for (size_t i = 0; i < ports.n; i++) {
        const struct ovs_port *port = &ports.ports[i];
        json_t *bridge, *found = NULL;
        size_t k;

        json_array_foreach (bridges, k, bridge) {
            if (!strcmp(json_string_value(json_object_get(bridge, "name")), port->bridge)) {
                found = bridge;
            }
        }
        if (!found) {
            found = json_pack("{s:s, s:i}", "name", port->bridge, "ports", 0);
            json_array_append_new(bridges, found);
        }
        if (strcmp(port->name, port->bridge)) {
            json_object_set_new(
                found, "ports",
                json_integer(json_integer_value(json_object_get(found, "ports")) + 1));
        }
    }
    ovs_ports_clear(&ports);
    return rc;
}

static void print_daemon(const char *name, pid_t pid)
{
    if (pid) {
        printf("%s  pid %d\n", name, (int)pid);
    } else {
        printf("%s  not running\n", name);
    }
}

static void print_status(const struct ovs_private_status *status, const char *socket_path,
                         const json_t *bridges)
{
    const json_t *bridge;
    size_t i;

    printf("running       %s\n", status->running ? "yes" : "no");
    print_daemon("ovsdb-server", status->ovsdb_pid);
    print_daemon("ovs-vswitchd", status->vswitchd_pid);
    if (!status->running) {
        return;
    }
    printf("version       %s%s\n", status->version, status->dpdk ? ", with DPDK" : "");
    printf("socket        %s\n", socket_path);
    json_array_foreach (bridges, i, bridge) {
        printf("bridge        %s, %d ports\n", json_string_value(json_object_get(bridge, "name")),
               (int)json_integer_value(json_object_get(bridge, "ports")));
    }
}

static int show_status(const struct arguments *args, struct error *err)
{
    autofree char *socket_path = str_printf("%s/ovs/db.sock", args->instance);
    autojson json_t *bridges = json_array(), *object = NULL;
    struct ovs_private_status status;
    int rc = ovs_private_status(args->instance, &status, err);

    if (rc == 0 && status.running) {
        rc = socket_path ? read_bridges(socket_path, bridges, err) : -ENOMEM;
    }
    if (rc < 0) {
        return rc;
    }
    if (args->json) {
        object = json_pack("{s:b, s:i, s:i, s:s, s:b, s:s, s:O}", "running", status.running,
                           "ovsdb_pid", (int)status.ovsdb_pid, "vswitchd_pid",
                           (int)status.vswitchd_pid, "version", status.version, "dpdk", status.dpdk,
                           "socket", socket_path, "bridges", bridges);
        json_dumpf(object, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_status(&status, socket_path, bridges);
    }
    return status.running ? EXIT_DONE : EXIT_FAILED;
}

/* ---- verbs: an exit code, or a negative errno with its text in err ---- */

static int up(const struct arguments *args, struct error *err)
{
    struct ovs_private_options options = {.instance = args->instance,
                                          .bridges = args->bridges,
                                          .n_bridges = args->n_bridges,
                                          .datapath = args->datapath,
                                          .hugepages = args->hugepages};
    int rc = ovs_private_up(&options, err);

    return rc < 0 || !args->json ? rc : show_status(args, err);
}

static int down(const struct arguments *args, struct error *err)
{
    int rc = ovs_private_down(args->instance, err);

    return rc < 0 || !args->json ? rc : (show_status(args, err) < 0 ? -EIO : EXIT_DONE);
}

int command_ovs(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct arguments *args, struct error *err);
        bool is_up, needs_root;
    } verbs[] = {
        {"up", up, true, true}, {"down", down, false, true}, {"status", show_status, false, false}};
    struct arguments args = {0};
    struct error err = {0};
    int rc = parse(argc, argv, &args);

    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (optind != argc - 1) {
        return command_usage(argv[0], "say one of: up, down, status");
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, argv[optind])) {
            continue;
        }
        if ((args.n_bridges || args.datapath) && !verbs[i].is_up) {
            return command_usage(argv[0], "--bridge and --datapath go with up");
        }
        if (args.dpdk && !verbs[i].is_up) {
            return command_usage(argv[0], "--dpdk goes with up");
        }
        if (verbs[i].needs_root && (rc = command_need_root(argv[0])) != COMMAND_GO_ON) {
            return rc;
        }
        rc = verbs[i].run(&args, &err);
        return rc < 0 ? command_fail(argv[0], &err) : rc;
    }
    return command_usage(argv[0], "unknown verb '%s': say up, down or status", argv[optind]);
}
