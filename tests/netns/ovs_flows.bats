#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Flows and meters on a private Open vSwitch: the OpenFlow client and its batcher.

load helpers

DATAPATH=${SLUICE_DATAPATH:-netdev}

setup() {
    need_root
    need ovs-vswitchd ovsdb-server ovs-vsctl ovs-ofctl nsenter
    [ "$DATAPATH" != system ] || needs_kernel openvswitch
    DIR=$(mktemp -d /tmp/sluice-flows-XXXXXX)
    make_netns flows NS
    ovs up --instance "$DIR" --bridge br0 --datapath "$DATAPATH"
}

teardown() {
    [ -n "${DIR:-}" ] || return 0
    ovs down --instance "$DIR"
    [ -z "$(devices "$NS")" ]
    ip netns del "$NS"
    rm -r "$DIR"
}

ovs() {
    in_netns "$NS" "$SLUICE" ovs "$@"
}

@test "flows and meters by one connection" {
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_flows" "$DIR/ovs" br0
}

# The pid of ovsdb_pid or vswitchd_pid as status tells it.
pid_of() {
    ovs status --json --instance "$DIR" | sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p"
}

# Every thread: the last one to end gives up the files, and the lock that a second daemon wants.
gone() {
    ! grep -L '^State:.*[ZX]' "/proc/$1"/task/*/status 2>/dev/null | grep -q .
}

batcher() {
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_flow_batcher" "$DIR/ovs" br0 "$@"
}

@test "the batcher of flows" {
    batcher
}

@test "the batcher of flows when ovs-vswitchd does not answer, or is dead" {
    batcher pid "$(pid_of vswitchd_pid)"
}

# Kills ovs-vswitchd and starts it again.
restart() {
    pid=$(pid_of vswitchd_pid)
    kill -9 "$pid"
    eventually gone "$pid"
    ovs up --instance "$DIR"
}

@test "who makes flows hears of a restart of ovs-vswitchd" {
    batcher again "$DIR/made" &
    maker=$!
    eventually test -e "$DIR/made"
    restart
    wait $maker
}

@test "flows under load while ovs-vswitchd is killed and started again" {
    batcher load "$DIR/enough" &
    load=$!
    for i in 1 2 3; do
        sleep 1
        restart
    done
    sleep 0.2
    touch "$DIR/enough"
    wait $load
}

@test "a client that is killed in the middle of a bundle leaves no half of it" {
    for i in 1 2 3 4 5; do
        nsenter --net="/run/netns/$NS" "$SLUICE_BUILD/tests/netns/ovs_flow_batcher" \
            "$DIR/ovs" br0 load "$DIR/enough" 3>&- &
        load=$!
        sleep "0.2$i"
        kill -9 $load
        wait $load || true
        gone $load
        batcher whole
    done
}
