/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of flows share. */
#include "ovs_flows.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

char flows_database[108], flows_socket[108];
const char *flows_bridge;

int flows_begin(const char *dir, const char *bridge)
{
    flows_bridge = bridge;
    snprintf(flows_database, sizeof(flows_database), "%s/db.sock", dir);
    return openflow_path(flows_database, bridge, flows_socket, sizeof(flows_socket));
}

int64_t flows_soon(void)
{
    return clock_ns() + 60 * NSEC_PER_SEC;
}

void flows_fill(struct flow *flows, size_t n, uint8_t table, size_t start)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t address = htonl(0x0a000000 + (uint32_t)(start + i));

        flows[i] = (struct flow){.table = table,
                                 .priority = 100,
                                 .match = {.eth_type = ETH_P_IP, .src = {AF_INET, 32, {0}}}};
        memcpy(flows[i].match.src.bytes, &address, sizeof(address));
    }
}

/* The output of a program that must succeed. */
static char *run(const char *const *argv)
{
    struct proc_spec spec = {
        .argv = argv, .output_max = (size_t)64 << 20, .deadline_ns = flows_soon()};
    struct proc_result result = {0};
    char *out;

    if (proc_run(&spec, &result) < 0 || !proc_ok(&result)) {
        fprintf(stderr, "%s %s: %s\n", argv[0], argv[1], result.errout ? result.errout : "");
        abort();
    }
    out = take_ptr(result.out);
    proc_result_clear(&result);
    return out;
}

char *flows_ofctl(const char *command, const char *argument)
{
    autofree char *target = str_printf("unix:%s", flows_socket);
    const char *argv[] = {"/usr/bin/ovs-ofctl",
                          "-OOpenFlow14",
                          "--no-stats",
                          "--no-names",
                          "--timeout=60",
                          command,
                          target,
                          argument,
                          NULL};

    return run(argv);
}

char *flows_printed(const char *hex)
{
    const char *argv[] = {"/usr/bin/ovs-ofctl", "ofp-print", hex, NULL};

    return run(argv);
}

void flows_vsctl(const char *fmt, ...)
{
    autofree char *database = str_printf("--db=unix:%s", flows_database);
    const char *argv[32] = {"/usr/bin/ovs-vsctl", database, "--timeout=60"};
    char words[512], *rest = words;
    size_t n = 3;
    va_list args;

    va_start(args, fmt);
    vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    while (n < ARRAY_SIZE(argv) - 1 && (argv[n] = strsep(&rest, " "))) {
        n++;
    }
    free(run(argv));
}

size_t flows_counted(uint64_t cookie)
{
    char argument[64];
    autofree char *out = NULL;
    size_t n = 0;

    snprintf(argument, sizeof(argument), "cookie=0x%lx/-1", (unsigned long)cookie);
    out = flows_ofctl("dump-flows", argument);
    for (const char *at = out; (at = strstr(at, "cookie=")); at++) {
        n++;
    }
    return n;
}

char *flows_dumped(void)
{
    return flows_ofctl("dump-flows", NULL);
}

int flows_none_left(void)
{
    autofree char *flows = flows_dumped(), *meters = flows_ofctl("dump-meters", NULL);
    const char *first = strstr(flows, "cookie=");

    if (strstr(meters, "meter=") || (first && strstr(first + 1, "cookie="))) {
        fprintf(stderr, "left:\n%.2000s%.2000s", flows, meters);
        return -1;
    }
    return 0;
}

void flows_limit(unsigned table, unsigned limit)
{
    if (limit) {
        flows_vsctl("-- --id=@t create Flow_Table flow_limit=%u overflow_policy=refuse -- set "
                    "bridge %s flow_tables:%u=@t",
                    limit, flows_bridge, table);
    } else {
        flows_vsctl("remove bridge %s flow_tables %u", flows_bridge, table);
    }
}
