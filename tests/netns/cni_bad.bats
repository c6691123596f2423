#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The CNI plugin given what it can't do: a code, words that help, and nothing made.

load helpers
load cni

setup_file() {
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_root
    need ovs-vswitchd ovs-vsctl jq
    make_pods a
}

teardown() {
    host_check
}

# Refused, and neither pod nor host have anything, nor has the pod's namespace changed.
bad() { # CODE GLOB COMMAND POD [VARIABLE=VALUE...]
    refuses "$@"
    if [ -n "$(pods_left)" ] || ! no_device a; then
        echo "$* left:"
        pods_left
        return 1
    fi
}

# A configuration changed by a jq filter is refused by ADD, with code 7.
bad_conf() { # JQ FILTER, GLOB
    echo "conf: $1"
    conf "${KIND:-ovs}" "$1"
    bad 7 "$2" ADD a
}

# ---- what is no configuration ----

@test "what is not JSON: code 6, with line and column" {
    for CONF in '{' '' '{"a": }' 'nonsense' '{"name": "a", "name": "b"}' '{"a": "'$'\xff''"}' '{} {}'; do
        bad 6 "network configuration: invalid JSON at line [0-9]*, column *" ADD a
        refuses 6 "*invalid JSON*" DEL a
    done
}

@test "JSON that is no object: code 6" {
    for CONF in '[]' '[{"type": "ovs"}]'; do
        bad 6 "*not a JSON object*" ADD a
    done
}

@test "deeply nested JSON is refused, not followed" {
    CONF=$(printf '{"a":'; head -c 1000000 /dev/zero | tr '\0' '[')
    bad 6 "*maximum parsing depth*" ADD a
    CONF=$(head -c 1000000 /dev/zero | tr '\0' '{')
    bad 6 "*invalid JSON*" ADD a
}

@test "a configuration of more than 16 MiB: code 5" {
    said=$(head -c 17M /dev/zero | tr '\0' ' ' | in_netns "$HOST" env -i CNI_COMMAND=ADD \
        CNI_CONTAINERID=a CNI_NETNS="$(netns_path a)" CNI_IFNAME=eth0 "$PLUGIN") && false
    [ "$(jq .code <<<"$said")" = 5 ]
    [[ "$(jq -r .msg <<<"$said")" = *"too large"* ]]
}

@test "a large configuration with keys that nobody knows is fine" {
    conf ovs ".filler = \"$(head -c 100000 /dev/zero | tr '\0' x)\" | .unknown = {a: [1, null]}
        | .ipam.unknown = 7 | .cmd = 1 | .rpc = 0 | .debug = true | .tcOvsFlow = 1"
    add a
    del a
}

# ---- keys ----

@test "what must be there: name, type, bridge" {
    bad_conf 'del(.name)' 'name: missing; must be *'
    bad_conf '.name = ""' 'name: "" is not allowed; must be *'
    bad_conf 'del(.type)' 'type: missing; must be *'
    for KIND in $BRIDGE_KINDS; do
        bad_conf 'del(.bridge)' 'bridge: missing; must be the name of an OVS bridge'
        bad_conf '.bridge = null' 'bridge: missing; must be the name of an OVS bridge'
    done
}

@test "a network name that would not do as a file name" {
    for name in ../x a/b .a 'a b' "a'b" -a "$(head -c 101 /dev/zero | tr '\0' n)"; do
        bad_conf ".name = \"$name\"" "name: \"${name:0:100}*is not allowed; must be at most 100 letters*"
    done
}

@test "an unknown type: the message lists the kinds" {
    bad_conf '.type = "ovz"' 'type: "ovz" is not allowed; must be one of ovs, *ovs-internal*'
}

@test "wrong types: the message names key, value and what is allowed" {
    while read -r key value allowed; do
        bad_conf ".$key = $value" "$key: $value is not allowed; must be $allowed"
    done <<'END'
name 7 a string
type [] a string
bridge 7 a string
port {} a string
tenant 7 a string
socket_file 7 a string
sluiceDir 7 a string
vlan "7" a whole number from 0 to 4094
vlan 1.5 a whole number from 0 to 4094
mtu "1500" a whole number from 0 to 65535
mtu true a whole number from 0 to 65535
trunk 7 a list
ipam [] an object
dns "x" an object
prevResult [] an object
runtimeConfig 7 an object
args "a" an object
args.cni "a" an object
runtimeConfig.mac 7 a string
ipam.type 7 a string
mac 7 a string
cniVersion 1 a string
END
}

@test "values out of range: the message says what would do" {
    bad_conf '.vlan = -1' 'vlan: -1 is not allowed; must be a whole number from 0 to 4094'
    bad_conf '.vlan = 4095' 'vlan: 4095 is not allowed; must be a whole number from 0 to 4094'
    bad_conf '.mtu = -5' 'mtu: -5 is not allowed; *'
    bad_conf '.mtu = 67' 'mtu: 67 is not allowed; must be 0 or a whole number from 68 to 65535'
    bad_conf '.mtu = 65536' 'mtu: 65536 is not allowed; *'
    bad_conf '.bridge = "bridge-name-of-16"' 'bridge: * is not allowed; must be a device name*'
    bad_conf '.bridge = "a/b"' 'bridge: * is not allowed; must be a device name*'
    bad_conf '.port = ""' 'port: "" is not allowed; must be a device name*'
    bad_conf '.datapath = "dpdk"' 'datapath: "dpdk" is not allowed; must be one of "netdev", "system"'
    bad_conf '.sluiceDir = "run"' 'sluiceDir: "run" is not allowed; must be an absolute path'
    bad_conf '.mode = "bridge"' 'mode: "bridge" is not allowed; must be absent: this type has no modes'
    KIND=ovs-macvlan
    bad_conf '.mode = "l2"' 'mode: "l2" is not allowed; must be one of "bridge", "private", "vepa", "passthru"'
    bad_conf '.mode = 1' 'mode: 1 is not allowed; must be one of *'
}

@test "trunk: each entry is checked, and its place told" {
    bad_conf '.trunk = [5]' 'trunk\[0\]: 5 is not allowed; must be {"id": VLAN} or *'
    bad_conf '.trunk = [{id: 1}, {}]' 'trunk\[1\]: {} is not allowed; *'
    bad_conf '.trunk = [{id: 4095}]' 'trunk\[0\].id: 4095 is not allowed; *'
    bad_conf '.trunk = [{minID: 9, maxID: 8}]' 'trunk\[0\].maxID: 8 is not allowed; must be a whole number from 9 to 4094'
    bad_conf '.trunk = [{minID: 9}]' 'trunk\[0\]: {"minID":9} is not allowed; *'
    bad_conf '.trunk = [{id: "x"}]' 'trunk\[0\].id: "x" is not allowed; *'
}

@test "MAC addresses that can't be had, wherever they come from" {
    for mac in nonsense 01:00:00:00:00:01 00:00:00:00:00:00 02:00:00:00:00 02:00:00:00:00:0g; do
        bad_conf ".mac = \"$mac\"" "mac: \"$mac\" is not allowed; must be a unicast MAC address*"
    done
    conf ovs
    bad 7 'CNI_ARGS MAC: "x" is not allowed*' ADD a CNI_ARGS=MAC=x
    bad_conf '.runtimeConfig.mac = "x"' 'runtimeConfig.mac: "x" is not allowed*'
    bad_conf '.args.cni.mac = "x"' 'args.cni.mac: "x" is not allowed*'
}

@test "ipam: what is wrong in it is named with its place" {
    bad_conf '.ipam.subnet = "10.1.0.0/99"' '*subnet*10.1.0.0/99*'
    bad_conf '.ipam.subnet = 7' '*subnet*7 is not allowed*'
    bad_conf 'del(.ipam.subnet)' '*ipam*'
    bad_conf '.ipam.rangeStart = "10.2.0.1"' '*rangeStart*10.2.0.1*'
    bad_conf '.ipam.routes = [{dst: "x"}]' '*routes\[0\].dst*x*'
    bad_conf '.ipam.type = "../evil"' 'ipam.type: "../evil" is not allowed; must be the name of an IPAM plugin'
}

@test "rules and rates: what is wrong in them is named with its place" {
    bad_conf '.acl = -5' 'acl: -5 is not allowed*'
    bad_conf '.rules = [{direction: "up"}]' 'rules\[0\].direction: "up" is not allowed*'
    bad_conf '.args.cni.rules = [{direction: "ingress", action: "deny", ports: 5}]' 'args.cni.rules\[0\].ports: 5*'
    bad_conf '.bandwidth = {ingressRate: 1}' 'bandwidth.ingressRate: 1 is not allowed*'
    bad_conf '.runtimeConfig.bandwidth = {egressRate: "1M"}' 'runtimeConfig.bandwidth.egressRate: "1M"*'
    bad_conf '.qos = 2' 'qos: 2 is not allowed*'
}

# ---- versions and verbs ----

@test "versions: an unknown one, and verbs that an old one has not: code 1" {
    for version in 2.0.0 1.2.0 0.4 1 v1.0.0 ' 1.0.0'; do
        conf ovs ".cniVersion = \"$version\""
        bad 1 "cniVersion: \"$version\" is not allowed; must be one of 0.1.0, *1.1.0" ADD a
    done
    conf ovs '.cniVersion = "0.3.1" | .prevResult = {}'
    bad 1 'cniVersion: "0.3.1" has no CHECK; must be 0.4.0 or newer' CHECK a
    conf ovs '.cniVersion = "1.0.0" | .["cni.dev/valid-attachments"] = []'
    bad 1 'cniVersion: "1.0.0" has no GC; must be 1.1.0 or newer' GC a
    bad 1 'cniVersion: "1.0.0" has no STATUS; must be 1.1.0 or newer' STATUS a
}

@test "an error is said in the configuration's version" {
    conf ovs '.cniVersion = "0.4.0" | .vlan = "x"'
    refuses 7 "vlan: *" ADD a
    [ "$(jq -r .cniVersion <<<"$SAID")" = 0.4.0 ]
}

@test "the environment: each variable that is missing or wrong is named, code 4" {
    conf ovs
    for command in '' add ADDX; do
        bad 4 "CNI_COMMAND: *must be one of ADD, DEL, CHECK, GC, STATUS, VERSION" "$command" a
    done
    for command in ADD DEL CHECK; do
        for id in '' ../a a/b .a 'a b' "$(head -c 129 /dev/zero | tr '\0' c)"; do
            bad 4 "CNI_CONTAINERID: *must be *" $command a CNI_CONTAINERID="$id"
        done
        for ifname in '' . .. a/b a:b 'a b' name-of-16-chars; do
            bad 4 "CNI_IFNAME: *must be *" $command a CNI_IFNAME="$ifname"
        done
    done
    bad 4 "CNI_NETNS: not set; must be *" ADD a CNI_NETNS=
    bad 4 "CNI_NETNS: not set; must be *" CHECK a CNI_NETNS=
}

# ---- the namespace ----

@test "CNI_NETNS that names no namespace, or the host's own: code 4, at once" {
    mkfifo "$DIR/fifo"
    touch "$DIR/file"
    for kind in $BRIDGE_KINDS loopback; do
        conf $kind
        bad 4 "CNI_NETNS: *$DIR/missing: No such file*" ADD a CNI_NETNS="$DIR/missing"
        for path in "$DIR/file" "$DIR" "$DIR/fifo" /proc/self/ns/mnt; do
            bad 4 "CNI_NETNS: $path is not a network namespace" ADD a CNI_NETNS="$path"
        done
        for path in "/run/netns/$HOST" /proc/self/ns/net; do
            bad 4 "CNI_NETNS: $path is the host's own network namespace" ADD a CNI_NETNS="$path"
        done
    done
    rm "$DIR/fifo" "$DIR/file"
}

@test "DEL with the host's own namespace leaves the host's devices alone" {
    conf loopback
    del a CNI_NETNS="/run/netns/$HOST"
    in_netns "$HOST" ip link show lo up | grep -q UP
    for kind in $BRIDGE_KINDS; do
        conf $kind
        del a CNI_NETNS="/run/netns/$HOST" CNI_IFNAME=br0
        in_netns "$HOST" ip link show br0
    done
}

@test "DEL with a path that is no namespace is no failure" {
    touch "$DIR/file"
    for kind in $BRIDGE_KINDS loopback; do
        conf $kind
        del a CNI_NETNS="$DIR/file"
    done
    rm "$DIR/file"
}

# ---- what is there already, or is not ----

@test "a bridge that is not there: code 104, and the message lists those that are" {
    for kind in $BRIDGE_KINDS; do
        conf $kind '.bridge = "nobridge"'
        bad 104 '*nobridge*br0*' ADD a
    done
}

@test "a bridge of another datapath: code 7" {
    for kind in $BRIDGE_KINDS; do
        conf $kind '.datapath = "system" | .tenant = "other"'
        bad 7 '*datapath: "system" is not allowed; bridge br0 has "netdev"*' ADD a
    done
}

@test "a range with no address left: code 102, naming the range" {
    make_pods b
    for kind in $BRIDGE_KINDS; do
        conf $kind '.ipam.rangeStart = "10.1.0.9" | .ipam.rangeEnd = "10.1.0.9"'
        add b
        refuses 102 "*no address left*10.1.0.9-10.1.0.9*" ADD a
        no_device a
        [ "$(leases)" = "10.1.0.9 b eth0" ]
        [ "$(ls "$DIR/i/attachments")" = b ]
        del b
        add a
        del a
    done
    assert_clean
}

@test "ADD twice: code 101, and the first one works on" {
    for kind in $BRIDGE_KINDS; do
        conf $kind
        add a
        refuses 101 "container a has interface eth0 in network net already: DEL it first" ADD a
        change_conf --argjson r "$ADDED" '.prevResult = $r'
        cni CHECK a
        del a
        no_device a
    done
    assert_clean
}

@test "forty ADDs of one attachment at once: one works, DEL clears it" {
    for kind in $BRIDGE_KINDS; do
        conf $kind
        for i in $(seq 40); do
            cni ADD a >"$DIR/out.$i" 3>&- &
        done
        wait
        [ "$(grep -l '"code": 101' "$DIR"/out.* | wc -l)" = 39 ]
        [ "$(leases | wc -l)" = 1 ]
        del a
        no_device a
        assert_clean
    done
    rm "$DIR"/out.*
}

@test "ADD and DEL of one attachment at once, many times: DEL at the end clears all" {
    for kind in $BRIDGE_KINDS; do
        conf $kind
        for i in $(seq 12); do
            cni ADD a >/dev/null 3>&- &
            cni DEL a >/dev/null 3>&- &
        done
        wait
        del a
        no_device a
        assert_clean
    done
}

@test "a device of somebody else's with that name in the pod survives, untouched: code 101" {
    for kind in $BRIDGE_KINDS; do
        in_pod a ip tuntap add eth0 mode tap
        before=$(in_pod a ip -d addr show eth0)
        conf $kind
        refuses 101 "*eth0*" ADD a
        del a
        [ "$(in_pod a ip -d addr show eth0)" = "$before" ]
        assert_clean
        in_pod a ip link del eth0
    done
}

@test "the same where the requested MAC is the one that the device has" {
    for kind in $BRIDGE_KINDS; do
        in_pod a ip tuntap add eth0 mode tap
        in_pod a ip link set eth0 address 02:00:00:00:00:05
        conf $kind '.mac = "02:00:00:00:00:05"'
        refuses 101 "*eth0*" ADD a
        [ "$(devices "$(netns_name a)")" = eth0 ]
        assert_clean
        in_pod a ip link del eth0
    done
}

@test "two networks that want the same name in one pod: the second is refused, the first works on" {
    for kind in $BRIDGE_KINDS; do
        conf $kind
        add a
        first=$CONF
        conf $kind '.name = "net2" | .ipam.subnet = "10.2.0.0/24"'
        refuses 101 "*eth0*" ADD a
        del a
        CONF=$first
        change_conf --argjson r "$ADDED" '.prevResult = $r'
        cni CHECK a
        del a
        no_device a
    done
    assert_clean
}

@test "a route that the kernel refuses: ADD undoes all" {
    for kind in $BRIDGE_KINDS; do
        conf $kind '.ipam.routes = [{dst: "10.9.0.0/16", gw: "172.16.0.1"}]'
        said=$(cni ADD a) && false
        [[ "$(jq -r .msg <<<"$said")" = *"route"* ]]
        assert_clean
        no_device a
    done
}

# ---- Open vSwitch ----

@test "OVS not running: code 11, for ADD at once" {
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    for kind in $BRIDGE_KINDS; do
        conf $kind '.socket_file = "unix:\(.sluiceDir)/ovs/db.sock"'
        refuses 11 "*$DIR/i/ovs/db.sock*" ADD a
        no_device a
        [ -z "$(leases)" ]
        [ -z "$(ls "$DIR/i/attachments")" ]
    done
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
    for kind in $BRIDGE_KINDS; do
        conf $kind
        add a
        del a
    done
}

@test "OVSDB killed, its socket left: code 11" {
    pid=$(cat "$DIR/i/ovs/ovsdb-server.pid")
    kill -KILL "$pid"
    for kind in $BRIDGE_KINDS; do
        conf $kind
        refuses 11 "*$DIR/i/ovs/db.sock*" ADD a
        no_device a
        [ -z "$(leases)" ]
        [ -z "$(ls "$DIR/i/attachments")" ]
    done
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
}

# ---- rights ----

@test "not root: code 103" {
    chmod 755 "$DIR"
    cp "$PLUGIN" "$DIR/plugin"
    cp "$SLUICE_BUILD/cmd/sluice-cni-standalone" "$DIR" # which the thin one executes
    for kind in $BRIDGE_KINDS loopback; do
        conf $kind
        for command in ADD DEL GC; do
            said=$(in_netns "$HOST" env -i CNI_COMMAND=$command CNI_CONTAINERID=a CNI_IFNAME=eth0 \
                CNI_NETNS="$(netns_path a)" setpriv --reuid 65534 --regid 65534 --clear-groups \
                "$DIR/plugin" <<<"$CONF") && false
            [ "$(jq .code <<<"$said")" = 103 ]
            [[ "$(jq -r .msg <<<"$said")" = "$kind needs root: this process has user id 65534" ]]
        done
    done
    no_device a
}
