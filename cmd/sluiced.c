/* SPDX-License-Identifier: Apache-2.0 */
/* sluiced: the node agent. Reads the options, and runs it. */
#include "agent/agent.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char help[] =
    "Usage: sluiced [OPTION]...\n"
    "\n"
    "The node agent: serves CNI calls, gates and pools at INSTANCE/sluiced.sock until SIGTERM.\n"
    "SIGHUP reads the settings again.\n"
    "\n"
    "  --instance DIR         default $SLUICE_INSTANCE or /run/sluice\n"
    "  --state-dir DIR        settings: gates.json, pools.json (default /var/lib/sluice, or\n"
    "                         INSTANCE/state for another instance than the default one)\n"
    "  --http PORT[,PORT]...  HTTP on 127.0.0.1: metrics, health, the older lock server's API\n"
    "  --http-barrier N       callers that /barrier waits for, unless the request says\n"
    "  --http-hold S          give a permit that HTTP took back after S seconds (default: never)\n"
    "  --http-pods N          pods that /get_ifname spreads over the tenants (default 1)\n"
    "  --http-tenants T       tenants, each with a port tap0, tap1, ... (default 1)\n"
    "  --create-width N       threads that create devices at once (default 2; 0: no bound)\n"
    "  --change-width N       threads that set devices up at once (default 2; 0: no bound)\n"
    "  --remove-width N       threads that remove devices at once (default 0: no bound)\n"
    "  --with-parent          end when the process that started it does\n"
    "  --quick-width N        threads for calls that wait for nobody (default 2)\n"
    "  --slow-width N         threads for calls that wait for Open vSwitch or for other programs\n"
    "                         (default 512)\n";

enum {
    OPT_CHANGE_WIDTH = 256,
    OPT_CREATE_WIDTH,
    OPT_HTTP,
    OPT_HTTP_BARRIER,
    OPT_HTTP_HOLD,
    OPT_HTTP_PODS,
    OPT_HTTP_TENANTS,
    OPT_INSTANCE,
    OPT_QUICK_WIDTH,
    OPT_REMOVE_WIDTH,
    OPT_SLOW_WIDTH,
    OPT_STATE_DIR,
    OPT_VERSION,
    OPT_WITH_PARENT,
};

static const struct option long_options[] = {
    {"change-width", required_argument, NULL, OPT_CHANGE_WIDTH},
    {"create-width", required_argument, NULL, OPT_CREATE_WIDTH},
    {"help", no_argument, NULL, 'h'},
    {"http", required_argument, NULL, OPT_HTTP},
    {"http-barrier", required_argument, NULL, OPT_HTTP_BARRIER},
    {"http-hold", required_argument, NULL, OPT_HTTP_HOLD},
    {"http-pods", required_argument, NULL, OPT_HTTP_PODS},
    {"http-tenants", required_argument, NULL, OPT_HTTP_TENANTS},
    {"instance", required_argument, NULL, OPT_INSTANCE},
    {"quick-width", required_argument, NULL, OPT_QUICK_WIDTH},
    {"remove-width", required_argument, NULL, OPT_REMOVE_WIDTH},
    {"slow-width", required_argument, NULL, OPT_SLOW_WIDTH},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"version", no_argument, NULL, OPT_VERSION},
    {"with-parent", no_argument, NULL, OPT_WITH_PARENT},
    {0},
};

static int usage(const char *text)
{
    fprintf(stderr, "sluiced: %s\nTry 'sluiced --help'.\n", text);
    return 2;
}

static int read_number(const char *name, const char *text, int64_t min, int64_t max, unsigned *ret,
                       struct error *err)
{
    int64_t value;

    if (str_to_int64(text, min, max, &value) < 0) {
        return error_set(err, -EINVAL,
                         "--%s \"%.32s\" is not allowed; must be a whole number from %lld to %lld",
                         name, text, (long long)min, (long long)max);
    }
    *ret = (unsigned)value;
    return 0;
}

static int read_ports(char *text, struct agent_options *o, struct error *err)
{
    char *save, *word;

    for (word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        unsigned port = 0;

        if (o->n_http_ports == AGENT_HTTP_PORTS_MAX) {
            return error_set(err, -EINVAL, "--http: more than %d ports", AGENT_HTTP_PORTS_MAX);
        }
        if (read_number("http", word, 1, 65535, &port, err) < 0) {
            return -EINVAL;
        }
        o->http_ports[o->n_http_ports++] = (uint16_t)port;
    }
    return 0;
}

/* A parent that goes before we asked for the signal sends none. */
static int stay_with_parent(struct error *err)
{
    pid_t parent = getppid();

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    return getppid() == parent ? 0 : error_set(err, -ESRCH, "the parent is gone");
}

static int read_option(int opt, char *arg, struct agent_options *o, struct error *err)
{
    switch (opt) {
    case OPT_INSTANCE:
        o->instance = arg;
        return 0;
    case OPT_STATE_DIR:
        o->state_dir = arg;
        return 0;
    case OPT_WITH_PARENT:
        return stay_with_parent(err);
    case OPT_HTTP:
        return read_ports(arg, o, err);
    case OPT_HTTP_BARRIER:
        return read_number("http-barrier", arg, 1, 100000, &o->http_barrier, err);
    case OPT_HTTP_HOLD:
        return read_number("http-hold", arg, 1, 86400, &o->http_hold_s, err);
    case OPT_HTTP_PODS:
        return read_number("http-pods", arg, 1, 100000, &o->http_pods, err);
    case OPT_HTTP_TENANTS:
        return read_number("http-tenants", arg, 1, 100000, &o->http_tenants, err);
    case OPT_CREATE_WIDTH:
        return read_number("create-width", arg, 0, 1024, &o->create_width, err);
    case OPT_CHANGE_WIDTH:
        return read_number("change-width", arg, 0, 1024, &o->change_width, err);
    case OPT_REMOVE_WIDTH:
        return read_number("remove-width", arg, 0, 1024, &o->remove_width, err);
    case OPT_QUICK_WIDTH:
        return read_number("quick-width", arg, 1, 1024, &o->quick_width, err);
    default:
        return read_number("slow-width", arg, 1, 1024, &o->slow_width, err);
    }
}

static int check_dirs(struct agent_options *o, char state_dir[PATH_MAX], struct error *err)
{
    o->instance = instance_dir(o->instance);
    if (o->instance[0] != '/' || (o->state_dir && o->state_dir[0] != '/')) {
        return error_set(err, -EINVAL, "--instance and --state-dir must be absolute paths");
    }
    if (!o->state_dir) {
        o->state_dir = state_dir;
        return agent_state_dir(o->instance, state_dir, PATH_MAX) < 0
                   ? error_set(err, -ENAMETOOLONG, "--instance: the path is too long")
                   : 0;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct agent_options options = agent_options_default;
    char state_dir[PATH_MAX];
    struct error err = {0};
    int opt;

    while ((opt = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (opt == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (opt == OPT_VERSION) {
            printf("sluiced %s\n", SLUICE_VERSION);
            return 0;
        }
        if (opt == '?') {
            fprintf(stderr, "Try 'sluiced --help'.\n");
            return 2;
        }
        if (read_option(opt, optarg, &options, &err) < 0) {
            return usage(err.text);
        }
    }
    if (optind < argc) {
        return usage("takes options only");
    }
    if (check_dirs(&options, state_dir, &err) < 0) {
        return usage(err.text);
    }
    if (geteuid() != 0) {
        fprintf(stderr, "sluiced: needs root: it makes network devices\n");
        return 1;
    }
    if (agent_run(&options, &err) < 0) {
        fprintf(stderr, "sluiced: %s\n", err.text);
        return 1;
    }
    return 0;
}
