#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kill.bats in short, for machines that are slow or kinds that only some kernels have: the plugin killed
# after each message that it sent.

load helpers
load cni
load kill

# Kinds that kill.bats does not do, or only on some kernels: to add a kind, name it here.
KINDS='ovs-ipvlan ovs-ipvtap'

setup_file() {
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_host
    needs_kernel ipvlan ipvtap
    need ovs-vswitchd ovs-vsctl jq
    kill_by_message
}

teardown() {
    host_check
}

for_each_kind() { # FUNCTION
    local kind
    for kind in $KINDS; do
        echo "kind $kind"
        "$1" "$kind"
        drop_pods a
    done
}

@test "ADD killed after each message leaves nothing that DEL does not clear" {
    for_each_kind kill_add
}

@test "ADD killed after each message, the namespace gone before DEL" {
    for_each_kind kill_add_and_netns
}

@test "DEL killed after each message, then DEL again" {
    for_each_kind kill_del
}

@test "ADD killed after each message, the tenant's port half made: GC clears it all" {
    for_each_kind kill_add_then_gc
}
