"""A cluster of one, in memory: the REST interface as far as the CLI uses it, with faults on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STATUS = {
    "name": "n1",
    "peer": "aa",
    "ready": True,
    "why_not": "",
    "cluster": "fake",
    "cluster_id": "c1",
    "epoch": 7,
    "pid": 4242,
    "version": "9.9.9",
    "load_bytes": 2048,
    "peers": [
        {
            "name": "n1",
            "address": "127.0.0.1",
            "peer": "aa",
            "datacentre": "dc1",
            "rack": "r1",
            "state": "up",
            "voter": True,
            "vnodes": 16,
            "owns": 1.0,
        }
    ],
}


class FakeCluster:
    """What is stored, and what is to go wrong."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, tuple[bytes, str]]] = {}
        self.status: dict[str, Any] = dict(STATUS)
        self.lock = threading.Lock()
        self.bulk_requests = 0
        self.fault: Callable[[int], int] = lambda number: 0
        """Given the number of a bulk request, the status to answer all of it with; 0 is none, -1 hangs up."""
        self.refused_keys: frozenset[str] = frozenset()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Silence."""

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("ETag", '"1-2"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _problem(self, status: int, code: str, detail: str) -> None:
        body = json.dumps({"type": f"about:{code}", "title": code, "status": status, "detail": detail})
        self._answer(status, body.encode(), "application/problem+json")

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        path = [unquote(part) for part in parts.path.split("/")[2:]]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.cluster.lock:
            match path:
                case ["health"]:
                    self._answer(200, b'{"live":true,"ready":true}')
                case ["admin", "status"]:
                    self._answer(200, json.dumps(self.cluster.status).encode())
                case ["admin", "ring"]:
                    vnodes = [{"token": 2**62, "peer": "n1"}, {"token": -(2**62), "peer": "n1"}]
                    vnodes.sort(key=lambda vnode: int(str(vnode["token"])))
                    self._answer(200, json.dumps({"epoch": 7, "vnodes": vnodes}).encode())
                case ["buckets", bucket]:
                    self._bucket(bucket)
                case ["collections", name]:
                    self._bucket(f"docs.{name}")
                case ["docs", name, "_bulk"] if self.command == "POST":
                    self._bulk(f"docs.{name}", body)
                case ["kv", bucket, "_bulk"] if self.command == "POST":
                    self._bulk(bucket, body)
                case ["kv", bucket, key]:
                    self._key(bucket, key, body, query)
                case ["kv", bucket]:
                    self._list(bucket, query)
                case _:
                    self._problem(404, "not-found", "no such path")

    do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _bucket(self, bucket: str) -> None:
        if self.command == "PUT":
            self.cluster.buckets.setdefault(bucket, {})
        if bucket in self.cluster.buckets:
            self._answer(200, b"{}")
        else:
            self._problem(404, "no-such-bucket", "no such bucket")

    def _key(self, bucket: str, key: str, body: bytes, query: dict[str, str]) -> None:
        keys = self.cluster.buckets.setdefault(bucket, {})
        if query.get("consistency") == "all":
            self._problem(503, "unavailable", "all needs 3 replicas, 2 are alive")
        elif self.command == "PUT":
            keys[key] = body, self.headers.get("Content-Type", "")
            self._answer(200, b"{}")
        elif self.command == "DELETE":
            keys.pop(key, None)
            self._answer(204, b"")
        elif key in keys:
            self._answer(200, *keys[key])
        else:
            self._problem(404, "not-found", "no such key")

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        keys = [
            key for key in self.cluster.buckets.get(bucket, {}) if key.startswith(query.get("prefix", ""))
        ]
        shown = keys[: int(query.get("limit", 1000))]
        lines = [json.dumps({"key": key}) for key in shown]
        lines.append(json.dumps({"cursor": "c0ffee" if len(shown) < len(keys) else None}))
        self._answer(200, "".join(line + "\n" for line in lines).encode(), "application/x-ndjson")

    def _bulk(self, bucket: str, body: bytes) -> None:
        self.cluster.bulk_requests += 1
        fault = self.cluster.fault(self.cluster.bulk_requests)
        if fault == -1:
            self.close_connection = True
            return
        if fault:
            self._problem(fault, "faulty", "as asked by the test")
            return
        outcomes = []
        for line in body.splitlines():
            request = json.loads(line)
            names = ("id", "document") if bucket.startswith("docs.") else ("key", "json")
            key = request[names[0]]
            if key in self.cluster.refused_keys:
                outcomes.append({"status": 400, "detail": "this key is refused"})
                continue
            value = line.partition(f',"{names[1]}":'.encode())[2][:-1]
            assert json.loads(value) == request[names[1]]
            self.cluster.buckets.setdefault(bucket, {})[key] = value, "application/json"
            outcomes.append({"status": 204})
        self._answer(200, b"".join(json.dumps(outcome).encode() + b"\n" for outcome in outcomes))


@contextmanager
def fake_cluster() -> Iterator[FakeCluster]:
    """Serve a fake cluster on a free port of loopback."""
    cluster = FakeCluster()
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
