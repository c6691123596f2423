#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The slow peer: a stand-in for the study's lock server. HTTP, a thread a request, no queue.

    poll_server.py PORT [STAGE=LIMIT ...]

/get_lock?op=obtain&stage=NAME looks every 100 ms whether fewer than LIMIT hold the stage's lock, and
answers "ok" once it holds it; op=release gives it back. A stage that is not named, or has limit 0,
has no limit. The first line of output is the port: for PORT 0 the kernel chooses it.
"""
import collections
import http.server
import sys
import threading
import time
import urllib.parse

held = collections.Counter()
limits = collections.Counter()
lock = threading.Lock()


def obtain(stage):
    while True:
        with lock:
            if not limits[stage] or held[stage] < limits[stage]:
                held[stage] += 1
                return
        time.sleep(0.1)


def release(stage):
    with lock:
        held[stage] = max(held[stage] - 1, 0)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        act = {"obtain": obtain, "release": release}.get(query.get("op"))
        known = url.path == "/get_lock" and act and "stage" in query
        if known:
            act(query["stage"])
        self.send_response(200 if known else 400)
        self.end_headers()
        self.wfile.write(b"ok" if known else b"use /get_lock?op=obtain|release&stage=NAME")

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer.request_queue_size = 128  # Flask's
if len(sys.argv) < 2:
    sys.exit("usage: poll_server.py PORT [STAGE=LIMIT ...]")
limits.update({stage: int(limit) for stage, limit in (s.split("=") for s in sys.argv[2:])})
with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
