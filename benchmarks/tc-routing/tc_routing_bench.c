/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tc_routing_bench PODS REPEATS: joins veths to a tenant's port in three ways, in turn, each
 * REPEATS times, and prints a table of medians and ratios: how long it takes, and how many packets
 * a second come through from the port to the pods. Every run has network namespaces of its own. Run
 * by the script beside it.
 */
#include "bpf/bpf.h"
#include "kind/tc-internal.h"
#include "stats/stats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REPEATS_MAX 50
#define PODS_MAX    1000
#define BATCH       64
#define RATE_NS     (NSEC_PER_SEC / 2)

/* The port's ends: OVS's, from which the packets come, and ours. */
#define THEIRS "port0"
#define OURS   "port1"

struct stage {
    struct netlink *host;
    int host_fd, pods_fd;
    size_t n;
    unsigned ours, ends[PODS_MAX]; /* ifindexes */
};

struct way {
    const char *name;
    int (*join)(struct stage *stage, struct error *err);
};

static struct ip_addr pod_address(size_t i)
{
    struct ip_addr ip = {.family = AF_INET, .prefix = 32, .bytes = {10, 1, 0, 0}};

    return ip_plus(&ip, (int64_t)i + 2);
}

/* ---- the stage ---- */

static int make_veth(struct netlink *nl, const char *name, const char *peer_name, int peer_fd)
{
    struct link_spec peer = {.name = peer_name, .netns_fd = peer_fd};
    struct link_spec spec = {.kind = "veth", .name = name, .netns_fd = -1, .peer = &peer};

    link_put_create(nl, &spec);
    link_put_change(nl, &(struct link_change){.name = name, .no_ipv6_autoconf = true});
    link_put_change(nl, &(struct link_change){.name = name, .up = true});
    return netlink_send(nl, NULL, NULL);
}

static int set_up(struct netlink *nl, const char *name, unsigned *ret_ifindex)
{
    struct link_info info;

    link_put_change(nl, &(struct link_change){.name = name, .no_ipv6_autoconf = true});
    link_put_change(nl, &(struct link_change){.name = name, .up = true});
    if (netlink_send(nl, NULL, NULL) < 0 || link_peek(nl, name, &info) < 0) {
        return -EIO;
    }
    *ret_ifindex = info.ifindex;
    return 0;
}

static int set_stage(struct stage *stage)
{
    autonetlink struct netlink *pods = NULL;
    unsigned ifindex;
    char name[IFNAMSIZ], peer[IFNAMSIZ];

    if (unshare(CLONE_NEWNET) < 0 || netns_open_own(&stage->pods_fd, NULL) < 0 ||
        netlink_open(-1, &pods, NULL) < 0 || unshare(CLONE_NEWNET) < 0 ||
        netns_open_own(&stage->host_fd, NULL) < 0 || netlink_open(-1, &stage->host, NULL) < 0 ||
        make_veth(stage->host, THEIRS, OURS, -1) < 0 ||
        set_up(stage->host, OURS, &stage->ours) < 0) {
        return -EIO;
    }
    for (size_t i = 0; i < stage->n; i++) {
        snprintf(name, sizeof(name), "h%hu", (unsigned short)i);
        snprintf(peer, sizeof(peer), "p%hu", (unsigned short)i);
        if (make_veth(stage->host, name, peer, stage->pods_fd) < 0 ||
            set_up(pods, peer, &ifindex) < 0 || set_up(stage->host, name, &stage->ends[i]) < 0) {
            return -EIO;
        }
    }
    return 0;
}

static void clear_stage(struct stage *stage)
{
    netlink_close(stage->host);
    cleanup_fd(&stage->host_fd);
    cleanup_fd(&stage->pods_fd);
}

/* ---- the ways ---- */

static int run_tc(char *batch, size_t len, struct error *err)
{
    const char *const argv[] = {"/sbin/tc", "-batch", "-", NULL};
    struct proc_spec spec = {.argv = argv, .input = batch, .input_len = len, .output_max = 1 << 20};
    struct proc_result result;
    int rc = proc_run(&spec, &result);

    if (rc == 0 && !proc_ok(&result)) {
        rc = error_set(err, -EIO, "tc: %.512s", result.errout);
    }
    proc_result_clear(&result);
    return rc;
}

/* To the port, as the study does: what a pod sends goes out of it. */
static void write_way_out(FILE *out, size_t i)
{
    fprintf(out, "qdisc add dev h%zu ingress\n", i);
    fprintf(out,
            "filter add dev h%zu parent ffff: protocol all u32 match u32 0 0 "
            "action mirred egress redirect dev " OURS "\n",
            i);
}

static int finish(FILE *out, char **batch, size_t *len, struct error *err)
{
    int rc = fclose(out) == 0 ? run_tc(*batch, *len, err) : -ENOMEM;

    free(*batch);
    return rc;
}

static int join_by_chain(struct stage *stage, struct error *err)
{
    char text[IP_TEXT_MAX], *batch = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&batch, &len);

    if (!out) {
        return -ENOMEM;
    }
    fprintf(out, "qdisc add dev " OURS " ingress\n");
    for (size_t i = 0; i < stage->n; i++) {
        struct ip_addr ip = pod_address(i);
        uint32_t word;

        memcpy(&word, ip.bytes, sizeof(word));
        fprintf(out,
                "filter add dev " OURS " parent ffff: prio 1 protocol ip u32 match ip dst %s/32 "
                "action mirred egress redirect dev h%zu\n",
                ip_format(&ip, false, text), i);
        fprintf(out,
                "filter add dev " OURS " parent ffff: prio 2 protocol arp u32 match u32 0x%08x "
                "0xffffffff at 24 action mirred egress redirect dev h%zu\n",
                ntohl(word), i);
        write_way_out(out, i);
    }
    return finish(out, &batch, &len, err);
}

static int join_by_hash(struct stage *stage, struct error *err)
{
    char text[IP_TEXT_MAX], *batch = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&batch, &len);

    if (!out) {
        return -ENOMEM;
    }
    fprintf(out, "qdisc add dev " OURS " ingress\n");
    for (int prio = 1; prio <= 2; prio++) {
        const char *protocol = prio == 1 ? "ip" : "arp";

        fprintf(out,
                "filter add dev " OURS
                " parent ffff: prio %d handle %d: protocol %s u32 divisor 256\n",
                prio, prio, protocol);
        fprintf(out,
                "filter add dev " OURS " parent ffff: prio %d protocol %s u32 match u32 0 0 "
                "hashkey mask 0x000000ff at %d link %d:\n",
                prio, protocol, prio == 1 ? 16 : 24, prio);
    }
    for (size_t i = 0; i < stage->n; i++) {
        struct ip_addr ip = pod_address(i);
        uint32_t word;

        memcpy(&word, ip.bytes, sizeof(word));
        fprintf(out,
                "filter add dev " OURS " parent ffff: prio 1 protocol ip u32 ht 1:%x: "
                "match ip dst %s/32 action mirred egress redirect dev h%zu\n",
                ip.bytes[3], ip_format(&ip, false, text), i);
        fprintf(out,
                "filter add dev " OURS " parent ffff: prio 2 protocol arp u32 ht 2:%x: match u32 "
                "0x%08x 0xffffffff at 24 action mirred egress redirect dev h%zu\n",
                ip.bytes[3], ntohl(word), i);
        write_way_out(out, i);
    }
    return finish(out, &batch, &len, err);
}

/* As the kind does it: what a pod costs, and once the port. */
static int join_by_table(struct stage *stage, struct error *err)
{
    autoswitch struct tc_switch sw = TC_SWITCH_NONE;
    int rc = tc_program_load(stage->ours, &sw, err);

    if (rc == 0) {
        rc = tc_bpf_add(stage->host, stage->ours, false, sw.program, "bench", err);
    }
    for (size_t i = 0; rc == 0 && i < stage->n; i++) {
        struct tc_owner owner = {.route = {.ifindex = stage->ends[i]}, .n_keys = 2};
        struct ip_addr ip = pod_address(i);
        char name[IFNAMSIZ] = "";

        snprintf(name, sizeof(name), "h%hu", (unsigned short)i);
        memcpy(owner.keys[0].bytes, &stage->ends[i], sizeof(stage->ends[i]));
        owner.keys[1].family = TC_IPV4;
        memcpy(owner.keys[1].bytes, ip.bytes, 4);
        if ((rc = bpf_table_put(sw.owners, name, &owner)) < 0 ||
            (rc = bpf_table_add(sw.routes, &owner.keys[0], &owner.route)) < 0 ||
            (rc = bpf_table_add(sw.routes, &owner.keys[1], &owner.route)) < 0) {
            return error_sys(err, rc, "table");
        }
        rc = tc_bpf_put(stage->host, stage->ends[i], false, sw.program, "bench", err);
    }
    return rc;
}

static const struct way ways[] = {
    {"a chain of u32 filters, by `tc -batch`", join_by_chain},
    {"u32 hash tables, by `tc -batch`", join_by_hash},
    {"**a BPF program and its table**", join_by_table},
};

#define WAYS ARRAY_SIZE(ways)

/* ---- packets ---- */

/* Frames that came to all pods, by their devices' counters. */
static uint64_t count_frames(const struct stage *stage)
{
    autofree char *text = NULL;
    uint64_t sum = 0;
    int saved = -1;

    if (netns_enter(stage->pods_fd, &saved, NULL) == 0) {
        file_read("/proc/thread-self/net/dev", 1 << 20, &text, NULL);
        netns_leave(&saved);
    }
    for (char *line = text; line; line = strchr(line, '\n')) {
        unsigned long long bytes, packets;
        char name[32];

        line += *line == '\n';
        if (sscanf(line, " p%31[0-9]: %llu %llu", name, &bytes, &packets) == 3) {
            sum += packets;
        }
    }
    return sum;
}

static void make_frame(char frame[64], size_t pod)
{
    static const char start[] = {2, 0, 0,  0, 0, 1, 2, 0,  0,  0, 0, 2,  8, 0, 0x45,
                                 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1};
    struct ip_addr ip = pod_address(pod);

    memset(frame, 0, 64);
    memcpy(frame, start, sizeof(start));
    memcpy(frame + 30, ip.bytes, 4);
}

/* The kernel carries a packet to the pod in the time of the thread that sends it; on a machine with
 * other work a clock on the wall would tell of that. */
static int64_t thread_time_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

/* Packets a second of CPU from the port: to the pods from first to last, in turn. */
static double packet_rate(const struct stage *stage, size_t first, size_t last)
{
    static char frames[PODS_MAX][64];
    struct sockaddr_ll at = {.sll_family = AF_PACKET};
    autoclose int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct mmsghdr messages[BATCH] = {{{NULL}}};
    struct iovec parts[BATCH];
    struct link_info info;
    uint64_t before = count_frames(stage);
    int64_t t0 = thread_time_ns(), t1 = t0;
    size_t next = first;
    int on = 1;

    if (link_peek(stage->host, THEIRS, &info) < 0) {
        return 0;
    }
    at.sll_ifindex = (int)info.ifindex;
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
    for (size_t i = first; i <= last; i++) {
        make_frame(frames[i], i);
    }
    for (size_t i = 0; i < BATCH; i++) {
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &at, .msg_namelen = sizeof(at), .msg_iov = &parts[i], .msg_iovlen = 1};
    }
    while (t1 - t0 < RATE_NS) {
        for (size_t i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){frames[next], sizeof(frames[next])};
            next = next == last ? first : next + 1;
        }
        if (sendmmsg(fd, messages, BATCH, 0) < 0) {
            return 0;
        }
        t1 = thread_time_ns();
    }
    return (double)(count_frames(stage) - before) * 1e9 / (double)(t1 - t0);
}

/* ---- runs ---- */

enum { SET_UP, SPREAD, LAST, FIGURES };

static const char *const figure_names[] = {"set up, ms",
                                           "packets a CPU second, to all pods in turn",
                                           "packets a CPU second, to the last pod"};

static int run_once(const struct way *way, size_t n, double figures[FIGURES], struct error *err)
{
    struct stage stage = {.host_fd = -1, .pods_fd = -1, .n = n};
    int64_t t0;
    int rc = set_stage(&stage);

    if (rc < 0) {
        error_sys(err, rc, "devices");
    } else {
        t0 = clock_ns();
        rc = way->join(&stage, err);
        figures[SET_UP] = (double)(clock_ns() - t0) / NSEC_PER_MSEC;
    }
    if (rc == 0) {
        figures[SPREAD] = packet_rate(&stage, 0, n - 1);
        figures[LAST] = packet_rate(&stage, n - 1, n - 1);
        rc = figures[SPREAD] > 0 && figures[LAST] > 0
                 ? 0
                 : error_set(err, -EIO, "%s: no packets came through", way->name);
    }
    clear_stage(&stage);
    return rc;
}

static void print_table(double (*figures)[WAYS][REPEATS_MAX], size_t n, size_t repeats)
{
    for (int f = 0; f < FIGURES; f++) {
        printf("\n| %zu pods: %s | median | times the chain (95 %%) |\n|---|---|---|\n", n,
               figure_names[f]);
        for (size_t w = 0; w < WAYS; w++) {
            struct stats_interval ratio =
                stats_ratio(figures[f][w], repeats, figures[f][0], repeats, 0.95, 1);

            printf("| %s | %.0f | ", ways[w].name, stats_median(figures[f][w], repeats));
            if (w) {
                printf("%.2f (%.2f - %.2f) |\n", ratio.point, ratio.low, ratio.high);
            } else {
                printf("1 |\n");
            }
        }
    }
}

int main(int argc, char **argv)
{
    static double figures[FIGURES][WAYS][REPEATS_MAX];
    int64_t n, repeats;
    struct error err;

    if (argc != 3 || str_to_int64(argv[1], 1, PODS_MAX, &n) < 0 ||
        str_to_int64(argv[2], 1, REPEATS_MAX, &repeats) < 0) {
        fprintf(stderr, "usage: tc_routing_bench PODS REPEATS\n");
        return 2;
    }
    for (size_t i = 0; i < (size_t)repeats; i++) {
        for (size_t k = 0; k < WAYS; k++) {
            size_t w = (i + k) % WAYS;
            double one[FIGURES] = {0};

            if (run_once(&ways[w], (size_t)n, one, &err) < 0) {
                fprintf(stderr, "%s: %s\n", ways[w].name, err.text);
                return 3;
            }
            fprintf(stderr, "%s: %.0f ms, %.0f/s, %.0f/s\n", ways[w].name, one[0], one[1], one[2]);
            for (int f = 0; f < FIGURES; f++) {
                figures[f][w][i] = one[f];
            }
        }
    }
    print_table(figures, (size_t)n, (size_t)repeats);
    return 0;
}
