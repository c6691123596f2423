/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the ovs room share: framing, requests, counters of configuration, daemons. */
#pragma once

#include "ovs/ovs.h"

#include <poll.h>
#include <pthread.h>

/* ---- socket.c ---- */

const char *ovs_socket_plain(const char *socket_path); /* without "unix:" in front */

/* Connects to a daemon's socket; waits while its backlog is full. peer, "OVSDB", is for messages.
 */
int ovs_socket_connect(const char *peer, const char *socket_path, int64_t deadline_ns, int *ret_fd,
                       struct error *err);

/* Starts a thread with all signals blocked: they are other threads' business. */
int ovs_thread_start(pthread_t *ret, void *(*run)(void *cookie), void *cookie);

/* Which of the sizes (at most 1, 2, 4, ...; the last: more) n things have. */
size_t ovs_batch_size(size_t n, size_t sizes);

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

/*
 * The same without blocking, for who serves several descriptors: requests are queued by ovsdb_send,
 * go out by ovsdb_flush, which also tells what to poll for; ovsdb_receive takes in bytes once there
 * are any, and ovsdb_next the next message of them (*ret NULL: none is whole yet), having answered
 * echo requests. After a failure of any the connection is good for nothing but ovsdb_close.
 */
int ovsdb_send(struct ovsdb *db, const char *method, json_t *params, json_int_t *ret_id,
               struct error *err);
int ovsdb_flush(struct ovsdb *db, struct pollfd *ret, struct error *err);
int ovsdb_receive(struct ovsdb *db, struct error *err);
int ovsdb_next(struct ovsdb *db, json_t **ret, struct error *err);

bool ovsdb_is_reply(const json_t *message, json_int_t id);

/* A reply's result, borrowed; -EREMOTEIO when the server refused the request. */
int ovsdb_result(const json_t *reply, json_t **ret, struct error *err);

/* The parameters of "transact": operations (stolen) with the database in front; NULL for NULL. */
json_t *ovsdb_transaction(json_t *operations);

/* Whether all n operations were done: 0, or what ovsdb_transact answers for them. */
int ovsdb_results(const char *path, const json_t *results, size_t n, struct error *err);

int ovsdb_silent(const char *path, struct error *err); /* -ETIMEDOUT, in words */

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

/* The words of it, and the lock of the database that every ovs-vswitchd holds (RFC 7047, section
 * 4.1.8): asking for it and giving it back at once is harmless, and tells whether one is there. */
#define OVS_SWITCH_LOCK "ovs_vswitchd"
int ovs_switch_silent_words(const char *path, bool present, struct error *err);

/* ---- port.c, list.c ---- */

#define OVS_KEY_NETWORK     "sluice-network"
#define OVS_KEY_CONTAINER   "sluice-container"
#define OVS_KEY_IFNAME      "sluice-ifname"
#define OVS_KEY_INSTANCE    "sluice-instance"
#define OVS_KEY_TENANT_PORT "sluice-tenant-port"

/* 0 when name can be that of a port or a bridge (what), else -EINVAL. */
int ovs_name_check(const char *what, const char *name, struct error *err);

/* 0 when such a port can be, else -EINVAL. */
int ovs_spec_check(const struct ovs_port_spec *spec, struct error *err);

/*
 * Writing an addition. ovs_add_insert appends the two insertions of a port (Interface, Port), whose
 * number is to be its own within the transaction; ovs_add_refer notes in an object which bridge is
 * to have it; ovs_add_bridges puts in front of all operations a wait for each of those bridges,
 * which fails the transaction at once where there is none, and a mutation of each behind. NULL
 * parts, where memory was out or a text is not UTF-8, show in the number of operations.
 */
void ovs_add_insert(json_t *operations, const struct ovs_port_spec *spec, size_t number);
void ovs_add_refer(json_t *bridges, const struct ovs_port_spec *spec, size_t number);
void ovs_add_bridges(json_t *operations, const json_t *bridges);

/* Puts in front of err what was to be added; returns rc. */
int ovs_add_wrap(const struct ovs_port_spec *specs, size_t n, int rc, struct error *err);

/* Takes Port rows' uuids (["uuid", ...], borrowed) out of whatever bridges have them; the rows are
 * then collected. */
json_t *ovs_detach(const json_t *uuids);

/* What ovs-vswitchd made of a port whose ofport is set, or whose Interface row is gone (NULL). */
int ovs_port_judge(const struct ovs_port_spec *spec, const json_t *row, struct error *err);

/* The index-th element of a column that is a set of references; borrowed, NULL past the end. */
json_t *ovs_row_reference(const json_t *row, const char *column, size_t index);

/* Who owns a Port row; strings are borrowed. */
struct ovs_owner ovs_row_owner(const json_t *row);

/* -ENODEV, with the bridges that there are, which rows has. */
int ovs_no_bridge(const char *path, const char *missing, const json_t *rows, struct error *err);

/* The text of ["uuid", text]; "" for anything else. */
const char *ovs_uuid_text(const json_t *uuid);

/* ofport of an Interface row as struct ovs_port has it, and its error text or "". Borrowed. */
int ovs_row_ofport(const json_t *row);
const char *ovs_row_error(const json_t *row);

/* ---- bridge.c ---- */

/* Makes those of options' bridges that are missing, and checks that all work. On failure those it
 * made are gone again. dir is where ovs-vswitchd's log is. */
int ovs_bridges_make(struct ovsdb *db, const char *dir, const struct ovs_private_options *options,
                     int64_t deadline_ns, struct error *err);

/* ---- daemon.c ---- */

struct ovs_daemon {
    const char *name;       /* as in /proc/PID/comm */
    const char *path;       /* program */
    const char *options[4]; /* of its own; %s stands for the directory */
};

/* The switch with DPDK is the same daemon by another program: either finds and stops both. */
extern const struct ovs_daemon ovs_daemon_server, ovs_daemon_switch, ovs_daemon_switch_dpdk;

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

/* ---- dpdk.c ---- */

/*
 * How many hugepages ovs-vswitchd is to have for DPDK, 0 for none: what was asked for (0: no
 * matter) is put into the database, unless it runs already; then it must be what it has, else
 * -EEXIST.
 */
int ovs_dpdk_settle(struct ovsdb *db, unsigned asked, bool running, int64_t deadline_ns,
                    unsigned *ret_pages, struct error *err);

/* ---- hugepages.c ---- */

/*
 * Sees to it that so many hugepages of 2 MB are free: those that are missing are added to the
 * host's number, and noted in dir. Nobody else of us takes them while *ret_lock is open. Blocks;
 * -ENOMEM when the kernel can't make them, -ENOTSUP when it knows none.
 */
int ovs_hugepages_reserve(const char *dir, unsigned wanted, int *ret_lock, struct error *err);

/* Takes back what was added for dir; nothing, when nothing was. */
int ovs_hugepages_return(const char *dir, struct error *err);

/* ---- kernel.c ---- */

/*
 * Makes the kernel's datapath of the caller's namespace that of the OVS in dir, before its
 * ovs-vswitchd is started; running: it is already. -EOPNOTSUPP when the kernel has none, -EBUSY
 * when another OVS has it or ovs-vswitchd runs without.
 */
int ovs_kernel_claim(const char *dir, bool running, struct error *err);

/* Whether it was claimed, be it in another boot. */
bool ovs_kernel_used(const char *dir);

/* Removes the datapath from a namespace, if it is this OVS's; ovs-vswitchd must be dead. */
int ovs_kernel_remove(const char *dir, int netns_fd, struct error *err);

/* ---- tap.c ---- */

/*
 * ovs-vswitchd makes its internal ports and datapath devices as persistent taps, which outlive it.
 * Before it is killed: lets those go with it that were moved to another namespace than netns_fd.
 */
void ovs_taps_release_moved(pid_t pid, int netns_fd);

/* After it is dead: removes the taps of these names (JSON strings) from a namespace, but none that
 * a process holds, and nothing that is no tap. */
int ovs_taps_remove(int netns_fd, const json_t *names, struct error *err);
