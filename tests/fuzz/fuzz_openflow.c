/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an OpenFlow switch may send: the client must come through greeting, count, list, a commit
 * with meters, with an error or an answer, and stay within what it was sent.
 */
#include "fuzz.h"
#include "ovs/openflow-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536 /* fits a socket's buffer */

static int see(uint64_t cookie, uint8_t table, uint16_t priority, void *cookie_arg)
{
    size_t *n = cookie_arg;

    (void)cookie;
    (void)priority;
    ++*n;
    return table == 0xee ? -1 : 0;
}

/* Each message by itself, under every reader: none of them trusts that it was asked for. */
static void use_readers(const uint8_t *data, size_t size)
{
    struct of_message message;

    while (of_read_message(data, size, &message) > 0) {
        struct of_meter_config config;
        struct of_flow_stats flow;
        uint16_t type, code;
        const uint8_t *body;
        char words[128];
        uint32_t flows;
        size_t len;
        bool more;

        if (message.len < OF_HEADER || message.len > size) {
            abort();
        }
        of_hello_allows(&message);
        of_is_committed(&message);
        if (of_read_error(&message, &type, &code)) {
            of_error_words(type, code, words, sizeof(words));
        }
        for (int what = 0; what < 16; what++) {
            if (of_read_multipart(&message, (enum of_multipart)what, &body, &len, &more) == 0) {
                of_read_aggregate(body, len, &flows);
                of_read_meter(body, len, &config);
                while (of_read_flow(&body, &len, &flow) > 0) {
                }
            }
        }
        data += message.len;
        size -= message.len;
    }
}

static void use_client(const uint8_t *data, size_t size)
{
    static const struct flow flow = {.table = 1, .meter = 5};
    static const struct flow_meter meters[] = {{5, 1000, 0}, {6, 1000, 0}};
    static const uint32_t old[] = {6};
    struct flow_set sets[] = {
        {.cookie = 1, .flows = &flow, .n_flows = 1, .meters = meters, .n_meters = 2},
        {.cookie = 2, .flows = &flow, .n_flows = 1, .old_meters = old, .n_old_meters = 1}};
    int64_t deadline_ns = clock_ns() + NSEC_PER_SEC;
    autoopenflow struct openflow *of = NULL;
    size_t n = 0, failed = 0, seen = 0;
    struct error err = {0};
    int ends[2], rc;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
        send(ends[1], data, size, MSG_DONTWAIT) != (ssize_t)size || shutdown(ends[1], SHUT_WR)) {
        abort();
    }
    if (openflow_attach(ends[0], "fuzz", -1, deadline_ns, &of, &err) == 0) {
        openflow_count(of, 1, 1, deadline_ns, &n, &err);
        openflow_list(of, 1, 1, deadline_ns, see, &seen, &err);
        rc = openflow_apply(of, sets, 2, deadline_ns, &failed, &err);
        if (seen > size / 48 || (rc < 0 && failed > 2) || err.text[sizeof(err.text) - 1]) {
            abort();
        }
    }
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= INPUT_MAX) {
        use_readers(data, size);
        use_client(data, size);
    }
    return 0;
}
