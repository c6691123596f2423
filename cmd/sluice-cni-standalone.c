/* SPDX-License-Identifier: Apache-2.0 */
/* sluice-cni-standalone: every network kind as a CNI plugin that needs no agent. */
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX (16 << 20)

int main(void)
{
    struct cni_request request;
    char *output = NULL, *input = NULL;
    int rc;

    cni_request_from_environment((const char *const *)environ, &request);
    rc = fd_read_all(STDIN_FILENO, INPUT_MAX, &input, &request.input_len);
    if (rc < 0) {
        struct error err;
        autojson json_t *json = NULL;

        error_code(&err, CNI_IO_FAILURE, rc, "read the network configuration: %s", strerror(-rc));
        json = cni_error_json(CNI_1_1_0, &err);
        json_dumpf(json, stdout, JSON_INDENT(4));
        return 1;
    }
    request.input = input;
    rc = cni_run(&request, &output);
    if (output && *output) {
        /* A result nobody got is no result: the runtime must hear of it. */
        if (fd_write_all(STDOUT_FILENO, output, strlen(output)) < 0 ||
            fd_write_all(STDOUT_FILENO, "\n", 1) < 0) {
            rc = 1;
        }
    }
    free(output);
    free(input);
    return rc;
}
