/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-cni's malloc. The program lives for one call and its few buffers until the end, so nothing
 * is given back, and what is small comes from memory that the program has from its start: setting
 * up musl's own heap takes as long as talking to the agent.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT 16 /* and room for a block's size in front of it */

static _Alignas(ALIGNMENT) char arena[128 << 10]; /* input, request and answer of a usual call */
static size_t used;

void *malloc(size_t size)
{
    size_t need = (size + 2 * ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    char *block;

    if (size > PTRDIFF_MAX / 2) {
        return NULL;
    }
    if (need <= sizeof(arena) - used) {
        block = arena + used;
        used += need;
    } else {
        block = mmap(NULL, need, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) {
            return NULL;
        }
    }
    memcpy(block, &size, sizeof(size));
    return block + ALIGNMENT;
}

void *realloc(void *old, size_t size)
{
    char *block = malloc(size);
    size_t old_size;

    if (block && old) {
        memcpy(&old_size, (char *)old - ALIGNMENT, sizeof(old_size));
        memcpy(block, old, old_size < size ? old_size : size);
    }
    return block;
}

void free(void *block)
{
    (void)block;
}
