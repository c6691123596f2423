#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The CNI plugin as a runtime calls it: what each kind builds, in every version and verb.

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
    need ovs-vswitchd ovs-vsctl jq ping
}

teardown() {
    host_check
}

# What the kernel says of a device in a pod: FIELD of ip's JSON.
link_of() { # POD JQ [IFNAME]
    in_netns "$(netns_name "$1")" ip -d -j link show "${3:-eth0}" | jq -r ".[0] | $2"
}

addresses_of() { # POD [IFNAME]
    in_netns "$(netns_name "$1")" ip -j addr show "${2:-eth0}" |
        jq -r '[.[0].addr_info[] | select(.scope == "global") | "\(.local)/\(.prefixlen)"] | join(" ")'
}

answered() { # JQ: of the pod's interface in ADD's answer
    jq -r ".interfaces[] | select(.sandbox) | $1" <<<"$ADDED"
}

answered_host() { # JQ: of the host's
    jq -r "[.interfaces[] | select(.sandbox | not)][0] | $1" <<<"$ADDED"
}

# ---- ADD and DEL ----

@test "ADD makes the device that it answers: MAC, MTU, alias, address, route, up; DEL takes all of it" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        echo "kind $kind"
        conf "$kind"
        add a
        [ "$(answered .name)" = eth0 ]
        [ "$(answered .sandbox)" = "$(netns_path a)" ]
        [ "$(link_of a .address)" = "$(answered .mac)" ]
        [ "$(link_of a .mtu)" = "$(answered .mtu)" ]
        [[ "$(link_of a .ifalias)" = sluice/*/net/a/eth0 ]]
        [ "$(link_of a '.flags | index("UP") != null')" = true ]
        [ "$(addresses_of a)" = "$(jq -r '.ips[0].address' <<<"$ADDED")" ]
        [[ "$(in_pod a ip route)" = *"default via 10.1.0.1 dev eth0"* ]]
        [ "$(jq '.ips[0].interface as $i | .interfaces[$i].sandbox != null' <<<"$ADDED")" = true ]
        [ "$(tail -n 1 "$DIR/i/attachments/a/eth0@net.json" | jq -r .state)" = ready ]
        del a
        no_device a
        [ -z "$(in_pod a ip route)" ]
        assert_clean
    done
}

@test "the device is of the kind's sort" {
    make_pods a
    for pair in ovs:veth ovs-macvlan:macvlan ovs-macvtap:macvtap ovs-internal:tun; do
        [[ " $BRIDGE_KINDS " = *" ${pair%:*} "* ]] || continue
        conf "${pair%:*}"
        add a
        [ "$(link_of a .linkinfo.info_kind)" = "${pair#*:}" ]
        del a
    done
    assert_clean
}

@test "the host's end of a veth is up, answered with its MAC, and a port of the bridge" {
    make_pods a
    conf ovs '.mtu = 1400'
    add a
    name=$(jq -r '.interfaces[] | select(.sandbox | not).name' <<<"$ADDED")
    mac=$(jq -r '.interfaces[] | select(.sandbox | not).mac' <<<"$ADDED")
    end=$(in_netns "$HOST" ip -j link show "$name" | jq -r '.[0] | "\(.address) \(.mtu) \(.operstate)"')
    [ "$end" = "$mac 1400 UP" ]
    [ "$(vsctl port-to-br "$name")" = br0 ]
    [ "$(vsctl --bare get Port "$name" external_ids | grep -c a)" = 1 ]
    del a
    assert_clean
}

@test "loopback: lo goes up and is answered, DEL sets it down, whatever the interface is called" {
    make_pods a
    for ifname in lo eth0; do
        conf loopback
        add a CNI_IFNAME=$ifname
        [ "$(answered .name)" = lo ]
        [ "$(jq -r '[.ips[].address] | join(" ")' <<<"$ADDED")" = "127.0.0.1/8 ::1/128" ]
        pings a 127.0.0.1
        change_conf --argjson r "$ADDED" '.prevResult = $r'
        cni CHECK a CNI_IFNAME=$ifname
        in_pod a ip link set lo down
        refuses 105 "device lo is down" CHECK a CNI_IFNAME=$ifname
        in_pod a ip link set lo up
        del a CNI_IFNAME=$ifname
        [ "$(link_of a '.flags | index("UP")' lo)" = null ]
        del a CNI_IFNAME=$ifname
    done
}

@test "pods on one bridge reach each other, of whatever kind they are" {
    make_pods $BRIDGE_KINDS
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        add "$kind"
        ips[i++]=$IP
    done
    for from in $BRIDGE_KINDS; do
        for ip in "${ips[@]}"; do
            [[ " $(addresses_of "$from") " = *" $ip/"* ]] || pings "$from" "$ip"
        done
    done
    for pod in $BRIDGE_KINDS; do
        del "$pod"
    done
    assert_clean
}

@test "two pods of one kind reach each other" {
    make_pods a b
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        add a
        first=$IP
        add b
        pings a "$IP"
        pings b "$first"
        del a
        del b
    done
    assert_clean
}

@test "pods of two tenants with different VLANs do not reach each other" {
    make_pods a b c
    for kind in $BRIDGE_KINDS; do
        echo "kind $kind"
        conf "$kind" '.tenant = "red" | .vlan = 10'
        add a
        add b
        same=$IP
        change_conf '.tenant = "blue" | .vlan = 20'
        add c
        other=$IP
        pings a "$same"
        cannot_ping a "$other"
        del c
        conf "$kind" '.tenant = "red" | .vlan = 10'
        del a
        del b
    done
    assert_clean
}

@test "a guest on a pool's tap is reached by pods of its tenant, and by no other's" {
    need python3
    make_pods a b c
    conf ovs-dev-pool '.tenant = "red" | .vlan = 10'
    pool=$CONF
    add a
    guest=$IP
    in_netns "$HOST" "$BATS_TEST_DIRNAME/tap_guest.py" "$(answered_host .name)" "$(answered .mac)" \
        "$guest" >"$DIR/out.guest" 2>&1 &
    pid=$!
    eventually grep -q ready "$DIR/out.guest" || { cat "$DIR/out.guest"; return 1; }
    conf ovs '.tenant = "red" | .vlan = 10'
    add b
    conf ovs '.tenant = "blue" | .vlan = 20'
    add c
    pings b "$guest"
    cannot_ping c "$guest"
    del c
    conf ovs '.tenant = "red" | .vlan = 10'
    del b
    kill $pid
    CONF=$pool
    del a
    assert_clean
}

@test "a second interface of the same pod: both work, DEL of one leaves the other" {
    make_pods a b
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        add b
        peer=$IP
        add a
        conf "$kind" '.name = "net2" | .ipam.subnet = "10.2.0.0/24" | del(.ipam.routes)'
        add a CNI_IFNAME=net1
        [ "$(addresses_of a net1)" = 10.2.0.2/24 ]
        pings a "$peer"
        del a CNI_IFNAME=net1
        [ "$(devices "$(netns_name a)")" = eth0 ]
        pings a "$peer"
        conf "$kind"
        del a
        del b
        rm -rf "$DIR/i/ipam"
    done
    assert_clean
}

@test "one network twice in one pod, under two names" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind" 'del(.ipam.routes)'
        add a
        add a CNI_IFNAME=net1
        [ "$(devices "$(netns_name a)" | sort | xargs)" = "eth0 net1" ]
        del a
        [ "$(devices "$(netns_name a)")" = net1 ]
        del a CNI_IFNAME=net1
        no_device a
    done
    assert_clean
}

@test "without ipam the device is made, up, and has no address" {
    make_pods a
    for kind in ${BRIDGE_KINDS/ovs-tc-routing/}; do
        conf "$kind" 'del(.ipam)'
        add a
        [ "$(jq 'has("ips") or has("routes")' <<<"$ADDED")" = false ]
        [ -z "$(addresses_of a)" ]
        [ "$(link_of a '.flags | index("UP") != null')" = true ]
        del a
    done
    assert_clean
}

# ---- results in every version ----

shape() { # of ADDED: every path with its value's type, addresses and names left out
    jq -r '[paths(scalars) | map(if type == "number" then "#" else . end) | join(".")] | unique | join(" ")' \
        <<<"$ADDED"
}

@test "ADD answers in the form of the version that was asked for" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        for version in 0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0; do
            echo "kind $kind, version $version"
            conf "$kind" ".cniVersion = \"$version\" | .dns = {nameservers: [\"10.1.0.9\"]}"
            add a
            [ "$(jq -r .cniVersion <<<"$ADDED")" = $version ]
            common='cniVersion dns.nameservers.#'
            lists='interfaces.#.mac interfaces.#.name interfaces.#.sandbox ips.#.address ips.#.gateway ips.#.interface'
            case $version in
            0.1.0 | 0.2.0) want="$common ip4.gateway ip4.ip ip4.routes.#.dst" ;;
            0.3.* | 0.4.0) want="$common $lists ips.#.version routes.#.dst" ;;
            1.0.0) want="$common $lists routes.#.dst" ;;
            1.1.0) want="$common interfaces.#.mac interfaces.#.mtu ${lists#* } routes.#.dst" ;;
            esac
            [ "$(shape)" = "$want" ]
            del a
        done
    done
    assert_clean
}

@test "a configuration without cniVersion is 0.1.0" {
    make_pods a
    conf ovs 'del(.cniVersion)'
    add a
    [ "$(jq -r '.cniVersion + " " + .ip4.ip' <<<"$ADDED")" = "0.1.0 10.1.0.2/24" ]
    del a
}

@test "route attributes are set, and answered from 1.1.0 on" {
    make_pods a
    conf ovs '.ipam.routes = [{dst: "10.9.0.0/16", gw: "10.1.0.7", mtu: 1300, advmss: 1200, priority: 50}]'
    add a
    [ "$(jq -c '.routes[0]' <<<"$ADDED")" = \
        '{"dst":"10.9.0.0/16","gw":"10.1.0.7","mtu":1300,"advmss":1200,"priority":50}' ]
    route=$(in_pod a ip route show 10.9.0.0/16)
    [[ "$route" = *"via 10.1.0.7 dev eth0"*"metric 50"*"mtu 1300"*"advmss 1200"* ]]
    del a
    change_conf '.cniVersion = "1.0.0"'
    add a
    [ "$(jq -c '.routes[0]' <<<"$ADDED")" = '{"dst":"10.9.0.0/16","gw":"10.1.0.7"}' ]
    del a
}

@test "VERSION lists all versions, with a configuration and without" {
    conf ovs
    for CONF in '{"cniVersion": "1.0.0"}' '' '{"cniVersion": "9.9.9"}' "$CONF"; do
        said=$(cni VERSION x CNI_CONTAINERID= CNI_NETNS= CNI_IFNAME=)
        [ "$(jq -c .supportedVersions <<<"$said")" = \
            '["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]' ]
    done
}

# ---- DEL, whatever has gone ----

# ADD, something happens, DEL twice, nothing is left.
del_after() { # COMMAND...
    for kind in $BRIDGE_KINDS; do
        echo "kind $kind: $*"
        conf "$kind"
        add a
        "$@"
        del a "${DEL_ENV[@]}"
        del a "${DEL_ENV[@]}"
        no_device a
        assert_clean
    done
}

@test "DEL twice" {
    make_pods a
    del_after true
}

@test "DEL with no CNI_NETNS while the namespace lives" {
    make_pods a
    DEL_ENV=(CNI_NETNS=)
    del_after true
}

@test "DEL with a path that is not there while the namespace lives elsewhere" {
    make_pods a
    DEL_ENV=(CNI_NETNS=/run/netns/sluice-no-such)
    del_after true
}

@test "DEL after the namespace is gone, its path given or empty" {
    for netns in given empty; do
        for kind in $BRIDGE_KINDS; do
            echo "kind $kind, path $netns"
            make_pods a
            conf "$kind"
            add a
            drop_pods a
            if [ $netns = given ]; then
                del a
                del a
            else
                del a CNI_NETNS=
                del a CNI_NETNS=
            fi
            assert_clean
        done
    done
}

@test "DEL after another namespace took the path leaves that one's device alone" {
    for kind in $BRIDGE_KINDS; do
        make_pods a
        conf "$kind"
        add a
        drop_pods a
        make_pods a
        in_pod a ip tuntap add eth0 mode tap
        del a
        [ "$(devices "$(netns_name a)")" = eth0 ]
        drop_pods a
        assert_clean
    done
}

@test "DEL after the device was deleted" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        add a
        in_pod a ip link del eth0
        del a
        del a
        no_device a
        assert_clean
    done
}

@test "DEL after the record was deleted" {
    make_pods a
    del_after rm -r "$DIR/i/attachments/a"
}

@test "DEL after the record was torn" {
    make_pods a
    del_after truncate -s 20 "$DIR/i/attachments/a/eth0@net.json"
}

@test "DEL after ovs-vsctl deleted the port" {
    make_pods a
    delete_ports() {
        for port in $(vsctl list-ports br0); do
            vsctl del-port "$port"
        done
    }
    del_after delete_ports
}

@test "DEL after the lease is gone" {
    make_pods a
    del_after rm -r "$DIR/i/ipam"
}

@test "DEL after the instance's own OVS was stopped, which took the ports with it" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        add a
        in_netns "$HOST" "$SLUICE" ovs down --instance "$DIR/i"
        del a
        [ ! -e "$DIR/i/attachments/a" ]
        ovs_up
    done
}

@test "DEL goes to the OVS that ADD used, whatever the configuration says by then" {
    make_pods a
    conf ovs '.socket_file = "unix:\($dir)/i/ovs/db.sock" | .sluiceDir = "\($dir)/j"'
    add a
    change_conf 'del(.socket_file)'
    del a
    [ -z "$(vsctl list-ports br0)" ]
}

@test "DEL of a configuration that ADD would refuse today" {
    make_pods a
    conf ovs-macvlan
    add a
    change_conf '.bandwidth = {ingressRate: 1} | .mac = "no MAC" | .args.cni.ips = ["no IP"]'
    refuses 7 "*bandwidth*" ADD a
    del a
    no_device a
}

@test "DEL of what was never added" {
    make_pods a
    for kind in $BRIDGE_KINDS loopback; do
        conf "$kind"
        del a
        del a CNI_NETNS=
    done
}

@test "DEL gives the address back, and leaves others' alone" {
    make_pods a b
    conf ovs '.ipam.rangeStart = "10.1.0.10" | .ipam.rangeEnd = "10.1.0.11"'
    add a
    add b
    del a
    [ "$(leases)" = "$IP b eth0" ]
    add a
    [ "$IP" = 10.1.0.10 ]
    del a
    del b
    assert_clean
}

@test "ADD again after DEL: the same names, another address" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        for i in 1 2 3; do
            add a
            del a
        done
    done
    assert_clean
}

# ovs-vswitchd then takes the new port for the old one, and would not look at the new device.
@test "ADD again after DEL, before ovs-vswitchd has seen either: the pod is reached" {
    make_pods a b
    vswitchd=$(cat "$DIR/i/ovs/ovs-vswitchd.pid")
    conf ovs '.name = "net2" | .ipam.rangeStart = "10.1.0.200"'
    add b
    peer=$CONF
    for kind in $BRIDGE_KINDS ovs-dev-pool; do
        echo "kind $kind"
        conf "$kind"
        add a
        for i in 1 2; do
            kill -STOP "$vswitchd"
            del a
            cni ADD a >"$DIR/out.a" 3>&- &
            work=$!
            eventually test -s "$DIR/i/attachments/a/eth0@net.json"
            sleep 0.1
            kill -CONT "$vswitchd"
            wait $work
            if [ $kind = ovs-dev-pool ]; then
                device=$(jq -r '.interfaces[0].name' "$DIR/out.a")
                in_netns "$HOST" ip link show "$device" | grep -qE 'PROMISC|master ovs-system' # ovs-vswitchd has it
            else
                pings b "$(jq -r '.ips[0].address | sub("/.*"; "")' "$DIR/out.a")"
            fi
        done
        del a
    done
    CONF=$peer
    del b
    rm "$DIR/out.a"
    assert_clean
}

# ---- CHECK ----

added_and_checked() { # KIND [JQ]
    conf "$1" "${2:-.}"
    add a
    change_conf --argjson r "$ADDED" '.prevResult = $r'
    cni CHECK a
}

# Something changes: CHECK names it, DEL clears up all the same.
changed() { # GLOB COMMAND...
    local glob=$1
    shift
    "$@"
    refuses 105 "$glob" CHECK a
    del a
    assert_clean
}

@test "CHECK passes after ADD in every version that has it" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        for version in 0.4.0 1.0.0 1.1.0; do
            added_and_checked "$kind" ".cniVersion = \"$version\" | .mtu = 1400 | .vlan = 7"
            del a
        done
    done
    assert_clean
}

@test "CHECK tells that the device is gone" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        changed "device eth0 is gone*" in_pod a ip link del eth0
    done
}

@test "CHECK tells that another device has its name" {
    make_pods a
    for kind in ovs $LINKED_KINDS; do
        added_and_checked "$kind"
        in_pod a ip link del eth0
        in_pod a ip tuntap add eth0 mode tap
        refuses 105 "device eth0 is not the one that ADD made" CHECK a
        del a
        [ "$(devices "$(netns_name a)")" = eth0 ]
        in_pod a ip link del eth0
    done
    assert_clean
}

@test "CHECK tells that the device is down" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        changed "device eth0 is down" in_pod a ip link set eth0 down
    done
}

@test "CHECK tells a changed MAC, with both" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        mac=$(answered .mac)
        changed "device eth0 has MAC address 02:00:00:00:00:09, not $mac" \
            in_pod a ip link set eth0 address 02:00:00:00:00:09
    done
}

@test "CHECK tells a changed MTU, with both" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind" '.mtu = 1400'
        changed "device eth0 has MTU 1280, not 1400" in_pod a ip link set eth0 mtu 1280
    done
}

@test "CHECK tells which address is lost" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        changed "device eth0 has lost address $IP/24" in_pod a ip addr del "$IP/24" dev eth0
    done
}

@test "CHECK tells which route is lost" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        changed "the container has lost the route to 0.0.0.0/0" in_pod a ip route del default
    done
}

port_of_pod() {
    vsctl list-ports br0
}

@test "CHECK tells that the OVS port is gone" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        port=$(port_of_pod)
        # With a tenant's port or an internal one goes the pod's device.
        changed "*$([[ $kind = ovs || $kind = ovs-tc-routing ]] && echo "$port" || echo "is gone")*" vsctl del-port "$port"
    done
}

@test "CHECK tells a changed VLAN tag, also where none was asked for" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind" '.vlan = 7'
        port=$(port_of_pod)
        changed "OVS port $port has VLAN 8, not 7" vsctl set Port "$port" tag=8
        gc_all
        added_and_checked "$kind"
        port=$(port_of_pod)
        changed "OVS port $port has VLAN 8*" vsctl set Port "$port" tag=8
        gc_all
    done
}

@test "CHECK tells that the address is no longer held" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        changed "*container a, interface eth0: has no address" rm -r "$DIR/i/ipam"
    done
}

@test "CHECK tells that the record is gone" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        added_and_checked "$kind"
        changed "there is no record of interface eth0 of container a" rm -r "$DIR/i/attachments/a"
    done
}

@test "CHECK needs prevResult, with our interface in it" {
    make_pods a
    conf ovs
    add a
    refuses 7 "prevResult: missing*" CHECK a
    change_conf '.prevResult = {cniVersion: "1.1.0", interfaces: [], ips: []}'
    refuses 7 "prevResult.interfaces: names no eth0*" CHECK a
    del a
}

# ---- GC ----

gc() { # POD... that stay
    local list
    list=$(printf '%s\n' "$@" | jq -Rc 'select(. != "") | {containerID: ., ifname: "eth0"}' | jq -sc .)
    (
        change_conf --argjson l "$list" '.["cni.dev/valid-attachments"] = $l'
        cni GC x CNI_CONTAINERID= CNI_NETNS= CNI_IFNAME=
    )
}

@test "GC removes what is not listed, in a live namespace too, and keeps what is" {
    make_pods a b c
    for kind in $BRIDGE_KINDS; do
        echo "kind $kind"
        conf "$kind"
        add a
        add b
        kept=$IP
        add c
        drop_pods c
        gc b
        no_device a
        [ "$(devices "$(netns_name b)")" = eth0 ]
        [ "$(leases)" = "$kept b eth0" ]
        [ "$(ls "$DIR/i/attachments")" = b ]
        eventually eval '[ "$(vsctl list-ports br0 | wc -l)" = 1 ]'
        gc b
        [ "$(addresses_of b)" = "$kept/24" ]
        gc
        eventually host_clean
        no_device b
        make_pods c
    done
}

# A plugin that has no GC, as Debian's have none, and writes down what it is asked.
@test "GC gives a delegated plugin's addresses back, by DEL for each pod" {
    make_pods a b
    mkdir "$DIR/bin"
    cat >"$DIR/bin/diary" <<PLUGIN
#!/bin/sh
cat >/dev/null
case \$CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
ADD) echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.7.0.'\$((1 + \$(wc -l <$DIR/diary)))'/24"}]}' ;;
esac
echo "\$CNI_COMMAND \$CNI_CONTAINERID \$CNI_IFNAME \$CNI_ARGS" >>$DIR/diary
PLUGIN
    chmod +x "$DIR/bin/diary"
    : >"$DIR/diary"
    conf ovs-macvlan '.cniVersion = "1.1.0" | .ipam = {type: "diary"}'
    add a CNI_PATH="$DIR/bin" CNI_ARGS=A=1
    add b CNI_PATH="$DIR/bin"
    CNI_PLUGINS=$DIR/bin gc b
    grep -qx "DEL a eth0 A=1" "$DIR/diary"
    ! grep -q "DEL b" "$DIR/diary"
    agent_down # it would go on serving what is taken away under it
    in_netns "$HOST" "$SLUICE" clean --instance "$DIR/i"
    [ -z "$AGENT_MODE" ] || agent_up
    grep -qx "DEL b eth0 " "$DIR/diary"
    rm -r "$DIR/bin" "$DIR/diary"
}

@test "GC finds what has no record any more: host devices, ports, addresses" {
    make_pods a b
    for kind in ovs ovs-internal; do
        [[ " $BRIDGE_KINDS " = *" $kind "* ]] || continue
        conf "$kind"
        add a
        add b
        rm -r "$DIR/i/attachments/a"
        gc b
        [ "$(leases)" = "$IP b eth0" ]
        eventually eval '[ "$(vsctl list-ports br0 | wc -l)" = 1 ]'
        gc
        eventually host_clean
        in_pod a true
        eventually no_device a
    done
}

@test "GC lets other networks, other instances and other people's things be" {
    make_pods a b
    conf ovs
    add a
    kept=$(vsctl list-ports br0)
    in_netns "$HOST" ip tuntap add foreign0 mode tap
    vsctl add-port br0 foreign1 -- set Interface foreign1 type=internal
    conf ovs '.name = "net2" | .ipam.subnet = "10.2.0.0/24"'
    gc
    change_conf --arg d "$DIR" '.name = "net" | .sluiceDir = "\($d)/other" | .socket_file = "unix:\($d)/i/ovs/db.sock"'
    gc
    [ "$(vsctl list-ports br0 | sort | xargs)" = "$(printf '%s\n' foreign1 "$kept" | sort | xargs)" ]
    [ "$(devices "$(netns_name a)")" = eth0 ]
    in_netns "$HOST" ip link show foreign0
    vsctl del-port foreign1
    in_netns "$HOST" ip link del foreign0
    conf ovs
    gc
}

@test "GC removes a tenant's port that nothing uses, and none that is used or was there before" {
    make_pods a b
    vsctl add-port br0 mine -- set Interface mine type=internal
    conf ovs-macvlan '.tenant = "red" | .vlan = 10'
    add a
    used=$(vsctl list-ports br0 | grep -v mine)
    conf ovs-macvlan '.tenant = "blue" | .vlan = 20'
    add b
    del b
    [ "$(vsctl list-ports br0 | wc -l)" = 3 ]
    gc a
    [ "$(vsctl list-ports br0 | sort | xargs)" = "$(printf '%s\n' mine "$used" | sort | xargs)" ]
    conf ovs-macvlan '.port = "mine" | .ipam.subnet = "10.2.0.0/24" | .name = "net2"'
    add b
    gc
    [ "$(vsctl list-ports br0 | sort | xargs)" = "$(printf '%s\n' mine "$used" | sort | xargs)" ]
    no_device b
    vsctl del-port mine
    conf ovs-macvlan
    gc
}

@test "GC refuses a list that is missing or malformed, and removes nothing" {
    make_pods a
    conf ovs
    add a
    refuses 7 "cni.dev/valid-attachments: missing; must be *" GC x
    for bad in '"a"' '{}' '[1]' '["a"]' '[{}]' '[{"containerID": "a"}]' \
        '[{"containerID": 1, "ifname": "eth0"}]' '[{"containerID": "a", "ifname": ""}]' \
        '[{"containerID": "a", "ifname": "eth0"}, null]'; do
        change_conf --argjson bad "$bad" '.["cni.dev/valid-attachments"] = $bad'
        refuses 7 "cni.dev/valid-attachments*must be*" GC x
    done
    change_conf --argjson r "$ADDED" 'del(.["cni.dev/valid-attachments"]) | .prevResult = $r'
    cni CHECK a
    del a
}

# ---- STATUS ----

@test "STATUS: 0 with the bridge there, 50 without it or without OVS" {
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        [ -z "$(cni STATUS x CNI_CONTAINERID= CNI_NETNS= CNI_IFNAME=)" ]
        change_conf '.bridge = "nobridge"'
        refuses 50 "*nobridge*br0*" STATUS x
        conf "$kind" '.socket_file = "unix:/nonexistent/db.sock"'
        refuses 50 "*/nonexistent/db.sock*" STATUS x
    done
    conf loopback
    cni STATUS x
}

# ---- what was asked for: addresses, MAC, MTU ----

@test "requested addresses: CNI_ARGS, args.cni.ips, runtimeConfig.ips" {
    make_pods a
    conf ovs
    add a 'CNI_ARGS=IgnoreUnknown=1;IP=10.1.0.40'
    [ "$(addresses_of a)" = 10.1.0.40/24 ]
    del a
    change_conf '.args.cni.ips = ["10.1.0.41"]'
    add a
    [ "$(addresses_of a)" = 10.1.0.41/24 ]
    del a
    conf ovs '.runtimeConfig.ips = ["10.1.0.42/24"] | .capabilities = {ips: true}'
    add a
    [ "$(addresses_of a)" = 10.1.0.42/24 ]
    del a
    refuses 7 "*10.7.0.1*in no range*" ADD a CNI_ARGS=IP=10.7.0.1
    refuses 7 "*CNI_ARGS IP: \"nonsense\" is not allowed*" ADD a CNI_ARGS=IP=nonsense
    change_conf '.runtimeConfig.ips = [4]'
    refuses 7 "runtimeConfig.ips: must be a list of strings" ADD a
    assert_clean
}

@test "a requested address that another pod holds is refused with code 102" {
    make_pods a b
    conf ovs
    add a CNI_ARGS=IP=10.1.0.40
    refuses 102 "*10.1.0.40 is taken*" ADD b CNI_ARGS=IP=10.1.0.40
    no_device b
    del a
    assert_clean
}

@test "requested MAC: runtimeConfig before args before CNI_ARGS before the configuration" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind" '.mac = "02:00:00:00:00:01"'
        add a
        [ "$(link_of a .address)" = 02:00:00:00:00:01 ]
        del a
        add a CNI_ARGS=MAC=02:00:00:00:00:02
        [ "$(link_of a .address)" = 02:00:00:00:00:02 ]
        del a
        change_conf '.args.cni.mac = "02:00:00:00:00:03"'
        add a CNI_ARGS=MAC=02:00:00:00:00:02
        [ "$(link_of a .address)" = 02:00:00:00:00:03 ]
        del a
        change_conf '.runtimeConfig.mac = "02:00:00:00:00:04"'
        add a CNI_ARGS=MAC=02:00:00:00:00:02
        [ "$(link_of a .address)" = 02:00:00:00:00:04 ]
        [ "$(answered .mac)" = 02:00:00:00:00:04 ]
        del a
    done
    assert_clean
}

@test "mtu: on the device, and no larger than a shared port's" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind" '.mtu = 1300 | .tenant = "small"'
        add a
        [ "$(link_of a .mtu)" = 1300 ]
        del a
    done
    for kind in $LINKED_KINDS; do
        conf "$kind" '.mtu = 1400 | .tenant = "small"'
        refuses 7 "mtu: 1400 is not allowed; port st* has 1300" ADD a
        no_device a
    done
    conf ovs '.mtu = 9000'
    add a
    [ "$(link_of a .mtu)" = 9000 ]
    del a
    assert_clean
}

@test "trunk: the VLANs of the list on the port, native with vlan" {
    make_pods a
    for kind in ovs ovs-internal; do
        conf "$kind" '.trunk = [{id: 5}, {minID: 10, maxID: 12}]'
        add a
        port=$(port_of_pod)
        [ "$(vsctl get Port "$port" trunks)" = "[5, 10, 11, 12]" ]
        [ "$(vsctl get Port "$port" vlan_mode)" = trunk ]
        del a
        change_conf '.vlan = 7'
        add a
        port=$(port_of_pod)
        [ "$(vsctl get Port "$port" tag vlan_mode | xargs)" = "7 native-untagged" ]
        del a
    done
    assert_clean
}

@test "a trunk's pod reaches pods of its VLANs, tagged" {
    make_pods a b c
    in_pod b ip link add link lo name v0 type vlan id 5 || skip "the kernel has no VLAN devices"
    in_pod b ip link del v0
    conf ovs '.trunk = [{id: 5}] | del(.ipam)'
    add a
    in_pod a ip link add link eth0 name v5 type vlan id 5
    in_pod a ip link add link eth0 name v6 type vlan id 6
    for id in 5 6; do
        in_pod a ip addr add 10.1.$id.1/24 dev v$id
        in_pod a ip link set v$id up
    done
    conf ovs '.vlan = 5 | .ipam.subnet = "10.1.5.0/24"'
    add b
    pings a "$IP"
    conf ovs '.name = "net6" | .vlan = 6 | .ipam.subnet = "10.1.6.0/24"'
    add c
    cannot_ping a "$IP"
    del c
    conf ovs '.vlan = 5 | .ipam.subnet = "10.1.5.0/24"'
    del b
    conf ovs 'del(.ipam)'
    del a
    assert_clean
}

@test "macvlan modes: on the device; private and vepa keep neighbours apart, bridge does not" {
    make_pods a b
    for kind in $LINKED_KINDS; do
        for mode in bridge private vepa passthru; do
            echo "kind $kind, mode $mode"
            conf "$kind" ".mode = \"$mode\" | .tenant = \"$mode\""
            add a
            [ "$(link_of a .linkinfo.info_data.mode)" = $mode ]
            first=$IP
            case $mode in
            bridge)
                add b
                pings b "$first"
                del b
                ;;
            private | vepa)
                add b
                cannot_ping b "$first"
                del b
                ;;
            passthru)
                refuses 7 "port st*, mode passthru: *" ADD b
                no_device b
                ;;
            esac
            del a
        done
    done
    assert_clean
}

@test "the named port is made for the tenant, or used as it is" {
    make_pods a
    for kind in $LINKED_KINDS; do
        conf "$kind" '.port = "tenant0" | .vlan = 9'
        add a
        [ "$(vsctl get Port tenant0 tag)" = 9 ]
        del a
        gc
        eventually host_clean
        vsctl add-port br0 tenant0 tag=9 -- set Interface tenant0 type=internal
        add a
        del a
        change_conf '.vlan = 10'
        refuses 101 "*vlan: port tenant0 has VLAN 9, not 10" ADD a
        no_device a
        vsctl del-port tenant0
    done
    eventually host_clean
}

# ---- chaining ----

@test "prevResult is passed on, and indices count past it" {
    make_pods a
    prev='{"cniVersion": "1.1.0", "interfaces": [{"name": "h0", "mac": "02:00:00:00:00:aa"},
        {"name": "other", "mac": "02:00:00:00:00:bb", "sandbox": "/x"}],
        "ips": [{"interface": 1, "address": "192.0.2.7/24"}],
        "routes": [{"dst": "192.0.2.0/24"}], "dns": {"domain": "d.example"}}'
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        change_conf --argjson p "$prev" '.prevResult = $p'
        add a
        [ "$(jq -c '[.interfaces[0:2][].name]' <<<"$ADDED")" = '["h0","other"]' ]
        [ "$(jq -c '.ips[0]' <<<"$ADDED")" = '{"interface":1,"address":"192.0.2.7/24"}' ]
        [ "$(jq -r '.ips[1].interface as $i | .interfaces[$i] | .name + (.sandbox != null | tostring)' <<<"$ADDED")" = eth0true ]
        [ "$(jq -c '[.routes[].dst]' <<<"$ADDED")" = '["192.0.2.0/24","0.0.0.0/0"]' ]
        [ "$(jq -r .dns.domain <<<"$ADDED")" = d.example ]
        del a
    done
    conf loopback
    change_conf --argjson p "$prev" '.prevResult = $p'
    add a CNI_IFNAME=lo
    [ "$(jq '[.interfaces[].name] | index("h0", "lo")' <<<"$ADDED" | xargs)" = "0 2" ]
    assert_clean
}

@test "a real plugin after ours: tuning changes the device, CHECK of ours sees its own part" {
    need "$CNI_PLUGINS/tuning"
    make_pods a
    conf ovs '.cniVersion = "1.0.0"'
    add a
    ours=$CONF
    CONF=$(jq -cn --argjson p "$ADDED" '{cniVersion: "1.0.0", name: "net", type: "tuning",
        sysctl: {"net.ipv4.conf.IFNAME.arp_filter": "1"}, prevResult: $p}')
    said=$(PLUGIN=$CNI_PLUGINS/tuning cni ADD a)
    [ "$(in_pod a cat /proc/sys/net/ipv4/conf/eth0/arp_filter)" = 1 ]
    CONF=$(jq -c --argjson p "$said" '.prevResult = $p' <<<"$ours")
    cni CHECK a
    del a
    assert_clean
}

# ---- IPv6 ----

@test "IPv6 alone and dual stack: addresses, routes, and pods that reach each other at once" {
    make_pods a b
    for kind in $BRIDGE_KINDS; do
        conf "$kind" '.ipam |= {type, dataDir, ranges: [[{subnet: "fd00:1::/64"}]], routes: [{dst: "::/0"}]}'
        add a
        first=$IP
        [ "$(addresses_of a)" = "$first/64" ]
        [[ "$(in_pod a ip -6 route)" = *"default via fd00:1::1 dev eth0"* ]]
        add b
        pings b "$first"
        del b
        del a
        conf "$kind" '.name = "dual" | .ipam |= {type, dataDir, ranges: [[{subnet: "10.3.0.0/24"}],
            [{subnet: "fd00:3::/64"}]], routes: [{dst: "0.0.0.0/0"}, {dst: "::/0"}]}'
        add a
        [ "$(jq -c '[.ips[].interface] | unique | length' <<<"$ADDED")" = 1 ]
        four=$IP
        six=$(jq -r '.ips[1].address | sub("/.*"; "")' <<<"$ADDED")
        change_conf --argjson r "$ADDED" '.prevResult = $r'
        cni CHECK a
        change_conf 'del(.prevResult)'
        add b
        pings b "$four"
        pings b "$six"
        del b
        del a
        no_device a
    done
    assert_clean
}

@test "dual stack in the old form: ip4 and ip6" {
    make_pods a
    conf ovs '.cniVersion = "0.2.0" | .ipam |= {type, dataDir, ranges: [[{subnet: "10.3.0.0/24"}],
            [{subnet: "fd00:3::/64"}]], routes: [{dst: "0.0.0.0/0"}, {dst: "::/0"}]}'
    add a
    [ "$(jq -c '[.ip4.ip, .ip4.routes[0].dst, .ip6.ip, .ip6.routes[0].dst]' <<<"$ADDED")" = \
        '["10.3.0.2/24","0.0.0.0/0","fd00:3::2/64","::/0"]' ]
    del a
}

@test "IPv4 alone leaves no IPv6 address on the device" {
    make_pods a
    for kind in $BRIDGE_KINDS; do
        conf "$kind"
        add a
        [ -z "$(in_pod a ip -6 -o addr show dev eth0)" ]
        del a
    done
}

# ---- delegated addresses ----

@test "ipam static: its addresses and routes, in every version" {
    need "$CNI_PLUGINS/static"
    make_pods a b
    for kind in $BRIDGE_KINDS; do
        conf "$kind" '.ipam = {type: "static", addresses: [{address: "10.4.0.5/24", gateway: "10.4.0.1"}],
            routes: [{dst: "0.0.0.0/0"}]}'
        add a
        [ "$(addresses_of a)" = 10.4.0.5/24 ]
        [[ "$(in_pod a ip route)" = *"default via 10.4.0.1 dev eth0"* ]]
        cni STATUS x
        change_conf --argjson r "$ADDED" '.prevResult = $r'
        cni CHECK a
        del a
        no_device a
    done
    for version in 0.1.0 0.2.0 0.3.1 0.4.0 1.0.0; do
        change_conf ".cniVersion = \"$version\" | del(.prevResult)"
        add a
        [ "$(addresses_of a)" = 10.4.0.5/24 ]
        del a
    done
    assert_clean
}

@test "delegated host-local: addresses given back by DEL, and by a failed ADD" {
    # Through a configuration that names the Go plugin by another name.
    mkdir -p "$DIR/bin"
    ln -sf "$CNI_PLUGINS/host-local" "$DIR/bin/host-local-go"
    make_pods a b
    conf ovs '.cniVersion = "1.0.0" | .ipam.type = "host-local-go" | .ipam.rangeStart = "10.1.0.9" | .ipam.rangeEnd = "10.1.0.9"'
    for i in 1 2; do
        add a CNI_PATH="$DIR/bin"
        [ "$IP" = 10.1.0.9 ]
        del a CNI_PATH="$DIR/bin"
        change_conf '.bridge = "nobridge"'
        refuses 104 "*nobridge*" ADD b CNI_PATH="$DIR/bin"
        change_conf '.bridge = "br0"'
    done
    assert_clean
}

@test "an ipam plugin that is not there: a clear error and nothing left" {
    make_pods a
    conf ovs '.ipam = {type: "nosuchipam"}'
    refuses 104 "*ipam plugin nosuchipam: not found*" ADD a
    no_device a
    assert_clean
}
