/* SPDX-License-Identifier: Apache-2.0 */
/* The node agent: what `sluiced` is. */
#pragma once

#include "base/base.h"

#define AGENT_HTTP_PORTS_MAX 8

struct agent_options {
    const char *instance;
    const char *state_dir; /* settings: gates.json, pools.json */
    uint16_t http_ports[AGENT_HTTP_PORTS_MAX];
    size_t n_http_ports;              /* 0: no HTTP */
    unsigned http_barrier;            /* callers that /barrier waits for; 0: the request says */
    unsigned http_pods, http_tenants; /* /get_ifname: pods in all, spread over tenants */
    unsigned http_hold_s;             /* a permit taken by HTTP is given back after; 0: never */
    unsigned create_width, change_width, remove_width; /* the funnel's; 0: no bound */
    unsigned quick_width, slow_width;                  /* threads of the lanes */
};

/* What a user gets who asks for nothing. */
extern const struct agent_options agent_options_default;

/* Where an instance's settings are: /var/lib/sluice for the default one, else INSTANCE/state. */
int agent_state_dir(const char *instance, char *buf, size_t size);

/*
 * Serves until SIGTERM or SIGINT, then finishes what is being done, refuses the rest and returns 0.
 * SIGHUP reads the settings again. -EBUSY when the instance has an agent already.
 */
int agent_run(const struct agent_options *options, struct error *err);
