/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of `sluice`: one file each, one row each in main.c's table. */
#pragma once

#include "base/base.h"

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INVALID_RESULT = 3 };

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns an exit code */
};

int command_bench(int argc, char **argv);
int command_clean(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_ovs(int argc, char **argv);
int command_report(int argc, char **argv);

/* "sluice NAME: TEXT" on standard error; returns EXIT_FAILED. */
int command_fail(const char *name, const struct error *err);

/* The same for a mistake in the arguments, with a hint at --help; returns EXIT_USAGE. */
int command_usage(const char *name, const char *fmt, ...) PRINTF_LIKE(2, 3);
