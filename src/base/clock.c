/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks. Durations and deadlines are always on CLOCK_MONOTONIC. */
#include "base/base.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

int64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int clock_left_ms(int64_t deadline_ns)
{
    int64_t left = deadline_ns - clock_ns();

    if (left <= 0) {
        return 0;
    }
    left = (left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
    return left > INT_MAX ? INT_MAX : (int)left;
}

void clock_sleep_ns(int64_t duration_ns)
{
    struct timespec ts = {duration_ns / NSEC_PER_SEC, duration_ns % NSEC_PER_SEC};

    while (duration_ns > 0 && clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR) {
    }
}
