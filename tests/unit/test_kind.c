/* SPDX-License-Identifier: Apache-2.0 */
/* src/kind without a network: names from keys, the table, and records on disk. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "kind/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- names ---- */

#define INSTANCE "/run/sluice"

static struct attachment prepared(const char *instance, const struct attachment_key *key)
{
    struct attachment at = {.key = *key, .kind = &kind_ovs, .conf = {.tenant = ""}};

    attachment_prepare(&at, instance);
    return at;
}

/* Changing these names would leave what an older version made. */
static void test_names_are_stable_and_fit_a_device(void **state)
{
    struct attachment at = prepared(INSTANCE, &(struct attachment_key){"net", "pod-1", "eth0"});

    (void)state;
    assert_string_equal(at.host_name, "slcgncm2eunmou7");
    assert_string_equal(at.alias, "sluice/sm652q/net/pod-1/eth0");
    assert_int_equal(strlen(at.host_name), IFNAMSIZ - 1);
    assert_null(at.conf.port);
}

static void test_names_differ_for_different_keys_and_instances(void **state)
{
    static const struct {
        const char *instance;
        struct attachment_key key;
    } cases[] = {
        {INSTANCE, {"net", "pod-1", "eth0"}},     {INSTANCE, {"net", "pod-1", "eth1"}},
        {INSTANCE, {"net", "pod-2", "eth0"}},     {INSTANCE, {"net2", "pod-1", "eth0"}},
        {INSTANCE, {"netp", "od-1", "eth0"}},     {INSTANCE, {"net", "pod-1e", "th0"}},
        {"/run/other", {"net", "pod-1", "eth0"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t j = 0; j < i; j++) {
            struct attachment a = prepared(cases[i].instance, &cases[i].key);
            struct attachment b = prepared(cases[j].instance, &cases[j].key);

            assert_string_not_equal(a.host_name, b.host_name);
            assert_string_not_equal(a.alias, b.alias);
        }
    }
}

/* The longest that src/cni lets through. An alias that is cut would not be known again. */
static void test_longest_key_fits_the_alias(void **state)
{
    char network[101], container_id[101];
    struct attachment_key key = {network, container_id, "fifteen-letters"};
    struct attachment at;

    (void)state;
    memset(network, 'n', sizeof(network));
    memset(container_id, 'c', sizeof(container_id));
    network[sizeof(network) - 1] = container_id[sizeof(container_id) - 1] = '\0';
    at = prepared(INSTANCE, &key);
    assert_string_equal(strrchr(at.alias, '/'), "/fifteen-letters");
}

/* The shared port's name follows from bridge, tenant and VLAN, not from network or pod. */
static void test_tenants_port_is_shared_by_its_tenants_pods(void **state)
{
    static const struct {
        const char *bridge, *tenant;
        int vlan;
    } cases[] = {{"br0", "", 0}, {"br1", "", 0}, {"br0", "a", 0}, {"br0", "", 7}, {"br0", "a", 7}};
    char names[ARRAY_SIZE(cases)][IFNAMSIZ];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kind_conf conf = {
            .bridge = cases[i].bridge, .tenant = cases[i].tenant, .vlan = cases[i].vlan};
        struct attachment at = {.key = {"a", "b", "c"}, .kind = &kind_ovs_macvlan, .conf = conf};
        struct attachment other = {.key = {"x", "y", "z"}, .kind = &kind_ovs_macvtap, .conf = conf};

        attachment_prepare(&at, "/run/sluice");
        attachment_prepare(&other, "/run/sluice");
        assert_string_equal(at.conf.port, other.conf.port);
        assert_int_equal(strlen(at.conf.port), IFNAMSIZ - 1);
        memcpy(names[i], at.conf.port, sizeof(names[i]));
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(names[i], names[j]);
        }
    }
}

static void test_a_given_port_keeps_its_name(void **state)
{
    struct attachment at = {.key = {"a", "b", "c"},
                            .kind = &kind_ovs_macvlan,
                            .conf = {.bridge = "br0", .tenant = "", .port = "mine"}};

    (void)state;
    attachment_prepare(&at, "/run/sluice");
    assert_string_equal(at.conf.port, "mine");
}

/* ---- the table ---- */

static void test_kinds_are_found_by_their_type(void **state)
{
    (void)state;
    for (size_t i = 0; kinds[i]; i++) {
        assert_ptr_equal(kind_find(kinds[i]->type), kinds[i]);
        assert_true(kinds[i]->add && kinds[i]->del && kinds[i]->does && kinds[i]->nic);
        assert_false(kinds[i]->own_port && kinds[i]->has_port);
    }
    assert_null(kind_find("bridge"));
    assert_null(kind_find(""));
}

/* ---- records ---- */

static int make_instance(void **state)
{
    char *dir = strdup("/tmp/sluice-kind-XXXXXX");

    *state = dir && mkdtemp(dir) ? dir : NULL;
    return *state ? 0 : -1;
}

static int remove_instance(void **state)
{
    int rc = dir_remove(*state);

    free(*state);
    return rc;
}

static struct attachment recorded(const char *container_id, const char *ifname)
{
    struct attachment at = {.key = {"net", container_id, ifname},
                            .kind = &kind_ovs_macvlan,
                            .conf = {.bridge = "br0", .tenant = "blue"},
                            .netns_path = "/run/netns/x",
                            .netns_fd = -1,
                            .record_fd = -1,
                            .mac = {{2, 0, 0, 0, 0, 9}}};

    return at;
}

/* Leaves the claim open in at->record_fd, as ADD does; tests close it. */
static void claim(const char *instance, struct attachment *at)
{
    struct kind_env env = {.instance = instance};
    struct error err;

    attachment_prepare(at, instance);
    if (record_claim(&env, at, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

/* Writes a file of the records' tree as a killed process or an editor may have left it. */
static void put_file(const char *instance, const char *container_id, const char *name,
                     const char *text)
{
    autofree char *dir = str_printf("%s/attachments/%s", instance, container_id);
    autofree char *path = str_printf("%s/%s", dir, name);

    assert_int_equal(dir_make(dir, 0700), 0);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600), 0);
}

static void test_claimed_record_is_read_back(void **state)
{
    struct attachment at = recorded("pod-1", "eth0");
    struct record record;
    struct error err;

    claim(*state, &at);
    assert_int_equal(record_read(*state, &at.key, &record, &err), 0);
    assert_string_equal(record.key.network, "net");
    assert_string_equal(record.key.container_id, "pod-1");
    assert_string_equal(record.key.ifname, "eth0");
    assert_string_equal(record.type, "ovs-macvlan");
    assert_string_equal(record.state, "adding");
    assert_string_equal(record.netns_path, "/run/netns/x");
    assert_string_equal(record.port, at.port_name);
    assert_string_equal(record.bridge, "br0");
    assert_memory_equal(&record.mac, &at.mac, sizeof(at.mac));
    record_clear(&record);
    attachment_clear(&at);
}

static void test_finished_record_is_ready_and_whole(void **state)
{
    struct attachment at = recorded("pod-1", "eth0");
    struct record record;
    json_t *ip;
    char boot[37];

    claim(*state, &at);
    at.ifindex = 7;
    at.mtu = 1400;
    at.result.n_ips = 1;
    assert_int_equal(ip_parse("10.1.0.5/16", &at.result.ips[0].address), 0);
    assert_int_equal(ip_parse("10.1.0.1", &at.result.ips[0].gateway), 0);
    assert_int_equal(record_finish(&at, NULL), 0);
    assert_int_equal(record_read(*state, &at.key, &record, NULL), 0);
    assert_string_equal(record.state, "ready");
    assert_int_equal(json_integer_value(json_object_get(record.json, "ifindex")), 7);
    assert_int_equal(json_integer_value(json_object_get(record.json, "mtu")), 1400);
    assert_int_equal(boot_id(boot), 0);
    assert_string_equal(json_string_value(json_object_get(record.json, "bootId")), boot);
    ip = json_array_get(json_object_get(record.json, "ips"), 0);
    assert_string_equal(json_string_value(json_object_get(ip, "address")), "10.1.0.5/16");
    assert_string_equal(json_string_value(json_object_get(ip, "gateway")), "10.1.0.1");
    record_clear(&record);
    attachment_clear(&at);
}

static void test_second_claim_is_refused(void **state)
{
    struct kind_env env = {.instance = *state};
    struct attachment at = recorded("pod-1", "eth0"), other = recorded("pod-1", "eth1");
    struct error err;

    claim(*state, &at);
    assert_int_equal(record_claim(&env, &at, &err), -EEXIST);
    assert_string_equal(err.text,
                        "container pod-1 has interface eth0 in network net already: DEL it first");
    claim(*state, &other);
    attachment_clear(&at);
    attachment_clear(&other);
}

static void test_removed_record_takes_its_directory_along_when_last(void **state)
{
    autofree char *dir = str_printf("%s/attachments/pod-1", (char *)*state);
    struct attachment one = recorded("pod-1", "eth0"), two = recorded("pod-1", "eth1");
    struct record record;
    struct error err;

    claim(*state, &one);
    claim(*state, &two);
    assert_int_equal(record_remove(*state, &one.key, &err), 0);
    assert_int_equal(record_read(*state, &one.key, &record, &err), -ENOENT);
    assert_int_equal(access(dir, F_OK), 0);
    assert_int_equal(record_remove(*state, &two.key, &err), 0);
    assert_int_equal(access(dir, F_OK), -1);
    assert_int_equal(record_remove(*state, &two.key, &err), 0);
    attachment_clear(&one);
    attachment_clear(&two);
}

/* A kill in the middle of the second line leaves the claim. */
static void test_record_torn_after_its_claim_is_still_a_claim(void **state)
{
    static const char *const tails[] = {"", "{\"v\":1,\"state\":\"ready\"", "{\"v\":1", "\xff"};

    for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
        struct attachment at = recorded("pod-1", "eth0");
        struct record record;
        struct error err;

        claim(*state, &at);
        assert_int_equal(fd_write_all(at.record_fd, tails[i], strlen(tails[i])), 0);
        assert_int_equal(record_read(*state, &at.key, &record, &err), 0);
        assert_string_equal(record.state, "adding");
        record_clear(&record);
        assert_int_equal(record_remove(*state, &at.key, &err), 0);
        attachment_clear(&at);
    }
}

static void test_torn_record_is_an_error_that_names_the_file(void **state)
{
    static const char *const torn[] = {
        "",
        "{\"v\":1,\"sta",
        "[]",
        "{\"network\":\"net\"}",
        "{\"network\":\"n\",\"containerId\":\"p\",\"ifname\":\"e\",\"netnsInode\":\"x\"}",
    };
    struct attachment_key key = {"net", "pod-1", "eth0"};

    for (size_t i = 0; i < ARRAY_SIZE(torn); i++) {
        struct record record;
        struct error err;

        put_file(*state, "pod-1", "eth0@net.json", torn[i]);
        assert_true(record_read(*state, &key, &record, &err) < 0);
        assert_non_null(strstr(err.text, "/attachments/pod-1/eth0@net.json: "));
        assert_int_equal(record_remove(*state, &key, &err), 0);
    }
}

struct seen {
    char text[512];
    const char *instance; /* remove what is seen from here; NULL: leave it */
    int rc;
};

static int see(const struct record *record, void *cookie)
{
    struct seen *seen = cookie;
    size_t used = strlen(seen->text);

    snprintf(seen->text + used, sizeof(seen->text) - used, "%s/%s@%s %s;", record->key.container_id,
             record->key.ifname, record->key.network, record->state);
    if (seen->instance) {
        assert_int_equal(record_remove(seen->instance, &record->key, NULL), 0);
    }
    return seen->rc;
}

static void test_list_shows_whole_and_torn_records(void **state)
{
    static const char *const no_records[] = {"README", "noat.json", "@net.json", ".json",
                                             "eth0@net.json.tmp.7"};
    static const char *const shown[] = {"pod-1/eth0@net adding;", "pod-2/eth1@net2 adding;",
                                        "pod-2/e@h@n.json-x adding;"};
    size_t len = 0;
    struct attachment at = recorded("pod-1", "eth0");
    struct seen seen = {.text = ""};
    struct error err;

    assert_int_equal(record_list(*state, see, &seen, &err), 0);
    assert_string_equal(seen.text, "");
    claim(*state, &at);
    put_file(*state, "pod-2", "eth1@net2.json", "{\"v\":1,");
    put_file(*state, "pod-2", "e@h@n.json-x.json", "");
    for (size_t i = 0; i < ARRAY_SIZE(no_records); i++) {
        put_file(*state, "pod-2", no_records[i], "");
    }
    assert_int_equal(record_list(*state, see, &seen, &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
        assert_non_null(strstr(seen.text, shown[i]));
        len += strlen(shown[i]);
    }
    assert_int_equal(strlen(seen.text), len);
    attachment_clear(&at);
}

static void test_visitor_may_remove_what_it_is_shown_or_stop(void **state)
{
    struct attachment one = recorded("pod-1", "eth0"), two = recorded("pod-2", "eth0");
    struct seen stop = {.text = "", .rc = -ECANCELED}, remove = {.instance = *state};
    struct seen after = {.text = ""};
    struct error err;

    claim(*state, &one);
    claim(*state, &two);
    assert_int_equal(record_list(*state, see, &stop, &err), -ECANCELED);
    assert_int_equal(strlen(stop.text), strlen("pod-1/eth0@net adding;"));
    assert_int_equal(record_list(*state, see, &remove, &err), 0);
    assert_int_equal(record_list(*state, see, &after, &err), 0);
    assert_string_equal(after.text, "");
    attachment_clear(&one);
    attachment_clear(&two);
}

#define in_instance(test) cmocka_unit_test_setup_teardown(test, make_instance, remove_instance)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_stable_and_fit_a_device),
        cmocka_unit_test(test_names_differ_for_different_keys_and_instances),
        cmocka_unit_test(test_longest_key_fits_the_alias),
        cmocka_unit_test(test_tenants_port_is_shared_by_its_tenants_pods),
        cmocka_unit_test(test_a_given_port_keeps_its_name),
        cmocka_unit_test(test_kinds_are_found_by_their_type),
        in_instance(test_claimed_record_is_read_back),
        in_instance(test_finished_record_is_ready_and_whole),
        in_instance(test_second_claim_is_refused),
        in_instance(test_removed_record_takes_its_directory_along_when_last),
        in_instance(test_record_torn_after_its_claim_is_still_a_claim),
        in_instance(test_torn_record_is_an_error_that_names_the_file),
        in_instance(test_list_shows_whole_and_torn_records),
        in_instance(test_visitor_may_remove_what_it_is_shown_or_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
