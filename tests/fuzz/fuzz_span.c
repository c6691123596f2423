/* SPDX-License-Identifier: Apache-2.0 */
/* Span lines come from any program that was told where the file is. */
#include "fuzz.h"
#include "span/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span span;

    if (span_parse((const char *)data, size, &span) == 0) {
        span_write(-1, &span);
    }
    return 0;
}
