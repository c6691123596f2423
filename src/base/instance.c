/* SPDX-License-Identifier: Apache-2.0 */
/* Which instance a command talks to, and which there are. */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGISTRY "/run/sluice.instances" /* a link for each, named by a hash of where it points */

const char *instance_dir(const char *explicit_dir)
{
    const char *env;

    if (explicit_dir && *explicit_dir) {
        return explicit_dir;
    }
    env = getenv("SLUICE_INSTANCE");
    return env && *env ? env : INSTANCE_DEFAULT_DIR;
}

static void link_path(const char *dir, char path[64])
{
    char name[14];

    hash64_text(hash64_str(HASH64_START, dir), name);
    snprintf(path, 64, REGISTRY "/%s", name);
}

void instance_register(const char *dir)
{
    char path[64];

    if (!strcmp(dir, INSTANCE_DEFAULT_DIR)) {
        return;
    }
    link_path(dir, path);
    if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return; /* the common case, and one that takes no lock on the directory */
    }
    if (symlink(dir, path) < 0 && errno == ENOENT && mkdir(REGISTRY, 0700) == 0 &&
        symlink(dir, path) < 0) {
        log_debug("instance %s is not noted: %s", dir, strerror(errno));
    }
}

void instance_forget(const char *dir)
{
    char path[64];

    link_path(dir, path);
    unlink(path);
    rmdir(REGISTRY);
}

void instance_forget_unused(const char *dir)
{
    autofree char *attachments = str_printf("%s/attachments", dir);

    if (attachments && (rmdir(attachments) == 0 || errno == ENOENT)) {
        instance_forget(dir);
    }
    instance_list(NULL, NULL); /* drops those that are gone */
    rmdir(REGISTRY);
}

void instance_list(void (*visit)(const char *dir, void *cookie), void *cookie)
{
    DIR *registry = opendir(REGISTRY);
    struct dirent *entry;

    while (registry && (entry = readdir(registry))) {
        char target[PATH_MAX] = "";

        if (readlinkat(dirfd(registry), entry->d_name, target, sizeof(target) - 1) <= 0) {
            continue;
        }
        if (access(target, F_OK) < 0) {
            unlinkat(dirfd(registry), entry->d_name, 0); /* its directory was removed by hand */
        } else if (visit) {
            visit(target, cookie);
        }
    }
    if (registry) {
        closedir(registry);
    }
}
