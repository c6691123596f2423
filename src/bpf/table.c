/* SPDX-License-Identifier: Apache-2.0 */
/* Hash maps that programs and we share. */
#include "bpf/bpf-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int bpf_command(int command, void *attr, size_t size)
{
    long rc;

    do {
        rc = syscall(SYS_bpf, command, attr, size);
    } while (rc < 0 && errno == EAGAIN); /* the verifier was interrupted by a signal */
    return rc < 0 ? -errno : (int)rc;
}

int bpf_table_new(const char *name, uint32_t key_size, uint32_t value_size, uint32_t entries,
                  int *ret_fd, struct error *err)
{
    union bpf_attr attr;
    int fd;

    memset(&attr, 0, sizeof(attr));
    attr.map_type = BPF_MAP_TYPE_HASH;
    attr.key_size = key_size;
    attr.value_size = value_size;
    attr.max_entries = entries;
    attr.map_flags = BPF_F_NO_PREALLOC;
    if (str_copy(attr.map_name, sizeof(attr.map_name), name) < 0) {
        return error_set(err, -EINVAL, "BPF map name %s is too long", name);
    }
    fd = bpf_command(BPF_MAP_CREATE, &attr, sizeof(attr));
    if (fd < 0) {
        return error_sys(err, fd, "create BPF map %s", name);
    }
    *ret_fd = fd;
    return 0;
}

static int on_element(int command, int fd, const void *key, const void *value, uint64_t flags)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.map_fd = (uint32_t)fd;
    attr.key = (uintptr_t)key;
    attr.value = (uintptr_t)value; /* next_key is the same field */
    attr.flags = flags;
    return bpf_command(command, &attr, sizeof(attr));
}

int bpf_table_add(int fd, const void *key, const void *value)
{
    return on_element(BPF_MAP_UPDATE_ELEM, fd, key, value, BPF_NOEXIST);
}

int bpf_table_put(int fd, const void *key, const void *value)
{
    return on_element(BPF_MAP_UPDATE_ELEM, fd, key, value, 0);
}

int bpf_table_get(int fd, const void *key, void *ret_value)
{
    return on_element(BPF_MAP_LOOKUP_ELEM, fd, key, ret_value, 0);
}

int bpf_table_delete(int fd, const void *key)
{
    return on_element(BPF_MAP_DELETE_ELEM, fd, key, NULL, 0);
}

int bpf_table_next(int fd, const void *key, void *ret_key)
{
    return on_element(BPF_MAP_GET_NEXT_KEY, fd, key, ret_key, 0);
}
