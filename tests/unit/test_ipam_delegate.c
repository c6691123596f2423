/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of every version, and delegation where real plugins can't be made to show it: plugins
 * that lie, hang or die are shell scripts here. The real ones are in tests/netns/ipam.bats.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int parse(const char *text, struct ipam_result *ret, struct error *err)
{
    autojson json_t *json = NULL;
    autofree char *copy = strdup(text);

    for (char *p = copy; (p = strchr(p, '\''));) {
        *p = '"';
    }
    assert_int_equal(json_parse(copy, strlen(copy), &json, err), 0);
    return ipam_result_parse(json, ret, err);
}

static void new_results(void **state)
{
    struct ipam_result r;
    char text[IP_TEXT_MAX];

    (void)state;
    assert_int_equal(
        parse("{'cniVersion': '1.1.0', 'ips': [{'address': '10.0.0.5/24', 'gateway':"
              "'10.0.0.1', 'interface': 0}, {'version': '6', 'address': 'fd00::5/64'}],"
              "'routes': [{'dst': '0.0.0.0/0'}, {'dst': '10.1.2.3/8', 'gw': '10.0.0.2',"
              "'mtu': 1400, 'advmss': 1360, 'priority': 7, 'table': 100, 'scope': 253}],"
              "'dns': {'nameservers': ['192.0.2.1']}}",
              &r, NULL),
        0);
    assert_int_equal(r.n_ips, 2);
    assert_string_equal(ip_format(&r.ips[0].address, true, text), "10.0.0.5/24");
    assert_string_equal(ip_format(&r.ips[0].gateway, false, text), "10.0.0.1");
    assert_int_equal(r.ips[1].gateway.family, 0);
    assert_int_equal(r.n_routes, 2);
    assert_string_equal(ip_format(&r.routes[1].dst, true, text), "10.0.0.0/8");
    assert_int_equal(r.routes[1].advmss, 1360);
    assert_int_equal(r.routes[1].table, 100);
    assert_int_equal(r.routes[1].scope, 253);
    assert_int_equal(r.routes[0].priority, -1);
    assert_non_null(r.dns);
    ipam_result_clear(&r);
    assert_int_equal(parse("{'ips': [], 'dns': {}}", &r, NULL), 0);
    assert_null(r.dns);
}

static void old_results(void **state)
{
    static const char *const texts[] = {
        "{'cniVersion': '0.2.0', 'ip4': {'ip': '10.0.0.5/24', 'gateway': '10.0.0.1', 'routes':"
        "[{'dst': '0.0.0.0/0', 'gw': '10.0.0.9'}]}, 'ip6': {'ip': 'fd00::5/64'}, 'dns': {}}",
        "{'ip4': {'ip': '10.0.0.5/24', 'routes': [{'dst': '0.0.0.0/0'}]},"
        "'ip6': {'ip': 'fd00::5/64'}}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct ipam_result r;

        assert_int_equal(parse(texts[i], &r, NULL), 0);
        assert_int_equal(r.n_ips, 2);
        assert_int_equal(r.ips[0].address.family, AF_INET);
        assert_int_equal(r.ips[1].address.family, AF_INET6);
        assert_int_equal(r.n_routes, 1);
        ipam_result_clear(&r);
    }
}

static void bad_results(void **state)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"[]", "must be an object"},
        {"{'cniVersion': 'one'}", "cniVersion: \"one\" is not allowed"},
        {"{'ips': [{}]}", "ips[0].address: missing"},
        {"{'ips': ['10.0.0.1/8']}", "ips[0]: \"10.0.0.1/8\" is not allowed; must be an object"},
        {"{'ips': [{'address': '10.0.0.1'}]}", "prefix length"},
        {"{'ips': [{'address': '10.0.0.1/8', 'gateway': 'fd00::1'}]}", "ips[0].gateway"},
        {"{'ips': [1,2,3,4,5,6,7,8,9]}", "ips: 9 are too many; must be 8 at most"},
        {"{'ip4': {'ip': 'fd00::1/64'}}", "ip4.ip: \"fd00::1/64\" is not allowed"},
        {"{'ips': [], 'routes': {}}", "routes: {} is not allowed; must be a list"},
        {"{'ips': [], 'dns': []}", "dns: [] is not allowed"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ipam_result r;
        struct error err = {0};

        assert_int_equal(parse(cases[i].text, &r, &err), -EINVAL);
        if (!strstr(err.text, cases[i].said)) {
            fail_msg("%s: %s", cases[i].text, err.text);
        }
    }
}

static void too_many_routes(void **state)
{
    autojson json_t *result = json_pack("{s:[], s:[]}", "ips", "routes");
    struct ipam_result r;
    struct error err = {0};

    (void)state;
    for (int i = 0; i <= IPAM_ROUTES_MAX; i++) {
        json_array_append_new(json_object_get(result, "routes"),
                              json_pack("{s:s}", "dst", "10.0.0.0/8"));
    }
    assert_int_equal(ipam_result_parse(result, &r, &err), -EINVAL);
    assert_string_equal(err.text, "routes: 65 are too many; must be 64 at most");
}

static void versions(void **state)
{
    (void)state;
    assert_int_equal(ipam_version("1.1.0"), IPAM_VERSION(1, 1, 0));
    assert_true(ipam_version("0.10.0") > ipam_version("0.4.0"));
    assert_int_equal(ipam_version("1.1"), -EINVAL);
    assert_int_equal(ipam_version("1.1.0.0"), -EINVAL);
    assert_int_equal(ipam_version(""), -EINVAL);
    assert_int_equal(ipam_version("1.-1.0"), -EINVAL);
}

/* ---- delegation ---- */

/* A plugin of one's own that says body; the directory is removed by drop_plugin. */
static void make_plugin(const char *body, char dir[64])
{
    autofree char *text = str_printf("#!/bin/sh\n%s\n", body);
    autofree char *path = NULL;

    strcpy(dir, "/tmp/test-ipam-delegate.XXXXXX");
    assert_non_null(mkdtemp(dir));
    path = str_printf("%s/fake", dir);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0755), 0);
}

static int run(const char *body, const char *version, const char *command, struct ipam_result *ret,
               struct error *err)
{
    autojson json_t *conf = json_pack("{s:s, s:s}", "name", "n", "cniVersion", version);
    static const char *const env[] = {"PATH=/usr/bin:/bin", "CNI_COMMAND=wrong",
                                      "CNI_CONTAINERID=abc", NULL};
    char dir[64];
    autofree char *path = NULL;
    struct ipam_delegate to = {.type = "fake",
                               .cni_version = version,
                               .conf = conf,
                               .env = env,
                               .deadline_ns = clock_ns() + NSEC_PER_SEC / 2};
    int rc;

    make_plugin(body, dir);
    path = str_printf("/nowhere::%s", dir);
    to.cni_path = path;
    rc = ipam_delegate(&to, command, ret, err);
    dir_remove(dir);
    return rc;
}

#define VERSIONS                                                                                   \
    "conf=$(cat); if [ $CNI_COMMAND = VERSION ]; then echo "                                       \
    "'{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"9.0.0\"]}'; exit 0; " \
    "fi; case $conf in *0.3.1*) ;; *) echo '{\"code\":1,\"msg\":\"no\"}'; exit 1;; esac; "

static void delegate_keeps_all_of_a_large_environment_under_its_own(void **state)
{
    struct error err = {0};
    char name[32];

    (void)state;
    setenv("CNI_CONTAINERID", "ours", 1);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "SLUICE_TEST_%d", i);
        setenv(name, "set", 1);
    }
    assert_int_equal(run("cat >/dev/null; [ $SLUICE_TEST_0$SLUICE_TEST_199 = setset ] && "
                         "[ $CNI_COMMAND.$CNI_CONTAINERID = DEL.abc ] && "
                         "[ $(env | grep -c '^CNI_C') = 2 ]",
                         "1.0.0", "DEL", NULL, &err),
                     0);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "SLUICE_TEST_%d", i);
        unsetenv(name);
    }
    unsetenv("CNI_CONTAINERID");
}

static void delegate_negotiates(void **state)
{
    const char *body = VERSIONS "[ $CNI_COMMAND.$CNI_CONTAINERID = ADD.abc ] && "
                                "echo '{\"cniVersion\":\"0.3.1\",\"ips\":[{\"version\":\"4\","
                                "\"address\":\"10.0.0.5/24\"}]}'";
    struct ipam_result r = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(run(body, "1.1.0", "ADD", &r, &err), 0);
    assert_int_equal(r.n_ips, 1);
    ipam_result_clear(&r);
    /* Verbs that version 0.3.1 does not have. */
    assert_int_equal(run(VERSIONS "exit 7", "1.1.0", "CHECK", NULL, &err), 0);
    assert_int_equal(run(VERSIONS "exit 7", "1.1.0", "GC", NULL, &err), 0);
    assert_int_equal(run("exit 7", "1.0.0", "STATUS", NULL, &err), 0);
    assert_int_equal(run("exit 7", "0.3.1", "CHECK", NULL, &err), 0);
    assert_int_equal(run(VERSIONS "exit 7", "1.1.0", "DEL", NULL, &err), -EIO);
    assert_int_equal(run(VERSIONS, "0.2.0", "ADD", NULL, &err), -EPROTONOSUPPORT);
    assert_int_equal(err.code, 1);
    assert_non_null(strstr(err.text, "speaks none of the CNI versions up to 0.2.0, only "));
}

static void delegate_errors(void **state)
{
    struct ipam_result r = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(run("echo '{\"code\":11,\"msg\":\"later\",\"details\":\"full\"}'; exit 1",
                         "1.0.0", "ADD", &r, &err),
                     -EAGAIN);
    assert_int_equal(err.code, 11);
    assert_string_equal(err.text, "ipam plugin fake: later: full");
    assert_int_equal(run("echo oops >&2; exit 3", "1.0.0", "ADD", &r, &err), -EIO);
    assert_int_equal(err.code, 0);
    assert_non_null(strstr(err.text, "ended with status 3 without an error in CNI's form: oops"));
    assert_int_equal(run("kill -9 $$", "1.0.0", "ADD", &r, &err), -EIO);
    assert_non_null(strstr(err.text, "killed by signal 9: it wrote nothing"));
    assert_int_equal(run("echo hello", "1.0.0", "ADD", &r, &err), -EBADMSG);
    assert_int_equal(err.code, 0);
    assert_non_null(strstr(err.text, "ipam plugin fake: its result can't be read: invalid JSON"));
    assert_int_equal(run("", "1.0.0", "ADD", &r, &err), -EBADMSG);
    assert_int_equal(run("exec sleep 60", "1.0.0", "DEL", NULL, &err), -ETIMEDOUT);
    assert_string_equal(err.text, "ipam plugin fake: DEL did not end in time and was killed");
    assert_int_equal(run("exec yes", "1.0.0", "ADD", &r, &err), -EFBIG);
}

static void delegate_not_found(void **state)
{
    autojson json_t *conf = json_object();
    struct ipam_delegate to = {.type = "no-such-plugin",
                               .cni_path = "/nowhere:/usr",
                               .cni_version = "1.0.0",
                               .conf = conf};
    struct error err = {0};

    (void)state;
    assert_int_equal(ipam_delegate(&to, "ADD", NULL, &err), -ENOENT);
    assert_string_equal(err.text, "ipam plugin no-such-plugin: not found in the plugin path "
                                  "\"/nowhere:/usr\"");
    to.type = "../bin/sh";
    assert_int_equal(ipam_delegate(&to, "ADD", NULL, &err), -EINVAL);
    to.type = "bin"; /* a directory */
    assert_int_equal(ipam_delegate(&to, "ADD", NULL, &err), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_results),
        cmocka_unit_test(old_results),
        cmocka_unit_test(bad_results),
        cmocka_unit_test(too_many_routes),
        cmocka_unit_test(versions),
        cmocka_unit_test(delegate_keeps_all_of_a_large_environment_under_its_own),
        cmocka_unit_test(delegate_negotiates),
        cmocka_unit_test(delegate_errors),
        cmocka_unit_test(delegate_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
