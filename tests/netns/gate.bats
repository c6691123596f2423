#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Gates through the real programs: sluiced, sluice gate, and raw calls on the agent's socket.

load helpers

setup() {
    need_root
    need jq nsenter
    DIR=$(mktemp -d /tmp/sluice-gate-XXXXXX)
    make_netns gate NS
    PIDS=() # processes of this test, other than the agent
    agent_up
}

# Ends the agent, which must end well, and tells whether anything stays behind.
teardown() {
    [ -n "${DIR:-}" ] || return 0
    local pid left=0
    for pid in "${PIDS[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    agent_down || left=1
    for pid in $(processes_of "$DIR/"); do
        echo "left: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        kill -9 "$pid"
        left=1
    done
    ip netns del "$NS"
    rm -r "$DIR"
    return $left
}

# ---- the agent ----

agent_up() {
    SLUICE_LOG=info nsenter --net="/run/netns/$NS" "$SLUICE_BUILD/cmd/sluiced" --instance "$DIR/i" \
        2>>"$DIR/log" 3>&- &
    AGENT=$!
    eventually gate show >/dev/null
}

agent_down() {
    [ -n "$AGENT" ] || return 0
    kill "$AGENT" && wait "$AGENT" || { cat "$DIR/log"; return 1; }
    AGENT=
}

gate() {
    "$SLUICE" gate "$@" --instance "$DIR/i"
}

agent_tool() {
    "$SLUICE_BUILD/tests/netns/agent_tool" "$@" 3>&-
}

# Starts agent_tool with these arguments and INPUT, each request TIMES (1) times, until it is
# killed; answers go to $DIR/NAME; sets LAST.
talk() { # NAME ARGUMENT...
    local name=$1
    shift
    "$SLUICE_BUILD/tests/netns/agent_tool" --hold --times "${TIMES:-1}" "$DIR/i" "$@" \
        <"${INPUT:-/dev/null}" >"$DIR/$name" 3>&- &
    LAST=$!
    PIDS+=("$LAST")
}

# A field of a stage's gate, as the agent shows it.
shown() { # STAGE FIELD
    gate show --json | jq -r --arg s "$1" ".gates[] | select(.stage == \$s) | .$2"
}

shows() { # STAGE FIELD VALUE
    [ "$(shown "$1" "$2")" = "$3" ]
}

answers() { # NAME NUMBER: so many answers have come
    [ "$(wc -l <"$DIR/$1")" = "$2" ]
}

VM='{"stage":"vm"}'

# ---- sluice gate ----

@test "show has a line for every stage, and no limits at first" {
    run gate show
    [ "$status" = 0 ]
    [ "$(awk 'NR > 1 {printf "%s%s", $1, $2}' <<<"$output")" = netns-cni-cgroup-nic-vm-limits-total- ]
    gate show --json | jq -e '.gates | length == 7 and all(.limit == 0 and .held == 0)'
}

@test "set changes what it names and tells all limits" {
    [ "$(gate set cni=4 vm=16)" = "netns=0 cni=4 cgroup=0 nic=0 vm=16 limits=0 total=0" ]
    [ "$(gate set cni=0)" = "netns=0 cni=0 cgroup=0 nic=0 vm=16 limits=0 total=0" ]
    [ "$(gate show | awk '$1 == "vm" {print $2}')" = 16 ]
    gate set nic=2 --json | jq -e '.limits.nic == 2 and .limits.vm == 16'
}

@test "set does all or none, and errors name what is allowed" {
    gate set cni=4
    for bad in cnu=4 cni cni= cni=-1 cni=x cni=1000001 cni.link=4 =4; do
        run gate set vm=9 "$bad"
        [ "$status" = 2 ]
        [[ "$output" = *"\"$bad\" is not allowed; must be STAGE=LIMIT"*cgroup*1000000* ]]
    done
    run gate set vm=9 vm=10
    [ "$status" = 2 ]
    [[ "$output" = *"vm is said twice"* ]]
    [ "$(gate show --json | jq -c '[.gates[].limit]')" = "[0,4,0,0,0,0,0]" ]
}

@test "load sets a file's limits, from a path or from standard input" {
    echo '{"v":1,"limits":{"cni":7,"vm":3},"evidence":{"runs":40}}' >"$DIR/limits.json"
    [ "$(gate load "$DIR/limits.json")" = "netns=0 cni=7 cgroup=0 nic=0 vm=3 limits=0 total=0" ]
    [ "$(echo '{"v":1,"limits":{"nic":2}}' | gate load -)" = \
        "netns=0 cni=7 cgroup=0 nic=2 vm=3 limits=0 total=0" ]
    jq -n '{v: 1, limits: {cni: 5}, evidence: [range(40000)]}' >"$DIR/big.json"
    gate load "$DIR/big.json"
    shows cni limit 5
}

@test "load refuses a wrong file whole, with its name, the key and what is allowed" {
    gate set cni=4
    while IFS='|' read -r text says; do
        echo "$text" >"$DIR/bad.json"
        run gate load "$DIR/bad.json"
        [ "$status" = 1 ]
        [[ "$output" = *"$DIR/bad.json: "*"$says"* ]] || { echo "$output"; false; }
    done <<'CASES'
{"v":2,"limits":{"cni":1}}|v: 2 is not allowed; must be 1
{"limits":{"cni":1}}|v: missing; must be 1
{"v":1}|limits: missing
{"v":1,"limits":{"cni":9,"cnu":1}}|one of netns, cni, cgroup
{"v":1,"limits":{"cni":9,"vm":-1}}|limits.vm: -1 is not allowed
{"v":1,"limits":{"cni":9,"vm":"2"}}|limits.vm: "2" is not allowed
[]|must be an object such as
{|invalid JSON
CASES
    run gate load "$DIR/nobody.json"
    [ "$status" = 1 ]
    [[ "$output" = *"$DIR/nobody.json: No such file"* ]]
    shows cni limit 4
    shows vm limit 0
}

@test "limits outlive the agent only when they were saved" {
    run gate load
    [ "$status" = 1 ]
    [[ "$output" = *"no limits are saved"*"$DIR/i/state/gates.json"* ]]
    gate set cni=4
    [ "$(gate save)" = "$DIR/i/state/gates.json" ]
    gate set cni=5 vm=6
    agent_down
    agent_up
    shows cni limit 4
    shows vm limit 0
    jq -e '.v == 1 and .limits.cni == 4' "$DIR/i/state/gates.json"
}

@test "load without a file, and SIGHUP, read the saved limits again" {
    gate set cni=4
    gate save
    gate set cni=5
    [ "$(gate load)" = "netns=0 cni=4 cgroup=0 nic=0 vm=0 limits=0 total=0" ]
    echo '{"v":1,"limits":{"cni":8}}' >"$DIR/i/state/gates.json"
    kill -HUP "$AGENT"
    eventually shows cni limit 8
    echo '{"v":1,"limits":{"cni":"x"}}' >"$DIR/i/state/gates.json"
    kill -HUP "$AGENT"
    eventually grep -q 'gates.json: limits.cni: "x" is not allowed' "$DIR/log"
    shows cni limit 8
}

@test "watch appends a line for each gate that is in use" {
    gate set vm=1
    talk a gate.acquire "$VM" gate.acquire "$VM"
    eventually shows vm waiting 1
    run gate watch --count 3 --interval 0.05
    [ "$status" = 0 ]
    [ "$(awk 'NR > 1 {print $2, $3, $4, $5}' <<<"$output" | uniq -c | xargs)" = "3 vm 1 1 1" ]
    run gate watch --count 2 --interval 0.05 --json
    [ "$(jq -s 'length' <<<"$output")" = 2 ]
    gate set vm=0
    kill -9 "$LAST"
    eventually shows vm held 0
    [[ "$(gate watch --count 1)" = *"no gate is in use"* ]]
}

@test "watch redraws on a terminal, and ends well by Ctrl-C" {
    need script
    gate set vm=1
    script -qec "$SLUICE gate watch --count 3 --interval 0.05 --instance $DIR/i" /dev/null \
        >"$DIR/screen" </dev/null
    [ "$(grep -c $'\033\\[1A\033\\[J' "$DIR/screen")" = 2 ]
    # Not a background job of this shell: it would ignore SIGINT.
    timeout -s INT 0.5 "$SLUICE" gate watch --interval 30 --instance "$DIR/i" || status=$?
    [ "${status:-0}" = 124 ]
    timeout --preserve-status -s INT 0.5 "$SLUICE" gate watch --interval 30 --instance "$DIR/i"
}

@test "wrong arguments" {
    for arguments in "" sideways "set" "show x" "save x" "load a b" "watch x" "show --count 1" \
        "watch --count 0" "watch --interval 0" "watch --interval x" "show --nonsense"; do
        run gate $arguments
        [ "$status" = 2 ]
        [[ "$output" = *"Try 'sluice gate --help'"* ]]
    done
    run "$SLUICE" gate show --instance relative
    [ "$status" = 2 ]
    run "$SLUICE" gate --help
    [ "$status" = 0 ]
    [[ "$output" = "Usage: sluice gate"* ]]
}

@test "without an agent every verb says so" {
    agent_down
    echo '{"v":1,"limits":{}}' >"$DIR/limits.json"
    for arguments in show "set cni=1" load "load $DIR/limits.json" save watch; do
        run gate $arguments
        [ "$status" = 1 ]
        [ "$output" = "sluice gate: no agent runs on instance $DIR/i: start sluiced" ]
    done
    agent_up
    kill -9 "$AGENT"
    wait "$AGENT" || true
    run gate show # its socket is still there
    [ "$status" = 1 ]
    [[ "$output" = *"no agent runs"* ]]
    agent_up
    gate show
}

# ---- permits ----

@test "a permit is waited for, in order, and passed on when it is released" {
    gate set vm=1
    talk a gate.acquire "$VM"
    a=$LAST
    eventually answers a 1
    [ "$(jq '.result.lease' "$DIR/a")" = 1 ]
    talk b gate.acquire "$VM"
    b=$LAST
    eventually shows vm waiting 1
    answers b 0
    # A permit's number means nothing on another connection.
    run agent_tool "$DIR/i" gate.release '{"lease":1}'
    [ "$status" = 1 ]
    [[ "$output" = *"holds none of that number"* ]]
    answers b 0
    mkfifo "$DIR/pipe"
    exec 7<>"$DIR/pipe"
    INPUT=$DIR/pipe talk c gate.acquire "$VM" -
    eventually shows vm waiting 2
    kill -9 "$a"
    eventually answers b 1
    answers c 0
    kill -9 "$b"
    eventually answers c 1
    jq -e '.result.waited_ns > 0' "$DIR/c"
    echo "gate.release {\"lease\":$(jq .result.lease "$DIR/c")}" >&7
    eventually answers c 2
    shows vm held 0
    exec 7>&-
    shows vm admitted 3
}

@test "a killed holder frees its permits for the next" {
    gate set vm=2
    talk holder gate.acquire "$VM" gate.acquire "$VM"
    eventually answers holder 2
    holder=$LAST
    talk next gate.acquire "$VM" gate.acquire "$VM" gate.acquire "$VM"
    eventually shows vm waiting 3
    kill -9 "$holder"
    eventually answers next 2
    shows vm waiting 1
    shows vm held 2
}

@test "a killed waiter leaves the queue and its place" {
    gate set vm=1
    talk holder gate.acquire "$VM"
    holder=$LAST
    eventually answers holder 1
    talk killed gate.acquire "$VM"
    killed=$LAST
    eventually shows vm waiting 1
    talk next gate.acquire "$VM"
    eventually shows vm waiting 2
    kill -9 "$killed"
    eventually shows vm waiting 1
    shows vm given_up 1
    kill -9 "$holder"
    eventually answers next 1
    answers killed 0
}

@test "a holder that was killed with waits of its own under way gives all of it back" {
    gate set vm=1
    TIMES=50 talk both gate.acquire "$VM" gate.acquire '{"stage":"vm","tenant":"other"}'
    both=$LAST
    eventually shows vm waiting 99
    talk next gate.acquire "$VM"
    eventually shows vm waiting 100
    kill -9 "$both"
    eventually answers next 1
    shows vm waiting 0
    shows vm held 1
}

@test "a limit that is changed while 200 wait admits at once, and takes no permit away" {
    gate set vm=1
    TIMES=201 talk many gate.acquire "$VM"
    eventually shows vm waiting 200
    gate set vm=10
    eventually answers many 10
    shows vm waiting 191
    gate set vm=4
    shows vm held 10
    shows vm waiting 191
    gate set vm=0
    eventually answers many 201
    shows vm held 201
    # Numbers are not given twice while they are held.
    [ "$(jq .result.lease "$DIR/many" | sort -u | wc -l)" = 201 ]
}

@test "a wait ends with an error at its deadline, and no sooner" {
    gate set vm=1
    talk holder gate.acquire "$VM"
    eventually answers holder 1
    before=$(date +%s%N)
    run agent_tool "$DIR/i" gate.acquire '{"stage":"vm","timeout_ms":300}'
    [ "$status" = 1 ]
    [[ "$output" = *"gate vm: no permit within 300 ms"* ]]
    [ $(($(date +%s%N) - before)) -ge 300000000 ]
    run agent_tool "$DIR/i" gate.acquire '{"stage":"vm","timeout_ms":0}'
    [ "$status" = 1 ]
    shows vm expired 2
    shows vm waiting 0
    [ "$(gate show | awk '$1 == "vm" {print $(NF - 1)}')" = 2 ]
    # The deadlines of those that wait on are not touched.
    talk next gate.acquire '{"stage":"vm","timeout_ms":60000}'
    eventually shows vm waiting 1
    gate set vm=2
    eventually answers next 1
}

@test "tenants are served in turn, however many of one came first" {
    gate set vm=1
    talk holder gate.acquire "$VM"
    holder=$LAST
    eventually answers holder 1
    mkfifo "$DIR/pipe"
    exec 7<>"$DIR/pipe"
    INPUT=$DIR/pipe talk queue -
    for i in 1 2 3 4 5 6; do # ids 1 to 6
        echo 'gate.acquire {"stage":"vm","tenant":"greedy"}' >&7
    done
    for i in 7 8; do
        echo 'gate.acquire {"stage":"vm","tenant":"modest"}' >&7
    done
    eventually shows vm waiting 8
    shows vm tenants_waiting 2
    # One by one: each holder's release is sent when its permit has come.
    kill -9 "$holder"
    for n in 1 3 5 7 9 11 13 15; do
        eventually answers queue "$n"
        echo "gate.release {\"lease\":$(jq -s 'map(select(.result.lease)) | .[-1].result.lease' "$DIR/queue")}" >&7
    done
    eventually answers queue 16
    exec 7>&-
    [ "$(jq -c 'select(.result.lease) | .id' "$DIR/queue" | xargs)" = "1 7 2 8 3 4 5 6" ]
}

@test "calls with wrong parameters are refused with what is allowed" {
    while IFS='|' read -r method params says; do
        run agent_tool "$DIR/i" "$method" "$params"
        [ "$status" = 1 ]
        [[ "$(jq -r .error.msg <<<"$output")" = *"$says"* ]] || { echo "$output"; false; }
    done <<'CASES'
gate.acquire|{}|stage: missing
gate.acquire|{"stage":"cni.link"}|one of netns, cni, cgroup, nic, vm, limits, total
gate.acquire|{"stage":7}|stage: 7 is not allowed
gate.acquire|{"stage":"vm","tenant":7}|tenant: 7 is not allowed
gate.acquire|{"stage":"vm","timeout_ms":-1}|timeout_ms: -1 is not allowed
gate.acquire|{"stage":"vm","timeout_ms":86400001}|timeout_ms: 86400001 is not allowed
gate.release|{}|holds none of that number
gate.release|{"lease":1}|holds none of that number
gate.release|{"lease":0}|lease: 0 is not allowed
gate.set|{"v":1,"limits":{"vm":1000001}}|limits.vm: 1000001 is not allowed
gate.open|{}|must be
CASES
    shows vm admitted 0
}

# ---- a real burst ----

@test "cni=1 lets one ADD of a burst at a time do its work" {
    need ovs-vswitchd ovsdb-server
    gate set cni=1
    in_netns "$NS" ip link set lo up
    in_netns "$NS" "$SLUICE" bench --instance "$DIR/i" --cni ovs-macvlan --pods 30 --out "$DIR/out" \
        >"$DIR/said" || { cat "$DIR/said"; false; }
    run=$DIR/out/runs/0001
    # From the end of its wait, or its first step, to its last step's end: never two at once.
    jq -es '[group_by(.pod)[] | map(select(.stage | startswith("cni.")))
              | select(length > 0)
              | {from: ((map(select(.stage == "cni.gate") | .t1_ns)[0]) // (map(.t0_ns) | min)),
                 to: (map(.t1_ns) | max)}]
            | sort_by(.from) | . as $all
            | length == 30 and all(range(1; length); $all[.].from >= $all[. - 1].to)' \
        "$run/spans.jsonl"
    [ "$(jq -s 'map(select(.stage == "cni.gate")) | length' "$run/spans.jsonl")" -ge 20 ]
    jq -e '.start.stages | .cni.wait_mean_s > 0 and .cni.wait_mean_s < .cni.mean_s' "$run/summary.json"
    grep -q 'mean wait$' "$DIR/said"
    jq -es 'any(.gates.cni.limit == 1)' "$run/samples.jsonl"
    shows cni held 0
}

@test "bench passes the gates of its sandbox's stages" {
    need ovs-vswitchd ovsdb-server
    gate set vm=1
    in_netns "$NS" ip link set lo up
    in_netns "$NS" "$SLUICE" bench --instance "$DIR/i" --cni ovs-macvlan --pods 20 --warmup 0 \
        --sandbox process --out "$DIR/out" >"$DIR/said" || { cat "$DIR/said"; false; }
    for stage in netns cni cgroup vm limits total; do
        echo "$stage"
        shows $stage admitted $([ $stage = cni ] || [ $stage = vm ] && echo 20 || echo 0)
    done
    jq -e '.start.stages | .vm.wait_mean_s > 0 and .cgroup.wait_mean_s == 0 and .cni.wait_mean_s == 0' \
        "$DIR/out/runs/0001/summary.json"
}
