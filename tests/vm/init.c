/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of the test machine that tests/vm/run starts. It is in the initial RAM disk
 * with the modules of /boot, the script /command and the list /paths. It makes the host's root,
 * which comes read-only by virtiofs, the root file system, with an overlay in memory on it; runs
 * the script with bash, its output going to the virtio ports "out" and "err"; tells its exit status
 * to the port "status"; and switches the machine off. Whatever fails before is told to the console,
 * and there is no status.
 *
 * Called on the host, as any process but the first, it prints the time stamp counter's kHz, which a
 * kernel under emulation cannot measure reliably.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000ll
#define SAMPLE_NS    (20 * 1000000ll)
#define PORTS_WAIT   10000 /* ms */
#define PATHS_MAX    8

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

static void need_mount(const char *type, const char *source, const char *target,
                       const char *options)
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

/* ---- paths that were named by the file /paths, one a line ---- */

struct path {
    char name[PATH_MAX];
    int fd; /* where it is below /root before anything is mounted there; -1: it is not */
};

static struct path paths[PATHS_MAX]; /* the first: the folder of the kernel's modules */
static size_t n_paths;

static void read_paths(void)
{
    FILE *file = fopen("/paths", "re");

    while (file && n_paths < PATHS_MAX && fgets(paths[n_paths].name, sizeof(paths[0].name), file)) {
        paths[n_paths].name[strcspn(paths[n_paths].name, "\n")] = '\0';
        n_paths++;
    }
    if (!n_paths) {
        give_up("/paths");
    }
    fclose(file);
}

static void open_paths(void)
{
    int root = open("/root", O_PATH | O_CLOEXEC);

    for (size_t i = 0; i < n_paths; i++) {
        paths[i].fd = openat(root, paths[i].name + strspn(paths[i].name, "/"),
                             O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    close(root);
}

static void make_folders(const char *path)
{
    char part[PATH_MAX];

    for (const char *end = strchr(path + 1, '/');; end = strchr(end + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", end ? (int)(end - path) : PATH_MAX - 1, path);
        mkdir(part, 0755);
        if (!end) {
            return;
        }
    }
}

static void show_path(const struct path *path, const char *at)
{
    char from[32];

    snprintf(from, sizeof(from), "/proc/self/fd/%d", path->fd);
    make_folders(at);
    if (mount(from, at, NULL, MS_BIND, NULL) < 0) {
        say("show %s at %s", path->name, at);
    }
}

/* What is in /run, /dev/shm and so on, of which this machine has its own. */
static void show_hidden(void)
{
    for (size_t i = 1; i < n_paths; i++) {
        if (paths[i].fd >= 0 && access(paths[i].name, F_OK) < 0) {
            show_path(&paths[i], paths[i].name);
        }
    }
}

/* Modules where modprobe looks for them. */
static void show_modules(void)
{
    struct utsname kernel;
    char at[300];

    uname(&kernel);
    snprintf(at, sizeof(at), "/lib/modules/%s", kernel.release);
    show_path(&paths[0], at);
}

/* What is taken for granted in /dev. */
static void make_links(void)
{
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("fd/0", "/dev/stdin");
    (void)!symlink("fd/1", "/dev/stdout");
    (void)!symlink("fd/2", "/dev/stderr");
    mkdir("/dev/net", 0755);
    mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)); /* opening it loads the module */
    mknod("/dev/vhost-net", S_IFCHR | 0600, makedev(10, 238));
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
    open_paths();
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
    make_links();
    show_modules();
    show_hidden();
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

/* From a pipe, which unlike a port can be opened by many. Its other end stays open here. */
struct relay {
    int from, to, child_end;
};

static void open_relay(struct relay *relay, const char *port)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) {
        give_up("pipe");
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *relay = (struct relay){.from = ends[0], .to = open_port(port), .child_end = ends[1]};
}

/* Passes on what is there now. */
static void pump(const struct relay *relay)
{
    static char buf[65536];
    ssize_t len;

    while ((len = read(relay->from, buf, sizeof(buf))) > 0) {
        for (ssize_t done = 0, n; done < len; done += n) {
            n = write(relay->to, buf + done, (size_t)(len - done));
            if (n < 0) {
                give_up("write to a port");
            }
        }
    }
}

static pid_t start_script(const char *script, const struct relay relays[2])
{
    pid_t child = fork();

    if (child != 0) {
        return child;
    }
    sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL);
    setsid();
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    dup2(relays[0].child_end, STDOUT_FILENO);
    dup2(relays[1].child_end, STDERR_FILENO);
    execl("/bin/bash", "bash", "-c", script, NULL);
    say("/bin/bash");
    _exit(127);
}

/* Collects processes that ended; whether the child is among them, and with which status. */
static bool reap(pid_t child, int *ret_status)
{
    bool ended = false;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == child) {
            *ret_status = status;
            ended = true;
        }
    }
    return ended;
}

/* Runs it with its output relayed, and collects what other processes leave. Returns its exit status
 * as a shell tells it. What it left running may hold its output: that is not waited for. */
static int run_script(const char *script, const struct relay relays[2])
{
    sigset_t wanted;
    struct pollfd fds[] = {{.events = POLLIN},
                           {.fd = relays[0].from, .events = POLLIN},
                           {.fd = relays[1].from, .events = POLLIN}};
    struct signalfd_siginfo info;
    int status = 0;
    pid_t child;

    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    fds[0].fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    child = start_script(script, relays);
    if (child < 0 || fds[0].fd < 0) {
        give_up("start the script");
    }
    do {
        poll(fds, 3, -1);
        pump(&relays[0]);
        pump(&relays[1]);
        (void)!read(fds[0].fd, &info, sizeof(info));
    } while (!reap(child, &status));
    pump(&relays[0]);
    pump(&relays[1]);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void open_console(void)
{
    int console = open("/dev/console", O_RDWR);

    for (int fd = 0; console >= 0 && fd <= STDERR_FILENO; fd++) {
        dup2(console, fd);
    }
}

int main(void)
{
    struct relay relays[2];
    char *script;
    int status;

    if (getpid() != 1) {
        return print_khz();
    }
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    open_console();
    need_mount("proc", "proc", "/proc", NULL);
    need_mount("sysfs", "sysfs", "/sys", NULL);
    load_modules();
    open_relay(&relays[0], "out");
    open_relay(&relays[1], "err");
    status = open_port("status");
    script = read_script();
    read_paths();
    make_root();
    loopback_up();
    sethostname("vm", 2);
    dprintf(status, "%d\n", run_script(script, relays));
    switch_off();
}
