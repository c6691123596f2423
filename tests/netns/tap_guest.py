#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest's side of a tap: answers ARP and echo requests for one address, until it is killed.

tap_guest.py DEVICE MAC ADDRESS     says "ready" once it has the device
"""
import fcntl
import os
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
HEADER = bytes(10)  # struct virtio_net_hdr of what we send: nothing is left to do


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp_answer(frame, mac, ip):
    if frame[20:22] != b"\0\1" or frame[38:42] != ip:
        return None
    return frame[6:12] + mac + frame[12:20] + b"\0\2" + mac + ip + frame[22:32]


def echo_answer(frame, mac, ip):
    if frame[23] != socket.IPPROTO_ICMP or frame[30:34] != ip or frame[34] != 8:
        return None
    length = struct.unpack("!H", frame[16:18])[0]
    body = b"\0\0\0\0" + frame[38:14 + length]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return frame[6:12] + mac + frame[12:26] + ip + frame[26:30] + body


ANSWERS = {b"\x08\x06": arp_answer, b"\x08\x00": echo_answer}

device, mac, ip = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), socket.inet_aton(sys.argv[3])
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", device.encode(), FLAGS))
print("ready", flush=True)
while True:
    frame = os.read(tap, 65536)[len(HEADER):]
    answer = ANSWERS.get(frame[12:14], lambda *_: None)(frame, mac, ip)
    if answer:
        os.write(tap, HEADER + answer)
