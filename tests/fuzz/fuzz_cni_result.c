/* SPDX-License-Identifier: Apache-2.0 */
/* prevResult, as the plugin before us or an older ADD left it: CHECK reads it, ADD adds to it. */
#include "fuzz.h"
#include "cni/cni.h"

#include <stdlib.h>

static void check_version(json_t *prev, enum cni_version version)
{
    struct cni_conf conf = {.version = version,
                            .prev_result = prev,
                            .attachment = {.key = {"net", "pod-1", "eth0"},
                                           .netns_path = "/run/netns/pod-1",
                                           .mac = {{2, 0, 0, 0, 0, 1}}}};
    struct attachment_expected expected;
    struct error err = {0};
    json_t *result, *interfaces;
    char *text;

    if (cni_expected(&conf, &expected, &err) < 0 && !err.text[0]) {
        abort();
    }
    /* What was read can be written again. */
    conf.attachment.result = expected.result;
    result = cni_result(&conf);
    interfaces = json_object_get(result, "interfaces");
    text = json_dumps(result, 0);
    if (!text || (version >= CNI_0_3_0 && json_array_size(interfaces) == 0)) {
        abort();
    }
    free(text);
    json_decref(result);
    ipam_result_clear(&expected.result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autojson json_t *prev = NULL;

    if (json_parse((const char *)data, size, &prev, NULL) == 0 && json_is_object(prev)) {
        autojson json_t *before = json_deep_copy(prev);

        for (int version = 0; version < CNI_N_VERSIONS; version++) {
            check_version(prev, (enum cni_version)version);
        }
        if (!json_equal(prev, before)) {
            abort();
        }
    }
    return 0;
}
