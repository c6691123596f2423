#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The agent: its life and its death, what it does while Open vSwitch fails, and clients that misbehave.

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
    need ovs-vswitchd ovs-vsctl jq ping python3 setpriv
    PLUGIN=$DIR/thin/sluice-cni
    HELPER=
    rm -f "$DIR/alone"
}

teardown() {
    [ -z "$HELPER" ] || kill -KILL "$HELPER"
    kill -CONT "$(vswitchd)" 2>/dev/null || true
    [ ! -e "$DIR/agent.pid" ] || kill -CONT "$(agent_pid)" 2>/dev/null || true
    agent_down
    rm -rf "$DIR"/out.* "$DIR/i/state"
    host_check
}

vswitchd() {
    cat "$DIR/i/ovs/ovs-vswitchd.pid"
}

# The agent did all since the last time; or the standalone plugin did some of it.
by_agent() {
    [ ! -e "$DIR/alone" ] || { echo "alone: $(cat "$DIR/alone")"; return 1; }
}

alone() {
    [ -e "$DIR/alone" ] && rm "$DIR/alone"
}

# Starts agent_client.py; what it says goes to $DIR/helper, first of all "ready".
helper() {
    "$BATS_TEST_DIRNAME/agent_client.py" "$@" >"$DIR/helper" 2>&1 3>&- &
    HELPER=$!
    eventually grep -q ready "$DIR/helper" || { cat "$DIR/helper"; return 1; }
}

# An ADD of a pod under way, in the background as $WORK, that waits for ovs-vswitchd, which is stopped.
begin_add() { # POD [VARIABLE=VALUE...]
    kill -STOP "$(vswitchd)"
    cni ADD "$@" >"$DIR/out.$1" 3>&- &
    WORK=$!
    eventually test -s "$DIR/i/attachments/$1/eth0@net.json"
}

said() { # JQ POD
    jq -r "$1" "$DIR/out.$2"
}

in_flight() {
    [ "$(agent_call agent.status | jq .calls_in_flight)" = "$1" ]
}

# ---- one agent ----

@test "a second agent of one instance refuses, names the first, and does it no harm" {
    agent_up
    run in_netns "$HOST" "$SLUICE_BUILD/cmd/sluiced" --instance "$DIR/i"
    [ "$status" = 1 ]
    [ "$output" = "sluiced: instance $DIR/i has an agent already (process $(agent_pid))" ]
    [ "$(agent_call agent.status | jq .pid)" = "$(agent_pid)" ]
    # Another name of the directory is the same instance's.
    ln -sfn "$DIR/i" "$DIR/link"
    run in_netns "$HOST" "$SLUICE_BUILD/cmd/sluiced" --instance "$DIR/link"
    [ "$status" = 1 ]
    agent_call agent.status
}

@test "a new agent starts where one was killed: its lock and its socket are no hindrance" {
    agent_up
    agent_down KILL
    [ -S "$DIR/i/sluiced.sock" ]
    agent_up
    agent_down
    [ ! -e "$DIR/i/sluiced.sock" ]
}

@test "the socket is its owner's alone, and who is neither root nor the agent's user is turned away" {
    agent_up
    [ "$(stat -c '%a %U' "$DIR/i/sluiced.sock")" = "600 root" ]
    chmod 755 "$DIR" "$DIR/i"
    cp "$BATS_TEST_DIRNAME/agent_client.py" "$DIR/tool"
    nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups "$DIR/tool" call "$DIR/i" agent.status)
    run "${nobody[@]}"
    [ "$status" = 1 ]
    [[ "$output" = *"Permission denied"* ]]
    chmod 666 "$DIR/i/sluiced.sock" # by whom is not the question
    run "${nobody[@]}"
    [ "$status" = 1 ]
    [[ "$output" = *"closed the connection"* || "$output" = *"Broken pipe"* || "$output" = *"reset by peer"* ]]
    agent_call agent.status
}

@test "options that can't be: status 2 and what is allowed" {
    for option in --instance=run --http=0 --http=x --slow-width=0 --create-width=9999 nonsense --none; do
        run "$SLUICE_BUILD/cmd/sluiced" "$option"
        [ "$status" = 2 ]
        [[ "$output" = *"--help"* ]]
    done
}

# ---- the end ----

@test "SIGTERM: calls under way are finished, new ones are refused, which the plugin then does alone" {
    make_pods a b c
    agent_up
    conf ovs-macvlan '.name = "mac" | .ipam.subnet = "10.2.0.0/24"'
    add c # the tenant's port is there from now on
    conf ovs
    begin_add a
    in_flight 1
    by_agent
    kill -TERM "$(agent_pid)"
    eventually grep -q "ending: 1 calls" "$DIR/agent.log"
    agent_call agent.status | jq -e .stopping
    conf ovs-macvlan '.name = "mac" | .ipam.subnet = "10.2.0.0/24"'
    add b
    alone
    del b
    alone
    ! agent_gone
    kill -CONT "$(vswitchd)"
    wait "$WORK"
    [ "$(said '.ips[0].address' a)" = 10.1.0.2/24 ]
    by_agent
    eventually agent_gone
    [ ! -e "$DIR/i/sluiced.sock" ]
    del c
    conf ovs
    del a
    assert_clean
}

@test "killed in the middle of an ADD: code 11, and DEL clears it, by the plugin alone or a new agent" {
    make_pods a
    conf ovs
    for next in alone agent; do
        agent_up
        begin_add a
        agent_down KILL
        ! wait "$WORK"
        [ "$(said '"\(.code) \(.msg)"' a)" = "11 the agent ended while it worked on this; DEL and try again" ]
        kill -CONT "$(vswitchd)"
        if [ $next = agent ]; then
            agent_up
            [ "$(agent_call agent.status | jq .found_at_start.adding)" = 1 ]
        fi
        del a
        no_device a
        assert_clean
        add a
        del a
        agent_down
    done
}

@test "the agent stopped: code 11 at the deadline, and DEL right behind it leaves nothing" {
    make_pods a
    agent_up
    for kind in ovs ovs-macvlan; do
        conf $kind
        add a # the tenant's port is made
        del a
        kill -STOP "$(agent_pid)"
        refuses 11 "the agent did not answer within 2 s" ADD a SLUICE_DEADLINE_S=2
        # Both are there when it goes on, the ADD first.
        cni DEL a >"$DIR/out.a" 3>&- &
        eventually eval '[ -n "$(processes_of "^$DIR/thin/sluice-cni")" ]'
        kill -CONT "$(agent_pid)"
        wait $!
        eventually in_flight 0
        no_device a
        assert_clean
    done
    by_agent
}

@test "DEL of an ADD that is still at work waits for it and clears it, whoever asked first has gone" {
    make_pods a
    agent_up
    conf ovs
    begin_add a
    kill -KILL $(processes_of "^$DIR/thin/sluice-cni")
    ! wait "$WORK"
    cni DEL a >"$DIR/out.a" 3>&- &
    work=$!
    eventually in_flight 2
    kill -CONT "$(vswitchd)"
    wait $work
    eventually in_flight 0
    no_device a
    [ -z "$(leases)" ]
    assert_clean
    by_agent
}

@test "killed under 100 pods: their network stays, and DEL works by the plugin alone and by a new agent" {
    pods=$(printf 'p%s ' $(seq 100))
    first=$(printf 'p%s ' $(seq 1 2 100))
    second=$(printf 'p%s ' $(seq 2 2 100))
    make_pods $pods
    agent_up
    conf ovs
    burst ADD $first
    conf ovs-macvlan
    burst ADD $second
    by_agent
    agent_down KILL
    # Of one sort, of the other, and from one sort to the other.
    address() { said '.ips[0].address | sub("/.*"; "")' "$1"; }
    pings p1 "$(address p99)"
    pings p2 "$(address p100)"
    pings p1 "$(address p100)"
    [ "$(cat "$DIR"/out.p* | jq -r '.ips[0].address' | sort -u | wc -l)" = 100 ]
    conf ovs
    burst DEL $(printf 'p%s ' $(seq 1 4 100))
    alone
    agent_up
    [ "$(agent_call agent.status | jq .found_at_start.attachments)" = 75 ]
    pings p3 "$(address p100)"
    burst DEL $(printf 'p%s ' $(seq 3 4 100))
    conf ovs-macvlan
    burst DEL $second
    by_agent
    assert_clean
}

# ---- beside the plugin alone ----

@test "an instance that is not the agent's: the plugin does it alone" {
    make_pods a
    agent_up
    mkdir "$DIR/j"
    conf ovs '.socket_file = "unix:\($dir)/i/ovs/db.sock" | .sluiceDir = "\($dir)/j"'
    add a
    alone
    ln -s "$DIR/i/sluiced.sock" "$DIR/j/sluiced.sock" # the agent itself is to notice
    del a
    alone
    [ -z "$(vsctl list-ports br0)" ]
    [ -z "$(find "$DIR/j/attachments" -type f)" ]
    rm -r "$DIR/j"
}

@test "agent and standalone plugin at once on one network: no address twice, and each undoes the other's" {
    pods=$(printf 'p%s ' $(seq 40))
    make_pods $pods
    agent_up
    conf ovs-macvlan '.ipam.rangeStart = "10.1.0.10" | .ipam.rangeEnd = "10.1.0.49"'
    for round in 1 2 3; do
        i=0
        for pod in $pods; do
            ((++i % 2)) && PLUGIN=$DIR/thin/sluice-cni || PLUGIN=$SLUICE_BUILD/cmd/sluice-cni-standalone
            cni ADD $pod >"$DIR/out.$pod" 3>&- &
        done
        wait_all
        [ "$(cat "$DIR"/out.p* | jq -r '.ips[0].address' | sort -u | wc -l)" = 40 ]
        [ "$(leases | wc -l)" = 40 ]
        refuses 102 "*no address left*" ADD more CNI_NETNS="$(netns_path p1)" CNI_IFNAME=net1
        for pod in $pods; do
            ((++i % 3)) && PLUGIN=$DIR/thin/sluice-cni || PLUGIN=$SLUICE_BUILD/cmd/sluice-cni-standalone
            cni DEL $pod 3>&- &
        done
        wait_all
        [ -z "$(leases)" ]
    done
    by_agent
    assert_clean
}

# wait, but for the agent.
wait_all() {
    local pid
    for pid in $(jobs -p); do
        [ "$pid" = "$(agent_pid)" ] || wait "$pid"
    done
}

@test "VERSION, STATUS and errors: word for word what the standalone plugin says" {
    make_pods a
    agent_up
    both() {
        PLUGIN=$DIR/thin/sluice-cni
        one=$(cni "$@") || one+=" status $?"
        PLUGIN=$SLUICE_BUILD/cmd/sluice-cni-standalone
        two=$(cni "$@") || two+=" status $?"
        [ "$one" = "$two" ] || { echo "$one"; echo "$two"; return 1; }
    }
    for version in 0.1.0 0.4.0 1.0.0 1.1.0 9.9.9; do
        for kind in ovs ovs-macvlan loopback; do
            conf $kind ".cniVersion = \"$version\""
            both VERSION a CNI_CONTAINERID= CNI_NETNS= CNI_IFNAME=
            both STATUS a
            both CHECK a
            both GC a
            both ADD a CNI_NETNS=/nowhere
            both NONSENSE a
            change_conf '.bridge = "nobridge" | .tenant = "other"'
            [ $kind = loopback ] || both ADD a
        done
    done
    by_agent
    assert_clean
}

@test "GC and STATUS by the agent, and its counts of them" {
    make_pods a b
    agent_up
    conf ovs
    add a
    add b
    change_conf '.["cni.dev/valid-attachments"] = [{containerID: "b", ifname: "eth0"}]'
    cni GC x CNI_CONTAINERID= CNI_NETNS= CNI_IFNAME=
    no_device a
    [ "$(devices "$(netns_name b)")" = eth0 ]
    cni STATUS x
    change_conf '.bridge = "nobridge"'
    refuses 50 "*nobridge*" STATUS x
    by_agent
    eventually in_flight 0
    counts=$(agent_call agent.status | jq -r '[.calls[] | select(.kind == "ovs") | "\(.verb) \(.ok) \(.failed)"] | sort | join(", ")')
    [ "$counts" = "ADD 2 0, GC 1 0, STATUS 1 1" ]
    conf ovs
    del b
    assert_clean
}

@test "two hundred ADDs of each kind at once, then DEL at once: nothing is left" {
    pods=$(printf 'p%s ' $(seq 200))
    make_pods $pods
    agent_up
    for kind in $BRIDGE_KINDS ovs-dev-pool; do
        echo "kind $kind"
        conf $kind
        burst ADD $pods
        [ "$(cat "$DIR"/out.p* | jq -r '.ips[0].address' | sort -u | wc -l)" = 200 ]
        [ "$(leases | wc -l)" = 200 ]
        burst DEL $pods
        assert_clean
    done
    [ -z "$(for pod in p1 p57 p200; do devices "$(netns_name $pod)"; done)" ]
    by_agent
}

# ---- gates ----

held_and_waiting() {
    [ "$(agent_call gate.show | jq -r '.gates[] | select(.stage == "cni") | "\(.held) \(.waiting)"')" = "$1 $2" ]
}

@test "a call that waits at the gate and is killed gives its place up; one at work keeps its permit to the end" {
    make_pods a b c
    agent_up
    agent_call gate.set '{"v": 1, "limits": {"cni": 1}}'
    conf ovs
    begin_add a
    for pod in b c; do
        cni ADD $pod >"$DIR/out.$pod" 3>&- &
    done
    eventually held_and_waiting 1 2
    # The plugin itself, whose standard input the shell holds.
    kill -KILL $(processes_of "^$DIR/thin/sluice-cni")
    eventually held_and_waiting 1 0
    kill -CONT "$(vswitchd)"
    eventually held_and_waiting 0 0
    [ -d "$DIR/i/attachments/a" ]
    [ ! -e "$DIR/i/attachments/b" ]
    add b
    del b
    del a
    held_and_waiting 0 0
    assert_clean
}

@test "SIGHUP reads the limits again; what can't be read leaves those that hold" {
    agent_up
    mkdir -p "$DIR/i/state"
    limit() { agent_call gate.show | jq '.gates[] | select(.stage == "cni").limit'; }
    limit_is() { [ "$(limit)" = "$1" ]; }
    echo '{"v":1,"limits":{"cni":3}}' >"$DIR/i/state/gates.json"
    kill -HUP "$(agent_pid)"
    eventually limit_is 3
    echo '{"v":1,"limits":{"cni":' >"$DIR/i/state/gates.json"
    kill -HUP "$(agent_pid)"
    eventually grep -q "settings are not read again.*gates.json" "$DIR/agent.log"
    limit_is 3
    agent_down
    run in_netns "$HOST" "$SLUICE_BUILD/cmd/sluiced" --instance "$DIR/i" # at the start it is an error
    [ "$status" = 1 ]
    [[ "$output" = *"gates.json"* ]]
    [ ! -e "$DIR/i/sluiced.sock" ]
}

@test "the service manager hears of READY, RELOADING and STOPPING" {
    helper notify "$DIR/notify"
    NOTIFY_SOCKET=$DIR/notify agent_up
    eventually grep -qx READY=1 "$DIR/helper"
    kill -HUP "$(agent_pid)"
    eventually grep -qx RELOADING=1 "$DIR/helper"
    agent_down
    eventually grep -qx STOPPING=1 "$DIR/helper"
    [ "$(grep -v ^MONOTONIC_USEC= "$DIR/helper" | xargs)" = "ready READY=1 RELOADING=1 READY=1 STOPPING=1" ]
    kill "$HELPER"
    HELPER=
    rm "$DIR/notify"
}

# ---- Open vSwitch ----

@test "OVSDB killed and started again under the agent: later calls work, those before have code 11" {
    make_pods a b
    agent_up
    for kind in ovs ovs-macvlan ovs-internal; do
        conf $kind
        add a
        kill -KILL "$(cat "$DIR/i/ovs/ovsdb-server.pid")"
        change_conf '.tenant = "other" | .vlan = 9'
        refuses 11 "*$DIR/i/ovs/db.sock*" ADD b
        no_device b
        [ ! -e "$DIR/i/attachments/b" ]
        in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
        add b
        del b
        conf $kind
        del a
        assert_clean
    done
    by_agent
}

@test "ovs-vswitchd stuck: an error by the deadline, and the others are served meanwhile" {
    make_pods a b
    agent_up
    conf ovs-macvlan '.name = "mac" | .ipam.subnet = "10.2.0.0/24"'
    add b
    del b
    conf ovs
    kill -STOP "$(vswitchd)"
    cni ADD a SLUICE_DEADLINE_S=3 >"$DIR/out.a" 3>&- &
    work=$!
    eventually in_flight 1
    conf ovs-macvlan '.name = "mac" | .ipam.subnet = "10.2.0.0/24"'
    add b
    del b
    conf loopback
    add b CNI_IFNAME=lo
    ! wait $work
    [[ "$(said '"\(.code) \(.msg)"' a)" = "11 "*"ovs-vswitchd"* ]]
    by_agent
    kill -CONT "$(vswitchd)"
    conf ovs
    del a
    assert_clean
    add a
    del a
}

@test "ovs-vswitchd dead: an error by the deadline that names it; started again, calls work" {
    make_pods a
    agent_up
    conf ovs
    kill -KILL "$(vswitchd)"
    refuses 11 "*ovs-vswitchd*" ADD a SLUICE_DEADLINE_S=2
    del a
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
    for kind in $BRIDGE_KINDS; do
        conf $kind
        add a
        del a
    done
    by_agent
    assert_clean
}

# ---- what is left of another boot ----

@test "records of another boot are removed at the start, with their OVS ports and addresses" {
    make_pods a b c
    conf ovs
    add a
    add c
    conf ovs-macvlan
    add b
    port=$(jq -r 'select(.hostDevice).hostDevice' "$DIR/i/attachments/c/eth0@net.json")
    for pod in a b; do
        sed -i 's/"bootId":"[^"]*"/"bootId":"00000000-0000-0000-0000-000000000000"/g' \
            "$DIR/i/attachments/$pod/eth0@net.json"
    done
    drop_pods a b
    agent_up
    grep -q "2 of another boot removed" "$DIR/agent.log"
    [ "$(ls "$DIR/i/attachments")" = c ]
    [ "$(leases | awk '{print $2}')" = c ]
    [ "$(vsctl list-ports br0 | grep -v ^st)" = "$port" ]
    [ "$(devices "$(netns_name c)")" = eth0 ]
    conf ovs
    del c
    assert_clean
}

@test "a record that can't be read does not keep the agent from starting, and DEL removes it" {
    make_pods a
    conf ovs
    add a
    agent_up
    agent_down
    truncate -s 30 "$DIR/i/attachments/a/eth0@net.json"
    agent_up
    del a
    no_device a
    assert_clean
}

# ---- clients ----

@test "five thousand connections that say nothing do not stop service" {
    ulimit -n 20000 || skip "no more descriptors allowed"
    make_pods a
    agent_up
    helper idle "$DIR/i" 5000
    eventually eval '[ "$(agent_call agent.status | jq .connections)" -gt 5000 ]'
    conf ovs-macvlan
    add a
    del a
    by_agent
    kill -KILL "$HELPER"
    HELPER=
    eventually eval '[ "$(agent_call agent.status | jq .connections)" = 1 ]'
    assert_clean
}

@test "out of descriptors: those that are connected are served, and new ones once there is room" {
    make_pods a
    (ulimit -n 100; agent_up)
    ulimit -n 4000
    helper idle "$DIR/i" 300
    kill -KILL "$HELPER"
    HELPER=
    conf ovs
    add a
    del a
    assert_clean
}

@test "who asks and never reads is cut off, and the others are served meanwhile" {
    make_pods a
    agent_up
    "$BATS_TEST_DIRNAME/agent_client.py" mute "$DIR/i" >"$DIR/helper" 3>&- &
    mute=$!
    conf ovs-macvlan
    for i in 1 2 3; do
        add a
        del a
    done
    by_agent
    wait $mute
    grep -q "cut off after" "$DIR/helper"
    add a
    del a
    by_agent
    assert_clean
}

@test "garbage on the socket is answered or hung up on, and does no harm" {
    make_pods a
    agent_up
    "$BATS_TEST_DIRNAME/agent_client.py" garbage "$DIR/i" || { cat "$DIR/agent.log"; return 1; }
    conf ovs
    add a
    del a
    by_agent
    [ "$(readlink "/proc/$(agent_pid)/fd/0")" = /dev/null ] # closed by nobody
    [ "$(agent_call pool.show | jq '.pools | length')" = 0 ]
    eventually eval '[ "$(agent_call agent.status | jq -c "[.connections, .calls_in_flight]")" = "[1,0]" ]'
    assert_clean
}

@test "clients that go before they are answered leave nothing waiting" {
    agent_up
    agent_call gate.set '{"v": 1, "limits": {"cni": 1}}'
    for i in $(seq 20); do
        "$BATS_TEST_DIRNAME/agent_client.py" leave "$DIR/i" gate.acquire '{"stage": "cni"}'
        "$BATS_TEST_DIRNAME/agent_client.py" leave "$DIR/i" agent.status
        "$BATS_TEST_DIRNAME/agent_client.py" leave "$DIR/i" pool.show
    done
    eventually held_and_waiting 0 0
}
