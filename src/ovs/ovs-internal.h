/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the ovs room share: framing, requests, counters of configuration, daemons. */
#pragma once

#include "ovs/ovs.h"

/* ---- ovsdb.c ---- */

#define OVSDB_MESSAGE_MAX                                                                          \
    ((size_t)64 << 20) /* a longer one from the server ends the connection                         \
                        */

/* How far the search for the end of a JSON object has come; starts as all zeros. */
struct ovsdb_frame {
    size_t pos; /* bytes looked at */
    size_t depth;
    bool in_string, escaped;
};

/*
 * Looks for the end of the JSON object that data begins with (after white space), going on where
 * the last call stopped: data is what it was then with more bytes behind. Returns 1 and the
 * object's length from data's start, with frame ready for the next object; 0 when more bytes are
 * needed; -EBADMSG when data does not begin with an object. That what lies between the braces is
 * JSON is not checked.
 */
int ovsdb_frame_scan(struct ovsdb_frame *frame, const char *data, size_t len, size_t *ret_len);

/* A client on a connected stream socket, which it takes over (also on failure, -ENOMEM); path is
 * for messages. */
int ovsdb_attach(int fd, const char *path, struct ovsdb **ret);

/*
 * One JSON-RPC request (params are stolen). Blocks until its reply or the deadline. *ret_result is
 * the caller's. -EREMOTEIO when the server refused it.
 */
int ovsdb_request(struct ovsdb *db, const char *method, json_t *params, int64_t deadline_ns,
                  json_t **ret_result, struct error *err);

/* The rows of the index-th result of a transaction; NULL when it is no select's. Borrowed. */
json_t *ovsdb_rows(const json_t *results, size_t index);

/* The uuid (as ["uuid","..."]) that the index-th result, an insert's, made. Borrowed. */
json_t *ovsdb_inserted(const json_t *results, size_t index);

const char *ovsdb_path(const struct ovsdb *db);

/* ---- op.c ---- */

/*
 * Operations and their parts. Values and conditions are stolen; NULL when memory is out or a text
 * is not UTF-8, and one that is made of a NULL part is NULL too, so that only the last need be
 * checked. where: json_array() for all rows.
 */
json_t *ovsdb_where(const char *column, json_t *value);
json_t *ovsdb_where_name(const char *name);
json_t *ovsdb_select(const char *table, json_t *where, const char *columns); /* "name ports" */
json_t *ovsdb_insert(const char *table, const char *uuid_name, json_t *row);
json_t *ovsdb_mutate(const char *table, json_t *where, const char *column, const char *mutator,
                     json_t *value);
json_t *ovsdb_wait(const char *table, json_t *where, const char *column, const char *until,
                   json_t *value, int timeout_ms);
json_t *ovsdb_set(json_t *elements);

/* ---- switch.c ---- */

/* Appends operations that count next_cfg up and read it: OVS_CFG_OPS of them, the last one the
 * select that ovs_cfg_wait reads. -1 when memory is out. */
#define OVS_CFG_OPS 2
int ovs_cfg_put_bump(json_t *operations);

/*
 * Waits until ovs-vswitchd has taken in what was committed with ovs_cfg_put_bump; results are that
 * transaction's and select_index the place of its select. -ETIMEDOUT as ovs_switch_silent.
 */
int ovs_cfg_wait(struct ovsdb *db, const json_t *results, size_t select_index, int64_t deadline_ns,
                 struct error *err);

/* -ETIMEDOUT, and in err whether OVSDB, or any ovs-vswitchd at all, is missing; blocks 2 s at most.
 */
int ovs_switch_silent(struct ovsdb *db, struct error *err);

/* ---- port.c, list.c ---- */

#define OVS_KEY_NETWORK     "sluice-network"
#define OVS_KEY_CONTAINER   "sluice-container"
#define OVS_KEY_IFNAME      "sluice-ifname"
#define OVS_KEY_INSTANCE    "sluice-instance"
#define OVS_KEY_TENANT_PORT "sluice-tenant-port"

/* 0 when name can be that of a port or a bridge (what), else -EINVAL. */
int ovs_name_check(const char *what, const char *name, struct error *err);

/* ofport of an Interface row as struct ovs_port has it, and its error text or "". Borrowed. */
int ovs_row_ofport(const json_t *row);
const char *ovs_row_error(const json_t *row);

/* ---- bridge.c ---- */

/* Makes those bridges that are missing, with the userspace datapath, and checks that all work. On
 * failure those it made are gone again. dir is where ovs-vswitchd's log is. */
int ovs_bridges_make(struct ovsdb *db, const char *dir, const char *const *names, size_t n,
                     int64_t deadline_ns, struct error *err);

/* ---- daemon.c ---- */

struct ovs_daemon {
    const char *name;       /* as in /proc/PID/comm */
    const char *path;       /* program */
    const char *options[3]; /* of its own; %s stands for the directory */
};

extern const struct ovs_daemon ovs_daemon_server, ovs_daemon_switch;

/* pid of this directory's daemon, 0 when it does not run. Does not trust the pid file's text. */
pid_t ovs_daemon_find(const struct ovs_daemon *daemon, const char *dir);

/* Starts it in the background and waits until it serves. */
int ovs_daemon_start(const struct ovs_daemon *daemon, const char *dir, int64_t deadline_ns,
                     struct error *err);

/* Kills every process of it (SIGKILL) and waits for their end. */
int ovs_daemon_stop(const struct ovs_daemon *daemon, const char *dir, int64_t deadline_ns,
                    struct error *err);

/* Network namespace that a process is in. */
int ovs_daemon_netns(pid_t pid, int *ret_fd, struct error *err);

/* ---- tap.c ---- */

/*
 * ovs-vswitchd makes its internal ports and datapath devices as persistent taps, which outlive it.
 * Before it is killed: lets those go with it that were moved to another namespace than netns_fd.
 */
void ovs_taps_release_moved(pid_t pid, int netns_fd);

/* After it is dead: removes the taps of these names (JSON strings) from a namespace, but none that
 * a process holds, and nothing that is no tap. */
int ovs_taps_remove(int netns_fd, const json_t *names, struct error *err);
