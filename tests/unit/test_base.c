/* SPDX-License-Identifier: Apache-2.0 */
/* src/base: errors, strings, numbers, addresses, files, child processes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A directory of the test's own in *state. */
static int make_dir(void **state)
{
    char *dir = strdup("/tmp/sluice-base-XXXXXX");

    *state = dir && mkdtemp(dir) ? dir : NULL;
    return *state ? 0 : -1;
}

static int remove_dir(void **state)
{
    int rc = dir_remove(*state);

    free(*state);
    return rc;
}

/* ---- errors ---- */

static void test_error_carries_number_code_and_text(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(error_set(&err, -EINVAL, "mtu %d", 7), -EINVAL);
    assert_int_equal(err.errnum, -EINVAL);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.text, "mtu 7");
    assert_int_equal(error_sys(&err, -EEXIST, "create %s", "x"), -EEXIST);
    assert_string_equal(err.text, "create x: File exists");
    assert_int_equal(error_code(&err, 11, -EAGAIN, "later"), -EAGAIN);
    assert_int_equal(err.code, 11);
}

static void test_error_wrap_puts_context_in_front(void **state)
{
    struct error err;

    (void)state;
    error_code(&err, 7, -EINVAL, "set MTU 9000");
    assert_int_equal(error_wrap(&err, "pod %s", "p7"), -EINVAL);
    assert_string_equal(err.text, "pod p7: set MTU 9000");
    assert_int_equal(err.code, 7);
}

static void test_error_too_long_is_cut_at_its_end(void **state)
{
    char big[3000];
    struct error err;

    (void)state;
    memset(big, 'a', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    error_sys(&err, -EIO, "%s", big);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    error_wrap(&err, "context");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_true(str_has_prefix(err.text, "context: aaa"));
    error_wrap(&err, "%s", big);
    assert_true(strlen(err.text) < sizeof(err.text));
}

static void test_error_may_have_no_taker(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, -ENOMEM, "x"), -ENOMEM);
    assert_int_equal(error_wrap(NULL, "x"), -EIO);
}

/* ---- cleanup ---- */

static void test_take_leaves_the_local_empty(void **state)
{
    char *p = strdup("x"), *q;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), taken;

    (void)state;
    q = take_ptr(p);
    assert_null(p);
    assert_string_equal(q, "x");
    free(q);
    taken = take_fd(&fd);
    assert_int_equal(fd, -1);
    errno = ENOENT;
    cleanup_fd(&taken);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fcntl(taken, F_GETFD), -1);
}

/* ---- strings and numbers ---- */

static void test_str_copy_takes_whole_strings_only(void **state)
{
    char buf[4] = "xyz";

    (void)state;
    assert_int_equal(str_copy(buf, sizeof(buf), "abc"), 0);
    assert_string_equal(buf, "abc");
    assert_int_equal(str_copy(buf, sizeof(buf), "abcd"), -ENAMETOOLONG);
    assert_string_equal(buf, "");
    assert_int_equal(str_copy(NULL, 0, ""), -ENAMETOOLONG);
}

static void test_str_to_int64_reads_whole_numbers_in_range(void **state)
{
    static const struct {
        const char *text;
        int64_t min, max;
        int rc;
        int64_t value;
    } cases[] = {
        {"0", 0, 0, 0, 0},
        {"-1", -1, 1, 0, -1},
        {"9223372036854775807", 0, INT64_MAX, 0, INT64_MAX},
        {"-9223372036854775808", INT64_MIN, 0, 0, INT64_MIN},
        {"9223372036854775808", 0, INT64_MAX, -ERANGE, 0},
        {"11", 0, 10, -ERANGE, 0},
        {"-1", 0, 10, -ERANGE, 0},
        {"", 0, 10, -EINVAL, 0},
        {"-", -10, 10, -EINVAL, 0},
        {"+1", 0, 10, -EINVAL, 0},
        {" 1", 0, 10, -EINVAL, 0},
        {"1 ", 0, 10, -EINVAL, 0},
        {"1x", 0, 10, -EINVAL, 0},
        {"- 1", -10, 10, -EINVAL, 0},
        {"0x1", 0, 10, -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t value = 77;
        int rc = str_to_int64(cases[i].text, cases[i].min, cases[i].max, &value);

        assert_int_equal(rc, cases[i].rc);
        assert_true(value == (rc < 0 ? 77 : cases[i].value));
    }
}

static void test_hash64_is_fnv1a_and_text_is_13_letters(void **state)
{
    char one[14], two[14];

    (void)state;
    assert_true(hash64(HASH64_START, "", 0) == HASH64_START);
    assert_true(hash64(HASH64_START, "a", 1) == 0xaf63dc4c8601ec8cULL); /* the FNV page's */
    assert_true(hash64_str(hash64_str(HASH64_START, "ab"), "c") !=
                hash64_str(hash64_str(HASH64_START, "a"), "bc"));
    hash64_text(hash64_str(HASH64_START, "pod-1"), one);
    hash64_text(hash64_str(HASH64_START, "pod-2"), two);
    assert_int_equal(strlen(one), 13);
    assert_int_equal(strspn(one, "0123456789abcdefghijklmnopqrstuv"), 13);
    assert_string_not_equal(one, two);
}

static void test_json_quote_escapes(void **state)
{
    static const struct {
        const char *text, *quoted;
    } cases[] = {
        {"", "\"\""},
        {"eth0", "\"eth0\""},
        {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
        {"\n\x1f\x7f", "\"\\u000a\\u001f\x7f\""},
        {"\xc3\xa9 \xf0\x9f\x98\x80", "\"\xc3\xa9 \xf0\x9f\x98\x80\""},
        /* What is not UTF-8 would make the whole line no JSON. */
        {"a\xff", "\"a\\ufffd\""},
        {"\xc3", "\"\\ufffd\""},
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
    };
    char buf[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int n = json_quote(buf, sizeof(buf), cases[i].text);

        assert_int_equal(n, strlen(cases[i].quoted));
        assert_string_equal(buf, cases[i].quoted);
    }
}

static void test_json_quote_uses_the_room_it_has(void **state)
{
    char buf[16];

    (void)state;
    assert_int_equal(json_quote(buf, 6, "abc"), 5);
    assert_string_equal(buf, "\"abc\"");
    assert_int_equal(json_quote(buf, 5, "abc"), -ENAMETOOLONG);
    assert_int_equal(json_quote(buf, 9, "\n"), 8);
    assert_int_equal(json_quote(buf, 8, "\n"), -ENAMETOOLONG);
    assert_int_equal(json_quote(buf, 2, ""), -ENAMETOOLONG);
}

static void test_str_make_utf8_leaves_good_text_alone(void **state)
{
    char good[] = "caf\xc3\xa9", bad[] = "a\xff\xc3", cut[] = "\xf0\x9f\x98";

    (void)state;
    str_make_utf8(good);
    assert_string_equal(good, "caf\xc3\xa9");
    str_make_utf8(bad);
    assert_string_equal(bad, "a??");
    str_make_utf8(cut);
    assert_string_equal(cut, "???");
}

/* ---- clocks ---- */

static void test_clock_left_is_rounded_up_and_never_negative(void **state)
{
    (void)state;
    assert_int_equal(clock_left_ms(0), 0);
    assert_int_equal(clock_left_ms(clock_ns() - 1), 0);
    assert_in_range(clock_left_ms(clock_ns() + NSEC_PER_SEC), 900, 1000);
    assert_int_equal(clock_left_ms(INT64_MAX), INT_MAX);
}

static void test_clock_sleep_lasts(void **state)
{
    int64_t t0 = clock_ns();

    (void)state;
    clock_sleep_ns(3 * NSEC_PER_MSEC);
    assert_true(clock_ns() - t0 >= 3 * NSEC_PER_MSEC);
    clock_sleep_ns(0);
    clock_sleep_ns(-1);
}

/* ---- IP addresses ---- */

static void test_ip_parse_and_format(void **state)
{
    static const struct {
        const char *text, *printed; /* printed NULL: refused */
    } cases[] = {
        {"10.1.2.3", "10.1.2.3/32"},
        {"10.1.2.3/24", "10.1.2.3/24"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"fd00::1", "fd00::1/128"},
        {"FD00:0::1/64", "fd00::1/64"},
        {"::/0", "::/0"},
        {"", NULL},
        {"/24", NULL},
        {"10.1.2", NULL},
        {"10.1.2.3/", NULL},
        {"10.1.2.3/33", NULL},
        {"10.1.2.3/-1", NULL},
        {"10.1.2.3/2 ", NULL},
        {"fd00::1/129", NULL},
        {" 10.1.2.3", NULL},
        {"10.1.2.3/24/24", NULL},
        {"10.1.2.256", NULL},
        {"fe80::1%eth0", NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa", NULL},
    };
    char buf[IP_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ip_addr ip = {.family = 1};
        int rc = ip_parse(cases[i].text, &ip);

        if (cases[i].printed) {
            assert_int_equal(rc, 0);
            assert_string_equal(ip_format(&ip, true, buf), cases[i].printed);
        } else {
            assert_int_equal(rc, -EINVAL);
            assert_int_equal(ip.family, 1);
        }
    }
    assert_string_equal(ip_format(&(struct ip_addr){0}, true, buf), "");
}

static struct ip_addr ip_of(const char *text)
{
    struct ip_addr ip;

    assert_int_equal(ip_parse(text, &ip), 0);
    return ip;
}

static void test_ip_subnets(void **state)
{
    static const struct {
        const char *text, *network, *last;
    } cases[] = {
        {"10.1.2.3/24", "10.1.2.0/24", "10.1.2.255/24"},
        {"10.1.2.3/9", "10.0.0.0/9", "10.127.255.255/9"},
        {"10.1.2.3/32", "10.1.2.3/32", "10.1.2.3/32"},
        {"10.1.2.3/0", "0.0.0.0/0", "255.255.255.255/0"},
        {"fd00::1:2/127", "fd00::1:2/127", "fd00::1:3/127"},
        {"fd00::1/8", "fd00::/8", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/8"},
    };
    char buf[IP_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ip_addr ip = ip_of(cases[i].text), network = ip_network(&ip), last = ip_last(&ip);

        assert_string_equal(ip_format(&network, true, buf), cases[i].network);
        assert_string_equal(ip_format(&last, true, buf), cases[i].last);
        assert_true(ip_in_subnet(&ip, &network));
        assert_true(ip_in_subnet(&last, &ip));
    }
}

static void test_ip_compare(void **state)
{
    struct ip_addr a = ip_of("10.0.0.9"), b = ip_of("10.0.0.10/8"), six = ip_of("a00:9::");

    (void)state;
    assert_true(ip_compare(&a, &b) < 0 && ip_compare(&b, &a) > 0);
    assert_true(ip_same(&b, &(struct ip_addr){AF_INET, 32, {10, 0, 0, 10}}));
    assert_false(ip_same(&a, &six));
    assert_true(ip_compare(&a, &six) == -ip_compare(&six, &a));
    assert_false(ip_in_subnet(&six, &b));
}

static void test_ip_plus_carries_and_wraps(void **state)
{
    static const struct {
        const char *from;
        int64_t n;
        const char *to;
    } cases[] = {
        {"10.0.0.255", 1, "10.0.1.0"},
        {"10.0.1.0", -1, "10.0.0.255"},
        {"10.0.0.1", 65536, "10.1.0.1"},
        {"255.255.255.255", 1, "0.0.0.0"},
        {"0.0.0.0", -1, "255.255.255.255"},
        {"fd00::ffff:ffff:ffff:ffff", 1, "fd00:0:0:1::"},
        {"::", -1, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        {"::ff", INT64_MAX, "::8000:0:0:fe"},
        {"::8000:0:0:0", INT64_MIN, "::"},
    };
    char buf[IP_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ip_addr from = ip_of(cases[i].from), to = ip_plus(&from, cases[i].n);

        assert_string_equal(ip_format(&to, false, buf), cases[i].to);
    }
}

/* ---- files ---- */

static void test_file_read_has_a_limit(void **state)
{
    autofree char *path = str_printf("%s/f", (char *)*state);
    autofree char *data = NULL;
    autofree char *none = NULL;
    size_t len;

    assert_int_equal(file_write_atomic(path, "0123456789", 10, 0600), 0);
    assert_int_equal(file_read(path, 10, &data, &len), 0);
    assert_int_equal(len, 10);
    assert_string_equal(data, "0123456789");
    assert_int_equal(file_read(path, 9, &none, &len), -EFBIG);
    assert_int_equal(file_read(*state, 9, &none, &len), -EISDIR);
    assert_int_equal(file_read("/nowhere/f", 9, &none, &len), -ENOENT);
    assert_null(none);
}

static void test_file_write_atomic_replaces_and_leaves_nothing_else(void **state)
{
    autofree char *path = str_printf("%s/f", (char *)*state);
    autofree char *in_file = str_printf("%s/f/g", (char *)*state);
    autofree char *data = NULL;
    struct stat st;

    assert_int_equal(file_write_atomic(path, "old", 3, 0600), 0);
    assert_int_equal(file_write_atomic(path, "", 0, 0600), 0);
    assert_int_equal(file_read(path, 10, &data, NULL), 0);
    assert_string_equal(data, "");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_write_atomic(in_file, "x", 1, 0600), -ENOTDIR);
    /* The target is a directory: the rename fails and its source goes. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(file_write_atomic(path, "x", 1, 0600), -EISDIR);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(*state), 0);
}

static void test_dir_make_and_remove_go_deep(void **state)
{
    autofree char *deep = str_printf("%s/a//b/c/", (char *)*state);
    autofree char *top = str_printf("%s/a", (char *)*state);
    autofree char *file = str_printf("%s/a/f", (char *)*state);
    autofree char *below = str_printf("%s/a/f/x/y", (char *)*state);

    assert_int_equal(dir_make(deep, 0700), 0);
    assert_int_equal(dir_make(deep, 0700), 0);
    assert_int_equal(file_write_atomic(file, "x", 1, 0600), 0);
    assert_int_equal(dir_make(file, 0700), -ENOTDIR);
    assert_int_equal(dir_make(below, 0700), -ENOTDIR);
    assert_int_equal(dir_remove(top), 0);
    assert_int_equal(access(top, F_OK), -1);
    assert_int_equal(dir_remove(top), 0);
}

static void test_dir_remove_does_not_follow_links(void **state)
{
    autofree char *keep = str_printf("%s/keep", (char *)*state);
    autofree char *gone = str_printf("%s/gone", (char *)*state);
    autofree char *link = str_printf("%s/gone/link", (char *)*state);

    assert_int_equal(dir_make(keep, 0700) | dir_make(gone, 0700), 0);
    assert_int_equal(symlink(keep, link), 0);
    assert_int_equal(dir_remove(gone), 0);
    assert_int_equal(access(keep, F_OK), 0);
}

static void test_file_lock_goes_with_its_descriptor(void **state)
{
    autofree char *path = str_printf("%s/lock", (char *)*state);
    autoclose int other = -1;
    int fd = -1;

    assert_int_equal(file_lock(path, false, &fd), 0);
    other = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    close(fd);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
}

static void test_boot_id_is_a_uuid(void **state)
{
    char id[37];

    (void)state;
    assert_int_equal(boot_id(id), 0);
    assert_int_equal(strlen(id), 36);
    assert_int_equal(strspn(id, "0123456789abcdef-"), 36);
}

static void test_instance_is_given_or_from_the_environment_or_default(void **state)
{
    (void)state;
    setenv("SLUICE_INSTANCE", "/run/b", 1);
    assert_string_equal(instance_dir("/run/a"), "/run/a");
    assert_string_equal(instance_dir(""), "/run/b");
    assert_string_equal(instance_dir(NULL), "/run/b");
    setenv("SLUICE_INSTANCE", "", 1);
    assert_string_equal(instance_dir(NULL), INSTANCE_DEFAULT_DIR);
    unsetenv("SLUICE_INSTANCE");
}

/* ---- child processes ---- */

static int run_shell(const char *script, const char *input, size_t input_len, int64_t ms,
                     struct proc_result *ret)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    struct proc_spec spec = {.argv = argv,
                             .input = input,
                             .input_len = input_len,
                             .output_max = 1 << 20,
                             .deadline_ns = ms ? clock_ns() + ms * NSEC_PER_MSEC : 0};

    return proc_run(&spec, ret);
}

static void test_proc_gives_output_errors_and_status(void **state)
{
    struct proc_result result;

    (void)state;
    assert_int_equal(run_shell("cat; echo no >&2; exit 3", "in", 2, 0, &result), 0);
    assert_string_equal(result.out, "in");
    assert_string_equal(result.errout, "no\n");
    assert_int_equal(WEXITSTATUS(result.status), 3);
    assert_false(proc_ok(&result));
    proc_result_clear(&result);
    assert_int_equal(run_shell("true", NULL, 0, 0, &result), 0);
    assert_true(proc_ok(&result));
    assert_string_equal(result.out, "");
    proc_result_clear(&result);
}

static void test_proc_takes_more_input_than_a_pipe_holds(void **state)
{
    size_t len = 300000;
    autofree char *input = malloc(len);
    struct proc_result result;

    (void)state;
    memset(input, 'x', len);
    assert_int_equal(run_shell("sleep 0.05; cat", input, len, 0, &result), 0);
    assert_int_equal(result.out_len, len);
    proc_result_clear(&result);
}

static void test_proc_that_reads_nothing_is_no_error(void **state)
{
    struct proc_result result;

    (void)state;
    assert_int_equal(run_shell("exit 0", "in", 2, 0, &result), 0);
    assert_true(proc_ok(&result));
    proc_result_clear(&result);
}

static void test_proc_with_too_much_output_is_killed(void **state)
{
    struct proc_result result;

    (void)state;
    assert_int_equal(run_shell("cat /dev/zero", NULL, 0, 0, &result), -EFBIG);
    assert_null(result.out);
}

static void assert_killed_in_time(const char *script)
{
    struct proc_result result;
    int64_t t0 = clock_ns();

    assert_int_equal(run_shell(script, NULL, 0, 50, &result), -ETIMEDOUT);
    assert_true(clock_ns() - t0 < 5 * NSEC_PER_SEC);
    assert_int_equal(kill(result.pid, 0), -1);
}

static void test_proc_past_its_deadline_is_killed(void **state)
{
    (void)state;
    assert_killed_in_time("exec sleep 10");
}

static void test_proc_that_closed_its_output_has_a_deadline_too(void **state)
{
    (void)state;
    assert_killed_in_time("exec sleep 10 >/dev/null 2>&1");
}

static void test_proc_not_to_be_started(void **state)
{
    static const char *const argv[] = {"/nowhere/program", NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc_result result;

    (void)state;
    assert_int_equal(proc_run(&spec, &result), -ENOENT);
    assert_null(result.out);
}

static void test_proc_gets_its_environment_and_no_other_descriptors(void **state)
{
    static const char *const argv[] = {"/bin/sh", "-c", "echo $A; ls /proc/self/fd | wc -l", NULL};
    static const char *const envp[] = {"A=b", "PATH=/bin:/usr/bin", NULL};
    struct proc_spec spec = {.argv = argv, .envp = envp, .output_max = 4096};
    autoclose int open_in_parent = open("/proc/self/comm", O_RDONLY);
    struct proc_result result;

    (void)state;
    assert_true(open_in_parent >= 0);
    assert_int_equal(proc_run(&spec, &result), 0);
    assert_string_equal(result.out, "b\n4\n"); /* 0, 1, 2, and ls's own */
    proc_result_clear(&result);
}

static void test_proc_has_cpu_until_it_is_gone(void **state)
{
    static const char *const argv[] = {"/bin/sleep", "10", NULL};
    int64_t cpu = -1;
    pid_t pid;

    (void)state;
    assert_int_equal(proc_start(argv, NULL, -1, &pid), 0);
    assert_int_equal(proc_cpu_ns(pid, &cpu), 0);
    assert_true(cpu >= 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(proc_cpu_ns(pid, &cpu), -ESRCH);
}

#define in_dir(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_carries_number_code_and_text),
        cmocka_unit_test(test_error_wrap_puts_context_in_front),
        cmocka_unit_test(test_error_too_long_is_cut_at_its_end),
        cmocka_unit_test(test_error_may_have_no_taker),
        cmocka_unit_test(test_take_leaves_the_local_empty),
        cmocka_unit_test(test_str_copy_takes_whole_strings_only),
        cmocka_unit_test(test_str_to_int64_reads_whole_numbers_in_range),
        cmocka_unit_test(test_hash64_is_fnv1a_and_text_is_13_letters),
        cmocka_unit_test(test_json_quote_escapes),
        cmocka_unit_test(test_json_quote_uses_the_room_it_has),
        cmocka_unit_test(test_str_make_utf8_leaves_good_text_alone),
        cmocka_unit_test(test_clock_left_is_rounded_up_and_never_negative),
        cmocka_unit_test(test_clock_sleep_lasts),
        cmocka_unit_test(test_ip_parse_and_format),
        cmocka_unit_test(test_ip_subnets),
        cmocka_unit_test(test_ip_compare),
        cmocka_unit_test(test_ip_plus_carries_and_wraps),
        in_dir(test_file_read_has_a_limit),
        cmocka_unit_test_setup_teardown(test_file_write_atomic_replaces_and_leaves_nothing_else,
                                        make_dir, remove_dir),
        in_dir(test_dir_make_and_remove_go_deep),
        in_dir(test_dir_remove_does_not_follow_links),
        in_dir(test_file_lock_goes_with_its_descriptor),
        cmocka_unit_test(test_boot_id_is_a_uuid),
        cmocka_unit_test(test_instance_is_given_or_from_the_environment_or_default),
        cmocka_unit_test(test_proc_gives_output_errors_and_status),
        cmocka_unit_test(test_proc_takes_more_input_than_a_pipe_holds),
        cmocka_unit_test(test_proc_that_reads_nothing_is_no_error),
        cmocka_unit_test(test_proc_with_too_much_output_is_killed),
        cmocka_unit_test(test_proc_past_its_deadline_is_killed),
        cmocka_unit_test(test_proc_that_closed_its_output_has_a_deadline_too),
        cmocka_unit_test(test_proc_not_to_be_started),
        cmocka_unit_test(test_proc_gets_its_environment_and_no_other_descriptors),
        cmocka_unit_test(test_proc_has_cpu_until_it_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
