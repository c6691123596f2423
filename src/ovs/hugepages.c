/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hugepages for DPDK: what an instance's ovs-vswitchd lacks is added to the host's, noted beside
 * its database, and taken back when it stops. The note is written before the number changes and
 * again after, so that who was killed between the two is understood: "HELD CHANGE FROM\n", the
 * pages that we added, and a change of the host's number that was being made when it was FROM.
 */
#include "ovs/ovs-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Documentation/ABI/testing/sysfs-kernel-mm-hugepages of the kernel; its memory is asked for on the
 * first NUMA node. */
#define PAGES "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/"
#define TOTAL PAGES "nr_hugepages"
#define FREE  PAGES "free_hugepages"

struct loan {
    long held, change, from;
};

static int no_hugepages(struct error *err)
{
    return error_set(err, -ENOTSUP, "this kernel has no hugepages of 2 MB (there is no %s)", TOTAL);
}

static int read_number(const char *path, long *ret, struct error *err)
{
    autofree char *text = NULL;
    int rc = file_read(path, 64, &text, NULL);

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path);
    }
    *ret = strtol(text, NULL, 10);
    return 0;
}

static int write_total(long total, struct error *err)
{
    autoclose int fd = open(TOTAL, O_WRONLY | O_CLOEXEC);
    char text[24];
    int len = snprintf(text, sizeof(text), "%ld", total);

    if (fd < 0 || write(fd, text, (size_t)len) != len) {
        return error_sys(err, errno ? -errno : -EIO, "write %s", TOTAL);
    }
    return 0;
}

/* All who change the number under this lock, on the file itself, see each other's changes whole. */
static int lock_total(int *ret_fd, struct error *err)
{
    autoclose int fd = open(TOTAL, O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd < 0) {
        return errno == ENOENT ? no_hugepages(err) : error_sys(err, -errno, "open %s", TOTAL);
    }
    do {
        rc = flock(fd, LOCK_EX);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        return error_sys(err, -errno, "lock %s", TOTAL);
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

static char *note_path(const char *dir)
{
    return str_printf("%s/hugepages", dir);
}

static int write_note(const char *dir, const struct loan *loan, struct error *err)
{
    autofree char *path = note_path(dir);
    char text[96];
    int len = snprintf(text, sizeof(text), "%ld %ld %ld\n", loan->held, loan->change, loan->from);
    int rc = path ? file_write_atomic(path, text, (size_t)len, 0600) : -ENOMEM;

    return rc < 0 ? error_sys(err, rc, "write %s/hugepages", dir) : 0;
}

/* A change of which it is not known how far it came: as far as the number tells. */
static void settle(struct loan *loan, long total)
{
    long moved = total - loan->from, low = 0, high = loan->change;

    if (high < low) {
        low = loan->change;
        high = 0;
    }
    loan->held += moved < low ? low : moved > high ? high : moved;
    loan->change = 0;
}

/* Without a note nothing is held. */
static int read_note(const char *dir, struct loan *ret, struct error *err)
{
    autofree char *path = note_path(dir), *text = NULL;
    int rc = path ? file_read(path, 256, &text, NULL) : -ENOMEM;
    long total;

    *ret = (struct loan){0};
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0) {
        return error_sys(err, rc, "read %s/hugepages", dir);
    }
    if (sscanf(text, "%ld %ld %ld", &ret->held, &ret->change, &ret->from) != 3) {
        *ret = (struct loan){0};
        return 0;
    }
    if (!ret->change) {
        return 0;
    }
    rc = read_number(TOTAL, &total, err);
    if (rc == 0) {
        settle(ret, total);
        rc = write_note(dir, ret, err); /* before anybody else changes the number */
    }
    return rc;
}

/* What the kernel could free for other uses, in pages: to try for more takes it from everybody. */
static long available_pages(void)
{
    autofree char *text = NULL;
    const char *line = file_read("/proc/meminfo", 65536, &text, NULL) == 0
                           ? strstr(text, "\nMemAvailable:")
                           : NULL;

    return line ? strtol(line + strlen("\nMemAvailable:"), NULL, 10) / 2048 : LONG_MAX;
}

static int too_few(unsigned wanted, long free, long more, struct error *err)
{
    return error_set(err, -ENOMEM,
                     "%u hugepages of 2 MB are needed; %ld are free, and the kernel can make only "
                     "%ld more: ask for fewer, free memory, or reserve them at boot (kernel "
                     "parameter hugepages=%u)",
                     wanted, free, more, wanted);
}

/* Changes the host's number by this much, as far as the kernel goes along. */
static int change_total(const char *dir, struct loan *loan, long change, struct error *err)
{
    long total;
    int rc = read_number(TOTAL, &total, err);

    if (rc == 0) {
        loan->change = change;
        loan->from = total;
        rc = write_note(dir, loan, err);
    }
    if (rc == 0) {
        rc = write_total(total + change, err);
    }
    if (rc == 0) {
        rc = read_number(TOTAL, &total, err);
    }
    if (rc < 0) {
        return rc;
    }
    settle(loan, total);
    return write_note(dir, loan, err);
}

int ovs_hugepages_reserve(const char *dir, unsigned wanted, int *ret_lock, struct error *err)
{
    autoclose int lock = -1;
    struct loan loan;
    struct error later;
    long before = 0, after, missing = 0, could = available_pages();
    int rc = lock_total(&lock, err);

    if (rc == 0) {
        rc = read_note(dir, &loan, err);
    }
    if (rc == 0) {
        rc = read_number(FREE, &before, err);
        missing = (long)wanted - before;
    }
    if (rc == 0 && missing > could) {
        rc = too_few(wanted, before, could, err);
    }
    if (rc == 0 && missing > 0) {
        rc = change_total(dir, &loan, missing, err);
        if (rc == 0) {
            rc = read_number(FREE, &after, err);
        }
        if (rc == 0 && after < (long)wanted) {
            change_total(dir, &loan, -loan.held, &later);
            rc = too_few(wanted, before, after - before, err);
        }
    }
    if (rc == 0) {
        *ret_lock = take_fd(&lock);
    }
    return rc;
}

int ovs_hugepages_return(const char *dir, struct error *err)
{
    autofree char *path = note_path(dir);
    autoclose int lock = -1;
    struct loan loan;
    int rc;

    if (!path || access(path, F_OK) < 0) {
        return 0; /* also where the kernel has no hugepages at all */
    }
    rc = lock_total(&lock, err);
    if (rc == 0) {
        rc = read_note(dir, &loan, err);
    }
    if (rc == 0 && loan.held > 0) {
        rc = change_total(dir, &loan, -loan.held, err);
    }
    if (rc == 0 && unlink(path) < 0 && errno != ENOENT) {
        rc = error_sys(err, -errno, "remove %s", path);
    }
    return rc;
}
