/* SPDX-License-Identifier: Apache-2.0 */
/* The host: what it can do for Sluice (doctor), and what Sluice has left on it (clean). */
#pragma once

#include "base/base.h"

/* ---- doctor ---- */

enum host_state { HOST_OK, HOST_LIMITED, HOST_MISSING };

extern const char *const host_state_names[]; /* "ok", "limited", "missing" */

/* What was found out about one thing. */
struct host_finding {
    const char *topic, *what; /* "links", "ipvlan" */
    enum host_state state;
    char detail[160]; /* what was found */
    char hint[200];   /* how to get what is missing; "" when there is nothing to do */
    bool needed;      /* nothing works without it */
};

#define HOST_FINDINGS_MAX 96

/*
 * Tries everything, in namespaces of its own where it makes something; leaves nothing. Fills at
 * most HOST_FINDINGS_MAX findings and returns how many. Blocks for about a second.
 */
size_t host_examine(const char *instance, struct host_finding ret[HOST_FINDINGS_MAX]);

/* ---- clean ---- */

struct host_clean_report {
    int attachments, devices, ports, namespaces, processes, cgroups, switches;
};

/*
 * Removes what an instance has made and left: attachments, devices, OVS ports, leases, records,
 * bench's namespaces, processes and cgroups, its private OVS, its directory. instance NULL: the
 * default one, every other that was noted (instance_register), and whatever else is marked as
 * Sluice's. Goes on after a failure, keeps the records of what could not be removed, and returns
 * the first; -EBUSY while a bench is at work there. Adds to *ret.
 */
int host_clean(const char *instance, struct host_clean_report *ret, struct error *err);
