/* SPDX-License-Identifier: Apache-2.0 */
/* sluice-pause: the process that stands for a pod where bench starts no runtime. */
#include <sched.h>
#include <unistd.h>

int main(void)
{
    if (unshare(CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0) {
        return 1;
    }
    if (write(STDOUT_FILENO, "+", 1) != 1) {
        return 1;
    }
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    for (;;) {
        pause();
    }
}
