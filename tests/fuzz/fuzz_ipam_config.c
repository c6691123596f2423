/* SPDX-License-Identifier: Apache-2.0 */
/* The "ipam" object of a network configuration: files of the administrator, and of other programs.
 */
#include "fuzz.h"
#include "ipam/ipam.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    __attribute__((cleanup(cleanup_ipam_config))) struct ipam_config *config = NULL;
    autojson json_t *ipam = NULL;
    struct error err;

    if (json_parse((const char *)data, size, &ipam, NULL) == 0) {
        ipam_config_parse(ipam, "net", &config, &err);
    }
    return 0;
}
