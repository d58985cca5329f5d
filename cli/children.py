"""Peers as child processes: started, watched, told to stop; what they say is kept and the worst of it shown.

A child writes structured logs, one JSON object a line. Every line goes to the child's log file, and to
whoever shows the worst of them (cli/telling.py). Two threads per child: one reads its output and then waits
for its end, one asks its REST port until it says that it is ready. Both report by putting an `Event` into
one queue.
"""

from __future__ import annotations

import collections
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from cli.rest import Peer, UnreachableError

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""A log file that reaches this is renamed to `.1`, in place of the one before."""

LINE_BYTES_MAX: Final = 64 * 1024
TAIL_LINES: Final = 12
ASK_PAUSE_S: Final = 0.1
ASK_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: `kind` is ready, ended or signal; `number` the exit status or the signal."""

    kind: str
    child: Child | None = None
    number: int = 0


Show = Callable[[str, str, str], None]
"""Shows a line: of which peer, of which level ("" unknown), what."""


@dataclass(slots=True, eq=False)
class Child:
    """One peer and the process it runs in, which may be another after a restart."""

    name: str
    url: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    why_not: str = "starting"
    restarts: int = 0
    started_s: float = 0.0
    restart_at_s: float | None = None
    tail: collections.deque[tuple[str, str]] = field(
        default_factory=lambda: collections.deque(maxlen=TAIL_LINES)
    )
    """Level and text of what it said last."""

    @property
    def running(self) -> bool:
        """Whether its process has not been seen to end."""
        return self.process is not None

    @property
    def pid(self) -> int:
        """The process's id, 0 if there is none."""
        return self.process.pid if self.process is not None else 0

    def start(self, events: queue.SimpleQueue[Event], show: Show) -> None:
        """Start the process. Raises `OSError` where its log cannot be written."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.ready, self.why_not, self.restart_at_s = False, "starting", None
        self.started_s = time.monotonic()
        self.tail.clear()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we stop the peers in our own way
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        watch = threading.Thread(target=self._read, args=(self.process, events, show), daemon=True)
        ask = threading.Thread(target=self._ask, args=(self.process, events), daemon=True)
        watch.start()
        ask.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there to take it."""
        if self.process is not None:
            self.process.send_signal(number)

    def ended(self) -> None:
        """Note that the process has ended."""
        self.process, self.ready = None, False

    def _read(self, process: subprocess.Popen[bytes], events: queue.SimpleQueue[Event], show: Show) -> None:
        assert process.stdout is not None
        with RotatingLog(self.log) as log, process.stdout as output:
            while line := output.readline(LINE_BYTES_MAX):
                log.write(line)
                level, text = read_line(line)
                if text:
                    self.tail.append((level, text))
                    show(self.name, level, text)
        events.put(Event("ended", self, process.wait()))

    def _ask(self, process: subprocess.Popen[bytes], events: queue.SimpleQueue[Event]) -> None:
        peer = Peer(self.url, ASK_TIMEOUT_S)
        while process.returncode is None:
            ready, self.why_not = health_of(peer)
            if ready:
                events.put(Event("ready", self))
                break
            time.sleep(ASK_PAUSE_S)
        peer.close()


def health_of(peer: Peer) -> tuple[bool, str]:
    """Whether a peer says that it is ready, and if not why."""
    try:
        answer = peer.request("GET", "/v1/health")
    except UnreachableError as error:
        return False, error.reason
    try:
        body = json.loads(answer.body)
        return body.get("ready") is True, str(body.get("why_not") or body.get("detail") or "not ready yet")
    except (ValueError, AttributeError):
        return False, f"its health check answered {answer.status}"


def read_line(line: bytes) -> tuple[str, str]:
    """Level and text of a line of log; the level of a line that is not JSON is "" ."""
    text = line.decode(errors="replace").rstrip()
    try:
        entry = json.loads(text) if text.startswith("{") else None
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "event" not in entry:
        return "", text
    level = str(entry.get("level", "info")).lower()
    return level, entry_text(entry)


def entry_text(entry: dict[str, Any]) -> str:
    """A structured log entry as a person reads it: what happened, then key=value."""
    skipped = {"event", "level", "code", "timestamp", "time", "ts", "peer", "name", "exception", "exc_info"}
    values = [f"{key}={value}" for key, value in entry.items() if key not in skipped]
    text = " ".join([str(entry["event"]), *values])
    return f"{text}\n{entry['exception']}" if entry.get("exception") else text


class RotatingLog:
    """A log file with a limit: two files of `bytes_max` at most."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        """Appends to what `path` holds."""
        self._path = path
        self._bytes_max = bytes_max
        self._file: IO[bytes] | None = None
        self._size = 0

    def __enter__(self) -> RotatingLog:
        """The log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._close()

    def write(self, line: bytes) -> None:
        """Append a line. A full disk must not stop a peer, so what cannot be written is told and dropped."""
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
                self._size = self._file.tell()
            if self._size >= self._bytes_max:
                self._size = 0  # what cannot be renamed is written on to for as long again
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._close()
                self._file = self._path.open("ab", buffering=0)
            self._size += self._file.write(line)
        except OSError as error:
            print(f"sullae: {self._path}: {error.strerror or error}", file=sys.stderr, flush=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
