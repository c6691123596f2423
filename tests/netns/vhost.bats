#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Kind ovs-vhost with a real Open vSwitch with DPDK. In the VMM's place is dpdk-testpmd, whose
# virtio-user device serves the socket as QEMU does.

load helpers
load cni

PAGES=64

setup_file() {
    [ "$(id -u)" = 0 ] && (need_dpdk $PAGES) >/dev/null 2>&1 || return 0
    export HOST_OVS="--dpdk --hugepages $PAGES"
    host_up
}

teardown_file() {
    host_down
}

setup() {
    need_root
    need ovs-vswitchd ovs-vsctl jq ping
    need_dpdk $PAGES
    GUESTS=()
}

teardown() {
    end_guests
    host_check
}

# ---- guests ----

# What ADD answered becomes the pod's guest, which does MODE (of testpmd) until it is ended. Its
# words go to $DIR/guest.POD.
guest() { # POD MODE [OPTION...]
    local pod=$1 mode=$2
    shift 2
    need dpdk-testpmd
    rm -f "$(answered .socketPath)" # QEMU, too, takes the place of a socket that is left
    RUNTIME_DIRECTORY=$DIR dpdk-testpmd --no-huge --no-shconf -m 64 --no-pci --no-telemetry \
        --file-prefix="$pod" --lcores 0@0,1@0 \
        --vdev="net_virtio_user0,server=1,path=$(answered .socketPath),mac=$(answered .mac)" -- \
        --auto-start --total-num-mbufs=2048 --stats-period=1 --forward-mode="$mode" "$@" \
        </dev/null >"$DIR/guest.$pod" 2>&1 3>&- &
    GUESTS+=($!)
}

end_guests() {
    local pid
    for pid in "${GUESTS[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    GUESTS=()
}

answered() { # JQ: of the pod's interface in ADD's answer
    jq -r ".interfaces[] | select(.sandbox) | $1" <<<"$ADDED"
}

# Packets that the pod's guest has had so far.
received() { # POD
    grep -a -o 'RX-packets: [0-9]*' "$DIR/guest.$1" | tail -n 1 | grep -o '[0-9]*$' || echo 0
}

has_received() { # POD N
    [ "$(received "$1")" -ge "$2" ]
}

receives() { # POD: more than it has by now
    eventually has_received "$1" $(($(received "$1") + 1000)) ||
        { tail -n 20 "$DIR/guest.$1" "$DIR/i/ovs/ovs-vswitchd.log"; return 1; }
}

# Within 10 s.
reaches() { # POD ADDRESS
    local i
    for i in $(seq 20); do
        in_pod "$1" ping -q -c 1 -W 0.5 "$2" >/dev/null && return 0
    done
    tail -n 20 "$DIR"/guest.* "$DIR/i/ovs/ovs-vswitchd.log"
    return 1
}

connected() { # POD: Open vSwitch is
    [ "$(vsctl get interface "$(port_of "$1")" status:status)" = connected ]
}

port_of() { # POD
    vsctl --bare --columns=name find interface external_ids:sluice-container="$1"
}

switch_pid() {
    "$SLUICE" ovs status --instance "$DIR/i" --json | jq .vswitchd_pid
}

switch_gone() {
    ! kill -0 "$1" 2>/dev/null
}

# ---- packets ----

@test "a pod's guest sends packets to another's, also after Open vSwitch was killed and started again" {
    make_pods a b
    conf ovs-vhost
    add b
    mac=$(answered .mac)
    guest b rxonly
    add a
    guest a txonly --eth-peer=0,"$mac"
    receives b

    pid=$(switch_pid)
    kill -9 "$pid"
    eventually switch_gone "$pid"
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i"
    receives b

    end_guests
    del a
    del b
    assert_clean
}

@test "a pod of kind ovs pings a guest at the address that ADD answered" {
    make_pods a b
    conf ovs-vhost
    add a
    ip=$IP
    guest a icmpecho
    conf ovs
    add b
    reaches b "$ip"
    conf ovs-vhost
    del a
    conf ovs
    del b
    assert_clean
}

@test "a guest that is started again has its port again" {
    make_pods a b
    conf ovs-vhost
    add a
    ip=$IP
    guest a icmpecho
    (conf ovs && add b)
    reaches b "$ip"
    end_guests
    cannot_ping b "$ip"
    guest a icmpecho
    reaches b "$ip"
    end_guests
    del a
    conf ovs
    del b
    assert_clean
}

@test "guests of two tenants with different VLANs do not reach each other" {
    make_pods a b c
    conf ovs-vhost '.tenant = "blue" | .vlan = 20'
    add b
    mac=$(answered .mac)
    guest b rxonly
    conf ovs-vhost '.tenant = "red" | .vlan = 10'
    add c
    guest c rxonly
    add a
    eventually connected b
    # To the other tenant's MAC, which nobody here has: the own tenant's pods get it, as any switch does.
    guest a txonly --eth-peer=0,"$mac"
    receives c
    receives c
    [ "$(received b)" = 0 ]
    end_guests
    for pod in a b c; do
        del $pod
    done
    assert_clean
}

# ---- policies ----

@test "rules hold for a guest: what they deny is dropped, and let through again without them" {
    make_pods a b
    conf ovs
    add b
    ip=$IP
    conf ovs-vhost ".rules = [{direction: \"ingress\", action: \"deny\", protocol: \"icmp\", cidr: \"$ip/32\"}]"
    add a
    guest a icmpecho
    eventually connected a
    for i in 1 2 3; do
        cannot_ping b "$IP"
    done
    [ "$(received a)" -gt 0 ] || in_pod b ip neigh show "$IP" | grep -q lladdr # ARP is not denied
    end_guests
    del a
    conf ovs-vhost
    add a
    guest a icmpecho
    reaches b "$IP"
    end_guests
    del a
    conf ovs
    del b
    assert_clean
}

# Packets that the bridge has sent to the pod so far, with those that its guest was too slow for; and
# when that was, in nanoseconds.
sent_to() { # POD
    ovs-ofctl dump-ports "unix:$DIR/i/ovs/br0.mgmt" "$(port_of "$1")" |
        sed -n 's/.*tx pkts=\([0-9]*\), bytes=[0-9]*, drop=\([0-9]*\),.*/\1 \2/p' | awk '{print $1 + $2}'
    date +%s%N
}

# Bits per second of packets of 1000 bytes, over 4 s.
rate() { # POD
    # shellcheck disable=SC2046
    set -- "$1" $(sent_to "$1")
    sleep 4
    # shellcheck disable=SC2046
    set -- "$@" $(sent_to "$1")
    echo $((($4 - $2) * 8000 * 1000000 / (($5 - $3) / 1000)))
}

# A burst of a second: what a busy machine does not send at once, it sends later.
@test "a guest's rate holds within 10 %, to it and from it" {
    make_pods a b
    for limited in a b; do
        conf ovs-vhost
        [ $limited = a ] || change_conf '.bandwidth = {ingressRate: 20000000, ingressBurst: 20000000}'
        add b
        mac=$(answered .mac) ip=$IP
        guest b rxonly
        conf ovs-vhost
        [ $limited = b ] || change_conf '.bandwidth = {egressRate: 20000000, egressBurst: 20000000}'
        add a
        # From its own address: what it spoofs would be dropped.
        guest a txonly --eth-peer=0,"$mac" --tx-ip="$IP,$ip" --txpkts=1000
        receives b
        rate=$(rate b)
        echo "$limited limited: $rate"
        [ "$rate" -gt 18000000 ]
        [ "$rate" -lt 22000000 ]
        end_guests
        del a
        del b
    done
    assert_clean
}

# ---- ADD and its answer ----

@test "ADD answers MAC, MTU, addresses and the socket; the namespace has no device; the record has it all" {
    make_pods a
    conf ovs-vhost '.mtu = 1400 | .mac = "02:00:00:00:00:09"'
    add a
    [ "$(answered .name)" = eth0 ]
    [ "$(answered .mac)" = 02:00:00:00:00:09 ]
    [ "$(answered .mtu)" = 1400 ]
    [ "$(answered .sandbox)" = "$(netns_path a)" ]
    [ "$IP" = 10.1.0.2 ]
    socket=$(answered .socketPath)
    [ "$socket" = "$DIR/i/vhost/$(port_of a)/socket" ]
    [ "$(jq '.interfaces | length' <<<"$ADDED")" = 1 ]
    no_device a
    [ "$(tail -n 1 "$DIR/i/attachments/a/eth0@net.json" |
        jq -r '"\(.state) \(.nic) \(.socketPath) \(.mtu)"')" = "ready vhost-user $socket 1400" ]
    [ "$(vsctl get interface "$(port_of a)" type)" = dpdkvhostuserclient ]
    [ "$(vsctl get interface "$(port_of a)" mtu_request)" = 1400 ]
    del a
    assert_clean
}

@test "versions before 1.1.0 have no key for the socket: the record tells" {
    make_pods a
    for version in 0.1.0 0.3.1 1.0.0; do
        conf ovs-vhost ".cniVersion = \"$version\""
        add a
        [ "$(jq '[.. | objects | has("socketPath")] | any' <<<"$ADDED")" = false ]
        [ "$(tail -n 1 "$DIR/i/attachments/a/eth0@net.json" | jq 'has("socketPath")')" = true ]
        del a
    done
    assert_clean
}

@test "two interfaces of one pod have sockets of their own" {
    make_pods a
    conf ovs-vhost
    add a
    first=$(answered .socketPath)
    add a CNI_IFNAME=net1
    [ "$(answered .socketPath)" != "$first" ]
    del a
    [ -d "$(dirname "$(answered .socketPath)")" ]
    [ ! -e "$(dirname "$first")" ]
    refuses 101 "*DEL it first" ADD a CNI_IFNAME=net1
    del a CNI_IFNAME=net1
    assert_clean
}

@test "a VMM's user is let into one pod's folder by chown, and into no other's" {
    make_pods a b
    chmod 755 "$DIR"
    conf ovs-vhost
    add b
    other=$(answered .socketPath)
    add a
    socket=$(answered .socketPath)
    run setpriv --reuid 65534 --clear-groups touch "$socket"
    [ "$status" -ne 0 ]
    chown 65534 "$(dirname "$socket")"
    setpriv --reuid 65534 --clear-groups touch "$socket"
    run setpriv --reuid 65534 --clear-groups touch "$other"
    [ "$status" -ne 0 ]
    # Whatever that user leaves there takes nothing else along.
    touch "$DIR/precious"
    ln -s "$DIR/precious" "$(dirname "$socket")/link"
    ln -s "$DIR" "$(dirname "$socket")/links"
    mkdir "$(dirname "$socket")/empty"
    del a
    del b
    [ -e "$DIR/precious" ]
    assert_clean
}

@test "without DPDK, ADD and STATUS say so, and nothing is left" {
    make_pods a
    make_netns plain NS
    in_netns "$NS" "$SLUICE" ovs up --instance "$DIR/plain" --bridge br0
    conf ovs-vhost ".sluiceDir = \"$DIR/plain\""
    refuses 100 "*bridge br0 runs without DPDK; 'sluice ovs up --dpdk'*" ADD a
    refuses 50 "*bridge br0 runs without DPDK*" STATUS a
    [ -z "$(find "$DIR/plain/attachments" "$DIR/plain/vhost" -mindepth 1)" ]
    in_netns "$NS" "$SLUICE" ovs down --instance "$DIR/plain"
    ip netns del "$NS"
    rm -r "$DIR/plain"
}

@test "an instance whose path leaves no room for a socket's is told so" {
    make_pods a
    long=$DIR/$(printf 'x%.0s' $(seq 70))
    conf ovs-vhost ".sluiceDir = \"$long\" | .socket_file = \"unix:$DIR/i/ovs/db.sock\""
    refuses 100 "sluiceDir: the socket's path $long/vhost/*107*" ADD a
    [ -z "$(find "$long/attachments" -mindepth 1)" ]
    rm -r "$long"
}

@test "mode and poolType are refused" {
    make_pods a
    conf ovs-vhost '.mode = "bridge"'
    refuses 7 "mode*" ADD a
    conf ovs-vhost '.poolType = "tap"'
    refuses 7 "poolType*" ADD a
}

# ---- DEL, CHECK, GC ----

@test "DEL twice, without a namespace, and after it went" {
    conf ovs-vhost
    for netns in given empty gone; do
        make_pods a
        add a
        [ $netns != gone ] || drop_pods a
        if [ $netns = empty ]; then
            del a CNI_NETNS=
            del a CNI_NETNS=
        else
            del a
            del a
        fi
        assert_clean
        [ $netns = gone ] || drop_pods a
    done
}

@test "DEL after the instance's Open vSwitch was stopped" {
    make_pods a
    conf ovs-vhost
    add a
    in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
    del a
    in_netns "$HOST" "$SLUICE" ovs up --instance "$DIR/i" --bridge br0 $HOST_OVS
    assert_clean
}

@test "DEL and ADD of one pod in quick succession, the guest served each time" {
    make_pods a b
    (conf ovs && add b)
    conf ovs-vhost
    for i in 1 2 3; do
        add a
        guest a icmpecho
        reaches b "$IP"
        end_guests
        del a
    done
    conf ovs
    del b
    assert_clean
}

@test "CHECK finds the port gone, of another VLAN, or the folder gone" {
    make_pods a
    conf ovs-vhost '.vlan = 10'
    add a
    change_conf --argjson r "$ADDED" '.prevResult = $r'
    cni CHECK a
    vsctl set port "$(port_of a)" tag=11
    refuses 105 "*VLAN 11*" CHECK a
    vsctl set port "$(port_of a)" tag=10
    cni CHECK a
    rmdir "$(dirname "$(answered .socketPath)")"
    refuses 105 "the folder of socket*is gone" CHECK a
    vsctl del-port "$(port_of a)"
    mkdir "$(dirname "$(answered .socketPath)")"
    refuses 105 "*port*" CHECK a
    del a
    assert_clean
}

@test "GC removes pods that the list does not name, and leaves those that it does" {
    make_pods a b
    conf ovs-vhost
    add a
    add b
    touch "$(answered .socketPath)"
    (change_conf '.["cni.dev/valid-attachments"] = [{containerID: "a", ifname: "eth0"}]' && cni GC x)
    [ -n "$(port_of a)" ]
    eventually [ -z "$(port_of b)" ]
    [ "$(ls "$DIR/i/vhost" | wc -l)" = 1 ]
    [ "$(leases)" = "10.1.0.2 a eth0" ]
    del a
    assert_clean
}

@test "40 at once, up and down" {
    pods=()
    for i in $(seq 40); do
        pods+=("p$i")
    done
    make_pods "${pods[@]}"
    conf ovs-vhost
    burst ADD "${pods[@]}"
    [ "$(cat "$DIR"/out.p* | jq -r '.interfaces[].socketPath' | sort -u | wc -l)" = 40 ]
    [ "$(vsctl --bare --columns=ofport find interface type=dpdkvhostuserclient | grep -c '[0-9]')" = 40 ]
    burst DEL "${pods[@]}"
    rm "$DIR"/out.p*
    drop_pods "${pods[@]}"
    assert_clean
}
