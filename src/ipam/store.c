/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a network's leases: our log, or host-local's files as soon as those hold a lease. Two
 * programs that hand out addresses of one network must look at the same record, and host-local
 * knows only its own; so where it has been at work, its files are used and our log's leases are
 * moved into them.
 *
 * With a cache (cache.c) the lock's and the log's descriptors and the leases that were read stay
 * open for the next call, which takes the lock again and looks whether they still are the
 * network's.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int store_errno(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT ? -EIO : rc;
}

static int lock_fd(int fd)
{
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* `sluice clean` removes the directory: while we waited for the lock, or since the last call. */
static bool lock_is_current(const struct lock_file *lock, const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && st.st_dev == lock->dev && st.st_ino == lock->ino;
}

static int open_lock(struct lock_file *lock, const char *path, const char *instance)
{
    struct stat st;
    int rc = file_lock(path, false, &lock->fd);

    if (rc == -ENOENT) {
        autofree char *dir = str_printf("%s/ipam", instance);

        rc = dir ? dir_make(dir, 0755) : -ENOMEM;
        if (rc == 0) {
            rc = file_lock(path, false, &lock->fd);
        }
    }
    if (rc == 0 && fstat(lock->fd, &st) < 0) {
        rc = -errno;
    }
    if (rc == 0) {
        lock->dev = st.st_dev;
        lock->ino = st.st_ino;
    }
    return rc;
}

static int lock_ours(struct store *store, const char *instance, struct error *err)
{
    autofree char *path = str_printf("%s/ipam/%s.lock", instance, store->config->network);
    struct lock_file *lock = &store->lock;

    if (!path) {
        return error_sys(err, -ENOMEM, "store");
    }
    for (;;) {
        int rc = lock->fd >= 0 ? lock_fd(lock->fd) : open_lock(lock, path, instance);

        if (rc < 0) {
            return error_sys(err, rc, "lock %s", path);
        }
        if (lock_is_current(lock, path)) {
            return 0;
        }
        cleanup_fd(&lock->fd);
        lock->fd = -1;
    }
}

/*
 * Opens host-local's directory and takes its lock, the file "lock" in it under flock(2), which is
 * what its disk backend does. Always after our own lock. No directory: it never ran here.
 */
static int lock_theirs(struct store *store, struct error *err)
{
    autofree char *path = str_printf("%s/%s", store->config->data_dir, store->config->network);
    int rc;

    if (!path) {
        return error_sys(err, -ENOMEM, "store");
    }
    store->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->dir_fd < 0) {
        return errno == ENOENT ? 0 : error_sys(err, -errno, "open %s", path);
    }
    store->dir_lock_fd = openat(store->dir_fd, "lock", O_RDONLY | O_CREAT | O_CLOEXEC, 0640);
    if (store->dir_lock_fd < 0) {
        return error_sys(err, -errno, "open %s/lock", path);
    }
    rc = lock_fd(store->dir_lock_fd);
    return rc < 0 ? error_sys(err, rc, "lock %s/lock", path) : 0;
}

static int adopt_one(struct store *store, const struct lease *lease, struct error *err)
{
    struct ipam_owner owner = lease_owner(&store->leases, lease);
    char text[IP_TEXT_MAX], there[512], ours[512];
    int rc = files_create(store->dir_fd, &lease->ip, &owner);

    ip_format(&lease->ip, false, text);
    if (rc < 0 && rc != -EEXIST) {
        return error_sys(err, rc, "write the lease of %s to %s/%s", text, store->config->data_dir,
                         store->config->network);
    }
    if (rc == -EEXIST) {
        rc = files_read_owner(store->dir_fd, text, there, sizeof(there));
        snprintf(ours, sizeof(ours), "%s\r\n%s", owner.container_id, owner.ifname);
        if (rc < 0 || strcmp(ours, there)) {
            log_warn("network %s: %s is held by container %s, interface %s, and by another "
                     "container in %s; the latter keeps it",
                     store->config->network, text, owner.container_id, owner.ifname,
                     store->config->data_dir);
        }
    }
    return 0;
}

/* Moves the log's leases into host-local's files; killed in between, the next call goes on. */
static int adopt(struct store *store, struct error *err)
{
    int rc;

    for (size_t i = 0; i < store->leases.n; i++) {
        if (store->leases.v[i].live) {
            rc = adopt_one(store, &store->leases.v[i], err);
            if (rc < 0) {
                return rc;
            }
        }
    }
    rc = log_empty(&store->log);
    return rc < 0 ? error_sys(err, rc, "empty %s", store->log.path) : 0;
}

/* Our log's leases: what the last call left, if the log is still as it was then; else read anew. */
static int load_log(struct store *store, struct error *err)
{
    if (store->leases.by_owner && log_same(&store->log)) {
        return 0;
    }
    leases_clear(&store->leases);
    cleanup_fd(&store->log.fd);
    store->log.fd = -1;
    return log_load(&store->log, &store->leases, err);
}

/* Where host-local has leases, they count; ours are moved to them. */
static int load_files(struct store *store, struct error *err)
{
    int rc = store->leases.n_live ? adopt(store, err) : 0;

    if (rc < 0) {
        return rc;
    }
    leases_clear(&store->leases);
    store->ops = &store_files_ops;
    return files_load(store->dir_fd, &store->leases, err);
}

static int open_both(struct store *store, const char *instance, struct error *err)
{
    const struct ipam_config *config = store->config;
    bool shared = false;
    int rc = lock_ours(store, instance, err);

    if (rc == 0) {
        rc = lock_theirs(store, err);
    }
    if (rc == 0) {
        rc = load_log(store, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (store->dir_fd >= 0) {
        rc = files_any(store->dir_fd, &shared);
        if (rc < 0) {
            return error_sys(err, rc, "list %s/%s", config->data_dir, config->network);
        }
    }
    if (shared) {
        rc = load_files(store, err);
    }
    if (rc == 0 && !store->leases.indexed) {
        leases_index_ips(&store->leases);
    }
    store->keep = rc == 0 && !shared;
    return rc;
}

/* What the last call left is the store's until it is closed. */
static int take_cached(struct store *store)
{
    struct cached *cached = ipam_cache_enter(store->config->cache, store->log.path);

    if (!cached) {
        return -ENOMEM;
    }
    store->cached = cached;
    store->lock = cached->lock;
    cached->lock.fd = -1;
    store->leases = cached->leases;
    memset(&cached->leases, 0, sizeof(cached->leases));
    cached->log.path = store->log.path;
    store->log = cached->log;
    cached->log = (struct log_file){.fd = -1};
    return 0;
}

static void leave_cached(struct store *store)
{
    struct cached *cached = store->cached;

    if (store->keep) {
        cached->leases = store->leases;
        memset(&store->leases, 0, sizeof(store->leases));
        cached->log = store->log;
        cached->log.path = NULL;
        store->log.fd = -1;
    }
    if (store->lock.fd >= 0) {
        flock(store->lock.fd, LOCK_UN);
        cached->lock = store->lock;
        store->lock.fd = -1;
    }
}

int store_open(struct store *store, const struct ipam_config *config, const char *instance,
               struct error *err)
{
    *store = (struct store){.config = config,
                            .ops = &store_log_ops,
                            .lock = {.fd = -1},
                            .dir_fd = -1,
                            .dir_lock_fd = -1,
                            .log = {.fd = -1}};
    store->log.path = str_printf("%s/ipam/%s.log", instance, config->network);
    if (!store->log.path || (config->cache && take_cached(store) < 0)) {
        return error_sys(err, -ENOMEM, "store");
    }
    return open_both(store, instance, err);
}

/* Their lock first, as it was taken last. */
void store_close(struct store *store)
{
    cleanup_fd(&store->dir_lock_fd);
    cleanup_fd(&store->dir_fd);
    if (store->cached) {
        leave_cached(store);
    }
    leases_clear(&store->leases);
    free(store->log.path);
    cleanup_fd(&store->log.fd);
    cleanup_fd(&store->lock.fd);
    if (store->cached) {
        ipam_cache_leave(store->config->cache, store->cached);
    }
}
