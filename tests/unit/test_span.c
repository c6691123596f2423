/* SPDX-License-Identifier: Apache-2.0 */
/* src/span: what is written is read back; what is no span is counted and left out. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "span/span.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int make_file(void **state)
{
    char *path = strdup("/tmp/sluice-span-XXXXXX");
    int fd = path ? mkstemp(path) : -1;

    *state = path;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    int rc = unlink(*state);

    free(*state);
    return rc;
}

static void test_written_span_is_read_back(void **state)
{
    struct span span = {"pod \"1\"", "cni.link", 5, 9, 2, 11, 12, 3, false}, *back;
    struct span_list list;
    autoclose int fd = -1;

    assert_int_equal(span_open(*state, &fd), 0);
    assert_int_equal(span_write(fd, &span), 0);
    assert_int_equal(span_end(fd, "pod-2", "cni", clock_ns(), 0, true), 0);
    assert_int_equal(span_read(*state, &list, NULL), 0);
    assert_int_equal(list.n, 2);
    assert_int_equal(list.bad_lines, 0);
    back = &list.spans[0];
    assert_string_equal(back->pod, span.pod);
    assert_string_equal(back->stage, span.stage);
    assert_true(back->t0_ns == 5 && back->t1_ns == 9 && back->wait_ns == 2 && back->pid == 11 &&
                back->tid == 12 && back->batch == 3 && !back->ok);
    back = &list.spans[1];
    assert_true(back->pid == getpid() && back->tid == gettid() && back->ok);
    assert_true(back->t1_ns >= back->t0_ns);
    span_list_clear(&list);
}

static void test_longest_names_fit_a_line(void **state)
{
    struct span span = {.t0_ns = INT64_MAX,
                        .t1_ns = INT64_MAX,
                        .wait_ns = INT64_MAX,
                        .pid = INT32_MAX,
                        .tid = INT32_MAX,
                        .batch = INT64_MAX};
    struct span_list list;
    autoclose int fd = -1;

    memset(span.pod, '"', sizeof(span.pod) - 1);
    memset(span.stage, '\\', sizeof(span.stage) - 1);
    assert_int_equal(span_open(*state, &fd), 0);
    assert_int_equal(span_write(fd, &span), 0);
    assert_int_equal(span_read(*state, &list, NULL), 0);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.spans[0].pod, span.pod);
    assert_string_equal(list.spans[0].stage, span.stage);
    span_list_clear(&list);
}

static void test_bad_lines_are_counted_and_left_out(void **state)
{
    static const char text[] = "{\"pod\":\"a\",\"stage\":\"cni\",\"t0_ns\":1,\"t1_ns\":2}\n"
                               "\n"
                               "not json\n"
                               "{\"pod\":\"b\",\"stage\":\"cni\",\"t0_ns\":1,\"t1_ns\":2}\n"
                               "{\"pod\":\"c\",\"sta";
    struct span_list list;

    assert_int_equal(file_write_atomic(*state, text, strlen(text), 0600), 0);
    assert_int_equal(span_read(*state, &list, NULL), 0);
    assert_int_equal(list.n, 2);
    assert_int_equal(list.bad_lines, 3);
    assert_string_equal(list.spans[1].pod, "b");
    span_list_clear(&list);
}

static void test_many_spans_are_read(void **state)
{
    struct span_list list;
    autoclose int fd = -1;

    assert_int_equal(span_open(*state, &fd), 0);
    for (int i = 1; i <= 1000; i++) {
        struct span span = {.pod = "p", .stage = "cni", .t0_ns = i, .t1_ns = i};

        assert_int_equal(span_write(fd, &span), 0);
    }
    assert_int_equal(span_read(*state, &list, NULL), 0);
    assert_int_equal(list.n, 1000);
    assert_int_equal(list.spans[999].t0_ns, 1000);
    span_list_clear(&list);
}

static void test_what_is_no_span(void **state)
{
    static const char *const lines[] = {
        "",
        "[]",
        "{}",
        "{\"stage\":\"cni\",\"t0_ns\":1,\"t1_ns\":2}",
        "{\"pod\":\"\",\"stage\":\"cni\",\"t0_ns\":1,\"t1_ns\":2}",
        "{\"pod\":\"a\",\"t0_ns\":1,\"t1_ns\":2}",
        "{\"pod\":\"a\",\"stage\":\"cni\",\"t1_ns\":2}",
        "{\"pod\":\"a\",\"stage\":\"cni\",\"t0_ns\":1}",
        "{\"pod\":\"a\",\"stage\":\"cni\",\"t0_ns\":2,\"t1_ns\":1}",
        "{\"pod\":\"a\",\"stage\":\"cni\",\"t0_ns\":-1,\"t1_ns\":1}",
        "{\"pod\":\"a\",\"stage\":\"cni\",\"t0_ns\":1.5,\"t1_ns\":2}",
        "{\"pod\":\"a\",\"stage\":\"cni\",\"t0_ns\":1,\"t1_ns\":2,\"ok\":1}",
        "{\"pod\":\"a\",\"stage\":\"a-stage-with-a-name-of-32-letter\",\"t0_ns\":1,\"t1_ns\":2}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        struct span span = {.pid = 77};

        assert_int_equal(span_parse(lines[i], strlen(lines[i]), &span), -EBADMSG);
        assert_int_equal(span.pid, 77);
    }
}

static void test_no_file_no_spans(void **state)
{
    struct span span = {.pod = "p", .stage = "cni", .t0_ns = 1, .t1_ns = 1};
    struct span_list list;
    struct error err;
    int fd = -1;

    (void)state;
    assert_int_equal(span_write(-1, &span), 0);
    assert_int_equal(span_end(-1, "p", "cni", 1, 0, true), 0);
    assert_int_equal(span_open("/nowhere/spans", &fd), -ENOENT);
    assert_int_equal(span_read("/nowhere/spans", &list, &err), -ENOENT);
    assert_string_equal(err.text, "read /nowhere/spans: No such file or directory");
}

static void test_span_that_cannot_be_written_whole_is_an_error(void **state)
{
    struct span span = {.pod = "p", .stage = "cni", .t0_ns = 1, .t1_ns = 1};
    autoclose int full = -1;
    char name[200];

    (void)state;
    assert_int_equal(span_open("/dev/full", &full), 0);
    assert_int_equal(span_write(full, &span), -EIO);
    memset(name, 'a', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(span_end(full, name, "cni", 1, 0, true), -ENAMETOOLONG);
}

static void test_the_last_stage_is_the_whole(void **state)
{
    (void)state;
    assert_string_equal(span_stages[span_n_stages - 1].name, "total");
    for (size_t i = 0; i < span_n_stages; i++) {
        assert_true(strlen(span_stages[i].name) < SPAN_STAGE_MAX);
    }
}

/* Every pair, both ways: the order has no ties and no circles. */
static void test_stages_are_in_the_order_they_happen(void **state)
{
    static const char *const order[] = {
        "total",    "total.x",        "netns",     "cni",   "cni.ipam", "cni.ovs",
        "cni.link", "cni.addr",       "cni.other", "cni.z", "cgroup",   "nic",
        "vm",       "limits",         "cnix",      "delta", "del",      "del.sandbox",
        "del.cni",  "del.take-apart", "del.netns", "del.a",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(order); k++) {
            int said = span_stage_compare(order[i], order[k]);

            assert_int_equal((said > 0) - (said < 0), (i > k) - (i < k));
        }
    }
}

#define with_file(test) cmocka_unit_test_setup_teardown(test, make_file, remove_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_file(test_written_span_is_read_back),
        with_file(test_longest_names_fit_a_line),
        with_file(test_bad_lines_are_counted_and_left_out),
        with_file(test_many_spans_are_read),
        cmocka_unit_test(test_what_is_no_span),
        cmocka_unit_test(test_no_file_no_spans),
        cmocka_unit_test(test_span_that_cannot_be_written_whole_is_an_error),
        cmocka_unit_test(test_the_last_stage_is_the_whole),
        cmocka_unit_test(test_stages_are_in_the_order_they_happen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
