/* SPDX-License-Identifier: Apache-2.0 */
/* Rules that the study's programs ask for over HTTP, for addresses of whatever pods. */
#include "agent/agent-internal.h"

#include <errno.h>
#include <stdlib.h>

#define DEADLINE_S 60

struct rules_job {
    struct job job;
    struct agent *agent;
    char bridge[IF_NAMESIZE];
    struct ip_addr pod;
    unsigned n;
    struct error err; /* errnum 0: done */
    void (*done)(void *waiter, const struct error *err);
    void *waiter;
};

static int set(struct rules_job *rules, struct kind_env *env, struct error *err)
{
    struct kind_conf conf = {.bridge = rules->bridge};
    char ip[IP_TEXT_MAX];
    const char *const key[] = {"add_acl_inbatch", rules->bridge, ip_format(&rules->pod, false, ip)};
    uint64_t cookie = policy_cookie(env->instance, key, ARRAY_SIZE(key));
    struct policy_program program;
    struct flow_set flows = {.cookie = cookie};
    int rc = policy_acl_program(rules->n, &rules->pod, cookie, &program, err);

    if (rc == 0) {
        flows.flows = program.flows;
        flows.n_flows = program.n_flows;
        rc = kind_env_flows(env, &conf, &flows, err);
        policy_program_clear(&program);
    }
    return rc;
}

static void run(struct job *job, struct kind_env *env)
{
    struct rules_job *rules = (struct rules_job *)job;
    int rc;

    if (!env) {
        error_set(&rules->err, -EAGAIN, "the agent has no netlink socket to work with");
        return;
    }
    env->deadline_ns = clock_ns() + DEADLINE_S * NSEC_PER_SEC;
    rc = set(rules, env, &rules->err);
    rules->err.errnum = rc;
}

static void done(struct job *job)
{
    struct rules_job *rules = (struct rules_job *)job;

    rules->done(rules->waiter, &rules->err);
    agent_calls_changed(rules->agent, -1);
    free(rules);
}

int agent_set_rules(void *cookie, const char *bridge, const struct ip_addr *pod, unsigned n,
                    void (*callback)(void *waiter, const struct error *err), void *waiter)
{
    struct agent *agent = cookie;
    struct rules_job *rules = calloc(1, sizeof(*rules));

    if (!rules) {
        return -ENOMEM;
    }
    *rules = (struct rules_job){.job = {.run = run, .done = done},
                                .agent = agent,
                                .pod = *pod,
                                .n = n,
                                .done = callback,
                                .waiter = waiter};
    str_copy(rules->bridge, sizeof(rules->bridge), bridge);
    agent_calls_changed(agent, 1); /* the agent does not end before it is answered */
    workers_submit(agent->workers, LANE_SLOW, &rules->job);
    return 0;
}
