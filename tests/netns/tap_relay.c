/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap_relay DEVICE tap|macvtap NETNS: a guest with a real stack behind a device of a pool, which
 * the caller's namespace has: makes a tap eth0 in another namespace and passes frames between the
 * two, as they are (with their virtio_net_hdr), until it is killed. Prints "ready".
 */
#include "netlink/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME_MAX 70000

static void must(int rc, const struct error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

/* A frame that finds no room is lost, as on a wire. */
static void pass(int from, int to)
{
    static char frame[FRAME_MAX];
    ssize_t len;

    while ((len = read(from, frame, sizeof(frame))) > 0) {
        if (write(to, frame, (size_t)len) < 0 && errno != EAGAIN && errno != ENOBUFS &&
            errno != EIO) {
            perror("write");
        }
    }
}

int main(int argc, char **argv)
{
    struct error err = {0};
    int device, netns, guest;

    if (argc != 4) {
        fprintf(stderr, "usage: tap_relay DEVICE tap|macvtap NETNS\n");
        return 2;
    }
    must(strcmp(argv[2], "tap") == 0 ? tap_open(-1, argv[1], IFF_VNET_HDR, false, &device, &err)
                                     : macvtap_open(argv[1], &device, &err),
         &err);
    must(netns_open(argv[3], &netns, &err), &err);
    must(tap_open(netns, "eth0", IFF_VNET_HDR, false, &guest, &err), &err);
    fcntl(device, F_SETFL, O_NONBLOCK);
    fcntl(guest, F_SETFL, O_NONBLOCK);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct pollfd both[] = {{.fd = device, .events = POLLIN}, {.fd = guest, .events = POLLIN}};

        poll(both, 2, -1);
        pass(device, guest);
        pass(guest, device);
    }
}
