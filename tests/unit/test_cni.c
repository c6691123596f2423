/* SPDX-License-Identifier: Apache-2.0 */
/* src/cni: what runtimes ask, what configurations say, what is answered in each version. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cni/cni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- requests ---- */

static const struct cni_request good_request = {.command = "ADD",
                                                .container_id = "pod-1",
                                                .netns = "/run/netns/pod-1",
                                                .ifname = "eth0",
                                                .args = "",
                                                .path = "/opt/cni/bin"};

static void test_request_is_read_from_the_environment(void **state)
{
    struct cni_request request;

    (void)state;
    unsetenv("CNI_NETNS");
    setenv("CNI_COMMAND", "DEL", 1);
    setenv("CNI_CONTAINERID", "pod-1", 1);
    cni_request_from_environment((const char *const *)environ, &request);
    assert_string_equal(request.command, "DEL");
    assert_string_equal(request.container_id, "pod-1");
    assert_string_equal(request.netns, "");
    unsetenv("CNI_COMMAND");
    unsetenv("CNI_CONTAINERID");
}

static void test_request_names_the_bad_variable(void **state)
{
    static const struct {
        const char *command, *container_id, *ifname, *netns, *says; /* says NULL: is fine */
    } cases[] = {
        {"ADD", "pod-1", "eth0", "/n", NULL},
        {"DEL", "pod-1", "eth0", "", NULL},
        {"CHECK", "pod-1", "eth0", "/n", NULL},
        {"GC", "", "", "", NULL},
        {"STATUS", "", "", "", NULL},
        {"VERSION", "", "", "", NULL},
        {"", "pod-1", "eth0", "/n",
         "CNI_COMMAND: not set; must be one of ADD, DEL, CHECK, GC, STATUS, VERSION"},
        {"add", "pod-1", "eth0", "/n", "CNI_COMMAND: \"add\" is not allowed; must be one of"},
        {"ADD", "", "eth0", "/n", "CNI_CONTAINERID: not set; must be at most 100 letters"},
        {"DEL", "../x", "eth0", "", "CNI_CONTAINERID: \"../x\" is not allowed; must be"},
        {"DEL", ".x", "eth0", "", "CNI_CONTAINERID: \".x\" is not allowed"},
        {"DEL", "-x", "eth0", "", "CNI_CONTAINERID: \"-x\" is not allowed"},
        {"ADD", "pod-1", "", "/n", "CNI_IFNAME: not set; must be an interface name"},
        {"ADD", "pod-1", "..", "/n", "CNI_IFNAME: \"..\" is not allowed"},
        {"ADD", "pod-1", "a/b", "/n", "CNI_IFNAME: \"a/b\" is not allowed"},
        {"ADD", "pod-1", "a b", "/n", "CNI_IFNAME: \"a b\" is not allowed"},
        {"ADD", "pod-1", "eth0:1", "/n", "CNI_IFNAME: \"eth0:1\" is not allowed"},
        {"ADD", "pod-1", "sixteen-letters-", "/n", "CNI_IFNAME: \"sixteen-letters-\" is not"},
        {"ADD", "pod-1", "eth0", "", "CNI_NETNS: not set; must be the path"},
        {"CHECK", "pod-1", "eth0", "", "CNI_NETNS: not set; must be the path"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cni_request request = good_request;
        struct error err = {0};

        request.command = cases[i].command;
        request.container_id = cases[i].container_id;
        request.ifname = cases[i].ifname;
        request.netns = cases[i].netns;
        if (!cases[i].says) {
            assert_int_equal(cni_request_check(&request, &err), 0);
            continue;
        }
        assert_int_equal(cni_request_check(&request, &err), -EINVAL);
        assert_int_equal(err.code, CNI_INVALID_ENVIRONMENT);
        if (!str_has_prefix(err.text, cases[i].says)) {
            fail_msg("%s", err.text);
        }
    }
}

static void test_container_id_has_at_most_100_letters(void **state)
{
    struct cni_request request = good_request;
    char id[102];
    struct error err;

    (void)state;
    memset(id, 'a', sizeof(id));
    id[100] = '\0';
    request.container_id = id;
    assert_int_equal(cni_request_check(&request, &err), 0);
    id[100] = 'a';
    id[101] = '\0';
    assert_int_equal(cni_request_check(&request, &err), -EINVAL);
}

static void test_args_are_read_by_whole_keys(void **state)
{
    static const struct {
        const char *args, *key;
        int rc;
        const char *value;
    } cases[] = {
        {"MAC=x", "MAC", 0, "x"},
        {"A=1;MAC=x;B=2", "MAC", 0, "x"},
        {"A=1;;MAC=x;", "MAC", 0, "x"},
        {"MAC=x;MAC=y", "MAC", 0, "x"},
        {"MAC=", "MAC", 0, ""},
        {"MAC=a=b", "MAC", 0, "a=b"},
        {"MAC=1234567", "MAC", 0, "1234567"},
        {"MAC=12345678", "MAC", -ENAMETOOLONG, ""},
        {"", "MAC", -ENOENT, ""},
        {"MAC", "MAC", -ENOENT, ""},
        {"MACS=x;SMAC=x;mac=x", "MAC", -ENOENT, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char value[8] = "";

        assert_int_equal(cni_args_get(cases[i].args, cases[i].key, value, sizeof(value)),
                         cases[i].rc);
        assert_string_equal(value, cases[i].value);
    }
}

/* ---- versions and codes ---- */

static void test_version_names_are_read(void **state)
{
    enum cni_version version;
    struct error err;

    (void)state;
    for (int i = 0; i < CNI_N_VERSIONS; i++) {
        assert_int_equal(cni_version_parse(cni_version_names[i], &version, &err), 0);
        assert_int_equal(version, i);
    }
    assert_int_equal(cni_version_parse("", &version, &err), 0);
    assert_int_equal(version, CNI_0_1_0);
    assert_int_equal(cni_version_parse("1.2.0", &version, &err), -EPROTONOSUPPORT);
    assert_int_equal(err.code, CNI_INCOMPATIBLE_VERSION);
    assert_string_equal(err.text, "cniVersion: \"1.2.0\" is not allowed; must be one of 0.1.0, "
                                  "0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    assert_int_equal(cni_version_parse("1.0", &version, NULL), -EPROTONOSUPPORT);
}

static void test_error_codes_follow_errno_unless_chosen(void **state)
{
    static const struct {
        struct error err;
        unsigned code;
    } cases[] = {
        {{.errnum = -EINVAL}, CNI_INVALID_CONFIGURATION},
        {{.errnum = -EBADMSG}, CNI_DECODING_FAILURE},
        {{.errnum = -EEXIST}, CNI_EXISTS},
        {{.errnum = -ENOSPC}, CNI_NO_ADDRESS},
        {{.errnum = -EADDRINUSE}, CNI_NO_ADDRESS},
        {{.errnum = -EPERM}, CNI_NOT_PERMITTED},
        {{.errnum = -ENODEV}, CNI_NOT_FOUND},
        {{.errnum = -ENOENT}, CNI_NOT_FOUND},
        {{.errnum = -ESTALE}, CNI_CHANGED},
        {{.errnum = -ETIMEDOUT}, CNI_TRY_AGAIN_LATER},
        {{.errnum = -EREMOTEIO}, CNI_FAILED},
        {{.errnum = -EINVAL, .code = CNI_INVALID_ENVIRONMENT}, CNI_INVALID_ENVIRONMENT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(cni_error_code(&cases[i].err), cases[i].code);
    }
}

static void test_error_is_json_whatever_its_text(void **state)
{
    struct error err;
    json_t *json;

    (void)state;
    error_code(&err, CNI_INVALID_ENVIRONMENT, -EINVAL, "CNI_IFNAME: \"%s\" is bad", "e\xff\"");
    json = cni_error_json(CNI_0_4_0, &err);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "cniVersion")), "0.4.0");
    assert_int_equal(json_integer_value(json_object_get(json, "code")), 4);
    assert_string_equal(json_string_value(json_object_get(json, "msg")),
                        "CNI_IFNAME: \"e?\"\" is bad");
    json_decref(json);
}

/* ---- configurations ---- */

static int conf_of(const char *text, const char *args, struct cni_conf *ret, struct error *err)
{
    struct cni_request request = good_request;

    request.input = text;
    request.input_len = strlen(text);
    request.args = args;
    return cni_conf_parse(&request, ret, err);
}

/* A good configuration of a kind with more keys at its end. */
static int conf_with(const char *type, const char *more, const char *args, struct cni_conf *ret,
                     struct error *err)
{
    autofree char *text = str_printf("{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"type\":\"%s\","
                                     "\"bridge\":\"br0\"%s%s}",
                                     type, *more ? "," : "", more);

    return conf_of(text, args, ret, err);
}

static void test_conf_names_the_bad_key_its_value_and_what_is_allowed(void **state)
{
    static const struct {
        const char *more, *says;
    } cases[] = {
        {"\"vlan\":4095", "vlan: 4095 is not allowed; must be a whole number from 0 to 4094"},
        {"\"vlan\":\"7\"", "vlan: \"7\" is not allowed; must be a whole number"},
        {"\"mtu\":67", "mtu: 67 is not allowed; must be 0 or a whole number from 68 to 65535"},
        {"\"mtu\":65536", "mtu: 65536 is not allowed"},
        {"\"mode\":\"odd\"", "mode: \"odd\" is not allowed; must be one of \"bridge\", "},
        {"\"datapath\":\"dpdk\"", "datapath: \"dpdk\" is not allowed; must be one of \"netdev\""},
        {"\"port\":\"a/b\"", "port: \"a/b\" is not allowed; must be a device name: 1 to 15"},
        {"\"port\":\"\"", "port: \"\" is not allowed"},
        {"\"port\":\"..\"", "port: \"..\" is not allowed"},
        {"\"port\":\"a\\u000bb\"", "port: \"a\\u000Bb\" is not allowed"},
        {"\"port\":\"sixteen-letters-\"", "port: \"sixteen-letters-\" is not allowed"},
        {"\"tenant\":1", "tenant: 1 is not allowed; must be a string"},
        {"\"socket_file\":1", "socket_file: 1 is not allowed; must be a string"},
        {"\"sluiceDir\":\"run\"", "sluiceDir: \"run\" is not allowed; must be an absolute path"},
        {"\"trunk\":{}", "trunk: {} is not allowed; must be a list"},
        {"\"trunk\":[7]", "trunk[0]: 7 is not allowed; must be {\"id\": VLAN} or"},
        {"\"trunk\":[{}]", "trunk[0]: {} is not allowed; must be {\"id\": VLAN} or"},
        {"\"trunk\":[{\"id\":1},{\"id\":4095}]", "trunk[1].id: 4095 is not allowed"},
        {"\"trunk\":[{\"minID\":5}]", "trunk[0]: {\"minID\":5} is not allowed"},
        {"\"trunk\":[{\"minID\":5,\"maxID\":4}]",
         "trunk[0].maxID: 4 is not allowed; must be a whole number from 5 to 4094"},
        {"\"mac\":\"01:00:00:00:00:01\"",
         "mac: \"01:00:00:00:00:01\" is not allowed; must be a unicast MAC address"},
        {"\"mac\":7", "mac: 7 is not allowed; must be a string"},
        {"\"runtimeConfig\":[]", "runtimeConfig: [] is not allowed; must be an object"},
        {"\"runtimeConfig\":{\"mac\":\"x\"}", "runtimeConfig.mac: \"x\" is not allowed"},
        {"\"runtimeConfig\":{\"mac\":7}", "runtimeConfig.mac: 7 is not allowed; must be a string"},
        {"\"runtimeConfig\":{\"ips\":7}", "runtimeConfig.ips: 7 is not allowed; must be a list"},
        {"\"runtimeConfig\":{\"ips\":[7]}", "runtimeConfig.ips: must be a list of strings"},
        {"\"runtimeConfig\":{\"ips\":[\"x\"]}",
         "runtimeConfig.ips: \"x\" is not allowed; must be an IP address"},
        {"\"args\":7", "args: 7 is not allowed; must be an object"},
        {"\"args\":{\"cni\":7}", "args.cni: 7 is not allowed; must be an object"},
        {"\"args\":{\"cni\":{\"mac\":\"x\"}}", "args.cni.mac: \"x\" is not allowed"},
        {"\"args\":{\"cni\":{\"mac\":7}}", "args.cni.mac: 7 is not allowed"},
        {"\"args\":{\"cni\":{\"ips\":[\"x\"]}}", "args.cni.ips: \"x\" is not allowed"},
        {"\"prevResult\":7", "prevResult: 7 is not allowed; must be an object"},
        {"\"dns\":7", "dns: 7 is not allowed; must be an object"},
        {"\"cni.dev/valid-attachments\":7", "cni.dev/valid-attachments: 7 is not allowed"},
        {"\"ipam\":7", "ipam: 7 is not allowed; must be an object"},
        {"\"ipam\":{\"type\":7}", "ipam.type: 7 is not allowed; must be a string"},
        {"\"ipam\":{\"type\":\"host-local\"}", "network net: ipam.ranges: missing"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cni_conf conf;
        struct error err = {0};

        assert_int_equal(conf_with("ovs-macvlan", cases[i].more, "", &conf, &err), -EINVAL);
        assert_int_equal(cni_error_code(&err), CNI_INVALID_CONFIGURATION);
        if (!str_has_prefix(err.text, cases[i].says)) {
            fail_msg("%s: %s", cases[i].more, err.text);
        }
        cni_conf_clear(&conf);
    }
}

static void test_conf_as_a_whole_is_refused(void **state)
{
    static const struct {
        const char *text;
        unsigned code;
        const char *says;
    } cases[] = {
        {"", CNI_DECODING_FAILURE, "network configuration: invalid JSON at line 1"},
        {"[]", CNI_DECODING_FAILURE, "the network configuration is not a JSON object"},
        {"{\"cniVersion\":7}", CNI_INVALID_CONFIGURATION, "cniVersion: 7 is not allowed"},
        {"{\"cniVersion\":\"9.9.9\"}", CNI_INCOMPATIBLE_VERSION, "cniVersion: \"9.9.9\""},
        {"{}", CNI_INVALID_CONFIGURATION, "name: missing; must be a string that is not empty"},
        {"{\"name\":\"../x\",\"type\":\"ovs\"}", CNI_INVALID_CONFIGURATION,
         "name: \"../x\" is not allowed; must be at most 100 letters"},
        {"{\"name\":\"-x\",\"type\":\"ovs\"}", CNI_INVALID_CONFIGURATION, "name: \"-x\" is not"},
        {"{\"name\":\"net\"}", CNI_INVALID_CONFIGURATION, "type: missing"},
        {"{\"name\":\"net\",\"type\":\"bridge\"}", CNI_INVALID_CONFIGURATION,
         "type: \"bridge\" is not allowed; must be one of ovs, ovs-macvlan, "},
        {"{\"name\":\"net\",\"type\":\"ovs\"}", CNI_INVALID_CONFIGURATION,
         "bridge: missing; must be the name of an OVS bridge"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cni_conf conf;
        struct error err = {0};

        assert_true(conf_of(cases[i].text, "", &conf, &err) < 0);
        assert_int_equal(cni_error_code(&err), cases[i].code);
        if (!str_has_prefix(err.text, cases[i].says)) {
            fail_msg("%s: %s", cases[i].text, err.text);
        }
        cni_conf_clear(&conf);
    }
}

static void test_conf_good_keys_are_read(void **state)
{
    struct cni_conf conf;
    struct kind_conf *kind = &conf.attachment.conf;
    struct error err;

    (void)state;
    assert_int_equal(
        conf_with("ovs-macvlan",
                  "\"vlan\":4094,\"mtu\":68,\"mode\":\"vepa\",\"datapath\":\"system\","
                  "\"port\":\"p0\",\"tenant\":\"blue\",\"socket_file\":\"/s\",\"sluiceDir\":\"/i\","
                  "\"mac\":\"02:00:00:00:00:0A\",\"unknown\":[1],\"bandwidth\":{},\"qos\":0,"
                  "\"trunk\":[{\"id\":7},{\"minID\":9,\"maxID\":11}]",
                  "", &conf, &err),
        0);
    assert_string_equal(conf.name, "net");
    assert_string_equal(conf.instance, "/i");
    assert_ptr_equal(conf.attachment.kind, &kind_ovs_macvlan);
    assert_string_equal(kind->bridge, "br0");
    assert_string_equal(kind->port, "p0");
    assert_string_equal(kind->tenant, "blue");
    assert_string_equal(kind->socket_file, "/s");
    assert_string_equal(kind->datapath, "system");
    assert_string_equal(kind_ovs_macvlan.modes[kind->mode], "vepa");
    assert_true(kind->vlan == 4094 && kind->mtu == 68 && kind->has_mac);
    assert_int_equal(kind->mac.bytes[5], 10);
    assert_int_equal(kind->n_trunks, 4);
    assert_true(kind->trunks[0] == 7 && kind->trunks[1] == 9 && kind->trunks[3] == 11);
    assert_string_equal(conf.attachment.key.container_id, "pod-1");
    assert_string_equal(conf.attachment.netns_path, "/run/netns/pod-1");
    cni_conf_clear(&conf);
}

static void test_conf_defaults(void **state)
{
    struct cni_conf conf;
    struct kind_conf *kind = &conf.attachment.conf;
    struct error err;

    (void)state;
    unsetenv("SLUICE_INSTANCE");
    assert_int_equal(conf_of("{\"name\":\"net\",\"type\":\"ovs\",\"bridge\":\"br0\",\"mode\":null}",
                             "", &conf, &err),
                     0);
    assert_int_equal(conf.version, CNI_0_1_0);
    assert_string_equal(conf.instance, INSTANCE_DEFAULT_DIR);
    assert_string_equal(kind->tenant, "");
    assert_true(!kind->datapath && !kind->socket_file && !kind->vlan && !kind->mtu &&
                !kind->has_mac && !kind->n_trunks);
    assert_int_equal(conf.attachment.addresses, ADDRESSES_NONE);
    assert_int_equal(conf.attachment.netns_fd, -1);
    cni_conf_clear(&conf);
}

static void test_conf_kind_without_modes_takes_none(void **state)
{
    struct cni_conf conf;
    struct error err;

    (void)state;
    assert_int_equal(conf_with("ovs", "\"mode\":\"bridge\"", "", &conf, &err), -EINVAL);
    assert_string_equal(err.text,
                        "mode: \"bridge\" is not allowed; must be absent: this type has no modes");
    cni_conf_clear(&conf);
}

static void test_conf_with_more_trunks_than_vlans_is_refused(void **state)
{
    struct cni_conf conf;
    struct error err;

    (void)state;
    assert_int_equal(conf_with("ovs",
                               "\"trunk\":[{\"minID\":0,\"maxID\":4094},{\"id\":1},{\"id\":2}]", "",
                               &conf, &err),
                     -EINVAL);
    assert_true(str_has_prefix(err.text, "trunk[2]: {\"id\":2} is not allowed; must be "));
    cni_conf_clear(&conf);
}

/* What this version cannot give is not passed over in silence. */
static void test_conf_policies_are_for_kinds_on_a_bridge(void **state)
{
    static const char *const policies[] = {
        "\"acl\":1",
        "\"rules\":[{\"direction\":\"egress\",\"action\":\"deny\"}]",
        "\"qos\":1",
        "\"bandwidth\":{\"ingressRate\":1000000}",
        "\"tenantBandwidth\":{\"egressRate\":1000000}",
        "\"runtimeConfig\":{\"bandwidth\":{\"ingressRate\":1000000}}",
        "\"args\":{\"cni\":{\"acl\":7}}",
    };
    struct cni_conf conf;
    struct error err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        if (conf_with("loopback", policies[i], "", &conf, &err) != -EINVAL) {
            fail_msg("%s is taken", policies[i]);
        }
        assert_int_equal(err.code, CNI_UNSUPPORTED_FIELD);
        cni_conf_clear(&conf);
        if (conf_with("ovs", policies[i], "", &conf, &err) < 0) {
            fail_msg("%s: %s", policies[i], err.text);
        }
        assert_true(conf.attachment.cookie != 0);
        cni_conf_clear(&conf);
    }
}

static void test_conf_mac_comes_from_the_strongest_place(void **state)
{
    static const struct {
        const char *more, *args;
        uint8_t last;
    } cases[] = {
        {"\"mac\":\"02:00:00:00:00:01\"", "", 1},
        {"\"mac\":\"02:00:00:00:00:01\"", "MAC=02:00:00:00:00:02", 2},
        {"\"args\":{\"cni\":{\"mac\":\"02:00:00:00:00:03\"}}", "MAC=02:00:00:00:00:02", 3},
        {"\"args\":{\"cni\":{\"mac\":\"02:00:00:00:00:03\"}},"
         "\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:04\"}",
         "MAC=02:00:00:00:00:02", 4},
        {"\"runtimeConfig\":{\"mac\":\"\"}", "A=b;MAC=02:00:00:00:00:02", 2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cni_conf conf;
        struct error err;

        assert_int_equal(conf_with("ovs", cases[i].more, cases[i].args, &conf, &err), 0);
        assert_true(conf.attachment.conf.has_mac);
        assert_int_equal(conf.attachment.conf.mac.bytes[5], cases[i].last);
        cni_conf_clear(&conf);
    }
}

static void test_conf_requested_addresses_are_gathered_once_each(void **state)
{
    struct cni_conf conf;
    struct error err;
    char text[IP_TEXT_MAX];

    (void)state;
    assert_int_equal(conf_with("ovs",
                               "\"runtimeConfig\":{\"ips\":[\"10.1.0.5/16\"]},"
                               "\"args\":{\"cni\":{\"ips\":[\"10.1.0.5\",\"fd00::5\"]}}",
                               "IP=10.1.0.5,10.1.0.6", &conf, &err),
                     0);
    assert_int_equal(conf.attachment.n_requested, 3);
    assert_string_equal(ip_format(&conf.attachment.requested[0], true, text), "10.1.0.5/16");
    assert_string_equal(ip_format(&conf.attachment.requested[2], true, text), "10.1.0.6/32");
    cni_conf_clear(&conf);
}

static void test_conf_args_that_are_bad_or_too_long_are_refused(void **state)
{
    char mac[200] = "MAC=", ip[1000] = "IP=";
    const struct {
        const char *args, *says;
    } cases[] = {
        {"MAC=x", "CNI_ARGS MAC: \"x\" is not allowed; must be a unicast MAC"},
        {"IP=x", "CNI_ARGS IP: \"x\" is not allowed; must be an IP address"},
        {"IP=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9",
         "CNI_ARGS IP: more than 8 addresses"},
        {mac, "CNI_ARGS MAC: too long"},
        {ip, "CNI_ARGS IP: too long"},
    };

    (void)state;
    memset(mac + 4, 'a', sizeof(mac) - 5);
    memset(ip + 3, '1', sizeof(ip) - 4);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cni_conf conf;
        struct error err = {0};

        assert_int_equal(conf_with("ovs", "", cases[i].args, &conf, &err), -EINVAL);
        if (!str_has_prefix(err.text, cases[i].says)) {
            fail_msg("%s", err.text);
        }
        cni_conf_clear(&conf);
    }
}

static void test_conf_addresses_are_ours_delegated_or_none(void **state)
{
    static const struct {
        const char *type, *more;
        enum attachment_addresses addresses;
    } cases[] = {
        {"ovs", "", ADDRESSES_NONE},
        {"ovs", "\"ipam\":{}", ADDRESSES_NONE},
        {"ovs", "\"ipam\":{\"type\":\"host-local\",\"subnet\":\"10.1.0.0/16\"}",
         ADDRESSES_HOST_LOCAL},
        {"ovs", "\"ipam\":{\"type\":\"dhcp\"}", ADDRESSES_DELEGATED},
        {"loopback", "\"ipam\":{\"type\":\"dhcp\"}", ADDRESSES_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cni_conf conf;
        struct error err;

        assert_int_equal(conf_with(cases[i].type, cases[i].more, "", &conf, &err), 0);
        assert_int_equal(conf.attachment.addresses, cases[i].addresses);
        if (conf.attachment.addresses == ADDRESSES_DELEGATED) {
            assert_string_equal(conf.attachment.delegate.type, "dhcp");
            assert_string_equal(conf.attachment.delegate.cni_path, "/opt/cni/bin");
            assert_string_equal(conf.attachment.delegate.cni_version, "1.1.0");
        }
        cni_conf_clear(&conf);
    }
}

/* ---- results ---- */

static json_t *json_of(const char *text)
{
    json_t *json = NULL;
    struct error err;

    if (json_parse(text, strlen(text), &json, &err) < 0) {
        fail_msg("%s: %s", err.text, text);
    }
    return json;
}

static void add_ip(struct ipam_result *result, const char *address, const char *gateway)
{
    struct ipam_ip *ip = &result->ips[result->n_ips++];

    assert_int_equal(ip_parse(address, &ip->address), 0);
    if (gateway) {
        assert_int_equal(ip_parse(gateway, &ip->gateway), 0);
    }
}

/* An attachment as ADD leaves it: a veth, two addresses, a route with metrics. */
static struct cni_conf made_conf(enum cni_version version)
{
    struct cni_conf conf = {.version = version,
                            .attachment = {.key = {"net", "pod-1", "eth0"},
                                           .netns_path = "/run/netns/pod-1",
                                           .host_name = "slhost",
                                           .has_host_end = true,
                                           .mac = {{2, 0, 0, 0, 0, 1}},
                                           .host_mac = {{2, 0, 0, 0, 0, 2}},
                                           .mtu = 1400}};
    struct ipam_result *result = &conf.attachment.result;

    add_ip(result, "10.1.0.5/16", "10.1.0.1");
    add_ip(result, "fd00::5/64", NULL);
    result->routes[0] =
        (struct ipam_route){.mtu = 1300, .advmss = -1, .priority = 5, .table = -1, .scope = -1};
    assert_int_equal(ip_parse("0.0.0.0/0", &result->routes[0].dst), 0);
    assert_int_equal(ip_parse("10.1.0.1", &result->routes[0].gw), 0);
    result->n_routes = 1;
    return conf;
}

static void assert_result(const struct cni_conf *conf, const char *expected)
{
    autojson json_t *want = json_of(expected), *got = cni_result(conf);

    if (!json_equal(want, got)) {
        autofree char *text = json_dumps(got, JSON_SORT_KEYS);

        fail_msg("%s", text);
    }
}

#define OLD_RESULT                                                                                 \
    "\"ip4\":{\"ip\":\"10.1.0.5/16\",\"gateway\":\"10.1.0.1\",\"routes\":[{\"dst\":\"0.0.0.0/0\"," \
    "\"gw\":\"10.1.0.1\"}]},\"ip6\":{\"ip\":\"fd00::5/64\"},\"dns\":{}}"
#define INTERFACES                                                                                 \
    "\"interfaces\":[{\"name\":\"slhost\",\"mac\":\"02:00:00:00:00:02\"},{\"name\":\"eth0\","      \
    "\"mac\":\"02:00:00:00:00:01\",\"sandbox\":\"/run/netns/pod-1\"}],"
#define ROUTES "\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.1.0.1\"}],\"dns\":{}}"
#define LIST_RESULT_0                                                                              \
    INTERFACES "\"ips\":[{\"version\":\"4\",\"interface\":1,\"address\":\"10.1.0.5/16\","          \
               "\"gateway\":\"10.1.0.1\"},{\"version\":\"6\",\"interface\":1,"                     \
               "\"address\":\"fd00::5/64\"}]," ROUTES
#define LIST_RESULT_1                                                                              \
    INTERFACES "\"ips\":[{\"interface\":1,\"address\":\"10.1.0.5/16\",\"gateway\":\"10.1.0.1\"},"  \
               "{\"interface\":1,\"address\":\"fd00::5/64\"}]," ROUTES

static void test_result_in_every_version(void **state)
{
    static const char *const expected[CNI_N_VERSIONS] = {
        "{\"cniVersion\":\"0.1.0\"," OLD_RESULT,
        "{\"cniVersion\":\"0.2.0\"," OLD_RESULT,
        "{\"cniVersion\":\"0.3.0\"," LIST_RESULT_0,
        "{\"cniVersion\":\"0.3.1\"," LIST_RESULT_0,
        "{\"cniVersion\":\"0.4.0\"," LIST_RESULT_0,
        "{\"cniVersion\":\"1.0.0\"," LIST_RESULT_1,
        "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"slhost\","
        "\"mac\":\"02:00:00:00:00:02\",\"mtu\":1400},{\"name\":\"eth0\","
        "\"mac\":\"02:00:00:00:00:01\",\"mtu\":1400,\"sandbox\":\"/run/netns/pod-1\"}],"
        "\"ips\":[{\"interface\":1,\"address\":\"10.1.0.5/16\",\"gateway\":\"10.1.0.1\"},"
        "{\"interface\":1,\"address\":\"fd00::5/64\"}],"
        "\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.1.0.1\",\"mtu\":1300,\"priority\":5}],"
        "\"dns\":{}}",
    };

    (void)state;
    for (int i = 0; i < CNI_N_VERSIONS; i++) {
        struct cni_conf conf = made_conf((enum cni_version)i);

        assert_result(&conf, expected[i]);
    }
}

static void test_result_comes_after_that_of_the_plugin_before(void **state)
{
    static const char before[] =
        "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"net1\",\"sandbox\":\"/n\"}],"
        "\"ips\":[{\"interface\":0,\"address\":\"10.9.0.9/24\"}],"
        "\"routes\":[{\"dst\":\"10.9.0.0/16\"}],\"dns\":{\"domain\":\"before\"}}";
    autojson json_t *prev = json_of(before), *unchanged = json_of(before);
    struct cni_conf conf = made_conf(CNI_1_0_0);

    (void)state;
    conf.prev_result = prev;
    conf.attachment.has_host_end = false;
    conf.attachment.result.n_ips = 1;
    assert_result(&conf, "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"net1\","
                         "\"sandbox\":\"/n\"},{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\","
                         "\"sandbox\":\"/run/netns/pod-1\"}],"
                         "\"ips\":[{\"interface\":0,\"address\":\"10.9.0.9/24\"},"
                         "{\"interface\":1,\"address\":\"10.1.0.5/16\",\"gateway\":\"10.1.0.1\"}],"
                         "\"routes\":[{\"dst\":\"10.9.0.0/16\"},{\"dst\":\"0.0.0.0/0\","
                         "\"gw\":\"10.1.0.1\"}],\"dns\":{\"domain\":\"before\"}}");
    assert_true(json_equal(prev, unchanged));
}

static void test_result_takes_dns_of_addresses_then_configuration_then_before(void **state)
{
    autojson json_t *prev = json_of("{\"dns\":{\"domain\":\"before\"}}");
    autojson json_t *own = json_of("{\"domain\":\"conf\"}"),
                    *ipam = json_of("{\"domain\":\"ipam\"}");
    json_t *const from[] = {ipam, own, json_object_get(prev, "dns")};
    struct cni_conf conf = made_conf(CNI_1_0_0);

    (void)state;
    conf.prev_result = prev;
    conf.dns = own;
    conf.attachment.result.dns = ipam;
    for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
        autojson json_t *result = cni_result(&conf);

        assert_true(json_equal(json_object_get(result, "dns"), from[i]));
        *(i ? &conf.dns : &conf.attachment.result.dns) = NULL;
    }
}

/* ---- CHECK's prevResult ---- */

static int expected_of(const char *prev_result, struct attachment_expected *ret, struct error *err)
{
    autojson json_t *prev = prev_result ? json_of(prev_result) : NULL;
    struct cni_conf conf = {.version = CNI_1_0_0, .attachment = {.key = {"net", "p", "eth0"}}};

    conf.prev_result = prev;
    return cni_expected(&conf, ret, err);
}

static void test_expected_takes_our_interface_and_its_addresses(void **state)
{
    struct attachment_expected expected;
    struct error err;
    char text[IP_TEXT_MAX];

    (void)state;
    assert_int_equal(
        expected_of("{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\"},"
                    "{\"name\":\"net1\",\"sandbox\":\"/n\"},{\"name\":\"eth0\","
                    "\"mac\":\"02:00:00:00:00:01\",\"sandbox\":\"/n\"}],"
                    "\"ips\":[{\"interface\":0,\"address\":\"10.0.0.1/24\"},"
                    "{\"interface\":2,\"address\":\"10.0.0.2/24\"},{\"address\":\"10.0.0.3/24\"},"
                    "{\"interface\":1,\"address\":\"10.0.0.4/24\"}],"
                    "\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}",
                    &expected, &err),
        0);
    assert_true(expected.has_mac);
    assert_int_equal(expected.mac.bytes[5], 1);
    assert_int_equal(expected.result.n_ips, 2);
    assert_string_equal(ip_format(&expected.result.ips[0].address, true, text), "10.0.0.2/24");
    assert_string_equal(ip_format(&expected.result.ips[1].address, true, text), "10.0.0.3/24");
    assert_int_equal(expected.result.n_routes, 1);
    ipam_result_clear(&expected.result);
}

static void test_expected_refuses_a_prev_result_that_is_not_adds(void **state)
{
    static const struct {
        const char *prev, *says;
    } cases[] = {
        {NULL, "prevResult: missing; must be what ADD answered"},
        {"{}", "prevResult.interfaces: names no eth0 in the container"},
        {"{\"interfaces\":7}", "prevResult.interfaces: names no eth0"},
        {"{\"interfaces\":[7,{\"name\":7}]}", "prevResult.interfaces: names no eth0"},
        {"{\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"\"}]}", "prevResult.interfaces: names"},
        {"{\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/n\"}],\"ips\":[{\"address\":\"x\"}]}",
         "prevResult: ips[0].address: \"x\" is not allowed"},
        {"{\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/n\"}],\"ips\":7}",
         "prevResult: ips: 7 is not allowed"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct attachment_expected expected;
        struct error err = {0};

        assert_int_equal(expected_of(cases[i].prev, &expected, &err), -EINVAL);
        if (!str_has_prefix(err.text, cases[i].says)) {
            fail_msg("%s", err.text);
        }
    }
}

/* ---- verbs that need neither root nor network ---- */

static json_t *run(const char *command, const char *input, int rc)
{
    struct cni_request request = good_request;
    autofree char *output = NULL;

    request.command = command;
    request.input = input;
    request.input_len = strlen(input);
    assert_int_equal(cni_run(&request, &output), rc);
    return json_of(output);
}

static void test_version_answers_all_versions(void **state)
{
    static const struct {
        const char *input, *version;
    } cases[] = {
        {"{\"cniVersion\":\"0.3.1\"}", "0.3.1"},
        {"{\"cniVersion\":\"9.9.9\"}", "1.1.0"},
        {"", "1.1.0"},
        {"[]", "1.1.0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        autojson json_t *json = run("VERSION", cases[i].input, 0);

        assert_string_equal(json_string_value(json_object_get(json, "cniVersion")),
                            cases[i].version);
        assert_int_equal(json_array_size(json_object_get(json, "supportedVersions")),
                         CNI_N_VERSIONS);
    }
}

static void test_failed_verbs_answer_an_error_object(void **state)
{
#define CONF(version)                                                                              \
    "{\"cniVersion\":\"" version "\",\"name\":\"n\",\"type\":\"ovs\",\"bridge\":\"b\"}"
    static const struct {
        const char *command, *input, *version;
        unsigned code;
    } cases[] = {
        {"\xff", "{}", "1.1.0", CNI_INVALID_ENVIRONMENT},
        {"ADD", "{", "0.1.0", CNI_DECODING_FAILURE},
        {"CHECK", CONF("0.3.1"), "0.3.1", CNI_INCOMPATIBLE_VERSION},
        {"GC", CONF("1.0.0"), "1.0.0", CNI_INCOMPATIBLE_VERSION},
        {"STATUS", CONF("1.0.0"), "1.0.0", CNI_INCOMPATIBLE_VERSION},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        autojson json_t *json = run(cases[i].command, cases[i].input, 1);

        assert_string_equal(json_string_value(json_object_get(json, "cniVersion")),
                            cases[i].version);
        assert_int_equal(json_integer_value(json_object_get(json, "code")), cases[i].code);
        assert_true(json_string_length(json_object_get(json, "msg")) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_is_read_from_the_environment),
        cmocka_unit_test(test_request_names_the_bad_variable),
        cmocka_unit_test(test_container_id_has_at_most_100_letters),
        cmocka_unit_test(test_args_are_read_by_whole_keys),
        cmocka_unit_test(test_version_names_are_read),
        cmocka_unit_test(test_error_codes_follow_errno_unless_chosen),
        cmocka_unit_test(test_error_is_json_whatever_its_text),
        cmocka_unit_test(test_conf_names_the_bad_key_its_value_and_what_is_allowed),
        cmocka_unit_test(test_conf_as_a_whole_is_refused),
        cmocka_unit_test(test_conf_good_keys_are_read),
        cmocka_unit_test(test_conf_defaults),
        cmocka_unit_test(test_conf_kind_without_modes_takes_none),
        cmocka_unit_test(test_conf_with_more_trunks_than_vlans_is_refused),
        cmocka_unit_test(test_conf_policies_are_for_kinds_on_a_bridge),
        cmocka_unit_test(test_conf_mac_comes_from_the_strongest_place),
        cmocka_unit_test(test_conf_requested_addresses_are_gathered_once_each),
        cmocka_unit_test(test_conf_args_that_are_bad_or_too_long_are_refused),
        cmocka_unit_test(test_conf_addresses_are_ours_delegated_or_none),
        cmocka_unit_test(test_result_in_every_version),
        cmocka_unit_test(test_result_comes_after_that_of_the_plugin_before),
        cmocka_unit_test(test_result_takes_dns_of_addresses_then_configuration_then_before),
        cmocka_unit_test(test_expected_takes_our_interface_and_its_addresses),
        cmocka_unit_test(test_expected_refuses_a_prev_result_that_is_not_adds),
        cmocka_unit_test(test_version_answers_all_versions),
        cmocka_unit_test(test_failed_verbs_answer_an_error_object),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
