/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a killed process, a full disk or an editor may have left it. */
#include "fuzz.h"
#include "ipam/ipam-internal.h"

#include <stdlib.h>
#include <string.h>

#define BOOT "01234567-89ab-cdef-0123-456789abcdef"

static void check(const struct leases *leases)
{
    size_t live = 0;

    for (size_t i = 0; i < leases->n; i++) {
        struct ipam_owner owner = lease_owner(leases, &leases->v[i]);

        if (leases->v[i].live) {
            live++;
            if (leases_of(leases, &owner) == LEASE_NONE ||
                !leases_taken(leases, &leases->v[i].ip)) {
                abort();
            }
        }
    }
    if (live != leases->n_live) {
        abort();
    }
}

static int parse(const uint8_t *data, size_t size, struct leases *leases, size_t *ret_valid)
{
    char *text = malloc(size + 1); /* log_parse keeps it */
    size_t lines, bad;
    int rc;

    if (!text) {
        return -1;
    }
    memcpy(text, data, size);
    rc = log_parse(text, size, BOOT, leases, ret_valid, &lines, &bad);
    if (rc == 0) {
        leases_index_ips(leases);
        check(leases);
        if (*ret_valid > size || bad > lines) {
            abort();
        }
    }
    return rc;
}

/* What a cache does: the first half is read, then each line is applied as it is added. */
static void compare_with_parts(const uint8_t *data, size_t valid, const struct leases *whole)
{
    const uint8_t *half = memchr(data + valid / 2, '\n', valid - valid / 2), *end = data + valid;
    struct leases parts = {0};
    size_t n;

    if (parse(data, (size_t)(half + 1 - data), &parts, &n) < 0) {
        abort();
    }
    for (const uint8_t *p = half + 1, *next; n && p < end; p = next) {
        next = (const uint8_t *)memchr(p, '\n', (size_t)(end - p)) + 1;
        log_apply(&parts, (const char *)p, (size_t)(next - p), 1);
    }
    if (n) {
        check(&parts);
        if (parts.n != whole->n || parts.n_live != whole->n_live) {
            abort();
        }
    }
    for (size_t i = 0; n && i < whole->n; i++) {
        const struct lease *lease = &whole->v[i];
        struct ipam_owner owner = lease_owner(whole, lease);

        if (lease->live != parts.v[i].live || !ip_same(&lease->ip, &parts.v[i].ip) ||
            leases_taken(whole, &lease->ip) != leases_taken(&parts, &lease->ip) ||
            (lease->live && leases_of(whole, &owner) != leases_of(&parts, &owner))) {
            abort();
        }
    }
    leases_clear(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct leases leases = {0};
    size_t valid = 0;

    if (parse(data, size, &leases, &valid) == 0 && valid) {
        compare_with_parts(data, valid, &leases);
    }
    leases_clear(&leases);
    return 0;
}
