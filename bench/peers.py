"""Real peers as processes of this machine: started, watched, killed; for measurements and for tests.

A `Peers` is one cluster: a generated `cluster.yml`, a folder per peer, a process per peer, its output in a
file. Addresses are 127.0.0.1 and those after it; the ports, which are the same on every address, are drawn
where nobody listens, so any number of clusters runs beside `make up`. Readiness is asked for, never waited
out. Whatever happens, `close` leaves no process behind, and the kernel ends them if this process dies.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

READY_S: Final = 30.0
"""How long a peer may take to say that it is ready."""

STOP_S: Final = 20.0
POLL_S: Final = 0.01
TAIL_LINES: Final = 30

PORTS_FROM, PORTS_TO = 20_000, 32_000
"""Below the range from which the kernel gives ports to whoever dials, so that a drawn one stays free."""


class PeerError(Exception):
    """A peer did not do what was awaited of it; the text ends with the last lines of its log."""


def loopback_problem(count: int = 3) -> str:
    """Why `count` loopback addresses cannot be listened on; "" if they can."""
    for last in range(1, count + 1):
        with socket.socket() as probe:
            try:
                probe.bind((f"127.0.0.{last}", 0))
            except OSError as error:
                return f"cannot listen on 127.0.0.{last}: {error.strerror}"
    return ""


def draw_ports(addresses: list[str], count: int = 3) -> list[int]:
    """So many ports on which nobody listens at any of the addresses."""
    entropy = random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = entropy.randrange(PORTS_FROM, PORTS_TO)
        if port not in found and all(_is_free(address, port) for address in addresses):
            found.append(port)
    return found


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


@dataclass(slots=True)
class Process:
    """One peer: where it is, and the process it runs in, which is another after a restart."""

    name: str
    address: str
    rest: int
    port: int
    data: Path
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id, 0 if it does not run."""
        return self.process.pid if self.running and self.process is not None else 0

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, which must run."""
        assert self.process is not None, f"{self.name} was not started"
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The exit status (negative: the signal that ended it); raises `PeerError` if it goes on."""
        assert self.process is not None, f"{self.name} was not started"
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise PeerError(f"{self.name} still runs after {timeout_s} s\n{self.tail()}") from None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines that the peer said."""
        if not self.log.exists():
            return f"{self.name}: no log"
        said = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"{self.name}| {line}" for line in said[-lines:])

    def request(self, path: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """GET a path on a connection of its own; raises OSError or http.client.HTTPException."""
        connection = http.client.HTTPConnection(self.address, self.rest, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        """What its health check says; empty if nothing."""
        try:
            _, body = self.request("/v1/health", 2.0)
            found = json.loads(body)
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def ready(self) -> bool:
        """Whether it says that it serves."""
        return self.health().get("ready") is True

    def metrics(self) -> dict[str, float]:
        """Its Prometheus metrics: a series, labels included, and its value."""
        _, body = self.request("/metrics")
        found = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                found[series] = float(value)
        return found

    def cpu_s(self) -> float:
        """Processor seconds used since the process started (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, kind: str = "VmRSS") -> int:
        """Resident memory (Linux): all, of its own (RssAnon), or of files that it maps (RssFile), which the
        kernel takes back where it lacks memory.
        """
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) * 1024
        raise PeerError(f"{self.name} has no memory")


class Peers:
    """One cluster of real peers below a folder. Use as a context manager, or call `close`."""

    def __init__(
        self,
        folder: Path,
        *,
        count: int = 3,
        settings: Mapping[str, str] | None = None,
        data: Callable[[str], Path] | None = None,
    ) -> None:
        """`settings` are lines of cluster.yml; `data` says where a peer's data is, if not in `folder`."""
        self.folder = folder
        self.config = folder / "cluster.yml"
        self.closed = False
        addresses = [f"127.0.0.{number}" for number in range(1, count + 1)]
        self._ports = _rest, cql, _port = draw_ports(addresses)
        self.cql = cql
        """The port of CQL at every address."""
        self.peers: list[Process] = []
        self._data = data
        self._settings = dict(settings or {})
        folder.mkdir(parents=True, exist_ok=True)
        for _ in addresses:
            self.add()

    def __enter__(self) -> Self:
        """The cluster itself, nothing started."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what runs."""
        self.close()

    def __getitem__(self, name: str) -> Process:
        """The peer of that name."""
        return next(peer for peer in self.peers if peer.name == name)

    def add(self) -> Process:
        """One more peer in cluster.yml, at the next address. Who runs has read it already."""
        number = len(self.peers) + 1
        name, (rest, cql, port) = f"n{number}", self._ports
        place = self._data(name) if self._data is not None else self.folder / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        self.peers.append(Process(name, f"127.0.0.{number}", rest, port, place, log))
        lines = ["cluster: test", "peers:"]
        for rack, peer in enumerate(self.peers, start=1):
            text = f'name: {peer.name}, address: {peer.address}, rack: r{rack}, data: "{peer.data}"'
            lines.append(f"  - {{{text}}}")
        lines.append(f"ports: {{rest: {rest}, cql: {cql}, peer: {port}}}")
        lines += ["settings:", *(f"  {key}: {value}" for key, value in self._settings.items())]
        self.config.write_text("\n".join(lines) + "\n")
        return self.peers[-1]

    # --- starting

    def start(self, *names: str) -> None:
        """Start the peers of these names (all, if none is named) without waiting."""
        for peer in [self[name] for name in names] if names else self.peers:
            assert not peer.running, f"{peer.name} runs already"
            # -P: a folder named like one of our packages in the working directory must not be taken for it
            command = [sys.executable, "-P", "-m", "cli.node", "node", peer.name, "--log-format", "json"]
            command += ["--config", str(self.config), "--data", str(self.folder / "data")]
            command += ["--parent", str(os.getpid())]
            with peer.log.open("ab") as log:
                peer.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **peer.environment},
                )

    def wait_ready(self, *names: str, timeout_s: float = READY_S) -> float:
        """Wait until these peers (all, if none is named) say that they are ready; returns the seconds."""
        began = time.monotonic()
        for peer in [self[name] for name in names] if names else self.peers:
            while not peer.ready():
                if not peer.running:
                    raise PeerError(f"{peer.name} ended while starting\n{peer.tail()}")
                if time.monotonic() - began > timeout_s:
                    raise PeerError(f"{peer.name} is not ready: {peer.health()}\n{self.tails()}")
                time.sleep(POLL_S)
        return time.monotonic() - began

    def up(self, *names: str) -> float:
        """Start and wait until ready; returns the seconds."""
        self.start(*names)
        return self.wait_ready(*names)

    # --- stopping

    def kill(self, *names: str) -> None:
        """SIGKILL, and wait until the processes are gone."""
        chosen = [self[name] for name in names] if names else self.peers
        for peer in chosen:
            if peer.running:
                peer.signal(signal.SIGKILL)
        for peer in chosen:
            if peer.process is not None:
                peer.wait()

    def stop(self, *names: str) -> list[int]:
        """SIGTERM, and wait; the exit statuses."""
        chosen = [self[name] for name in names] if names else self.peers
        for peer in chosen:
            peer.signal(signal.SIGTERM)
        return [peer.wait() for peer in chosen]

    def tails(self) -> str:
        """The last lines of all peers."""
        return "\n".join(peer.tail() for peer in self.peers)

    def close(self) -> None:
        """Kill what runs; may be called twice."""
        self.closed = True
        for peer in self.peers:
            if peer.running:
                peer.signal(signal.SIGKILL)
                peer.signal(signal.SIGCONT)
        for peer in self.peers:
            if peer.process is not None:
                peer.wait()
