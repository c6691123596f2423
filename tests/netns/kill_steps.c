/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills a program at a chosen step, for the tests of what a killed plugin leaves:
 *
 *     kill_steps [-m] N PROGRAM [ARGUMENT...]
 *
 * runs the program under ptrace(2) and sends it SIGKILL as it enters its N-th system call after
 * execve, before the kernel has done anything of it; with -m as it leaves the N-th one that sent a
 * message by a socket, before it could read an answer. Exit status: 42 when it was killed, the
 * program's own when it ended before. Processes that it starts are left alone.
 */
#include "base/base.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_KILLED  42
#define EXIT_TROUBLE 125

static int fail(const char *what)
{
    fprintf(stderr, "kill_steps: %s: %s\n", what, strerror(errno));
    return EXIT_TROUBLE;
}

static int finish(pid_t pid)
{
    int status;

    if (kill(pid, SIGKILL) < 0 || waitpid(pid, &status, 0) < 0) {
        return fail("kill");
    }
    return EXIT_KILLED;
}

static bool is_socket(pid_t pid, uint64_t fd)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof(path), "/proc/%d/fd/%llu", (int)pid, (unsigned long long)fd);
    return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool sends(pid_t pid, uint64_t number, uint64_t fd)
{
    switch (number) {
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
        return true;
    case SYS_write:
    case SYS_writev:
        return is_socket(pid, fd);
    default:
        return false;
    }
}

/* Whether the stop that the child is at is one of those that are counted. *sending is kept from a
 * system call's entry to its exit. */
static bool is_step(pid_t pid, bool messages, bool *sending)
{
    struct __ptrace_syscall_info info = {0};

    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) < 0) {
        return false;
    }
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        *sending = sends(pid, info.entry.nr, info.entry.args[0]);
        return !messages;
    }
    return messages && info.op == PTRACE_SYSCALL_INFO_EXIT && *sending && info.exit.rval > 0;
}

/* The child is stopped at its execve. */
static int count_steps(pid_t pid, bool messages, int64_t n)
{
    bool sending = false;
    int deliver = 0, status;

    for (;;) {
        if (ptrace(PTRACE_SYSCALL, pid, NULL, deliver) < 0 || waitpid(pid, &status, 0) < 0) {
            return fail("trace");
        }
        deliver = 0;
        if (WIFEXITED(status)) {
            return WEXITSTATUS(status);
        }
        if (WIFSIGNALED(status)) {
            fprintf(stderr, "kill_steps: killed by signal %d\n", WTERMSIG(status));
            return EXIT_TROUBLE;
        }
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            deliver = WSTOPSIG(status);
        } else if (is_step(pid, messages, &sending) && --n == 0) {
            return finish(pid);
        }
    }
}

int main(int argc, char **argv)
{
    bool messages = argc > 1 && !strcmp(argv[1], "-m");
    int64_t n;
    pid_t pid;
    int status;

    argc -= messages;
    argv += messages;
    if (argc < 3 || str_to_int64(argv[1], 1, INT32_MAX, &n) < 0) {
        fprintf(stderr, "usage: kill_steps [-m] N PROGRAM [ARGUMENT...]\n");
        return EXIT_TROUBLE;
    }
    pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[2], argv + 2);
        _exit(fail(argv[2]));
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return fail("start");
    }
    if (!WIFSTOPPED(status)) {
        return EXIT_TROUBLE; /* it could not be executed, and has said so */
    }
    if (ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) {
        return fail("ptrace");
    }
    return count_steps(pid, messages, n);
}
