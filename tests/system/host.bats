#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# sluice doctor and sluice clean, through the program.

load ../netns/helpers
load ../netns/cni

setup_file() {
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_root
    need ovs-vsctl jq
}

teardown() {
    host_check
}

clean() {
    in_netns "$HOST" "$SLUICE" clean "$@"
}

@test "doctor finds what this host has, names a way to what it has not, and leaves nothing" {
    local before
    before=$(devices "$HOST")
    run in_netns "$HOST" "$SLUICE" doctor --instance "$DIR/i"
    [ "$status" = 0 ]
    [[ "$output" = *"ok       veth"*"works"* ]]
    [[ "$output" = *"ok       running"*"$DIR/i"* ]]
    [[ "$output" = *"Everything that is needed is here."* ]]
    [ "$(devices "$HOST")" = "$before" ]
    in_netns "$HOST" "$SLUICE" doctor --json |
        jq -e 'length > 20 and all(.state == "ok" or (.hint | length) > 0)' >/dev/null
}

@test "doctor without root: exit 1, and says so" {
    run setpriv --reuid 65534 --clear-groups "$SLUICE" doctor
    [ "$status" = 1 ]
    [[ "$output" = *"missing  root"*"run as root"* ]]
}

@test "clean takes attachments of every kind by their records, and gives the addresses back" {
    make_pods a b c d
    for pair in a:ovs b:ovs-macvlan c:ovs-macvtap d:ovs-internal; do
        conf "${pair#*:}" '.ipam.subnet = "10.9.0.0/24" | .name = "net-'"${pair%:*}"'"'
        add "${pair%:*}"
    done
    run clean --instance "$DIR/i"
    [ "$status" = 0 ]
    [[ "$output" = "Removed: 4 attachments"* ]]
    for pod in a b c d; do
        [ -z "$(in_pod $pod ip -o link show eth0 2>/dev/null)" ]
    done
    [ -z "$(devices "$HOST")" ]
    [ ! -e "$DIR/i/attachments" ]
    [ ! -e "$DIR/i/ipam" ]
    run clean --instance "$DIR/i"
    [ "$status" = 0 ]
    [[ "$output" = "Removed: 0 attachments, 0 devices, 0 OVS ports"* ]]
}

@test "clean of one instance leaves another's pods alone" {
    make_pods a
    conf ovs-macvlan
    add a
    in_netns "$HOST" "$SLUICE" clean --instance "$DIR/other"
    in_pod a ip -o link show eth0 >/dev/null
    [ -n "$(vsctl list-ports br0)" ]
    del a
}

@test "clean removes devices and ports whose records are lost, and no foreign ones" {
    make_pods a
    conf ovs
    add a
    in_netns "$HOST" ip link add keep0 type veth peer name keep1
    vsctl --no-wait add-port br0 keep0
    rm -rf "$DIR/i/attachments"
    in_netns "$HOST" "$SLUICE" clean --instance "$DIR/i"
    [ "$(devices "$HOST" | sort | xargs)" = "keep0 keep1" ]
    in_netns "$HOST" ip link del keep0
}
