# SPDX-License-Identifier: Apache-2.0
# The plugin killed at each of its steps, for tests. Needs cni.bash. A step is a system call or, with
# kill_by_message, a message sent by a socket (to the kernel, to OVSDB, to ovs-vswitchd), which is
# what another process or the kernel knows of it: ten times fewer.

KILL_BY='' # an option of kill_steps
# What there are at least, so that a test which kills nothing fails.
ADD_STEPS=50 DEL_STEPS=30

kill_by_message() {
    KILL_BY=-m ADD_STEPS=2 DEL_STEPS=1
}

KILL_CONF=. # a filter of the configuration

# A range of one address: a lease that is left shows as a range that is used up.
one_address='.ipam.rangeStart = "10.1.0.9" | .ipam.rangeEnd = "10.1.0.9"'

# Runs COMMAND killed at its n-th step. Returns 1 once it gets to its end before.
killed() { # COMMAND POD
    local rc=0
    KILL_AT=$n cni "$@" >"$DIR/out" || rc=$?
    case $rc in
    42) return 0 ;;
    0) return 1 ;;
    *)
        echo "$* at step $n ended with $rc:"
        cat "$DIR/out" "$DIR/stderr"
        exit 1
        ;;
    esac
}

no_pod_device() {
    no_device a
}

# ADD killed at every step, then DEL, nothing left, and a whole ADD and DEL.
kill_add() { # KIND
    make_pods a
    conf "$1" "$one_address | $KILL_CONF"
    add a # a tenant's port is made once, by the first
    del a
    for ((n = 1; ; n++)); do
        killed ADD a || break
        echo "killed at step $n"
        del a
        no_device a
        assert_clean
        if [ -z "$KILL_BY" ]; then
            add a
            del a
        fi
    done
    del a
    no_device a
    assert_clean
    add a
    del a
    [ "$n" -gt $ADD_STEPS ]
}

# The same, but the namespace is gone when DEL comes.
kill_add_and_netns() { # KIND
    make_pods a
    conf "$1" "$one_address | $KILL_CONF"
    add a
    del a
    for ((n = 1; ; n++)); do
        killed ADD a || break
        drop_pods a
        echo "killed at step $n"
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
    [ "$n" -gt $ADD_STEPS ]
}

# DEL killed at every step, then DEL again.
kill_del() { # KIND
    make_pods a
    conf "$1" "$one_address | $KILL_CONF"
    for ((n = 1; ; n++)); do
        add a
        killed DEL a || break
        echo "killed at step $n"
        del a
        no_device a
        assert_clean
    done
    no_device a
    assert_clean
    [ "$n" -gt $DEL_STEPS ]
}

# ADD killed at every step, the tenant's port not made before; then GC by a runtime that knows no pod.
kill_add_then_gc() { # KIND
    make_pods a
    conf "$1" "$one_address | $KILL_CONF"
    for ((n = 1; ; n++)); do
        killed ADD a || break
        echo "killed at step $n"
        (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
        eventually host_clean || { host_left; return 1; }
        eventually no_pod_device
    done
    (change_conf '.["cni.dev/valid-attachments"] = []' && cni GC x)
    [ "$n" -gt $ADD_STEPS ]
}
