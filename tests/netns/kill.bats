#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The plugin killed at every one of its system calls: whatever it was about to do, DEL and GC clear up.

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
    need ovs-vswitchd ovs-vsctl jq
}

teardown() {
    host_check
}

@test "ovs: ADD killed at every call leaves nothing that DEL does not clear" {
    kill_add ovs
}

@test "ovs-macvlan: ADD killed at every call leaves nothing that DEL does not clear" {
    kill_add ovs-macvlan
}

@test "ovs-macvtap: ADD killed at every call leaves nothing that DEL does not clear" {
    kill_add ovs-macvtap
}

@test "ovs-internal: ADD killed at every call leaves nothing that DEL does not clear" {
    kill_add ovs-internal
}

@test "ovs-tc-routing: ADD killed at every call leaves nothing that DEL does not clear" {
    kill_add ovs-tc-routing
}

@test "ovs-ipvlan: ADD killed at every call leaves nothing that DEL does not clear" {
    needs_kernel ipvlan
    kill_add ovs-ipvlan
}

@test "ovs-ipvtap: ADD killed at every call leaves nothing that DEL does not clear" {
    needs_kernel ipvtap
    kill_add ovs-ipvtap
}

@test "ovs: ADD killed at every call, the namespace gone before DEL" {
    kill_add_and_netns ovs
}

@test "ovs-macvlan: ADD killed at every call, the namespace gone before DEL" {
    kill_add_and_netns ovs-macvlan
}

@test "ovs-macvtap: ADD killed at every call, the namespace gone before DEL" {
    kill_add_and_netns ovs-macvtap
}

@test "ovs-internal: ADD killed at every call, the namespace gone before DEL" {
    kill_add_and_netns ovs-internal
}

@test "ovs-tc-routing: ADD killed at every call, the namespace gone before DEL" {
    kill_add_and_netns ovs-tc-routing
}

@test "ovs-ipvlan: ADD killed at every call, the namespace gone before DEL" {
    needs_kernel ipvlan
    kill_add_and_netns ovs-ipvlan
}

@test "ovs: DEL killed at every call, then DEL again" {
    kill_del ovs
}

@test "ovs-macvlan: DEL killed at every call, then DEL again" {
    kill_del ovs-macvlan
}

@test "ovs-macvtap: DEL killed at every call, then DEL again" {
    kill_del ovs-macvtap
}

@test "ovs-internal: DEL killed at every call, then DEL again" {
    kill_del ovs-internal
}

@test "ovs-tc-routing: DEL killed at every call, then DEL again" {
    kill_del ovs-tc-routing
}

@test "ovs-ipvlan: DEL killed at every call, then DEL again" {
    needs_kernel ipvlan
    kill_del ovs-ipvlan
}

@test "ovs: ADD killed at every call leaves nothing that GC does not clear" {
    kill_add_then_gc ovs
}

@test "ovs-macvlan: ADD killed at every call, the tenant's port half made: GC clears it all" {
    kill_add_then_gc ovs-macvlan
}

@test "ovs-tc-routing: ADD killed at every call, the tenant's port half made: GC clears it all" {
    kill_add_then_gc ovs-tc-routing
}

@test "ovs-ipvlan: ADD killed at every call, the tenant's port half made: GC clears it all" {
    needs_kernel ipvlan
    kill_add_then_gc ovs-ipvlan
}

@test "ovs-internal: ADD killed at every call leaves nothing that GC does not clear" {
    kill_add_then_gc ovs-internal
}

@test "loopback: ADD and DEL killed at every call, then done again" {
    make_pods a
    conf loopback
    for command in ADD DEL; do
        for ((n = 1; ; n++)); do
            killed $command a || break
            cni $command a >"$DIR/out"
        done
        [ "$n" -gt 10 ]
    done
    assert_clean
}
