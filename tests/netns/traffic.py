#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Traffic between pods, run inside their namespaces.

serve                     answers TCP and UDP on ports 7000 to 7003, IPv4 and IPv6; prints "ready"
tcp|udp ADDRESS PORT      0 when what was sent comes back within a second
pour ADDRESS              sends TCP to a `drain` until it is killed
drain SECONDS             prints the bits a second that came in from one `pour`, past a second
spoof DEVICE TO-MAC TO-IP FROM-MAC FROM-IP OWN-MAC OWN-IP
                          sends 3 UDP datagrams in frames made by hand, then an honest one
hear DEVICE               prints "ready" and, at the honest one, how many came in before
"""
import select
import socket
import struct
import sys
import time

PORTS = range(7000, 7004)
POUR = 7010
SPOOFED, HONEST = 7998, 7999


def serve():
    poll = select.epoll()
    sockets = {}
    for port in PORTS:
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            s = socket.socket(socket.AF_INET6, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                s.listen(16)
            sockets[s.fileno()] = s
            poll.register(s, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            s = sockets[fd]
            if s.type == socket.SOCK_DGRAM:
                data, peer = s.recvfrom(100)
                s.sendto(data, peer)
            else:
                s.accept()[0].sendall(b"hello")


def tcp(address, port):
    with socket.create_connection((address, int(port)), 1) as s:
        return s.recv(5) == b"hello"


def udp(address, port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.connect((address, int(port)))
        s.send(b"hello")
        return s.recv(5) == b"hello"


def pour(address):
    with socket.create_connection((address, POUR), 5) as s:
        while True:
            s.sendall(bytes(65536))


def drain(seconds):
    with socket.create_server(("", POUR)) as listening:
        print("ready", flush=True)
        listening.settimeout(60)
        s = listening.accept()[0]
        begun, got, since = time.monotonic(), 0, None
        while True:
            got += len(s.recv(1 << 20))
            now = time.monotonic()
            if since is None and now - begun > 1:
                since, got = now, 0
            if since is not None and now - since > float(seconds):
                print(int(got * 8 / (now - since)), flush=True)
                return True


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(from_ip, to_ip, port):
    udp_part = struct.pack("!HHHH", 7997, port, 12, 0) + b"fake"
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp_part), 1, 0, 64, 17, 0,
                     socket.inet_aton(from_ip), socket.inet_aton(to_ip))
    return b"\x08\x00" + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp_part


def spoof(device, to_mac, to_ip, from_mac, from_ip, own_mac, own_ip):
    frames = [mac(to_mac) + mac(from_mac) + datagram(from_ip, to_ip, SPOOFED)] * 3
    frames.append(mac(to_mac) + mac(own_mac) + datagram(own_ip, to_ip, HONEST))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((device, 0))
        for frame in frames:
            try:
                s.send(frame)
            except OSError as e:  # a guard tells the sender
                print(e, file=sys.stderr)
    return True


def hear(device):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as s:
        s.bind((device, 0x0800))
        s.settimeout(60)
        print("ready", flush=True)
        n = 0
        while True:
            frame, (_, _, kind, _, _) = s.recvfrom(2000)
            port = int.from_bytes(frame[36:38], "big") if frame[23] == 17 else 0
            if kind != socket.PACKET_OUTGOING and port == HONEST:
                print(n, flush=True)
                return True
            n += kind != socket.PACKET_OUTGOING and port == SPOOFED


if __name__ == "__main__":
    try:
        sys.exit(not globals()[sys.argv[1]](*sys.argv[2:]))
    except OSError as e:
        sys.exit(str(e))
