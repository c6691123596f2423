#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The plugin killed after each message of an ADD or a DEL with rules and rates: flows and meters by
# OpenFlow, queues, a guard.

load helpers
load cni
load kill

setup_file() {
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_host
    need ovs-vswitchd ovs-vsctl ovs-ofctl jq
    kill_by_message
    KILL_CONF='.acl = 2 | .qos = 1'
}

teardown() {
    host_check
}

for_each_kind() { # FUNCTION
    local kind
    for kind in ovs ovs-macvlan ovs-tc-routing; do
        echo "kind $kind"
        "$1" "$kind"
        drop_pods a
    done
}

@test "rules and rates: ADD killed after each message leaves nothing that DEL does not clear" {
    for_each_kind kill_add
}

@test "rules and rates: DEL killed after each message, then DEL again" {
    for_each_kind kill_del
}

@test "rules and rates: ADD killed after each message, then GC clears it all" {
    for_each_kind kill_add_then_gc
}
