/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds every file of a directory to a fuzz target, in name order. */
#include "base/base.h"
#include "fuzz.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    struct dirent **entries;
    int n = argc == 2 ? scandir(argv[1], &entries, visible, alphasort) : -1;

    if (n <= 0) {
        fprintf(stderr, "replay: no inputs in %s\n", argc == 2 ? argv[1] : "(no directory given)");
        return 1;
    }
    for (int i = 0; i < n; i++) {
        autofree char *path = str_printf("%s/%s", argv[1], entries[i]->d_name);
        autofree char *data = NULL;
        size_t len = 0;
        int rc = path ? file_read(path, 1 << 24, &data, &len) : -1;

        if (rc < 0) {
            fprintf(stderr, "replay: %s: %s\n", entries[i]->d_name, strerror(-rc));
            return 1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        free(entries[i]);
    }
    free(entries);
    printf("%d inputs\n", n);
    return 0;
}
