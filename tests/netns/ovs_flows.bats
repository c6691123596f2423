#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Flows and meters on a private Open vSwitch: the OpenFlow client and its batcher.

load helpers

setup() {
    need_root
    need ovs-vswitchd ovsdb-server ovs-vsctl ovs-ofctl nsenter
    DIR=$(mktemp -d /tmp/sluice-flows-XXXXXX)
    make_netns flows NS
    ovs up --instance "$DIR" --bridge br0
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
