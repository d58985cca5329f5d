"""Stands for a peer under `sullae up`: answers health checks, and ends or stays as its environment says.

STUB_FAILS names peers that cannot start, STUB_DEAF peers that do not hear SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"live":true,"ready":true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Silence."""


def log(level: str, event: str, **facts: object) -> None:
    print(json.dumps({"level": level, "event": event, **facts}), flush=True)


def main() -> None:
    name, address, port = sys.argv[1:4]
    log("info", "begun", peer=name)
    if name in os.environ.get("STUB_FAILS", "").split(","):
        log("error", "cannot open the store", file="CURRENT")
        sys.exit(3)
    server = ThreadingHTTPServer((address, int(port)), Health)
    stop = signal.SIG_IGN if name in os.environ.get("STUB_DEAF", "").split(",") else None
    signal.signal(signal.SIGTERM, stop or (lambda *_: threading.Thread(target=server.shutdown).start()))
    log("warning", "the disk is slow", fsync_ms=12)
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    log("info", "ended")


if __name__ == "__main__":
    main()
