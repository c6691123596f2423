/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: the stages' names, and writing. */
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

int span_open(const char *path, int *ret_fd)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

int span_open_env(void)
{
    const char *path = getenv("SLUICE_SPANS");
    int fd = -1;

    if (path && *path) {
        span_open(path, &fd);
    }
    return fd;
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

int span_end(int fd, const char *pod, const char *stage, int64_t t0_ns, bool ok)
{
    struct span span = {.t0_ns = t0_ns, .ok = ok};

    if (fd < 0) {
        return 0;
    }
    span.t1_ns = clock_ns();
    span.pid = getpid();
    span.tid = gettid();
    if (str_copy(span.pod, sizeof(span.pod), pod) < 0 ||
        str_copy(span.stage, sizeof(span.stage), stage) < 0) {
        return -ENAMETOOLONG;
    }
    return span_write(fd, &span);
}
