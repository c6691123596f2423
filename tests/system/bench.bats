#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# sluice bench through the program: real CNI calls, real Open vSwitch, a result folder at the end.

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
    need ovs-vswitchd ovs-vsctl jq
    OUT=$DIR/out-$BATS_TEST_NUMBER
}

# Whatever a bench was told, it leaves nothing: devices, ports, addresses, records, namespaces.
teardown() {
    local failed=0
    [ -n "${DIR:-}" ] || return 0
    if [ -n "${pid:-}" ] && kill -0 "$pid" 2>/dev/null; then
        kill -INT "$pid"
        wait "$pid" || true
    fi
    if [ -n "$(in_work)" ]; then
        echo "left in the instance:" $(in_work)
        failed=1
        for path in $(in_work); do
            umount "$path" 2>/dev/null || true
        done
        find "$DIR/i/bench" -mindepth 1 -maxdepth 1 -type d -exec rm -r {} +
    fi
    if [ -n "$(bench_cgroups)" ]; then
        echo "cgroups left: $(bench_cgroups | head -3)"
        failed=1
    fi
    host_check || failed=1
    return $failed
}

# Namespaces of pods, and the folders that hold them.
in_work() {
    [ ! -d "$DIR/i/bench" ] || find "$DIR/i/bench" -mindepth 1 ! -name lock
}

bench_cgroups() {
    find /sys/fs/cgroup -path '*/sluice/b*' -type d -name 'b????????-*' 2>/dev/null
}

# In the host's network namespace, on the file's instance; in our mount namespace, so that what it
# leaves bound is seen.
bench() {
    in_netns "$HOST" "$SLUICE" bench --instance "$DIR/i" --bridge br0 "$@"
}

# The same in the background, with the bench itself as $pid.
bench_in_background() {
    nsenter --net="/run/netns/$HOST" "$SLUICE" bench --instance "$DIR/i" --bridge br0 "$@" \
        >"$DIR/said" 2>&1 3>&- &
    pid=$!
}

spans() { # of the first run: a jq filter over the list of its spans
    jq -es "$1" "$OUT/runs/0001/spans.jsonl"
}

# The first run is a result: its files are all there and tell the same.
good_result() { # PODS
    local run=$OUT/runs/0001
    jq -e '.v == 1 and (.runs | length) >= 1 and (.runs | all(.valid))' "$OUT/set.json" >/dev/null
    jq -e --argjson n "$1" '.v == 1 and .valid and .problems == [] and .options.pods == $n and
        (.uuid | length) == 36' "$run/run.json" >/dev/null
    jq -e --argjson n "$1" '.v == 1 and .pods == $n and .failed == 0 and .start.stages.total.n == $n and
        .teardown.stages.del.n == $n' "$run/summary.json" >/dev/null
    # Percentiles in order, within the makespan; the same in both phases.
    jq -e '[.start, .teardown] | all(. as $p | .makespan_s > 0 and (.stages | to_entries | all(.value |
        .n > 0 and 0 <= .p50_s and .p50_s <= .p90_s and .p90_s <= .p99_s and .p99_s <= .max_s and
        .mean_s <= .max_s and .max_s <= $p.makespan_s)))' "$run/summary.json" >/dev/null
    # Every pod has its spans, none of the warm-up's, each a time that went forward.
    jq -es --argjson n "$1" 'all(.[]; .v == 1 and .ok and .t0_ns > 0 and .t1_ns >= .t0_ns) and
        ([.[].pod] | unique | length) == $n and
        ([.[] | select(.stage == "total").pod] | (length == $n) and ((unique | length) == $n)) and
        ([.[] | select(.stage == "cni").pod] | unique | length) == $n and
        (any(.pod | test("-w")) | not)' "$run/spans.jsonl" >/dev/null
    # A stage lies within its pod's total; the summary's longest is the spans' longest.
    jq -es 'group_by(.pod) | all((map(select(.stage == "total"))[0]) as $t |
        all(.[] | select(.stage | startswith("del") | not); .t0_ns >= $t.t0_ns and .t1_ns <= $t.t1_ns))' \
        "$run/spans.jsonl" >/dev/null
    jq -es --slurpfile s "$run/summary.json" '([.[] | select(.stage == "total") | .t1_ns - .t0_ns] | max / 1e9) -
        $s[0].start.stages.total.max_s | fabs < 1e-6' "$run/spans.jsonl" >/dev/null
    # Samples: time and counters grow, and the last one of starting has all pods.
    jq -es --argjson n "$1" 'length >= 2 and ([.[].t_ns] == ([.[].t_ns] | sort)) and
        ([.[].done] | max) >= $n and all(.[]; .memory_used_bytes > 0 and .cpu_s.total > 0)' \
        "$run/samples.jsonl" >/dev/null
}

one_kind() { # KIND
    bench --cni "$1" --pods 20 --out "$OUT" >"$DIR/said"
    good_result 20
    grep -q "^$1, run 1 of 1: 20 pods, burst" "$DIR/said"
    grep -q "^Result: $OUT" "$DIR/said"
    [ "$(jq -r .variant "$OUT/runs/0001/run.json")" = "$1" ]
    for stage in netns cni cni.ipam cni.addr; do
        [ "$(jq ".start.stages[\"$stage\"].n" "$OUT/runs/0001/summary.json")" = 20 ]
    done
}

# ---- results ----

@test "kind ovs: 20 pods" {
    one_kind ovs
}

@test "kind ovs-macvlan: 20 pods" {
    one_kind ovs-macvlan
}

@test "kind ovs-macvtap: 20 pods" {
    one_kind ovs-macvtap
}

@test "kind ovs-internal: 20 pods" {
    one_kind ovs-internal
}

@test "400 pods at once on one private OVS, each kind in turn: started, removed, nothing left" {
    bench --cni ovs-macvlan --cni ovs-macvtap --cni ovs --cni ovs-internal --pods 400 --out "$OUT" >"$DIR/said"
    good_result 400
    [ "$(jq '.runs | length' "$OUT/set.json")" = 4 ]
    [ -z "$(pods_left)" ]
}

@test "the reference macvlan plugin, on the bridge's device" {
    need "$CNI_PLUGINS/macvlan"
    in_netns "$HOST" ip link set br0 up
    jq -n --arg d "$DIR" '{cniVersion: "1.0.0", name: "ref", type: "macvlan", master: "br0", ipam:
        {type: "host-local", subnet: "10.8.0.0/24", dataDir: "\($d)/host-local"}}' >"$DIR/reference.conf"
    bench --cni-conf "$DIR/reference.conf" --pods 20 --out "$OUT"
    good_result 20
    [ "$(jq -r .variant "$OUT/runs/0001/run.json")" = reference ]
    [ -z "$(find "$DIR/host-local" -name '10.*')" ]
    in_netns "$HOST" ip link set br0 down
}

@test "--raw: the lower bound runs, and leaves nothing" {
    for what in macvlan veth; do
        OUT=$DIR/out-raw-$what
        bench --raw $what --pods 20 --out "$OUT"
        jq -e '.failed == 0 and .start.stages.total.n == 20' "$OUT/runs/0001/summary.json"
    done
    in_netns "$HOST" ip link set br0 down
}

@test "two variants, two repeats: interleaved, each in its folder, --json tells the same" {
    bench --cni ovs --cni ovs-macvlan --pods 5 --repeat 2 --out "$OUT" --json >"$DIR/said"
    [ "$(jq -c '[.runs[] | .dir, .variant, .repeat]' "$OUT/set.json")" = \
        '["runs/0001","ovs",1,"runs/0002","ovs-macvlan",1,"runs/0003","ovs",2,"runs/0004","ovs-macvlan",2]' ]
    [ "$(jq -sc '[.[].variant]' "$DIR/said")" = '["ovs","ovs-macvlan","ovs","ovs-macvlan"]' ]
    [ "$(jq -r .uuid "$DIR/said" | sort | xargs)" = \
        "$(jq -r .uuid "$OUT"/runs/*/run.json | sort | xargs)" ]
    [ "$(jq -sc '[.[].summary.start.makespan_s]' "$DIR/said")" = \
        "$(jq -sc '[.[].start.makespan_s]' "$OUT"/runs/*/summary.json)" ]
}

@test "--tenants 4: a port each while it runs, made before the clock starts; none after" {
    for kind in ovs-macvlan ovs-macvtap; do
        OUT=$DIR/out-tenants-$kind
        bench --cni $kind --pods 20 --tenants 4 --out "$OUT" >"$DIR/said"
        good_result 20
        [ "$(jq .options.tenants "$OUT/runs/0001/run.json")" = 4 ]
        jq -e '.tenant_ports_s > 0' "$OUT/runs/0001/summary.json"
        grep -q "before that, 4 tenants' ports made in" "$DIR/said"
    done
    [ -z "$(vsctl list-ports br0)" ]
}

@test "--tenants 4 with kinds whose pods have a port of their own: nothing to be made before" {
    for kind in ovs ovs-internal; do
        OUT=$DIR/out-tenants-$kind
        bench --cni $kind --pods 20 --tenants 4 --out "$OUT"
        good_result 20
        jq -e '.tenant_ports_s == null' "$OUT/runs/0001/summary.json"
    done
}

@test "kind ovs-vhost: bench starts an Open vSwitch with DPDK for it, and stops it again" {
    need_dpdk 128
    before=$(cat /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages)
    run bench --cni ovs-vhost --pods 5 --out "$OUT"
    [ "$status" = 1 ]
    [[ "$output" = *"runs without DPDK: stop it first"* ]]
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    bench --cni ovs-vhost --cni-pooled ovs-vhost --pods 20 --tenants 2 --out "$OUT"
    good_result 20
    [ -z "$(find "$DIR/i/vhost" -mindepth 1)" ]
    [ "$(cat /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages)" = "$before" ]
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
}

@test "--rules and --qos are refused for other people's plugins" {
    for option in "--rules 1" "--qos 1"; do
        run bench --raw veth $option --pods 1 --out "$OUT"
        [ "$status" = 2 ]
        [[ "$output" = *"--rules and --qos go with our kinds, not with --raw"* ]]
    done
}

@test "--sandbox process: a process and cgroups a pod, gone afterwards" {
    bench --cni ovs-macvlan --pods 20 --sandbox process --out "$OUT"
    good_result 20
    for stage in cgroup vm limits; do
        [ "$(jq ".start.stages.$stage.n" "$OUT/runs/0001/summary.json")" = 20 ]
    done
    [ -z "$(bench_cgroups)" ]
    [ "$(jq '.teardown.stages["del.sandbox"].n' "$OUT/runs/0001/summary.json")" = 20 ]
}

overlap='[.[] | select(.stage == "total") | {t: .t0_ns, d: 1}, {t: .t1_ns, d: -1}] | sort_by(.t, .d) |
    reduce .[] as $e ({n: 0, max: 0}; .n += $e.d | .max = ([.max, .n] | max)) | .max'

@test "--arrival closed:4: never more than four at once" {
    bench --cni ovs-macvlan --pods 20 --arrival closed:4 --out "$OUT"
    good_result 20
    n=$(spans "$overlap")
    [ "$n" -le 4 ]
    [ "$n" -ge 2 ]
}

@test "--arrival seq: one after another" {
    bench --cni ovs-macvlan --pods 20 --arrival seq --out "$OUT"
    good_result 20
    [ "$(spans "$overlap")" = 1 ]
}

@test "--arrival burst: all are asked for at the same time" {
    bench --cni ovs-macvlan --pods 20 --out "$OUT"
    [ "$(spans '[.[] | select(.stage == "total").t0_ns] | unique | length')" = 1 ]
}

@test "--netns-ready: namespaces are made before, and are no stage" {
    bench --cni ovs-macvlan --pods 20 --netns-ready --out "$OUT"
    good_result 20
    [ "$(jq '.start.stages | has("netns")' "$OUT/runs/0001/summary.json")" = false ]
    [ "$(jq .options.netns_ready "$OUT/runs/0001/run.json")" = true ]
}

@test "--warmup 0, one pod" {
    bench --cni ovs --pods 1 --warmup 0 --out "$OUT"
    good_result 1
}

@test "without an OVS that runs, bench starts one and stops it again" {
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    bench --cni ovs --pods 5 --out "$OUT"
    good_result 5
    run in_netns "$HOST" "$SLUICE" ovs status --instance "$DIR/i"
    [ "$status" = 1 ]
    [ -z "$(devices "$HOST")" ]
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
}

# ---- what is no result ----

small_range() {
    in_netns "$HOST" ip link set br0 up
    jq -n --arg d "$DIR" '{cniVersion: "1.0.0", name: "small", type: "macvlan", master: "br0", ipam:
        {type: "host-local", dataDir: "\($d)/host-local", subnet: "10.8.0.0/24", rangeStart: "10.8.0.10",
        rangeEnd: "10.8.0.14"}}' >"$DIR/small.conf"
}

@test "pods that fail: exit 3, told in words, kept in the folder, the others removed" {
    need "$CNI_PLUGINS/macvlan"
    small_range
    run bench --cni-conf "$DIR/small.conf" --pods 8 --out "$OUT"
    in_netns "$HOST" ip link set br0 down
    [ "$status" = 3 ]
    [[ "$output" = *"NOT A RESULT: 3 of 8 starts failed"* ]]
    [[ "$output" = *"NOT A RESULT: pod b"*"ADD of plugin macvlan failed: "*"no IP addresses available"* ]]
    [[ "$output" = *"not every run is a result; see $OUT"* ]]
    jq -e '.valid == false and (.problems | length) >= 2' "$OUT/runs/0001/run.json"
    jq -e '.failed == 3 and .start.stages.total.n == 5' "$OUT/runs/0001/summary.json"
    jq -e '.runs[0].valid == false' "$OUT/set.json"
    [ "$(spans '[.[] | select(.stage == "total" and (.ok | not))] | length')" = 3 ]
    [ -z "$(find "$DIR/host-local" -name '10.*')" ]
}

@test "a plugin that is not there: exit 3, its path named" {
    jq -n '{cniVersion: "1.0.0", name: "none", type: "nosuchplugin"}' >"$DIR/none.conf"
    run bench --cni-conf "$DIR/none.conf" --pods 2 --out "$OUT"
    [ "$status" = 3 ]
    [[ "$output" = *"nosuchplugin"* ]]
}

@test "SIGINT in the middle of 200 pods: exit 1, and nothing is left" {
    for sandbox in none process; do
        rm -rf "$OUT"
        bench_in_background --cni ovs --pods 200 --arrival closed:4 --sandbox $sandbox --out "$OUT"
        eventually eval '[ "$(ls "$DIR/i/attachments" 2>/dev/null | grep -vc -- -w)" -ge 10 ]'
        kill -INT $pid
        status=0
        wait $pid || status=$?
        cat "$DIR/said"
        [ "$status" = 1 ]
        grep -q "interrupted; what was started is removed" "$DIR/said"
        [ -z "$(pods_left)" ]
    done
}

@test "SIGKILL in the middle of 200 pods: sluice clean removes what is left, and nothing else" {
    in_netns "$HOST" ip link add keep0 type veth peer name keep1
    bench_in_background --cni ovs --pods 200 --arrival closed:4 --sandbox process --out "$OUT"
    eventually eval '[ "$(ls "$DIR/i/attachments" 2>/dev/null | grep -vc -- -w)" -ge 10 ]'
    kill -KILL $pid
    wait $pid || true
    [ -n "$(bench_cgroups)" ]
    in_netns "$HOST" "$SLUICE" clean --instance "$DIR/i"
    [ "$(devices "$HOST" | sort | xargs)" = "keep0 keep1" ]
    in_netns "$HOST" ip link del keep0
    [ -z "$(bench_cgroups)" ]
    [ ! -e "$DIR/i/ovs" ]
    [ ! -e "$DIR/i/attachments" ]
    [ -z "$(in_work)" ]
}

@test "Ctrl-C, which reaches the whole process group, and a closed terminal: nothing is left" {
    for signal in INT HUP; do
        rm -rf "$OUT"
        in_netns "$HOST" setsid "$SLUICE" bench --instance "$DIR/i" --bridge br0 --cni ovs --pods 200 \
            --arrival closed:4 --sandbox process --out "$OUT" >"$DIR/said" 2>&1 3>&- &
        pid=$!
        eventually eval '[ "$(ls "$DIR/i/attachments" 2>/dev/null | grep -vc -- -w)" -ge 10 ]'
        kill -$signal -- "-$(pgrep -f "bench --instance $DIR/i" | head -1)"
        status=0
        wait $pid || status=$?
        cat "$DIR/said"
        [ "$status" = 1 ]
        grep -q "interrupted; what was started is removed" "$DIR/said"
        [ -z "$(pods_left)" ]
    done
}

@test "sluice clean lets a bench at work alone" {
    bench_in_background --cni ovs --pods 100 --arrival closed:2 --out "$OUT"
    eventually test -d "$OUT/runs/0001"
    run in_netns "$HOST" "$SLUICE" clean --instance "$DIR/i"
    [ "$status" = 1 ]
    [[ "$output" = *"a bench is at work on instance $DIR/i"* ]]
    wait $pid
    good_result 100
}

@test "SIGTERM before the pods, in the OVS start or the warm-up: exit 1, nothing left" {
    bench_in_background --cni ovs --pods 50 --warmup 100 --out "$OUT"
    eventually test -d "$OUT"
    kill -TERM $pid
    status=0
    wait $pid || status=$?
    [ "$status" = 1 ]
    assert_clean
}

@test "two benches at once on one instance: the second says so and ends" {
    bench_in_background --cni ovs --pods 100 --arrival closed:2 --out "$OUT"
    eventually test -d "$OUT/runs/0001"
    run bench --cni ovs --pods 1 --out "$OUT.second"
    [ "$status" = 1 ]
    [[ "$output" = *"another bench is at work on instance $DIR/i" ]]
    [ ! -e "$OUT.second" ]
    wait $pid
    good_result 100
}

# ---- options ----

usage() { # GLOB OPTION...
    local glob=$1
    shift
    run bench "$@"
    if [ "$status" != 2 ] || [[ "$output" != $glob ]]; then
        echo "bench $* ended with $status: $output"
        return 1
    fi
    [ ! -e "$OUT" ]
}

@test "bad options: exit 2, naming what is allowed" {
    usage "*nothing to start: give --cni, --cni-conf or --raw*"
    usage '*"ovz" is not allowed; must be one of ovs, *' --cni ovz
    usage '*"loopback" is not allowed; must be one of ovs, *' --cni loopback
    usage '*"dummy" is not allowed; must be macvlan or veth*' --raw dummy
    for pods in 0 -1 10001 x 1.5 '' 1e3; do
        usage "*--pods \"$pods\" is not allowed; must be a whole number from 1 to 10000*" \
            --cni ovs --out "$OUT" --pods "$pods"
    done
    usage '*--tenants 9 is not allowed; must be at most --pods 5*' --cni ovs --pods 5 --tenants 9
    usage '*--tenants "0" is not allowed*' --cni ovs --tenants 0
    usage '*--repeat "0" is not allowed; must be *' --cni ovs --repeat 0
    usage '*--warmup "-1" is not allowed; must be *' --cni ovs --warmup -1
    for arrival in poisson closed closed: closed:0 closed:x closed:-4 BURST; do
        usage "*\"$arrival\" is not allowed; must be burst, seq or closed:K*" --cni ovs --arrival $arrival
    done
    usage '*--sandbox "vm" is not allowed; must be none or process*' --cni ovs --sandbox vm
    usage '*--netns-ready goes with --sandbox none only*' --cni ovs --sandbox process --netns-ready
    usage "*unexpected argument 'ovs'*" --cni ovs ovs
    usage "sluice bench: unknown option '--nonsense'"$'\n'"Try 'sluice bench --help'." --nonsense=3
    usage "sluice bench: unknown option '-x'"$'\n'"Try *" -x
    usage 'sluice bench: --pods needs a value'$'\n'"Try *" --pods
    usage 'sluice bench: --json takes no value'$'\n'"Try *" --json=3
    usage '*--instance "i" is not allowed; must be an absolute path*' --cni ovs --instance i
    usage '*two variants named ovs*' --cni ovs --cni ovs
}

@test "bad configuration files: exit 2, naming file and fault" {
    usage "*$DIR/missing.conf*" --cni-conf "$DIR/missing.conf"
    echo '{' >"$DIR/bad.conf"
    usage "*$DIR/bad.conf*invalid JSON*" --cni-conf "$DIR/bad.conf"
    echo '{"name": "x", "plugins": [{"type": "../evil"}]}' >"$DIR/bad.conf"
    usage "*$DIR/bad.conf*'/'*" --cni-conf "$DIR/bad.conf"
    echo '{"name": "x", "plugins": [7]}' >"$DIR/bad.conf"
    usage "*$DIR/bad.conf*plugins*" --cni-conf "$DIR/bad.conf"
    echo '{"name": "x", "plugins": []}' >"$DIR/bad.conf"
    usage "*$DIR/bad.conf*plugins*" --cni-conf "$DIR/bad.conf"
}

@test "a folder that holds a result is refused, and stays as it is" {
    bench --cni ovs --pods 2 --out "$OUT"
    before=$(find "$OUT" -type f -exec md5sum {} +)
    run bench --cni ovs --pods 2 --out "$OUT"
    [ "$status" = 1 ]
    [[ "$output" = *"$OUT holds a result already: name another folder" ]]
    [ "$(find "$OUT" -type f -exec md5sum {} +)" = "$before" ]
}

@test "not root: exit 1, told so" {
    chmod 755 "$DIR"
    cp "$SLUICE" "$DIR/sluice"
    run in_netns "$HOST" setpriv --reuid 65534 --regid 65534 --clear-groups "$DIR/sluice" bench --cni ovs
    [ "$status" = 1 ]
    [[ "$output" = *"needs root"* ]]
}

@test "--help tells every option" {
    [ "$(bench --help)" = "$(bench -h)" ]
    run bench --help
    [ "$status" = 0 ]
    for option in cni cni-conf cni-bin-dir raw pods tenants arrival sandbox netns-ready warmup repeat out \
        instance bridge ovs-socket json; do
        [[ "$output" = *"--$option "* ]]
    done
}

@test "--rules and --qos: every pod has its flows while it runs, and none is left" {
    bench --cni ovs-macvlan --cni ovs --pods 20 --tenants 2 --rules 5 --qos 50 --out "$OUT"
    good_result 20
    [ "$(jq -c '[.options.rules, .options.qos_mbps]' "$OUT/runs/0001/run.json")" = '[5,50]' ]
    for run in 0001 0002; do
        [ "$(jq '.start.stages["cni.policy"].n' "$OUT/runs/$run/summary.json")" = 20 ]
    done
    [ -z "$(flows)" ]
}

# Smaller, and but for kinds that this kernel does not have.
@test "docs/reproduce.md: the line for each of the study's tests runs as it is written" {
    need_dpdk 128
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    kernel_has ipvlan && missing=none || missing='--cni ovs-ipv'
    commands=$(sed -n 's/.*`sudo sluice bench \(.*\)` |$/\1/p' "$BATS_TEST_DIRNAME/../../docs/reproduce.md")
    [ "$(wc -l <<<"$commands")" -ge 9 ]
    n=0
    while read -r arguments; do
        [[ "$arguments" != *"$missing"* ]] || continue
        arguments=${arguments/pods 400/pods 8}
        arguments=${arguments/tenants 200/tenants 4}
        echo "sluice bench $arguments"
        # shellcheck disable=SC2086
        bench $arguments --out "$OUT/$((++n))" >/dev/null
    done <<<"$commands"
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
}
