/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills a program at a chosen step, for the tests of what a killed plugin leaves:
 *
 *     kill_steps N PROGRAM [ARGUMENT...]
 *
 * runs the program under ptrace(2) and sends it SIGKILL as it enters its N-th system call after
 * execve, before the kernel has done anything of it. Exit status: 42 when it was killed, the
 * program's own when it ended before. Processes that it starts are left alone.
 */
#include "base/base.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
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

/* The child is stopped at its execve. Its stops are a system call's entry and exit in turn. */
static int count_steps(pid_t pid, int64_t n)
{
    bool entry = true;
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
        } else {
            if (entry && --n == 0) {
                return finish(pid);
            }
            entry = !entry;
        }
    }
}

int main(int argc, char **argv)
{
    int64_t n;
    pid_t pid;
    int status;

    if (argc < 3 || str_to_int64(argv[1], 1, INT32_MAX, &n) < 0) {
        fprintf(stderr, "usage: kill_steps N PROGRAM [ARGUMENT...]\n");
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
    return count_steps(pid, n);
}
