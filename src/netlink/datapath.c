/* SPDX-License-Identifier: Apache-2.0 */
/* Open vSwitch's kernel datapath: linux/openvswitch.h, by generic netlink (linux/genetlink.h). */
#include "netlink/netlink-internal.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/openvswitch.h>
#include <string.h>

static int read_family(const struct nlmsghdr *message, void *cookie)
{
    const struct nlattr *table[CTRL_ATTR_FAMILY_ID + 1];
    uint16_t *family = cookie;
    const void *attrs;
    size_t len;

    if (!message) {
        return 0;
    }
    if (!message_attrs(message, GENL_HDRLEN, &attrs, &len) ||
        attr_parse(attrs, len, table, CTRL_ATTR_FAMILY_ID) < 0) {
        return -EBADMSG;
    }
    if (attr_len(table[CTRL_ATTR_FAMILY_ID]) >= sizeof(*family)) {
        memcpy(family, attr_data(table[CTRL_ATTR_FAMILY_ID]), sizeof(*family));
    }
    return 0;
}

/* Opens a socket and learns the number that the datapath's messages have as their type; asking for
 * it makes the kernel load the module. */
static int open_datapath(int netns_fd, struct netlink **ret, uint16_t *ret_family,
                         struct error *err)
{
    static const char family_name[] = OVS_DATAPATH_FAMILY;
    struct genlmsghdr header = {.cmd = CTRL_CMD_GETFAMILY, .version = 1};
    autonetlink struct netlink *nl = NULL;
    uint16_t family = 0;
    int rc = netlink_open_generic(netns_fd, &nl, err);

    if (rc < 0) {
        return rc;
    }
    message_begin(nl, GENL_ID_CTRL, 0, &header, sizeof(header), "look for", family_name);
    attr_put_string(nl, CTRL_ATTR_FAMILY_NAME, family_name);
    message_end(nl);
    rc = netlink_query(nl, false, read_family, &family, err);
    if (rc == -ENOENT || (rc == 0 && !family)) {
        return error_set(err, -EOPNOTSUPP,
                         "this kernel has no Open vSwitch datapath (module openvswitch)");
    }
    if (rc == 0) {
        *ret = take_ptr(nl);
        *ret_family = family;
    }
    return rc;
}

static int request(int netns_fd, uint8_t command, const char *name, struct error *err)
{
    struct {
        struct genlmsghdr generic;
        struct ovs_header datapath;
    } header = {.generic = {.cmd = command, .version = OVS_DATAPATH_VERSION}};
    autonetlink struct netlink *nl = NULL;
    uint16_t family = 0;
    int rc = open_datapath(netns_fd, &nl, &family, err);

    if (rc < 0) {
        return rc;
    }
    message_begin(nl, family, 0, &header, sizeof(header),
                  command == OVS_DP_CMD_DEL ? "remove datapath" : "look for datapath", name);
    attr_put_string(nl, OVS_DP_ATTR_NAME, name);
    message_end(nl);
    return netlink_send(nl, NULL, err);
}

int datapath_find(int netns_fd, const char *name, struct error *err)
{
    return request(netns_fd, OVS_DP_CMD_GET, name, err);
}

int datapath_delete(int netns_fd, const char *name, struct error *err)
{
    int rc = request(netns_fd, OVS_DP_CMD_DEL, name, err);

    return rc == -ENODEV || rc == -EOPNOTSUPP ? 0 : rc;
}
