/* SPDX-License-Identifier: Apache-2.0 */
/* sluice doctor: what this host can do, and how to get what it can't. */
#include "command.h"
#include "host/host.h"
#include "json/json.h"

#include <string.h>

static const char help[] =
    "Usage: sluice doctor [--instance DIR] [--json]\n"
    "\n"
    "Says what this host can do and how to get what is missing. Exits with 1 when something is\n"
    "missing that nothing works without.\n";

static void print_json(const struct host_finding *findings, size_t n)
{
    autojson json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        const struct host_finding *f = &findings[i];

        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "topic", f->topic, "what",
                                        f->what, "state", host_state_names[f->state], "detail",
                                        f->detail, "hint", f->hint, "needed", f->needed));
    }
    json_dumpf(list, stdout, JSON_INDENT(2));
    printf("\n");
}

static void print_table(const struct host_finding *findings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct host_finding *f = &findings[i];

        if (i == 0 || strcmp(f->topic, findings[i - 1].topic) != 0) {
            printf("%s\n", f->topic);
        }
        printf("  %-8s %-20s %s%s%s\n", host_state_names[f->state], f->what, f->detail,
               f->hint[0] ? ": " : "", f->hint);
    }
}

int command_doctor(int argc, char **argv)
{
    static const struct option options[] = {{"instance", required_argument, NULL, 'i'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct host_finding findings[HOST_FINDINGS_MAX];
    const char *dir = NULL;
    bool json = false;
    int missing = 0, opt, rc;
    size_t n;

    while ((opt = command_option(argc, argv, "h", options, help, &rc)) != -1) {
        json |= opt == 'j';
        dir = opt == 'i' ? optarg : dir;
    }
    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (optind < argc) {
        return command_usage(argv[0], "unexpected argument '%s'", argv[optind]);
    }
    if ((rc = command_instance(argv[0], dir, &dir)) != COMMAND_GO_ON) {
        return rc;
    }
    n = host_examine(dir, findings);
    for (size_t i = 0; i < n; i++) {
        missing += findings[i].state == HOST_MISSING;
    }
    if (json) {
        print_json(findings, n);
    } else {
        print_table(findings, n);
        printf(missing ? "%d things are missing that nothing works without.\n"
                       : "Everything that is needed is here.\n",
               missing);
    }
    return missing ? EXIT_FAILED : EXIT_DONE;
}
