/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenFlow messages, byte by byte as the specification (1.4.0, section 7) has them, and what a
 * switch may do that a real one can't be made to do when wanted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ovs/openflow-internal.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Compares with bytes in hexadecimal; spaces are for the reader. */
static void assert_bytes(const uint8_t *data, const uint8_t *end, const char *expected)
{
    char hex[2048], wanted[2048];
    size_t n = 0;

    for (; *expected; expected++) {
        if (*expected != ' ') {
            wanted[n++] = *expected;
        }
    }
    wanted[n] = '\0';
    for (n = 0; data < end; data++) {
        n += (size_t)snprintf(hex + n, sizeof(hex) - n, "%02x", *data);
    }
    assert_string_equal(hex, wanted);
}

/* ---- writing ---- */

static void test_small_messages(void **state)
{
    uint8_t at[256];
    uint8_t *end;

    (void)state;
    assert_bytes(at, of_write_hello(at, 1), "05000010 00000001 0001 0008 00000020");
    assert_bytes(at, of_write_header(at, OF_BARRIER_REQUEST, 8, 0x80000002), "05140008 80000002");
    assert_bytes(at, of_write_bundle(at, OF_BUNDLE_COMMIT, 3),
                 "05210010 00000003 00000001 0004 0003");
    of_write_flows_body(at, 0x1122, 0xff00000000000000);
    assert_bytes(at, at + OF_FLOWS_BODY,
                 "ff000000 ffffffff ffffffff 00000000 0000000000001122 ff00000000000000"
                 "0001 0004 00000000");
    end = of_write_multipart(at, OF_MP_METER_CONFIG, "abcd", 4, 5);
    assert_bytes(at, end, "05120014 00000005 000a 0000 00000000 61626364");
}

static void test_a_removal(void **state)
{
    uint8_t at[256];

    (void)state;
    assert_bytes(at, of_write_remove(at, 0x0102030405060708, 9),
                 "05220048 00000009 00000001 0000 0003"
                 "050e0038 00000009 0102030405060708 ffffffffffffffff ff 03 0000 0000 0000"
                 "ffffffff ffffffff ffffffff 0000 0000 0001 0004 00000000");
}

static void test_a_flow(void **state)
{
    static const struct flow flow = {
        .table = 52,
        .priority = 0x1234,
        .match = {.has_metadata = true,
                  .metadata = 0x51ce,
                  .eth_type = ETH_P_IP,
                  .has_ip_proto = true,
                  .ip_proto = IPPROTO_TCP,
                  .src = {AF_INET, 20, {10, 1, 0xff, 1}},
                  .tp_dst = 80,
                  .tp_dst_mask = 0xfff0},
        .meter = 7,
        .write_metadata = true,
        .metadata = 1,
        .goto_table = 53,
        .outputs = {FLOW_PORT_NORMAL},
    };
    uint8_t at[OF_FLOW_MAX];

    (void)state;
    assert_bytes(at, of_write_add(at, &flow, 0x99, 9),
                 "052200b0 00000009 00000001 0000 0003"
                 "050e00a0 00000009 0000000000000099 0000000000000000 34 00 0000 0000 1234"
                 "ffffffff ffffffff ffffffff 0000 0000"
                 "0001 002f 80000408 00000000000051ce 80000a02 0800 80001401 06"
                 "80001708 0a01f000 fffff000 80001d04 0050 fff0 00"
                 "0006 0008 00000007"
                 "0004 0018 00000000 0000 0010 fffffffa 0000 000000000000"
                 "0002 0018 00000000 0000000000000001 ffffffffffffffff"
                 "0001 0008 35 000000");
}

/* Whatever a flow has: its messages' lengths are right, and there is room for it. */
static void test_the_largest_flow_has_room(void **state)
{
    struct flow flow = {.meter = 1, .write_metadata = true, .goto_table = 9, .outputs = {1, 2}};
    struct ip_addr network = {AF_INET6, 127, {0xfd}};
    uint8_t at[2 * OF_FLOW_MAX];
    struct of_message message;
    size_t len;

    (void)state;
    flow.match = (struct flow_match){.in_port = 1,
                                     .has_metadata = true,
                                     .has_eth_src = true,
                                     .group = true,
                                     .eth_type = ETH_P_IPV6,
                                     .has_ip_proto = true,
                                     .src = network,
                                     .dst = network,
                                     .has_arp_sha = true,
                                     .tp_src_mask = 1,
                                     .tp_dst_mask = 1,
                                     .has_icmp_type = true,
                                     .nd_target = network};
    len = (size_t)(of_write_add(at, &flow, 1, 2) - at);
    assert_true(len <= OF_FLOW_MAX);
    assert_int_equal(len % 8, 0);
    assert_int_equal(of_read_message(at, len, &message), 1);
    assert_int_equal(message.len, len);
    assert_int_equal(of_read_message(at + 16, len - 16, &message), 1);
    assert_int_equal(message.len, len - 16);
}

static void test_meters(void **state)
{
    struct of_meter_config config;
    struct flow_meter meter = {.id = 5, .rate_bps = 1001, .burst_bits = 5000};
    uint8_t at[256];

    (void)state;
    of_meter_encode(&meter, &config);
    assert_bytes(at, of_write_meter(at, OF_METER_ADD, 5, &config, 1),
                 "051d0020 00000001 0000 0005 00000005 0001 0010 00000002 00000005 00000000");
    meter = (struct flow_meter){.id = 5, .rate_bps = UINT64_MAX};
    of_meter_encode(&meter, &config);
    assert_bytes(at, of_write_meter(at, OF_METER_MODIFY, 5, &config, 1),
                 "051d0020 00000001 0001 0001 00000005 0001 0010 ffffffff 00000000 00000000");
    meter.rate_bps = 0; /* no such thing: the least there is */
    of_meter_encode(&meter, &config);
    assert_int_equal(config.bands[7], 1);
    assert_bytes(at, of_write_meter(at, OF_METER_DELETE, 0xffff0000, NULL, 1),
                 "051d0010 00000001 0002 0000 ffff0000");
}

/* ---- reading ---- */

static struct of_message message_of(const uint8_t *data, size_t len)
{
    struct of_message message = {0};

    assert_int_equal(of_read_message(data, len, &message), 1);
    return message;
}

static void test_messages_are_cut_by_their_length(void **state)
{
    static const uint8_t two[] = {5, 2, 0, 10, 0, 0, 0, 7, 1, 2, 5, 20, 0, 7};
    struct of_message message;

    (void)state;
    for (size_t len = 0; len < 10; len++) {
        assert_int_equal(of_read_message(two, len, &message), 0);
    }
    assert_int_equal(of_read_message(two, sizeof(two), &message), 1);
    assert_int_equal(message.type, OF_ECHO_REQUEST);
    assert_int_equal(message.xid, 7);
    assert_int_equal(message.len, 10);
    assert_int_equal(of_read_message(two + 10, 4, &message), 0);
    assert_int_equal(of_read_message((const uint8_t *)"\5\24\0\7\0\0\0\0", 8, &message), -EBADMSG);
}

static bool allows(const char *data, size_t len)
{
    struct of_message message = message_of((const uint8_t *)data, len);

    return of_hello_allows(&message);
}

static void test_versions(void **state)
{
    (void)state;
    assert_true(allows("\5\0\0\10\0\0\0\0", 8));
    assert_true(allows("\6\0\0\10\0\0\0\0", 8));
    assert_false(allows("\4\0\0\10\0\0\0\0", 8));
    assert_true(allows("\4\0\0\20\0\0\0\0\0\1\0\10\0\0\0\40", 16));
    assert_false(allows("\6\0\0\20\0\0\0\0\0\1\0\10\0\0\0\122", 16));
    /* Another element in front, of a length that is filled up. */
    assert_true(allows("\6\0\0\30\0\0\0\0\0\7\0\5\1\0\0\0\0\1\0\10\0\0\0\40", 24));
    assert_false(allows("\6\0\0\30\0\0\0\0\0\7\0\5\1\0\0\0\0\1\0\10\0\0\0\22", 24));
    /* Elements that are cut off, or too short to be. */
    assert_true(allows("\6\0\0\20\0\0\0\0\0\1\0\20\0\0\0\22", 16));
    assert_true(allows("\6\0\0\20\0\0\0\0\0\7\0\0\0\0\0\22", 16));
    assert_true(allows("\6\0\0\14\0\0\0\0\0\1\0\4", 12));
}

static void test_errors_in_words(void **state)
{
    static const uint8_t data[] = {5, 1, 0, 14, 0, 0, 0, 1, 0, 5, 0, 1, 9, 9};
    struct of_message message = message_of(data, sizeof(data));
    uint16_t type, code;
    char words[128];

    (void)state;
    assert_true(of_read_error(&message, &type, &code));
    assert_string_equal(of_error_words(type, code, words, sizeof(words)),
                        "the flow table is full (OFPFMFC_TABLE_FULL)");
    assert_string_equal(of_error_words(0xffff, 0x1234, words, sizeof(words)),
                        "OpenFlow error, type 65535, code 4660");
    message.len = 11;
    assert_false(of_read_error(&message, &type, &code));
    message.len = 14;
    message.type = OF_ECHO_REPLY;
    assert_false(of_read_error(&message, &type, &code));
}

static void test_statistics(void **state)
{
    uint8_t data[16 + 56 + 48] = {5, 19, 0, 120, 0, 0, 0, 1, 0, 1, 0, 1};
    struct of_message message;
    struct of_flow_stats flow;
    const uint8_t *body;
    uint32_t flows;
    size_t len;
    bool more;

    (void)state;
    data[16 + 1] = 56;
    data[16 + 2] = 3;
    data[16 + 13] = 9;
    data[16 + 31] = 7;
    data[16 + 56 + 1] = 48;
    message = message_of(data, sizeof(data));
    assert_int_equal(of_read_multipart(&message, OF_MP_AGGREGATE, &body, &len, &more), -EBADMSG);
    assert_int_equal(of_read_multipart(&message, OF_MP_FLOW, &body, &len, &more), 0);
    assert_true(more);
    assert_int_equal(of_read_flow(&body, &len, &flow), 1);
    assert_int_equal(flow.table, 3);
    assert_int_equal(flow.priority, 9);
    assert_int_equal(flow.cookie, 7);
    assert_int_equal(of_read_flow(&body, &len, &flow), 1);
    assert_int_equal(flow.table, 0);
    assert_int_equal(of_read_flow(&body, &len, &flow), 0);

    for (int bad = 0; bad < 47; bad++) { /* shorter than its fixed part, zero included */
        data[16 + 1] = (uint8_t)bad;
        body = data + 16;
        len = 104;
        assert_int_equal(of_read_flow(&body, &len, &flow), -EBADMSG);
    }
    data[16 + 1] = 105;
    assert_int_equal(of_read_flow(&body, &len, &flow), -EBADMSG);
    len = 47;
    assert_int_equal(of_read_flow(&body, &len, &flow), -EBADMSG);

    data[16 + 19] = 42;
    assert_int_equal(of_read_aggregate(data + 16, 24, &flows), 0);
    assert_int_equal(flows, 42);
    assert_int_equal(of_read_aggregate(data + 16, 19, &flows), -EBADMSG);
}

static void test_meter_configurations(void **state)
{
    uint8_t body[OF_BANDS_MAX + 24] = {0, 24, 0, 5, 0, 0, 0, 1, 0, 1, 0, 16};
    struct of_meter_config config;

    (void)state;
    assert_int_equal(of_read_meter(body, 24, &config), 0);
    assert_int_equal(config.flags, 5);
    assert_int_equal(config.len, 16);
    assert_int_equal(config.bands[3], 16);
    assert_int_equal(of_read_meter(body, 23, &config), -EBADMSG);
    assert_int_equal(of_read_meter(body, 7, &config), -EBADMSG);
    body[1] = 7;
    assert_int_equal(of_read_meter(body, 24, &config), -EBADMSG);
    body[0] = 1;
    body[1] = 8 + 16;
    assert_int_equal(of_read_meter(body, sizeof(body), &config), -ENOSPC);
}

/* ---- for people ---- */

static void test_a_flow_as_text(void **state)
{
    static const struct flow flow = {.table = 1,
                                     .priority = 2,
                                     .match = {.in_port = 3, .eth_type = ETH_P_ARP},
                                     .meter = 4,
                                     .outputs = {FLOW_PORT_IN, 5},
                                     .goto_table = 6};
    static const char *const text = "table=1,priority=2,in_port=3,dl_type=0x0806,"
                                    "actions=meter:4,IN_PORT,output:5,goto_table:6";
    struct flow nothing = {0};
    char buf[512];

    (void)state;
    assert_string_equal(flow_format(&flow, buf, sizeof(buf)), text);
    assert_string_equal(flow_format(&nothing, buf, sizeof(buf)), "table=0,priority=0,actions=drop");
    for (size_t size = 1; size <= strlen(text); size++) {
        memset(buf, '#', sizeof(buf));
        flow_format(&flow, buf, size);
        assert_int_equal(strlen(buf), size - 1);
        assert_memory_equal(buf, text, size - 1);
        assert_int_equal(buf[size], '#');
    }
}

static void test_where_a_bridge_listens(void **state)
{
    char path[32];

    (void)state;
    assert_int_equal(openflow_path("unix:/run/ovs/db.sock", "br0", path, sizeof(path)), 0);
    assert_string_equal(path, "/run/ovs/br0.mgmt");
    assert_int_equal(openflow_path("/db.sock", "b", path, sizeof(path)), 0);
    assert_string_equal(path, "/b.mgmt");
    assert_int_equal(openflow_path("/run/ovs/db.sock", "a-very-long-name-of-a-bridge", path, 32),
                     -ENAMETOOLONG);
    assert_int_equal(openflow_path("/run/ovs/db.sock", "../b", path, sizeof(path)), -EINVAL);
    assert_int_equal(openflow_path("tcp:127.0.0.1:6640", "br0", path, sizeof(path)), -EINVAL);
}

/* ---- a switch of our own ---- */

/* What it does with a message: answers with so many bytes, or 0; negative hangs up. */
struct peer {
    int fd;
    pthread_t thread;
    int (*answer)(const struct of_message *message, uint8_t *at);
    size_t slow; /* reads no more than so much at a time, and sends echo requests in between */
    size_t messages, echoes, adds;
};

/* As OVS does. */
static int answer_well(const struct of_message *message, uint8_t *at)
{
    memcpy(at, message->data, 16);
    switch (message->type) {
    case OF_HELLO:
        of_write_hello(at, 1);
        return 16;
    case OF_BARRIER_REQUEST:
        of_write_header(at, OF_BARRIER_REPLY, 8, message->xid);
        return 8;
    case OF_BUNDLE_CONTROL:
        at[13]++;
        return 16;
    default:
        return 0;
    }
}

static int hang_up_at_commit(const struct of_message *message, uint8_t *at)
{
    return message->type == OF_BUNDLE_CONTROL && message->data[13] == OF_BUNDLE_COMMIT
               ? -1
               : answer_well(message, at);
}

static int never_say_committed(const struct of_message *message, uint8_t *at)
{
    return message->type == OF_BUNDLE_CONTROL ? 0 : answer_well(message, at);
}

static int refuse_bundles(const struct of_message *message, uint8_t *at)
{
    if (message->type != OF_BUNDLE_CONTROL) {
        return answer_well(message, at);
    }
    of_write_header(at, OF_ERROR, 12, message->xid);
    memcpy(at + 8, "\0\21\0\5", 4);
    return 12;
}

static int say_nonsense(const struct of_message *message, uint8_t *at)
{
    int len = answer_well(message, at);

    if (message->type == OF_BUNDLE_CONTROL) {
        memset(at, 0, 8);
        return 8;
    }
    return len;
}

static void send_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0) {
            return;
        }
        data += n;
        len -= (size_t)n;
    }
}

static void *serve(void *cookie)
{
    static const uint8_t echo[] = {5, 2, 0, 12, 0, 0, 0, 9, 'e', 'c', 'h', 'o'};
    struct peer *peer = cookie;
    uint8_t in[2 * 65536], out[64];
    size_t have = 0;

    for (;;) {
        struct of_message message;
        size_t start = 0;
        ssize_t n = recv(peer->fd, in + have, peer->slow ? peer->slow : sizeof(in) - have, 0);
        int rc;

        if (n <= 0) {
            return NULL;
        }
        have += (size_t)n;
        if (peer->slow) {
            send_all(peer->fd, echo, sizeof(echo)); /* blocks if nobody reads them */
        }
        while ((rc = of_read_message(in + start, have - start, &message)) > 0) {
            int len = peer->answer(&message, out);

            peer->messages++;
            peer->adds += message.type == OF_BUNDLE_ADD;
            peer->echoes += message.type == OF_ECHO_REPLY && message.len == 12 &&
                            !memcmp(message.data + 8, "echo", 4);
            start += message.len;
            if (len < 0) {
                shutdown(peer->fd, SHUT_RDWR);
                return NULL;
            }
            send_all(peer->fd, out, (size_t)len);
        }
        assert_int_equal(rc, 0); /* a message went out in the middle of another */
        have -= start;
        memmove(in, in + start, have);
    }
}

static int peer_start(struct peer *peer, struct openflow **ret, struct error *err)
{
    int ends[2], size = 4096;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    for (int i = 0; i < 2 && peer->slow; i++) {
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
    peer->fd = ends[1];
    assert_int_equal(pthread_create(&peer->thread, NULL, serve, peer), 0);
    return openflow_attach(ends[0], "/run/ovs/br0.mgmt", -1, clock_ns() + 30 * NSEC_PER_SEC, ret,
                           err);
}

static void peer_stop(struct peer *peer, struct openflow *of)
{
    openflow_close(of);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
}

static int apply_many(struct openflow *of, size_t n, struct error *err)
{
    autofree struct flow *flows = calloc(n, sizeof(*flows));
    struct flow_set set = {.cookie = 1, .flows = flows, .n_flows = n};

    return openflow_apply(of, &set, 1, clock_ns() + 30 * NSEC_PER_SEC, NULL, err);
}

/* Both would wait for ever for room to write if either did not read. */
static void test_echo_requests_in_the_middle_of_a_bundle(void **state)
{
    struct peer peer = {.answer = answer_well, .slow = 100};
    struct openflow *of = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(peer_start(&peer, &of, &err), 0);
    assert_int_equal(apply_many(of, 5000, &err), 0);
    assert_true(openflow_usable(of));
    peer_stop(&peer, of);
    assert_int_equal(peer.adds, 5001);
    assert_true(peer.echoes > 1000);
}

static void test_switches_that_fail(void **state)
{
    static const struct {
        int (*answer)(const struct of_message *message, uint8_t *at);
        int rc;
        const char *words;
        bool usable;
    } cases[] = {
        {hang_up_at_commit, -ECONNRESET, "closed the connection", false},
        {never_say_committed, -EREMOTEIO, "did not commit a bundle", true},
        {refuse_bundles, -EREMOTEIO, "no room for another bundle", true},
        {say_nonsense, -EBADMSG, "what is not OpenFlow", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct peer peer = {.answer = cases[i].answer};
        struct openflow *of = NULL;
        struct error err = {0};

        assert_int_equal(peer_start(&peer, &of, &err), 0);
        assert_int_equal(apply_many(of, 3, &err), cases[i].rc);
        assert_non_null(strstr(err.text, cases[i].words));
        assert_int_equal(openflow_usable(of), cases[i].usable);
        if (!cases[i].usable) {
            assert_int_equal(apply_many(of, 3, &err), -ENOTCONN);
            assert_non_null(strstr(err.text, "/run/ovs/br0.mgmt"));
        }
        peer_stop(&peer, of);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_messages),
        cmocka_unit_test(test_a_removal),
        cmocka_unit_test(test_a_flow),
        cmocka_unit_test(test_the_largest_flow_has_room),
        cmocka_unit_test(test_meters),
        cmocka_unit_test(test_messages_are_cut_by_their_length),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_errors_in_words),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_meter_configurations),
        cmocka_unit_test(test_a_flow_as_text),
        cmocka_unit_test(test_where_a_bridge_listens),
        cmocka_unit_test(test_echo_requests_in_the_middle_of_a_bundle),
        cmocka_unit_test(test_switches_that_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
