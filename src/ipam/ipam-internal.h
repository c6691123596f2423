/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the IPAM room share: the checked configuration, the table of leases, and the
 * store, which is one of two back ends (log.c, files.c) behind a table of functions.
 */
#pragma once

#include "ipam/ipam.h"

/* ---- configuration (config.c) and what it has in common with results (result.c, dns.c) ---- */

struct ipam_set {
    struct ipam_range ranges[IPAM_RANGES_MAX];
    size_t n_ranges;
};

struct ipam_config {
    char *network;
    char *data_dir;
    char *resolv_conf; /* NULL: none */
    struct ipam_set sets[IPAM_IPS_MAX];
    size_t n_sets;
    struct ipam_route routes[IPAM_ROUTES_MAX];
    size_t n_routes;
    struct ipam_cache *cache; /* NULL: none; borrowed */
};

bool ipam_range_holds(const struct ipam_range *range, const struct ip_addr *ip);
bool ipam_set_holds(const struct ipam_set *set, const struct ip_addr *ip);

/* -EINVAL unless container ID and interface name are such as the CNI specification allows: they
 * become words of a line in the log, so that a space or a newline would forge one. */
int ipam_owner_check(const struct ipam_owner *owner, struct error *err);

/* A letter or digit, then letters, digits, '_', '.', '-': the specification's rule for network
 * names and container IDs. At most max characters. */
bool ipam_name_ok(const char *name, size_t max);

/* Readers of object[key]; a missing key or null leaves *ret as it was. */
int ipam_read_address(const json_t *object, const struct json_path *path, const char *key,
                      struct ip_addr *ret, struct error *err);
int ipam_read_subnet(const json_t *object, const struct json_path *path, const char *key,
                     struct ip_addr *ret, struct error *err); /* address with prefix length */

/* Reads object["routes"]; a destination's host bits are cleared, since the kernel refuses them. */
int ipam_read_routes(const json_t *object, const struct json_path *path, struct ipam_route *routes,
                     size_t *ret_n, struct error *err);

/* A resolv.conf file as a CNI "dns" object (new reference); NULL when the file says nothing. */
int ipam_dns_read(const char *path, json_t **ret, struct error *err);

/* "1.0.0" as a number that can be compared, or -EINVAL. */
int ipam_version(const char *text);
#define IPAM_VERSION(major, minor, patch) ((major)*1000000 + (minor)*1000 + (patch))

/* ---- the table of leases (leases.c) ---- */

#define LEASE_NONE UINT32_MAX

struct lease {
    struct ip_addr ip;
    uint32_t owner; /* where in text the container ID stands; the interface name follows its NUL */
    uint16_t id_len, ifname_len;
    uint32_t next;     /* another lease of the same owner, or LEASE_NONE */
    uint32_t live : 1; /* 0: handed out once, given back since; kept for the round-robin order */
    uint32_t holders : 31; /* of the lease that by_ip has for an address: the live ones of it */
};

/*
 * All that was handed out, in that order, with two hash indexes. Interface name "": the record
 * does not say (host-local before 0.8). Container ID "": the record cannot be read.
 */
struct leases {
    char *text; /* owned */
    size_t text_len, text_size;
    struct lease *v;
    size_t n, size, n_live;
    uint32_t *by_owner, *by_ip; /* open addressing; LEASE_NONE: empty slot */
    size_t n_names;             /* slots of by_owner that were ever used */
    uint32_t mask;
    bool indexed; /* by_ip is kept up */
};

/* Room for that many more adds, marks and moves: they don't fail, and beyond it do nothing. */
int leases_reserve(struct leases *leases, size_t more);
void leases_clear(struct leases *leases);

/* Copies data behind the text; NULL when memory is out. What stood in the text may have moved. */
char *leases_put_text(struct leases *leases, const char *data, size_t len);
void leases_add(struct leases *leases, const struct ip_addr *ip, uint32_t owner, size_t id_len,
                size_t ifname_len);
void leases_mark(struct leases *leases, const struct ip_addr *ip); /* handed out, not live */
void leases_drop_owner(struct leases *leases, const struct ipam_owner *owner);

/* Makes all of one owner's another's, whose name stands in text; each keeps its place in the order.
 * -EINVAL when from has none or the other has one. */
int leases_move(struct leases *leases, const struct ipam_owner *from, uint32_t owner, size_t id_len,
                size_t ifname_len);

/* First lease of the owner, by exact name, or LEASE_NONE. */
uint32_t leases_of(const struct leases *leases, const struct ipam_owner *owner);

/* To be called before the first leases_taken, which counts live ones only; one index that is built
 * late costs less than one kept up while a log is read. */
void leases_index_ips(struct leases *leases);
bool leases_taken(const struct leases *leases, const struct ip_addr *ip);

struct ipam_owner lease_owner(const struct leases *leases, const struct lease *lease);

/* ---- the store (store.c) ---- */

struct store;

struct ipam_pick {
    size_t set;
    struct ip_addr ip;
};

struct store_ops {
    const char *name;
    /* Records all picks for the owner, or none. */
    int (*add)(struct store *store, const struct ipam_pick *picks, size_t n,
               const struct ipam_owner *owner, struct error *err);
    /* Gives back all leases of some owners, each named by its first one (leases_of). */
    int (*remove)(struct store *store, const uint32_t *firsts, size_t n, struct error *err);
    /* Makes another's all leases of the owner whose first one is given. */
    int (*move)(struct store *store, uint32_t first, const struct ipam_owner *to,
                struct error *err);
    /* The last address handed out in a set; -ENOENT when nothing tells. */
    int (*last)(struct store *store, size_t set, struct ip_addr *ret);
};

extern const struct store_ops store_log_ops, store_files_ops;

/*
 * Its bytes never change but by an append: whatever else is to be done makes a new file. So a log
 * with the inode and the size that were seen last says what it said then.
 */
struct log_file {
    char *path;
    char boot[37];
    int fd; /* -1: no file yet */
    dev_t dev;
    ino_t ino;
    size_t size;  /* bytes there are */
    size_t valid; /* bytes that count: up to the last whole line, 0 for another boot's log */
    size_t lines; /* after the header */
};

struct lock_file {
    int fd; /* -1: none */
    dev_t dev;
    ino_t ino;
};

/* What a cache has of one network. */
struct cached {
    struct lock_file lock;
    struct leases leases; /* by_owner NULL: none */
    struct log_file log;  /* without path */
};

struct store {
    const struct ipam_config *config;
    const struct store_ops *ops;
    struct cached *cached; /* where the next call finds what this one leaves; NULL: nowhere */
    bool keep;             /* leases are what the log says, and may be left there */
    struct lock_file lock; /* ours */
    int dir_fd;            /* host-local's directory of this network, -1: there is none */
    int dir_lock_fd;       /* host-local's lock in it */
    struct leases leases;
    struct log_file log;
};

/*
 * Takes the locks, finds out which back end holds this network's leases and reads them. The locks
 * go with store_close, which takes a half-opened store too.
 */
int store_open(struct store *store, const struct ipam_config *config, const char *instance,
               struct error *err);
void store_close(struct store *store);
#define autostore __attribute__((cleanup(store_close)))

/* A full disk is -EIO: -ENOSPC means that no address is left. */
int store_errno(int rc);

/* cache.c: the entry of the network with this log, for this thread alone until it is given back;
 * NULL when memory is out. */
struct cached *ipam_cache_enter(struct ipam_cache *cache, const char *path);
void ipam_cache_leave(struct ipam_cache *cache, struct cached *cached);

/* log.c */
int log_load(struct log_file *log, struct leases *ret, struct error *err);
bool log_same(const struct log_file *log); /* as it was when last read or written */
int log_empty(struct log_file *log);       /* forgets all leases */

/*
 * Reads a log's text (and keeps it: leases->text) into leases. *ret_valid: see struct log_file.
 * Lines that make no sense are skipped and counted. -EPROTO: this boot's, in another format.
 */
int log_parse(char *text, size_t len, const char *boot, struct leases *leases, size_t *ret_valid,
              size_t *ret_lines, size_t *ret_bad);

/* Does to leases what n lines say, as if they were read behind the others. */
int log_apply(struct leases *leases, const char *data, size_t len, size_t n);

/* files.c */
int files_any(int dir_fd, bool *ret); /* whether there is any lease in host-local's directory */
int files_load(int dir_fd, struct leases *ret, struct error *err);

/* Creates one lease's file; -EEXIST when the address is taken there. */
int files_create(int dir_fd, const struct ip_addr *ip, const struct ipam_owner *owner);

/* Whose an address is: "ID\r\nIFNAME" as the file says, cut at size. */
int files_read_owner(int dir_fd, const char *name, char *buf, size_t size);
