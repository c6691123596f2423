/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what this host can do, found out by trying where trying is cheap. */
#include "host/host.h"
#include "netlink/netlink.h"
#include "ovs/ovs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

const char *const host_state_names[] = {"ok", "limited", "missing"};

struct exam {
    struct host_finding *findings;
    size_t n;
    const char *instance;
};

static struct host_finding *found(struct exam *exam, const char *topic, const char *what, bool ok,
                                  const char *hint, const char *fmt, ...) PRINTF_LIKE(6, 7);

static struct host_finding *found(struct exam *exam, const char *topic, const char *what, bool ok,
                                  const char *hint, const char *fmt, ...)
{
    static struct host_finding spare; /* past the table's end: never shown */
    struct host_finding *finding =
        exam->n < HOST_FINDINGS_MAX ? &exam->findings[exam->n++] : &spare;
    va_list args;

    *finding =
        (struct host_finding){.topic = topic, .what = what, .state = ok ? HOST_OK : HOST_LIMITED};
    va_start(args, fmt);
    vsnprintf(finding->detail, sizeof(finding->detail), fmt, args);
    va_end(args);
    snprintf(finding->hint, sizeof(finding->hint), "%s", ok ? "" : hint);
    return finding;
}

/* Nothing works without it: it is not limited but missing. */
static void need(struct host_finding *finding)
{
    finding->needed = true;
    if (finding->state != HOST_OK) {
        finding->state = HOST_MISSING;
    }
}

/* The first line of a file, or "" when it can't be read. */
static void first_line(const char *path, char *buf, size_t size)
{
    autofree char *data = NULL;

    buf[0] = '\0';
    if (file_read(path, 1 << 20, &data, NULL) == 0) {
        data[strcspn(data, "\n")] = '\0';
        snprintf(buf, size, "%s", data);
    }
}

/* ---- system ---- */

/* Records, leases and namespaces' names live there: two files a pod. */
static void examine_instance(struct exam *exam)
{
    struct statfs fs;
    bool in_memory;

    if (statfs(exam->instance, &fs) < 0 && statfs("/run", &fs) < 0) {
        return;
    }
    in_memory = fs.f_type == TMPFS_MAGIC;
    found(exam, "system", "instance", in_memory,
          "give --instance a place on a tmpfs: a disk costs a plugin twice its own time",
          "%s is%s in memory", exam->instance, in_memory ? "" : " not");
}

static void examine_system(struct exam *exam)
{
    char lockdown[64];
    struct rlimit files;
    struct utsname host;
    struct sysinfo memory;
    bool root = geteuid() == 0, v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;

    uname(&host);
    sysinfo(&memory);
    need(found(exam, "system", "root", root, "run as root", "user id %d", (int)geteuid()));
    found(exam, "system", "kernel", true, "", "%s, %ld CPUs, %llu MiB", host.release,
          sysconf(_SC_NPROCESSORS_ONLN),
          (unsigned long long)memory.totalram * memory.mem_unit >> 20);
    found(exam, "system", "cgroups", v2 || access("/sys/fs/cgroup/memory", F_OK) == 0,
          "mount a cgroup hierarchy at /sys/fs/cgroup", "%s", v2 ? "v2" : "v1");
    getrlimit(RLIMIT_NOFILE, &files);
    found(exam, "system", "open files", files.rlim_max >= 4096,
          "raise it: ulimit -n, or LimitNOFILE= in the service", "at most %llu",
          (unsigned long long)files.rlim_max);
    examine_instance(exam);
    first_line("/proc/sys/user/max_net_namespaces", lockdown, sizeof(lockdown));
    found(exam, "system", "network namespaces", strtol(lockdown, NULL, 10) >= 400,
          "raise sysctl user.max_net_namespaces", "at most %s", lockdown);
    first_line("/sys/kernel/security/lockdown", lockdown, sizeof(lockdown));
    found(exam, "system", "lockdown", !lockdown[0] || strstr(lockdown, "[none]"),
          "tracing falls back to tracepoints", "%s", lockdown[0] ? lockdown : "none");
}

/* ---- network, tried in a namespace of our own ---- */

struct link_trial {
    const char *kind, *hint;
    bool needed;
};

static void try_link(struct exam *exam, struct netlink *nl, const struct link_trial *trial,
                     unsigned parent)
{
    bool below = str_has_prefix(trial->kind, "mac") || str_has_prefix(trial->kind, "ipv");
    struct link_spec spec = {.kind = trial->kind,
                             .name = "sltry",
                             .netns_fd = -1,
                             .parent = below ? parent : 0,
                             .parent_nsid = -1,
                             .macvlan_mode = MACVLAN_MODE_BRIDGE};
    struct host_finding *finding;
    struct error err = {0};
    int rc;

    link_put_create(nl, &spec);
    rc = netlink_send(nl, NULL, &err);
    finding = found(exam, "links", trial->kind, rc == 0, trial->hint, "%s",
                    rc == 0 ? "works" : strerror(-rc));
    if (trial->needed) {
        need(finding);
    }
    if (rc == 0) {
        link_put_delete(nl, 0, "sltry");
        netlink_send(nl, NULL, NULL);
    }
}

static void examine_links(struct exam *exam, struct netlink *nl)
{
    static const struct link_trial trials[] = {
        {"veth", "a kernel with CONFIG_VETH", true},
        {"macvlan", "a kernel with CONFIG_MACVLAN", false},
        {"macvtap", "a kernel with CONFIG_MACVTAP", false},
        {"ipvlan", "a kernel with CONFIG_IPVLAN", false},
        {"ipvtap", "a kernel with CONFIG_IPVTAP", false},
        {"bridge", "a kernel with CONFIG_BRIDGE", false},
    };
    struct link_spec parent = {.kind = "veth", .name = "slparent", .netns_fd = -1};
    struct netlink_answer answer = {0};
    autoclose int tap = -1;
    struct error err;
    int rc;

    link_put_create(nl, &parent);
    netlink_send(nl, &answer, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(trials); i++) {
        try_link(exam, nl, &trials[i], answer.ifindex);
    }
    rc = tap_open(-1, "sltap", 0, false, &tap, &err);
    found(exam, "links", "tap", rc == 0, "modprobe tun; OVS's userspace datapath needs it", "%s",
          rc == 0 ? "works" : err.text);
}

static void examine_tc(struct exam *exam, struct netlink *nl)
{
    static const char *const qdiscs[] = {"ingress", "clsact"};
    struct link_info lo;
    struct error err;
    int rc;

    for (size_t i = 0; i < ARRAY_SIZE(qdiscs); i++) {
        struct link_spec veth = {.kind = "veth", .name = "sltc", .netns_fd = -1};
        struct netlink_answer answer = {0};

        link_put_create(nl, &veth);
        netlink_send(nl, &answer, NULL);
        qdisc_put_add(nl, answer.ifindex, qdiscs[i]);
        rc = netlink_send(nl, NULL, &err);
        found(exam, "tc", qdiscs[i], rc == 0, "a kernel with CONFIG_NET_SCH_INGRESS", "%s",
              rc == 0 ? "works" : strerror(-rc));
        if (rc == 0 && i == 0 && link_get(nl, 0, "lo", &lo, NULL) == 0) {
            filter_put_redirect(nl, answer.ifindex, lo.ifindex);
            rc = netlink_send(nl, NULL, &err);
            found(exam, "tc", "u32 redirect", rc == 0,
                  "a kernel with CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED", "%s",
                  rc == 0 ? "works" : strerror(-rc));
        }
        link_put_delete(nl, answer.ifindex, "sltc");
        netlink_send(nl, NULL, NULL);
    }
}

static void examine_network(struct exam *exam)
{
    autonetlink struct netlink *nl = NULL;
    struct error err = {0};
    int saved = -1;

    if (netns_open_own(&saved, &err) < 0 || unshare(CLONE_NEWNET) < 0) {
        need(found(exam, "links", "namespaces", false, "run as root; a kernel with CONFIG_NET_NS",
                   "%s", err.text[0] ? err.text : strerror(errno)));
        cleanup_fd(&saved);
        return;
    }
    if (netlink_open(-1, &nl, &err) == 0) {
        examine_links(exam, nl);
        examine_tc(exam, nl);
    }
    netns_leave(&saved);
}

/* ---- programs and files ---- */

struct file_trial {
    const char *topic, *what, *path, *hint;
    bool needed;
};

static const struct file_trial file_trials[] = {
    {"ovs", "ovsdb-server", "/usr/sbin/ovsdb-server", "apt-get install openvswitch-switch", true},
    {"ovs", "ovs-vswitchd", "/usr/sbin/ovs-vswitchd", "apt-get install openvswitch-switch", true},
    {"ovs", "kernel datapath", "/sys/module/openvswitch",
     "modprobe openvswitch; the userspace datapath does without", false},
    {"ovs", "DPDK", "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk",
     "apt-get install openvswitch-switch-dpdk librte-mempool-ring23; only vhost-user needs it",
     false},
    {"cni", "reference plugins", "/usr/lib/cni/macvlan",
     "apt-get install containernetworking-plugins; only comparisons need them", false},
    {"vm", "QEMU", "/usr/bin/qemu-system-x86_64", "apt-get install qemu-system-x86", false},
    {"vm", "vhost-net", "/dev/vhost-net", "modprobe vhost_net; only speed depends on it", false},
    {"containers", "containerd", "/usr/bin/containerd", "apt-get install containerd", false},
    {"report", "gnuplot", "/usr/bin/gnuplot", "apt-get install gnuplot-nox", false},
    {"bpf", "kernel BTF", "/sys/kernel/btf/vmlinux", "a kernel with CONFIG_DEBUG_INFO_BTF", false},
    {"bpf", "kprobes", "/sys/bus/event_source/devices/kprobe",
     "a kernel with CONFIG_KPROBE_EVENTS; tracepoints do without", false},
};

static void examine_files(struct exam *exam)
{
    for (size_t i = 0; i < ARRAY_SIZE(file_trials); i++) {
        const struct file_trial *trial = &file_trials[i];
        bool there = access(trial->path, F_OK) == 0;
        struct host_finding *finding = found(exam, trial->topic, trial->what, there, trial->hint,
                                             "%s%s", there ? "" : "no ", trial->path);

        if (trial->needed) {
            need(finding);
        }
    }
}

static void examine_ovs(struct exam *exam)
{
    bool system_ovs = access(OVS_SYSTEM_SOCKET, F_OK) == 0;
    struct ovs_private_status status = {0};

    ovs_private_status(exam->instance, &status, NULL);
    found(exam, "ovs", "running", status.running || system_ovs,
          "sluice ovs up; bench starts one by itself", "%s",
          status.running ? exam->instance
          : system_ovs   ? OVS_SYSTEM_SOCKET
                         : "none");
}

/* ---- virtual machines and memory ---- */

static void examine_kvm(struct exam *exam)
{
    autoclose int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int version = fd >= 0 ? ioctl(fd, KVM_GET_API_VERSION, 0) : -1;

    found(exam, "vm", "KVM", version == KVM_API_VERSION,
          "hardware virtualisation; QEMU emulates without it, many times slower", "%s",
          fd < 0                       ? strerror(errno)
          : version == KVM_API_VERSION ? "/dev/kvm opens"
                                       : "bad version");
}

static void examine_hugepages(struct exam *exam)
{
    unsigned long long total = 0, free_pages = 0, kib = 0;
    autofile FILE *f = fopen("/proc/meminfo", "re");
    char line[128];

    while (f && fgets(line, sizeof(line), f)) {
        sscanf(line, "HugePages_Total: %llu", &total);
        sscanf(line, "HugePages_Free: %llu", &free_pages);
        sscanf(line, "Hugepagesize: %llu", &kib);
    }
    found(exam, "vm", "hugepages", total > 0, "sysctl vm.nr_hugepages=N; only OVS-DPDK needs them",
          "%llu of %llu KiB, %llu free", total, kib, free_pages);
}

static void examine_tracepoint(struct exam *exam)
{
    static const char *const places[] = {
        "/sys/kernel/tracing/events/lock/contention_begin",
        "/sys/kernel/debug/tracing/events/lock/contention_begin",
    };
    bool mounted = access("/sys/kernel/tracing/events", F_OK) == 0 ||
                   access("/sys/kernel/debug/tracing/events", F_OK) == 0;
    bool there = access(places[0], F_OK) == 0 || access(places[1], F_OK) == 0;

    found(exam, "bpf", "lock tracepoints", there,
          mounted ? "Linux 5.19 or newer" : "mount -t tracefs none /sys/kernel/tracing, then again",
          "%s",
          there     ? "lock:contention_begin"
          : mounted ? "none"
                    : "tracefs is not mounted");
}

static int compare_findings(const void *a, const void *b)
{
    static const char *const topics[] = {"system", "links", "tc",         "ovs",
                                         "cni",    "vm",    "containers", "bpf"};
    const struct host_finding *x = a, *y = b;
    size_t i, j;

    for (i = 0; i < ARRAY_SIZE(topics) && strcmp(topics[i], x->topic) != 0; i++) {
    }
    for (j = 0; j < ARRAY_SIZE(topics) && strcmp(topics[j], y->topic) != 0; j++) {
    }
    return i == j ? strcmp(x->what, y->what) : i < j ? -1 : 1;
}

size_t host_examine(const char *instance, struct host_finding ret[HOST_FINDINGS_MAX])
{
    struct exam exam = {.findings = ret, .instance = instance};

    examine_system(&exam);
    examine_network(&exam);
    examine_files(&exam);
    examine_ovs(&exam);
    examine_kvm(&exam);
    examine_hugepages(&exam);
    examine_tracepoint(&exam);
    qsort(ret, exam.n, sizeof(*ret), compare_findings);
    return exam.n;
}
