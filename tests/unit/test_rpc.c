/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between two ends of a socket, what a broken or hostile peer may send, and the client. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rpc/rpc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER "{\"id\":1,\"method\":\"x\",\"params\":{}}"
#define RESULT "{\"id\":1,\"result\":{}}"
#define ALL    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static char buffer[RPC_INLINE_MAX];

/* ---- every test begins with a pair of sockets and leaves no descriptor ---- */

struct pair {
    int ours, theirs; /* -1: closed by the test */
    int n_fds;        /* open before */
    char dir[64];
};

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static int set_up(void **state)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    int ends[2];

    assert_non_null(pair);
    pair->n_fds = count_fds();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pair->ours = ends[0];
    pair->theirs = ends[1];
    strcpy(pair->dir, "/tmp/sluice-rpc-XXXXXX");
    assert_non_null(mkdtemp(pair->dir));
    *state = pair;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *pair = *state;

    if (pair->ours >= 0) {
        close(pair->ours);
    }
    if (pair->theirs >= 0) {
        close(pair->theirs);
    }
    dir_remove(pair->dir);
    assert_int_equal(count_fds(), pair->n_fds);
    free(pair);
    return 0;
}

static void drop_theirs(struct pair *pair)
{
    close(take_fd(&pair->theirs));
}

/* ---- helpers ---- */

static void send_raw(int fd, const void *data, size_t len, const int *fds, size_t n_fds)
{
    struct iovec iov = {(void *)data, len};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(64 * sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds) {
        struct cmsghdr *cmsg;

        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

static void send_text(int fd, const char *header, const char *body)
{
    struct rpc_part part = {.header = header, .body = body, .body_len = strlen(body)};

    assert_int_equal(rpc_send(fd, &part), 0);
}

static void expect_text(int fd, const char *header, const char *body)
{
    struct rpc_message message;

    assert_int_equal(rpc_receive(fd, buffer, &message), 1);
    assert_string_equal(message.header, header);
    assert_int_equal(message.header_len, strlen(header));
    assert_string_equal(message.body, body);
    assert_int_equal(message.body_len, strlen(body));
    assert_int_equal(message.n_fds, 0);
    rpc_message_clear(&message);
}

/* The next message is refused, leaves nothing open, and the one behind it comes through. */
static void expect_refused(struct pair *pair, int rc)
{
    struct rpc_message message;
    int before = count_fds();

    assert_int_equal(rpc_receive(pair->theirs, buffer, &message), rc);
    assert_int_equal(count_fds(), before);
    send_text(pair->ours, HEADER, "next");
    expect_text(pair->theirs, HEADER, "next");
}

static int make_memfd(off_t size, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void same_file(int a, int b)
{
    struct stat sa, sb;

    assert_int_equal(fstat(a, &sa), 0);
    assert_int_equal(fstat(b, &sb), 0);
    assert_true(sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
}

/* ---- messages ---- */

static void check_body(struct pair *pair, size_t size, char *room)
{
    struct rpc_part part = {.header = HEADER, .body_len = size};
    size_t whole = strlen(HEADER) + (size > 0) + size;
    struct rpc_message message;
    autofree char *body = malloc(size + 1);
    char peek;

    assert_non_null(body);
    for (size_t i = 0; i < size; i++) {
        body[i] = (char)(i * 7 + i / 251);
    }
    part.body = body;
    assert_int_equal(rpc_send(pair->ours, &part), 0);
    if (whole > RPC_INLINE_MAX) {
        whole = strlen(HEADER) + 1; /* the body goes by memfd */
    }
    assert_int_equal(recv(pair->theirs, &peek, 1, MSG_PEEK | MSG_TRUNC), whole);
    assert_int_equal(rpc_receive(pair->theirs, room, &message), 1);
    assert_string_equal(message.header, HEADER);
    assert_int_equal(message.body_len, size);
    assert_memory_equal(message.body, body, size);
    assert_int_equal(message.body[size], '\0');
    assert_int_equal(message.n_fds, 0);
    rpc_message_clear(&message);
}

static void test_bodies_arrive_whole(void **state)
{
    static const size_t inline_max = RPC_INLINE_MAX - sizeof(HEADER);
    static const size_t sizes[] = {
        0,     1,     inline_max - 1, inline_max,       inline_max + 1,
        65535, 65536, 65537,          RPC_BODY_MAX - 1, RPC_BODY_MAX,
    };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        check_body(*state, sizes[i], buffer);
        check_body(*state, sizes[i], NULL);
    }
}

static void test_too_big_is_not_sent(void **state)
{
    struct pair *pair = *state;
    autofree char *header = malloc(RPC_INLINE_MAX + 2);
    autofree char *body = calloc(1, RPC_BODY_MAX + 1);
    int fds[RPC_FDS_MAX + 1] = {0};
    struct rpc_part part = {.header = header};
    struct rpc_message message;

    assert_non_null(header);
    assert_non_null(body);
    memset(header, '{', RPC_INLINE_MAX + 1);
    header[RPC_INLINE_MAX + 1] = '\0';
    assert_int_equal(rpc_send(pair->ours, &part), -EMSGSIZE);
    header[RPC_INLINE_MAX] = '\0'; /* just fits, but only without a body */
    part.body = body;
    part.body_len = 1;
    assert_int_equal(rpc_send(pair->ours, &part), -EMSGSIZE);
    part.body_len = 0;
    assert_int_equal(rpc_send(pair->ours, &part), 0);
    assert_int_equal(rpc_receive(pair->theirs, buffer, &message), 1);
    assert_int_equal(message.header_len, RPC_INLINE_MAX);
    assert_string_equal(message.body, "");
    rpc_message_clear(&message);

    part = (struct rpc_part){.header = HEADER, .body = body, .body_len = RPC_BODY_MAX + 1};
    assert_int_equal(rpc_send(pair->ours, &part), -EMSGSIZE);
    part = (struct rpc_part){.header = HEADER, .fds = fds, .n_fds = RPC_FDS_MAX + 1};
    assert_int_equal(rpc_send(pair->ours, &part), -EMSGSIZE);
    send_text(pair->ours, HEADER, "");
    expect_text(pair->theirs, HEADER, ""); /* nothing of the others came */
}

static void check_fds(struct pair *pair, size_t n_fds, size_t body_len)
{
    autofree char *body = calloc(1, body_len + 1);
    struct rpc_message message;
    int fds[RPC_FDS_MAX];
    struct rpc_part part = {
        .header = HEADER, .body = body, .body_len = body_len, .fds = fds, .n_fds = n_fds};

    for (size_t i = 0; i < n_fds; i++) {
        fds[i] = make_memfd((off_t)i, 0);
    }
    assert_int_equal(rpc_send(pair->ours, &part), 0);
    assert_int_equal(rpc_receive(pair->theirs, buffer, &message), 1);
    assert_int_equal(message.body_len, body_len);
    assert_int_equal(message.n_fds, n_fds);
    for (size_t i = 0; i < n_fds; i++) {
        same_file(message.fds[i], fds[i]);
        assert_int_equal(fcntl(message.fds[i], F_GETFD), FD_CLOEXEC);
        close(fds[i]);
    }
    rpc_message_clear(&message);
}

static void test_descriptors_arrive_in_order(void **state)
{
    for (size_t n = 0; n <= RPC_FDS_MAX; n++) {
        check_fds(*state, n, 0);
        check_fds(*state, n, 100);
        check_fds(*state, n, RPC_INLINE_MAX); /* the body's own comes on top */
    }
}

static void test_a_memfd_body_is_read_from_its_start(void **state)
{
    struct pair *pair = *state;
    int fd;

    assert_int_equal(memfd_sealed("body", 4, &fd), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 4);
    send_raw(pair->ours, "{}\1", 3, &fd, 1);
    close(fd);
    expect_text(pair->theirs, "{}", "body");
}

/* ---- what a broken or hostile peer sends ---- */

static void test_datagrams_that_are_no_message_are_refused(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } cases[] = {
        {"", 0},    {"\0", 1},   {"\1", 1},   {"[]", 2},
        {" {}", 3}, {"x\0{", 3}, {"{}\1", 3}, {"{}\1x", 4},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pair *pair = *state;

        send_raw(pair->ours, cases[i].data, cases[i].len, NULL, 0);
        expect_refused(pair, -EBADMSG);
        send_raw(pair->ours, cases[i].data, cases[i].len, &pair->ours, 1);
        expect_refused(pair, -EBADMSG);
    }
}

static void test_a_datagram_over_64_kib_is_refused(void **state)
{
    struct pair *pair = *state;
    autofree char *data = malloc(RPC_INLINE_MAX + 1);

    memset(data, '{', RPC_INLINE_MAX + 1);
    send_raw(pair->ours, data, RPC_INLINE_MAX + 1, &pair->ours, 1);
    expect_refused(pair, -EMSGSIZE);
}

static void test_too_many_descriptors_are_closed(void **state)
{
    static const size_t counts[] = {RPC_FDS_MAX + 1, RPC_FDS_MAX + 2, RPC_FDS_MAX + 3, 64};
    struct pair *pair = *state;
    int fds[64];

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = pair->ours;
    }
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        send_raw(pair->ours, "{}", 2, fds, counts[i]);
        expect_refused(pair, -EMSGSIZE);
    }
    assert_int_equal(memfd_sealed("body", 4, &fds[RPC_FDS_MAX + 1]), 0);
    send_raw(pair->ours, "{}\1", 3, fds, RPC_FDS_MAX + 2);
    expect_refused(pair, -EMSGSIZE);
    close(fds[RPC_FDS_MAX + 1]);
}

static void send_body_fd(struct pair *pair, int fd)
{
    int fds[] = {pair->ours, fd};

    send_raw(pair->ours, "{}\1", 3, fds, 2);
    close(fd);
}

static void test_a_body_that_could_change_is_refused(void **state)
{
    struct pair *pair = *state;
    int ends[2];

    send_body_fd(pair, make_memfd(10, 0));
    expect_refused(pair, -EBADMSG);
    send_body_fd(pair, make_memfd(10, ALL & ~F_SEAL_SHRINK));
    expect_refused(pair, -EBADMSG);
    send_body_fd(pair, make_memfd(10, ALL & ~F_SEAL_GROW));
    expect_refused(pair, -EBADMSG);
    send_body_fd(pair, make_memfd(10, ALL & ~F_SEAL_WRITE));
    expect_refused(pair, -EBADMSG);
    send_body_fd(pair, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    expect_refused(pair, -EBADMSG);
    send_body_fd(pair, open("/dev/zero", O_RDONLY | O_CLOEXEC));
    expect_refused(pair, -EBADMSG);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    send_body_fd(pair, ends[0]); /* reading it would never end */
    expect_refused(pair, -EBADMSG);
    close(ends[1]);
}

static void test_a_body_of_a_wrong_size_is_refused(void **state)
{
    struct pair *pair = *state;

    send_body_fd(pair, make_memfd(0, ALL));
    expect_refused(pair, -EBADMSG);
    send_body_fd(pair, make_memfd(RPC_BODY_MAX + 1, ALL));
    expect_refused(pair, -EMSGSIZE);
    send_body_fd(pair, make_memfd((off_t)1 << 40, ALL));
    expect_refused(pair, -EMSGSIZE);
}

static void test_no_room_for_descriptors_loses_that_message_only(void **state)
{
    struct pair *pair = *state;
    struct rlimit limit, low;
    struct rpc_message message;
    int next = dup(pair->ours);

    close(next);
    send_raw(pair->ours, "{}", 2, &pair->ours, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = (struct rlimit){(rlim_t)next, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(rpc_receive(pair->theirs, buffer, &message), -EMSGSIZE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    send_text(pair->ours, HEADER, "next");
    expect_text(pair->theirs, HEADER, "next");
}

/* ---- ends and limits of a connection ---- */

static void test_a_message_before_the_end_is_received(void **state)
{
    struct pair *pair = *state;
    struct rpc_message message;

    send_text(pair->theirs, HEADER, "last");
    drop_theirs(pair);
    expect_text(pair->ours, HEADER, "last");
    assert_int_equal(rpc_receive(pair->ours, buffer, &message), 0);
    assert_int_equal(rpc_receive(pair->ours, NULL, &message), 0);
}

static void test_a_peer_that_died_with_our_message_unread_is_closed(void **state)
{
    struct pair *pair = *state;
    struct rpc_part part = {.header = HEADER};
    struct rpc_message message;

    send_text(pair->ours, HEADER, "unread");
    drop_theirs(pair);
    assert_int_equal(rpc_receive(pair->ours, buffer, &message), 0);
    assert_int_equal(rpc_send(pair->ours, &part), -EPIPE);
}

static void test_sending_to_nobody_is_epipe(void **state)
{
    struct pair *pair = *state;
    struct rpc_part part = {.header = HEADER};

    send_text(pair->ours, HEADER, "unread"); /* then the first error is ECONNRESET */
    drop_theirs(pair);
    assert_int_equal(rpc_send(pair->ours, &part), -EPIPE);
    assert_int_equal(rpc_send(pair->ours, &part), -EPIPE);
}

static void test_a_non_blocking_socket_says_eagain(void **state)
{
    struct pair *pair = *state;
    struct rpc_part part = {.header = HEADER, .body = buffer, .body_len = 60000};
    struct rpc_message message;
    int sent = 0, rc;

    assert_int_equal(fcntl(pair->ours, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fcntl(pair->theirs, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(rpc_receive(pair->theirs, NULL, &message), -EAGAIN);
    while ((rc = rpc_send(pair->ours, &part)) == 0) {
        assert_true(++sent < 10000);
    }
    assert_int_equal(rc, -EAGAIN);
    while ((rc = rpc_receive(pair->theirs, NULL, &message)) == 1) {
        assert_int_equal(message.body_len, 60000);
        rpc_message_clear(&message);
        sent--;
    }
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(sent, 0);
}

/* ---- the client ---- */

static int listen_at(const char *instance, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    assert_int_equal(rpc_socket_path(instance, address.sun_path, sizeof(address.sun_path)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static int64_t soon(void)
{
    return clock_ns() + 50 * NSEC_PER_MSEC;
}

static int64_t much_later(void)
{
    return clock_ns() + 60 * NSEC_PER_SEC;
}

static void test_a_path_has_107_bytes(void **state)
{
    char instance[200], path[200];
    size_t longest = 107 - strlen("/" RPC_SOCKET_NAME);

    (void)state;
    memset(instance, '/', sizeof(instance));
    instance[longest + 1] = '\0';
    assert_int_equal(rpc_socket_path(instance, path, sizeof(path)), -ENAMETOOLONG);
    instance[longest] = '\0';
    assert_int_equal(rpc_socket_path(instance, path, sizeof(path)), 0);
    assert_int_equal(strlen(path), 107);
    assert_int_equal(rpc_socket_path(instance, path, 107), -ENAMETOOLONG);
    assert_int_equal(rpc_socket_path("/i", path, sizeof(path)), 0);
    assert_string_equal(path, "/i/sluiced.sock");
}

static void test_no_agent_is_connection_refused(void **state)
{
    struct pair *pair = *state;
    int fd;

    assert_int_equal(rpc_connect(pair->dir, much_later(), &fd), -ECONNREFUSED);
    assert_int_equal(rpc_connect("/nowhere/at/all", much_later(), &fd), -ECONNREFUSED);
    close(listen_at(pair->dir, 1)); /* one that died leaves its socket behind */
    assert_int_equal(rpc_connect(pair->dir, much_later(), &fd), -ECONNREFUSED);
}

static void test_a_full_backlog_is_waited_for_until_the_deadline(void **state)
{
    struct pair *pair = *state;
    int listener = listen_at(pair->dir, 0), first, second, rc;
    int64_t deadline_ns;

    assert_int_equal(rpc_connect(pair->dir, much_later(), &first), 0);
    deadline_ns = soon();
    assert_int_equal(rpc_connect(pair->dir, deadline_ns, &second), -ETIMEDOUT);
    assert_true(clock_ns() >= deadline_ns);
    close(first);
    rc = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(rc >= 0);
    close(rc);
    assert_int_equal(rpc_connect(pair->dir, much_later(), &second), 0);
    assert_int_equal(fcntl(second, F_GETFD), FD_CLOEXEC);
    close(second);
    close(listener);
}

static void test_a_stranger_at_the_socket_is_refused(void **state)
{
    struct pair *pair = *state;
    int listener, fd;

    if (geteuid() != 0) {
        print_message("needs root to be somebody else\n");
        skip();
    }
    assert_int_equal(chmod(pair->dir, 0777), 0);
    assert_int_equal(seteuid(65534), 0); /* who listened counts */
    listener = listen_at(pair->dir, 1);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(rpc_connect(pair->dir, much_later(), &fd), -EPERM);
    close(listener);
}

static int call(struct pair *pair, int64_t deadline_ns, struct rpc_message *ret)
{
    struct rpc_part request = {.header = HEADER, .body = "question", .body_len = 8};

    return rpc_call(pair->ours, &request, deadline_ns, ret);
}

static void test_a_call_is_answered(void **state)
{
    static const char error[] = "{\"id\":1,\"error\":{\"code\":11,\"msg\":\"no\"}}";
    struct pair *pair = *state;
    struct rpc_message answer;

    send_text(pair->theirs, RESULT, "yes");
    assert_int_equal(call(pair, much_later(), &answer), 0);
    assert_true(rpc_reply_ok(&answer));
    assert_string_equal(answer.body, "yes");
    rpc_message_clear(&answer);
    expect_text(pair->theirs, HEADER, "question");

    send_text(pair->theirs, error, "");
    assert_int_equal(call(pair, much_later(), &answer), 0);
    assert_false(rpc_reply_ok(&answer));
    assert_string_equal(answer.header, error);
    rpc_message_clear(&answer);
}

static void do_nothing(int signal)
{
    (void)signal;
}

static void test_a_call_ends_at_its_deadline_whatever_signals_come(void **state)
{
    struct itimerval every_ms = {{0, 1000}, {0, 1000}}, never = {0};
    struct sigaction act = {.sa_handler = do_nothing}, old; /* no SA_RESTART */
    struct pair *pair = *state;
    struct rpc_message answer;
    int64_t deadline_ns = soon();

    assert_int_equal(call(pair, clock_ns(), &answer), -ETIMEDOUT);
    assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every_ms, NULL), 0);
    assert_int_equal(call(pair, deadline_ns, &answer), -ETIMEDOUT);
    assert_true(clock_ns() >= deadline_ns);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
}

static void test_a_call_to_one_that_does_not_read_ends_at_its_deadline(void **state)
{
    struct pair *pair = *state;
    struct rpc_part part = {.header = HEADER, .body = buffer, .body_len = 60000};
    struct rpc_message answer;
    int64_t deadline_ns;

    assert_int_equal(fcntl(pair->ours, F_SETFL, O_NONBLOCK), 0);
    while (rpc_send(pair->ours, &part) == 0) {
    }
    assert_int_equal(fcntl(pair->ours, F_SETFL, 0), 0);
    deadline_ns = soon();
    assert_int_equal(rpc_call(pair->ours, &part, deadline_ns, &answer), -ETIMEDOUT);
    assert_true(clock_ns() >= deadline_ns);
}

static void test_a_call_knows_when_nothing_was_sent(void **state)
{
    struct pair *pair = *state;
    struct rpc_message answer;

    drop_theirs(pair);
    assert_int_equal(call(pair, much_later(), &answer), -EPIPE);
}

static void test_a_call_knows_when_the_answer_will_never_come(void **state)
{
    struct pair *pair = *state;
    struct rpc_message answer;

    assert_int_equal(shutdown(pair->theirs, SHUT_WR), 0);
    assert_int_equal(call(pair, much_later(), &answer), -ECONNRESET);
}

static void test_what_is_no_answer_is_a_bad_message(void **state)
{
    static const char *const headers[] = {"{}", "{\"id\":2,\"result\":{}}",
                                          "{\"id\":1,\"method\":\"x\"}", "{\"id\":1,\"result\""};
    struct pair *pair = *state;
    struct rpc_message answer;

    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        send_text(pair->theirs, headers[i], "");
        assert_int_equal(call(pair, much_later(), &answer), -EBADMSG);
    }
    send_raw(pair->theirs, "nonsense", 8, &pair->theirs, 1);
    assert_int_equal(call(pair, much_later(), &answer), -EBADMSG);
}

#define IN_PAIR(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PAIR(test_bodies_arrive_whole),
        IN_PAIR(test_too_big_is_not_sent),
        IN_PAIR(test_descriptors_arrive_in_order),
        IN_PAIR(test_a_memfd_body_is_read_from_its_start),
        IN_PAIR(test_datagrams_that_are_no_message_are_refused),
        IN_PAIR(test_a_datagram_over_64_kib_is_refused),
        IN_PAIR(test_too_many_descriptors_are_closed),
        IN_PAIR(test_a_body_that_could_change_is_refused),
        IN_PAIR(test_a_body_of_a_wrong_size_is_refused),
        IN_PAIR(test_no_room_for_descriptors_loses_that_message_only),
        IN_PAIR(test_a_message_before_the_end_is_received),
        IN_PAIR(test_a_peer_that_died_with_our_message_unread_is_closed),
        IN_PAIR(test_sending_to_nobody_is_epipe),
        IN_PAIR(test_a_non_blocking_socket_says_eagain),
        IN_PAIR(test_a_path_has_107_bytes),
        IN_PAIR(test_no_agent_is_connection_refused),
        IN_PAIR(test_a_full_backlog_is_waited_for_until_the_deadline),
        IN_PAIR(test_a_stranger_at_the_socket_is_refused),
        IN_PAIR(test_a_call_is_answered),
        IN_PAIR(test_a_call_ends_at_its_deadline_whatever_signals_come),
        IN_PAIR(test_a_call_to_one_that_does_not_read_ends_at_its_deadline),
        IN_PAIR(test_a_call_knows_when_nothing_was_sent),
        IN_PAIR(test_a_call_knows_when_the_answer_will_never_come),
        IN_PAIR(test_what_is_no_answer_is_a_bad_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
