/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

int command_ovs(int argc, char **argv)
{
    (void)argc;
    return command_usage(argv[0], "to come");
}
