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

# Waits up to 20 s until a command succeeds.
eventually() {
    local i
    for i in $(seq 400); do
        "$@" && return 0
        sleep 0.05
    done
    echo "never came true: $*" >&2
    return 1
}
