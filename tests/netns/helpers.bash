# SPDX-License-Identifier: Apache-2.0
# Shared by the bats files of this folder.

# Built programs, also for tests in folders of the build directory.
SLUICE_BUILD=$(realpath "${SLUICE_BUILD:-$BATS_TEST_DIRNAME/../../build}")
SLUICE=$SLUICE_BUILD/cmd/sluice
# Debian's reference plugins.
CNI_PLUGINS=${CNI_PLUGINS:-/usr/lib/cni}

# Skips the test, with the reason printed, unless all these programs are there.
need() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

need_root() {
    [ "$(id -u)" = 0 ] || skip "needs root"
}

# Skips the test unless this host can run Open vSwitch with DPDK, on so many hugepages of 2 MB.
need_dpdk() { # PAGES
    local pages=/sys/devices/system/node/node0/hugepages/hugepages-2048kB free
    [ -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ] ||
        skip "openvswitch-switch-dpdk is not installed"
    [ -d $pages ] || skip "this kernel has no hugepages of 2 MB"
    free=$(awk -v have="$(cat $pages/free_hugepages)" \
        '/^MemAvailable:/ {print have + int($2 / 2048)}' /proc/meminfo)
    [ "$free" -ge "$1" ] || skip "there is no memory for $1 hugepages of 2 MB"
}

# Skips the test, with the reason printed, unless the running kernel has all of these: a kind of
# device (ipvlan, ipvtap, ...), a classifier (flower, matchall, ...) or action (police, ...) of tc,
# openvswitch (its datapath), tcx, kprobes, vhost-net. tests/vm has a kernel with all but tcx.
needs_kernel() { # FEATURE...
    local feature
    for feature; do
        kernel_has "$feature" || skip "this kernel has no $feature"
    done
}

# By trying it; the answer is kept while bats runs.
kernel_has() {
    local answer=$BATS_RUN_TMPDIR/kernel-has-$1 rc=0
    if [ ! -e "$answer" ]; then
        try_kernel "$1" >/dev/null 2>&1 3>&- || rc=$?
        echo $rc >"$answer"
    fi
    [ "$(cat "$answer")" = 0 ]
}

try_kernel() {
    local pair='ip link add p0 type veth peer name p1 &&' words
    case $1 in
    ipvlan | ipvtap | macvlan | macvtap) unshare -n sh -c "$pair ip link add link p0 name d type $1" ;;
    flower | matchall | u32 | basic | bpf | fw)
        # Known ones miss their arguments.
        words=$(unshare -n sh -c "$pair tc qdisc add dev p0 ingress && tc filter add dev p0 ingress protocol all $1" 2>&1) ||
            [[ "$words" != *"classifier not found"* ]]
        ;;
    police) unshare -n tc actions add action police rate 1mbit burst 10k ;;
    mirred) unshare -n tc actions add action mirred egress redirect dev lo ;;
    skbedit) unshare -n tc actions add action skbedit mark 1 ;;
    openvswitch) genl ctrl get name ovs_datapath ;;
    tcx) grep -q ' tcx_prog_attach$' /proc/kallsyms ;;
    kprobes) [ -e /sys/bus/event_source/devices/kprobe ] ;;
    vhost-net) modprobe -q vhost_net || [ -e /dev/vhost-net ] ;;
    *) return 2 ;;
    esac
}

# Makes a network namespace with a name of its own, and sets the variable $2 (default NS) to it.
make_netns() {
    local name="sluice-$1-$$-$BATS_TEST_NUMBER"
    ip netns add "$name"
    printf -v "${2:-NS}" %s "$name"
}

# Runs a command in a namespace. Background processes must not hold bats' descriptor 3.
in_netns() {
    local name=$1
    shift
    nsenter --net="/run/netns/$name" "$@" 3>&-
}

# Devices of a namespace other than those that every namespace has.
devices() {
    in_netns "$1" ip -o link show | awk -F'[ :@]+' \
        '$2 != "lo" && $2 !~ /^(tunl|sit|gre|gretap|erspan|ip6tnl|ip6gre|ip_vti|ip6_vti)0$/ {print $2}'
}

# pids whose command line has this text (a pattern).
processes_of() {
    pgrep -f -- "$1" || true
}

# Waits up to 30 s until a command succeeds.
eventually() {
    local end=$((SECONDS + 30))
    while [ $SECONDS -lt $end ]; do
        "$@" && return 0
        sleep 0.05
    done
    echo "never came true: $*" >&2
    return 1
}
