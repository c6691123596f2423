/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: the stages' names and their order, and writing. */
#include "span/span.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct span_stage span_stages[] = {
    {"netns", "NetNS", "network namespace"}, {"cni", "AddCNI", "CNI ADD"},
    {"cgroup", "Cgroup", "cgroup"},          {"nic", "AttachIf", "NIC attach"},
    {"vm", "StartVM", "sandbox start"},      {"limits", "resource2", "limits"},
    {"total", "total", "whole start"},
};
const size_t span_n_stages = ARRAY_SIZE(span_stages);

/* As most kinds make them; a step that is not here stands behind those that are. */
static const char *const steps[] = {
    "cni.gate", "cni.queue",   "cni.ipam", "cni.ovs",        "cni.link",  "cni.policy",
    "cni.addr", "del.sandbox", "del.cni",  "del.take-apart", "del.netns",
};

size_t span_stage_index(const char *name)
{
    size_t len = strcspn(name, ".");

    for (size_t i = 0; i < span_n_stages; i++) {
        if (strlen(span_stages[i].name) == len && !strncmp(span_stages[i].name, name, len)) {
            return i;
        }
    }
    return span_n_stages;
}

static size_t stage_rank(const char *name)
{
    size_t index = span_stage_index(name);

    if (index + 1 == span_n_stages) {
        return 0;
    }
    return index + 1 + (!strcmp(name, "del") || str_has_prefix(name, "del."));
}

static size_t step_rank(const char *name)
{
    size_t i = 0;

    while (i < ARRAY_SIZE(steps) && strcmp(steps[i], name) != 0) {
        i++;
    }
    return i;
}

int span_stage_compare(const char *a, const char *b)
{
    size_t x = stage_rank(a), y = stage_rank(b), len_a = strcspn(a, "."), len_b = strcspn(b, ".");
    int order = strncmp(a, b, len_a < len_b ? len_a : len_b);

    if (x != y) {
        return x < y ? -1 : 1;
    }
    if (order != 0 || len_a != len_b) {
        return order ? order : (len_a > len_b) - (len_a < len_b);
    }
    if (!a[len_a] || !b[len_b]) {
        return (a[len_a] != '\0') - (b[len_b] != '\0');
    }
    x = step_rank(a);
    y = step_rank(b);
    return x != y ? (x > y) - (x < y) : strcmp(a, b);
}

int span_open(const char *path, int *ret_fd)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

int span_write(int fd, const struct span *span)
{
    char line[768], pod[2 * SPAN_POD_MAX + 3], stage[2 * SPAN_STAGE_MAX + 3];
    int n;

    if (fd < 0) {
        return 0;
    }
    if (json_quote(pod, sizeof(pod), span->pod) < 0 ||
        json_quote(stage, sizeof(stage), span->stage) < 0) {
        return -EINVAL;
    }
    n = snprintf(line, sizeof(line),
                 "{\"v\":1,\"pod\":%s,\"stage\":%s,\"t0_ns\":%lld,\"t1_ns\":%lld,\"wait_ns\":%lld,"
                 "\"pid\":%d,\"tid\":%d,\"batch\":%lld,\"ok\":%s}\n",
                 pod, stage, (long long)span->t0_ns, (long long)span->t1_ns,
                 (long long)span->wait_ns, span->pid, span->tid, (long long)span->batch,
                 span->ok ? "true" : "false");
    return write(fd, line, (size_t)n) == n ? 0 : -EIO;
}

/* Fills in whose it is and writes it. */
static int write_of(int fd, const char *pod, const char *stage, struct span *span)
{
    if (fd < 0) {
        return 0;
    }
    span->pid = getpid();
    span->tid = gettid();
    if (str_copy(span->pod, sizeof(span->pod), pod) < 0 ||
        str_copy(span->stage, sizeof(span->stage), stage) < 0) {
        return -ENAMETOOLONG;
    }
    return span_write(fd, span);
}

int span_end(int fd, const char *pod, const char *stage, int64_t t0_ns, int64_t wait_ns, bool ok)
{
    struct span span = {.t0_ns = t0_ns, .t1_ns = clock_ns(), .wait_ns = wait_ns, .ok = ok};

    return write_of(fd, pod, stage, &span);
}

int span_waited(int fd, const char *pod, const char *stage, int64_t t0_ns, int64_t t1_ns)
{
    struct span span = {.t0_ns = t0_ns, .t1_ns = t1_ns, .wait_ns = t1_ns - t0_ns, .ok = true};

    return write_of(fd, pod, stage, &span);
}
