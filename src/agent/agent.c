/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's life: one loop, its parts started in order and ended the other way round. */
#include "agent/agent-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

const struct agent_options agent_options_default = {
    .create_width = 2,
    .change_width = 2,
    .remove_width = 0,
    .quick_width = 2,
    .slow_width = 512,
};

#define REMOVE_THREADS 512 /* each only waits for RCU */

int agent_state_dir(const char *instance, char *buf, size_t size)
{
    int n = !strcmp(instance, INSTANCE_DEFAULT_DIR) ? snprintf(buf, size, "/var/lib/sluice")
                                                    : snprintf(buf, size, "%s/state", instance);

    return n < (int)size ? 0 : -ENAMETOOLONG;
}

/* sd_notify(3)'s protocol: one datagram to the socket that the environment names. */
static void notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autoclose int fd = -1;

    if (!path || (path[0] != '/' && path[0] != '@') ||
        str_copy(address.sun_path, sizeof(address.sun_path), path) < 0) {
        return;
    }
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
}

/* ---- one agent an instance ---- */

static int lock_instance(struct agent *agent, struct error *err)
{
    const char *instance = agent->options->instance;
    autofree char *path = str_printf("%s/sluiced.lock", instance), *other = NULL;
    char pid[16];
    int rc = path ? dir_make(instance, 0755) : -ENOMEM;

    if (rc < 0) {
        return error_sys(err, rc, "create %s", instance);
    }
    agent->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (agent->lock_fd < 0) {
        return error_sys(err, -errno, "open %s", path);
    }
    if (flock(agent->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        file_read(path, 16, &other, NULL);
        return error_set(err, -EBUSY, "instance %s has an agent already (process %s)", instance,
                         other && *other ? other : "?");
    }
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (ftruncate(agent->lock_fd, 0) < 0 || fd_write_all(agent->lock_fd, pid, strlen(pid)) < 0) {
        return error_sys(err, -errno, "write %s", path);
    }
    return 0;
}

/* ---- the end ---- */

static void stop_now(struct agent *agent)
{
    if (agent->server) {
        rpc_server_stop(agent->server);
        agent->server = NULL;
        uv_stop(&agent->loop);
    }
}

void agent_calls_changed(struct agent *agent, int by)
{
    agent->n_calls += (size_t)by;
    if (agent->stopping) {
        if (agent->n_calls == 0 && agent_pools_jobs(agent) == 0) {
            stop_now(agent);
        }
        return;
    }
    agent_pools_calls_changed(agent);
    /* Who waits at a gate must not keep those out who could open it. */
    rpc_server_pause(agent->server, agent->n_calls - agent->n_waiting_calls >= AGENT_CALLS_MAX);
}

/* What is being done is finished; new calls are refused, before anything of theirs is begun. */
static void begin_stop(struct agent *agent)
{
    if (agent->stopping) {
        return;
    }
    log_info("ending: %zu calls to finish", agent->n_calls);
    notify("STOPPING=1");
    agent->stopping = true;
    agent_calls_refuse_waiting(agent);
    agent_calls_changed(agent, 0);
}

static void reload(struct agent *agent)
{
    struct error err = {0};
    char state[64];

    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)(clock_ns() / 1000));
    notify(state);
    if (agent_gates_load(agent, &err) < 0 || agent_pools_load(agent, &err) < 0) {
        log_error("settings are not read again: %s", err.text);
    } else {
        log_info("settings read again");
    }
    notify("READY=1");
}

static void on_signal(uv_signal_t *signal, int number)
{
    if (number == SIGHUP) {
        reload(signal->data);
    } else {
        begin_stop(signal->data);
    }
}

static int watch_signals(struct agent *agent, struct error *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        int rc = uv_signal_init(&agent->loop, &agent->signals[i]);

        agent->signals[i].data = agent;
        if (rc < 0 || (rc = uv_signal_start(&agent->signals[i], on_signal, numbers[i])) < 0) {
            return error_sys(err, rc, "signals");
        }
    }
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

/* ---- the start ---- */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int start_shared(struct agent *agent)
{
    const struct agent_options *options = agent->options;
    size_t n = 0;
    int rc = funnel_new(&agent->shared.funnel);

    pthread_mutex_init(&agent->shared.ports.lock, NULL);
    while (kinds[n]) {
        n++;
    }
    agent->counts = calloc(n + 1, sizeof(*agent->counts));
    if (rc == 0) {
        rc = agent->counts ? ipam_cache_new(&agent->shared.ipam_cache) : -ENOMEM;
    }
    if (rc == 0) {
        rc = agent_batchers_new(agent);
    }
    if (rc == 0) {
        rc = agent_flows_new(agent);
    }
    if (rc == 0) {
        rc = turns_new(&agent->turns);
    }
    if (rc == 0) {
        funnel_set_width(agent->shared.funnel, FUNNEL_CREATE, options->create_width);
        funnel_set_width(agent->shared.funnel, FUNNEL_CHANGE, options->change_width);
        funnel_set_width(agent->shared.funnel, FUNNEL_REMOVE, options->remove_width);
    }
    return rc;
}

static int start_server(struct agent *agent, struct error *err)
{
    struct rpc_handler handler = {agent, agent_request, agent_peer_closed};

    return rpc_server_start(&agent->loop, agent->options->instance, &handler, &agent->server, err);
}

static int start(struct agent *agent, struct error *err)
{
    const struct agent_options *options = agent->options;
    struct workers_options workers = {
        .loop = &agent->loop,
        .instance = options->instance,
        .shared = &agent->shared,
        .width = {[LANE_QUICK] = options->quick_width,
                  [LANE_SLOW] = options->slow_width,
                  [LANE_REMOVE] = REMOVE_THREADS},
    };
    int rc = watch_signals(agent, err);

    if (rc == 0 && (rc = start_shared(agent)) < 0) {
        error_sys(err, rc, "start");
    }
    if (rc == 0) {
        rc = workers_start(&workers, &agent->workers, err);
    }
    if (rc == 0) {
        rc = agent_gates_start(agent, err);
    }
    if (rc == 0) {
        rc = agent_pools_start(agent, err);
    }
    if (rc == 0) {
        rc = agent_reconcile(agent, err);
    }
    if (rc == 0) {
        rc = start_server(agent, err);
    }
    if (rc == 0) {
        rc = agent_web_start(agent, err);
    }
    if (rc == 0) {
        agent_pools_begin(agent);
    }
    return rc;
}

static void end(struct agent *agent)
{
    if (agent->server) {
        rpc_server_stop(agent->server);
    }
    if (agent->workers) {
        workers_stop(agent->workers);
    }
    http_stop(agent->http);
    agent_pools_stop(agent);
    agent_gates_stop(agent);
    agent_flows_free(agent);
    agent_batchers_free(agent);
    ipam_cache_free(agent->shared.ipam_cache);
    funnel_free(agent->shared.funnel);
    turns_free(agent->turns);
    free(agent->counts);
    for (size_t i = 0; i < ARRAY_SIZE(agent->signals); i++) {
        if (agent->signals[i].data) {
            uv_close((uv_handle_t *)&agent->signals[i], NULL);
        }
    }
    uv_run(&agent->loop, UV_RUN_DEFAULT); /* until everything is closed */
    uv_loop_close(&agent->loop);
}

int agent_run(const struct agent_options *options, struct error *err)
{
    struct agent agent = {.options = options, .lock_fd = -1, .started_ns = clock_ns()};
    int rc = lock_instance(&agent, err);

    if (rc == 0) {
        instance_register(options->instance);
        raise_descriptor_limit();
        rc = uv_loop_init(&agent.loop);
        if (rc < 0) {
            error_sys(err, rc, "event loop");
        } else {
            rc = start(&agent, err);
            if (rc == 0) {
                log_info("serving instance %s", options->instance);
                notify("READY=1");
                uv_run(&agent.loop, UV_RUN_DEFAULT);
                log_info("ended");
            }
            end(&agent);
        }
    }
    cleanup_fd(&agent.lock_fd);
    return rc;
}
