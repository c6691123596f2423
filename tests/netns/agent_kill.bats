#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The agent killed at random instants under bursts of ADDs, and started again: ROUNDS times (20), from
# SEED on (any).

load helpers
load cni

setup_file() {
    host_up
    thin_plugin
}

teardown_file() {
    host_down
}

setup() {
    need_root
    need ovs-vswitchd ovs-vsctl jq python3
}

teardown() {
    for pid in $(processes_of "sluiced --instance $DIR/i"); do
        kill "$pid"
    done
    host_check
}

@test "the agent killed under 20 ADDs at once, again and again: every pod has its network, nothing is left" {
    pods=$(printf 'p%s ' $(seq 20))
    make_pods $pods
    paths=()
    for pod in $pods; do
        paths+=("$(netns_path "$pod")")
    done
    in_netns "$HOST" env SLUICE_BUILD="$SLUICE_BUILD" "$BATS_TEST_DIRNAME/agent_kill.py" "$DIR" \
        "${ROUNDS:-20}" "${SEED:-$((RANDOM * 32768 + RANDOM))}" "${paths[@]}" >"$DIR/rounds" 2>&1 ||
        { cat "$DIR/rounds"; return 1; }
    sed 's/^/# /' "$DIR/rounds" >&3
    [ -z "$(pods_left)" ]
}
