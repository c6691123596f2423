/* SPDX-License-Identifier: Apache-2.0 */
/* Result folders come from other machines and other versions: the three files' parsers. */
#include "fuzz.h"
#include "report/report.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result *result = calloc(1, sizeof(*result));
    struct result_run run = {.valid = true};
    struct error err;

    if (result && result_parse_set((const char *)data, size, result, &err) == 0) {
        for (size_t v = 0; v < result->n_variants; v++) {
            result_median_run(result, v);
        }
    }
    result_free(result);
    result_parse_run((const char *)data, size, &run, &err);
    result_run_clear(&run);
    result_parse_summary((const char *)data, size, &run, &err);
    result_run_clear(&run);
    return 0;
}
