/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attachment records: <instance>/attachments/<containerID>/<ifname>@<network>.json. A line is
 * written as a claim before anything is made, so that GC can find what a killed ADD left, and what
 * was made as a second line at the end, whose keys count over the first one's: no step needs
 * another file. Not synced: a record means nothing after a reboot, and says which boot.
 */
#include "kind/kind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MAX (1 << 20)
#define RECORD_EMPTY                                                                               \
    {                                                                                              \
        .type = "", .state = "", .netns_path = "", .port = "", .bridge = "", .ovs_socket = "",     \
        .cni_path = "", .cni_args = "", .boot_id = "", .host_device = ""                           \
    }
#define SUFFIX ".json"

static char *record_dir(const char *instance, const char *container_id)
{
    return str_printf("%s/attachments/%s", instance, container_id);
}

static char *record_path(const char *instance, const struct attachment_key *key)
{
    return str_printf("%s/attachments/%s/%s@%s.json", instance, key->container_id, key->ifname,
                      key->network);
}

void record_clear(struct record *record)
{
    json_decref(record->json);
    record->json = NULL;
}

bool record_of_this_boot(const struct record *record)
{
    char boot[37];

    return !record->boot_id[0] || boot_id(boot) < 0 || !strcmp(boot, record->boot_id);
}

static json_t *ips_to_json(const struct ipam_result *result)
{
    json_t *ips = json_array();
    char address[IP_TEXT_MAX], gateway[IP_TEXT_MAX];

    for (size_t i = 0; i < result->n_ips; i++) {
        const struct ipam_ip *ip = &result->ips[i];
        json_t *item = json_pack("{s:s}", "address", ip_format(&ip->address, true, address));

        if (ip->gateway.family) {
            json_object_set_new(item, "gateway",
                                json_string(ip_format(&ip->gateway, false, gateway)));
        }
        json_array_append_new(ips, item);
    }
    return ips;
}

/* As ovs-ofctl(8) shows it: it may not fit a JSON number. */
static void set_cookie(json_t *json, const char *key, uint64_t cookie)
{
    if (cookie) {
        json_object_set_new(json, key, json_sprintf("0x%" PRIx64, cookie));
    }
}

static int read_cookie(const json_t *json, const char *key, uint64_t *ret, struct error *err)
{
    const char *text = "0";
    int rc = json_read_string(json, NULL, key, &text, err);

    *ret = strtoull(text, NULL, 16);
    return rc;
}

/* What is known before anything is made. */
static json_t *claim_to_json(const struct attachment *at)
{
    char boot[37] = "", mac[MAC_TEXT_MAX];
    struct netns_id netns = {0};
    json_t *json;

    boot_id(boot);
    netns_identify(at->netns_fd, &netns);
    json =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s}", "v", 1, "state",
                  "adding", "network", at->key.network, "containerId", at->key.container_id,
                  "ifname", at->key.ifname, "kind", at->kind->type, "tenant", at->conf.tenant,
                  "netns", at->netns_path, "netnsDevice", (json_int_t)netns.device, "netnsInode",
                  (json_int_t)netns.inode, "bootId", boot, "mac", mac_format(&at->mac, mac));
    if (!json) {
        return NULL;
    }
    if (at->conf.bridge) {
        json_object_set_new(json, "bridge", json_string(at->conf.bridge));
    }
    if (at->ovs_socket[0]) {
        json_object_set_new(json, "ovsSocket", json_string(at->ovs_socket));
    }
    if (at->addresses == ADDRESSES_DELEGATED) {
        json_object_set_new(json, "cniPath", json_string(at->delegate.cni_path));
        json_object_set_new(json, "cniArgs", json_string(at->cni_args));
    }
    if (at->kind->has_port) {
        json_object_set_new(json, "port", json_string(at->conf.port));
    }
    set_cookie(json, "cookie", at->cookie);
    set_cookie(json, "tenantCookie", at->tenant_cookie);
    if (at->part) {
        json_object_set_new(json, "part", json_integer((json_int_t)at->part));
    }
    if (at->conf_json) {
        json_object_set(json, "conf", (json_t *)at->conf_json);
    }
    return json;
}

/* What was made. */
static json_t *made_to_json(const struct attachment *at)
{
    json_t *json = json_pack("{s:s, s:I, s:I, s:s, s:o}", "state", "ready", "ifindex",
                             (json_int_t)at->ifindex, "mtu", (json_int_t)at->mtu, "nic",
                             at->kind->nic, "ips", ips_to_json(&at->result));

    if (json && at->cookie) {
        json_object_set_new(json, "flows", json_integer((json_int_t)at->n_flows));
    }
    if (json && at->has_host_end) {
        json_object_set_new(json, "hostDevice", json_string(at->host_name));
    }
    if (json && at->socket_path[0]) {
        json_object_set_new(json, "socketPath", json_string(at->socket_path));
    }
    return json;
}

/* One line, in one write; json (NULL: no memory) is stolen. */
static int write_line(int fd, json_t *json)
{
    size_t size = json ? json_dumpb(json, NULL, 0, JSON_COMPACT) : 0;
    autofree char *line = size ? malloc(size + 1) : NULL;
    int rc = -ENOMEM;

    if (line) {
        json_dumpb(json, line, size, JSON_COMPACT);
        line[size] = '\n';
        rc = fd_write_all(fd, line, size + 1);
    }
    json_decref(json);
    return rc;
}

int record_claim(const struct kind_env *env, struct attachment *at, struct error *err)
{
    autofree char *dir = record_dir(env->instance, at->key.container_id);
    autofree char *path = record_path(env->instance, &at->key);
    autoclose int fd = -1;
    int rc = -ENOENT;

    if (!dir || !path) {
        return error_sys(err, -ENOMEM, "record");
    }
    /* Another interface's DEL may remove the directory between the two steps. */
    for (int tries = 0; tries < 100 && rc == -ENOENT; tries++) {
        rc = dir_make(dir, 0700);
        if (rc < 0) {
            return error_sys(err, rc, "create %s", dir);
        }
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        rc = fd < 0 ? -errno : 0;
    }
    if (rc == -EEXIST) {
        return error_set(err, -EEXIST,
                         "container %s has interface %s in network %s already: DEL it first",
                         at->key.container_id, at->key.ifname, at->key.network);
    }
    if (rc == 0) {
        rc = write_line(fd, claim_to_json(at));
        if (rc < 0) {
            unlink(path);
        }
    }
    if (rc < 0) {
        return error_sys(err, rc, "write %s", path);
    }
    at->record_fd = take_fd(&fd);
    return 0;
}

int record_finish(struct attachment *at, struct error *err)
{
    int rc = write_line(at->record_fd, made_to_json(at));

    return rc < 0 ? error_sys(err, rc, "write the record of container %s", at->key.container_id)
                  : 0;
}

/* Steals line. */
static int add_line(const char *instance, const struct attachment_key *key, json_t *line,
                    struct error *err)
{
    autofree char *path = record_path(instance, key);
    autoclose int fd = path ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    int rc = fd < 0 ? -errno : 0;

    if (rc < 0) {
        json_decref(line);
    } else {
        rc = write_line(fd, line);
    }
    return rc < 0 ? error_sys(err, rc, "write %s", path ? path : "the record") : 0;
}

int record_join(const char *instance, const struct record *record, size_t n_flows,
                struct error *err)
{
    return add_line(instance, &record->key,
                    json_pack("{s:b, s:I}", "joined", 1, "flows", (json_int_t)n_flows), err);
}

int record_removing(const char *instance, const struct attachment_key *key, struct error *err)
{
    return add_line(instance, key, json_pack("{s:s}", "state", "removing"), err);
}

/*
 * All whole lines, each later one's keys over the earlier ones'; what a kill tore off behind the
 * last does not count.
 */
static int merge_lines(const char *data, size_t len, json_t **ret, struct error *err)
{
    autojson json_t *all = NULL;
    const char *newline;

    do {
        autojson json_t *line = NULL;
        size_t line_len;
        int rc;

        newline = memchr(data, '\n', len);
        if (!newline && all) {
            break;
        }
        line_len = newline ? (size_t)(newline - data) : len;
        rc = json_parse(data, line_len, &line, err);
        if (rc < 0) {
            return rc;
        }
        if (all) {
            json_object_update(all, line);
        } else {
            all = take_ptr(line);
        }
        data += line_len + 1;
        len -= newline ? line_len + 1 : line_len;
    } while (newline && len);
    *ret = take_ptr(all);
    return 0;
}

static int record_parse(const char *data, size_t len, struct record *ret, struct error *err)
{
    struct record record = RECORD_EMPTY;
    int64_t device = 0, inode = 0, part = 0, flows = 0, ifindex = 0;
    const char *mac = "";
    json_t *json = NULL;
    int rc = merge_lines(data, len, &json, err);

    if (rc < 0) {
        return rc;
    }
    if ((rc = json_need_string(json, NULL, "network", &record.key.network, err)) < 0 ||
        (rc = json_need_string(json, NULL, "containerId", &record.key.container_id, err)) < 0 ||
        (rc = json_need_string(json, NULL, "ifname", &record.key.ifname, err)) < 0 ||
        (rc = json_read_string(json, NULL, "kind", &record.type, err)) < 0 ||
        (rc = json_read_string(json, NULL, "state", &record.state, err)) < 0 ||
        (rc = json_read_string(json, NULL, "netns", &record.netns_path, err)) < 0 ||
        (rc = json_read_string(json, NULL, "port", &record.port, err)) < 0 ||
        (rc = json_read_string(json, NULL, "bridge", &record.bridge, err)) < 0 ||
        (rc = json_read_string(json, NULL, "ovsSocket", &record.ovs_socket, err)) < 0 ||
        (rc = json_read_string(json, NULL, "cniPath", &record.cni_path, err)) < 0 ||
        (rc = json_read_string(json, NULL, "cniArgs", &record.cni_args, err)) < 0 ||
        (rc = json_read_string(json, NULL, "hostDevice", &record.host_device, err)) < 0 ||
        (rc = json_read_string(json, NULL, "bootId", &record.boot_id, err)) < 0 ||
        (rc = json_read_string(json, NULL, "mac", &mac, err)) < 0 ||
        (rc = json_read_object(json, NULL, "conf", &record.conf, err)) < 0 ||
        (rc = json_read_int(json, NULL, "netnsDevice", 0, INT64_MAX, &device, err)) < 0 ||
        (rc = json_read_int(json, NULL, "part", 0, INT64_MAX, &part, err)) < 0 ||
        (rc = json_read_int(json, NULL, "flows", 0, INT64_MAX, &flows, err)) < 0 ||
        (rc = json_read_int(json, NULL, "ifindex", 0, INT32_MAX, &ifindex, err)) < 0 ||
        (rc = read_cookie(json, "cookie", &record.cookie, err)) < 0 ||
        (rc = read_cookie(json, "tenantCookie", &record.tenant_cookie, err)) < 0 ||
        (rc = json_read_bool(json, NULL, "joined", &record.joined, err)) < 0 ||
        (rc = json_read_int(json, NULL, "netnsInode", 0, INT64_MAX, &inode, err)) < 0) {
        json_decref(json);
        return rc;
    }
    mac_parse(mac, &record.mac);
    record.part = (uint64_t)part;
    record.n_flows = (size_t)flows;
    record.ifindex = (unsigned)ifindex;
    record.netns.device = (uint64_t)device;
    record.netns.inode = (uint64_t)inode;
    record.json = json;
    *ret = record;
    return 0;
}

static int read_path(const char *path, struct record *ret, struct error *err)
{
    autofree char *data = NULL;
    size_t len;
    int rc = file_read(path, RECORD_MAX, &data, &len);

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path);
    }
    rc = record_parse(data, len, ret, err);
    return rc < 0 ? error_wrap(err, "record %s", path) : 0;
}

int record_restore(const struct record *record, struct attachment *at, struct error *err)
{
    json_t *ips = json_object_get(record->json, "ips"), *item;
    size_t i;

    json_array_foreach (ips, i, item) {
        const char *text = json_string_value(json_object_get(item, "address"));

        if (!text || i == IPAM_IPS_MAX || ip_parse(text, &at->result.ips[i].address) < 0) {
            return error_set(err, -EBADMSG, "record of container %s: ips: no list of addresses",
                             record->key.container_id);
        }
        at->result.n_ips = i + 1;
    }
    at->mac = record->mac;
    at->part = record->part;
    at->ifindex = record->ifindex;
    at->has_host_end = record->host_device[0];
    str_copy(at->ovs_socket, sizeof(at->ovs_socket), record->ovs_socket);
    at->conf.socket_file = at->ovs_socket;
    return 0;
}

bool record_exists(const char *instance, const struct attachment_key *key)
{
    autofree char *path = record_path(instance, key);

    return path && access(path, F_OK) == 0;
}

int record_read(const char *instance, const struct attachment_key *key, struct record *ret,
                struct error *err)
{
    autofree char *path = record_path(instance, key);

    return path ? read_path(path, ret, err) : error_sys(err, -ENOMEM, "record");
}

int record_remove(const char *instance, const struct attachment_key *key, struct error *err)
{
    autofree char *dir = record_dir(instance, key->container_id);
    autofree char *path = record_path(instance, key);

    if (!dir || !path) {
        return error_sys(err, -ENOMEM, "record");
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        return error_sys(err, -errno, "remove %s", path);
    }
    rmdir(dir); /* fails while another interface has its record there */
    return 0;
}

static bool has_suffix(const char *file)
{
    size_t len = strlen(file);

    return len > strlen(SUFFIX) && !strcmp(file + len - strlen(SUFFIX), SUFFIX);
}

/* The key is in the path, so that a record torn by a kill still says whose it is. */
static bool key_of_path(const char *container_id, char *file, struct record *ret)
{
    char *at = strrchr(file, '@'); /* an interface's name may hold one, a network's may not */

    if (!at || at == file) {
        return false;
    }
    file[strlen(file) - strlen(SUFFIX)] = '\0';
    *at = '\0';
    *ret = (struct record)RECORD_EMPTY;
    ret->state = "adding";
    ret->key = (struct attachment_key){at + 1, container_id, file};
    return true;
}

static int list_container(const char *dir_path, const char *container_id,
                          int (*visit)(const struct record *record, void *cookie), void *cookie,
                          struct error *err)
{
    DIR *dir = opendir(dir_path);
    struct dirent *entry;
    int rc = dir || errno == ENOENT || errno == ENOTDIR
                 ? 0
                 : error_sys(err, -errno, "list %s", dir_path);

    while (dir && rc >= 0 && (entry = readdir(dir))) {
        autofree char *path = str_printf("%s/%s", dir_path, entry->d_name);
        struct record record = {0};

        if (!path || !has_suffix(entry->d_name)) {
            continue;
        }
        if (read_path(path, &record, NULL) == 0 ||
            key_of_path(container_id, entry->d_name, &record)) {
            rc = visit(&record, cookie);
            record_clear(&record);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return rc < 0 ? rc : 0;
}

int record_list(const char *instance, int (*visit)(const struct record *record, void *cookie),
                void *cookie, struct error *err)
{
    autofree char *top = str_printf("%s/attachments", instance);
    DIR *dir = top ? opendir(top) : NULL;
    struct dirent *entry;
    int rc = 0;

    if (!dir) {
        return !top              ? error_sys(err, -ENOMEM, "records")
               : errno == ENOENT ? 0
                                 : error_sys(err, -errno, "list %s", top);
    }
    while (rc >= 0 && (entry = readdir(dir))) {
        autofree char *path = record_dir(instance, entry->d_name);

        if (entry->d_name[0] != '.' && path) {
            rc = list_container(path, entry->d_name, visit, cookie, err);
        }
    }
    closedir(dir);
    return rc < 0 ? rc : 0;
}

int record_list_container(const char *instance, const char *container_id,
                          int (*visit)(const struct record *record, void *cookie), void *cookie,
                          struct error *err)
{
    autofree char *path = record_dir(instance, container_id);

    if (!path) {
        return error_sys(err, -ENOMEM, "records");
    }
    if (!*container_id || container_id[0] == '.' || strchr(container_id, '/')) {
        return 0;
    }
    return list_container(path, container_id, visit, cookie, err);
}

void record_tidy(const char *instance)
{
    autofree char *top = str_printf("%s/attachments", instance);
    DIR *dir = top ? opendir(top) : NULL;
    struct dirent *entry;

    /* Those that hold a record refuse; an ADD that is about to write one makes its folder anew. */
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] != '.') {
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
        }
    }
    if (dir) {
        closedir(dir);
    }
}
