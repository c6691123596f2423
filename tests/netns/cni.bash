# SPDX-License-Identifier: Apache-2.0
# A host (a network namespace with a private Open vSwitch) and its pods, for the tests that call the
# CNI plugin. Needs helpers.bash. One host a file, from setup_file; pods and the rest, a test.

# With SLUICE_AGENT=1 an agent serves the instance, and the plugin is the thin one: the same tests.
AGENT_MODE=${SLUICE_AGENT:-}
PLUGIN=$SLUICE_BUILD/cmd/sluice-cni-standalone
[ -z "$AGENT_MODE" ] || PLUGIN=${DIR:-}/thin/sluice-cni
HOST_OVS=${HOST_OVS:-} # options of the host's Open vSwitch
LINKED_KINDS='ovs-macvlan ovs-macvtap' # those that share a tenant's port

# The bridge's datapath: netdev or system. The tests are the same.
DATAPATH=${SLUICE_DATAPATH:-netdev}
BRIDGE_KINDS='ovs ovs-macvlan ovs-macvtap ovs-tc-routing'
[ $DATAPATH = system ] || BRIDGE_KINDS+=' ovs-internal'
# Those that are tested with packets under rules and rates; all of them by the agent, which is quicker.
POLICY_KINDS='ovs ovs-macvlan'
[ -z "$AGENT_MODE" ] || POLICY_KINDS="$BRIDGE_KINDS ovs-dev-pool/tap ovs-dev-pool/macvtap"
! kernel_has ipvlan || POLICY_KINDS='ovs-ipvlan ovs-ipvtap' # in tests/vm

has_datapath() {
    [ $DATAPATH != system ] || kernel_has openvswitch
}

# For setup: skips the test where host_up has made no host.
need_host() {
    need_root
    has_datapath || needs_kernel openvswitch
}

# For setup_file: sets and exports HOST and DIR; the instance is $DIR/i, its bridge br0.
host_up() {
    [ "$(id -u)" = 0 ] && has_datapath || return 0
    export HOST=sluice-h$$ DIR
    DIR=$(mktemp -d /tmp/sluice-cni-XXXXXX)
    ip netns add "$HOST"
    in_netns "$HOST" ip link set lo up
    ovs_up
    if [ -n "$AGENT_MODE" ]; then
        thin_plugin
        agent_up
    fi
}

ovs_up() {
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0 --datapath $DATAPATH $HOST_OVS
}

# For teardown_file.
host_down() {
    [ -n "${DIR:-}" ] || return 0
    agent_down
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    ip netns del "$HOST"
    rm -rf "$DIR"
}

# ---- the agent of the instance ----

# Starts it and waits until it serves; its words go to $DIR/agent.log, which begins anew.
agent_up() { # [OPTION...]
    : >"$DIR/agent.log"
    nsenter --net="/run/netns/$HOST" "$SLUICE_BUILD/cmd/sluiced" --instance "$DIR/i" "$@" \
        </dev/null >>"$DIR/agent.log" 2>&1 3>&- &
    echo $! >"$DIR/agent.pid"
    eventually agent_serves || { cat "$DIR/agent.log"; return 1; }
}

agent_pid() {
    cat "$DIR/agent.pid"
}

agent_serves() {
    grep -q "serving instance" "$DIR/agent.log"
}

# Asks it by its socket: METHOD [PARAMS]. Prints the result, or the error and fails.
agent_call() {
    local said rc=0
    said=$("$SLUICE_BUILD/tests/netns/agent_tool" "$DIR/i" "$1" "${2:-{\}}" 3>&-) || rc=$?
    said=${said#*:*:}
    echo "${said%\}}"
    return $rc
}

agent_gone() {
    ! kill -0 "$(agent_pid)" 2>/dev/null
}

# SIGTERM, after which it must end well (a sanitizer tells at the end, too), or another signal.
agent_down() { # [SIGNAL]
    local pid rc=0
    [ -e "$DIR/agent.pid" ] || return 0
    pid=$(agent_pid)
    agent_gone || kill "-${1:-TERM}" "$pid"
    eventually agent_gone || { echo "the agent does not end"; return 1; }
    rm "$DIR/agent.pid"
    wait "$pid" 2>/dev/null || rc=$?
    # 127: another shell's child.
    [ -n "${1:-}" ] || [ $rc = 0 ] || [ $rc = 127 ] ||
        { echo "the agent ended with $rc:"; cat "$DIR/agent.log"; return 1; }
}

# The thin plugin, in $DIR/thin, beside a standalone one that tells in $DIR/alone that it was called.
thin_plugin() {
    mkdir -p "$DIR/thin"
    cp "$SLUICE_BUILD/cmd/sluice-cni" "$DIR/thin"
    cat >"$DIR/thin/sluice-cni-standalone" <<END
#!/bin/sh
echo "\$CNI_COMMAND \$CNI_CONTAINERID" >>$DIR/alone
exec $SLUICE_BUILD/cmd/sluice-cni-standalone
END
    chmod +x "$DIR/thin/sluice-cni-standalone"
}

# Where an agent serves, what is its instance's must not be done without it.
check_not_alone() {
    [ -n "$AGENT_MODE" ] && [ -e "$DIR/alone" ] || return 0
    if [[ "$CONF" != *"\"sluiceDir\":\"$DIR/i\""* ]]; then
        rm -f "$DIR/alone"
        return 0
    fi
    echo "not done by the agent: $(cat "$DIR/alone")"
    tail "$DIR/agent.log"
    return 1
}

vsctl() {
    ovs-vsctl --db="unix:$DIR/i/ovs/db.sock" --timeout=10 "$@"
}

ofctl() { # COMMAND [ARGUMENT...]
    ovs-ofctl -O OpenFlow14 "$1" "unix:$DIR/i/ovs/br0.mgmt" "${@:2}"
}

ours() {
    echo cookie=0x51ce000000000000/0xffff000000000000
}

# Our flows, one a line, and those of them that are not a tenant's mark.
flows() { # [MATCH]
    [ ! -S "$DIR/i/ovs/br0.mgmt" ] || ofctl dump-flows "$(ours)${1:+,$1}" | grep ' cookie=' || true
}

meters() {
    [ ! -S "$DIR/i/ovs/br0.mgmt" ] || ofctl dump-meters | grep -o 'meter=[0-9]*' || true
}

pod_flows() {
    flows | grep -v 'table=53.* actions=drop' || true
}

# ---- pods: $1 is a short name, which is the container's ID too ----

netns_name() {
    echo "$HOST-$BATS_TEST_NUMBER-$1"
}

netns_path() {
    echo "/run/netns/$(netns_name "$1")"
}

make_pods() {
    local pod
    for pod in "$@"; do
        ip netns add "$(netns_name "$pod")"
    done
}

drop_pods() {
    local pod
    for pod in "$@"; do
        ip netns del "$(netns_name "$pod")"
    done
}

in_pod() {
    local pod=$1
    shift
    ip netns exec "$(netns_name "$pod")" "$@" 3>&-
}

pings() { # POD ADDRESS
    in_pod "$1" ping -q -c 1 -W 2 "$2" >/dev/null
}

cannot_ping() {
    run in_pod "$1" ping -q -c 1 -W 0.5 "$2"
    [ "$status" -ne 0 ]
}

# ---- the plugin ----

# Sets CONF: a network of kind $1, changed by the jq filter $2.
conf() {
    CONF='{"cniVersion":"1.1.0","name":"net","type":"'$1'","bridge":"br0","sluiceDir":"'$DIR'/i",'
    CONF+='"ipam":{"type":"host-local","subnet":"10.1.0.0/24","dataDir":"'$DIR'/host-local",'
    CONF+='"routes":[{"dst":"0.0.0.0/0"}]}}'
    [ -z "${2:-}" ] || change_conf --arg kind "$1" --arg dir "$DIR" "$2"
}

change_conf() { # JQ FILTER, and arguments of jq before it
    CONF=$(jq -c "$@" <<<"$CONF")
}

# Runs the plugin with CONF in the host's namespace; standard error goes to $DIR/stderr. With
# KILL_AT=N it is killed at its N-th step: see kill_steps.c, of which KILL_BY is an option.
cni() { # COMMAND POD [VARIABLE=VALUE...]
    local command=$1 pod=$2 rc=0
    shift 2
    in_netns "$HOST" env -i PATH="$PATH" CNI_COMMAND="$command" CNI_CONTAINERID="$pod" \
        CNI_NETNS="$(netns_path "$pod")" CNI_IFNAME=eth0 CNI_PATH="$CNI_PLUGINS" "$@" \
        ${KILL_AT:+"$SLUICE_BUILD/tests/netns/kill_steps" $KILL_BY "$KILL_AT"} "$PLUGIN" <<<"$CONF" \
        2>"$DIR/stderr" || rc=$?
    check_not_alone && return $rc
}

# ADD that must work: its answer goes to ADDED, the first address without its prefix to IP.
add() { # POD [VARIABLE=VALUE...]
    ADDED=$(cni ADD "$@") || { echo "$ADDED"; return 1; }
    [[ $ADDED =~ \"address\":\ *\"([^\"/]*) ]] && IP=${BASH_REMATCH[1]} || IP=
}

# DEL that must work and say nothing.
del() {
    local said
    said=$(cni DEL "$@") || { echo "DEL: $said"; return 1; }
    [ -z "$said" ] || { echo "DEL said: $said"; return 1; }
}

# All at once; the answers come in $DIR/out.POD.
burst() { # COMMAND POD...
    local command=$1 pod pids=() failed=0
    shift
    for pod in "$@"; do
        cni "$command" "$pod" >"$DIR/out.$pod" 3>&- &
        pids+=($!)
    done
    for pod in "$@"; do
        wait "${pids[0]}" || { failed=1 && echo "$command $pod: $(cat "$DIR/out.$pod")"; }
        pids=("${pids[@]:1}")
    done
    return $failed
}

# The plugin must refuse with this code and a message that matches the glob; its words go to SAID.
refuses() { # CODE GLOB COMMAND POD [VARIABLE=VALUE...]
    local code=$1 glob=$2 msg
    shift 2
    if SAID=$(cni "$@"); then
        echo "$* was not refused: $SAID"
        return 1
    fi
    msg=$(jq -r .msg <<<"$SAID")
    if [ "$(jq .code <<<"$SAID")" != "$code" ] || [[ "$msg" != $glob ]]; then
        echo "$* said: $SAID"
        echo "expected code $code and: $glob"
        return 1
    fi
}

# ---- what is left ----

# Leases of all networks, replayed from the logs.
leases() {
    awk '$1 == "+" {held[$2] = $3 " " $4}
         $1 == "-" {for (ip in held) if (held[ip] == $2 " " $3) delete held[ip]}
         $1 == ">" {for (ip in held) if (held[ip] == $2 " " $3) held[ip] = $4 " " $5}
         END {for (ip in held) print ip, held[ip]}' "$DIR"/i/ipam/*.log 2>/dev/null || true
}

# What attachments have made on the host, tenants' ports too: one a line, nothing when clean.
host_left() {
    find "$DIR/i/attachments" -mindepth 1 2>/dev/null
    find "$DIR/i/pool" "$DIR/i/vhost" -mindepth 1 2>/dev/null
    find "$DIR/i" -name '*.tmp*'
    devices "$HOST" | grep -vxE 'br0|ovs-(netdev|system)'
    vsctl list-ports br0
    flows
    meters
    leases
}

# The same but for tenants' ports, which DEL leaves to GC.
pods_left() {
    host_left | grep -vE "^st[0-9a-v]{13}$|table=53.* actions=drop${TENANT_METERS:+|^meter=}"
}

nothing_left() {
    [ -z "$(pods_left)" ]
}

# After DEL, at last (taps go when ovs-vswitchd gets to them).
assert_clean() {
    eventually nothing_left || { pods_left; return 1; }
}

no_device() { # POD
    [ -z "$(devices "$(netns_name "$1")")" ]
}

gc_all() {
    conf ovs-macvlan '.["cni.dev/valid-attachments"] = []'
    cni GC x
}

host_clean() {
    [ -z "$(host_left)" ]
}

# For teardown: removes this test's pods and tells what it left otherwise. What is left is then
# removed by hand, so that the next test starts afresh.
host_check() {
    local name failed=0
    [ -n "${DIR:-}" ] || return 0
    for name in $(ip netns list | awk -v p="$HOST-$BATS_TEST_NUMBER-" 'index($1, p) == 1 {print $1}'); do
        ip netns del "$name"
    done
    [ -S "$DIR/i/ovs/db.sock" ] || ovs_up
    if [ -n "$(vsctl list-ports br0)" ] || devices "$HOST" | grep -q ^st; then
        gc_all || failed=1
    fi
    if ! eventually host_clean; then
        echo "left:"
        host_left
        failed=1
        for name in $(vsctl list-ports br0); do
            vsctl --no-wait del-port "$name"
        done
        for name in $(devices "$HOST" | grep -vxE 'br0|ovs-(netdev|system)'); do
            in_netns "$HOST" ip link del "$name"
        done
        umount "$DIR"/i/pool/* 2>/dev/null || true
        rm -rf "$DIR/i/attachments" "$DIR/i/ipam" "$DIR/i/pool" "$DIR/i/vhost"
    fi
    rm -rf "$DIR/i/ipam" "$DIR/host-local"
    return $failed
}
