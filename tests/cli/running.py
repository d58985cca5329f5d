"""A `sullae up` under test: its JSON events as they come, its end, and nothing left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

WAIT_S = 60.0

STUBBED = """
import sys
import cli.up
from cli.places import read_config
def command(options, name):
    config = read_config(options.config)
    return [sys.executable, {stub!r}, name, config.peer(name).address, str(config.ports.rest)]
cli.up._node_command = command
from cli.main import main
main()
"""


def up_command(*arguments: str, stub: Path | None = None) -> list[str]:
    """The command line of `sullae up`, with the stub's script in place of each peer where one is given."""
    program = ["-m", "cli.main"] if stub is None else ["-c", STUBBED.format(stub=str(stub))]
    return [sys.executable, *program, "up", *arguments]


class Up:
    """The process; `text` holds what it printed that was not JSON, its standard error included."""

    def __init__(
        self, folder: Path, *arguments: str, stub: Path | None = None, env: dict[str, str] | None = None
    ):
        self.process = subprocess.Popen(
            up_command(*arguments, stub=stub),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        self.events: list[dict[str, Any]] = []
        self.text = ""
        self._arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._arrived.put(line)
        self._arrived.put("")

    def wait_for(self, *kinds: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """The next event of one of these kinds."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                line = self._arrived.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kinds} in {timeout_s} s: {self.events} {self.text}") from None
            if not line:
                raise AssertionError(f"ended before {kinds}: {self.events} {self.text}")
            if not line.startswith("{"):
                self.text += line
                continue
            event = json.loads(line)
            self.events.append(event)
            if event.get("event") in kinds:
                return dict(event)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = WAIT_S) -> int:
        """Wait for its own end; the exit status."""
        status = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        while line := self._arrived.get():
            if line.startswith("{"):
                self.events.append(json.loads(line))
            else:
                self.text += line
        return status

    def __enter__(self) -> Up:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(20)


def free_ports(addresses: list[str], count: int) -> list[int]:
    """Ports that are free on all addresses now."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind((addresses[0], 0))
            port = probe.getsockname()[1]
        if port not in found and all(_free(address, port) for address in addresses):
            found.append(port)
    return found


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


def write_config(folder: Path) -> tuple[Path, int]:
    """The configuration that the project ships, on ports of its own; its path and the REST port."""
    rest, cql, peer = free_ports(ADDRESSES, 3)
    text = (Path(__file__).resolve().parent.parent.parent / "cluster.yml").read_text()
    for old, new in (
        ("rest: 8080", f"rest: {rest}"),
        ("cql: 9042", f"cql: {cql}"),
        ("peer: 7000", f"peer: {peer}"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = folder / "cluster.yml"
    path.write_text(text)
    return path, rest


def process_is_there(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int], timeout_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while any(process_is_there(pid) for pid in pids):
        assert time.monotonic() < deadline_s, f"still there: {pids}"
        time.sleep(0.02)
