/* SPDX-License-Identifier: Apache-2.0 */
/* sluice: the command. Finds the subcommand and calls it; what the subcommands' arguments share. */
#include "command.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static const struct command commands[] = {
    {"bench", "start pods' networks and measure every step", command_bench},
    {"clean", "remove all that Sluice made on this host", command_clean},
    {"compare", "put two results side by side, with intervals", command_compare},
    {"doctor", "say what this host can do and how to get the rest", command_doctor},
    {"gate", "look at the gates, set and save their limits", command_gate},
    {"ovs", "start, stop or look at a private Open vSwitch", command_ovs},
    {"pool", "look at the agent's pools, set and drain them", command_pool},
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

/* The option whose value getopt_long left in optopt; NULL: none. */
static const struct option *find_option(const struct option *options)
{
    while (options->name && options->val != optopt) {
        options++;
    }
    return options->name ? options : NULL;
}

/* What getopt_long answered with ':' or '?': optopt is the option's value or letter, or 0 for a
 * long one that is not in the table. */
static int refuse_option(char **argv, int answer, const struct option *options)
{
    const struct option *option = optopt ? find_option(options) : NULL;
    const char *word = argv[optind - 1];

    if (answer == ':' && option) {
        return command_usage(argv[0], "--%s needs a value", option->name);
    }
    if (!optopt) {
        return command_usage(argv[0], "unknown option '%.*s'", (int)strcspn(word, "="), word);
    }
    if (option && str_has_prefix(word, "--")) {
        return command_usage(argv[0], "--%s takes no value", option->name);
    }
    return command_usage(argv[0], "unknown option '-%c'", optopt);
}

int command_option(int argc, char **argv, const char *letters, const struct option *options,
                   const char *help, int *ret_exit)
{
    char with_colon[32];
    int answer;

    *ret_exit = COMMAND_GO_ON;
    opterr = 0;
    snprintf(with_colon, sizeof(with_colon), ":%s", letters);
    answer = getopt_long(argc, argv, with_colon, options, NULL);
    if (answer == 'h') {
        fputs(help, stdout);
        *ret_exit = EXIT_DONE;
        return -1;
    }
    if (answer == ':' || answer == '?') {
        *ret_exit = refuse_option(argv, answer, options);
        return -1;
    }
    return answer;
}

int command_instance(const char *name, const char *given, const char **ret)
{
    const char *dir = given ? given : instance_dir(NULL);

    if (dir[0] != '/') {
        return command_usage(name, "%s \"%.64s\" is not allowed; must be an absolute path",
                             given ? "--instance" : "SLUICE_INSTANCE", dir);
    }
    *ret = dir;
    return COMMAND_GO_ON;
}

int command_need_root(const char *name)
{
    struct error err;

    if (geteuid() == 0) {
        return COMMAND_GO_ON;
    }
    error_set(&err, -EPERM, "needs root: it makes or removes network devices");
    return command_fail(name, &err);
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
    if (argc >= 2 &&
        (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))) {
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
