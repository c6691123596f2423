#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An agent's socket for faults that the agent can't be made to show.

fake_agent.py INSTANCE HOW [BODY]: answers every request the same way until it is killed. HOW is
result or error (with the file BODY behind it, if given), close (hangs up), garbage (any other text:
sent as it is) or hang. What came last is left in INSTANCE: header, body, netns.
"""
import array
import fcntl
import os
import socket
import sys

INLINE_MAX = 65536
SEALS = (fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
HEADERS = {
    "result": b'{"id":1,"result":{}}',
    "error": b'{"id":1,"error":{"code":11,"msg":"no"}}',
}


def save(instance, name, data):
    with open(os.path.join(instance, name), "wb") as f:
        f.write(data)


def receive(connection, instance):
    data, fds, _, _ = socket.recv_fds(connection, INLINE_MAX, 8)
    end = data.find(b"\1")
    if end >= 0 and b"\0" not in data[:end]:
        header, body_fd = data[:end], fds.pop()
        body = os.pread(body_fd, os.fstat(body_fd).st_size, 0)
        os.close(body_fd)
    else:
        header, _, body = data.partition(b"\0")
    save(instance, "header", header)
    save(instance, "body", body)
    save(instance, "netns", b" ".join(os.readlink(f"/proc/self/fd/{fd}").encode() for fd in fds))
    for fd in fds:
        os.close(fd)


def send(connection, header, body):
    if len(header) + 1 + len(body) <= INLINE_MAX:
        connection.send(header + (b"\0" + body if body else b""))
        return
    fd = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    os.write(fd, body)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    connection.sendmsg([header + b"\1"],
                       [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)


def main():
    instance, how = sys.argv[1:3]
    body = open(sys.argv[3], "rb").read() if len(sys.argv) > 3 else b""
    path = os.path.join(instance, "sluiced.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path + ".new")
    listener.listen(2)
    os.rename(path + ".new", path)  # who sees it can connect
    hanging = []
    while True:
        connection, _ = listener.accept()
        receive(connection, instance)
        if how in HEADERS:
            send(connection, HEADERS[how], body)
        elif how == "hang":
            hanging.append(connection)
            continue
        elif how != "close":
            connection.send(how.encode())
        connection.close()


main()
