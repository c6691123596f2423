#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# sluice-cni with agents that fail, and what it does where there is none. The standalone plugin is a
# stub that says how it was called.

load ../netns/helpers

setup() {
    need python3 jq
    DIR=$(mktemp -d)
    PLUGIN=$DIR/bin/sluice-cni
    mkdir "$DIR/bin" "$DIR/i"
    cp "$SLUICE_BUILD/cmd/sluice-cni" "$PLUGIN"
    cat >"$DIR/bin/sluice-cni-standalone" <<STUB
#!/bin/sh
cat >"$DIR/standalone.in"
tr '\0' '\n' </proc/\$\$/environ >"$DIR/standalone.env"
ls -l /proc/\$\$/fd >"$DIR/standalone.fds"
echo "standalone \$CNI_COMMAND"
exit 3
STUB
    chmod +x "$DIR/bin/sluice-cni-standalone"
    AGENT=
    echo '{"cniVersion":"1.0.0","name":"net","type":"ovs"}' >"$DIR/conf"
}

teardown() {
    [ -z "$AGENT" ] || kill "$AGENT"
    rm -rf "$DIR"
}

# The agent answers this way from now on.
agent() {
    if [ -n "$AGENT" ]; then
        kill "$AGENT"
        wait "$AGENT" || true
        rm "$DIR/i/sluiced.sock"
    fi
    "$BATS_TEST_DIRNAME/fake_agent.py" "$DIR/i" "$@" 3>&- &
    AGENT=$!
    eventually test -S "$DIR/i/sluiced.sock"
}

# call COMMAND [VARIABLE=VALUE]...: the configuration is in $DIR/conf; the output comes in $DIR/out.
call() {
    local command=$1
    shift
    rm -f "$DIR"/standalone.* "$DIR"/i/header
    status=0
    env -i CNI_COMMAND="$command" SLUICE_INSTANCE="$DIR/i" "$@" \
        "$PLUGIN" <"$DIR/conf" >"$DIR/out" 2>"$DIR/err" || status=$?
    [ ! -s "$DIR/err" ]
}

is_error() {
    [ "$status" = 1 ]
    jq -e --argjson code "$1" --arg msg "$2" '.code == $code and .msg == $msg' "$DIR/out" >/dev/null
}

# The standalone plugin was executed, with the input as it came.
is_standalone() {
    [ "$status" = 3 ]
    [ "$(cat "$DIR/out")" = "standalone $1" ]
    cmp "$DIR/conf" "$DIR/standalone.in"
}

@test "the agent gets environment, input and namespace as they are; its result goes out as it came" {
    printf '{\n "any": "thing"\n}\n' >"$DIR/answer"
    agent result "$DIR/answer"
    call ADD CNI_NETNS=/proc/self/ns/net ODD=$'a\nb' EMPTY=
    [ "$status" = 0 ]
    cmp "$DIR/out" "$DIR/answer"
    {
        printf '%s\0' CNI_COMMAND=ADD SLUICE_INSTANCE="$DIR/i" CNI_NETNS=/proc/self/ns/net \
            ODD=$'a\nb' EMPTY=
    } >"$DIR/environment"
    cat "$DIR/environment" "$DIR/conf" | cmp - "$DIR/i/body"
    jq -e --argjson n "$(stat -c %s "$DIR/environment")" \
        '.id == 1 and .method == "cni.run" and .params.environment == $n and
         .params.deadline_ms > 100000 and .params.deadline_ms <= 109000' "$DIR/i/header" >/dev/null
    [ "$(cat "$DIR/i/netns")" = "$(readlink /proc/self/ns/net)" ]
}

@test "a namespace that can't be opened is left out" {
    agent result
    call DEL CNI_NETNS=/nowhere/at/all
    [ "$status" = 0 ]
    [ -s "$DIR/i/header" ]
    [ ! -s "$DIR/i/netns" ]
    call DEL CNI_NETNS=
    [ "$status" = 0 ]
    [ ! -s "$DIR/i/netns" ]
}

@test "an answer without a newline gets one, an empty one stays empty" {
    printf '{}' >"$DIR/answer"
    agent result "$DIR/answer"
    call ADD
    printf '{}\n' | cmp - "$DIR/out"
    agent result
    call DEL
    [ "$status" = 0 ]
    [ ! -s "$DIR/out" ]
}

@test "input and answer of 1 MiB and more arrive whole" {
    # shellcheck disable=SC2183
    printf '{"x":"%1000000s"}\n' >"$DIR/conf"
    # shellcheck disable=SC2183
    printf '{"y":"%3000000s"}\n' >"$DIR/answer"
    agent result "$DIR/answer"
    call ADD CNI_NETNS=/proc/self/ns/net
    [ "$status" = 0 ]
    cmp "$DIR/out" "$DIR/answer"
    tail -c "$(stat -c %s "$DIR/conf")" "$DIR/i/body" | cmp - "$DIR/conf"
    [ "$(cat "$DIR/i/netns")" = "$(readlink /proc/self/ns/net)" ]
}

@test "100 calls at once, more than the agent's backlog holds, are all answered" {
    local pids=() pid
    echo '{}' >"$DIR/answer"
    agent result "$DIR/answer"
    for i in $(seq 100); do
        SLUICE_INSTANCE=$DIR/i "$PLUGIN" <"$DIR/conf" >"$DIR/out.$i" 3>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid"
    done
    for i in $(seq 100); do
        [ "$(cat "$DIR/out.$i")" = "{}" ]
    done
}

@test "an error with a body is the plugin's: printed, exit 1" {
    echo '{"cniVersion":"1.0.0","code":7,"msg":"bad"}' >"$DIR/answer"
    agent error "$DIR/answer"
    call ADD
    [ "$status" = 1 ]
    cmp "$DIR/out" "$DIR/answer"
}

@test "an error without a body: the standalone plugin does it, with the same input and environment" {
    agent error
    call ADD CNI_NETNS=/proc/self/ns/net ODD=value
    [ -s "$DIR/i/header" ]
    is_standalone ADD
    grep -qx ODD=value "$DIR/standalone.env"
    # Of ours its standard input is open, and nothing else.
    [ "$(grep -cE 'memfd:|socket:|net:' "$DIR/standalone.fds")" = 1 ]
}

@test "no agent: the standalone plugin does it" {
    call ADD
    is_standalone ADD
    agent result
    kill -9 "$AGENT" # its socket stays behind
    wait "$AGENT" || true
    AGENT=
    call DEL
    is_standalone DEL
    # shellcheck disable=SC2183
    printf '{"x":"%1000000s"}\n' >"$DIR/conf"
    call ADD
    is_standalone ADD
    call ADD SLUICE_INSTANCE="/$(printf '%0300d' 0)" # has room for no socket
    is_standalone ADD
    call ADD SLUICE_INSTANCE="/$(printf '%0150d' 0)"
    is_standalone ADD
}

@test "the agent ends while it works: ADD is to be undone and tried again, all else is done over" {
    agent close
    call ADD
    is_error 11 "the agent ended while it worked on this; DEL and try again"
    for command in DEL CHECK GC STATUS VERSION; do
        call $command
        [ -s "$DIR/i/header" ]
        is_standalone $command
    done
}

@test "the agent answers nonsense: as if it had ended" {
    for nonsense in '{}' '{"id":2,"result":{}}' nonsense; do
        agent "$nonsense"
        call ADD
        is_error 11 "receive the agent's answer: Bad message; DEL and try again"
        call DEL
        is_standalone DEL
    done
}

@test "the agent does not answer: code 11 at the deadline, of which it was told less" {
    agent hang
    for command in ADD DEL; do
        call $command SLUICE_DEADLINE_S=1
        is_error 11 "the agent did not answer within 1 s"
        [ ! -e "$DIR/standalone.in" ]
        jq -e '.params.deadline_ms > 0 and .params.deadline_ms <= 900' "$DIR/i/header" >/dev/null
    done
}

@test "a SLUICE_DEADLINE_S that is no number of seconds: code 4" {
    agent result
    for bad in 0 -1 3601 1.5 1s x 99999999999999999999; do
        call ADD "SLUICE_DEADLINE_S=$bad"
        is_error 4 "SLUICE_DEADLINE_S: \"$bad\" is not allowed; must be a whole number of seconds from 1 to 3600"
    done
    for good in 1 3600 ""; do
        call ADD "SLUICE_DEADLINE_S=$good"
        [ "$status" = 0 ]
    done
}

@test "sluiceDir is found in the input and goes before SLUICE_INSTANCE" {
    agent result
    for conf in '{"sluiceDir":"%s"}' '{"a":{},"sluiceDir" \n:\t"%s","b":1}' \
        '{"note":"sluiceDir","sluiceDir":"%s"}' '{"note":"\\"sluiceDir\\": \\"/x\\"","sluiceDir":"%s"}'; do
        # shellcheck disable=SC2059
        printf "$conf" "$DIR/i" >"$DIR/conf"
        call ADD SLUICE_INSTANCE=/nowhere
        [ "$status" = 0 ]
        [ -s "$DIR/i/header" ]
    done
    echo '{"sluiceDir":""}' >"$DIR/conf"
    call ADD
    [ "$status" = 0 ]
    [ -s "$DIR/i/header" ]
}

@test "a sluiceDir that only a parser could read goes to the standalone plugin" {
    agent result
    for conf in '{"sluiceDir":"%s","sluiceDir":"%s"}' '{"sluiceDir":"%s","x":{"sluiceDir":"%s"}}' \
        '{"sluiceDir":"\\u002f%s%.0s"}' '{"sluiceDir":7,"x":"%s%s"}' '{"x":"%s%s","sluiceDir":' \
        '{"x":"%s%s","sluiceDir":"/x' '{"sluiceDir":"run","x":"%s%s"}'; do
        # shellcheck disable=SC2059
        printf "$conf" "$DIR/i" "$DIR/i" >"$DIR/conf"
        call ADD
        is_standalone ADD
        [ ! -e "$DIR/i/header" ]
    done
}

@test "an error is in the input's version, or 1.1.0" {
    agent close
    call ADD
    [ "$(jq -r .cniVersion "$DIR/out")" = 1.0.0 ]
    echo '{"cniVersion":"0.4.0","prevResult":{"cniVersion":"0.3.1"}}' >"$DIR/conf"
    call ADD
    [ "$(jq -r .cniVersion "$DIR/out")" = 0.4.0 ]
    for conf in '{}' 'nonsense' '' '{"cniVersion":7}' '{"cniVersion":"1\\u002e"}' '{"cniVersion":"' \
        '{"cniVersion":"a\tb"}' '{"cniVersion":"1.000000000000000000"}'; do
        printf '%b' "$conf" >"$DIR/conf"
        call ADD
        [ "$(jq -r .cniVersion "$DIR/out")" = 1.1.0 ]
        [ "$(jq .code "$DIR/out")" = 11 ]
    done
}

@test "no agent and no standalone plugin: code 104 names what is missing" {
    local program
    rm "$DIR/bin/sluice-cni-standalone"
    call ADD
    program=$(jq -r '.msg | ltrimstr("execute ") | rtrimstr(": No such file or directory")' "$DIR/out")
    [[ "$program" = /*/sluice-cni-standalone ]]
    [ ! -e "$program" ] || skip "$program is installed"
    is_error 104 "execute $program: No such file or directory"
}

@test "a standalone plugin that can't be executed: code 104 names it" {
    echo garbage >"$DIR/bin/sluice-cni-standalone"
    call ADD
    is_error 104 "execute $DIR/bin/sluice-cni-standalone: Exec format error"
}

@test "the standalone plugin is found through the links of a CNI directory" {
    mkdir "$DIR/cni"
    ln -s ../bin/sluice-cni "$DIR/cni/ovs"
    PLUGIN=$DIR/cni/ovs
    call ADD
    is_standalone ADD
}

@test "input that can't be read, or is over 16 MiB: code 5" {
    run env -i "$PLUGIN" <"$DIR"
    [ "$status" = 1 ]
    [ "$(jq -c '[.code, .msg]' <<<"$output")" = '[5,"read the network configuration: Is a directory"]' ]
    agent result
    head -c $((16 << 20)) /dev/zero >"$DIR/conf"
    call ADD # with the environment too much for the agent
    is_standalone ADD
    head -c 1 /dev/zero >>"$DIR/conf"
    call ADD
    is_error 5 "read the network configuration: File too large"
}

@test "a result that can't be written is a failure" {
    echo '{}' >"$DIR/answer"
    agent result "$DIR/answer"
    run env SLUICE_INSTANCE="$DIR/i" bash -c '"$1" <"$2" >/dev/full' - "$PLUGIN" "$DIR/conf"
    [ "$status" = 1 ]
    run env SLUICE_INSTANCE="$DIR/i" bash -c '"$1" <"$2" >&-' - "$PLUGIN" "$DIR/conf"
    [ "$status" = 1 ]
}
