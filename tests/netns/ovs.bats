#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# sluice ovs, and the ports of src/ovs, with real Open vSwitch in namespaces of their own.

load helpers

setup() {
    need_root
    need ovs-vswitchd ovsdb-server ovs-vsctl nsenter python3
    DIR=$(mktemp -d /tmp/sluice-ovs-XXXXXX)
    make_netns ovs NS
    NS2=
}

# Ends what a failed test left, then tells whether anything stays behind.
teardown() {
    [ -n "${DIR:-}" ] || return 0
    local pid left=0
    for i in "$DIR"/*/; do
        in_netns "$NS" "$SLUICE" ovs down --instance "$i" || left=1
    done
    for pid in $(processes_of "$DIR/"); do
        echo "left: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        kill -9 "$pid"
        left=1
    done
    if [ -n "$(devices "$NS")" ]; then
        echo "left: $(devices "$NS")"
        left=1
    fi
    ip netns del "$NS"
    [ -z "$NS2" ] || ip netns del "$NS2"
    rm -r "$DIR"
    return $left
}

ovs() {
    in_netns "$NS" "$SLUICE" ovs "$@"
}

# The pid of ovsdb_pid or vswitchd_pid as status tells it.
pid_of() {
    ovs status --json --instance "$1" | sed -n "s/.*\"$2\": \([0-9]*\).*/\1/p"
}

gone() {
    [ ! -d "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"
}

kill_both() {
    local a b
    a=$(pid_of "$1" ovsdb_pid)
    b=$(pid_of "$1" vswitchd_pid)
    kill -9 "$a" "$b"
    eventually gone "$a"
    eventually gone "$b"
}

assert_nothing() {
    [ ! -e "$1/ovs" ]
    [ -z "$(processes_of "$1/")" ]
    [ -z "$(devices "$NS")" ]
}

@test "up, status and down" {
    run ovs status --instance "$DIR/a"
    [ "$status" = 1 ]
    [[ "$output" = *"running       no"* ]]

    ovs up --instance "$DIR/a" --bridge br0 --bridge br1
    run ovs status --instance "$DIR/a"
    [ "$status" = 0 ]
    [[ "$output" = *"running       yes"* ]]
    [[ "$output" = *"version       "[0-9]* ]]
    [[ "$output" = *"bridge        br0, 0 ports"* ]]
    [[ "$output" = *"bridge        br1, 0 ports"* ]]
    [ "$(devices "$NS" | sort | xargs)" = "br0 br1 ovs-netdev" ]
    [ -S "$DIR/a/ovs/br0.mgmt" ]

    ovs down --instance "$DIR/a"
    assert_nothing "$DIR/a"
    run ovs status --instance "$DIR/a"
    [ "$status" = 1 ]
}

@test "--json" {
    ovs up --instance "$DIR/a" --bridge br0 --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
assert status["running"] and status["ovsdb_pid"] > 0 and status["vswitchd_pid"] > 0
assert status["bridges"] == [{"name": "br0", "ports": 0}]
'
    ovs down --instance "$DIR/a" --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
assert not status["running"] and status["ovsdb_pid"] == 0 and status["bridges"] == []
'
}

@test "the bridge is standalone, userspace, without multicast snooping" {
    ovs up --instance "$DIR/a" --bridge br0
    run ovs-vsctl --db="unix:$DIR/a/ovs/db.sock" --bare \
        --columns=datapath_type,fail_mode,mcast_snooping_enable list bridge br0
    [ "$(echo "$output" | xargs)" = "netdev standalone false" ]
}

@test "up again changes nothing and adds what is missing" {
    ovs up --instance "$DIR/a" --bridge br0
    a=$(pid_of "$DIR/a" ovsdb_pid)
    b=$(pid_of "$DIR/a" vswitchd_pid)
    ovs up --instance "$DIR/a" --bridge br0 --bridge br0 --bridge br1
    [ "$(pid_of "$DIR/a" ovsdb_pid)" = "$a" ]
    [ "$(pid_of "$DIR/a" vswitchd_pid)" = "$b" ]
    [ "$(devices "$NS" | sort | xargs)" = "br0 br1 ovs-netdev" ]
}

@test "several up at once make one" {
    for i in 1 2 3 4 5; do
        ovs up --instance "$DIR/a" --bridge br0 --bridge "b$i" &
        pids[i]=$!
    done
    for i in 1 2 3 4 5; do
        wait "${pids[i]}"
    done
    [ "$(pgrep -cf -- "--pidfile=$DIR/a/ovs/ovs-vswitchd.pid")" = 1 ]
    [ "$(pgrep -cf -- "--pidfile=$DIR/a/ovs/ovsdb-server.pid")" = 1 ]
    [ "$(devices "$NS" | wc -l)" = 7 ]
}

@test "down where nothing runs, or nothing is" {
    ovs down --instance "$DIR/none"
    [ ! -e "$DIR/none" ]
    mkdir -p "$DIR/a/ovs"
    ovs down --instance "$DIR/a"
    [ ! -e "$DIR/a/ovs" ]
}

@test "up after both daemons were killed" {
    ovs up --instance "$DIR/a" --bridge br0
    kill_both "$DIR/a"
    run ovs status --instance "$DIR/a"
    [ "$status" = 1 ]
    ovs up --instance "$DIR/a" --bridge br0 --bridge br1
    ovs status --instance "$DIR/a"
    [ "$(devices "$NS" | sort | xargs)" = "br0 br1 ovs-netdev" ]
}

@test "up after one daemon was killed" {
    for which in ovsdb_pid vswitchd_pid; do
        ovs up --instance "$DIR/a" --bridge br0
        pid=$(pid_of "$DIR/a" $which)
        kill -9 "$pid"
        eventually gone "$pid"
        ovs up --instance "$DIR/a" --bridge br0
        ovs status --instance "$DIR/a"
    done
}

@test "down after both daemons were killed removes their devices" {
    ovs up --instance "$DIR/a" --bridge br0
    kill_both "$DIR/a"
    [ -n "$(devices "$NS")" ]
    ovs down --instance "$DIR/a"
    assert_nothing "$DIR/a"
}

@test "down leaves other taps alone, even of a name in the database" {
    ovs up --instance "$DIR/a" --bridge br0
    in_netns "$NS" ip tuntap add dev mytap mode tap
    kill_both "$DIR/a"
    in_netns "$NS" python3 -c '
import fcntl, struct, sys, time
tap = open("/dev/net/tun", "r+b", buffering=0)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH", b"br0", 0x1002))
print("held", flush=True)
sys.stdin.read()
' < <(sleep 5) >"$DIR/held" &
    eventually grep -q held "$DIR/held"
    ovs down --instance "$DIR/a"
    [ "$(devices "$NS" | sort | xargs)" = "br0 mytap" ]
    wait
    in_netns "$NS" ip link del br0
    in_netns "$NS" ip link del mytap
}

@test "a stale pid file with a foreign pid harms nobody" {
    mkdir -p "$DIR/a/ovs"
    sleep 300 3>&- &
    foreign=$!
    echo $foreign >"$DIR/a/ovs/ovs-vswitchd.pid"
    echo $foreign >"$DIR/a/ovs/ovsdb-server.pid"
    ovs down --instance "$DIR/a"
    kill -0 $foreign

    mkdir -p "$DIR/a/ovs"
    echo $foreign >"$DIR/a/ovs/ovs-vswitchd.pid"
    echo $foreign >"$DIR/a/ovs/ovsdb-server.pid"
    ovs up --instance "$DIR/a" --bridge br0
    kill -0 $foreign
    [ "$(pid_of "$DIR/a" vswitchd_pid)" != $foreign ]
    ovs down --instance "$DIR/a"
    kill -0 $foreign
    kill $foreign
}

@test "daemons whose pid files are gone are found" {
    ovs up --instance "$DIR/a" --bridge br0
    rm "$DIR/a/ovs/ovs-vswitchd.pid" "$DIR/a/ovs/ovsdb-server.pid"
    ovs status --instance "$DIR/a"
    ovs up --instance "$DIR/a" --bridge br0
    rm -r "$DIR/a/ovs"
    ovs down --instance "$DIR/a"
    [ -z "$(processes_of "$DIR/a/")" ]
    in_netns "$NS" ip link del br0 # its database is gone: nobody knows the name
    assert_nothing "$DIR/a"
}

@test "up completes what a killed up began" {
    for wait in 0.005 0.01 0.02 0.04 0.08 0.12; do
        ovs up --instance "$DIR/a" --bridge br0 &
        up=$!
        sleep $wait
        kill -9 $up 2>/dev/null || true
        wait $up || true
        ovs up --instance "$DIR/a" --bridge br0
        ovs status --instance "$DIR/a"
        ovs down --instance "$DIR/a"
        assert_nothing "$DIR/a"
    done
}

@test "down from wherever a killed up stopped" {
    for wait in 0.005 0.01 0.02 0.04 0.08 0.12; do
        ovs up --instance "$DIR/a" --bridge br0 &
        up=$!
        sleep $wait
        kill -9 $up 2>/dev/null || true
        wait $up || true
        ovs down --instance "$DIR/a"
        assert_nothing "$DIR/a"
    done
}

@test "two instances in two namespaces" {
    make_netns ovs2 NS2
    ovs up --instance "$DIR/a" --bridge br0
    in_netns "$NS2" "$SLUICE" ovs up --instance "$DIR/b" --bridge br0
    [ "$(devices "$NS2" | sort | xargs)" = "br0 ovs-netdev" ]
    ovs down --instance "$DIR/a"
    assert_nothing "$DIR/a"
    in_netns "$NS2" "$SLUICE" ovs status --instance "$DIR/b"
    # Called from another namespace, it still finds the devices in theirs.
    ovs down --instance "$DIR/b"
    [ -z "$(devices "$NS2")" ]
}

@test "up refuses to straddle two namespaces" {
    make_netns ovs2 NS2
    ovs up --instance "$DIR/a" --bridge br0
    run in_netns "$NS2" "$SLUICE" ovs up --instance "$DIR/a" --bridge br0
    [ "$status" = 1 ]
    [[ "$output" = *"another network namespace"* ]]
}

@test "a second Open vSwitch in one namespace is told what is wrong" {
    ovs up --instance "$DIR/a" --bridge br0
    run ovs up --instance "$DIR/b" --bridge br1
    [ "$status" = 1 ]
    [[ "$output" = *"br1"*"another Open vSwitch has the userspace datapath"* ]]
    run ovs status --instance "$DIR/b" # nothing of it is left running
    [ "$status" = 1 ]
    ovs status --instance "$DIR/a"
    [ "$(devices "$NS" | sort | xargs)" = "br0 ovs-netdev" ]
}

@test "an over-long path is refused with the limit" {
    long=$DIR/$(printf 'x%.0s' $(seq 90))
    run ovs up --instance "$long" --bridge br0
    [ "$status" = 1 ]
    [[ "$output" = *"$long/ovs/"*"107"* ]]
    [ ! -e "$long/ovs" ]
}

@test "wrong arguments" {
    for arguments in "" "sideways" "up down" "up --bridge" "up --nonsense" "down --bridge br0"; do
        run "$SLUICE" ovs $arguments
        [ "$status" = 2 ]
        [[ "$output" = *"Try 'sluice ovs --help'"* ]]
    done
    for arguments in "down --dpdk" "up --hugepages 64" "up --dpdk --hugepages 0" "up --dpdk --hugepages x"; do
        run "$SLUICE" ovs $arguments
        [ "$status" = 2 ]
    done
    run ovs up --instance "$DIR/a" --bridge a/b
    [ "$status" = 1 ]
    [ ! -e "$DIR/a/ovs" ]
    run "$SLUICE" ovs --help
    [ "$status" = 0 ]
    [[ "$output" = "Usage: sluice ovs"* ]]
}

@test "ports" {
    ovs up --instance "$DIR/a" --bridge br0
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_ports" "$DIR/a/ovs/db.sock" br0
}

@test "ports when ovs-vswitchd is dead, or does not answer" {
    ovs up --instance "$DIR/a" --bridge br0
    pid=$(pid_of "$DIR/a" vswitchd_pid)
    kill -STOP "$pid"
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_ports" "$DIR/a/ovs/db.sock" br0 stopped
    kill -9 "$pid"
    eventually gone "$pid"
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_ports" "$DIR/a/ovs/db.sock" br0 dead
}

@test "down removes many ports, and those that were moved to other namespaces" {
    ovs up --instance "$DIR/a" --bridge br0
    make_netns ovs2 NS2
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_ports" "$DIR/a/ovs/db.sock" br0 leave 100
    [ "$(devices "$NS" | wc -l)" = 102 ]
    in_netns "$NS" ip link set leave7 netns "$NS2"
    [ "$(devices "$NS2")" = leave7 ]
    ovs down --instance "$DIR/a"
    assert_nothing "$DIR/a"
    [ -z "$(devices "$NS2")" ]
}

# ovs-vswitchd has removed the devices of the ports that were removed.
only_bridge() {
    [ "$(devices "$NS" | sort | xargs)" = "br0 ovs-netdev" ]
}

@test "the batcher" {
    ovs up --instance "$DIR/a" --bridge br0
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_batcher" "$DIR/a/ovs/db.sock" br0
    eventually only_bridge
}

@test "the batcher when ovs-vswitchd is dead, or does not answer" {
    ovs up --instance "$DIR/a" --bridge br0
    pid=$(pid_of "$DIR/a" vswitchd_pid)
    kill -STOP "$pid"
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_batcher" "$DIR/a/ovs/db.sock" br0 stopped
    kill -9 "$pid"
    eventually gone "$pid"
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_batcher" "$DIR/a/ovs/db.sock" br0 dead
}

@test "the batcher under load while ovsdb-server is killed and started again" {
    ovs up --instance "$DIR/a" --bridge br0
    in_netns "$NS" "$SLUICE_BUILD/tests/netns/ovs_batcher" "$DIR/a/ovs/db.sock" br0 \
        load "$DIR/enough" &
    load=$!
    for i in 1 2 3; do
        sleep 1
        pid=$(pid_of "$DIR/a" ovsdb_pid)
        kill -9 "$pid"
        eventually gone "$pid"
        ovs up --instance "$DIR/a"
    done
    touch "$DIR/enough"
    wait $load
    eventually only_bridge
}

# ---- with DPDK ----

PAGES=/sys/devices/system/node/node0/hugepages/hugepages-2048kB

# need_dpdk, and there being none of the instance's pages free, so that they must be made.
want_pages() { # PAGES
    need_dpdk "$1"
    before=$(cat $PAGES/nr_hugepages)
    wanted=$(($(cat $PAGES/free_hugepages) + $1))
}

pages_are() { # TOTAL
    [ "$(cat $PAGES/nr_hugepages)" = "$1" ]
}

@test "up --dpdk: it runs with DPDK on hugepages that it adds to the host's; down gives them back" {
    want_pages 32
    ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages $wanted
    pages_are $((before + 32))
    [ "$(cat $PAGES/free_hugepages)" = 0 ]
    run ovs status --instance "$DIR/a"
    [[ "$output" = *"with DPDK"* ]]
    [ "$(ovs-vsctl --db="unix:$DIR/a/ovs/db.sock" get open_vswitch . dpdk_initialized)" = true ]
    [ "$(devices "$NS" | sort | xargs)" = "br0 ovs-netdev" ]
    ovs down --instance "$DIR/a"
    assert_nothing "$DIR/a"
    pages_are "$before"
}

@test "up --dpdk takes hugepages that are free" {
    need_dpdk 64
    free=$(cat $PAGES/free_hugepages)
    [ "$free" -ge 32 ] || skip "fewer than 32 hugepages are free"
    before=$(cat $PAGES/nr_hugepages)
    ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages 32
    pages_are "$before"
    ovs down --instance "$DIR/a"
    pages_are "$before"
    [ "$(cat $PAGES/free_hugepages)" = "$free" ]
}

@test "up again with DPDK changes nothing, and brings it back with DPDK after a crash" {
    want_pages 32
    ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages $wanted
    pid=$(pid_of "$DIR/a" vswitchd_pid)
    ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages $wanted
    ovs up --instance "$DIR/a"
    [ "$(pid_of "$DIR/a" vswitchd_pid)" = "$pid" ]
    kill_both "$DIR/a"
    ovs up --instance "$DIR/a"
    run ovs status --instance "$DIR/a"
    [[ "$output" = *"with DPDK"* ]]
    pages_are $((before + 32))
    kill_both "$DIR/a"
    ovs down --instance "$DIR/a"
    assert_nothing "$DIR/a"
    pages_are "$before"
}

@test "up refuses to change what runs: to DPDK, or to another number of hugepages" {
    need_dpdk 33
    ovs up --instance "$DIR/a" --bridge br0
    run ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages 32
    [ "$status" = 1 ]
    [[ "$output" = *"runs without DPDK: stop it first"* ]]
    ovs down --instance "$DIR/a"
    ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages 32
    run ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages 33
    [ "$status" = 1 ]
    [[ "$output" = *"runs with 32 hugepages, not 33: stop it first"* ]]
    ovs status --instance "$DIR/a"
}

@test "up --dpdk without the memory for it says how much there is, and leaves nothing" {
    need_dpdk 32
    before=$(cat $PAGES/nr_hugepages)
    run ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages 1000000
    [ "$status" = 1 ]
    [[ "$output" = *"1000000 hugepages of 2 MB are needed; $(cat $PAGES/free_hugepages) are free"* ]]
    [[ "$output" = *"hugepages=1000000"* ]]
    pages_are "$before"
    assert_nothing "$DIR/a"
}

@test "up --dpdk killed at some point: up completes it, down gives every hugepage back" {
    want_pages 32
    for wait in 0.02 0.04 0.06 0.08 0.1 0.15 0.2 0.3; do
        for then in up down; do
            ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages $wanted &
            up=$!
            sleep $wait
            kill -9 $up 2>/dev/null || true
            wait $up || true
            if [ $then = up ]; then
                ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages $wanted
                ovs status --instance "$DIR/a"
            fi
            ovs down --instance "$DIR/a"
            assert_nothing "$DIR/a"
            pages_are "$before"
        done
    done
}

@test "two instances with DPDK at once each get their hugepages" {
    need_dpdk 128
    before=$(cat $PAGES/nr_hugepages)
    make_netns ovs2 NS2
    ovs up --instance "$DIR/a" --bridge br0 --dpdk --hugepages 64 &
    up=$!
    in_netns "$NS2" "$SLUICE" ovs up --instance "$DIR/b" --bridge br0 --dpdk --hugepages 64
    wait $up
    ovs status --instance "$DIR/a"
    in_netns "$NS2" "$SLUICE" ovs status --instance "$DIR/b"
    ovs down --instance "$DIR/a"
    ovs down --instance "$DIR/b"
    pages_are "$before"
}
