/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs at devices. Debian's headers are of Linux 6.1 and don't know tcx, so that its part of
 * union bpf_attr is written out here (linux/bpf.h of 6.6).
 */
#include "bpf/bpf-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { TCX_INGRESS = 46, TCX_EGRESS = 47 };

#define HOOK_PROGRAMS_MAX 64 /* as the kernel's BPF_MPROG_MAX */
#define PROGRAM_MAPS_MAX  64

/* BPF_PROG_ATTACH and BPF_PROG_DETACH */
struct attach_attr {
    uint32_t target_ifindex, prog_fd, attach_type, flags, replace_fd, relative_fd;
    uint64_t expected_revision;
};

/* BPF_PROG_QUERY */
struct query_attr {
    uint32_t target_ifindex, attach_type, query_flags, attach_flags;
    uint64_t prog_ids __attribute__((aligned(8)));
    uint32_t count, pad;
    uint64_t prog_attach_flags, link_ids, link_attach_flags, revision;
};

/* A kernel that does not know the attach type says EINVAL, as it does to much else. */
static int tcx_error(int rc)
{
    return rc == -EINVAL ? -EOPNOTSUPP : rc;
}

static int query(unsigned ifindex, bool egress, uint32_t *ids, uint32_t *n, uint64_t *revision)
{
    struct query_attr attr = {.target_ifindex = ifindex,
                              .attach_type = egress ? TCX_EGRESS : TCX_INGRESS,
                              .prog_ids = (uintptr_t)ids,
                              .count = *n};
    int rc = tcx_error(bpf_command(BPF_PROG_QUERY, &attr, sizeof(attr)));

    *n = rc == 0 ? attr.count : 0;
    *revision = rc == 0 ? attr.revision : 0;
    return rc == -ENOENT ? 0 : rc;
}

int bpf_hook_attach(unsigned ifindex, bool egress, int prog_fd, int old_fd, uint64_t expected,
                    struct error *err)
{
    struct attach_attr attr = {.target_ifindex = ifindex,
                               .prog_fd = (uint32_t)prog_fd,
                               .attach_type = egress ? TCX_EGRESS : TCX_INGRESS,
                               .flags = old_fd >= 0 ? BPF_F_REPLACE : 0,
                               .replace_fd = old_fd >= 0 ? (uint32_t)old_fd : 0,
                               .expected_revision = expected};
    int rc = tcx_error(bpf_command(BPF_PROG_ATTACH, &attr, sizeof(attr)));

    return rc < 0 ? error_sys(err, rc, "attach a BPF program to device %u", ifindex) : 0;
}

int bpf_hook_detach(unsigned ifindex, bool egress, int prog_fd, struct error *err)
{
    struct attach_attr attr = {.target_ifindex = ifindex,
                               .prog_fd = (uint32_t)prog_fd,
                               .attach_type = egress ? TCX_EGRESS : TCX_INGRESS};
    int rc = tcx_error(bpf_command(BPF_PROG_DETACH, &attr, sizeof(attr)));

    return rc < 0 && rc != -ENOENT
               ? error_sys(err, rc, "detach a BPF program from device %u", ifindex)
               : 0;
}

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

int bpf_hook_find(unsigned ifindex, bool egress, const char *name, int *ret_fd,
                  uint64_t *ret_revision, struct error *err)
{
    uint32_t ids[HOOK_PROGRAMS_MAX], n = ARRAY_SIZE(ids);
    uint64_t revision;
    int rc = query(ifindex, egress, ids, &n, &revision);

    if (ret_revision) {
        *ret_revision = revision;
    }
    if (rc < 0) {
        return error_sys(err, rc, "look up BPF programs of device %u", ifindex);
    }
    for (uint32_t i = 0; i < n; i++) {
        autoclose int fd = open_by_id(BPF_PROG_GET_FD_BY_ID, ids[i]);
        struct bpf_prog_info info = {0};

        if (fd >= 0 && object_info(fd, &info, sizeof(info)) == 0 && !strcmp(info.name, name)) {
            *ret_fd = take_fd(&fd);
            return 0;
        }
    }
    return error_set(err, -ENOENT, "device %u has no BPF program %s", ifindex, name);
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
