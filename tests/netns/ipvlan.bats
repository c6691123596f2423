#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# ovs-ipvlan and ovs-ipvtap: pods that share the MAC address of their tenant's port.

load helpers
load cni

KINDS='ovs-ipvlan ovs-ipvtap'

setup_file() {
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_root
    need ovs-vswitchd ovs-vsctl jq ping
    needs_kernel ipvlan ipvtap
}

teardown() {
    in_netns "$HOST" ip addr flush dev br0 || true
    host_check
}

link_of() { # POD JQ
    in_netns "$(netns_name "$1")" ip -d -j link show eth0 | jq -r ".[0] | $2"
}

# The tenant's port that the last record of a pod names.
port_of() { # POD
    jq -rs 'map(.port // empty) | last' "$DIR/i/attachments/$1/eth0@net.json"
}

mac_of() { # DEVICE of the host
    in_netns "$HOST" ip -j link show "$1" | jq -r '.[0].address'
}

modes_of() { # KIND
    case $1 in
    ovs-ipvlan) echo l2 l3 l3s ;;
    ovs-ipvtap) echo l2 l3 ;;
    esac
}

@test "the device is of the kind and mode, and has and answers its port's MAC address" {
    make_pods a
    for kind in $KINDS; do
        for mode in $(modes_of $kind); do
            echo "kind $kind, mode $mode"
            conf $kind ".mode = \"$mode\""
            add a
            mac=$(mac_of "$(port_of a)")
            [ "$(link_of a .linkinfo.info_kind)" = "${kind#ovs-}" ]
            [ "$(link_of a .linkinfo.info_data.mode)" = $mode ]
            [ "$(link_of a .address)" = "$mac" ]
            [ "$(jq -r '.interfaces[] | select(.sandbox).mac' <<<"$ADDED")" = "$mac" ]
            [[ "$(in_pod a ip route)" = *"default via 10.1.0.1 dev eth0"* ]]
            del a
            no_device a
            assert_clean
        done
    done
}

@test "pods of one port reach each other in every mode; every mode has a port of its own" {
    make_pods a b
    ports=
    for mode in l2 l3 l3s; do
        conf ovs-ipvlan ".mode = \"$mode\""
        add a
        ports+="$(port_of a) "
        first=$IP
        [ $mode = l3s ] || change_conf '.type = "ovs-ipvtap"'
        add b
        [ "$(port_of b)" = "$(port_of a)" ]
        pings a "$IP"
        pings b "$first"
        del b
        change_conf '.type = "ovs-ipvlan"'
        del a
    done
    [ "$(tr ' ' '\n' <<<"$ports" | sort -u | grep -c .)" = 3 ]
    assert_clean
}

@test "l2: a pod reaches the gateway on the bridge, pods of other kinds, and what is behind the gateway" {
    make_pods a b
    in_netns "$HOST" ip addr add 10.1.0.1/24 dev br0
    in_netns "$HOST" ip link set br0 up
    in_netns "$HOST" ip addr add 192.0.2.1/32 dev lo
    conf ovs
    add b
    other=$IP
    for kind in $KINDS; do
        conf $kind
        add a
        pings a 10.1.0.1
        pings a 192.0.2.1
        pings a "$other"
        pings b "$IP"
        del a
    done
    conf ovs
    del b
    in_netns "$HOST" ip addr del 192.0.2.1/32 dev lo
    assert_clean
}

@test "l3: no ARP in the pod; others on the bridge reach it by a neighbour entry for its port" {
    make_pods a b
    conf ovs
    add b
    other=$IP
    for mode in l3 l3s; do
        conf ovs-ipvlan ".mode = \"$mode\""
        add a
        [[ "$(link_of a '.flags | join(" ")')" = *NOARP* ]]
        in_pod b ip neigh replace "$IP" lladdr "$(mac_of "$(port_of a)")" dev eth0
        pings a "$other"
        pings b "$IP"
        in_pod b ip neigh del "$IP" dev eth0
        del a
    done
    conf ovs
    del b
    assert_clean
}

@test "pods of two tenants do not reach each other" {
    make_pods a b c
    for kind in $KINDS; do
        for mode in $(modes_of $kind); do
            conf $kind ".mode = \"$mode\" | .tenant = \"red\" | .vlan = 10"
            add a
            add b
            same=$IP
            change_conf '.tenant = "blue" | .vlan = 20'
            add c
            pings a "$same"
            cannot_ping a "$IP"
            del c
            change_conf '.tenant = "red" | .vlan = 10'
            del a
            del b
        done
    done
    assert_clean
}

@test "dual stack: both families, and pods that reach each other at once" {
    make_pods a b
    conf ovs-ipvlan 'del(.ipam.subnet) |
        .ipam.ranges = [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]'
    add a
    first=$(jq -r '.ips[1].address | sub("/.*"; "")' <<<"$ADDED")
    add b
    pings b "$first"
    del a
    del b
    assert_clean
}

@test "a MAC address that is asked for is refused by the name of what asks" {
    make_pods a
    why='"02:00:00:00:00:07" is not allowed; a device of type ovs-ip* has the MAC address of its OVS port'
    for kind in $KINDS; do
        conf $kind '.mac = "02:00:00:00:00:07"'
        refuses 7 "mac: $why" ADD a
        conf $kind '.args.cni.mac = "02:00:00:00:00:07"'
        refuses 7 "args.cni.mac: $why" ADD a
        conf $kind '.runtimeConfig.mac = "02:00:00:00:00:07"'
        refuses 7 "runtimeConfig.mac: $why" ADD a
        conf $kind
        refuses 7 "CNI_ARGS MAC: $why" ADD a CNI_ARGS=MAC=02:00:00:00:00:07
    done
    no_device a
    [ -z "$(host_left)" ]
}

@test "l3s is refused for ipvtap, whose tap would see nothing" {
    make_pods a
    conf ovs-ipvtap '.mode = "l3s"'
    refuses 7 'mode: "l3s" is not allowed; *' ADD a
    [ -z "$(host_left)" ]
}

@test "CHECK passes after ADD, and tells a lost address, a lost device and a lost port" {
    make_pods a
    for kind in $KINDS; do
        conf $kind
        add a
        before=$CONF
        change_conf --argjson r "$ADDED" '.prevResult = $r'
        cni CHECK a
        in_pod a ip addr del "$IP/24" dev eth0
        refuses 105 "device eth0 has lost address $IP/24" CHECK a
        in_pod a ip addr add "$IP/24" dev eth0
        in_pod a ip route add default via 10.1.0.1
        cni CHECK a
        in_pod a ip link del eth0
        refuses 105 "device eth0 is gone from the container" CHECK a
        CONF=$before
        del a
    done
    assert_clean
}

@test "DEL and GC: twice, without the namespace, without a record, of what is not listed" {
    make_pods a b c
    for kind in $KINDS; do
        conf $kind
        add a
        del a
        del a
        add a
        del a CNI_NETNS=
        no_device a
        add a
        drop_pods a
        del a
        make_pods a
        add a
        rm -r "$DIR/i/attachments/a"
        del a
        no_device a
        add a
        add b
        kept=$IP
        (change_conf '.["cni.dev/valid-attachments"] = [{"containerID": "b", "ifname": "eth0"}]' &&
            cni GC x)
        no_device a
        add c
        pings c "$kept"
        del b
        del c
    done
    assert_clean
}

@test "a second interface of the same pod, and neighbours in a burst" {
    make_pods a b c d
    for kind in $KINDS; do
        conf $kind
        add a
        (change_conf '.name = "net2" | .ipam.subnet = "10.2.0.0/24" | del(.ipam.routes)' && add a CNI_IFNAME=eth1 &&
            del a CNI_IFNAME=eth1)
        link_of a .address
        del a
        burst ADD a b c d
        burst DEL a b c d
    done
    assert_clean
}

# A guest in python: from a pooled ipvtap's character device, asks a pod for an echo. Prints "answered".
# The namespace's own sysfs says which device it is.
ask_by_tap() { # DEVICE SOURCE DESTINATION MAC
    in_netns "$HOST" unshare -m sh -c 'mount -t sysfs sysfs /sys && exec python3 -c "$0" "$@"' '
import glob, ipaddress, os, select, sys, time
name, source, to, mac = sys.argv[1:]
source, to = (ipaddress.ip_address(a).packed for a in (source, to))
mac = bytes.fromhex(mac.replace(":", ""))
numbers = open(glob.glob(f"/sys/class/net/{name}/ipvtap/tap*/dev")[0]).read().split(":")
node = f"/dev/sluice-test-{os.getpid()}"
os.mknod(node, 0o20600, os.makedev(*map(int, numbers)))
fd = os.open(node, os.O_RDWR)
os.unlink(node)

def sum16(data):
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return (~total & 0xffff).to_bytes(2, "big")

echo = bytes([8, 0, 0, 0, 0, 7, 0, 1]) + b"0123456789abcdef"
echo = echo[:2] + sum16(echo) + echo[4:]
ip = bytes([0x45, 0, 0, 20 + len(echo), 0, 0, 0, 0, 64, 1, 0, 0]) + source + to
ip = ip[:10] + sum16(ip) + ip[12:]
arp = bytes.fromhex("0001080006040002") + mac + source
os.write(fd, bytes(10) + mac + mac + b"\x08\x00" + ip + echo)
end = time.monotonic() + 5
while time.monotonic() < end and select.select([fd], [], [], end - time.monotonic())[0]:
    frame = os.read(fd, 65536)[10:]
    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x01" and frame[38:42] == source:
        os.write(fd, bytes(10) + frame[6:12] + mac + b"\x08\x06" + arp + frame[22:32])
    if frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[26:30] == to and frame[34] == 0:
        print("answered")
        break
' "$@"
}

@test "ovs-dev-pool with ipvtaps: a guest's packets go through the descriptor, and the host owns no address of its" {
    make_pods a b
    conf ovs-ipvlan
    add b
    conf ovs-ipvlan '.type = "ovs-dev-pool" | .poolType = "ipvtap"'
    add a
    name=$(jq -r '.interfaces[0].name' <<<"$ADDED")
    mac=$(jq -r '.interfaces[1].mac' <<<"$ADDED")
    [ "$mac" = "$(mac_of "$(port_of a)")" ]
    [ "$(port_of a)" = "$(port_of b)" ]
    [ -z "$(in_netns "$HOST" ip route show table local "$IP")" ]
    [ "$(ask_by_tap "$name" "$IP" 10.1.0.2 "$mac")" = answered ]
    del a
    change_conf '.mac = "02:00:00:00:00:07"'
    refuses 7 "mac: *a device of type ovs-dev-pool has the MAC address of its OVS port" ADD a
    change_conf 'del(.mac, .ipam)'
    refuses 7 "ipam: poolType ipvtap needs one that gives an address" ADD a
    conf ovs-ipvlan
    del b
    assert_clean
}
