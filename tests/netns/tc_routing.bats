#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# ovs-tc-routing: pods that are joined to one OVS port by their addresses. (What it has in common with
# other kinds is in cni.bats.)

load helpers
load cni

setup_file() {
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_host
    need ovs-vswitchd ovs-vsctl jq ping python3
}

teardown() {
    in_netns "$HOST" ip addr flush dev br0 || true
    host_check
}

# The bridge's side: an address of the host on it.
gateway() { # ADDRESS/PREFIX...
    local address
    in_netns "$HOST" ip link set br0 up
    for address; do
        in_netns "$HOST" ip addr add "$address" dev br0 nodad
    done
}

two_families='del(.ipam.subnet) |
    .ipam.ranges = [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]'

ip6() {
    jq -r '.ips[1].address | sub("/.*"; "")' <<<"$ADDED"
}

mac() {
    jq -r '.interfaces[] | select(.sandbox).mac' <<<"$ADDED"
}

host_end() {
    jq -r '.interfaces[] | select(.sandbox | not).name' <<<"$ADDED"
}

port_of() { # POD
    jq -rs 'map(.port // empty) | last' "$DIR/i/attachments/$1/eth0@net.json"
}

@test "pods of a tenant and the gateway reach each other by IPv4 and IPv6; OVS has one port" {
    make_pods a b c
    gateway 10.1.0.1/24 fd00:1::1/64
    conf ovs-tc-routing "$two_families"
    for pod in a b c; do
        add $pod
        ips+=("$IP" "$(ip6)")
    done
    [ "$(vsctl list-ports br0 | grep -c .)" = 1 ]
    for pod in a b c; do
        for ip in "${ips[@]}" 10.1.0.1 fd00:1::1; do
            in_pod $pod ip -o addr show dev eth0 | grep -qF " $ip/" || pings $pod "$ip"
        done
    done
    for ip in "${ips[@]}"; do
        in_netns "$HOST" ping -q -c 1 -W 2 "$ip" >/dev/null
    done
    for pod in a b c; do
        del $pod
    done
    assert_clean
}

@test "what is behind the gateway is reached by the default route, and answers" {
    make_pods a
    gateway 10.1.0.1/24
    in_netns "$HOST" ip addr add 192.0.2.1/32 dev lo
    conf ovs-tc-routing
    add a
    pings a 192.0.2.1
    in_netns "$HOST" ip addr del 192.0.2.1/32 dev lo
    del a
    assert_clean
}

@test "pods of other kinds on the bridge, and of the same tenant, are reached" {
    make_pods a b c
    conf ovs
    add b
    other=$IP
    conf ovs-macvlan
    add c
    third=$IP
    conf ovs-tc-routing
    add a
    pings a "$other"
    pings a "$third"
    pings b "$IP"
    pings c "$IP"
    del a
    conf ovs-macvlan
    del c
    conf ovs
    del b
    assert_clean
}

@test "a large TCP transfer goes through, between pods and by the bridge" {
    make_pods a b c
    conf ovs-macvlan
    add c
    conf ovs-tc-routing
    add b
    to=$IP
    add a
    for from in a c; do
        in_pod b timeout 60 python3 -c '
import socket, hashlib
s = socket.create_server(("", 7000))
c, _ = s.accept()
d = b"".join(iter(lambda: c.recv(65536), b""))
print(len(d), hashlib.sha256(d).hexdigest())' >"$DIR/got" &
        pid=$!
        eventually listens
        in_pod $from timeout 60 python3 -c '
import socket, sys
c = socket.create_connection((sys.argv[1], 7000))
c.sendall(bytes(range(256)) * 16384)' "$to"
        wait $pid
        [ "$(cat "$DIR/got")" = "$(python3 -c '
import hashlib
d = bytes(range(256)) * 16384
print(len(d), hashlib.sha256(d).hexdigest())')" ]
    done
    rm "$DIR/got"
    del a
    del b
    conf ovs-macvlan
    del c
    assert_clean
}

listens() {
    in_pod b ss -Hltn 'sport = 7000' | grep -q .
}

@test "pods of two tenants do not reach each other, with the same addresses too" {
    make_pods a b c
    conf ovs-tc-routing '.tenant = "red" | .vlan = 10'
    add a
    add b
    same=$IP
    change_conf '.tenant = "blue" | .vlan = 20 | .name = "net2"'
    add c
    change_conf '.ipam.subnet = "10.1.0.0/24"'
    pings a "$same"
    [ "$IP" = 10.1.0.2 ]
    cannot_ping c "$same"
    [ "$(vsctl list-ports br0 | grep -c .)" = 2 ]
    del c
    change_conf '.tenant = "red" | .vlan = 10 | .name = "net"'
    del a
    del b
    assert_clean
}

# ---- spoofing ----

hex_ip() {
    python3 -c 'import ipaddress, sys; print(ipaddress.ip_address(sys.argv[1]).packed.hex())' "$1"
}

# Sends frames from pod a's device: one in hexadecimal, and then $GENUINE, each with a mark at its
# end. Tells whether the first one comes to pod b before the other.
arrives() { # HEX
    local pid rc=0
    in_pod b timeout 120 python3 -c '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 3))
open(sys.argv[1], "w").close()
while True:
    frame = s.recv(65536)
    if b"the one in question" in frame:
        sys.exit(0)
    if b"the genuine one" in frame:
        sys.exit(42)' "$DIR/hears" &
    pid=$!
    eventually test -e "$DIR/hears"
    rm "$DIR/hears"
    in_pod a python3 -c '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for frame, mark in (sys.argv[1], b"the one in question"), (sys.argv[2], b"the genuine one"):
    s.send((bytes.fromhex(frame) + mark).ljust(60, b"\0"))' "$1" "$GENUINE"
    wait $pid || rc=$?
    [ $rc = 0 ] || [ $rc = 42 ] || { echo "nothing came: $rc"; exit 1; }
    return $rc
}

passes() {
    arrives "$@" || { echo "dropped: $*"; return 1; }
}

dropped() {
    ! arrives "$@" || { echo "passed: $*"; return 1; }
}

@test "a pod's packets with another's MAC or address are dropped, on every way to another pod" {
    make_pods a b
    conf ovs-tc-routing "$two_families"
    add a
    a4=$(hex_ip "$IP") a6=$(hex_ip "$(ip6)") am=$(mac) am=${am//:/}
    add b
    b4=$(hex_ip "$IP") b6=$(hex_ip "$(ip6)") bm=$(mac) bm=${bm//:/}
    other=020000000099
    ipv4() { echo "$bm${2}0800450000300000000040110000$1$b4" ; }
    udp=0007000700180000
    GENUINE=$(ipv4 $a4 $am)$udp
    passes "$(ipv4 $a4 $am)$udp"
    dropped "$(ipv4 0a010063 $am)$udp"
    dropped "$(ipv4 $b4 $am)$udp"
    dropped "$(ipv4 00000000 $am)$udp"
    dropped "$(ipv4 $a4 $other)$udp"
    # Tagged: the port is of one VLAN.
    dropped "$bm${am}8100000508004500003000000000401100000a010063$b4$udp"
    arp() { echo "ffffffffffff${1}08060001080006040001$2${3}000000000000$b4" ; }
    passes "$(arp $am $am $a4)"
    passes "$(arp $am $am 00000000)"
    dropped "$(arp $am $am 0a010063)"
    dropped "$(arp $am $other $a4)"
    dropped "$(arp $other $am $a4)"
    dropped "$(arp $am $bm $b4)"
    ipv6() { echo "$bm${am}86dd60000000002011ff$1$b6" ; }
    passes "$(ipv6 $a6)$udp"
    dropped "$(ipv6 "$(hex_ip fd00:1::99)")$udp"
    dropped "$(ipv6 "$(hex_ip fe80::99)")$udp"
    advert() { echo "$bm${am}86dd6000000000283aff$a6${b6}8800000060000000$1" ; }
    passes "$(advert $a6)"
    dropped "$(advert "$(hex_ip fd00:1::99)")"
    dropped "$(advert $b6)"
    # The advertisement behind a header of options.
    hidden() { echo "$bm${am}86dd60000000003000ff$a6${b6}3a000000000000008800000060000000$1" ; }
    passes "$(hidden $a6)"
    dropped "$(hidden $b6)"
    del a
    del b
    assert_clean
}

# ---- addresses, ports ----

@test "without addresses it is refused, and nothing is left" {
    make_pods a
    conf ovs-tc-routing 'del(.ipam)'
    refuses 7 "ipam: type ovs-tc-routing needs one that gives the pod an address" ADD a
    no_device a
    assert_clean
}

@test "an address that a pod of the port has already is refused, by another network too" {
    make_pods a b
    conf ovs-tc-routing
    add a
    change_conf '.name = "net2"'
    refuses 102 "address 10.1.0.2 on port st* is that of device sl* (sluice/*/net/a/eth0)" ADD b
    no_device b
    change_conf '.name = "net"'
    add b
    pings b 10.1.0.2
    del a
    del b
    assert_clean
}

@test "the named port is made, or refused where a device of another sort has the name" {
    make_pods a b
    conf ovs-tc-routing '.port = "tenant0" | .vlan = 9'
    add a
    add b
    pings b 10.1.0.2
    [ "$(vsctl get Port tenant0 tag)" = 9 ]
    del a
    del b
    change_conf '.vlan = 10'
    refuses 101 "*vlan: port tenant0 has VLAN 9, not 10" ADD a
    (gc_all)
    eventually host_clean
    vsctl add-port br0 tenant0 -- set Interface tenant0 type=internal
    refuses 101 "*port: device tenant0 is there, but was not made for type ovs-tc-routing: *" ADD a
    vsctl del-port tenant0
    eventually host_clean
}

@test "mtu: of the port by the first pod, no larger for later ones" {
    make_pods a b
    conf ovs-tc-routing '.mtu = 1400'
    add a
    change_conf '.mtu = 1500'
    refuses 7 "mtu: 1500 is not allowed; port st* has 1400" ADD b
    change_conf 'del(.mtu)'
    add b
    [ "$(jq '.interfaces[] | select(.sandbox).mtu' <<<"$ADDED")" = 1400 ]
    del a
    del b
    assert_clean
}

# ---- life ----

@test "OVS started again: pods reach each other and the gateway as before, and new ones come" {
    make_pods a b
    gateway 10.1.0.1/24
    conf ovs-tc-routing
    add a
    first=$IP
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
    gateway 10.1.0.1/24
    add b # finds that the new OVS does not have the port
    pings b "$first"
    pings a 10.1.0.1
    pings b 10.1.0.1
    del a
    del b
    assert_clean
}

@test "ovs-vswitchd killed and started again: the pods reach the gateway" {
    make_pods a
    gateway 10.1.0.1/24
    conf ovs-tc-routing
    add a
    pings a 10.1.0.1
    kill -9 "$(cat "$DIR/i/ovs/ovs-vswitchd.pid")"
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0
    eventually pings a 10.1.0.1
    del a
    assert_clean
}

@test "pods at once, from no port at all: one port, and all reach each other" {
    pods=$(printf 'p%d ' $(seq 24))
    make_pods $pods
    conf ovs-tc-routing
    burst ADD $pods
    [ "$(vsctl list-ports br0 | grep -c .)" = 1 ]
    for pod in $pods; do
        ips+=("$(jq -r '.ips[0].address | sub("/.*"; "")' "$DIR/out.$pod")")
    done
    for ip in "${ips[@]:1}"; do
        pings p1 "$ip"
    done
    burst DEL $pods
    rm "$DIR"/out.*
    assert_clean
}

@test "CHECK tells a lost way, a lost filter, a port that went" {
    make_pods a
    conf ovs-tc-routing
    add a
    before=$CONF
    change_conf --argjson r "$ADDED" '.prevResult = $r'
    cni CHECK a
    end=$(host_end)
    in_netns "$HOST" tc filter del dev "$end" ingress
    refuses 105 "device sl* does not lead to port st*" CHECK a
    CONF=$before
    del a
    add a
    change_conf --argjson r "$ADDED" '.prevResult = $r'
    cni CHECK a
    vsctl del-port "$(port_of a)"
    refuses 105 "OVS has no port st*" CHECK a
    CONF=$before
    del a
    gc_all # the port's devices, which OVS no longer tells of
    eventually host_clean
}

@test "CHECK tells an address that the port's table has lost" {
    need bpftool
    make_pods a
    conf ovs-tc-routing
    add a
    before=$CONF
    change_conf --argjson r "$ADDED" '.prevResult = $r'
    program=$(in_netns "$HOST" tc -j filter show dev "$(host_end)" ingress | jq '[.[].options.prog.id // empty][0]')
    for map in $(bpftool -j prog show id "$program" | jq '.map_ids[]'); do
        if [ "$(bpftool -j map show id "$map" | jq -r .name)" = sluice_routes ]; then
            bpftool map delete id "$map" key hex 04 00 00 00 0a 01 00 02 00 00 00 00 00 00 00 00 00 00 00 00
        fi
    done
    refuses 105 "port st* has lost the way to 10.1.0.2" CHECK a
    CONF=$before
    del a
    assert_clean
}

@test "an address is free again after DEL, with the namespace or without, and after GC without a record" {
    make_pods a b
    conf ovs-tc-routing '.ipam.rangeStart = "10.1.0.9" | .ipam.rangeEnd = "10.1.0.9"'
    add a
    del a
    add b
    drop_pods b
    del b
    make_pods b
    add b
    drop_pods b
    rm -r "$DIR/i/attachments/b"
    (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
    add a
    del a
    assert_clean
}

@test "GC removes the tenant's port with both its devices when no pod uses it, and not before" {
    make_pods a
    conf ovs-tc-routing '.tenant = "red"'
    add a
    change_conf '.["cni.dev/valid-attachments"] = [{"containerID": "a", "ifname": "eth0"}]'
    cni GC x
    [ "$(vsctl list-ports br0 | grep -c .)" = 1 ]
    del a
    cni GC x
    eventually host_clean
}
