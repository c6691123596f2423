/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of the test machine that tests/vm/run starts. It is in the initial RAM disk with
 * the modules of /boot and the script /command. It makes the host's root, which comes read-only by
 * virtiofs, the root file system, with an overlay in memory on it; runs the script with bash, its
 * output going to the virtio ports "out" and "err"; tells its exit status to the port "status"; and
 * switches the machine off. Whatever fails before is told to the console, and there is no status.
 *
 * Called on the host, as any process but the first, it prints the time stamp counter's kHz, which a
 * kernel under emulation cannot measure reliably.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000ll
#define SAMPLE_NS    (20 * 1000000ll)
#define PORTS_WAIT   10000 /* ms */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void switch_off(void) __attribute__((noreturn));

static void say(const char *fmt, ...)
{
    int error = errno;
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "tests/vm/init: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, ": %s\n", strerror(error));
    va_end(args);
}

static void switch_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    for (;;) {
        pause();
    }
}

static void give_up(const char *what)
{
    say("%s", what);
    switch_off();
}

/* ---- the host's time stamp counter ---- */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

/* Counter and clock read together: of a few tries the one that was least disturbed. */
static void read_both(int64_t *ret_ticks, int64_t *ret_ns)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < 100; i++) {
        int64_t before = now_ns(), ticks = (int64_t)__builtin_ia32_rdtsc(), after = now_ns();

        if (after - before < best) {
            best = after - before;
            *ret_ticks = ticks;
            *ret_ns = before + best / 2;
        }
    }
}

static int print_khz(void)
{
    int64_t ticks0, ticks1, ns0, ns1;

    read_both(&ticks0, &ns0);
    nanosleep(&(struct timespec){.tv_nsec = SAMPLE_NS}, NULL);
    read_both(&ticks1, &ns1);
    printf("%lld\n", (long long)((ticks1 - ticks0) * 1000000 / (ns1 - ns0)));
    return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- modules and ports ---- */

static void load_modules(void)
{
    struct dirent **files;
    int n = scandir("/boot", &files, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char path[300];
        int fd;

        if (files[i]->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof(path), "/boot/%s", files[i]->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0) {
            say("load %s", path);
        }
        close(fd);
    }
}

/* The device of a virtio port by its name; -1 when it is not there (yet). */
static int try_port(const char *wanted)
{
    const char *dir = "/sys/class/virtio-ports";
    DIR *ports = opendir(dir);
    const struct dirent *entry;
    int found = -1;

    while (ports && found < 0 && (entry = readdir(ports))) {
        char path[400], name[64] = "";
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s/name", dir, entry->d_name);
        file = fopen(path, "re");
        if (file && fgets(name, sizeof(name), file) && !strcmp(strtok(name, "\n"), wanted)) {
            snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
            found = open(path, O_WRONLY | O_CLOEXEC);
        }
        if (file) {
            fclose(file);
        }
    }
    if (ports) {
        closedir(ports);
    }
    return found;
}

static int open_port(const char *name)
{
    for (int ms = 0; ms < PORTS_WAIT; ms++) {
        int fd = try_port(name);

        if (fd >= 0) {
            return fd;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    give_up(name);
    return -1;
}

/* ---- the root file system ---- */

static void need_mount(const char *type, const char *source, const char *target, const char *options)
{
    mkdir(target, 0755);
    if (mount(source, target, type, 0, options) < 0) {
        give_up(target);
    }
}

/* What some kernel may lack, and most commands don't need. */
static void try_mount(const char *type, const char *target, const char *options)
{
    mkdir(target, 0755);
    mount(type, target, type, 0, options);
}

/* The value of NAME=VALUE on the kernel's command line; the caller frees it. */
static char *parameter(const char *name)
{
    char line[4096] = "", *word, *rest = line;
    size_t len = strlen(name);
    FILE *file = fopen("/proc/cmdline", "re");

    if (!file || !fgets(line, sizeof(line), file)) {
        give_up("/proc/cmdline");
    }
    fclose(file);
    while ((word = strsep(&rest, " \n"))) {
        if (!strncmp(word, name, len) && word[len] == '=') {
            return strdup(word + len + 1);
        }
    }
    return NULL;
}

/* Modules for modprobe: a folder of the host whose path is a parameter, seen at its usual place. */
static void show_modules(void)
{
    char *from = parameter("vm.modules"), to[300], path[4200];
    struct stat st;
    char release[128] = "";
    FILE *file = fopen("/proc/sys/kernel/osrelease", "re");

    if (!from || !file || !fgets(release, sizeof(release), file)) {
        give_up("modules");
    }
    fclose(file);
    release[strcspn(release, "\n")] = '\0';
    snprintf(path, sizeof(path), "/root%s/%s", from, release);
    snprintf(to, sizeof(to), "/root/lib/modules/%s", release);
    mkdir("/root/lib/modules", 0755);
    mkdir(to, 0755);
    if (stat(path, &st) < 0 || mount(path, to, NULL, MS_BIND, NULL) < 0) {
        say("show %s at %s", path, to);
    }
    free(from);
}

static void make_root(void)
{
    static const char *const moved[] = {"dev", "proc", "sys"};

    need_mount("virtiofs", "root", "/lower", "ro");
    need_mount("tmpfs", "upper", "/upper", "mode=755");
    mkdir("/upper/upper", 0755);
    mkdir("/upper/work", 0755);
    need_mount("overlay", "overlay", "/root",
               "lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work");
    show_modules();
    for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        char from[16], to[32];

        snprintf(from, sizeof(from), "/%s", moved[i]);
        snprintf(to, sizeof(to), "/root/%s", moved[i]);
        mkdir(to, 0755);
        if (mount(from, to, NULL, MS_MOVE, NULL) < 0) {
            give_up(to);
        }
    }
    if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0) {
        give_up("change the root");
    }
    need_mount("tmpfs", "tmpfs", "/run", "mode=755");
    need_mount("tmpfs", "tmpfs", "/dev/shm", "mode=1777");
    try_mount("devpts", "/dev/pts", "mode=620,ptmxmode=666");
    try_mount("mqueue", "/dev/mqueue", NULL);
    try_mount("cgroup2", "/sys/fs/cgroup", NULL);
    try_mount("bpf", "/sys/fs/bpf", NULL);
    try_mount("tracefs", "/sys/kernel/tracing", NULL);
    try_mount("debugfs", "/sys/kernel/debug", NULL);
}

static void loopback_up(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
        say("set lo up");
    }
    close(fd);
}

/* ---- the command ---- */

static char *read_script(void)
{
    struct stat st;
    int fd = open("/command", O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 && fstat(fd, &st) == 0 ? calloc(1, (size_t)st.st_size + 1) : NULL;

    if (!text || read(fd, text, (size_t)st.st_size) != st.st_size) {
        give_up("/command");
    }
    close(fd);
    return text;
}

/* Runs it and collects what other processes leave. Returns its exit status as a shell tells it. */
static int run_script(const char *script, int out, int err)
{
    pid_t child = fork(), pid;
    int status = 0;

    if (child == 0) {
        setsid();
        dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execl("/bin/bash", "bash", "-c", script, NULL);
        say("/bin/bash");
        _exit(127);
    }
    while ((pid = waitpid(-1, &status, 0)) != child) {
        if (pid < 0 && errno != EINTR) {
            give_up("wait");
        }
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void)
{
    int console, out, err, status;
    char *script;

    if (getpid() != 1) {
        return print_khz();
    }
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    console = open("/dev/console", O_RDWR);
    if (console >= 0) {
        dup2(console, STDIN_FILENO);
        dup2(console, STDOUT_FILENO);
        dup2(console, STDERR_FILENO);
    }
    need_mount("proc", "proc", "/proc", NULL);
    need_mount("sysfs", "sysfs", "/sys", NULL);
    load_modules();
    out = open_port("out");
    err = open_port("err");
    status = open_port("status");
    script = read_script();
    make_root();
    loopback_up();
    dprintf(status, "%d\n", run_script(script, out, err));
    switch_off();
}
