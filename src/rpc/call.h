/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the agent's methods with JSON on both sides, for programs that have a JSON library. */
#pragma once

#include "json/json.h"
#include "rpc/rpc.h"

/*
 * Calls a method on a connection of rpc_connect and waits. params are stolen (NULL: none).
 * *ret_result is new, NULL when not asked for. fds (RPC_FDS_MAX of them at most) that come with the
 * answer go to ret_fds, which may be NULL: they are closed then. What the agent refuses comes as
 * its own text, errnum the negative of its code; after any other error the connection is of no more
 * use.
 */
int rpc_ask(int fd, const char *method, json_t *params, int64_t deadline_ns, json_t **ret_result,
            int *ret_fds, size_t *ret_n_fds, struct error *err);

/* One call on a connection of its own. -ECONNREFUSED with a text when no agent runs. */
int rpc_ask_once(const char *instance, const char *method, json_t *params, int64_t deadline_ns,
                 json_t **ret_result, struct error *err);

/* As rpc_connect, with a text. */
int rpc_open(const char *instance, int64_t deadline_ns, int *ret_fd, struct error *err);
