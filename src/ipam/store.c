/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a network's leases: our log, or host-local's files as soon as those hold a lease. Two
 * programs that hand out addresses of one network must look at the same record, and host-local
 * knows only its own; so where it has been at work, its files are used and our log's leases are
 * moved into them.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int lock_ours(struct store *store, const char *instance, struct error *err)
{
    autofree char *dir = str_printf("%s/ipam", instance);
    autofree char *path = str_printf("%s/ipam/%s.lock", instance, store->config->network);
    int rc;

    store->log.path = str_printf("%s/ipam/%s.log", instance, store->config->network);
    if (!dir || !path || !store->log.path) {
        return error_sys(err, -ENOMEM, "store");
    }
    rc = file_lock(path, false, &store->lock_fd);
    if (rc == -ENOENT) {
        rc = dir_make(dir, 0755);
        if (rc == 0) {
            rc = file_lock(path, false, &store->lock_fd);
        }
    }
    return rc < 0 ? error_sys(err, rc, "lock %s", path) : 0;
}

/*
 * Opens host-local's directory and takes its lock, the file "lock" in it under flock(2), which is
 * what its disk backend does. Always after our own lock. No directory: it never ran here.
 */
static int lock_theirs(struct store *store, struct error *err)
{
    autofree char *path = str_printf("%s/%s", store->config->data_dir, store->config->network);

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
    while (flock(store->dir_lock_fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            return error_sys(err, -errno, "lock %s/lock", path);
        }
    }
    return 0;
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

int store_open(struct store *store, const struct ipam_config *config, const char *instance,
               struct error *err)
{
    bool shared = false;
    int rc;

    *store = (struct store){.config = config,
                            .ops = &store_log_ops,
                            .lock_fd = -1,
                            .dir_fd = -1,
                            .dir_lock_fd = -1,
                            .log = {.fd = -1}};
    rc = lock_ours(store, instance, err);
    if (rc == 0) {
        rc = lock_theirs(store, err);
    }
    if (rc == 0) {
        rc = log_load(&store->log, &store->leases, err);
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
    if (shared && store->leases.n_live) {
        rc = adopt(store, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (shared) {
        leases_clear(&store->leases);
        store->ops = &store_files_ops;
        rc = files_load(store->dir_fd, &store->leases, err);
        if (rc < 0) {
            return rc;
        }
    }
    leases_index_ips(&store->leases);
    return 0;
}

void store_close(struct store *store)
{
    leases_clear(&store->leases);
    free(store->log.path);
    cleanup_fd(&store->log.fd);
    cleanup_fd(&store->dir_lock_fd);
    cleanup_fd(&store->dir_fd);
    cleanup_fd(&store->lock_fd);
}
