/* SPDX-License-Identifier: Apache-2.0 */
/* sluice clean: remove all that Sluice made on this host. */
#include "command.h"
#include "host/host.h"

#include <string.h>

static const char help[] =
    "Usage: sluice clean [--instance DIR]\n"
    "\n"
    "Removes all that Sluice ever made on this host and nothing else: attachments, devices, OVS\n"
    "ports, addresses, bench's namespaces, processes and cgroups, private Open vSwitches. Pods\n"
    "that run lose their network. With --instance (or\n"
    "$SLUICE_INSTANCE) only what that instance made.\n";

int command_clean(int argc, char **argv)
{
    static const struct option options[] = {
        {"instance", required_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct host_clean_report report = {0};
    const char *given = NULL, *dir;
    bool all;
    struct error err = {0};
    int rc;

    while (command_option(argc, argv, "h", options, help, &rc) != -1) {
        given = optarg;
    }
    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (optind < argc) {
        return command_usage(argv[0], "unexpected argument '%s'", argv[optind]);
    }
    if ((rc = command_instance(argv[0], given, &dir)) != COMMAND_GO_ON ||
        (rc = command_need_root(argv[0])) != COMMAND_GO_ON) {
        return rc;
    }
    all = !given && !strcmp(dir, INSTANCE_DEFAULT_DIR);
    rc = host_clean(all ? NULL : dir, &report, &err);
    printf("Removed: %d attachments, %d devices, %d OVS ports, %d namespaces, %d processes, "
           "%d cgroups, %d private Open vSwitches\n",
           report.attachments, report.devices, report.ports, report.namespaces, report.processes,
           report.cgroups, report.switches);
    return rc < 0 ? command_fail(argv[0], &err) : EXIT_DONE;
}
