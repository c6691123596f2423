/* SPDX-License-Identifier: Apache-2.0 */
/* Programs and maps that are in the kernel already, found again. */
#include "bpf/bpf-internal.h"

#include <errno.h>
#include <string.h>

#define PROGRAM_MAPS_MAX 64

static int object_info(int fd, void *info, uint32_t size)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.info.bpf_fd = (uint32_t)fd;
    attr.info.info_len = size;
    attr.info.info = (uintptr_t)info;
    return bpf_command(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr));
}

static int open_by_id(int command, uint32_t id)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.prog_id = id; /* map_id is the same field */
    return bpf_command(command, &attr, sizeof(attr));
}

int bpf_program_open(uint32_t id, int *ret_fd, struct error *err)
{
    int fd = open_by_id(BPF_PROG_GET_FD_BY_ID, id);

    if (fd < 0) {
        return error_sys(err, fd, "open BPF program %u", id);
    }
    *ret_fd = fd;
    return 0;
}

int bpf_program_table(int prog_fd, const char *name, int *ret_fd, struct error *err)
{
    uint32_t ids[PROGRAM_MAPS_MAX];
    struct bpf_prog_info program = {.nr_map_ids = ARRAY_SIZE(ids), .map_ids = (uintptr_t)ids};
    int rc = object_info(prog_fd, &program, sizeof(program));

    if (rc < 0) {
        return error_sys(err, rc, "look at a BPF program");
    }
    for (uint32_t i = 0; i < program.nr_map_ids && i < ARRAY_SIZE(ids); i++) {
        autoclose int fd = open_by_id(BPF_MAP_GET_FD_BY_ID, ids[i]);
        struct bpf_map_info info = {0};

        if (fd >= 0 && object_info(fd, &info, sizeof(info)) == 0 && !strcmp(info.name, name)) {
            *ret_fd = take_fd(&fd);
            return 0;
        }
    }
    return error_set(err, -ENOENT, "a BPF program has no map %s", name);
}
