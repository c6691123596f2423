#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# tests/vm/run: what comes back from the machine, and that nothing of it is left.

load ../netns/helpers

setup() {
    need_root
    need qemu-system-x86_64
    "$BATS_TEST_DIRNAME/kernel" "$SLUICE_BUILD/vm" >"$BATS_TEST_TMPDIR/kernel" 2>&1 ||
        skip "no kernel for the test machine: $(tail -n 1 "$BATS_TEST_TMPDIR/kernel")"
    export TMPDIR=$BATS_TEST_TMPDIR/t
    mkdir "$TMPDIR"
    cd "$BATS_TEST_TMPDIR"
}

# virtiofsd names its folder in its command line, and QEMU ends with it.
nothing_left_of_it() {
    [ -z "$(ls "$TMPDIR")" ] && [ -z "$(processes_of "$TMPDIR/sluice-vm")" ]
}

teardown() {
    [ -z "${TMPDIR:-}" ] || eventually nothing_left_of_it || { ls "$TMPDIR"; processes_of "$TMPDIR"; return 1; }
}

machine() {
    "$BATS_TEST_DIRNAME/run" "$@" >out 2>err 3>&-
}

@test "output, errors and exit status come back; folder and environment go in; changes to files do not come out" {
    echo before >file
    export WORD="two  words"
    rc=0
    machine -- bash -c 'echo "$PWD: $WORD"; echo told >/dev/stderr; echo after >file; cat file; exit 7' || rc=$?
    [ $rc = 7 ]
    [ "$(cat out)" = "$BATS_TEST_TMPDIR: two  words
after" ]
    [ "$(cat err)" = told ]
    [ "$(cat file)" = before ]
}

@test "a panic is told" {
    rc=0
    machine -- bash -c 'echo c >/proc/sysrq-trigger' || rc=$?
    [ $rc = 125 ]
    grep -q "tests/vm/run: Kernel panic - not syncing: sysrq triggered crash" err
}

@test "a command that takes too long is ended, and what it said before is there" {
    rc=0
    machine -t 30 -- bash -c 'echo begun; sleep 1000' || rc=$?
    [ $rc = 125 ]
    grep -q "not done after 30 s" err
    grep -q begun out
}

@test "interrupted: it ends by the signal" {
    rc=0
    timeout --preserve-status -s INT 4 "$BATS_TEST_DIRNAME/run" -- sleep 1000 >out 2>err 3>&- || rc=$?
    [ $rc = 130 ]
}
