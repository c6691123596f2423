#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rounds of: 20 ADDs at once, the agent killed at a random instant and started again, everything
finished, GC for half and DEL for half, and nothing left. Runs inside the host's network namespace.

agent_kill.py DIR ROUNDS SEED POD-NAMESPACE...

DIR is that of host_up, with the thin plugin in it. Says which round, and its seed, when one fails;
ROUNDS = 1 with that seed does it again, as far as time allows.
"""
import ctypes
import fcntl
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

DIR, ROUNDS, SEED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PODS = {f"k{i}": path for i, path in enumerate(sys.argv[4:])}
INSTANCE = DIR + "/i"
BUILD = os.environ["SLUICE_BUILD"]
KINDS = ["ovs-macvlan", "ovs", "ovs-dev-pool"]
CLONE_NEWNET = 0x40000000
SIOCGIFADDR, SIOCGIFFLAGS = 0x8915, 0x8913
SO_NO_CHECK = 11
libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    pass


def check(truth, *words):
    if not truth:
        raise Failure(" ".join(map(str, words)))


def eventually(what, *words):
    end = time.monotonic() + 20
    while not (last := what())[0]:
        check(time.monotonic() < end, *words, last[1])
        time.sleep(0.01)


# ---- the agent ----

class Agent:
    def __init__(self):
        self.ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = DIR + "/notify"
        if os.path.exists(path):
            os.unlink(path)
        self.ready.bind(path)
        self.ready.settimeout(60)
        self.log = open(DIR + "/agent.log", "w")
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [BUILD + "/cmd/sluiced", "--instance", INSTANCE], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, env={**os.environ, "NOTIFY_SOCKET": DIR + "/notify"})
        check(self.ready.recv(100) == b"READY=1", "the agent is not ready")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        check(self.process.wait(60) == 0, "the agent ended with", self.process.returncode)

    def call(self, method, params=None):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(INSTANCE + "/sluiced.sock")
            s.send(json.dumps({"id": 1, "method": method, "params": params or {}}).encode())
            answer = json.loads(s.recv(65536))
        check("result" in answer, method, answer)
        return answer["result"]


# ---- the plugin ----

def conf_of(kind):
    conf = {"cniVersion": "1.1.0", "name": "net", "type": kind, "bridge": "br0",
            "sluiceDir": INSTANCE, "ipam": {"type": "host-local", "subnet": "10.1.0.0/22",
                                            "dataDir": DIR + "/host-local"}}
    if kind == "ovs-dev-pool":
        conf["pool"] = {"target": 10, "cool_down_ms": 20}
    return conf


def begin(command, pod, conf):
    process = subprocess.Popen(
        [DIR + "/thin/sluice-cni"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={"CNI_COMMAND": command, "CNI_CONTAINERID": pod,
                                     "CNI_NETNS": PODS.get(pod, ""), "CNI_IFNAME": "eth0",
                                     "CNI_PATH": "/usr/lib/cni", "PATH": os.environ["PATH"]})
    process.stdin.write(json.dumps(conf).encode())
    process.stdin.close()
    process.stdin = None
    return process


def finish(process):
    """Status and answer, parsed if there is one."""
    out, err = process.communicate()
    check(process.returncode in (0, 1), "the plugin ended with", process.returncode, out, err)
    return process.returncode, json.loads(out) if out.strip() else None


def do(command, pod, conf):
    status, answer = finish(begin(command, pod, conf))
    check(status == 0, command, pod, answer)
    return answer


# ---- pods ----

def inside(path, what):
    """Runs what in a namespace, in a thread that ends with it."""
    results = []

    def work():
        fd = os.open(path, os.O_RDONLY)
        if libc.setns(fd, CLONE_NEWNET) == 0:
            results.append(what())
        os.close(fd)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    check(results, "can't enter", path)
    return results[0]


def devices():
    return {name for _, name in socket.if_nameindex()}


def open_pod(ip):
    """A socket in the pod, which has the address on eth0, up."""
    def work():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            ifreq = struct.pack("256s", b"eth0")
            address = socket.inet_ntoa(fcntl.ioctl(s, SIOCGIFADDR, ifreq)[20:24])
            flags = struct.unpack_from("H", fcntl.ioctl(s, SIOCGIFFLAGS, ifreq), 16)[0]
            check(address == ip and flags & 1, "eth0 has", address, "flags", flags, "not", ip)
            # A veth leaves checksums to the device behind it, and OVS' own datapath is none.
            s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
            s.bind((ip, 9))
            s.settimeout(1)
            return s
        except (OSError, Failure) as error:
            s.close()
            return error
    return work


def check_reached(addresses):
    """Each pod hears from the one before it."""
    sockets = {}
    for pod, ip in addresses.items():
        sockets[pod] = inside(PODS[pod], open_pod(ip))
        check(isinstance(sockets[pod], socket.socket), pod, sockets[pod])
    pods = list(addresses)
    for sender, receiver in zip(pods, pods[1:] + pods[:1]):
        for attempt in range(10):
            sockets[sender].sendto(sender.encode(), (addresses[receiver], 9))
            try:
                if sockets[receiver].recv(100) == sender.encode():
                    break
            except TimeoutError:
                pass
        else:
            raise Failure(f"{receiver} ({addresses[receiver]}) does not hear {sender}")
    for s in sockets.values():
        s.close()


# ---- what there is ----

def records():
    found = {}
    for folder, _, files in os.walk(INSTANCE + "/attachments"):
        for file in files:
            found[os.path.basename(folder) + "/" + file.partition("@")[0]] = os.path.join(folder, file)
    return found


def leases():
    held = {}
    with open(INSTANCE + "/ipam/net.log", encoding="ascii") as log:
        for line in log:
            op, *words = line.split()
            if op == "+":
                check(words[0] not in held, "twice handed out:", line)
                held[words[0]] = "/".join(words[1:])
            elif op == "-":
                held = {ip: owner for ip, owner in held.items() if owner != "/".join(words)}
            elif op == ">":
                held = {ip: "/".join(words[2:]) if owner == "/".join(words[:2]) else owner
                        for ip, owner in held.items()}
    return held


def ports():
    said = subprocess.run(["ovs-vsctl", f"--db=unix:{INSTANCE}/ovs/db.sock", "list-ports", "br0"],
                          check=True, capture_output=True, text=True)
    return {name for name in said.stdout.split() if not re.fullmatch("st[0-9a-v]{13}", name)}


def left():
    """Everything but tenants' ports."""
    here = {name for name in devices() if re.fullmatch("sl[0-9a-v]{13}", name)}
    return {"records": sorted(records()), "leases": leases(), "ports": sorted(ports()),
            "devices": sorted(here), "namespaces": os.listdir(INSTANCE + "/pool")
            if os.path.exists(INSTANCE + "/pool") else [],
            "folders": os.listdir(INSTANCE + "/attachments"),
            "pods": sorted(pod for pod, path in PODS.items() if "eth0" in inside(path, devices)),
            "files": sorted(set(os.listdir(INSTANCE)) - {
                "attachments", "ipam", "ovs", "ovs.lock", "ports.lock", "sluiced.lock",
                "sluiced.sock", "state", "pool"})}


def whole(agent, pooled):
    """Nothing but a pool at rest, whose parts are whole and the agent's."""
    there = left()
    names = ("records", "leases", "ports", "devices")
    if not pooled:
        there.pop("folders")
        return not any(there.values()), there
    there["pool"] = pool = agent.call("pool.show")["pools"][0]
    sizes = {len(there[name]) for name in names} | {pool["free"] + pool["cooling"]}
    return (len(sizes) == 1 and there["folders"] in ([], ["sluice-pool"]) and
            not pool["taken"] and not pool["making"] and not there["pods"] and not there["files"]
            and not there["namespaces"]), there


def gate_idle(agent):
    cni = next(gate for gate in agent.call("gate.show")["gates"] if gate["stage"] == "cni")
    status = agent.call("agent.status")
    return (cni["limit"] == 4 and cni["held"] == cni["waiting"] == 0 and
            status["calls_in_flight"] == 0 and status["connections"] == 1), (cni, status)


# ---- a round ----

def kill_in(agent, burst_s, draw):
    time.sleep(draw.random() * burst_s)
    agent.kill()


def add_all(agent, conf, burst_s, draw):
    """Answers by pod, and how many ADDs were to be tried again."""
    work = {pod: begin("ADD", pod, conf) for pod in PODS}
    if burst_s is not None:
        kill_in(agent, burst_s, draw)
        agent.start()
    answers, again = {}, []
    for pod, process in work.items():
        status, answer = finish(process)
        check(status == 0 or answer["code"] == 11, "ADD", pod, answer)
        if status:
            again.append(pod)
        else:
            answers[pod] = answer
    for pod in again:
        do("DEL", pod, conf)
        answers[pod] = do("ADD", pod, conf)
    return answers, len(again)


def check_pods(kind, answers):
    addresses = {pod: answer["ips"][0]["address"].partition("/")[0] for pod, answer in answers.items()}
    check(len(set(addresses.values())) == len(PODS), "an address twice:", addresses)
    held = leases()
    for pod, ip in addresses.items():
        check(held.get(ip) == pod + "/eth0", pod, "has", ip, "which is held by", held.get(ip))
    if kind != "ovs-dev-pool":
        check_reached(addresses)
        return
    here, attached = devices(), ports()
    names = [answer["interfaces"][0]["name"] for answer in answers.values()]
    check(len(set(names)) == len(PODS), "a device twice:", names)
    for name in names:
        check(name in here and name in attached, "no device, or no port:", name)


def remove_all(agent, conf, burst_s, draw):
    stay = list(PODS)[len(PODS) // 2:]
    valid = [{"containerID": pod, "ifname": "eth0"} for pod in stay]
    do("GC", "x", {**conf, "cni.dev/valid-attachments": valid})
    found = {name for name in records() if not name.startswith("sluice-pool/")}
    check(found == {pod + "/eth0" for pod in stay}, "after GC:", found)
    work = [(pod, begin("DEL", pod, conf)) for pod in stay]
    if draw.random() < 0.5 and burst_s is not None:
        kill_in(agent, burst_s / 2, draw)
        agent.start()
    for pod, process in work:
        status, answer = finish(process)
        check(status == 0, "DEL", pod, answer)


def play(agent, kind, burst_s, draw):
    conf = conf_of(kind)
    pooled = kind == "ovs-dev-pool"
    if pooled:
        agent.call("pool.set", {"conf": conf})
    answers, again = add_all(agent, conf, burst_s, draw)
    check_pods(kind, answers)
    remove_all(agent, conf, burst_s, draw)
    eventually(lambda: whole(agent, pooled), "left:")
    eventually(lambda: gate_idle(agent), "the gate is not idle:")
    if pooled:
        agent.call("pool.drain", {"network": "net"})
        eventually(lambda: whole(agent, False), "left after drain:")
    return again


def main():
    os.makedirs(INSTANCE + "/state", exist_ok=True)
    with open(INSTANCE + "/state/gates.json", "w", encoding="ascii") as file:
        file.write('{"v": 1, "limits": {"cni": 4}}')
    agent = Agent()
    agent.start()
    bursts = {}
    for kind in KINDS:  # makes the tenant's port, and tells how long a burst takes
        play(agent, kind, None, random)
        t0 = time.monotonic()
        add_all(agent, conf_of(kind), None, random)
        bursts[kind] = (time.monotonic() - t0) * 1.1
        for pod in PODS:
            do("DEL", pod, conf_of(kind))
        if kind == "ovs-dev-pool":
            agent.call("pool.drain", {"network": "net"})
        eventually(lambda: whole(agent, False), "left:")
    print("seed", SEED, "bursts", {kind: round(s, 3) for kind, s in bursts.items()}, flush=True)
    t0, again = time.monotonic(), 0
    for i in range(ROUNDS):
        kind = KINDS[(SEED + i) % len(KINDS)]
        try:
            again += play(agent, kind, bursts[kind], random.Random(SEED + i))
        except Exception as error:
            print(f"round {i}, kind {kind}, seed {SEED + i}: {error!r}", flush=True)
            with open(DIR + "/agent.log", encoding="utf-8") as log:
                print("".join(log.readlines()[-20:]))
            raise
    agent.stop()
    print(f"{ROUNDS} rounds, {again} ADDs tried again, {time.monotonic() - t0:.1f} s")


main()
