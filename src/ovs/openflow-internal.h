/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the OpenFlow files share: messages written (openflow_write.c) and read (openflow_read.c),
 * the words for what a switch refuses (openflow_words.c), the connection (openflow.c), and sets of
 * flows as messages (openflow_commit.c). Source of all numbers: OpenFlow Switch
 * Specification 1.4.0, section 7.
 */
#pragma once

#include "ovs/openflow.h"

#include <sys/uio.h>

#define OF_VERSION     0x05 /* 1.4 */
#define OF_HEADER      8
#define OF_MESSAGE_MAX 65535
#define OF_CONTROL_MAX 64 /* any message that is not of a flow */
/* The bundle's envelope, a flow_mod, every field that a match can have, every instruction. */
#define OF_FLOW_MAX (16 + 48 + 208 + 80)

enum of_type {
    OF_HELLO = 0,
    OF_ERROR = 1,
    OF_ECHO_REQUEST = 2,
    OF_ECHO_REPLY = 3,
    OF_FLOW_MOD = 14,
    OF_MULTIPART_REQUEST = 18,
    OF_MULTIPART_REPLY = 19,
    OF_BARRIER_REQUEST = 20,
    OF_BARRIER_REPLY = 21,
    OF_METER_MOD = 29,
    OF_BUNDLE_CONTROL = 33,
    OF_BUNDLE_ADD = 34,
};

enum of_multipart { OF_MP_FLOW = 1, OF_MP_AGGREGATE = 2, OF_MP_METER_CONFIG = 10 };
enum of_bundle { OF_BUNDLE_OPEN = 0, OF_BUNDLE_COMMIT = 4, OF_BUNDLE_DISCARD = 6 };
enum of_meter_command { OF_METER_ADD, OF_METER_MODIFY, OF_METER_DELETE };

/* ---- openflow_write.c: each returns the end of what it wrote ---- */

/* A message that is a header and nothing else. */
uint8_t *of_write_header(uint8_t *at, enum of_type type, size_t len, uint32_t xid);
uint8_t *of_write_hello(uint8_t *at, uint32_t xid);
uint8_t *of_write_bundle(uint8_t *at, enum of_bundle what, uint32_t xid);
uint8_t *of_write_multipart(uint8_t *at, enum of_multipart what, const void *body, size_t len,
                            uint32_t xid);

/* The body of a request for flows, or for their sum, by cookie; OF_FLOWS_BODY bytes. */
#define OF_FLOWS_BODY 40
void of_write_flows_body(uint8_t *at, uint64_t cookie, uint64_t mask);

/* Adds a flow, or removes all flows of a cookie, within the bundle. */
uint8_t *of_write_add(uint8_t *at, const struct flow *flow, uint64_t cookie, uint32_t xid);
uint8_t *of_write_remove(uint8_t *at, uint64_t cookie, uint32_t xid);

/* What a meter is: flags and bands, as they are on the wire. */
#define OF_BANDS_MAX 256
struct of_meter_config {
    uint16_t flags;
    uint16_t len; /* of bands */
    uint8_t bands[OF_BANDS_MAX];
};

void of_meter_encode(const struct flow_meter *meter, struct of_meter_config *ret);

/* config is NULL for OF_METER_DELETE; at most OF_CONTROL_MAX + OF_BANDS_MAX bytes. */
uint8_t *of_write_meter(uint8_t *at, enum of_meter_command command, uint32_t id,
                        const struct of_meter_config *config, uint32_t xid);

/* ---- openflow_read.c ---- */

/* A whole message; borrowed from where it was received. */
struct of_message {
    uint8_t version, type;
    uint32_t xid;
    const uint8_t *data; /* with its header */
    size_t len;
};

/*
 * Reads the message that data begins with: 1; 0 when there is less than a whole one; -EBADMSG when
 * its length is less than a header's.
 */
int of_read_message(const uint8_t *data, size_t len, struct of_message *ret);

/* Whether a HELLO lets us speak 1.4 (section 6.3.1). */
bool of_hello_allows(const struct of_message *message);

/* Type and code of an OF_ERROR; false when it is none or has none. */
bool of_read_error(const struct of_message *message, uint16_t *ret_type, uint16_t *ret_code);

/* The body of a multipart reply and whether more come; -EBADMSG when it is no reply of this kind.
 */
int of_read_multipart(const struct of_message *message, enum of_multipart what,
                      const uint8_t **ret_body, size_t *ret_len, bool *ret_more);

int of_read_aggregate(const uint8_t *body, size_t len, uint32_t *ret_flows);

struct of_flow_stats {
    uint64_t cookie;
    uint8_t table;
    uint16_t priority;
};

/* Takes the first entry off a body of flow statistics; 0 at its end. */
int of_read_flow(const uint8_t **body, size_t *len, struct of_flow_stats *ret);

/* The first meter of a body of meter configurations; -ENOSPC when it has more bands than ours. */
int of_read_meter(const uint8_t *body, size_t len, struct of_meter_config *ret);

/* Whether a reply to a bundle's control message says that it was committed. */
bool of_is_committed(const struct of_message *message);

/* ---- openflow_words.c ---- */

#define OF_ERROR_METER_MOD_FAILED 12
#define OF_ERROR_METER_EXISTS     1

/* "the flow table is full (OFPFMFC_TABLE_FULL)"; returns buf. */
const char *of_error_words(uint16_t type, uint16_t code, char *buf, size_t size);

/* ---- openflow.c: the connection, for those who give it what is to be sent ---- */

/*
 * As openflow_connect; whatever waits on the connection ends with -ECANCELED once wake_fd (-1:
 * none) is readable.
 */
int openflow_open(const char *socket_path, int wake_fd, int64_t deadline_ns, struct openflow **ret,
                  struct error *err);

/* The same on a stream socket that is connected, which it takes over. */
int openflow_attach(int fd, const char *path, int wake_fd, int64_t deadline_ns,
                    struct openflow **ret, struct error *err);

const char *openflow_name(const struct openflow *of); /* "OpenFlow at PATH" */
int openflow_fd(const struct openflow *of);

/* For who polls: takes what has come while nothing was asked, and answers echo requests. An error
 * means that the connection is lost. */
int openflow_idle(struct openflow *of, struct error *err);

/* Numbers for so many messages that follow each other; returns the first. */
uint32_t openflow_xids(struct openflow *of, size_t n);

/* A message is copied and goes out with the next exchange. */
int openflow_queue(struct openflow *of, const void *data, size_t len);

/*
 * Sends what is queued, then the parts (changed meanwhile), then a barrier, and gives every answer
 * to take until the barrier's has come. A negative return of take goes on to the caller, who can't
 * use the connection any more; so can't he after any failure.
 */
int openflow_exchange(struct openflow *of, struct iovec *parts, size_t n_parts, int64_t deadline_ns,
                      int (*take)(void *cookie, const struct of_message *message), void *cookie,
                      struct error *err);

/* ---- openflow_commit.c: sets ---- */

/* The highest bit tells a connection's own messages from those of sets, which were written before
 * anybody knew where they would go. */
#define OF_XID_OWN 0x80000000u

/* What a switch did not take, of which message. */
struct of_refusal {
    enum { OF_NOTHING, OF_FLOW, OF_METER, OF_OLD_METER, OF_BUNDLE_ITSELF } what;
    size_t index; /* OF_FLOW: 0 is the removal, i + 1 the i-th flow */
    uint16_t type, code;
};

/* A set as messages. Its meters are copies. */
struct of_change {
    uint8_t *bytes;
    size_t len, n_messages;
    uint32_t xid; /* of the first; the highest bit is clear */
    struct flow_meter *meters;
    size_t n_meters;
    uint32_t *old_meters;
    size_t n_old_meters;
    struct of_refusal refusal; /* of the last commit */
};

int of_change_encode(const struct flow_set *set, uint32_t xid, struct of_change *ret,
                     struct error *err);
void of_change_clear(struct of_change *change);

/* Puts into err, in words, why a set was refused, which is also the return value. */
int of_change_explain(const struct of_change *change, const struct flow_set *set,
                      struct error *err);

/*
 * Makes all changes hold in one bundle. -EREMOTEIO: those that have a refusal were refused, none
 * of them, and none of the others, holds; where none has, err tells why. Any other failure: the
 * connection is lost.
 */
int openflow_commit(struct openflow *of, struct of_change *const *changes, size_t n,
                    int64_t deadline_ns, struct error *err);
