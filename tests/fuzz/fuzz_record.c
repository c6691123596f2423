/* SPDX-License-Identifier: Apache-2.0 */
/* A record as a killed process, a full disk or an editor may have left it. */
#include "fuzz.h"
#include "kind/kind.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int count(const struct record *record, void *cookie)
{
    int *n = cookie;

    if (!record->key.container_id[0] || !record->key.ifname[0] || !record->key.network[0] ||
        strlen(record->type) + strlen(record->state) + strlen(record->netns_path) +
                strlen(record->port) + strlen(record->bridge) >
            SIZE_MAX / 2) {
        abort();
    }
    (*n)++;
    return 0;
}

/* Made once: the tree in which the one record is written anew for every input. */
static const char *instance(void)
{
    static char dir[] = "/tmp/sluice-fuzz-record-XXXXXX";
    static bool made;

    if (!made) {
        autofree char *below = mkdtemp(dir) ? str_printf("%s/attachments/pod-1", dir) : NULL;

        if (!below || dir_make(below, 0700) < 0) {
            abort();
        }
        made = true;
    }
    return dir;
}

static void remove_tree(void)
{
    dir_remove(instance());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct attachment_key key = {"net", "pod-1", "eth0"};
    static bool registered;
    autofree char *path = str_printf("%s/attachments/pod-1/eth0@net.json", instance());
    struct record record = {0};
    struct error err = {0};
    int n = 0;

    if (!registered) {
        registered = atexit(remove_tree) == 0;
    }
    if (!path || file_write_atomic(path, data, size, 0600) < 0) {
        return 0;
    }
    if (record_read(instance(), &key, &record, &err) == 0) {
        count(&record, &n);
        record_clear(&record);
    } else if (!err.text[0]) {
        abort();
    }
    n = 0;
    if (record_list(instance(), count, &n, &err) < 0 || n != 1) {
        abort(); /* torn or whole, GC must see it */
    }
    return 0;
}
