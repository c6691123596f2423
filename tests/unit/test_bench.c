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

/* Of as many tenants as there may be, no two have an address in common. */
static void test_tenants_have_addresses_of_their_own(void **state)
{
    const int counts[] = {1, 2, 256, 257, BENCH_TENANTS_MAX};

    (void)state;
    for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
        struct bench_options options = {
            .bridge = "br0", .instance = "/run/i", .tenants = counts[c]};
        struct ip_addr before = {0};

        for (int t = 0; t < counts[c]; t++) {
            autojson json_t *list = bench_conf_for_kind(&options, "ovs", t);
            json_t *plugin = json_array_get(json_object_get(list, "plugins"), 0);
            json_t *ranges = json_object_get(json_object_get(plugin, "ipam"), "ranges");
            json_t *range = json_array_get(json_array_get(ranges, 0), 0);
            struct ip_addr subnet, gateway, last;

            assert_int_equal(ip_parse(json_string_value(json_object_get(range, "subnet")), &subnet),
                             0);
            assert_int_equal(
                ip_parse(json_string_value(json_object_get(range, "gateway")), &gateway), 0);
            assert_int_equal(subnet.bytes[0], 10);
            assert_true(subnet.prefix <= 18 && ip_in_subnet(&gateway, &subnet));
            if (t) {
                last = ip_last(&before);
                assert_true(ip_compare(&last, &subnet) < 0);
            }
            before = subnet;
        }
    }
}

static void test_rules_and_qos_are_put_into_the_configuration(void **state)
{
    struct bench_options options = {.bridge = "br0", .instance = "/run/i"};
    autojson json_t *without = bench_conf_for_kind(&options, "ovs", 0), *with = NULL;
    json_t *plugin = json_array_get(json_object_get(without, "plugins"), 0), *rates;

    (void)state;
    assert_null(json_object_get(plugin, "acl"));
    assert_null(json_object_get(plugin, "bandwidth"));
    options.rules = 100;
    options.qos_mbps = 368;
    with = bench_conf_for_kind(&options, "ovs", 0);
    plugin = json_array_get(json_object_get(with, "plugins"), 0);
    rates = json_object_get(plugin, "bandwidth");
    assert_int_equal(json_integer_value(json_object_get(plugin, "acl")), 100);
    assert_int_equal(json_integer_value(json_object_get(rates, "ingressRate")), 368000000);
    assert_int_equal(json_integer_value(json_object_get(rates, "egressRate")), 368000000);
    assert_int_equal(json_object_size(rates), 2);
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

/* ---- the summary ---- */

#define SPAN(pod, stage, t0, t1, wait, ok)                                                         \
    "{\"v\":1,\"pod\":\"" pod "\",\"stage\":\"" stage "\",\"t0_ns\":" t0 "000000000,\"t1_ns\":" t1 \
    "000000000,\"wait_ns\":" wait ",\"ok\":" ok "}\n"

/* Summarises a run of such spans: the table goes to *ret_table, summary.json is returned. */
static json_t *summarise(const char *spans, char **ret_table)
{
    struct bench_options options = {.arrival = {.text = "burst"}};
    struct bench_variant variant = {.name = "v", .driver = &bench_driver_cni, .what = "ovs"};
    struct bench_run run = {.options = &options, .variant = &variant, .n_pods = 2};
    autofree char *path = NULL, *text = NULL, *table = NULL;
    autojson json_t *problems = json_array();
    struct error err = {0};
    json_t *json = NULL;
    size_t len;
    int out = dup(STDOUT_FILENO);

    strcpy(run.dir, "/tmp/test-bench-XXXXXX");
    assert_non_null(mkdtemp(run.dir));
    snprintf(run.spans_path, sizeof(run.spans_path), "%s/spans.jsonl", run.dir);
    assert_int_equal(file_write_atomic(run.spans_path, spans, strlen(spans), 0644), 0);
    run.problems = problems;
    run.start.t0_ns = run.teardown.t0_ns = NSEC_PER_SEC;
    table = str_printf("%s/table", run.dir);
    fflush(stdout);
    assert_non_null(freopen(table, "w", stdout));
    if (bench_summarise(&run, &err) < 0) {
        fail_msg("%s", err.text);
    }
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    assert_int_equal(file_read(table, 65536, ret_table, &len), 0);
    path = str_printf("%s/summary.json", run.dir);
    assert_int_equal(file_read(path, 65536, &text, &len), 0);
    assert_int_equal(json_parse(text, len, &json, &err), 0);
    dir_remove(run.dir);
    return json;
}

static double number(const json_t *summary, const char *stage, const char *key)
{
    const json_t *stages = json_object_get(json_object_get(summary, "start"), "stages");
    const json_t *value = json_object_get(json_object_get(stages, stage), key);

    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* `cni` has the wait of its gate whether its own span tells it (bench took the gate) or the step
 * `cni.gate` (the agent did). */
static void test_a_stage_tells_what_it_waited(void **state)
{
    autofree char *table = NULL;
    autojson json_t *summary =
        summarise(SPAN("b", "cni.gate", "2", "5", "3000000000", "true") SPAN("a", "cni", "1", "9",
                                                                             "1000000000", "true")
                      SPAN("b", "cni", "1", "7", "0", "true") SPAN("b", "vm", "7", "9", "0", "true")
                          SPAN("c", "cni.gate", "1", "9", "8000000000", "true")
                              SPAN("c", "cni", "1", "9", "0", "false")
                                  SPAN("a", "cni.queue", "2", "4", "2000000000", "true"),
                  &table);

    (void)state;
    assert_true(number(summary, "cni", "n") == 2);
    assert_true(number(summary, "cni", "wait_mean_s") == 2);
    assert_true(number(summary, "cni", "wait_p50_s") == 2);
    assert_true(number(summary, "cni", "wait_p99_s") > 2.9);
    assert_true(number(summary, "cni", "mean_s") == 7);
    assert_true(number(summary, "vm", "wait_mean_s") == 0);
    assert_true(number(summary, "cni.queue", "wait_mean_s") == 2);
    assert_non_null(strstr(table, "max mean wait\n"));
    assert_non_null(strstr(table, " 8000.00   2000.00\n"));
}

static void test_the_table_has_no_waits_when_nobody_waited_at_a_gate(void **state)
{
    autofree char *table = NULL;
    autojson json_t *summary = summarise(SPAN("a", "cni", "1", "9", "0", "true")
                                             SPAN("a", "cni.queue", "2", "4", "2000000000", "true"),
                                         &table);

    (void)state;
    assert_true(number(summary, "cni", "wait_mean_s") == 0);
    assert_non_null(strstr(table, "      max\n"));
    assert_null(strstr(table, "wait"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrivals),
        cmocka_unit_test(test_made_configurations_are_good_ones),
        cmocka_unit_test(test_tenants_differ_in_name_and_vlan),
        cmocka_unit_test(test_tenants_have_addresses_of_their_own),
        cmocka_unit_test(test_rules_and_qos_are_put_into_the_configuration),
        cmocka_unit_test(test_files_of_one_plugin_become_lists),
        cmocka_unit_test(test_bad_files_are_refused),
        cmocka_unit_test(test_a_stage_tells_what_it_waited),
        cmocka_unit_test(test_the_table_has_no_waits_when_nobody_waited_at_a_gate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
