/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host-local's own record, as its disk backend keeps it (containernetworking/plugins,
 * plugins/ipam/host-local/backend/disk): in DATADIR/NETWORK one file per address, named by it,
 * holding "CONTAINER-ID\r\nIFNAME" (before 0.8: the container ID alone), and
 * "last_reserved_ip.SET" with the last address handed out. Used where host-local has leases.
 */
#include "ipam/ipam-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPORARY ".sluice-move"
#define OWNER_MAX 320 /* a container ID, a line end, an interface name, a NUL */

/*
 * A lease's file is named by the address exactly as it is printed; other spellings are not looked
 * at by host-local either.
 */
static bool is_lease(const char *name, struct ip_addr *ret)
{
    char text[IP_TEXT_MAX];

    return ip_parse(name, ret) == 0 && !strcmp(ip_format(ret, false, text), name);
}

static DIR *open_dir(int dir_fd)
{
    autoclose int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (dir) {
        take_fd(&fd);
    }
    return dir;
}

/* Next lease of the directory: 1, 0 at its end. */
static int next_lease(DIR *dir, struct ip_addr *ret)
{
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!entry) {
            return -errno;
        }
        if (is_lease(entry->d_name, ret)) {
            return 1;
        }
    }
}

int files_any(int dir_fd, bool *ret)
{
    DIR *dir = open_dir(dir_fd);
    struct ip_addr ip;
    int rc;

    if (!dir) {
        return -errno;
    }
    rc = next_lease(dir, &ip);
    closedir(dir);
    if (rc < 0) {
        return rc;
    }
    *ret = rc > 0;
    return 0;
}

int files_read_owner(int dir_fd, const char *name, char *buf, size_t size)
{
    autoclose int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

    if (n < 0) {
        return -errno;
    }
    while (n > 0 && strchr(" \t\r\n", buf[n - 1])) {
        n--;
    }
    buf[n] = '\0';
    return 0;
}

/* All leases' addresses, as a list that the caller frees. */
static int list_ips(int dir_fd, struct ip_addr **ret, size_t *ret_n)
{
    autofree struct ip_addr *ips = NULL;
    size_t n = 0, size = 0;
    DIR *dir = open_dir(dir_fd);
    int rc;

    if (!dir) {
        return -errno;
    }
    for (;;) {
        if (n == size) {
            struct ip_addr *bigger = realloc(ips, (size = size ? 2 * size : 64) * sizeof(*ips));

            if (!bigger) {
                rc = -ENOMEM;
                break;
            }
            ips = bigger;
        }
        rc = next_lease(dir, &ips[n]);
        if (rc <= 0) {
            break;
        }
        n++;
    }
    closedir(dir);
    if (rc == 0) {
        *ret = take_ptr(ips);
        *ret_n = n;
    }
    return rc;
}

/* Reads one file's owner into text at used, split in two strings; returns the bytes used. */
static size_t load_owner(int dir_fd, const struct ip_addr *ip, struct leases *leases, size_t used)
{
    char name[IP_TEXT_MAX], *text = leases->text + used, *line_end;
    size_t id_len, ifname_len;

    /* Unreadable or empty (its writer was killed): taken, by nobody we could name. */
    if (files_read_owner(dir_fd, ip_format(ip, false, name), text, OWNER_MAX) < 0) {
        text[0] = '\0';
    }
    line_end = strstr(text, "\r\n");
    if (line_end) {
        memmove(line_end, line_end + 1, strlen(line_end));
        line_end[0] = '\0';
    }
    id_len = strlen(text);
    if (!line_end) {
        text[id_len + 1] = '\0';
    }
    ifname_len = strlen(text + id_len + 1);
    leases_add(leases, ip, (uint32_t)used, id_len, ifname_len);
    return id_len + ifname_len + 2;
}

int files_load(int dir_fd, struct leases *ret, struct error *err)
{
    autofree struct ip_addr *ips = NULL;
    size_t n = 0, used = 0;
    int rc = list_ips(dir_fd, &ips, &n);

    if (rc == 0) {
        rc = leases_reserve(ret, n);
    }
    if (rc == 0) {
        ret->text = malloc((n + 1) * (OWNER_MAX + 2)); /* what is not written costs no memory */
        rc = ret->text && n < UINT32_MAX / (OWNER_MAX + 2) ? 0 : -ENOMEM;
    }
    if (rc < 0) {
        return error_sys(err, rc, "read host-local's leases");
    }
    for (size_t i = 0; i < n; i++) {
        used += load_owner(dir_fd, &ips[i], ret, used);
    }
    return 0;
}

int files_create(int dir_fd, const struct ip_addr *ip, const struct ipam_owner *owner)
{
    autofree char *text = str_printf("%s\r\n%s", owner->container_id, owner->ifname);
    char name[IP_TEXT_MAX];
    autoclose int fd = -1;
    int rc;

    if (!text) {
        return -ENOMEM;
    }
    ip_format(ip, false, name);
    fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -errno;
    }
    rc = fd_write_all(fd, text, strlen(text));
    if (rc < 0) {
        unlinkat(dir_fd, name, 0);
    }
    return rc;
}

/* Where the round robin stands; losing it is not worth failing for. */
static void write_last(struct store *store, const struct ipam_pick *pick)
{
    char name[64], text[IP_TEXT_MAX];
    autoclose int fd = -1;
    int rc;

    snprintf(name, sizeof(name), "last_reserved_ip.%zu", pick->set);
    ip_format(&pick->ip, false, text);
    fd = openat(store->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    rc = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    if (rc < 0) {
        log_warn("write %s/%s/%s: %s", store->config->data_dir, store->config->network, name,
                 strerror(-rc));
    }
}

/* Another owner's name in an address's file, in one step. The temporary name is no address, so that
 * a killed writer's is nobody's lease; the next writer uses it again. */
static int replace_owner(int dir_fd, const struct ip_addr *ip, const struct ipam_owner *owner)
{
    char text[OWNER_MAX], name[IP_TEXT_MAX];
    autoclose int fd = openat(dir_fd, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int rc = fd < 0 ? -errno : 0;

    if (rc == 0) {
        snprintf(text, sizeof(text), "%s\r\n%s", owner->container_id, owner->ifname);
        rc = fd_write_all(fd, text, strlen(text));
    }
    if (rc == 0 && renameat(dir_fd, TEMPORARY, dir_fd, ip_format(ip, false, name)) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        unlinkat(dir_fd, TEMPORARY, 0);
    }
    return rc;
}

static int files_move(struct store *store, uint32_t first, const struct ipam_owner *to,
                      struct error *err)
{
    const struct lease *v = store->leases.v;
    struct ipam_owner from = lease_owner(&store->leases, &v[first]);
    char name[IP_TEXT_MAX];

    for (uint32_t i = first; i != LEASE_NONE; i = v[i].next) {
        int rc = replace_owner(store->dir_fd, &v[i].ip, to);

        if (rc < 0) {
            error_set(err, store_errno(rc), "write %s/%s/%s: %s", store->config->data_dir,
                      store->config->network, ip_format(&v[i].ip, false, name), strerror(-rc));
            for (uint32_t back = first; back != i; back = v[back].next) {
                replace_owner(store->dir_fd, &v[back].ip, &from);
            }
            return store_errno(rc);
        }
    }
    return 0;
}

static int files_add(struct store *store, const struct ipam_pick *picks, size_t n,
                     const struct ipam_owner *owner, struct error *err)
{
    char name[IP_TEXT_MAX];

    for (size_t i = 0; i < n; i++) {
        int rc = files_create(store->dir_fd, &picks[i].ip, owner);

        if (rc < 0) {
            error_set(err, store_errno(rc), "write %s/%s/%s: %s", store->config->data_dir,
                      store->config->network, ip_format(&picks[i].ip, false, name), strerror(-rc));
            while (i-- > 0) {
                unlinkat(store->dir_fd, ip_format(&picks[i].ip, false, name), 0);
            }
            return store_errno(rc);
        }
    }
    for (size_t i = 0; i < n; i++) {
        write_last(store, &picks[i]);
    }
    return 0;
}

static int files_remove(struct store *store, const uint32_t *firsts, size_t n, struct error *err)
{
    const struct lease *v = store->leases.v;
    char name[IP_TEXT_MAX];
    int rc = 0;

    for (size_t k = 0; k < n; k++) {
        for (uint32_t i = firsts[k]; i != LEASE_NONE; i = v[i].next) {
            ip_format(&v[i].ip, false, name);
            if (unlinkat(store->dir_fd, name, 0) < 0 && errno != ENOENT) {
                rc = error_sys(err, -errno, "remove %s/%s/%s", store->config->data_dir,
                               store->config->network, name);
            }
        }
    }
    return rc;
}

static int files_last(struct store *store, size_t set, struct ip_addr *ret)
{
    char name[64], text[OWNER_MAX];
    int rc;

    snprintf(name, sizeof(name), "last_reserved_ip.%zu", set);
    rc = files_read_owner(store->dir_fd, name, text, sizeof(text));
    return rc == 0 ? ip_parse(text, ret) : rc;
}

const struct store_ops store_files_ops = {.name = "files",
                                          .add = files_add,
                                          .remove = files_remove,
                                          .move = files_move,
                                          .last = files_last};
