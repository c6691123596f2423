/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of flows share: a bridge, flows to put there, and what OVS's own tools tell. */
#pragma once

#include "ovs/openflow.h"

extern char flows_database[108], flows_socket[108];
extern const char *flows_bridge;

/* DIR has db.sock and <bridge>.mgmt. */
int flows_begin(const char *dir, const char *bridge);

int64_t flows_soon(void);

/* Flows of a table that differ from each other and from those of another start. */
void flows_fill(struct flow *flows, size_t n, uint8_t table, size_t start);

/* Output of ovs-ofctl COMMAND SWITCH [ARGUMENT], which must succeed; the caller frees it. */
char *flows_ofctl(const char *command, const char *argument);

/* What ovs-ofctl makes of a message in hexadecimal; the caller frees it. */
char *flows_printed(const char *hex);

/* Runs ovs-vsctl with words out of a format; it must succeed. */
void flows_vsctl(const char *fmt, ...) PRINTF_LIKE(1, 2);

size_t flows_counted(uint64_t cookie); /* flows of a cookie, by ovs-ofctl */
char *flows_dumped(void);              /* all flows, without counters; the caller frees it */

/* 0 when the bridge has its own flow only and no meters, else -1, said to standard error. */
int flows_none_left(void);

/* Bounds a table's flows (0: no more). */
void flows_limit(unsigned table, unsigned limit);
