/* SPDX-License-Identifier: Apache-2.0 */
/* sluice: the command. Finds the subcommand and calls it. */
#include "command.h"

#include <stdarg.h>
#include <string.h>

static const struct command commands[] = {
    {"bench", "start pods' networks and measure every step", command_bench},
    {"clean", "remove all that Sluice made on this host", command_clean},
    {"compare", "put two results side by side, with intervals", command_compare},
    {"doctor", "say what this host can do and how to get the rest", command_doctor},
    {"ovs", "start, stop or look at a private Open vSwitch", command_ovs},
    {"report", "draw a result's figures", command_report},
};

int command_fail(const char *name, const struct error *err)
{
    fprintf(stderr, "sluice %s: %s\n", name, err->text);
    return EXIT_FAILED;
}

int command_usage(const char *name, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "sluice %s: ", name);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nTry 'sluice %s --help'.\n", name);
    return EXIT_USAGE;
}

static void print_help(FILE *to)
{
    fprintf(to, "Usage: sluice COMMAND [OPTION]...\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(to, "\n'sluice COMMAND --help' lists a command's options.\n");
}

int main(int argc, char **argv)
{
    if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (argc >= 2 && !strcmp(argv[1], "--version")) {
        printf("sluice %s\n", SLUICE_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; argc >= 2 && i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(argv[1], commands[i].name)) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (argc >= 2) {
        fprintf(stderr, "sluice: unknown command '%s'\n", argv[1]);
    }
    print_help(stderr);
    return EXIT_USAGE;
}
