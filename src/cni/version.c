/* SPDX-License-Identifier: Apache-2.0 */
/* The versions of the CNI specification, and error codes. */
#include "cni/cni.h"

#include <errno.h>
#include <string.h>

const char *const cni_version_names[CNI_N_VERSIONS] = {
    [CNI_0_1_0] = "0.1.0", [CNI_0_2_0] = "0.2.0", [CNI_0_3_0] = "0.3.0", [CNI_0_3_1] = "0.3.1",
    [CNI_0_4_0] = "0.4.0", [CNI_1_0_0] = "1.0.0", [CNI_1_1_0] = "1.1.0",
};

int cni_version_parse(const char *text, enum cni_version *ret, struct error *err)
{
    if (!*text) {
        *ret = CNI_0_1_0;
        return 0;
    }
    for (int i = 0; i < CNI_N_VERSIONS; i++) {
        if (!strcmp(text, cni_version_names[i])) {
            *ret = (enum cni_version)i;
            return 0;
        }
    }
    return error_code(err, CNI_INCOMPATIBLE_VERSION, -EPROTONOSUPPORT,
                      "cniVersion: \"%.64s\" is not allowed; must be one of 0.1.0, 0.2.0, 0.3.0, "
                      "0.3.1, 0.4.0, 1.0.0, 1.1.0",
                      text);
}

unsigned cni_error_code(const struct error *err)
{
    static const struct {
        int errnum;
        unsigned code;
    } codes[] = {
        {-EINVAL, CNI_INVALID_CONFIGURATION},
        {-EBADMSG, CNI_DECODING_FAILURE},
        {-EEXIST, CNI_EXISTS},
        {-ENOSPC, CNI_NO_ADDRESS},
        {-EADDRINUSE, CNI_NO_ADDRESS},
        {-EPERM, CNI_NOT_PERMITTED},
        {-EACCES, CNI_NOT_PERMITTED},
        {-ENODEV, CNI_NOT_FOUND},
        {-ENOENT, CNI_NOT_FOUND},
        {-ESTALE, CNI_CHANGED},
        {-ETIMEDOUT, CNI_TRY_AGAIN_LATER},
        {-ECONNREFUSED, CNI_TRY_AGAIN_LATER},
        {-ECONNRESET, CNI_TRY_AGAIN_LATER},
        {-EAGAIN, CNI_TRY_AGAIN_LATER},
        {-EPIPE, CNI_TRY_AGAIN_LATER},
    };

    if (err->code) {
        return err->code;
    }
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        if (codes[i].errnum == err->errnum) {
            return codes[i].code;
        }
    }
    return CNI_FAILED;
}
