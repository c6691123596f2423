/* SPDX-License-Identifier: Apache-2.0 */
/* src/bench: how pods arrive, and the network configurations that they get. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bench/bench-internal.h"
#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_arrivals(void **state)
{
    static const struct {
        const char *text;
        int concurrency; /* -1: refused */
    } cases[] = {
        {"burst", 0},
        {"seq", 1},
        {"closed:1", 1},
        {"closed:10000", 10000},
        {"closed:0", -1},
        {"closed:-1", -1},
        {"closed:", -1},
        {"closed:10001", -1},
        {"closed:8x", -1},
        {"", -1},
        {"bursts", -1},
        {"closed: 8", -1},
        {"closed:0000000000000000000000000000008", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct bench_arrival arrival = {.concurrency = 77};
        struct error err = {0};

        if (cases[i].concurrency < 0) {
            assert_int_equal(bench_arrival_parse(cases[i].text, &arrival, &err), -EINVAL);
            assert_non_null(strstr(err.text, "is not allowed; must be burst, seq or closed:K"));
            assert_int_equal(arrival.concurrency, 77);
            continue;
        }
        assert_int_equal(bench_arrival_parse(cases[i].text, &arrival, &err), 0);
        assert_int_equal(arrival.concurrency, cases[i].concurrency);
        assert_string_equal(arrival.text, cases[i].text);
    }
}

/* Every kind's configuration, for the first and the last tenant, is one that the plugin takes. */
static void test_made_configurations_are_good_ones(void **state)
{
    struct bench_options options = {.bridge = "br0", .instance = "/run/i", .ovs_socket = "/s"};
    const int tenants[] = {0, BENCH_TENANTS_MAX - 1};

    (void)state;
    for (size_t k = 0; kinds[k]; k++) {
        for (size_t t = 0; t < ARRAY_SIZE(tenants); t++) {
            autojson json_t *list = bench_conf_for_kind(&options, kinds[k]->type, tenants[t]);
            json_t *plugin = json_array_get(json_object_get(list, "plugins"), 0);
            autofree char *text = NULL;
            struct cni_request request = {.command = "ADD",
                                          .container_id = "p",
                                          .ifname = "eth0",
                                          .netns = "/n",
                                          .args = "",
                                          .path = ""};
            struct cni_conf conf;
            struct error err;

            json_object_set(plugin, "cniVersion", json_object_get(list, "cniVersion"));
            json_object_set(plugin, "name", json_object_get(list, "name"));
            text = json_dumps(plugin, 0);
            request.input = text;
            request.input_len = strlen(text);
            if (cni_conf_parse(&request, &conf, &err) < 0) {
                fail_msg("%s", err.text);
            }
            assert_string_equal(conf.instance, "/run/i");
            assert_string_equal(conf.attachment.conf.socket_file, "/s");
            assert_true(conf.attachment.conf.vlan > 0);
            cni_conf_clear(&conf);
        }
    }
}

static void test_tenants_differ_in_name_and_vlan(void **state)
{
    struct bench_options options = {.bridge = "br0", .instance = "/run/i"};
    autojson json_t *one = bench_conf_for_kind(&options, "ovs", 0);
    autojson json_t *two = bench_conf_for_kind(&options, "ovs", 1);
    json_t *first = json_array_get(json_object_get(one, "plugins"), 0);
    json_t *second = json_array_get(json_object_get(two, "plugins"), 0);

    (void)state;
    assert_false(json_equal(json_object_get(one, "name"), json_object_get(two, "name")));
    assert_false(json_equal(json_object_get(first, "vlan"), json_object_get(second, "vlan")));
    assert_false(json_equal(json_object_get(first, "ipam"), json_object_get(second, "ipam")));
    assert_null(json_object_get(first, "socket_file"));
}

static int read_conf(const char *text, json_t **ret, struct error *err)
{
    char path[] = "/tmp/sluice-bench-XXXXXX";
    autoclose int fd = mkstemp(path);
    int rc = fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));

    if (rc == 0) {
        rc = bench_conf_from_file(path, ret, err);
    }
    unlink(path);
    return rc;
}

static void test_files_of_one_plugin_become_lists(void **state)
{
    autojson json_t *list = NULL, *same = NULL;
    json_t *plugins;

    (void)state;
    assert_int_equal(
        read_conf("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"bridge\"}", &list, NULL), 0);
    plugins = json_object_get(list, "plugins");
    assert_int_equal(json_array_size(plugins), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(plugins, 0), "type")),
                        "bridge");
    assert_string_equal(json_string_value(json_object_get(list, "cniVersion")), "1.0.0");
    assert_int_equal(
        read_conf("{\"name\":\"n\",\"plugins\":[{\"type\":\"a\"},{\"type\":\"b\"}]}", &same, NULL),
        0);
    assert_int_equal(json_array_size(json_object_get(same, "plugins")), 2);
}

static void test_bad_files_are_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{", "invalid JSON"},
        {"[]", "not a JSON object"},
        {"{\"type\":\"a\"}", "name: missing"},
        {"{\"name\":\"n\"}", "plugins[0].type: missing"},
        {"{\"name\":\"n\",\"plugins\":7}", "plugins: 7 is not allowed"},
        {"{\"name\":\"n\",\"plugins\":[7]}", "plugins[0].type: missing"},
        {"{\"name\":\"n\",\"plugins\":[{\"type\":\"../a\"}]}", "holds a '/'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        json_t *json = NULL;

        assert_true(read_conf(cases[i].text, &json, &err) < 0);
        assert_null(json);
        if (!strstr(err.text, cases[i].says)) {
            fail_msg("%s", err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrivals),
        cmocka_unit_test(test_made_configurations_are_good_ones),
        cmocka_unit_test(test_tenants_differ_in_name_and_vlan),
        cmocka_unit_test(test_files_of_one_plugin_become_lists),
        cmocka_unit_test(test_bad_files_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
