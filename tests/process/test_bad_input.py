"""Bad bytes at each port of a real cluster: that connection ends, and nobody else notices.

tests/server/ throws fuzzed bytes at each parser; here a few of every family go to real peers at work.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from bench.peers import Process
from tests.process.cluster import Account, Cluster, lost, more_writes, running, until, workers

pytestmark = [pytest.mark.process, pytest.mark.slow]

NAMES = ("n1", "n2", "n3")
GIB = 1024**3
RANDOM = random.Random("bad input")

PEER_PORT: list[bytes] = [
    b"",
    b"\x00",
    *(struct.pack(">I", length) for length in (0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, GIB)),
    struct.pack(">I", 4) + b"\xc1\xc1\xc1\xc1",
    struct.pack(">I", 8) + b"\x80\x04K\x01.abc",
    struct.pack(">I", 100) + b"half",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    *(RANDOM.randbytes(RANDOM.randrange(1, 3000)) for _ in range(20)),
    *(struct.pack(">I", n) + b"\x00" + RANDOM.randbytes(n - 1) for n in (1, 9, 64, 1000)),
]

REST_PORT: list[bytes] = [
    b"\x00" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /v1/kv/demo/" + b"k" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"h" * 1_000_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
    b"PUT /v1/kv/demo/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"PUT /v1/kv/demo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"PUT /v1/kv/d/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT /v1/kv/demo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx",
    b"PUT /v1/kv/demo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc",
    b"GET /v1/kv/%00/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/kv/..%2f..%2fetc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://elsewhere/v1/kv/a/b HTTP/1.1\r\nHost: x\r\n\r\n",
    *(RANDOM.randbytes(RANDOM.randrange(1, 3000)) for _ in range(20)),
]

ASKED: list[tuple[str, str, bytes]] = [
    ("GET", "/v1/kv/demo/k?consistency=most", b""),
    ("GET", "/v1/kv/demo/k?timeout_ms=-1", b""),
    ("PUT", "/v1/kv/demo/k?ttl=9999999999999999999999", b"v"),
    ("PUT", "/v1/kv/" + "b" * 300 + "/k", b"v"),
    ("PUT", "/v1/kv/demo/%ff", b"v"),
    ("PUT", "/v1/kv/..%2f..%2fescape/k", b"v"),
    ("GET", "/v1/kv/demo?after=%00%00", b""),
    ("GET", "/v1/kv/demo?limit=-5", b""),
    ("PUT", "/v1/buckets/new", b"[" * 100_000),
    ("PUT", "/v1/buckets/new", b'{"replication_factor": 1e400}'),
    ("PUT", "/v1/buckets/new", b'{"replication_factor": NaN}'),
    ("PUT", "/v1/buckets/new", b"\xff\xfe{}"),
    ("POST", "/v1/admin/no-such-verb", b"{}"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("bad")) as cluster:
        yield cluster


def test_bad_bytes_at_either_port_disturb_nobody(cluster: Cluster) -> None:
    pids = [peer.pid for peer in cluster.peers]
    with workers(cluster) as crew:
        more_writes(crew, 30)
        for peer in cluster.peers:
            for data in PEER_PORT:
                _throw(peer, peer.port, data)
            for data in REST_PORT:
                _throw(peer, peer.rest, data)
        more_writes(crew, 30)
        account = Account.of([worker.finish() for worker in crew])
    print(cluster.tails())
    assert account.wrong == []
    assert account.failed == {}
    assert account.unknown == {}
    assert [peer.pid for peer in cluster.peers] == pids
    assert all(peer.ready() for peer in cluster.peers)
    assert lost(cluster, account.acknowledged, NAMES) == []
    for peer in cluster.peers:
        said = peer.log.read_text()
        assert "Traceback" not in said, said[-4000:]
        lines = [json.loads(line) for line in said.splitlines()]
        assert any(line.get("level") == "warning" for line in lines), "bad frames are told"
        assert len(lines) < 400, "bad bytes must not fill the log"


def test_bad_requests_get_problem_details(cluster: Cluster) -> None:
    with cluster.client("n1") as client:
        for method, path, body in ASKED:
            reply = client.request(method, path, body or None, "application/json" if body else "")
            assert 400 <= reply.status < 500, (method, path, reply)
            assert reply.problem["status"] == reply.status, (method, path, reply)


def test_who_connects_and_says_nothing_takes_little(cluster: Cluster) -> None:
    peer = cluster["n1"]
    before = peer.memory_bytes()
    held = []
    try:
        for port in [peer.rest, peer.port] * 300:
            held.append(socket.create_connection((peer.address, port), 5.0))  # noqa: PERF401
        announced = held[1::2]
        for sock in announced:
            _send(sock, struct.pack(">I", GIB - 1))
        with workers(cluster) as crew:
            more_writes(crew, 60)
            account = Account.of([worker.finish() for worker in crew])
    finally:
        for sock in held:
            sock.close()
    assert (account.wrong, account.failed, account.unknown) == ([], {}, {})
    assert peer.memory_bytes() - before < 64 * 1024 * 1024
    until(peer.ready, "n1 is ready")
    assert len(os.listdir(f"/proc/{peer.pid}/fd")) < 600


def _throw(peer: Process, port: int, data: bytes) -> None:
    """Send these bytes on a connection of their own, half-close it, and read for as long as it answers."""
    with socket.create_connection((peer.address, port), timeout=5.0) as sock:
        _send(sock, data)
        try:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            return  # closed on us: as good


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return  # closed before it heard all of it: as good
