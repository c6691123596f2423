/* SPDX-License-Identifier: Apache-2.0 */
/* What an administrator and a runtime may write: a network configuration, and CNI_ARGS. */
#include "fuzz.h"
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Whatever was read can be made into flows, unless they are too many. */
static void make_flows(const struct attachment *at)
{
    struct policy_pod pod = {.cookie = at->cookie, .port = 1, .ips = at->requested};
    struct policy_program program;
    struct error err = {0};
    int rc;

    pod.n_ips = at->n_requested;
    pod.shared = at->kind->has_port;
    rc = policy_program(&at->policy, &pod, &program, &err);
    if (rc == 0) {
        policy_program_clear(&program);
    } else if (rc != -E2BIG) {
        abort();
    }
}

/* The last line is CNI_ARGS, if there is more than one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size ? memrchr(data, '\n', size) : NULL;
    size_t conf_len = newline ? (size_t)(newline - data) : size;
    size_t args_len = newline ? size - conf_len - 1 : 0;
    char *args = calloc(1, args_len + 1);
    struct cni_request request = {.command = "ADD",
                                  .container_id = "pod-1",
                                  .netns = "/run/netns/pod-1",
                                  .ifname = "eth0",
                                  .path = "/opt/cni/bin",
                                  .input = (const char *)data,
                                  .input_len = conf_len};
    struct cni_conf conf;
    struct error err = {0};

    if (!args) {
        return 0;
    }
    if (newline) {
        memcpy(args, newline + 1, args_len);
    }
    request.args = args;
    if (cni_conf_parse(&request, &conf, &err) < 0) {
        json_t *json = cni_error_json(conf.version, &err);

        /* Whatever it quotes: the runtime is told. */
        if (!err.text[0] || !json || cni_error_code(&err) == 0) {
            abort();
        }
        json_decref(json);
    } else {
        const struct kind_conf *kind = &conf.attachment.conf;

        if (kind->n_trunks > OVS_TRUNKS_MAX || kind->vlan < 0 || kind->vlan > 4094 ||
            (kind->mtu && kind->mtu < 68) || conf.instance[0] != '/' ||
            (kind->port && strlen(kind->port) >= IFNAMSIZ)) {
            abort();
        }
        make_flows(&conf.attachment);
    }
    cni_conf_clear(&conf);
    free(args);
    return 0;
}
