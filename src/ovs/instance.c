/* SPDX-License-Identifier: Apache-2.0 */
/* Which Open vSwitch an instance uses. */
#include "ovs/ovs.h"

#include <unistd.h>

const char *ovs_socket_path(const char *configured, const char *instance, char *buf, size_t size)
{
    if (configured && *configured) {
        snprintf(buf, size, "%s", configured);
        return buf;
    }
    snprintf(buf, size, "%s/ovs/db.sock", instance);
    if (access(buf, F_OK) < 0) {
        snprintf(buf, size, "%s", OVS_SYSTEM_SOCKET);
    }
    return buf;
}
