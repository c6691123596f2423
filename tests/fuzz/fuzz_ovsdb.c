/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an OVSDB server may send: the framing must find the same objects however the bytes are cut,
 * and the client must come through any replies, with an error or with a list of ports.
 */
#include "fuzz.h"
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536 /* fits a socket's buffer */

/* Takes all objects, seeing step more bytes at a time; returns a hash of their lengths and the end.
 */
static uint64_t scan(const char *data, size_t size, size_t step)
{
    struct ovsdb_frame frame = {0};
    size_t start = 0, seen = 0, len;
    uint64_t hash = HASH64_START;

    for (;;) {
        int rc = ovsdb_frame_scan(&frame, data + start, seen - start, &len);

        if (rc < 0) {
            return hash64(hash, &rc, sizeof(rc));
        }
        if (rc > 0) {
            if (len == 0 || len > seen - start) {
                abort();
            }
            hash = hash64(hash, &len, sizeof(len));
            start += len;
        } else if (seen == size) {
            return hash;
        } else {
            seen = size - seen < step ? size : seen + step;
        }
    }
}

static void use_client(const uint8_t *data, size_t size)
{
    autoovsdb struct ovsdb *db = NULL;
    struct ovs_ports ports = {0};
    struct error err = {0};
    char datapath[16];
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        abort();
    }
    if (send(ends[1], data, size, MSG_DONTWAIT) != (ssize_t)size ||
        shutdown(ends[1], SHUT_WR) < 0 || ovsdb_attach(ends[0], "fuzz", &db) < 0) {
        abort();
    }
    if (ovs_ports_list(db, NULL, false, clock_ns() + NSEC_PER_SEC, &ports, &err) == 0) {
        for (size_t i = 0; i < ports.n; i++) {
            const struct ovs_port *port = &ports.ports[i];

            if (strlen(port->name) + strlen(port->bridge) + strlen(port->type) > size) {
                abort();
            }
        }
        ovs_ports_clear(&ports);
    }
    ovs_bridge_datapath(db, "br0", clock_ns() + NSEC_PER_SEC, datapath, &err);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole;

    if (size > INPUT_MAX) {
        return 0;
    }
    whole = scan((const char *)data, size, size ? size : 1);
    if (scan((const char *)data, size, 1) != whole || scan((const char *)data, size, 7) != whole) {
        abort();
    }
    use_client(data, size);
    return 0;
}
