#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Kind ovs-vhost killed at every system call, on Open vSwitch with DPDK.

load helpers
load cni
load kill

PAGES=64

setup_file() {
    [ "$(id -u)" = 0 ] && (need_dpdk $PAGES) >/dev/null 2>&1 || return 0
    export HOST_OVS="--dpdk --hugepages $PAGES"
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_root
    need ovs-vswitchd ovs-vsctl jq
    need_dpdk $PAGES
}

teardown() {
    host_check
}

@test "ovs-vhost: ADD killed at every call leaves nothing that DEL does not clear" {
    kill_add ovs-vhost
}

@test "ovs-vhost: ADD killed at every call, the namespace gone before DEL" {
    kill_add_and_netns ovs-vhost
}

@test "ovs-vhost: DEL killed at every call, then DEL again" {
    kill_del ovs-vhost
}

@test "ovs-vhost: ADD killed at every call leaves nothing that GC does not clear" {
    kill_add_then_gc ovs-vhost
}
