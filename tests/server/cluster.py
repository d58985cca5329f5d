"""Three peers as processes of their own, which a test may kill, stop and start again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.server.harness import free_port

START_S = 20.0
RUN = (
    "import sys; from pathlib import Path; from server.config import load_config; "
    "from server.process import run_peer; "
    "sys.exit(run_peer(load_config(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]), False, 'json'))"
)


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Peer:
    """One peer: its place, and its process if it runs."""

    def __init__(self, cluster: Cluster, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.data = cluster.folder / name
        self.log = cluster.folder / f"{name}.log"
        self._cluster = cluster
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; `wait_ready` says when it serves."""
        assert not self.running
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(self._cluster.config), self.name, str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, **self._cluster.environment},
            )
        return self.process

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop, in order; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def request(
        self, method: str, path: str, body: bytes | None = None, timeout_s: float = 10.0, **headers: str
    ) -> Answer:
        """One request on a connection of its own; OSError if there is nobody."""
        connection = http.client.HTTPConnection(self.address, self._cluster.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """The JSON at a path."""
        return json.loads(self.request("GET", path).body)

    def ready(self) -> bool:
        """Whether it says that it serves."""
        try:
            return self.request("GET", "/v1/health", timeout_s=2.0).status == 200
        except OSError:
            return False

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Cluster:
    """Peers on addresses of this test process alone."""

    def __init__(self, folder: Path, count: int = 3, settings: str = "") -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        pid = os.getpid()
        places = [f"127.{1 + pid // 250 % 60}.{1 + pid % 250}.{n}" for n in range(1, count + 1)]
        self.port = free_port(places[0])
        ports = {self.port, peer_port := free_port(places[0]), cql_port := free_port(places[0])}
        assert len(ports) == 3
        self.config = folder / "cluster.yml"
        peers = "".join(f"  - {{name: n{n}, address: {a}, rack: r{n}}}\n" for n, a in enumerate(places, 1))
        self.config.write_text(
            f"cluster: test\npeers:\n{peers}"
            f"ports: {{rest: {self.port}, cql: {cql_port}, peer: {peer_port}}}\n{settings}"
        )
        self.peers = [Peer(self, f"n{n}", address) for n, address in enumerate(places, 1)]

    def start(self) -> None:
        """Start those that do not run, and wait until all serve."""
        down = [peer for peer in self.peers if not peer.running]
        for peer in down:
            peer.start()
        if down:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until every peer serves and sees all others up."""
        wait_for(lambda: all(peer.ready() for peer in self.peers), START_S, self.logs)
        wait_for(lambda: all(self._sees_all(peer) for peer in self.peers), START_S, self.logs)

    def _sees_all(self, peer: Peer) -> bool:
        status = peer.json("/v1/admin/status")
        return status["connected_peers"] == len(self.peers) - 1 and all(
            other["state"] == "up" for other in status["peers"]
        )

    def logs(self) -> str:
        """The ends of all logs."""
        kept = [peer for peer in self.peers if peer.log.exists()]
        return "\n".join(f"{peer.name}: {peer.log.read_text()[-2_000:]}" for peer in kept)

    def close(self) -> None:
        """Kill what still runs."""
        for peer in self.peers:
            if peer.running:
                peer.kill()


def wait_for(condition: Callable[[], Any], timeout_s: float, explain: Callable[[], str]) -> None:
    """Wait for a condition in a world of processes."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {timeout_s} s\n{explain()}"
        time.sleep(0.02)
