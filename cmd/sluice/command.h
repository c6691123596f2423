/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of `sluice`: one file each, one row each in main.c's table. */
#pragma once

#include "base/base.h"

#include <getopt.h>

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INVALID_RESULT = 3 };

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns an exit code */
};

int command_bench(int argc, char **argv);
int command_clean(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_gate(int argc, char **argv);
int command_ovs(int argc, char **argv);
int command_pool(int argc, char **argv);
int command_report(int argc, char **argv);

/* "sluice NAME: TEXT" on standard error; returns EXIT_FAILED. */
int command_fail(const char *name, const struct error *err);

/* The same for a mistake in the arguments, with a hint at --help; returns EXIT_USAGE. */
int command_usage(const char *name, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- arguments ---- */

#define COMMAND_GO_ON (-1) /* in *ret_exit: no reason to end */

/*
 * The next option, as getopt_long has it: its value in the table (optarg and optind are set), or -1
 * after the last one and whenever the command is to end here, which *ret_exit tells: COMMAND_GO_ON,
 * or an exit code. --help and -h ('h' in the table) print help; a wrong option is told in one
 * message that names it. letters: "ho:", those of the table's values that are options by
 * themselves.
 */
int command_option(int argc, char **argv, const char *letters, const struct option *options,
                   const char *help, int *ret_exit);

/* The instance that --instance (NULL: not given) or the environment names: an absolute path, else
 * it is a usage error. Returns COMMAND_GO_ON or an exit code. */
int command_instance(const char *name, const char *given, const char **ret);

/* COMMAND_GO_ON for root, else an exit code. */
int command_need_root(const char *name);
