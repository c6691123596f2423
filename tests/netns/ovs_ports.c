/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports on a real Open vSwitch. Run by ovs.bats, inside the network namespace of a private one:
 * ovs_ports SOCKET BRIDGE, with ovs-vswitchd running; nothing is left on the bridge.
 * ovs_ports SOCKET BRIDGE stopped|dead, with ovs-vswitchd in that state.
 * ovs_ports SOCKET BRIDGE leave N adds ports leave0 to leaveN-1, and tells the milliseconds.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs/ovs.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *socket_path, *bridge;

static int64_t soon(void)
{
    return clock_ns() + 10 * NSEC_PER_SEC;
}

static int setup(void **state)
{
    struct error err;
    struct ovsdb *db;
    int rc = ovsdb_connect(socket_path, soon(), &db, &err);

    if (rc < 0) {
        fprintf(stderr, "%s\n", err.text);
        return rc;
    }
    *state = db;
    return 0;
}

/* Nothing but the bridge's own port may be left by any test. */
static int teardown(void **state)
{
    struct ovs_ports ports = {0};
    struct error err;
    int rc = ovs_ports_list(*state, NULL, false, soon(), &ports, &err);

    if (rc == 0 && ports.n != 1) {
        fprintf(stderr, "%zu ports are left\n", ports.n - 1);
        rc = -1;
    }
    ovs_ports_clear(&ports);
    ovsdb_close(*state);
    return rc;
}

static struct ovs_port_spec internal(const char *name)
{
    return (struct ovs_port_spec){
        .bridge = bridge,
        .name = name,
        .type = "internal",
        .owner = {.network = "net", .container_id = "c1", .ifname = "eth0", .instance = "/i"}};
}

static void read_device(const char *name, char mac[6], int *ret_mtu)
{
    autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
    memcpy(mac, request.ifr_hwaddr.sa_data, 6);
    assert_int_equal(ioctl(fd, SIOCGIFMTU, &request), 0);
    *ret_mtu = request.ifr_mtu;
}

/* ---- what works ---- */

#define MANY 20

static void test_many_at_once(void **state)
{
    struct ovs_port_spec specs[MANY];
    char names[MANY][IFNAMSIZ];
    const char *pointers[MANY];
    int ofports[MANY];
    struct error err = {0};

    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "many%zu", i);
        pointers[i] = names[i];
        specs[i] = internal(names[i]);
    }
    assert_int_equal(ovs_ports_add(*state, specs, MANY, soon(), ofports, &err), 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_true(ofports[i] > 0);
        assert_true(if_nametoindex(names[i]) > 0);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(ofports[i], ofports[k]);
        }
    }
    assert_int_equal(ovs_ports_del(*state, pointers, MANY, true, soon(), &err), 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(if_nametoindex(names[i]), 0);
    }
}

static void test_all_columns(void **state)
{
    static const uint16_t trunks[] = {10, 20};
    static const char mac[6] = {0x02, 0, 0, 0, 0, 0x07};
    struct ovs_port_spec spec = internal("columns");
    const char *name = spec.name;
    struct ovs_ports ports = {0};
    struct error err = {0};
    char device_mac[6];
    int ofport, mtu;

    spec.mac = "02:00:00:00:00:07";
    spec.mtu = 1300;
    spec.tag = 7;
    spec.trunks = trunks;
    spec.n_trunks = ARRAY_SIZE(trunks);
    assert_int_equal(ovs_ports_add(*state, &spec, 1, soon(), &ofport, &err), 0);
    read_device(name, device_mac, &mtu);
    assert_memory_equal(device_mac, mac, 6);
    assert_int_equal(mtu, 1300);
    assert_int_equal(ovs_ports_list(*state, name, false, soon(), &ports, &err), 0);
    assert_int_equal(ports.n, 1);
    assert_string_equal(ports.ports[0].name, name);
    assert_string_equal(ports.ports[0].bridge, bridge);
    assert_string_equal(ports.ports[0].type, "internal");
    assert_string_equal(ports.ports[0].error, "");
    assert_int_equal(ports.ports[0].ofport, ofport);
    assert_int_equal(ports.ports[0].tag, 7);
    assert_string_equal(ports.ports[0].owner.network, "net");
    assert_string_equal(ports.ports[0].owner.container_id, "c1");
    assert_string_equal(ports.ports[0].owner.ifname, "eth0");
    assert_string_equal(ports.ports[0].owner.instance, "/i");
    ovs_ports_clear(&ports);
    assert_int_equal(ovs_ports_del(*state, &name, 1, true, soon(), &err), 0);
}

static void test_list_ours_only(void **state)
{
    struct ovs_port_spec specs[] = {internal("mine"), internal("tenant"), internal("foreign")};
    const char *names[] = {"mine", "tenant", "foreign"};
    struct ovs_ports ports = {0};
    struct error err = {0};

    specs[1].owner.container_id = NULL;
    specs[1].owner.ifname = NULL;
    memset(&specs[2].owner, 0, sizeof(specs[2].owner));
    assert_int_equal(ovs_ports_add(*state, specs, 3, soon(), NULL, &err), 0);
    assert_int_equal(ovs_ports_list(*state, NULL, true, soon(), &ports, &err), 0);
    assert_int_equal(ports.n, 2);
    for (size_t i = 0; i < ports.n; i++) {
        bool tenant = !strcmp(ports.ports[i].name, "tenant");

        assert_string_equal(ports.ports[i].owner.network, "net");
        assert_int_equal(ports.ports[i].owner.container_id == NULL, tenant);
    }
    ovs_ports_clear(&ports);
    assert_int_equal(ovs_ports_list(*state, "foreign", true, soon(), &ports, &err), 0);
    assert_int_equal(ports.n, 0);
    ovs_ports_clear(&ports);
    assert_int_equal(ovs_ports_del(*state, names, 3, false, soon(), &err), 0);
}

static void test_delete_unknown(void **state)
{
    const char *names[] = {"nobody", "no one"};
    struct error err = {0};

    assert_int_equal(ovs_ports_del(*state, names, 2, true, soon(), &err), 0);
}

static void test_bridge_datapath(void **state)
{
    char datapath[16];
    struct error err = {0};

    assert_int_equal(ovs_bridge_datapath(*state, bridge, soon(), datapath, &err), 0);
    assert_string_equal(datapath, "netdev");
    assert_int_equal(ovs_bridge_datapath(*state, "nobr", soon(), datapath, &err), -ENODEV);
    assert_non_null(strstr(err.text, bridge));
}

/* ---- what does not ---- */

static void test_no_such_bridge(void **state)
{
    struct ovs_port_spec specs[] = {internal("good"), internal("lost")};
    struct error err = {0};

    specs[1].bridge = "nobr";
    assert_int_equal(ovs_ports_add(*state, specs, 2, soon(), NULL, &err), -ENODEV);
    assert_non_null(strstr(err.text, "nobr"));
    assert_non_null(strstr(err.text, bridge));
}

static void test_name_taken(void **state)
{
    struct ovs_port_spec specs[] = {internal("fresh"), internal("taken")};
    const char *name = "taken";
    struct error err = {0};

    assert_int_equal(ovs_ports_add(*state, &specs[1], 1, soon(), NULL, &err), 0);
    assert_int_equal(ovs_ports_add(*state, specs, 2, soon(), NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, "taken"));
    assert_int_equal(ovs_ports_del(*state, &name, 1, true, soon(), &err), 0);
    assert_int_equal(if_nametoindex("fresh"), 0);
}

static void test_no_such_device(void **state)
{
    struct ovs_port_spec specs[] = {internal("good"), internal("nodev0")};
    int ofports[2] = {-7, -7};
    struct error err = {0};

    specs[1].type = "";
    assert_int_equal(ovs_ports_add(*state, specs, 2, soon(), ofports, &err), -EREMOTEIO);
    assert_non_null(strstr(err.text, "nodev0"));
    assert_non_null(strstr(err.text, "No such device"));
    assert_int_equal(ofports[0], -7);
}

/* ---- ovs-vswitchd is not there ---- */

static const char *silent_words;

static void test_silent(void **state)
{
    struct ovs_port_spec specs[] = {internal("one"), internal("two")};
    struct error err = {0};

    assert_int_equal(ovs_ports_add(*state, specs, 2, clock_ns() + 100 * NSEC_PER_MSEC, NULL, &err),
                     -ETIMEDOUT);
    assert_non_null(strstr(err.text, silent_words));
    assert_non_null(strstr(err.text, socket_path));
    assert_null(strstr(err.text, "left behind"));
}

static int run_silent(const char *words)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_silent, setup, teardown),
    };

    silent_words = words;
    return cmocka_run_group_tests_name("ovs-vswitchd is silent", tests, NULL, NULL);
}

/* ---- many ports, for what comes after ---- */

static int leave(int64_t n)
{
    autofree struct ovs_port_spec *specs = calloc((size_t)n, sizeof(*specs));
    autofree char *names = calloc((size_t)n, IFNAMSIZ);
    autoovsdb struct ovsdb *db = NULL;
    int64_t start_ns = clock_ns();
    struct error err;

    for (int64_t i = 0; i < n; i++) {
        snprintf(names + i * IFNAMSIZ, IFNAMSIZ, "leave%d", (int)i);
        specs[i] = internal(names + i * IFNAMSIZ);
    }
    if (ovsdb_connect(socket_path, soon(), &db, &err) < 0 ||
        ovs_ports_add(db, specs, (size_t)n, soon(), NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%d\n", (int)((clock_ns() - start_ns) / NSEC_PER_MSEC));
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_columns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_ours_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bridge_datapath, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_such_bridge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_name_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_such_device, setup, teardown),
    };

    int64_t n;

    if (argc < 3) {
        fprintf(stderr, "usage: ovs_ports SOCKET BRIDGE [stopped|dead|leave N]\n");
        return 2;
    }
    socket_path = argv[1];
    bridge = argv[2];
    if (argc == 4 && !strcmp(argv[3], "stopped")) {
        return run_silent("did not answer in time");
    }
    if (argc == 4 && !strcmp(argv[3], "dead")) {
        return run_silent("no ovs-vswitchd is running");
    }
    if (argc == 5 && !strcmp(argv[3], "leave") && str_to_int64(argv[4], 1, 10000, &n) == 0) {
        return leave(n);
    }
    return cmocka_run_group_tests_name("ovs ports", tests, NULL, NULL);
}
