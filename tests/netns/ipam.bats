#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Addresses beside the real host-local and static plugins, on one network.

load helpers

CNI_PLUGINS=${CNI_PLUGINS:-/usr/lib/cni}

setup() {
    for plugin in host-local static; do
        [ -x "$CNI_PLUGINS/$plugin" ] || skip "needs $CNI_PLUGINS/$plugin"
    done
    dir=$(mktemp -d)
    tool=$SLUICE_BUILD/tests/netns/ipam_tool
    export CNI_PATH=$CNI_PLUGINS CNI_NETNS=/proc/self/ns/net CNI_IFNAME=eth0 CNI_CONTAINERID=pod
    conf 1.0.0 '"subnet": "10.0.0.0/28"'
}

teardown() {
    rm -rf "$dir"
}

conf() { # VERSION MEMBERS: writes the network configuration
    cat >"$dir/conf" <<END
{"cniVersion": "$1", "name": "net", "type": "x",
 "ipam": {"type": "${3:-host-local}", "dataDir": "$dir/data", $2}}
END
}

theirs() { # COMMAND CONTAINER: real host-local; the first address, if any
    CNI_COMMAND=$1 CNI_CONTAINERID=$2 "$CNI_PLUGINS/host-local" <"$dir/conf" >"$dir/out.$2" || return 1
    sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$dir/out.$2"
}

ours() { # VERB CONTAINER [ADDRESS...]: the first address, if any
    local verb=$1 id=$2
    shift 2
    "$tool" "$verb" "$dir/conf" "$dir/run" "$id" eth0 "$@" >"$dir/out" || { cat "$dir/out"; return 1; }
    sed -n 's/^ip \([^ ]*\) .*/\1/p' "$dir/out"
}

@test "host-local first: both share its files, no address twice" {
    [ "$(theirs ADD a)" = 10.0.0.2/28 ]
    [ "$(ours allocate b)" = 10.0.0.3/28 ]
    [ "$(theirs ADD c)" = 10.0.0.4/28 ]
    [ "$(ours allocate d)" = 10.0.0.5/28 ]
    [ ! -s "$dir/run/ipam/net.log" ]
    # Each gives back what the other handed out.
    theirs CHECK b
    ours check c
    theirs DEL b
    ours release c
    run ours check b
    [ "$status" -eq 1 ]
    run ours check c
    [ "$status" -eq 1 ]
    [ "$(theirs ADD e)" = 10.0.0.6/28 ]
    [ "$(ours allocate f)" = 10.0.0.7/28 ]
}

@test "ours first: once host-local has a lease, ours are moved to its files" {
    conf 1.0.0 '"subnet": "10.0.0.0/28", "rangeStart": "10.0.0.8"'
    [ "$(ours allocate a)" = 10.0.0.8/28 ]
    [ "$(ours allocate b)" = 10.0.0.9/28 ]
    [ ! -e "$dir/data" ]
    conf 1.0.0 '"subnet": "10.0.0.0/28"'
    [ "$(theirs ADD c)" = 10.0.0.2/28 ]
    [ "$(ours allocate d)" = 10.0.0.3/28 ]
    [ "$(cat "$dir/data/net/10.0.0.8")" = $'a\r\neth0' ]
    [ ! -s "$dir/run/ipam/net.log" ]
    # 4 to 7 are free, 8 and 9 are not.
    for want in 4 5 6 7 10 11; do
        [ "$(theirs ADD "p$want")" = "10.0.0.$want/28" ]
    done
    ours check a
    theirs DEL a
    run ours check a
    [ "$status" -eq 1 ]
}

@test "ours never hands out what host-local holds, to the last address" {
    for i in 1 2 3 4 5 6; do
        theirs ADD "t$i"
        ours allocate "o$i"
    done >"$dir/all"
    ours allocate last >>"$dir/all"
    [ "$(sort -u "$dir/all" | wc -l)" -eq 13 ]
    run ours allocate none
    [ "$status" -eq 1 ]
    [[ "$output" == *"container none, interface eth0: no address left in range set 0"* ]]
    theirs DEL t3
    [ "$(ours allocate none)" = 10.0.0.6/28 ]
}

@test "both at once: forty calls, no address twice" {
    conf 1.0.0 '"subnet": "10.0.0.0/24"'
    theirs ADD first >"$dir/all.first"
    for i in $(seq 20); do
        theirs ADD "t$i" >"$dir/all.t$i" &
        "$tool" allocate "$dir/conf" "$dir/run" "o$i" eth0 | sed -n 's/^ip \([^ ]*\) .*/\1/p' \
            >"$dir/all.o$i" &
    done
    wait
    [ "$(cat "$dir"/all.* | wc -l)" -eq 41 ]
    [ "$(cat "$dir"/all.* | sort -u | wc -l)" -eq 41 ]
}

@test "a requested address that host-local holds is refused" {
    theirs ADD a
    run ours allocate b 10.0.0.2
    [ "$status" -eq 1 ]
    [[ "$output" == *"requested address 10.0.0.2 is taken"* ]]
    [ "$(ours allocate b 10.0.0.12)" = 10.0.0.12/28 ]
    [ "$(theirs ADD c)" = 10.0.0.13/28 ]
}

@test "two sets, both families: file names and the place in the round robin are host-local's" {
    conf 1.0.0 '"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]'
    theirs ADD a
    ours allocate b
    theirs ADD c
    [ "$(cat "$dir/data/net/fd00:0:0:1::3")" = $'b\r\neth0' ]
    [ "$(cat "$dir/data/net/fd00:0:0:1::4")" = $'c\r\neth0' ]
    [ "$(cat "$dir/data/net/last_reserved_ip.1")" = fd00:0:0:1::4 ]
}

@test "gc gives back host-local's leases too" {
    theirs ADD a
    theirs ADD b
    ours allocate c
    [ "$("$tool" gc "$dir/conf" "$dir/run" b)" = "released 2" ]
    run theirs CHECK a
    [ "$status" -eq 1 ]
    [ ! -e "$dir/data/net/10.0.0.2" ]
    [ -e "$dir/data/net/10.0.0.3" ]
    [ ! -e "$dir/data/net/10.0.0.4" ]
}

@test "delegation to static with a version that it does not know" {
    conf 1.1.0 '"addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}],
                "routes": [{"dst": "0.0.0.0/0"}]' static
    run "$tool" delegate ADD "$dir/conf"
    [ "$status" -eq 0 ]
    [ "$output" = $'ip 10.9.0.5/24 gateway 10.9.0.1\nroute 0.0.0.0/0 gw none' ]
    for verb in DEL GC STATUS; do
        run "$tool" delegate $verb "$dir/conf"
        [ "$status" -eq 0 ]
    done
}

@test "delegation to static, results of every version" {
    for version in 0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0; do
        conf $version '"addresses": [{"address": "10.9.0.5/24"}, {"address": "fd00::5/64"}]' static
        run "$tool" delegate ADD "$dir/conf"
        [ "$output" = $'ip 10.9.0.5/24 gateway none\nip fd00::5/64 gateway none' ]
    done
}

@test "delegation to host-local: add, check, delete, and its own errors with their code" {
    conf 1.1.0 '"subnet": "10.0.0.0/28"'
    run "$tool" delegate ADD "$dir/conf"
    [ "$output" = "ip 10.0.0.2/28 gateway 10.0.0.1" ]
    "$tool" delegate CHECK "$dir/conf"
    run "$tool" delegate ADD "$dir/conf"
    [ "$status" -eq 1 ]
    [[ "$output" == "error 999 ipam plugin host-local: failed to allocate for range 0: "* ]]
    "$tool" delegate DEL "$dir/conf"
    run "$tool" delegate CHECK "$dir/conf"
    [ "$status" -eq 1 ]
}

@test "delegation to what is not there" {
    conf 1.0.0 '"subnet": "10.0.0.0/28"' no-such-plugin
    run "$tool" delegate ADD "$dir/conf"
    [ "$status" -eq 1 ]
    [ "$output" = "error 0 ipam plugin no-such-plugin: not found in the plugin path \"$CNI_PLUGINS\"" ]
}
