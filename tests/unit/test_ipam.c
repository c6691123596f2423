/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses on both stores, moving from one to the other and from owner to owner, many processes at
 * once. */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
    char instance[80], data[80];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->dir, "/tmp/test-ipam.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->instance, sizeof(f->instance), "%s/run", f->dir);
    snprintf(f->data, sizeof(f->data), "%s/data", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(dir_remove(f->dir), 0);
    free(f);
    return 0;
}

/* members: the inside of the "ipam" object; ' stands for ". */
static struct ipam_config *config(const struct fixture *f, const char *members)
{
    autofree char *text = str_printf("{'dataDir': '%s', %s}", f->data, members);
    autojson json_t *ipam = NULL;
    struct ipam_config *made = NULL;
    struct error err = {0};

    for (char *p = text; (p = strchr(p, '\''));) {
        *p = '"';
    }
    if (json_parse(text, strlen(text), &ipam, &err) < 0 ||
        ipam_config_parse(ipam, "net", &made, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return made;
}

#define autoconfig __attribute__((cleanup(cleanup_ipam_config))) struct ipam_config

static struct ip_addr ip(const char *text)
{
    struct ip_addr addr;

    assert_int_equal(ip_parse(text, &addr), 0);
    return addr;
}

/* Allocates and returns the addresses as text, joined by spaces; err's text on failure. */
static const char *take(const struct fixture *f, const struct ipam_config *c, const char *id)
{
    static char text[1024];
    struct ipam_owner owner = {id, "eth0"};
    struct ipam_result result;
    struct error err = {0};
    char one[IP_TEXT_MAX];
    size_t used = 0;

    if (ipam_allocate(c, f->instance, &owner, NULL, 0, &result, &err) < 0) {
        snprintf(text, sizeof(text), "%s", err.text);
        return text;
    }
    for (size_t i = 0; i < result.n_ips; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "",
                                 ip_format(&result.ips[i].address, true, one));
    }
    ipam_result_clear(&result);
    return text;
}

static void give(const struct fixture *f, const struct ipam_config *c, const char *id)
{
    struct error err = {0};

    if (ipam_release(c, f->instance, &(struct ipam_owner){id, "eth0"}, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static int check(const struct fixture *f, const struct ipam_config *c, const char *id)
{
    return ipam_check(c, f->instance, &(struct ipam_owner){id, "eth0"}, NULL);
}

static void put_file(const struct fixture *f, const char *name, const char *text)
{
    autofree char *dir = str_printf("%s/net", f->data);
    autofree char *path = str_printf("%s/%s", dir, name);

    assert_int_equal(dir_make(dir, 0755), 0);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644), 0);
}

static bool has_file(const struct fixture *f, const char *name, const char *text)
{
    autofree char *path = str_printf("%s/net/%s", f->data, name);
    autofree char *data = NULL;

    return file_read(path, 4096, &data, NULL) == 0 && !strcmp(data, text);
}

static char *read_log(const struct fixture *f)
{
    autofree char *path = str_printf("%s/ipam/net.log", f->instance);
    char *data = NULL;

    return file_read(path, 1 << 20, &data, NULL) == 0 ? data : strdup("");
}

static void write_log(const struct fixture *f, const char *text)
{
    autofree char *dir = str_printf("%s/ipam", f->instance);
    autofree char *path = str_printf("%s/net.log", dir);

    assert_int_equal(dir_make(dir, 0755), 0);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600), 0);
}

/* ---- what comes with a call ---- */

static void refused_names(void **state)
{
    autoconfig *c = config(*state, "'subnet': '10.0.0.0/24'");
    static const struct ipam_owner bad[] = {{"a b", "eth0"},  {"", "eth0"},
                                            {"../x", "eth0"}, {"a\nb", "eth0"},
                                            {"a", ""},        {"a", "a b"},
                                            {"a", "a/b"},     {"a", ".."},
                                            {"a", "x\n"},     {"a", "much-too-long-a-name"}};
    struct fixture *f = *state;
    autojson json_t *ipam = json_object();
    struct ipam_config *none = NULL;
    struct ipam_result result;

    assert_int_equal(ipam_config_parse(ipam, "../etc", &none, NULL), -EINVAL);
    assert_int_equal(ipam_config_parse(ipam, "", &none, NULL), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(ipam_allocate(c, f->instance, &bad[i], NULL, 0, &result, NULL), -EINVAL);
        assert_int_equal(ipam_release(c, f->instance, &bad[i], NULL), -EINVAL);
    }
}

static void resolv_conf(void **state)
{
    struct fixture *f = *state;
    autofree char *path = str_printf("%s/resolv.conf", f->dir);
    autofree char *members = str_printf("'subnet': '10.0.0.0/24', 'resolvConf': '%s'", path);
    autoconfig *c = config(f, members);
    const char *text =
        "# a\n;b\n\nnameserver 192.0.2.1 # home\nnameserver\t::1\ndomain a.example\n"
        "search a.example  b.example\noptions ndots:5 rotate\nnameserver\nsortlist x";
    struct ipam_result result;
    autofree char *dns = NULL;

    assert_int_equal(
        ipam_allocate(c, f->instance, &(struct ipam_owner){"a", "eth0"}, NULL, 0, &result, NULL),
        -ENOENT);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644), 0);
    assert_int_equal(
        ipam_allocate(c, f->instance, &(struct ipam_owner){"a", "eth0"}, NULL, 0, &result, NULL),
        0);
    dns = json_dumps(result.dns, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(dns, "{\"domain\":\"a.example\",\"nameservers\":[\"192.0.2.1\",\"::1\"],"
                             "\"options\":[\"ndots:5\",\"rotate\"],"
                             "\"search\":[\"a.example\",\"b.example\"]}");
    ipam_result_clear(&result);
}

/* ---- handing out, on both stores ---- */

/* files: host-local has a lease of its own, far away from what the tests hand out. */
static void on_both(void **state, const char *members,
                    void (*test)(struct fixture *f, struct ipam_config *c))
{
    for (int files = 0; files < 2; files++) {
        struct fixture *f = NULL;

        setup((void **)&f);
        if (files) {
            put_file(f, "192.0.2.77", "other\r\neth0");
        }
        {
            autoconfig *c = config(f, members);

            test(f, c);
        }
        if (files) {
            assert_true(has_file(f, "192.0.2.77", "other\r\neth0"));
        }
        teardown((void **)&f);
    }
    (void)state;
}

static void round_robin_test(struct fixture *f, struct ipam_config *c)
{
    assert_string_equal(take(f, c, "a"), "10.0.0.2/29");
    assert_string_equal(take(f, c, "b"), "10.0.0.3/29");
    give(f, c, "a");
    give(f, c, "a");
    assert_int_equal(check(f, c, "a"), -ENOENT);
    assert_int_equal(check(f, c, "b"), 0);
    assert_string_equal(take(f, c, "c"), "10.0.0.4/29");
    give(f, c, "c");
    assert_string_equal(take(f, c, "c"), "10.0.0.5/29");
    assert_string_equal(take(f, c, "d"), "10.0.0.6/29");
    assert_string_equal(take(f, c, "e"), "10.0.0.2/29");
    assert_string_equal(take(f, c, "e"),
                        "network net: container e, interface eth0: has the address "
                        "10.0.0.2 already; must be given back first");
    assert_string_equal(take(f, c, "f"), "10.0.0.4/29");
    assert_string_equal(take(f, c, "g"), "network net: container g, interface eth0: no address "
                                         "left in range set 0 (10.0.0.1-10.0.0.6)");
    give(f, c, "e");
    assert_string_equal(take(f, c, "g"), "10.0.0.2/29");
}

static void round_robin(void **state)
{
    on_both(state, "'subnet': '10.0.0.0/29'", round_robin_test);
}

static void two_ranges_test(struct fixture *f, struct ipam_config *c)
{
    assert_string_equal(take(f, c, "a"), "10.0.0.2/30 fd00::2/64");
    assert_string_equal(take(f, c, "b"), "10.0.1.2/30 fd00::3/64");
    assert_non_null(strstr(take(f, c, "c"), "no address left in range set 0 (10.0.0.1-10.0.0.2, "
                                            "10.0.1.1-10.0.1.2)"));
    give(f, c, "b");
    assert_string_equal(take(f, c, "c"), "10.0.1.2/30 fd00::4/64");
    give(f, c, "a");
    assert_string_equal(take(f, c, "b"), "10.0.0.2/30 fd00::5/64");
}

/* Two sets: an address of each or none at all. */
static void two_sets(void **state)
{
    on_both(state,
            "'ranges': [[{'subnet': '10.0.0.0/30'}, {'subnet': '10.0.1.0/30'}],"
            "[{'subnet': 'fd00::/64'}]]",
            two_ranges_test);
}

static int ask(struct fixture *f, struct ipam_config *c, const char *id, const char *first,
               const char *second, const char *said)
{
    struct ip_addr requested[2] = {ip(first), second ? ip(second) : ip(first)};
    struct ipam_owner owner = {id, "eth0"};
    struct ipam_result result;
    struct error err = {0};
    char text[IP_TEXT_MAX];
    int rc = ipam_allocate(c, f->instance, &owner, requested, 2, &result, &err);

    if (rc == 0) {
        assert_string_equal(ip_format(&result.ips[0].address, false, text), said);
        ipam_result_clear(&result);
    } else if (!strstr(err.text, said)) {
        fail_msg("%s", err.text);
    }
    return rc;
}

static void requested_test(struct fixture *f, struct ipam_config *c)
{
    assert_int_equal(ask(f, c, "a", "10.0.0.200", "fd00::77", "10.0.0.200"), 0);
    assert_int_equal(ask(f, c, "b", "10.0.0.200", NULL, "10.0.0.200 is taken"), -EADDRINUSE);
    assert_int_equal(ask(f, c, "b", "10.0.0.1", NULL, "is a gateway"), -EINVAL);
    assert_int_equal(ask(f, c, "b", "10.9.0.1", NULL, "10.9.0.1 is in no range"), -EINVAL);
    assert_int_equal(ask(f, c, "b", "10.0.0.7", "10.0.0.8", "are both of range set 0"), -EINVAL);
    assert_int_equal(check(f, c, "b"), -ENOENT);
    assert_string_equal(take(f, c, "b"), "10.0.0.201/24 fd00::78/64");
}

static void requested(void **state)
{
    on_both(state, "'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': 'fd00::/64'}]]",
            requested_test);
}

static bool keep_even(const struct ipam_owner *owner, void *cookie)
{
    int *calls = cookie;

    ++*calls;
    return strcmp(owner->container_id, "other") == 0 || (owner->container_id[1] - '0') % 2 == 0;
}

static void gc_test(struct fixture *f, struct ipam_config *c)
{
    size_t released = 99;
    int calls = 0;
    char id[16];

    for (int i = 0; i < 6; i++) {
        snprintf(id, sizeof(id), "p%d", i);
        take(f, c, id);
    }
    assert_int_equal(ipam_gc(c, f->instance, keep_even, &calls, &released, NULL), 0);
    assert_int_equal(released, 6);
    for (int i = 0; i < 6; i++) {
        snprintf(id, sizeof(id), "p%d", i);
        assert_int_equal(check(f, c, id), i % 2 ? -ENOENT : 0);
    }
    assert_int_equal(ipam_gc(c, f->instance, keep_even, &calls, &released, NULL), 0);
    assert_int_equal(released, 0);
}

static void gc(void **state)
{
    on_both(state, "'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': 'fd00::/64'}]]", gc_test);
}

/* Eight processes, fifty addresses each; what every one got comes through a pipe. */
static void processes_test(struct fixture *f, struct ipam_config *c)
{
    int ends[2], counts[65536] = {0}, n = 0;
    uint16_t got;

    assert_int_equal(pipe(ends), 0);
    for (int p = 0; p < 8; p++) {
        if (fork() == 0) {
            for (int i = 0; i < 50; i++) {
                struct ipam_owner owner = {"x", "eth0"};
                struct ipam_result result;
                char id[32];

                snprintf(id, sizeof(id), "p%d.%d", p, i);
                owner.container_id = id;
                if (ipam_allocate(c, f->instance, &owner, NULL, 0, &result, NULL) < 0) {
                    _exit(1);
                }
                got = (uint16_t)(result.ips[0].address.bytes[2] << 8 |
                                 result.ips[0].address.bytes[3]);
                if (write(ends[1], &got, sizeof(got)) != sizeof(got) ||
                    (i % 3 == 0 && ipam_release(c, f->instance, &owner, NULL) < 0)) {
                    _exit(1);
                }
            }
            _exit(0);
        }
    }
    close(ends[1]);
    while (read(ends[0], &got, sizeof(got)) == sizeof(got)) {
        counts[got]++;
        n++;
    }
    close(ends[0]);
    for (int p = 0; p < 8; p++) {
        int status;

        wait(&status);
        assert_int_equal(status, 0);
    }
    assert_int_equal(n, 400);
    for (int i = 0; i < 65536; i++) {
        assert_true(counts[i] <= 1);
    }
}

static void processes(void **state)
{
    on_both(state, "'subnet': '10.0.0.0/16'", processes_test);
}

/* ---- from one owner to another ---- */

static const struct ipam_owner pool = {"sluice-pool", "7"};

static int reown(const struct fixture *f, const struct ipam_config *c, const char *id,
                 const char *said)
{
    struct ipam_owner to = {id, "eth0"};
    struct ipam_result result;
    struct error err = {0};
    char text[256], one[IP_TEXT_MAX];
    size_t used = 0;
    int rc = ipam_reown(c, f->instance, &pool, &to, &result, &err);

    if (rc < 0) {
        assert_non_null(strstr(err.text, said));
        return rc;
    }
    for (size_t i = 0; i < result.n_ips; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "",
                                 ip_format(&result.ips[i].address, true, one));
        assert_int_equal(result.ips[i].gateway.family, result.ips[i].address.family);
    }
    assert_string_equal(text, said);
    assert_int_equal(result.n_routes, 1);
    ipam_result_clear(&result);
    return 0;
}

static void take_for_pool(const struct fixture *f, const struct ipam_config *c)
{
    struct ipam_result result;

    assert_int_equal(ipam_allocate(c, f->instance, &pool, NULL, 0, &result, NULL), 0);
    ipam_result_clear(&result);
}

#define TWO_SETS                                                                                   \
    "'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': 'fd00::/64'}]],"                          \
    "'routes': [{'dst': '0.0.0.0/0'}]"

static void reown_test(struct fixture *f, struct ipam_config *c)
{
    assert_int_equal(reown(f, c, "a", "container sluice-pool, interface 7: has no address"),
                     -ENOENT);
    take_for_pool(f, c);
    assert_string_equal(take(f, c, "b"), "10.0.0.3/24 fd00::3/64");
    assert_int_equal(reown(f, c, "b", "container b, interface eth0, has the address"), -EEXIST);
    assert_int_equal(reown(f, c, "a b", "container ID \"a b\" is not allowed"), -EINVAL);
    assert_int_equal(ipam_check(c, f->instance, &pool, NULL), 0);

    assert_int_equal(reown(f, c, "a", "10.0.0.2/24 fd00::2/64"), 0);
    assert_int_equal(ipam_check(c, f->instance, &pool, NULL), -ENOENT);
    assert_int_equal(check(f, c, "a"), 0);
    assert_int_equal(reown(f, c, "a", "has no address"), -ENOENT);
    assert_non_null(strstr(take(f, c, "a"), "already"));
    /* The round robin goes on where it was; what the pool gives back is not a's. */
    assert_int_equal(ipam_release(c, f->instance, &pool, NULL), 0);
    take_for_pool(f, c);
    assert_int_equal(ask(f, c, "x", "10.0.0.2", NULL, "10.0.0.2 is taken"), -EADDRINUSE);
    give(f, c, "a");
    assert_int_equal(reown(f, c, "a", "10.0.0.4/24 fd00::4/64"), 0);
    assert_int_equal(ask(f, c, "x", "10.0.0.2", "fd00::2", "10.0.0.2"), 0);
}

static void reown_moves_all_addresses(void **state)
{
    on_both(state, TWO_SETS, reown_test);
}

static void reown_other_sets_test(struct fixture *f, struct ipam_config *c)
{
    autoconfig *one = config(f, "'subnet': '10.0.0.0/24'");
    autoconfig *three = config(f, "'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': "
                                  "'fd00::/64'}], [{'subnet': 'fd01::/64'}]]");

    take_for_pool(f, c);
    assert_int_equal(reown(f, one, "a", "the configuration has changed"), -EINVAL);
    assert_int_equal(reown(f, three, "a", "the configuration has changed"), -EINVAL);
    assert_int_equal(ipam_check(c, f->instance, &pool, NULL), 0);
    assert_int_equal(check(f, c, "a"), -ENOENT);
}

static void reown_under_a_changed_configuration_changes_nothing(void **state)
{
    on_both(state, TWO_SETS, reown_other_sets_test);
}

/* Wherever the write is cut, one of the two has the addresses, and nobody else gets them. */
static void reown_log_cut_at_every_byte(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, TWO_SETS);
    autofree char *before = NULL, *after = NULL;

    take(f, c, "other");
    take_for_pool(f, c);
    before = read_log(f);
    assert_int_equal(reown(f, c, "a", "10.0.0.3/24 fd00::3/64"), 0);
    after = read_log(f);
    assert_int_equal(strncmp(before, after, strlen(before)), 0);
    for (size_t len = strlen(before); len <= strlen(after); len++) {
        autofree char *cut = strndup(after, len);
        bool moved = len == strlen(after);

        write_log(f, cut);
        assert_int_equal(ipam_check(c, f->instance, &pool, NULL), moved ? -ENOENT : 0);
        assert_int_equal(check(f, c, "a"), moved ? 0 : -ENOENT);
        assert_int_equal(ask(f, c, "x", "10.0.0.3", NULL, "10.0.0.3 is taken"), -EADDRINUSE);
        assert_int_equal(ask(f, c, "x", "fd00::3", NULL, "fd00::3 is taken"), -EADDRINUSE);
        assert_int_equal(reown(f, c, "a", moved ? "has no address" : "10.0.0.3/24 fd00::3/64"),
                         moved ? -ENOENT : 0);
        assert_int_equal(check(f, c, "a"), 0);
        assert_string_equal(take(f, c, "b"), "10.0.0.4/24 fd00::4/64");
    }
}

static void reown_outlives_compaction(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, TWO_SETS);
    autofree char *log = NULL;

    take_for_pool(f, c);
    assert_int_equal(reown(f, c, "stays", "10.0.0.2/24 fd00::2/64"), 0);
    for (int i = 0; i < 300; i++) {
        take(f, c, "p");
        give(f, c, "p");
    }
    log = read_log(f);
    assert_null(strchr(log, '>'));
    assert_int_equal(check(f, c, "stays"), 0);
    assert_int_equal(ipam_check(c, f->instance, &pool, NULL), -ENOENT);
}

/* As a kill between any two steps leaves host-local's files. */
static void reown_of_files_is_finished_after_a_kill(void **state)
{
    static const char *const names[] = {"10.0.0.2", "fd00::2"};
    struct fixture *f = *state;
    autoconfig *c = config(f, TWO_SETS);

    for (int done = 0; done < 4; done++) {
        for (int i = 0; i < 2; i++) {
            put_file(f, names[i], done & 1 << i ? "a\r\neth0" : "sluice-pool\r\n7");
        }
        put_file(f, ".sluice-move", "a\r\ne");
        assert_int_equal(reown(f, c, "a", done == 3 ? "no address" : "10.0.0.2/24 fd00::2/64"),
                         done == 3 ? -ENOENT : 0);
        assert_true(has_file(f, "10.0.0.2", "a\r\neth0"));
        assert_true(has_file(f, "fd00::2", "a\r\neth0"));
        assert_int_equal(ipam_check(c, f->instance, &pool, NULL), -ENOENT);
    }
    /* Two of one set: not one owner's. */
    put_file(f, "10.0.0.3", "sluice-pool\r\n7");
    assert_int_equal(reown(f, c, "a", "has the address"), -EEXIST);
    /* One of each holds nothing of a third set: neither. */
    {
        autoconfig *three = config(f, "'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': "
                                      "'fd00::/64'}], [{'subnet': 'fd01::/64'}]]");

        put_file(f, "10.0.0.2", "other\r\neth0");
        assert_int_equal(reown(f, three, "a", "has the address"), -EEXIST);
    }
    assert_true(has_file(f, "10.0.0.3", "sluice-pool\r\n7"));
}

/* ---- the log ---- */

static void log_torn_line(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    autofree char *before = NULL, *after = NULL, *torn = NULL;

    take(f, c, "a");
    before = read_log(f);
    torn = str_printf("%s+ 10.0.0.3 b et", before);
    write_log(f, torn);
    assert_int_equal(check(f, c, "b"), -ENOENT);
    assert_string_equal(take(f, c, "c"), "10.0.0.3/24");
    after = read_log(f);
    free(torn);
    torn = str_printf("%s+ 10.0.0.3 c eth0\n", before);
    assert_string_equal(after, torn);
}

static void log_of_another_boot(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    autofree char *now = NULL;

    write_log(f, "sluice-ipam 1 00000000-1111-2222-3333-444444444444\n+ 10.0.0.2 old eth0\n");
    assert_int_equal(check(f, c, "old"), -ENOENT);
    assert_string_equal(take(f, c, "a"), "10.0.0.2/24");
    now = read_log(f);
    assert_null(strstr(now, "old"));
    write_log(f, "sluice-ip");
    assert_string_equal(take(f, c, "b"), "10.0.0.2/24");
    write_log(f, "");
    assert_string_equal(take(f, c, "b"), "10.0.0.2/24");
}

static void log_of_another_version(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    static const char *const versions[] = {"2", "12"};
    char boot[37];

    boot_id(boot);
    for (int i = 0; i < 2; i++) {
        autofree char *text = str_printf("sluice-ipam %s %s\n", versions[i], boot);

        write_log(f, text);
        assert_non_null(strstr(take(f, c, "a"), "written by another version"));
    }
}

static void log_nonsense_is_skipped(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    autofree char *text = NULL;
    char boot[37];

    boot_id(boot);
    text = str_printf(
        "sluice-ipam 1 %s\n+ 10.0.0.2 a eth0\n\n+\n- a\n+ x a eth0\n+ 10.0.0.256 a b\n"
        "+ 1.2.3.4.5 a b\n+ 10.0.0.9 a b c\n* 10.0.0.3\n. 10.0.0.9 a\n"
        "+ 10.0.0.7  eth0\n+ 10.0.0.8 a \n> a eth0 b\n> b eth0 c eth0\n> a eth0 b eth0 x\n"
        "> a eth0  eth0\n>\n> a eth0 a eth0\n",
        boot);
    write_log(f, text);
    setenv("SLUICE_LOG", "error", 1);
    assert_int_equal(check(f, c, "a"), 0);
    assert_string_equal(take(f, c, "b"), "10.0.0.3/24");
    unsetenv("SLUICE_LOG");
}

/* Many dead lines go; the leases and the place of the round robin stay. */
static void log_compaction(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'ranges': [[{'subnet': '10.0.0.0/16'}], [{'subnet': 'fd00::/64'}]]");
    autofree char *log = NULL, *expect = NULL;
    char id[16];

    take(f, c, "stays");
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "p%d", i);
        expect = (free(expect),
                  str_printf("10.0.%d.%d/16 fd00::%x/64", (i + 3) / 256, (i + 3) % 256, i + 3));
        assert_string_equal(take(f, c, id), expect);
        give(f, c, id);
    }
    log = read_log(f);
    assert_true(strlen(log) < 300 * 30);
    assert_int_equal(check(f, c, "stays"), 0);
    assert_int_equal(check(f, c, "p999"), -ENOENT);
    assert_string_equal(take(f, c, "next"), "10.0.3.235/16 fd00::3eb/64");
}

static void log_disk_full(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    autofree char *path = str_printf("%s/ipam/net.log", f->instance);
    struct ipam_result result;
    struct error err = {0};

    take(f, c, "a");
    unlink(path);
    assert_int_equal(symlink("/dev/full", path), 0);
    assert_int_equal(
        ipam_allocate(c, f->instance, &(struct ipam_owner){"b", "eth0"}, NULL, 0, &result, &err),
        -EIO);
    assert_non_null(strstr(err.text, "No space left on device"));
}

/* ---- host-local's files ---- */

static void files_are_host_locals(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'ranges': [[{'subnet': '10.0.0.0/24'}], [{'subnet': 'fd00::/64'}]]");
    autofree char *log = NULL;

    put_file(f, "10.0.0.2", "theirs\r\neth0");
    put_file(f, "10.0.0.3", "");
    put_file(f, "last_reserved_ip.0", "10.0.0.1");
    assert_string_equal(take(f, c, "ours"), "10.0.0.4/24 fd00::2/64");
    assert_true(has_file(f, "10.0.0.4", "ours\r\neth0"));
    assert_true(has_file(f, "fd00::2", "ours\r\neth0"));
    assert_true(has_file(f, "last_reserved_ip.0", "10.0.0.4"));
    assert_true(has_file(f, "last_reserved_ip.1", "fd00::2"));
    assert_true(has_file(f, "10.0.0.3", ""));
    log = read_log(f);
    assert_string_equal(log, "");
    assert_int_equal(check(f, c, "theirs"), 0);
    give(f, c, "theirs");
    give(f, c, "ours");
    assert_false(has_file(f, "10.0.0.2", "theirs\r\neth0"));
    assert_false(has_file(f, "10.0.0.4", "ours\r\neth0"));
    assert_false(has_file(f, "fd00::2", "ours\r\neth0"));
}

/* A file of host-local before 0.8 names the container only. */
static void files_of_old_form(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    size_t released = 99;
    int calls = 0;

    put_file(f, "10.0.0.2", "p1\n");
    assert_int_equal(check(f, c, "p1"), 0);
    assert_non_null(strstr(take(f, c, "p1"), "has the address 10.0.0.2 already"));
    assert_int_equal(ipam_gc(c, f->instance, keep_even, &calls, &released, NULL), 0);
    assert_int_equal(released, 0);
    give(f, c, "p1");
    assert_false(has_file(f, "10.0.0.2", "p1\n"));
}

static void adoption(void **state)
{
    struct fixture *f = *state;
    autoconfig *c = config(f, "'subnet': '10.0.0.0/24'");
    autofree char *log = NULL;

    assert_string_equal(take(f, c, "a"), "10.0.0.2/24");
    assert_string_equal(take(f, c, "b"), "10.0.0.3/24");
    assert_string_equal(take(f, c, "c"), "10.0.0.4/24");
    give(f, c, "b");
    put_file(f, "10.0.0.2", "theirs\r\neth0");
    setenv("SLUICE_LOG", "error", 1);
    assert_string_equal(take(f, c, "d"), "10.0.0.3/24");
    unsetenv("SLUICE_LOG");
    assert_true(has_file(f, "10.0.0.2", "theirs\r\neth0"));
    assert_true(has_file(f, "10.0.0.4", "c\r\neth0"));
    log = read_log(f);
    assert_string_equal(log, "");
    assert_int_equal(check(f, c, "a"), -ENOENT);
    assert_int_equal(check(f, c, "c"), 0);
    give(f, c, "c");
    give(f, c, "d");
    give(f, c, "theirs");
    /* Nothing left there: back to the log. */
    take(f, c, "e");
    free(log);
    log = read_log(f);
    assert_non_null(strstr(log, " e eth0\n"));
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(refused_names),
        test_of(resolv_conf),
        test_of(round_robin),
        test_of(two_sets),
        test_of(requested),
        test_of(gc),
        test_of(processes),
        test_of(reown_moves_all_addresses),
        test_of(reown_under_a_changed_configuration_changes_nothing),
        test_of(reown_log_cut_at_every_byte),
        test_of(reown_outlives_compaction),
        test_of(reown_of_files_is_finished_after_a_kill),
        test_of(log_torn_line),
        test_of(log_of_another_boot),
        test_of(log_of_another_version),
        test_of(log_nonsense_is_skipped),
        test_of(log_compaction),
        test_of(log_disk_full),
        test_of(files_are_host_locals),
        test_of(files_of_old_form),
        test_of(adoption),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
