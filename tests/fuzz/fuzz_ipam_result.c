/* SPDX-License-Identifier: Apache-2.0 */
/* What other people's IPAM plugins answer. */
#include "fuzz.h"
#include "ipam/ipam.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autojson json_t *answer = NULL;
    struct ipam_result result = {0};
    struct error err;

    if (json_parse((const char *)data, size, &answer, NULL) == 0) {
        ipam_result_parse(answer, &result, &err);
        ipam_result_clear(&result);
    }
    return 0;
}
