/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: our own record of a network's leases, INSTANCE/ipam/NETWORK.log, text:
 *
 *     sluice-ipam 1 BOOT-ID
 *     + 10.1.0.5 CONTAINER-ID IFNAME      handed out
 *     - CONTAINER-ID IFNAME               all of this owner's given back
 *     > CONTAINER-ID IFNAME ID2 IFNAME2   all of the first owner's are the second's now
 *     . 10.1.0.9                          handed out and given back (where compaction left off)
 *
 * Nothing is synced to disk. What has been written survives any killed process, since the page
 * cache holds it; only a crash of the machine loses it, and that ends every pod that a lease
 * could name. For the same reason a log with another boot's ID is void.
 *
 * All is done under the lock NETWORK.lock, so that a change is one append at the end. A last line
 * without a newline is what a process killed in its write left: it does not count, and the next
 * writer replaces the file by one without it. What is not an append is always a new file, so that
 * who remembers inode and size (store.c) sees it.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MAGIC      "sluice-ipam "
#define LOG_HEADER     LOG_MAGIC "1 "
#define LOG_SIZE_MAX   (256u << 20)
#define LOG_DEAD_SLACK 256  /* lines that may be dead before it is worth a new file */
#define LOG_ROOM       4096 /* behind the text in memory, for what one call adds */

/* Dotted decimal; 0 and *ret, or -EINVAL for whatever is not exactly that. inet_pton costs more
 * than all the rest of a line, and there are as many lines as pods. */
static int parse_ipv4(const char *p, struct ip_addr *ret)
{
    struct ip_addr ip = {.family = AF_INET, .prefix = 32};

    for (int i = 0; i < 4; i++) {
        unsigned value = 0;
        int digits = 0;

        for (; *p >= '0' && *p <= '9' && digits < 4; p++, digits++) {
            value = value * 10 + (unsigned)(*p - '0');
        }
        if (!digits || value > 255 || *p != (i < 3 ? '.' : '\0')) {
            return -EINVAL;
        }
        ip.bytes[i] = (uint8_t)value;
        p++;
    }
    *ret = ip;
    return 0;
}

/* Ends a word at the next space (or the line's end, end) and returns where the next one starts. */
static char *cut_word(char *p, char *end, size_t *ret_len)
{
    char *space = memchr(p, ' ', (size_t)(end - p));
    char *stop = space ? space : end;

    *ret_len = (size_t)(stop - p);
    *stop = '\0';
    return space ? space + 1 : NULL;
}

/* Container ID and interface name, the last two words before end. */
static int parse_owner(char *p, char *end, size_t *ret_id_len, size_t *ret_ifname_len)
{
    char *ifname = cut_word(p, end, ret_id_len);

    if (!ifname || !*ret_id_len || *ret_id_len > UINT16_MAX || ifname == end ||
        end - ifname > UINT16_MAX || memchr(ifname, ' ', (size_t)(end - ifname))) {
        return -EINVAL;
    }
    *ret_ifname_len = (size_t)(end - ifname);
    return 0;
}

/* "FROM-ID FROM-IFNAME TO-ID TO-IFNAME" */
static int parse_move(char *p, char *end, struct leases *leases)
{
    char *space = memchr(p, ' ', (size_t)(end - p)), *to;
    size_t id_len, ifname_len, to_id_len, to_ifname_len;

    space = space ? memchr(space + 1, ' ', (size_t)(end - space - 1)) : NULL;
    if (!space) {
        return -EINVAL;
    }
    to = space + 1;
    *space = '\0';
    if (parse_owner(p, space, &id_len, &ifname_len) < 0 ||
        parse_owner(to, end, &to_id_len, &to_ifname_len) < 0) {
        return -EINVAL;
    }
    return leases_move(leases, &(struct ipam_owner){p, p + id_len + 1},
                       (uint32_t)(to - leases->text), to_id_len, to_ifname_len);
}

/* One line, its newline already replaced by NUL (*end). */
static int parse_line(char *line, char *end, struct leases *leases)
{
    size_t id_len, ifname_len, len;
    char *p = line + 2;
    struct ip_addr ip;

    if (end - line < 3 || line[1] != ' ' || memchr(line, '\0', (size_t)(end - line))) {
        return -EINVAL;
    }
    if (line[0] == '-') {
        if (parse_owner(p, end, &id_len, &ifname_len) < 0) {
            return -EINVAL;
        }
        leases_drop_owner(leases, &(struct ipam_owner){p, p + id_len + 1});
        return 0;
    }
    if (line[0] == '>') {
        return parse_move(p, end, leases);
    }
    if (line[0] != '+' && line[0] != '.') {
        return -EINVAL;
    }
    line = p;
    p = cut_word(p, end, &len);
    if ((line[-2] == '+') != (p != NULL) ||
        (parse_ipv4(line, &ip) < 0 && ip_parse(line, &ip) < 0)) {
        return -EINVAL;
    }
    if (!p) {
        leases_mark(leases, &ip);
        return 0;
    }
    if (parse_owner(p, end, &id_len, &ifname_len) < 0) {
        return -EINVAL;
    }
    leases_add(leases, &ip, (uint32_t)(p - leases->text), id_len, ifname_len);
    return 0;
}

static size_t count_lines(const char *text, size_t len)
{
    const char *end = text + len;
    size_t n = 0;

    while (text < end && (text = memchr(text, '\n', (size_t)(end - text)))) {
        text++;
        n++;
    }
    return n;
}

/* All whole lines; returns where the last one ends. */
static char *parse_lines(char *p, char *end, struct leases *leases, size_t *bad)
{
    char *newline;

    while (p < end && (newline = memchr(p, '\n', (size_t)(end - p)))) {
        *newline = '\0';
        *bad += parse_line(p, newline, leases) < 0;
        p = newline + 1;
    }
    return p;
}

int log_apply(struct leases *leases, const char *data, size_t len, size_t n)
{
    size_t bad = 0;
    int rc = leases_reserve(leases, n);
    char *text = rc == 0 ? leases_put_text(leases, data, len) : NULL;

    if (!text) {
        return rc < 0 ? rc : -ENOMEM;
    }
    parse_lines(text, text + len, leases, &bad);
    return bad ? -EBADMSG : 0;
}

int log_parse(char *text, size_t len, const char *boot, struct leases *leases, size_t *ret_valid,
              size_t *ret_lines, size_t *ret_bad)
{
    const size_t prefix = strlen(LOG_HEADER), header = prefix + 36 + 1;
    size_t lines = count_lines(text, len), bad = 0;
    char *newline;
    int rc;

    leases->text = text;
    leases->text_len = leases->text_size = len;
    *ret_valid = *ret_lines = *ret_bad = 0;
    if (len < header || text[header - 1] != '\n' || memcmp(text + prefix, boot, 36)) {
        /* Void: empty, cut short before the first lease, or another boot's. */
        newline = memchr(text, '\n', len);
        if (newline && memmem(text, (size_t)(newline - text), boot, strlen(boot))) {
            return -EPROTO;
        }
        return leases_reserve(leases, 0);
    }
    if (memcmp(text, LOG_HEADER, prefix)) {
        return -EPROTO;
    }
    rc = leases_reserve(leases, lines + IPAM_IPS_MAX);
    if (rc < 0) {
        return rc;
    }
    *ret_valid = (size_t)(parse_lines(text + header, text + len, leases, &bad) - text);
    *ret_lines = lines - 1;
    *ret_bad = bad;
    return 0;
}

/* Which file it is, and how long. */
static int look(struct log_file *log)
{
    struct stat st;

    if (fstat(log->fd, &st) < 0) {
        return -errno;
    }
    log->dev = st.st_dev;
    log->ino = st.st_ino;
    log->size = (size_t)st.st_size;
    return 0;
}

bool log_same(const struct log_file *log)
{
    struct stat st;

    if (stat(log->path, &st) < 0) {
        return errno == ENOENT && log->fd < 0;
    }
    return log->fd >= 0 && st.st_dev == log->dev && st.st_ino == log->ino &&
           (size_t)st.st_size == log->size;
}

int log_load(struct log_file *log, struct leases *ret, struct error *err)
{
    char *text = NULL;
    size_t bad, done = 0;
    int rc = boot_id(log->boot);

    log->size = log->valid = log->lines = 0;
    if (rc < 0) {
        return error_sys(err, rc, "read the boot ID");
    }
    log->fd = open(log->path, O_RDWR | O_APPEND | O_CLOEXEC);
    if (log->fd < 0 && errno == ENOENT) {
        return leases_reserve(ret, 0);
    }
    rc = log->fd < 0 ? -errno : look(log);
    if (rc < 0) {
        return error_sys(err, rc, "open %s", log->path);
    }
    if (log->size > LOG_SIZE_MAX) {
        return error_set(err, -EFBIG, "%s: more than %u bytes", log->path, LOG_SIZE_MAX);
    }
    text = malloc(log->size + LOG_ROOM);
    if (!text) {
        return error_sys(err, -ENOMEM, "read %s", log->path);
    }
    ret->text = text;
    while (done < log->size) {
        ssize_t n = pread(log->fd, text + done, log->size - done, (off_t)done);

        if (n <= 0 && errno != EINTR) {
            return error_sys(err, n < 0 ? -errno : -EIO, "read %s", log->path);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    rc = log_parse(text, log->size, log->boot, ret, &log->valid, &log->lines, &bad);
    ret->text_size = log->size + LOG_ROOM;
    if (rc == -EPROTO) {
        return error_set(err, rc,
                         "%s: written by another version of Sluice; its pods must be "
                         "deleted with that version",
                         log->path);
    }
    if (bad) {
        log_warn("%s: %zu lines make no sense and were skipped", log->path, bad);
    }
    return rc < 0 ? error_sys(err, rc, "read %s", log->path) : 0;
}

int log_empty(struct log_file *log)
{
    if (unlink(log->path) < 0 && errno != ENOENT) {
        return -errno;
    }
    cleanup_fd(&log->fd);
    log->fd = -1;
    log->size = log->valid = log->lines = 0;
    return 0;
}

/* ---- writing ---- */

struct lines {
    char *data;
    size_t len, size, n;
};

static int lines_reserve(struct lines *lines, size_t size)
{
    lines->data = malloc(size);
    lines->size = size;
    return lines->data ? 0 : -ENOMEM;
}

static void lines_free(struct lines *lines)
{
    free(lines->data);
}

#define autolines __attribute__((cleanup(lines_free)))

static void PRINTF_LIKE(2, 3) lines_put(struct lines *lines, const char *fmt, ...)
{
    size_t room = lines->size - lines->len;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(lines->data + lines->len, room, fmt, args);
    va_end(args);
    if (n > 0 && (size_t)n < room) {
        lines->len += (size_t)n;
        lines->n++;
    }
}

static void put_lease(struct lines *lines, const struct ip_addr *ip, const struct ipam_owner *owner)
{
    char text[IP_TEXT_MAX];

    lines_put(lines, "+ %s %s %s\n", ip_format(ip, false, text), owner->container_id,
              owner->ifname);
}

static size_t lease_size(const struct lease *lease)
{
    return IP_TEXT_MAX + 8u + lease->id_len + lease->ifname_len;
}

/* Where each set's round robin stands, when the last address handed out is not live any more. */
static void put_marks(const struct store *store, struct lines *lines)
{
    const struct leases *leases = &store->leases;

    for (size_t s = 0; s < store->config->n_sets; s++) {
        size_t i = leases->n;

        while (i > 0 && !ipam_set_holds(&store->config->sets[s], &leases->v[i - 1].ip)) {
            i--;
        }
        if (i > 0 && !leases->v[i - 1].live) {
            char text[IP_TEXT_MAX];

            lines_put(lines, ". %s\n", ip_format(&leases->v[i - 1].ip, false, text));
        }
    }
}

/* Replaces the log by one with the live leases only. */
static int compact(const struct store *store)
{
    const struct leases *leases = &store->leases;
    autolines struct lines all = {0};
    size_t size = 64 + (store->config->n_sets * (IP_TEXT_MAX + 8));
    int rc;

    for (size_t i = 0; i < leases->n; i++) {
        size += leases->v[i].live ? lease_size(&leases->v[i]) : 0;
    }
    rc = lines_reserve(&all, size);
    if (rc < 0) {
        return rc;
    }
    lines_put(&all, LOG_HEADER "%s\n", store->log.boot);
    for (size_t i = 0; i < leases->n; i++) {
        if (leases->v[i].live) {
            struct ipam_owner owner = lease_owner(leases, &leases->v[i]);

            put_lease(&all, &leases->v[i].ip, &owner);
        }
    }
    put_marks(store, &all);
    return file_write_atomic(store->log.path, all.data, all.len, 0600);
}

/* All of the lines at the end, or none. */
static int append(struct log_file *log, const struct lines *added)
{
    autofree char *with_header = NULL;
    const char *data = added->data;
    size_t len = added->len;
    int rc;

    if (log->fd < 0) {
        log->fd = open(log->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        rc = log->fd < 0 ? -errno : look(log);
        if (rc < 0) {
            return rc;
        }
    }
    if (log->valid == 0) {
        with_header = str_printf(LOG_HEADER "%s\n%.*s", log->boot, (int)len, data);
        if (!with_header) {
            return -ENOMEM;
        }
        data = with_header;
        len = strlen(data);
    }
    rc = fd_write_all(log->fd, data, len);
    if (rc < 0 && ftruncate(log->fd, (off_t)log->valid) < 0) {
        log_warn("%s: %s", log->path, strerror(errno));
    }
    if (rc == 0) {
        log->size = log->valid += len;
        log->lines += added->n;
    }
    return rc;
}

/*
 * In memory first, where a new file is made from; after a failure that is not what is on disk. A
 * shorter file that can't be made is not missed: the next caller tries again. One without a torn
 * line is: behind that nothing can be appended.
 */
static int log_commit(struct store *store, const struct lines *added, struct error *err)
{
    const struct log_file *log = &store->log;
    bool torn = log->size > log->valid, worth;
    int rc = log_apply(&store->leases, added->data, added->len, added->n);

    store->keep = false;
    if (rc == 0) {
        worth =
            log->lines + added->n - store->leases.n_live > store->leases.n_live + LOG_DEAD_SLACK;
        rc = worth || torn ? compact(store) : -EAGAIN;
        if (rc < 0 && !torn) {
            rc = append(&store->log, added);
            store->keep = rc == 0;
        }
    }
    return rc < 0 ? error_set(err, store_errno(rc), "write %s: %s", log->path, strerror(-rc)) : 0;
}

static int log_add(struct store *store, const struct ipam_pick *picks, size_t n,
                   const struct ipam_owner *owner, struct error *err)
{
    size_t owner_len = strlen(owner->container_id) + strlen(owner->ifname);
    autolines struct lines added = {0};
    int rc = lines_reserve(&added, n * (IP_TEXT_MAX + 8 + owner_len) + 1);

    if (rc < 0) {
        return error_sys(err, rc, "write %s", store->log.path);
    }
    for (size_t i = 0; i < n; i++) {
        put_lease(&added, &picks[i].ip, owner);
    }
    return log_commit(store, &added, err);
}

static int log_remove(struct store *store, const uint32_t *firsts, size_t n, struct error *err)
{
    const struct leases *leases = &store->leases;
    autolines struct lines added = {0};
    size_t size = 1;
    int rc;

    for (size_t i = 0; i < n; i++) {
        size += lease_size(&leases->v[firsts[i]]);
    }
    rc = lines_reserve(&added, size);
    if (rc < 0) {
        return error_sys(err, rc, "write %s", store->log.path);
    }
    for (size_t i = 0; i < n; i++) {
        struct ipam_owner owner = lease_owner(leases, &leases->v[firsts[i]]);

        lines_put(&added, "- %s %s\n", owner.container_id, owner.ifname);
    }
    return log_commit(store, &added, err);
}

static int log_move(struct store *store, uint32_t first, const struct ipam_owner *to,
                    struct error *err)
{
    const struct lease *lease = &store->leases.v[first];
    struct ipam_owner from = lease_owner(&store->leases, lease);
    autolines struct lines added = {0};
    int rc =
        lines_reserve(&added, lease_size(lease) + strlen(to->container_id) + strlen(to->ifname));

    if (rc < 0) {
        return error_sys(err, rc, "write %s", store->log.path);
    }
    lines_put(&added, "> %s %s %s %s\n", from.container_id, from.ifname, to->container_id,
              to->ifname);
    return log_commit(store, &added, err);
}

static int log_last(struct store *store, size_t set, struct ip_addr *ret)
{
    const struct leases *leases = &store->leases;

    for (size_t i = leases->n; i > 0; i--) {
        if (ipam_set_holds(&store->config->sets[set], &leases->v[i - 1].ip)) {
            *ret = leases->v[i - 1].ip;
            return 0;
        }
    }
    return -ENOENT;
}

const struct store_ops store_log_ops = {
    .name = "log", .add = log_add, .remove = log_remove, .move = log_move, .last = log_last};
