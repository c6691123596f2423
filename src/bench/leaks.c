/* SPDX-License-Identifier: Apache-2.0 */
/* Was anything left? Devices of the host's namespace before a run and after it, by name. */
#include "bench/bench-internal.h"
#include "netlink/netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_S 20 /* the kernel and ovs-vswitchd finish removals in their own time */

struct bench_inventory {
    char (*names)[IFNAMSIZ];
    size_t n, size;
};

static int note_device(const struct link_info *info, void *cookie)
{
    struct bench_inventory *inventory = cookie;

    if (inventory->n == inventory->size) {
        size_t size = inventory->size ? inventory->size * 2 : 64;
        void *names = reallocarray(inventory->names, size, sizeof(*inventory->names));

        if (!names) {
            return -ENOMEM;
        }
        inventory->names = names;
        inventory->size = size;
    }
    memcpy(inventory->names[inventory->n++], info->name, IFNAMSIZ);
    return 0;
}

int bench_inventory_take(struct bench_inventory **ret, struct error *err)
{
    struct bench_inventory *inventory = calloc(1, sizeof(*inventory));
    autonetlink struct netlink *nl = NULL;
    int rc = inventory ? netlink_open(-1, &nl, err) : error_sys(err, -ENOMEM, "inventory");

    if (rc == 0) {
        rc = link_list(nl, note_device, inventory, err);
    }
    if (rc < 0) {
        bench_inventory_free(inventory);
        return rc;
    }
    qsort(inventory->names, inventory->n, IFNAMSIZ, (int (*)(const void *, const void *))strcmp);
    *ret = inventory;
    return 0;
}

void bench_inventory_free(struct bench_inventory *inventory)
{
    if (inventory) {
        free(inventory->names);
        free(inventory);
    }
}

/* Devices that are there now and were not; the first one's name goes to example. */
static size_t count_new(const struct bench_inventory *before, const struct bench_inventory *now,
                        char example[IFNAMSIZ])
{
    size_t n = 0;

    for (size_t i = 0; i < now->n; i++) {
        if (!bsearch(now->names[i], before->names, before->n, IFNAMSIZ,
                     (int (*)(const void *, const void *))strcmp)) {
            if (n++ == 0) {
                memcpy(example, now->names[i], IFNAMSIZ);
            }
        }
    }
    return n;
}

void bench_inventory_compare(const struct bench_inventory *before, struct bench_run *run)
{
    int64_t deadline = clock_ns() + SETTLE_S * NSEC_PER_SEC;
    char example[IFNAMSIZ] = "";
    struct error err = {0};
    size_t n = 0;

    do {
        struct bench_inventory *now;

        if (bench_inventory_take(&now, &err) < 0) {
            bench_problem(run, "devices can't be listed: %s", err.text);
            return;
        }
        n = count_new(before, now, example);
        bench_inventory_free(now);
        if (n) {
            clock_sleep_ns(20 * NSEC_PER_MSEC);
        }
    } while (n && clock_left_ms(deadline) > 0);
    if (n) {
        bench_problem(run, "%zu devices are left, among them %s", n, example);
    }
}
