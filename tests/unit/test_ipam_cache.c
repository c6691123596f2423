/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of leases: the same answers as without it, whoever changes the disk in between. */
#include "ipam/ipam.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* An instance with one network and two ways to it. */
struct world {
    char dir[64], instance[80], data[80], log[128], lock[128];
    struct ipam_config *plain, *with_cache;
};

struct fixture {
    struct ipam_cache *cache;
    struct world a, b;
};

static struct ipam_config *parse(const struct world *w, const char *members, const char *network)
{
    autofree char *text = str_printf("{'dataDir': '%s', %s}", w->data, members);
    autojson json_t *ipam = NULL;
    struct ipam_config *made = NULL;
    struct error err = {0};

    for (char *p = text; (p = strchr(p, '\''));) {
        *p = '"';
    }
    if (json_parse(text, strlen(text), &ipam, &err) < 0 ||
        ipam_config_parse(ipam, network, &made, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return made;
}

static void world_make(struct world *w, const char *members, struct ipam_cache *cache)
{
    strcpy(w->dir, "/tmp/test-ipam-cache.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->instance, sizeof(w->instance), "%s/run", w->dir);
    snprintf(w->data, sizeof(w->data), "%s/data", w->dir);
    snprintf(w->log, sizeof(w->log), "%s/ipam/net.log", w->instance);
    snprintf(w->lock, sizeof(w->lock), "%s/ipam/net.lock", w->instance);
    w->plain = parse(w, members, "net");
    w->with_cache = parse(w, members, "net");
    ipam_config_use_cache(w->with_cache, cache);
}

static void world_end(struct world *w)
{
    ipam_config_free(w->plain);
    ipam_config_free(w->with_cache);
    assert_int_equal(dir_remove(w->dir), 0);
}

static const char two_sets[] = "'ranges': [[{'subnet': '10.0.0.0/28'}], [{'subnet': 'fd00::/64'}]]";

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    setenv("SLUICE_LOG", "error", 1);
    assert_int_equal(ipam_cache_new(&f->cache), 0);
    world_make(&f->a, two_sets, f->cache);
    world_make(&f->b, two_sets, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    world_end(&f->a);
    world_end(&f->b);
    ipam_cache_free(f->cache);
    free(f);
    return 0;
}

/* ---- one call, and its answer as text ---- */

enum verb { ALLOCATE, REQUEST, RELEASE, REOWN, CHECK, GC, N_VERBS };

struct call {
    enum verb verb;
    unsigned who, other; /* 0 to 19 */
};

static struct ipam_owner owner_of(unsigned who, char id[32])
{
    snprintf(id, 32, "pod-%u", who);
    return (struct ipam_owner){id, "eth0"};
}

static bool keep_most(const struct ipam_owner *owner, void *cookie)
{
    const unsigned *other = cookie;

    return (strlen(owner->container_id) + (unsigned char)owner->container_id[4] + *other) % 3;
}

static void put_result(char said[256], const struct ipam_result *result)
{
    char text[IP_TEXT_MAX];

    for (size_t i = 0; i < result->n_ips; i++) {
        size_t used = strlen(said);

        snprintf(said + used, 256 - used, " %s", ip_format(&result->ips[i].address, true, text));
    }
}

static void make_call(const struct world *w, const struct ipam_config *c, const struct call *call,
                      char said[256])
{
    char id[32], other_id[32];
    struct ipam_owner owner = owner_of(call->who, id), other = owner_of(call->other, other_id);
    struct ip_addr requested = {.family = 0};
    struct ipam_result result = {0};
    unsigned salt = call->other;
    size_t n = 0;
    int rc = 0;

    switch (call->verb) {
    case ALLOCATE:
        rc = ipam_allocate(c, w->instance, &owner, NULL, 0, &result, NULL);
        break;
    case REQUEST:
        assert_int_equal(ip_parse("10.0.0.2", &requested), 0);
        requested.bytes[3] = (uint8_t)(requested.bytes[3] + call->other % 14);
        rc = ipam_allocate(c, w->instance, &owner, &requested, 1, &result, NULL);
        break;
    case RELEASE:
        rc = ipam_release(c, w->instance, &owner, NULL);
        break;
    case REOWN:
        rc = ipam_reown(c, w->instance, &owner, &other, &result, NULL);
        break;
    case CHECK:
        rc = ipam_check(c, w->instance, &owner, NULL);
        break;
    default:
        rc = ipam_gc(c, w->instance, keep_most, &salt, &n, NULL);
    }
    snprintf(said, 256, "verb %d: %s, %zu:", call->verb, rc < 0 ? strerror(-rc) : "ok", n);
    put_result(said, &result);
    ipam_result_clear(&result);
}

/* In a process of its own, without the cache. */
static void make_call_elsewhere(const struct world *w, const struct call *call, char said[256])
{
    int ends[2], status;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        make_call(w, w->plain, call, said);
        _exit(write(ends[1], said, 256) == 256 ? 0 : 1);
    }
    assert_int_equal(read(ends[0], said, 256), 256);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static unsigned draw(uint64_t *seed, unsigned n)
{
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(*seed >> 33) % n;
}

static struct call draw_call(uint64_t *seed)
{
    static const enum verb verbs[] = {ALLOCATE, ALLOCATE, ALLOCATE, ALLOCATE, REQUEST, REOWN,
                                      REOWN,    RELEASE,  RELEASE,  RELEASE,  CHECK,   CHECK};
    unsigned which = draw(seed, 60);

    return (struct call){.verb = which == 59 ? GC : verbs[which % ARRAY_SIZE(verbs)],
                         .who = draw(seed, 20),
                         .other = draw(seed, 20)};
}

static char *read_log(const struct world *w)
{
    char *data = NULL;

    return file_read(w->log, 1 << 20, &data, NULL) == 0 ? data : strdup("");
}

static void assert_same_logs(const struct fixture *f)
{
    autofree char *a = read_log(&f->a), *b = read_log(&f->b);

    assert_string_equal(a, b);
}

/* ---- what may happen on disk between two calls ---- */

static void put_file(const struct world *w, const char *name, const char *text)
{
    autofree char *dir = str_printf("%s/net", w->data);
    autofree char *path = str_printf("%s/%s", dir, name);

    assert_int_equal(dir_make(dir, 0755), 0);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644), 0);
}

static void append_text(const struct world *w, const char *text)
{
    int fd = open(w->log, O_WRONLY | O_APPEND);

    if (fd >= 0) {
        assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
        close(fd);
    }
}

static void disturb(const struct world *w, unsigned which, unsigned number)
{
    autofree char *log = read_log(w), *ipam = str_printf("%s/ipam", w->instance);
    autofree char *theirs = str_printf("%s/net", w->data);

    switch (which) {
    case 0:
        unlink(w->lock);
        break;
    case 1:
        assert_int_equal(dir_remove(ipam), 0);
        break;
    case 2:
        unlink(w->log);
        break;
    case 3:
        assert_true(truncate(w->log, (off_t)(number % (strlen(log) + 1))) == 0 || !*log);
        break;
    case 4:
        append_text(w, "+ 10.0.0.3 to");
        break;
    case 5:
        append_text(w, "> pod-1 eth0 pod-2 et");
        break;
    case 6:
        append_text(w, "+ 10.0.0.3 twice eth0\n");
        break;
    case 7: /* another file of the same size */
        if (*log) {
            *strrchr(log, 'e') = 'f';
            assert_int_equal(file_write_atomic(w->log, log, strlen(log), 0600), 0);
        }
        break;
    case 8:
        put_file(w, "192.0.2.77", "theirs\r\neth0");
        break;
    default:
        assert_int_equal(dir_remove(theirs), 0);
    }
}

/* The world with the cache, with calls beside it, and one that never had a cache. */
static void cache_answers_as_none_does(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 1;

    for (int i = 0; i < 12000; i++) {
        struct call call = draw_call(&seed);
        unsigned way = draw(&seed, 40);
        char one[256], other[256];

        if (draw(&seed, 100) == 0) {
            unsigned which = draw(&seed, 10), number = draw(&seed, 100000);

            disturb(&f->a, which, number);
            disturb(&f->b, which, number);
        }
        if (way == 0) {
            make_call_elsewhere(&f->a, &call, one);
        } else {
            make_call(&f->a, way < 5 ? f->a.plain : f->a.with_cache, &call, one);
        }
        make_call(&f->b, f->b.plain, &call, other);
        assert_string_equal(one, other);
        assert_same_logs(f);
    }
}

/* Without the cache, calls that leave a log of the size that the cache remembers. */
static void other_log_of_the_same_size_is_noticed(void **state)
{
    struct fixture *f = *state;
    const struct call take_1 = {ALLOCATE, 1, 0}, take_2 = {ALLOCATE, 2, 0}, check_1 = {CHECK, 1, 0},
                      check_2 = {CHECK, 2, 0};
    autofree char *theirs = str_printf("%s/net", f->a.data);
    struct stat before, after;
    char said[256];

    /* Adopted by host-local's files, which then went. */
    make_call(&f->a, f->a.with_cache, &take_1, said);
    assert_int_equal(stat(f->a.log, &before), 0);
    put_file(&f->a, "192.0.2.77", "theirs\r\neth0");
    make_call(&f->a, f->a.plain, &check_1, said);
    assert_int_equal(dir_remove(theirs), 0);
    make_call(&f->a, f->a.plain, &take_2, said);
    assert_int_equal(stat(f->a.log, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    make_call(&f->a, f->a.with_cache, &check_1, said);
    assert_non_null(strstr(said, "No such file"));
    make_call(&f->a, f->a.with_cache, &check_2, said);
    assert_non_null(strstr(said, "ok"));

    /* A torn end as long as the lines that came in its place. */
    append_text(&f->a, "+ 10.0.0.3 another-one eth0 and more, torn ");
    assert_int_equal(stat(f->a.log, &before), 0);
    make_call(&f->a, f->a.with_cache, &check_1, said);
    make_call(&f->a, f->a.plain, &take_1, said);
    assert_int_equal(stat(f->a.log, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    make_call(&f->a, f->a.with_cache, &check_1, said);
    assert_non_null(strstr(said, "ok"));
}

/* As many as make the table grow again and again, and the log to be written anew. */
static void cache_holds_thousands(void **state)
{
    struct fixture *f = *state;
    autofree char *seen = calloc(1, 65536);
    struct ipam_config *c = parse(&f->a, "'subnet': '10.0.0.0/16'", "big");
    struct ipam_result result;
    size_t released;
    unsigned salt = 0;
    char id[32];

    ipam_config_use_cache(c, f->cache);
    for (unsigned i = 0; i < 9000; i++) {
        struct ipam_owner owner = owner_of(i, id);
        size_t at;

        assert_int_equal(ipam_allocate(c, f->a.instance, &owner, NULL, 0, &result, NULL), 0);
        at = (size_t)(result.ips[0].address.bytes[2] << 8 | result.ips[0].address.bytes[3]);
        assert_int_equal(seen[at], 0);
        seen[at] = 1;
        ipam_result_clear(&result);
        if (i % 4 == 1) {
            seen[at] = 0;
            assert_int_equal(ipam_release(c, f->a.instance, &owner, NULL), 0);
        }
    }
    ipam_config_use_cache(c, NULL);
    for (unsigned i = 0; i < 9000; i++) {
        struct ipam_owner owner = owner_of(i, id);

        ipam_config_use_cache(c, i % 100 ? f->cache : NULL);
        assert_int_equal(ipam_check(c, f->a.instance, &owner, NULL), i % 4 == 1 ? -ENOENT : 0);
    }
    assert_int_equal(ipam_gc(c, f->a.instance, keep_most, &salt, &released, NULL), 0);
    assert_in_range(released, 1000, 5000);
    assert_int_equal(ipam_gc(c, f->a.instance, keep_most, &salt, &released, NULL), 0);
    assert_int_equal(released, 0);
    ipam_config_free(c);
}

/* The write ends after a few bytes: neither memory nor disk says that anything was done. */
static void failed_write_changes_nothing(void **state)
{
    struct fixture *f = *state;
    const struct call held = {ALLOCATE, 1, 0};
    const struct call calls[] = {{ALLOCATE, 2, 0}, {RELEASE, 1, 0}, {REOWN, 1, 3}};
    struct rlimit old, limit;
    struct stat st;
    char said[256];

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    make_call(&f->a, f->a.with_cache, &held, said);
    make_call(&f->b, f->b.plain, &held, said);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        for (rlim_t more = 0; more < 12; more += 3) {
            assert_int_equal(stat(f->a.log, &st), 0);
            limit = (struct rlimit){(rlim_t)st.st_size + more, old.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
            make_call(&f->a, f->a.with_cache, &calls[i], said);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
            assert_non_null(strstr(said, "File too large"));
            assert_same_logs(f);
        }
        assert_int_equal(
            ipam_check(f->a.with_cache, f->a.instance, &(struct ipam_owner){"pod-1", "eth0"}, NULL),
            0);
    }
    signal(SIGXFSZ, SIG_DFL);
    make_call(&f->a, f->a.with_cache, &calls[0], said);
    assert_string_equal(said, "verb 0: ok, 0: 10.0.0.3/28 fd00::3/64");
}

static size_t open_files(void)
{
    size_t n = 0;

    for (int fd = 0; fd < 4096; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static void more_networks_than_are_kept(void **state)
{
    struct fixture *f = *state;
    struct ipam_result result;
    size_t before = open_files();
    char name[32], id[32], text[IP_TEXT_MAX], expect[IP_TEXT_MAX];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300; i++) {
            struct ipam_owner owner = owner_of((unsigned)round, id);
            struct ipam_config *c;

            snprintf(name, sizeof(name), "net%d", i);
            c = parse(&f->a, "'subnet': '10.0.0.0/28'", name);
            ipam_config_use_cache(c, f->cache);
            assert_int_equal(ipam_allocate(c, f->a.instance, &owner, NULL, 0, &result, NULL), 0);
            snprintf(expect, sizeof(expect), "10.0.0.%d", round + 2);
            assert_string_equal(ip_format(&result.ips[0].address, false, text), expect);
            ipam_result_clear(&result);
            ipam_config_free(c);
        }
    }
    assert_true(open_files() - before <= (size_t)2 * 256);
}

/* ---- many at once ---- */

#define THREADS 8
#define ROUNDS  150

struct crowd {
    const struct world *world;
    struct ipam_config *cached, *plain;
    atomic_int *holders; /* by the address's last two bytes; shared with the other process */
    atomic_uint next;
    atomic_int failed;
};

static bool keep_all(const struct ipam_owner *owner, void *cookie)
{
    (void)owner;
    (void)cookie;
    return true;
}

/* From the pool to a pod and back to nobody; 0 when nobody else had the address at any time. */
static int one_life(struct crowd *crowd, const struct ipam_config *c, const char *name, unsigned n)
{
    const char *instance = crowd->world->instance;
    char id[48], number[16];
    struct ipam_owner pool = {"sluice-pool", number}, pod = {id, "eth0"};
    struct ipam_result result, again;
    atomic_int *holder;
    size_t released = 0;

    snprintf(id, sizeof(id), "%s-%u", name, n);
    snprintf(number, sizeof(number), "%c%u", name[0], n);
    if (ipam_allocate(c, instance, &pool, NULL, 0, &result, NULL) < 0) {
        return -1;
    }
    holder = &crowd->holders[result.ips[0].address.bytes[2] << 8 | result.ips[0].address.bytes[3]];
    if (atomic_fetch_add(holder, 1) != 0 ||
        ipam_reown(c, instance, &pool, &pod, &again, NULL) < 0 ||
        !ip_same(&result.ips[0].address, &again.ips[0].address) ||
        ipam_check(c, instance, &pod, NULL) < 0 || ipam_check(c, instance, &pool, NULL) == 0) {
        return -1;
    }
    if (n % 50 == 0 && ipam_gc(c, instance, keep_all, NULL, &released, NULL) < 0) {
        return -1;
    }
    if (n % 3) {
        atomic_fetch_sub(holder, 1);
        return ipam_release(c, instance, &pod, NULL);
    }
    return 0;
}

static void *live(void *arg)
{
    struct crowd *crowd = arg;

    for (int i = 0; i < ROUNDS; i++) {
        unsigned n = atomic_fetch_add(&crowd->next, 1);

        if (one_life(crowd, n % 16 ? crowd->cached : crowd->plain, "thread", n) < 0) {
            atomic_store(&crowd->failed, 1);
        }
    }
    return NULL;
}

/* Threads with the cache, now and then without, and another process: no address twice. */
static void threads(void **state)
{
    struct fixture *f = *state;
    struct crowd crowd = {.world = &f->a};
    pthread_t ids[THREADS];
    int status, held = 0;
    pid_t pid;

    crowd.holders = mmap(NULL, 65536 * sizeof(atomic_int), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(crowd.holders != MAP_FAILED);
    crowd.cached = parse(&f->a, "'subnet': '10.0.0.0/16'", "crowd");
    crowd.plain = parse(&f->a, "'subnet': '10.0.0.0/16'", "crowd");
    pid = fork();
    if (pid == 0) {
        int rc = 0;

        for (unsigned n = 0; rc == 0 && n < ROUNDS; n++) {
            rc = one_life(&crowd, crowd.plain, "process", n);
        }
        _exit(rc < 0);
    }
    ipam_config_use_cache(crowd.cached, f->cache);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&ids[i], NULL, live, &crowd), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(ids[i], NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(crowd.failed, 0);
    for (int i = 0; i < 65536; i++) {
        held += crowd.holders[i];
    }
    assert_int_equal(held, THREADS * ROUNDS / 3 + ROUNDS / 3);
    munmap(crowd.holders, 65536 * sizeof(atomic_int));
    ipam_config_free(crowd.cached);
    ipam_config_free(crowd.plain);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(cache_answers_as_none_does),
        test_of(cache_holds_thousands),
        test_of(other_log_of_the_same_size_is_noticed),
        test_of(failed_write_changes_nothing),
        test_of(more_networks_than_are_kept),
        test_of(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
