/* SPDX-License-Identifier: Apache-2.0 */
/* CPU and memory of everybody concerned, at phase ends and every 100 ms; progress on a terminal. */
#include "bench/bench-internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define SAMPLE_NS    (100 * NSEC_PER_MSEC)
#define SETTLE_BUSY  0.15 /* of all CPUs: less is quiet */
#define SETTLE_MAX_S 5    /* a host with other work never is */

static double timeval_s(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double process_s(pid_t pid)
{
    int64_t ns = 0;

    return pid > 0 && proc_cpu_ns(pid, &ns) == 0 ? (double)ns / NSEC_PER_SEC : 0;
}

/* The whole host's busy time: user, nice, system, irq, softirq of /proc/stat's first line. */
static double host_busy_s(void)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq;
    autofile FILE *f = fopen("/proc/stat", "re");

    if (!f || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
                     &iowait, &irq, &softirq) != 7) {
        return 0;
    }
    return (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
}

void bench_cpu_read(const struct bench_run *run, struct bench_cpu *ret)
{
    struct rusage self;

    getrusage(RUSAGE_SELF, &self);
    *ret = (struct bench_cpu){
        .bench = timeval_s(self.ru_utime) + timeval_s(self.ru_stime),
        .plugin = (double)atomic_load(&run->plugin_cpu_ns) / NSEC_PER_SEC,
        .agent = process_s(run->agent_pid),
        .vswitchd = process_s(run->vswitchd_pid),
        .ovsdb = process_s(run->ovsdb_pid),
        .total = host_busy_s(),
    };
}

struct bench_cpu bench_cpu_minus(struct bench_cpu a, struct bench_cpu b)
{
    return (struct bench_cpu){a.bench - b.bench,       a.plugin - b.plugin, a.agent - b.agent,
                              a.vswitchd - b.vswitchd, a.ovsdb - b.ovsdb,   a.total - b.total};
}

void bench_settle(void)
{
    int64_t deadline_ns = clock_ns() + SETTLE_MAX_S * NSEC_PER_SEC;
    double limit =
        SETTLE_BUSY * (double)SAMPLE_NS / NSEC_PER_SEC * (double)sysconf(_SC_NPROCESSORS_ONLN);
    double before = host_busy_s(), now;

    do {
        clock_sleep_ns(SAMPLE_NS);
        now = host_busy_s();
        if (now - before <= limit) {
            return;
        }
        before = now;
    } while (clock_left_ms(deadline_ns) > 0);
}

struct bench_sampler {
    struct bench_run *run;
    const char *label;
    FILE *file;
    pthread_t thread;
    atomic_bool stop;
    bool progress;
};

static void write_sample(struct bench_sampler *sampler)
{
    struct bench_cpu cpu;
    struct sysinfo info;
    char others[128] = "", queues[1024] = "";
    size_t used = 0;

    bench_cpu_read(sampler->run, &cpu);
    sysinfo(&info);
    bench_gates_read(sampler->run, queues, sizeof(queues));
    if (sampler->run->agent_pid) {
        used = (size_t)snprintf(others, sizeof(others), "\"agent\":%.6f,", cpu.agent);
    }
    if (sampler->run->vswitchd_pid) {
        snprintf(others + used, sizeof(others) - used,
                 "\"ovs-vswitchd\":%.6f,\"ovsdb-server\":%.6f,", cpu.vswitchd, cpu.ovsdb);
    }
    fprintf(sampler->file,
            "{\"v\":1,\"t_ns\":%lld,\"done\":%d,\"cpu_s\":{\"bench\":%.6f,\"plugin\":%.6f,"
            "%s\"total\":%.2f},\"memory_used_bytes\":%llu,\"gates\":{%s}}\n",
            (long long)clock_ns(), atomic_load(&sampler->run->done), cpu.bench, cpu.plugin, others,
            cpu.total, (unsigned long long)(info.totalram - info.freeram) * info.mem_unit, queues);
    if (sampler->progress) {
        fprintf(stderr, "\r%s %s: %d of %d pods ", sampler->run->variant->name, sampler->label,
                atomic_load(&sampler->run->done), sampler->run->n_pods);
    }
}

static void *sample(void *cookie)
{
    struct bench_sampler *sampler = cookie;

    while (!atomic_load(&sampler->stop)) {
        write_sample(sampler);
        clock_sleep_ns(SAMPLE_NS);
    }
    return NULL;
}

int bench_sampler_start(struct bench_run *run, const char *label, struct bench_sampler **ret,
                        struct error *err)
{
    struct bench_sampler *sampler = calloc(1, sizeof(*sampler));
    autofree char *path = str_printf("%s/samples.jsonl", run->dir);
    int rc;

    if (!sampler || !path) {
        free(sampler);
        return error_sys(err, -ENOMEM, "samples");
    }
    sampler->run = run;
    sampler->label = label;
    sampler->progress = isatty(STDERR_FILENO);
    sampler->file = fopen(path, "ae");
    if (!sampler->file) {
        rc = error_sys(err, -errno, "create %s", path);
        free(sampler);
        return rc;
    }
    rc = -pthread_create(&sampler->thread, NULL, sample, sampler);
    if (rc < 0) {
        fclose(sampler->file);
        free(sampler);
        return error_sys(err, rc, "start the sampler");
    }
    *ret = sampler;
    return 0;
}

void bench_sampler_stop(struct bench_sampler *sampler)
{
    if (!sampler) {
        return;
    }
    atomic_store(&sampler->stop, true);
    pthread_join(sampler->thread, NULL);
    write_sample(sampler);
    if (sampler->progress) {
        fprintf(stderr, "\r\033[K");
    }
    fclose(sampler->file);
    free(sampler);
}
