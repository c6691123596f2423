/* SPDX-License-Identifier: Apache-2.0 */
/* How pods arrive. */
#include "bench/bench.h"

#include <errno.h>
#include <string.h>

int bench_arrival_parse(const char *text, struct bench_arrival *ret, struct error *err)
{
    struct bench_arrival arrival = {.concurrency = -1};
    int64_t k = 0;

    if (!strcmp(text, "burst")) {
        arrival.concurrency = 0;
    } else if (!strcmp(text, "seq")) {
        arrival.concurrency = 1;
    } else if (str_has_prefix(text, "closed:") &&
               str_to_int64(text + strlen("closed:"), 1, BENCH_PODS_MAX, &k) == 0) {
        arrival.concurrency = (int)k;
    }
    if (arrival.concurrency < 0 || str_copy(arrival.text, sizeof(arrival.text), text) < 0) {
        return error_set(err, -EINVAL,
                         "arrival \"%.64s\" is not allowed; must be burst, seq or closed:K (K from "
                         "1 to %d)",
                         text, BENCH_PODS_MAX);
    }
    *ret = arrival;
    return 0;
}
