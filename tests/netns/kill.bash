# SPDX-License-Identifier: Apache-2.0
# ADD and DEL killed at every one of their system calls, by kill_steps. Needs helpers.bash and cni.bash.

# A range of one address: a lease that is left shows as a range that is used up.
one_address='.ipam.rangeStart = "10.1.0.9" | .ipam.rangeEnd = "10.1.0.9"'

# Runs COMMAND killed at its n-th call. Returns 1 once it gets to its end before.
killed() { # COMMAND POD
    local rc=0
    KILL_AT=$n cni "$@" >"$DIR/out" || rc=$?
    case $rc in
    42) return 0 ;;
    0) return 1 ;;
    *)
        echo "$* at call $n ended with $rc:"
        cat "$DIR/out" "$DIR/stderr"
        exit 1
        ;;
    esac
}

no_pod_device() {
    no_device a
}

# ADD killed at every call, then DEL, nothing left, and a whole ADD and DEL.
kill_add() { # KIND
    make_pods a
    conf "$1" "$one_address"
    add a # a tenant's port is made once, by the first
    del a
    for ((n = 1; ; n++)); do
        killed ADD a || break
        echo "killed at call $n"
        del a
        no_device a
        assert_clean
        add a
        del a
    done
    del a
    no_device a
    assert_clean
    [ "$n" -gt 50 ]
}

# The same, but the namespace is gone when DEL comes.
kill_add_and_netns() { # KIND
    make_pods a
    conf "$1" "$one_address"
    add a
    del a
    for ((n = 1; ; n++)); do
        killed ADD a || break
        drop_pods a
        echo "killed at call $n"
        if ((n % 2)); then
            del a CNI_NETNS=
        else
            del a
        fi
        make_pods a
        assert_clean
    done
    del a
    assert_clean
    [ "$n" -gt 50 ]
}

# DEL killed at every call, then DEL again.
kill_del() { # KIND
    make_pods a
    conf "$1" "$one_address"
    for ((n = 1; ; n++)); do
        add a
        killed DEL a || break
        echo "killed at call $n"
        del a
        no_device a
        assert_clean
    done
    no_device a
    assert_clean
    [ "$n" -gt 30 ]
}

# ADD killed at every call, the tenant's port not made before; then GC by a runtime that knows no pod.
kill_add_then_gc() { # KIND
    make_pods a
    conf "$1" "$one_address"
    for ((n = 1; ; n++)); do
        killed ADD a || break
        echo "killed at call $n"
        (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
        eventually host_clean || { host_left; return 1; }
        eventually no_pod_device
    done
    (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
    [ "$n" -gt 50 ]
}
