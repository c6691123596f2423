/* SPDX-License-Identifier: Apache-2.0 */
/* sluice clean: remove all that Sluice made on this host. */
#include "command.h"
#include "host/host.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

static const char help[] =
    "Usage: sluice clean [--instance DIR]\n"
    "\n"
    "Removes all that Sluice ever made on this host and nothing else: attachments, devices, OVS\n"
    "ports, addresses, bench's namespaces, processes and cgroups, private Open vSwitches. Pods\n"
    "that run lose their network. With --instance only what that instance made.\n";

int command_clean(int argc, char **argv)
{
    static const struct option options[] = {
        {"instance", required_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct host_clean_report report = {0};
    const char *dir = NULL;
    struct error err = {0};
    int opt, rc;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'h') {
            fputs(help, stdout);
            return EXIT_DONE;
        }
        if (opt == '?') {
            return command_usage(argv[0], "unknown or incomplete option");
        }
        dir = optarg;
    }
    if (optind < argc) {
        return command_usage(argv[0], "unexpected argument '%s'", argv[optind]);
    }
    if (geteuid() != 0) {
        error_set(&err, -EPERM, "needs root");
        return command_fail(argv[0], &err);
    }
    rc = host_clean(instance_dir(dir), !dir, &report, &err);
    printf("Removed: %d attachments, %d devices, %d OVS ports, %d namespaces, %d processes, "
           "%d cgroups, %d private Open vSwitches\n",
           report.attachments, report.devices, report.ports, report.namespaces, report.processes,
           report.cgroups, report.switches);
    return rc < 0 ? command_fail(argv[0], &err) : EXIT_DONE;
}
