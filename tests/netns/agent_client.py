#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent's socket, spoken to directly: what no well-behaved client does, too.

agent_client.py call INSTANCE METHOD [PARAMS]     prints the result; status 1 and the error otherwise
agent_client.py take INSTANCE NETWORK ID PATH     pool.take: the namespace is bound to PATH
agent_client.py open INSTANCE ID [IFNAME]         attachment.get: holds its descriptors until killed
agent_client.py idle INSTANCE N                   holds N connections until killed; says "ready"
agent_client.py mute INSTANCE                     asks and never reads; says after how many it was cut off
agent_client.py garbage INSTANCE                  sends what is no request
agent_client.py leave INSTANCE METHOD [PARAMS]    asks and goes at once
agent_client.py http PORT PATH                    GETs it from 127.0.0.1; prints status and text
agent_client.py notify PATH                       prints what comes to a datagram socket; says "ready"
"""
import ctypes
import json
import os
import random
import signal
import socket
import sys
import urllib.error
import urllib.request

INLINE_MAX = 65536
MS_BIND = 4096


def connect(instance):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(os.path.join(instance, "sluiced.sock"))
    return s


def request(method, params="{}", number=1):
    return f'{{"id":{number},"method":"{method}","params":{params}}}'.encode()


def receive(s):
    data, fds, _, _ = socket.recv_fds(s, INLINE_MAX, 8)
    if not data:
        sys.exit("the agent closed the connection")
    return json.loads(data.partition(b"\0")[0].rstrip(b"\1")), fds


def call(instance, method, params="{}"):
    s = connect(instance)
    s.send(request(method, params))
    answer, fds = receive(s)
    if "error" in answer:
        print(json.dumps(answer["error"]))
        sys.exit(1)
    return answer["result"], fds


def do_call(instance, method, params="{}"):
    print(json.dumps(call(instance, method, params)[0]))


def do_take(instance, network, container_id, path):
    params = json.dumps({"network": network, "container_id": container_id, "netns": path})
    (fd,) = call(instance, "pool.take", params)[1]
    open(path, "x").close()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(f"/proc/self/fd/{fd}".encode(), path.encode(), None, MS_BIND, None) != 0:
        sys.exit(f"bind {path}: {os.strerror(ctypes.get_errno())}")


def do_open(instance, container_id, *ifname):
    params = {"container_id": container_id}
    if ifname:
        params["ifname"] = ifname[0]
    result, fds = call(instance, "attachment.get", json.dumps(params))
    print("ready", len(fds), json.dumps(result), flush=True)
    signal.pause()


def do_idle(instance, n):
    held = [connect(instance) for _ in range(int(n))]
    print("ready", len(held), flush=True)
    signal.pause()


def do_mute(instance):
    s = connect(instance)
    n = 0
    try:
        while n < 1000000:
            s.send(request("gate.show", number=n))
            n += 1
    except OSError:
        print("cut off after", n)
        return
    sys.exit("never cut off")


def do_garbage(instance):
    draw = random.Random(1)
    whole = request("agent.status")
    messages = [b"x", b"\0", b"\1", b"{", b"{}", b"[]", b"null", b'{"id":"x","method":"gate.show"}',
                b'{"id":1,"method":7}', b'{"id":1,"method":"no.such"}', b'{"method":"gate.show"}',
                b'{"id":1,"method":"gate.show","params":[]}', b'{"id":1,"method":"cni.run"}',
                request("cni.run", '{"environment":99999999}'), request("cni.run", '{"environment":-1}'),
                request("cni.run", '{"environment":1}') + b"\0x",
                request("cni.run", '{"environment":0}') + b"\0{}",
                request("cni.run", '{"environment":0,"deadline_ms":0}') + b"\0{}",
                request("pool.set"), request("pool.set", '{"conf":{}}'), request("pool.take"),
                request("pool.set", '{"conf":{"name":"net","type":"loopback","cniVersion":"1.1.0"}}'),
                request("gate.acquire", '{"stage":"no"}'), request("gate.release", '{"lease":99999}'),
                b'{"id":1,' + b"[" * 60000, b"{" * 65536]
    messages += [bytes(draw.randrange(256) for _ in range(draw.randrange(1, 200))) for _ in range(300)]
    for _ in range(300):
        torn = bytearray(whole)
        torn[draw.randrange(len(torn))] = draw.randrange(256)
        messages.append(bytes(torn))
    for message in messages:
        for fds in ([], [0, 1, 2]):
            s = connect(instance)
            try:
                socket.send_fds(s, [message], fds)
                s.settimeout(5)
                s.recv(INLINE_MAX)  # an error, or the end: never silence
            except (BrokenPipeError, ConnectionResetError):
                pass
            s.close()
    print("sent", len(messages))


def do_leave(instance, method, params="{}"):
    connect(instance).send(request(method, params))


def do_http(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())


def do_notify(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    print("ready", flush=True)
    while True:
        print(s.recv(4096).decode(), flush=True)


globals()["do_" + sys.argv[1]](*sys.argv[2:])
