/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tenant's port of kind `ovs-tc-routing`: a veth, one end of which is OVS's and the other ours.
 * OVS takes the ingress qdisc off its own ports' devices when it looks at them anew, and makes an
 * internal port's device again when it is started again; our end it never touches, so that filter
 * and tables stay. The filter's name says for which OVS, bridge and VLAN the port was last seen to
 * be there: while that is so, an ADD needs no word with OVS.
 */
#include "bpf/bpf.h"
#include "kind/tc-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define SEEN_MAX 24

/* Derived from the port's, in the form of derived ports. */
static void our_end(const struct kind_env *env, const struct attachment *at, char name[IFNAMSIZ])
{
    char text[14];
    uint64_t hash = hash64_str(hash64_str(HASH64_START, env->instance), at->conf.port);

    hash64_text(hash64_str(hash, "our end"), text);
    snprintf(name, IFNAMSIZ, "st%s", text);
}

/* A database that was made anew, or whose server was started again, has another socket. */
static void what_is_seen(const struct attachment *at, char text[SEEN_MAX])
{
    struct stat st = {0};
    uint64_t hash = hash64_str(HASH64_START, at->ovs_socket);
    char hashed[14];

    (void)stat(at->ovs_socket, &st);
    hash = hash64(hash, &st.st_ino, sizeof(st.st_ino));
    hash = hash64(hash, &st.st_ctim, sizeof(st.st_ctim));
    hash = hash64_str(hash, at->conf.bridge);
    hash = hash64(hash, &at->conf.vlan, sizeof(at->conf.vlan));
    hash64_text(hash, hashed);
    snprintf(text, SEEN_MAX, "sluice %s", hashed);
}

static int find(struct kind_env *env, const struct attachment *at, struct tc_switch *ret,
                char seen[SEEN_MAX], struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    char name[IFNAMSIZ];
    struct tc_bpf_info filter;
    struct link_info info;
    int rc;

    our_end(env, at, name);
    rc = link_peek(env->host, name, &info);
    if (rc == 0) {
        rc = tc_bpf_get(env->host, info.ifindex, false, &filter, err);
    }
    if (rc == -ENODEV || rc == -ENOENT) {
        return error_set(err, -ENOENT, "port %s has no filter", at->conf.port);
    }
    if (rc < 0) {
        return rc;
    }
    sw.ifindex = info.ifindex;
    sw.mtu = info.mtu;
    if ((rc = bpf_program_open(filter.prog_id, &sw.program, err)) < 0 ||
        (rc = bpf_program_table(sw.program, "sluice_routes", &sw.routes, err)) < 0 ||
        (rc = bpf_program_table(sw.program, "sluice_owners", &sw.owners, err)) < 0) {
        return error_wrap(err, "the filter of port %s", at->conf.port);
    }
    snprintf(seen, SEEN_MAX, "%.*s", SEEN_MAX - 1, filter.name);
    *ret = sw;
    sw = (struct tc_switch)TC_SWITCH_NONE;
    return 0;
}

int tc_port_find(struct kind_env *env, const struct attachment *at, struct tc_switch *ret,
                 struct error *err)
{
    char seen[SEEN_MAX];

    return find(env, at, ret, seen, err);
}

/* Both ends and their marks in one send: a kill leaves all of it or nothing. */
static int make_pair(struct kind_env *env, const struct attachment *at, struct error *err)
{
    char name[IFNAMSIZ], alias[KIND_ALIAS_MAX];
    struct link_spec ours = {.name = name, .mtu = at->conf.mtu, .netns_fd = -1};
    struct link_spec theirs = {
        .kind = "veth", .name = at->conf.port, .mtu = at->conf.mtu, .netns_fd = -1, .peer = &ours};
    struct link_info info;
    int rc;

    our_end(env, at, name);
    port_device_alias(env, at->conf.port, alias);
    if (link_peek(env->host, name, &info) == 0) {
        return 0;
    }
    link_put_create(env->host, &theirs);
    for (int i = 0; i < 2; i++) {
        link_put_change(env->host, &(struct link_change){.name = i ? name : at->conf.port,
                                                         .alias = alias,
                                                         .no_ipv6_autoconf = true});
    }
    link_put_change(env->host, &(struct link_change){.name = at->conf.port, .up = true});
    rc = netlink_send(env->host, NULL, err);
    if (rc < 0 && link_peek(env->host, name, &info) == 0) {
        return 0; /* another ADD was first */
    }
    return rc == -EEXIST
               ? error_set(err, rc,
                           "port: device %s is there, but was not made for type %s: name another",
                           at->conf.port, at->kind->type)
               : rc;
}

/*
 * What the userspace datapath reads from a device must be whole packets with their checksums; the
 * kernel leaves both to the device where it says that it can.
 */
static int suit_datapath(struct kind_env *env, const struct attachment *at, const char *name,
                         struct error *err)
{
    char datapath[16];
    struct ovsdb *db;
    int rc = kind_env_ovs(env, &at->conf, &db, err);

    if (rc == 0) {
        rc = ovs_bridge_datapath(db, at->conf.bridge, env->deadline_ns, datapath, err);
    }
    return rc < 0 || strcmp(datapath, "netdev") != 0
               ? rc
               : link_no_checksum_offload(env->host, name, err);
}

/* The filter, with new tables if there is none; of two who do this at once, one's counts. */
static int make_filter(struct kind_env *env, const struct attachment *at, const char *name,
                       struct tc_switch *ret, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    struct link_info info;
    int rc = tc_port_find(env, at, ret, err);

    if (rc != -ENOENT) {
        return rc;
    }
    rc = link_peek(env->host, name, &info);
    if (rc < 0) {
        return error_sys(err, rc, "look up device %s", name);
    }
    rc = tc_program_load(info.ifindex, &sw, err);
    if (rc == 0) {
        rc = tc_bpf_add(env->host, info.ifindex, false, sw.program, "sluice", err);
    }
    if (rc == 0 || rc == -EEXIST) {
        rc = tc_port_find(env, at, ret, err);
    }
    return rc;
}

static int make(struct kind_env *env, const struct attachment *at, const char *seen,
                struct tc_switch *ret, struct error *err)
{
    char name[IFNAMSIZ];
    bool ours;
    int rc;

    our_end(env, at, name);
    if ((rc = port_check_switch(env, &at->conf, err)) < 0 || (rc = make_pair(env, at, err)) < 0 ||
        (rc = port_make(env, at, "", &ours, err)) < 0 ||
        (rc = suit_datapath(env, at, name, err)) < 0 ||
        (rc = make_filter(env, at, name, ret, err)) < 0) {
        return error_wrap(err, "port %s of bridge %s", at->conf.port, at->conf.bridge);
    }
    tc_bpf_put_messages(env->host, ret->ifindex, false, ret->program, seen);
    for (int i = 0; i < 2; i++) { /* one that OVS had may have been set down by it */
        link_put_change(env->host,
                        &(struct link_change){.name = i ? name : at->conf.port, .up = true});
    }
    rc = netlink_send(env->host, NULL, err);
    if (rc < 0) {
        tc_switch_close(ret);
    }
    return rc;
}

int tc_port_ensure(struct kind_env *env, const struct attachment *at, struct tc_switch *ret,
                   struct error *err)
{
    char seen[SEEN_MAX], wanted[SEEN_MAX];
    int rc = find(env, at, ret, seen, err);

    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    what_is_seen(at, wanted);
    if (rc == 0 && !strcmp(seen, wanted)) {
        return 0;
    }
    if (rc == 0) {
        tc_switch_close(ret);
    }
    return make(env, at, wanted, ret, err);
}

int tc_port_check(struct kind_env *env, const struct attachment *at, struct error *err)
{
    char name[IFNAMSIZ];
    int rc = host_device_check(env, at->conf.port, err);

    our_end(env, at, name);
    if (rc == 0) {
        rc = host_device_check(env, name, err);
    }
    return rc < 0 ? rc : port_check(env, at, at->conf.port, err);
}
