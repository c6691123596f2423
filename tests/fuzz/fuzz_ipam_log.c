/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a killed process, a full disk or an editor may have left it. */
#include "fuzz.h"
#include "ipam/ipam-internal.h"

#include <stdlib.h>
#include <string.h>

#define BOOT "01234567-89ab-cdef-0123-456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1); /* log_parse keeps it */
    struct leases leases = {0};
    size_t valid = 0, lines = 0, bad = 0, live = 0;

    if (!text) {
        return 0;
    }
    memcpy(text, data, size);
    if (log_parse(text, size, BOOT, &leases, &valid, &lines, &bad) == 0) {
        leases_index_ips(&leases);
        for (size_t i = 0; i < leases.n; i++) {
            struct ipam_owner owner = lease_owner(&leases, &leases.v[i]);

            if (leases.v[i].live) {
                live++;
                if (leases_of(&leases, &owner) == LEASE_NONE ||
                    !leases_taken(&leases, &leases.v[i].ip)) {
                    abort();
                }
            }
        }
        if (live != leases.n_live || valid > size || bad > lines) {
            abort();
        }
    }
    leases_clear(&leases);
    return 0;
}
