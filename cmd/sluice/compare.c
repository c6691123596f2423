/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

int command_compare(int argc, char **argv)
{
    (void)argc;
    return command_usage(argv[0], "to come");
}
