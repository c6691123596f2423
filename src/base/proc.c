/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: started by posix_spawn (vfork underneath), fed, read, and reaped. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct stream {
    int fd;
    char *data;
    size_t len, size;
};

/* Reads what is there; 1 at the end, 0 for more to come. */
static int stream_read(struct stream *s, size_t max)
{
    ssize_t n;

    if (s->size - s->len < 2) {
        size_t want = s->size ? s->size * 2 : 4096;
        char *bigger = realloc(s->data, want);

        if (!bigger) {
            return -ENOMEM;
        }
        s->data = bigger;
        s->size = want;
    }
    n = read(s->fd, s->data + s->len, s->size - s->len - 1);
    if (n < 0) {
        return errno == EINTR || errno == EAGAIN ? 0 : -errno;
    }
    s->len += (size_t)n;
    s->data[s->len] = '\0';
    if (s->len > max) {
        return -EFBIG;
    }
    return n == 0;
}

static void stream_close(struct stream *s)
{
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
}

static int spawn(const struct proc_spec *spec, int in_fd, int out_fd, int err_fd, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGHUP);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    /* A group of its own: a terminal's Ctrl-C is for us, who then end children in good order. */
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    if (in_fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, in_fd, STDIN_FILENO);
    } else {
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    if (out_fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    }
    if (err_fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
    }
    /* A daemon must not hold on to what somebody above us forgot to mark. */
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    rc = posix_spawn(ret_pid, spec->argv[0], &actions, &attr, (char *const *)spec->argv,
                     spec->envp ? (char *const *)spec->envp : environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* A pipe holds 64 KiB, and less for a user with many of them. */
static int make_room(int pipe_fd, int len)
{
    return fcntl(pipe_fd, F_GETPIPE_SZ) >= len || fcntl(pipe_fd, F_SETPIPE_SZ, len) >= len ? 0 : -1;
}

/* Inputs fit a pipe whole, so that no writer has to be polled. */
static int make_input(const struct proc_spec *spec, int *ret_fd)
{
    autoclose int read_end = -1, write_end = -1;
    int ends[2];

    if (!spec->input) {
        return 0;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    read_end = ends[0];
    write_end = ends[1];
    if (spec->input_len > INT_MAX || make_room(write_end, (int)spec->input_len) < 0) {
        return -E2BIG;
    }
    if (write(write_end, spec->input, spec->input_len) != (ssize_t)spec->input_len) {
        return -EIO;
    }
    *ret_fd = take_fd(&read_end);
    return 0;
}

static int collect(struct stream *out, struct stream *errout, const struct proc_spec *spec)
{
    while (out->fd >= 0 || errout->fd >= 0) {
        struct pollfd fds[2] = {{.fd = out->fd, .events = POLLIN},
                                {.fd = errout->fd, .events = POLLIN}};
        struct stream *streams[2] = {out, errout};
        int timeout = spec->deadline_ns ? clock_left_ms(spec->deadline_ns) : -1;
        int n = poll(fds, 2, timeout);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            return -ETIMEDOUT;
        }
        for (int i = 0; i < 2 && n > 0; i++) {
            if (fds[i].fd >= 0 && fds[i].revents) {
                int rc = stream_read(streams[i], spec->output_max);

                if (rc < 0) {
                    return rc;
                }
                if (rc) {
                    stream_close(streams[i]);
                }
            }
        }
    }
    return 0;
}

/* A child may close its output and live on. */
static int wait_end(pid_t pid, int64_t deadline_ns)
{
    autoclose int fd = deadline_ns ? pidfd_open(pid, 0) : -1;
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    int n;

    if (fd < 0) {
        return 0;
    }
    do {
        n = poll(&pfd, 1, clock_left_ms(deadline_ns));
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

int proc_run(const struct proc_spec *spec, struct proc_result *ret)
{
    struct stream out = {.fd = -1}, errout = {.fd = -1};
    autoclose int in_fd = -1, out_write = -1, err_write = -1;
    int ends[2], rc;
    pid_t pid = 0;

    memset(ret, 0, sizeof(*ret));
    rc = make_input(spec, &in_fd);
    if (rc < 0) {
        return rc;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    out.fd = ends[0];
    out_write = ends[1];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        rc = -errno;
        stream_close(&out);
        return rc;
    }
    errout.fd = ends[0];
    err_write = ends[1];
    rc = spawn(spec, in_fd, out_write, err_write, &pid);
    close(take_fd(&out_write));
    close(take_fd(&err_write));
    if (rc == 0) {
        rc = collect(&out, &errout, spec);
        if (rc == 0) {
            rc = wait_end(pid, spec->deadline_ns);
        }
        if (rc < 0) {
            kill(-pid, SIGKILL);
        }
        while (wait4(pid, &ret->status, 0, &ret->usage) < 0 && errno == EINTR) {
        }
    }
    stream_close(&out);
    stream_close(&errout);
    ret->pid = pid;
    ret->out = out.data;
    ret->out_len = out.len;
    ret->errout = errout.data;
    ret->errout_len = errout.len;
    if (rc < 0) {
        proc_result_clear(ret);
    }
    return rc;
}

void proc_result_clear(struct proc_result *result)
{
    free(result->out);
    free(result->errout);
    result->out = NULL;
    result->errout = NULL;
}

bool proc_ok(const struct proc_result *result)
{
    return WIFEXITED(result->status) && WEXITSTATUS(result->status) == 0;
}

int proc_start(const char *const *argv, const char *const *envp, int log_fd, pid_t *ret_pid)
{
    struct proc_spec spec = {.argv = argv, .envp = envp};

    return spawn(&spec, -1, log_fd, log_fd, ret_pid);
}

int proc_cpu_ns(pid_t pid, int64_t *ret_ns)
{
    struct timespec ts;
    clockid_t id;

    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &ts) < 0) {
        return -ESRCH;
    }
    *ret_ns = ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
    return 0;
}
