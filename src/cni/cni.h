/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CNI protocol, specification 1.1.0 and the versions before it: what a runtime says by
 * environment and standard input, and what it is answered. Called by the plugin's main.
 */
#pragma once

#include "kind/kind.h"
#include "pool/pool.h"

/* Error codes: the specification's, and from 100 on our own. */
enum cni_code {
    CNI_INCOMPATIBLE_VERSION = 1,
    CNI_UNSUPPORTED_FIELD = 2,
    CNI_UNKNOWN_CONTAINER = 3,
    CNI_INVALID_ENVIRONMENT = 4,
    CNI_IO_FAILURE = 5,
    CNI_DECODING_FAILURE = 6,
    CNI_INVALID_CONFIGURATION = 7,
    CNI_TRY_AGAIN_LATER = 11,
    CNI_NOT_AVAILABLE = 50,
    CNI_FAILED = 100,        /* the kernel or OVS refused */
    CNI_EXISTS = 101,        /* the attachment, a device or a port is there already */
    CNI_NO_ADDRESS = 102,    /* the range is used up, or the requested address is taken */
    CNI_NOT_PERMITTED = 103, /* not root */
    CNI_NOT_FOUND = 104,     /* the bridge, the parent or a program is missing */
    CNI_CHANGED = 105,       /* CHECK: not as ADD made it */
};

/* The code of an error: its own if it has one, else by its errno. */
unsigned cni_error_code(const struct error *err);

/* ---- versions (version.c) ---- */

enum cni_version {
    CNI_0_1_0,
    CNI_0_2_0,
    CNI_0_3_0,
    CNI_0_3_1,
    CNI_0_4_0,
    CNI_1_0_0,
    CNI_1_1_0,
    CNI_N_VERSIONS
};

extern const char *const cni_version_names[CNI_N_VERSIONS];

/* "" means 0.1.0, as the reference library reads it; one we don't know is code 1. */
int cni_version_parse(const char *text, enum cni_version *ret, struct error *err);

/* ---- what a runtime asks (request.c) ---- */

struct cni_request {
    const char *command, *container_id, *netns, *ifname, *args, *path; /* "" when not set */
    const char *input;                                                 /* standard input */
    size_t input_len;
    const char *instance;           /* NULL or "": our own environment's */
    const char *spans;              /* file to append spans to; NULL or "": none */
    const int *netns_fd;            /* the namespace, opened by the caller; NULL: by its path */
    const char *const *environment; /* the caller's whole one; NULL: ours */
};

/* Reads the CNI_* and SLUICE_* variables of a NULL-terminated environment; all is borrowed. */
void cni_request_from_environment(const char *const *environment, struct cni_request *ret);

/* Checks what the command needs: code 4 naming the variable, its value and what is allowed. */
int cni_request_check(const struct cni_request *request, struct error *err);

/* Whether a device may have the name: 1 to 15 characters, no '/', ':', blanks; not "." nor "..". */
bool cni_ifname_ok(const char *name);

/*
 * The value of KEY in CNI_ARGS ("K=V;K2=V2"), copied; -ENOENT when it is not there, -ENAMETOOLONG
 * when dst has no room for it.
 */
int cni_args_get(const char *args, const char *key, char *dst, size_t size);

/* ---- network configuration (conf.c) ---- */

struct cni_conf {
    json_t *json; /* owns every string below and in attachment.conf */
    enum cni_version version;
    const char *name;
    const char *instance;      /* sluiceDir, SLUICE_INSTANCE or the default */
    json_t *prev_result;       /* borrowed; NULL: none */
    json_t *valid_attachments; /* borrowed; GC's list */
    json_t *dns;               /* borrowed */
    bool has_pool;             /* key "pool" */
    struct pool_limits pool;
    struct attachment attachment;
};

/*
 * Parses and checks a network configuration; keys that Sluice does not know are let be. Fills the
 * attachment's asked-for half from it and from the request. Errors name key, value and what is
 * allowed.
 */
int cni_conf_parse(const struct cni_request *request, struct cni_conf *ret, struct error *err);
void cni_conf_clear(struct cni_conf *conf);

/* ---- results (result.c) ---- */

/* ADD's answer in the configuration's version, prevResult's part first. A new object or NULL. */
json_t *cni_result(const struct cni_conf *conf);

/* What prevResult says of our interface, for CHECK. */
int cni_expected(const struct cni_conf *conf, struct attachment_expected *ret, struct error *err);

/* {"cniVersion", "code", "msg"} */
json_t *cni_error_json(enum cni_version version, const struct error *err);

/* ---- verbs (verbs.c) ---- */

struct cni_verb {
    const char *name; /* CNI_COMMAND */
    enum cni_version since;
    int (*run)(struct kind_env *env, struct cni_conf *conf, json_t **ret, struct error *err);
};

/* A request on its way, in steps, so that an agent can put its queues between them. */
struct cni_call {
    const struct cni_verb *verb; /* NULL: VERSION, or no such command */
    bool answered;               /* rc, json and err are the answer; no need to run it */
    int rc;
    struct cni_conf conf;
    json_t *json; /* what ADD or VERSION answers */
    struct error err;
};

/* Checks and parses; never blocks. The request is borrowed for as long as the call lives. */
void cni_call_begin(struct cni_call *call, const struct cni_request *request);

/* Does it, unless it is answered; blocks, until deadline_ns at the latest (but to undo). */
void cni_call_run(struct cni_call *call, struct kind_env *env, int64_t deadline_ns);

/* Answers it with an error instead. */
void cni_call_fail(struct cni_call *call, const struct error *err);

/* The text for standard output ("" for none), new; NULL when memory is out. */
char *cni_call_output(const struct cni_call *call);
void cni_call_clear(struct cni_call *call);

/*
 * All of it, in the caller's process. *ret_output: the text for standard output ("" for none), new.
 * Returns 0, or 1 when the output is an error. Blocks until done.
 */
int cni_run(const struct cni_request *request, char **ret_output);

/* Puts the flows of the policy that a record tells of into its switch anew. */
int cni_police_record(struct kind_env *env, const struct record *record, struct error *err);

/* DEL of what a record tells of, with the configuration that it holds; then the record is gone. One
 * without a configuration is only removed itself. */
int cni_del_record(const char *instance, const struct record *record, struct error *err);
