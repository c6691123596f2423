#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The kernel's datapath under a private Open vSwitch: claimed, found again, removed.

load helpers
load cni

setup() {
    need_root
    need ovs-vswitchd ovs-vsctl
    DIR=$(mktemp -d /tmp/sluice-datapath-XXXXXX)
    HOST=sluice-h$$-$BATS_TEST_NUMBER
    ip netns add "$HOST"
}

teardown() {
    [ -n "${DIR:-}" ] || return 0
    local i left
    for i in "$DIR"/*/ovs; do
        [ ! -e "$i" ] || ovs down --instance "${i%/ovs}"
    done
    left=$(devices "$HOST")$(processes_of "$DIR/")
    ip netns del "$HOST"
    rm -rf "$DIR"
    [ -z "$left" ] || { echo "left: $left"; return 1; }
}

ovs() {
    in_netns "$HOST" "$SLUICE" ovs "$@"
}

kill_ovs() { # INSTANCE
    local pids pid
    pids=$(cat "$1"/ovs/*.pid)
    kill -9 $pids
    for pid in $pids; do
        eventually [ ! -e "/proc/$pid/exe" ]
    done
}

@test "without the kernel's module: up says so, and leaves nothing" {
    ! kernel_has openvswitch || skip "this kernel has openvswitch"
    run ovs up --instance "$DIR/a" --bridge br0 --datapath system
    [ "$status" = 1 ]
    [[ "$output" = *"this kernel has no Open vSwitch datapath (module openvswitch)"* ]]
    [ ! -e "$DIR/a/ovs" ]
}

@test "a datapath that there is not is a usage error; so is one for down" {
    run ovs up --instance "$DIR/a" --datapath dpdk
    [ "$status" = 2 ]
    [[ "$output" = *"'dpdk' is not netdev or system"* ]]
    run ovs down --instance "$DIR/a" --datapath system
    [ "$status" = 2 ]
}

@test "up, up again and down: the bridge is the kernel's, and gone with all its devices" {
    needs_kernel openvswitch
    ovs up --instance "$DIR/a" --bridge br0 --datapath system
    [ "$(devices "$HOST" | sort | xargs)" = "br0 ovs-system" ]
    ovs up --instance "$DIR/a" --bridge br1 --datapath system
    ovs up --instance "$DIR/a" --bridge br2
    run ovs-vsctl --db="unix:$DIR/a/ovs/db.sock" --columns=name,datapath_type -f csv --no-headings list bridge
    [ "$(sort <<<"$output" | xargs)" = "br0,system br1,system br2,netdev" ]
    ovs down --instance "$DIR/a"
    [ -z "$(devices "$HOST")" ]
    [ ! -e "$DIR/a/ovs" ]
}

@test "killed: its datapath stays; up takes it up again, down removes it" {
    needs_kernel openvswitch
    ovs up --instance "$DIR/a" --bridge br0 --datapath system
    before=$(in_netns "$HOST" ip -o link show br0 | cut -d: -f1)
    kill_ovs "$DIR/a"
    [ "$(devices "$HOST" | sort | xargs)" = "br0 ovs-system" ]
    ovs up --instance "$DIR/a"
    [ "$(in_netns "$HOST" ip -o link show br0 | cut -d: -f1)" = "$before" ]
    kill_ovs "$DIR/a"
    ovs down --instance "$DIR/a"
    [ -z "$(devices "$HOST")" ]
}

@test "one network namespace, one kernel datapath: another OVS is refused it, and the first goes on" {
    needs_kernel openvswitch
    ovs up --instance "$DIR/a" --bridge br0 --datapath system
    run ovs up --instance "$DIR/b" --bridge br1 --datapath system
    [ "$status" = 1 ]
    [[ "$output" = *"another Open vSwitch has the kernel's datapath of this network namespace"* ]]
    [ ! -e "$DIR/b/ovs" ]
    ovs up --instance "$DIR/b" --bridge br1
    run ovs up --instance "$DIR/b" --bridge br2 --datapath system
    [ "$status" = 1 ]
    [[ "$output" = *"started without the kernel's datapath: stop it first"* ]]
    ovs down --instance "$DIR/b"
    [ "$(devices "$HOST" | sort | xargs)" = "br0 ovs-system" ]
    ovs status --instance "$DIR/a"
}

@test "its internal port cannot be a pod's device: ovs-internal is refused, and nothing left" {
    needs_kernel openvswitch
    ovs up --instance "$DIR/i" --bridge br0 --datapath system
    make_pods a
    conf ovs-internal
    refuses 7 "*kernel's datapath*names: kind ovs-internal is for datapath netdev" ADD a
    no_device a
    assert_clean
    drop_pods a
}
