#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Pools: parts made ready, taken by a pod, given back, used again or not, and all of them gone at last.

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
    need_host
    need ovs-vswitchd ovs-vsctl jq ping python3
    PLUGIN=$DIR/thin/sluice-cni
    HELPER=
    rm -f "$DIR/alone"
}

teardown() {
    [ -z "$HELPER" ] || kill -KILL "$HELPER"
    agent_down
    rm -rf "$DIR"/out.* "$DIR/i/state"
    host_check
}

# A network with a pool: {target: 3, ...} laid over a cool-down of an hour, so that nothing cools by
# itself; and a jq filter for the rest.
pool_conf() { # KIND LIMITS [JQ]
    conf "$1" ".pool = {cool_down_ms: 3600000} + $2 | ${3:-.}"
}

# Changes limits of the pool of network net.
pool_set() { # JSON
    agent_call pool.set "{\"network\": \"net\", \"pool\": $1}" >/dev/null
}

pool() { # JQ
    agent_call pool.show | jq -r ".pools[] | select(.network == \"net\") | $1"
}

pool_is() { # FREE COOLING TAKEN
    [ "$(pool '"\(.free) \(.cooling) \(.taken) \(.making)"')" = "$1 $2 $3 0" ]
}

pool_settled() { # all there is, is free
    [ "$(pool '"\(.cooling) \(.taken) \(.making)"')" = "0 0 0" ]
}

# Waits for it.
pool_becomes() {
    eventually pool_is "$@" || { agent_call pool.show; cat "$DIR/agent.log"; return 1; }
}

# The pool of CONF, full: STATUS is the first that the agent hears of it.
fill() {
    cni STATUS x >/dev/null || true
    pool_becomes "$(jq .pool.target <<<"$CONF")" 0 0
}

drain() {
    agent_call pool.drain '{"network": "net"}' >/dev/null
    pool_becomes 0 0 "${1:-0}"
}

# Numbers of parts that there are; and the device of each, or of a pod.
parts() {
    ls "$DIR/i/attachments/sluice-pool" 2>/dev/null | sed 's/@.*//' | sort -n
}

device_of() { # CONTAINER [IFNAME]
    jq -r 'select(.hostDevice).hostDevice' "$DIR/i/attachments/$1/${2:-eth0}@net.json"
}

part_of() { # POD
    jq -r 'select(.part).part' "$DIR/i/attachments/$1/eth0@net.json" | head -n 1
}

helper() {
    "$BATS_TEST_DIRNAME/agent_client.py" "$@" >"$DIR/helper" 2>&1 3>&- &
    HELPER=$!
    eventually grep -q ready "$DIR/helper" || { cat "$DIR/helper"; return 1; }
}

# ---- filling ----

@test "STATUS is 50 until the floor is there, then it is well and stays so" {
    make_pods a b
    agent_up
    pool_conf ovs-dev-pool '{target: 3, floor: 3, rate: 1}'
    refuses 50 "the pool of network net has [012] of the 3 parts that it starts with" STATUS x
    eventually cni STATUS x
    add a
    add b
    cni STATUS x
    del a
    del b
    drain
    assert_clean
}

@test "limits that can't be are refused by every verb that brings them, and by pool.set" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: -1}'
    refuses 7 "pool.target: -1 is not allowed; *" ADD a
    pool_conf ovs-dev-pool '{target: 3, floor: 4}'
    refuses 7 "pool: floor 4, target 3, maximum 6: must be *" STATUS x
    conf ovs-dev-pool '.pool = 3'
    refuses 7 "pool: 3 is not allowed; *" ADD a
    for params in '{}' '{"network": "none"}' '{"conf": {"name": "net", "type": "loopback"}}' \
        '{"conf": {"name": "net", "type": "ovs-dev-pool"}}' \
        '{"conf": {"name": "net", "type": "ovs", "bridge": "br0", "sluiceDir": "/other"}}' \
        "{\"conf\": $(conf ovs && echo "$CONF"), \"pool\": {\"target\": 200000}}"; do
        run agent_call pool.set "$params"
        [ "$status" = 1 ]
    done
    [ "$(agent_call pool.show)" = '{"pools":[]}' ]
    conf loopback '.pool = {target: 5}'
    add a
    [ "$(agent_call pool.show)" = '{"pools":[]}' ]
    assert_clean
}

@test "a pool of what can't be made: ADD says why, the agent tries ever less often, and lives" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 5}' '.bridge = "nobridge"'
    refuses 104 "*nobridge*" ADD a
    eventually eval '[ "$(pool .failed)" -gt 4 ]'
    grep -q "a part could not be made: .*nobridge" "$DIR/agent.log"
    drain
    assert_clean
}

# ---- taking and giving back ----

@test "ADD takes a part with its address; DEL gives it back, and another pod has it once it has cooled" {
    make_pods a b c
    agent_up
    pool_conf ovs-dev-pool '{target: 1, maximum: 9}'
    fill
    ip=$(leases | awk '$2 == "sluice-pool" && $3 == "1" {print $1}')
    device=$(device_of sluice-pool 1)
    [ "$(vsctl port-to-br "$device")" = br0 ]
    add a
    [ "$IP" = "$ip" ]
    [ "$(jq -r '.interfaces[0].name' <<<"$ADDED")" = "$device" ]
    [ "$(part_of a)" = 1 ]
    [ "$(leases | grep "^$ip ")" = "$ip a eth0" ]
    pool_becomes 1 0 1
    change_conf --argjson r "$ADDED" '.prevResult = $r'
    cni CHECK a
    change_conf 'del(.prevResult)'
    del a
    [ "$(leases | grep "^$ip ")" = "$ip sluice-pool 1" ]
    [ ! -e "$DIR/i/attachments/a" ]
    pool_becomes 1 1 0
    add b
    [ "$(part_of b)" = 2 ]
    pool_becomes 1 1 1
    pool_set '{"cool_down_ms": 0}'
    pool_becomes 2 0 1
    pool_set '{"cool_down_ms": 3600000}'
    add a
    add c
    [ "$(printf '%s\n' "$(part_of a)" "$(part_of c)" | sort | xargs)" = "1 3" ]
    [ "$(pool '"\(.hits) \(.misses)"')" = "4 0" ]
    for pod in a b c; do
        del $pod
    done
    drain
    assert_clean
    [ ! -e "$DIR/alone" ]
}

@test "where host-local shares the network, addresses move in its own files" {
    need "$CNI_PLUGINS/host-local"
    make_pods a
    pool_conf ovs-dev-pool '{target: 2}' '.cniVersion = "1.0.0"'
    theirs() {
        CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/x CNI_IFNAME=eth0 CNI_PATH=$CNI_PLUGINS \
            "$CNI_PLUGINS/host-local" <<<"$CONF" >"$DIR/out.$2"
    }
    owner() { tr -d '\r' <"$DIR/host-local/net/$1" | xargs; }
    theirs ADD one
    [ "$(owner 10.1.0.2)" = "one eth0" ]
    agent_up
    agent_call pool.set "{\"conf\": $CONF}"
    pool_becomes 2 0 0
    [ "$(grep -l sluice-pool "$DIR"/host-local/net/10.* | wc -l)" = 2 ]
    add a
    [ "$(owner "$IP")" = "a eth0" ]
    theirs ADD two
    [ "$(owner "$(jq -r '.ips[0].address | sub("/.*"; "")' "$DIR/out.two")")" = "two eth0" ]
    del a
    [[ "$(owner "$IP")" = "sluice-pool "* ]]
    theirs DEL one
    theirs DEL two
    drain
    [ -z "$(find "$DIR/host-local/net" -name '10.*')" ]
    assert_clean
}

@test "a tap that somebody still holds is not used again, but removed; let go of, it would have been" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 1, maximum: 9}'
    fill
    add a
    device=$(device_of a)
    helper open "$DIR/i" a
    grep -q "ready 1" "$DIR/helper"
    del a
    pool_becomes 1 0 0
    [ -z "$(leases | grep "^$IP ")" ]
    ! in_netns "$HOST" ip link show "$device"
    [ ! -e "$DIR/i/attachments/sluice-pool/1@net.json" ]
    kill -KILL "$HELPER"
    HELPER=
    add a
    helper open "$DIR/i" a eth0
    kill -KILL "$HELPER"
    wait "$HELPER" || true
    HELPER=
    del a
    pool_becomes 1 1 0
    drain
    assert_clean
}

@test "a macvtap, which may be open many times, is never used again" {
    make_pods a b
    agent_up
    pool_conf ovs-dev-pool '{target: 1, maximum: 9}' '.poolType = "macvtap"'
    fill
    for pod in a b; do
        add $pod
        [ "$(part_of $pod)" -gt 0 ]
        device=$(device_of $pod)
        del $pod
        pool_becomes 1 0 0
        ! in_netns "$HOST" ip link show "$device"
    done
    [ "$(pool '"\(.hits) \(.given)"')" = "2 0" ]
    drain
    assert_clean
}

@test "an empty pool: ADD makes a device of its own, which DEL removes" {
    make_pods a b c
    agent_up
    pool_conf ovs-dev-pool '{target: 1, rate: 1}'
    fill
    burst ADD a b c
    [ "$(cat "$DIR"/out.[abc] | jq -r '.ips[0].address' | sort -u | wc -l)" = 3 ]
    [ "$(pool '.misses')" -ge 1 ]
    burst DEL a b c
    drain
    assert_clean
}

@test "a requested address, or MAC, is not a part's: none is taken" {
    make_pods a b c
    agent_up
    pool_conf ovs-dev-pool '{target: 2}'
    fill
    add a CNI_ARGS=IP=10.1.0.77
    [ "$IP" = 10.1.0.77 ]
    add b CNI_ARGS=MAC=02:00:00:00:00:77
    change_conf '.runtimeConfig.ips = ["10.1.0.78/24"]'
    [ -z "$(part_of a)$(part_of b)" ]
    change_conf 'del(.runtimeConfig)'
    pool_is 2 0 0
    [ "$(pool '"\(.hits) \(.misses)"')" = "0 0" ]
    del a
    del b
    drain
    assert_clean
}

@test "an ADD that fails before it has touched its part leaves it to others" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 2, maximum: 2}'
    fill
    add a
    pool_becomes 2 0 1
    made=$(pool .made)
    pool_set '{"cool_down_ms": 0, "target": 2, "maximum": 9}'
    for i in 1 2 3; do
        refuses 101 "*DEL it first" ADD a
        refuses 4 "CNI_NETNS: *" ADD b CNI_NETNS=/nowhere
    done
    pool_becomes "$(($(pool .made) - 1))" 0 1
    [ "$(parts | wc -l)" = "$(pool .made)" ]
    del a
    drain
    assert_clean
}

@test "a part whose device is gone: ADD makes one of its own, and what is left of the part goes" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 1, maximum: 1}'
    fill
    in_netns "$HOST" ip link del "$(device_of sluice-pool 1)"
    add a
    [ -z "$(part_of a)" ]
    pool_becomes 1 0 0
    [ "$(parts)" = 2 ]
    grep -q "part 1 is broken" "$DIR/agent.log"
    del a
    drain
    assert_clean
}

@test "CHECK of a pod whose device changed tells so, and takes nothing away from it" {
    local device
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 1}'
    fill
    add a
    device=$(device_of a)
    in_netns "$HOST" ip link set "$device" down
    CONF=$(jq -c --argjson added "$ADDED" '.prevResult = $added' <<<"$CONF")
    refuses 105 "host device $device is down" CHECK a
    CONF=$(jq -c 'del(.prevResult)' <<<"$CONF")
    pool_becomes 1 0 1
    in_netns "$HOST" ip link show "$device"
    [ -e "$DIR/i/attachments/a/eth0@net.json" ]
    del a
    drain
    assert_clean
}

@test "GC of a pod that has a part gives it back with its address, and it serves the next pod" {
    make_pods a b
    agent_up
    pool_conf ovs-dev-pool '{target: 1, maximum: 2, cool_down_ms: 0}'
    fill
    add a
    [ "$(part_of a)" = 1 ]
    (change_conf '.["cni.dev/valid-attachments"] = [] | .["cni.dev/attachments"] = []' && cni GC x)
    pool_becomes 2 0 0
    [ "$(parts | xargs)" = "1 2" ]
    [ "$(leases | awk '{print $2}' | sort | uniq -c | xargs)" = "2 sluice-pool" ]
    add a
    add b
    [ "$(printf '%s\n' "$(part_of a)" "$(part_of b)" | sort | xargs)" = "1 2" ]
    del a
    del b
    drain
    assert_clean
}

# ---- changes ----

@test "the configuration changes: old parts go, taken ones when they come back, and new ones are made" {
    make_pods a b
    agent_up
    pool_conf ovs-dev-pool '{target: 3, maximum: 9}'
    fill
    add a
    old=$CONF
    taken=$(part_of a)
    pool_becomes 3 0 1
    change_conf '.vlan = 5'
    add b
    [ "$(vsctl get Port "$(device_of b)" tag)" = 5 ]
    [ -z "$(part_of b)" ]
    pool_becomes 3 0 1
    for part in $(parts); do
        [ "$part" = "$taken" ] || [ "$(vsctl get Port "$(device_of sluice-pool "$part")" tag)" = 5 ]
    done
    new=$CONF
    CONF=$old
    del a
    CONF=$new
    pool_becomes 3 0 0
    [ ! -e "$DIR/i/attachments/sluice-pool/$taken@net.json" ]
    # To another kind, whose parts are namespaces.
    conf ovs-macvlan '.pool = {target: 2}'
    fill
    [ "$(find "$DIR/i/pool" -mindepth 1 | wc -l)" = 2 ]
    CONF=$new
    del b
    drain
    assert_clean
}

@test "the configuration changes in the midst of filling: no part of the old one stays" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 30}'
    for vlan in 1 2 3 4; do
        change_conf ".vlan = $vlan"
        cni STATUS x
        change_conf ".vlan = $((vlan + 10))"
        cni STATUS x
    done
    pool_becomes 30 0 0
    [ "$(for device in $(vsctl list-ports br0); do vsctl get Port "$device" tag; done | sort -u)" = 14 ]
    drain
    assert_clean
}

@test "what was set or drained holds, whatever the same configuration says with every call" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 2}'
    fill
    pool_set '{"target": 4}'
    pool_becomes 4 0 0
    add a
    del a
    [ "$(pool .limits.target)" = 4 ]
    drain
    add a
    del a
    pool_is 0 0 0
    [ "$(pool .draining)" = true ]
    change_conf '.pool.target = 1'
    add a
    [ "$(pool .limits.target)" = 1 ]
    pool_becomes 1 0 0
    del a
    drain
    assert_clean
}

@test "drain while parts are taken and cool: they go as they come back, and nothing is left" {
    make_pods a b c
    agent_up
    pool_conf ovs-dev-pool '{target: 4, maximum: 20}'
    fill
    add a
    add b
    add c
    del c
    pool_becomes 4 1 2
    drain 2
    [ "$(parts | wc -l)" = 2 ]
    del a
    pool_becomes 0 0 1
    del b
    pool_becomes 0 0 0
    assert_clean
}

@test "OVS away while the pool is drained: drained again it leaves nothing" {
    agent_up
    pool_conf ovs-dev-pool '{target: 4}'
    fill
    kill -STOP "$(cat "$DIR/i/ovs/ovsdb-server.pid")"
    agent_call pool.drain '{"network": "net"}'
    kill -KILL "$(cat "$DIR/i/ovs/ovsdb-server.pid")"
    eventually eval '[ "$(grep -c "could not be removed" "$DIR/agent.log")" -ge 4 ] || pool_is 0 0 0'
    ovs_up
    drain
    assert_clean
}

# ---- another agent ----

@test "the next agent has the same parts: free, cooling and taken ones, none made anew or twice" {
    make_pods a b c
    agent_up
    pool_conf ovs-dev-pool '{target: 3, maximum: 9}'
    fill
    add a
    add b
    pool_becomes 3 0 2
    before=$(vsctl list-ports br0 | sort)
    for signal in TERM KILL; do
        agent_down $signal
        agent_up
        pool_becomes 3 0 2
        [ "$(vsctl list-ports br0 | sort)" = "$before" ]
        [ "$(pool .made)" = 0 ]
    done
    add c
    [ "$(part_of c)" -gt 0 ]
    for pod in a b c; do
        del $pod
    done
    [ "$(parts | wc -l)" = "$(leases | wc -l)" ]
    drain
    assert_clean
}

@test "saved pools are there at the next start; what was not saved is not, when nothing of it is left" {
    agent_up
    pool_conf ovs-dev-pool '{target: 2}'
    fill
    agent_call pool.save | jq -e '.pools == 1'
    agent_down
    agent_up
    pool_becomes 2 0 0
    drain
    rm "$DIR/i/state/pools.json"
    agent_down
    agent_up
    [ "$(agent_call pool.show)" = '{"pools":[]}' ]
    echo '{"v": 1, "networks": [{"name": 7}]}' >"$DIR/i/state/pools.json"
    agent_down
    run in_netns "$HOST" "$SLUICE_BUILD/cmd/sluiced" --instance "$DIR/i"
    [ "$status" = 1 ]
    [[ "$output" = *"pools.json: name: 7 is not allowed"* ]]
    assert_clean
}

@test "without an agent: the plugin alone takes a pod apart that has a part, and the next agent knows" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 1}'
    fill
    add a
    pool_becomes 1 0 1
    agent_down KILL
    device=$(device_of a)
    del a
    ! in_netns "$HOST" ip link show "$device"
    [ "$(parts)" = 2 ]
    agent_up
    pool_becomes 1 0 0
    drain
    assert_clean
}

@test "a number that a pod's record names is not a new part's" {
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 1}'
    fill
    add a
    pool_becomes 1 0 1
    drain 1
    agent_down KILL
    # As it is when DEL is killed between the removal of the two records.
    rm -r "$DIR/i/attachments/sluice-pool"
    agent_up
    pool_conf ovs-dev-pool '{target: 1}'
    fill
    [ "$(parts)" = 2 ]
    del a
    [ "$(parts)" = 2 ]
    drain
    assert_clean
}

@test "parts of another boot are removed at the start" {
    agent_up
    pool_conf ovs-dev-pool '{target: 3}'
    fill
    agent_down
    sed -i 's/"bootId":"[^"]*"/"bootId":"00000000-0000-0000-0000-000000000000"/g' \
        "$DIR"/i/attachments/sluice-pool/*
    agent_up
    grep -q "3 of another boot removed" "$DIR/agent.log"
    [ "$(agent_call pool.show)" = '{"pools":[]}' ]
    assert_clean
}

@test "a part killed as its record was written is nothing, and in nobody's way" {
    agent_up
    pool_conf ovs-dev-pool '{target: 2}'
    fill
    agent_down
    : >"$DIR/i/attachments/sluice-pool/3@net.json"
    printf '{"v":1,"state":"addi' >"$DIR/i/attachments/sluice-pool/4@net.json"
    agent_up
    [ "$(parts | xargs)" = "1 2" ]
    pool_set '{"target": 4}'
    pool_becomes 4 0 0
    [ "$(pool .failed)" = 0 ]
    drain
    assert_clean
}

# What there is of the pool and its pods, counted in four places.
inventory() {
    echo "$(parts | wc -l) $(leases | wc -l) $(vsctl list-ports br0 | wc -l)" \
        "$(devices "$HOST" | grep -c '^sl')"
}

@test "killed at random while it fills, again and again: no part is lost and none is there twice" {
    pool_conf ovs-dev-pool '{target: 30, rate: 100}'
    for i in $(seq 12); do
        agent_up
        cni STATUS x || true
        sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
        agent_down KILL
    done
    agent_up
    cni STATUS x
    pool_becomes 30 0 0
    [ "$(inventory)" = "30 30 30 30" ] || { inventory; return 1; }
    drain
    assert_clean
}

@test "killed at random while it empties: the next one finds what is left" {
    pool_conf ovs-dev-pool '{target: 20}'
    for i in $(seq 5); do
        agent_up
        agent_call pool.set "{\"conf\": $CONF}"
        pool_becomes 20 0 0
        agent_call pool.drain '{"network": "net"}'
        sleep "0.0$((RANDOM % 10))"
        agent_down KILL
    done
    agent_up
    agent_call pool.set "{\"conf\": $CONF}"
    pool_becomes 20 0 0
    [ "$(inventory)" = "20 20 20 20" ]
    drain
    assert_clean
}

@test "killed at random while 20 pods come and go: each DEL works, and nothing is left" {
    pods=$(printf 'p%s ' $(seq 20))
    make_pods $pods
    pool_conf ovs-dev-pool '{target: 10, cool_down_ms: 50}'
    come_and_go() { # POD
        local i
        for i in 1 2 3 4 5; do
            cni ADD "$1" >/dev/null || true # code 11: DEL and try again
            cni DEL "$1" || return 1
        done
    }
    agent_up
    pids=()
    for pod in $pods; do
        come_and_go $pod >"$DIR/out.$pod" 3>&- &
        pids+=($!)
    done
    for i in $(seq 6); do
        sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
        agent_down KILL
        agent_up
    done
    for pid in "${pids[@]}"; do
        wait $pid || { cat "$DIR"/out.*; return 1; }
    done
    cni STATUS x
    eventually pool_settled
    n=$(pool .free)
    [ "$(inventory)" = "$n $n $n $n" ] || { inventory; agent_call pool.show; return 1; }
    drain
    assert_clean
}

# ---- whole namespaces ----

take() { # POD
    "$BATS_TEST_DIRNAME/agent_client.py" take "$DIR/i" net "$1" "$(netns_path "$1")"
}

@test "a pool of namespaces: one is taken with device, address and route; ADD joins it, DEL ends it" {
    agent_up
    for kind in ovs-macvlan ovs; do
        echo "kind $kind"
        conf $kind
        agent_call pool.set "{\"conf\": $CONF, \"pool\": {\"target\": 2}}"
        pool_becomes 2 0 0
        [ "$(find "$DIR/i/pool" -mindepth 1 | wc -l)" = 2 ]
        for pod in a b; do
            take $pod
            [ "$(devices "$(netns_name $pod)")" = eth0 ]
            ip=$(in_pod $pod ip -j addr show eth0 | jq -r '.[0].addr_info[0].local')
            [[ "$(in_pod $pod ip route)" = *"default via 10.1.0.1 dev eth0"* ]]
            [ "$(leases | grep "^$ip ")" = "$ip $pod eth0" ]
            add $pod
            [ "$IP" = "$ip" ]
            [ "$(jq -r '.interfaces[] | select(.sandbox).mac' <<<"$ADDED")" = \
                "$(in_pod $pod cat /sys/class/net/eth0/address)" ]
            refuses 101 "*DEL it first" ADD $pod # once
            change_conf --argjson r "$ADDED" '.prevResult = $r'
            cni CHECK $pod
            change_conf 'del(.prevResult)'
        done
        pings a "$IP"
        pool_becomes 2 0 2
        [ "$(jq -r 'select(.part).part' "$DIR"/i/attachments/[ab]/* | sort -u | wc -l)" = 2 ]
        del a
        no_device a
        del b CNI_NETNS=
        no_device b
        pool_becomes 2 0 0 # which it never came back to
        drain
        drop_pods a b
        assert_clean
        [ -z "$(find "$DIR/i/pool" -mindepth 1)" ]
    done
    [ ! -e "$DIR/alone" ]
}

@test "taken at once by many: no namespace twice, and an empty pool says so" {
    pods=$(printf 'p%s ' $(seq 12))
    agent_up
    conf ovs-macvlan
    agent_call pool.set "{\"conf\": $CONF, \"pool\": {\"target\": 8, \"rate\": 8}}"
    pool_becomes 8 0 0
    pool_set '{"rate": 1}'
    pids=()
    for pod in $pods; do
        take $pod >"$DIR/out.$pod" 2>&1 3>&- &
        pids+=($!)
    done
    got=()
    for pod in $pods; do
        wait "${pids[0]}" && got+=($pod)
        pids=("${pids[@]:1}")
    done
    [ "${#got[@]}" -ge 8 ]
    [ "${#got[@]}" = 12 ] || grep -q "the pool of network net is empty" "$DIR"/out.p*
    for pod in "${got[@]}"; do
        stat -Lc %i "$(netns_path $pod)"
        in_pod $pod ip -j addr show eth0 | jq -r '.[0].addr_info[0].local'
    done >"$DIR/out.seen"
    [ "$(sort -u "$DIR/out.seen" | wc -l)" = "$((2 * ${#got[@]}))" ]
    burst DEL "${got[@]}"
    drain
    assert_clean
}

@test "taken and never added: GC removes it; asked for twice: refused" {
    agent_up
    conf ovs
    agent_call pool.set "{\"conf\": $CONF, \"pool\": {\"target\": 2, \"cool_down_ms\": 0}}"
    pool_becomes 2 0 0
    take a
    run agent_call pool.take \
        "{\"network\": \"net\", \"container_id\": \"a\", \"netns\": \"/x\"}"
    [ "$status" = 1 ]
    [[ "$output" = *"DEL it first"* ]]
    for params in '{"network": "none", "container_id": "b", "netns": "/x"}' '{"network": "net"}' \
        '{"network": "net", "container_id": "../b", "netns": "/x"}'; do
        run agent_call pool.take "$params"
        [ "$status" = 1 ]
    done
    (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
    no_device a
    # The one that was refused is back, before the pool was filled again or after.
    eventually eval 'pool_is 2 0 0 || pool_is 3 0 0'
    [ "$(parts | wc -l)" = "$(pool .free)" ]
    [ "$(leases | awk '{print $2}' | sort -u)" = sluice-pool ]
    drop_pods a
    drain
    assert_clean
}

@test "who takes a namespace and goes: nothing is left of it after GC; the agent killed with it, too" {
    agent_up
    conf ovs-macvlan
    agent_call pool.set "{\"conf\": $CONF, \"pool\": {\"target\": 3}}"
    pool_becomes 3 0 0
    for id in a b; do
        "$BATS_TEST_DIRNAME/agent_client.py" leave "$DIR/i" pool.take \
            "{\"network\": \"net\", \"container_id\": \"$id\", \"netns\": \"/run/netns/none\"}"
    done
    eventually test -e "$DIR/i/attachments/b/eth0@net.json"
    agent_down KILL
    agent_up
    (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
    [ "$(ls "$DIR/i/attachments")" = sluice-pool ]
    pool_becomes 3 0 0
    [ "$(find "$DIR/i/pool" -mindepth 1 | wc -l)" = 3 ]
    drain
    assert_clean
}

@test "killed at random while it makes and hands out namespaces: nothing is left" {
    conf ovs
    for i in $(seq 8); do
        agent_up
        agent_call pool.set "{\"conf\": $CONF, \"pool\": {\"target\": 10}}"
        take "p$i" || true
        sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
        agent_down KILL
    done
    agent_up
    (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
    pool_becomes 10 0 0
    [ "$(parts | wc -l) $(leases | wc -l) $(vsctl list-ports br0 | wc -l)" = "10 10 10" ]
    [ "$(find "$DIR/i/pool" -mindepth 1 | wc -l)" = 10 ]
    drain
    assert_clean
}

# ---- rules and rates ----

root_qdisc() { # DEVICE of the host
    in_netns "$HOST" tc -j qdisc show dev "$1" | jq -r '.[] | select(.root) | .kind'
}

@test "rules and rates: a part gets them when it is taken, and keeps none when it comes back" {
    need ovs-ofctl
    make_pods a
    agent_up
    pool_conf ovs-dev-pool '{target: 2}'
    change_conf '.acl = 3 | .bandwidth = {ingressRate: 5000000, egressRate: 5000000}'
    fill
    [ -z "$(flows)" ]
    add a
    [ -n "$(part_of a)" ]
    device=$(device_of a)
    [ "$(root_qdisc "$device")" = tbf ]
    [ "$(flows 'table=52,ip' | wc -l)" = 3 ]
    [ "$(meters | wc -l)" = 1 ]
    change_conf --argjson added "$ADDED" '.prevResult = $added'
    cni CHECK a
    change_conf 'del(.prevResult)'
    del a
    pool_becomes 2 1 0
    [ -z "$(flows)$(meters)" ]
    [ "$(root_qdisc "$device")" != tbf ]
    drain
    assert_clean
}

@test "rules of one pod, of a network without: it gets a device of its own, on a port for pods with rules" {
    need ovs-ofctl
    make_pods a b
    agent_up
    pool_conf ovs-dev-pool '{target: 2}'
    change_conf '.poolType = "macvtap"'
    fill
    (
        change_conf '.args.cni.acl = 2'
        add a
    )
    add b
    [ -z "$(part_of a)" ]
    [ -n "$(part_of b)" ]
    [ "$(flows 'table=52,ip' | wc -l)" = 2 ]
    [ "$(jq -r 'select(.port).port' "$DIR"/i/attachments/[ab]/* | sort -u | wc -l)" = 2 ]
    del a
    del b
    drain
    assert_clean
}

# ---- the older lock server's API ----

@test "HTTP: fromCNI takes a device of the pool, fromKATA says which; metrics and health" {
    http() { in_netns "$HOST" "$BATS_TEST_DIRNAME/agent_client.py" http 8089 "$1"; }
    agent_up --http 8089
    [ "$(http '/get_virtdev?role=fromCNI&cid=a')" != "200"* ]
    pool_conf ovs-dev-pool '{target: 2}'
    fill
    said=$(http '/get_virtdev?role=fromCNI&cid=a')
    [ "$said" = "200 $(device_of a),tctap" ]
    [ "$(http '/get_virtdev?role=fromKATA&cid=a')" = "$said" ]
    [[ "$(http '/get_virtdev?role=fromKATA&cid=b')" = 4* ]]
    [[ "$(http '/get_virtdev?role=fromCNI&cid=a')" != 200* ]] # it has one
    [[ "$(http '/get_virtdev?role=fromCNI&cid=../a')" = 4* ]]
    pool_becomes 2 0 1
    http /metrics | grep -qx 'sluice_pool_hits_total{network="net"} 1'
    http /metrics | grep -qx 'sluice_pool_taken{network="net"} 1'
    [[ "$(http /healthz)" = 200* ]]
    del a
    pool_becomes 2 1 0
    drain
    assert_clean
}
