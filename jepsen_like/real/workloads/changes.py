"""The change stream over REST: jepsen_like/workloads/changes.py with readers of `GET /v1/changes/{table}`.

A reader is what a careful consumer would be, as jepsen_like/subscriber.py has it: it goes from peer to peer
with the cursor of its last heartbeat and stands then exactly where that says. It judges while it reads:

    chain       an event's image before is the last image after, unless a restart was told
    reorder     versions of a key do not go back, unless the event says that it is late
    id_changed  one id, one write; doubled: one write, one id
    gap         nothing is said to be missing, where nothing was forgotten

A restart is told for some tokens; here all keys' chains begin anew with it, so less is judged than there.
Nothing has a time to live: clocks are wrong by minutes, and nobody could say when it has run out.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from random import Random
from typing import Any, NamedTuple, cast

import aiohttp
import msgspec

from jepsen_like.checkers import Problem
from jepsen_like.history import OK
from jepsen_like.real.door import RealDoor
from jepsen_like.real.workloads import door_of
from jepsen_like.session import SECOND, Session
from jepsen_like.subscriber import PROBLEMS_MAX, RETRY_US, SILENCE_US, STAY_US, Subscriber
from jepsen_like.workloads.changes import ChangesWorkload
from sim.cluster import SimCluster

LINE_BYTES_MAX = 1 << 20


class _Held(NamedTuple):
    """What a reader has of a key: its value, the newest timestamp, and whether it may be judged by."""

    value: bytes | None = None
    timestamp_us: int = 0
    known: bool = False


class RealSubscriber:
    """One reader. See the top of the file."""

    def __init__(self, cluster: SimCluster, door: RealDoor, table: str, name: str, start: str) -> None:
        """Nothing is asked before `open`."""
        self.name = name
        self._cluster, self._door, self._table, self._start = cluster, door, table, start
        self._random = Random(f"{cluster.options.seed}:subscriber:{name}")
        self._held: dict[str, _Held] = {}
        self._kept: dict[str, _Held] = {}
        self._new_is_known = self._new_was_known = start == "now"
        self._reading: asyncio.Task[None] | None = None
        self.cursor = ""
        self.ids: dict[str, tuple[str, bytes | None]] = {}
        self.of_value: dict[tuple[str, bytes], str] = {}
        self.stamps: dict[tuple[str, int], str] = {}
        """Of each key and timestamp of a write: the event."""
        self.problems: list[Problem] = []
        self.events = self.repeats = self.restarts = self.resumes = 0

    def open(self, peer: int = -1) -> None:
        """Read until `close`, at this peer first (-1: any)."""
        self._reading = self._door.do(self._read(peer))

    def close(self) -> None:
        """No more."""
        if self._reading is not None:
            self._reading.cancel()

    # --- reading

    async def _read(self, peer: int) -> None:
        while True:
            running = self._cluster.running()
            if running:
                at = peer if peer >= 0 else running[self._random.randrange(len(running))]
                stay_s = self._random.randint(*STAY_US) / SECOND
                try:
                    await asyncio.wait_for(self._stream(at), None if peer >= 0 else stay_s)
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                    peer = -1  # elsewhere
            await asyncio.sleep(RETRY_US / SECOND)

    async def _stream(self, peer: int) -> None:
        """From the last whole cursor on."""
        http = self._door.cluster.http
        assert http is not None
        self.go_back()
        start = urllib.parse.quote(self.cursor or self._start, safe="")
        url = self._door.url(peer, f"/v1/changes/{self._table}?from={start}")
        timeout = aiohttp.ClientTimeout(
            total=None, sock_read=SILENCE_US / SECOND, connect=SILENCE_US / SECOND
        )
        async with http.get(url, timeout=timeout, read_bufsize=LINE_BYTES_MAX) as reply:
            if reply.status != 200:
                return
            async for line in reply.content:
                if line.strip():
                    self.take(msgspec.json.decode(line))

    def go_back(self) -> None:
        """Stand where the cursor says."""
        self._held, self._new_is_known = dict(self._kept), self._new_was_known
        self.resumes += 1

    def take(self, line: dict[str, Any]) -> None:
        """A line of the stream."""
        kind = line["type"]
        if kind == "event":
            self._judge(line)
        elif kind == "gap":
            self._problem("gap", str(line))
        elif kind == "restart":
            self._forget()
        elif kind == "heartbeat":
            self.cursor = line["cursor"]
            self._kept, self._new_was_known = dict(self._held), self._new_is_known

    def _forget(self) -> None:
        self.restarts += 1
        self._held = {key: held._replace(known=False, timestamp_us=0) for key, held in self._held.items()}
        self._new_is_known = False

    def _judge(self, event: dict[str, Any]) -> None:
        self.events += 1
        if event.get("restart"):
            self._forget()
        key, name, at_us = event["key"], event["id"], event["timestamp_us"]
        before, after = value_of(event.get("before")), value_of(event.get("after"))
        written = None if event["op"] == "delete" else self._written(event, after)
        known = self.ids.get(name, (key, None))
        if known[0] != key or (None not in (known[1], written) and known[1] != written):
            self._problem("id_changed", f"{name} was {known}, is {(key, written)}")
        self.ids[name] = (key, known[1] if written is None else written)
        self.stamps[key, at_us] = name
        if written is not None and self.of_value.setdefault((key, written), name) != name:
            self._problem("doubled", f"{written!r} of {key}: {name}, {self.of_value[key, written]}")
        held = self._held.get(key, _Held(known=self._new_is_known))
        if held.known and before != held.value:
            self._problem("chain", f"{key} {name}: before {before!r}, after last was {held.value!r}")
        if event.get("superseded") and before != after:
            self._problem("chain", f"{key} {name} is superseded, but {before!r} became {after!r}")
        if at_us < held.timestamp_us and not event.get("late"):
            self._problem("reorder", f"{key} {name}: {at_us} after {held.timestamp_us}, not late")
        self._held[key] = _Held(after, max(held.timestamp_us, at_us), known=True)

    def _written(self, event: dict[str, Any], after: bytes | None) -> bytes | None:
        """What the event's write wrote: the image after it, unless newer was there: then nobody says."""
        return None if event.get("superseded") or event.get("late") else after

    def _problem(self, name: str, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            at_s = self._cluster.now_us / SECOND
            self.problems.append(Problem(name, f"{self.name} at {at_s:.3f} s: {text}"))

    # --- the end

    def misses(self, key: str) -> bool:
        """Whether the stream has said that something of this key may be missing: that is a problem here."""
        del key
        return False

    def value(self, key: str) -> bytes | None:
        """What this reader has of a key."""
        held = self._held.get(key)
        return None if held is None else held.value


class RealChangesWorkload(ChangesWorkload):
    """See the top of the file."""

    def _reader(self, name: str, start: str, peer: int = -1) -> Subscriber:
        session: Session = self.session
        table = f"{self.bucket.keyspace}.{self.bucket.name}"
        reader = RealSubscriber(session.cluster, door_of(session), table, name, start)
        reader.open(peer)
        return cast("Subscriber", reader)  # under whose names it has what is asked of it here

    def _ttl_s(self) -> int | None:
        return None

    def _lost(self, reader: Subscriber) -> list[Problem]:
        """What was acknowledged and not delivered; a superseded write shows by its timestamp alone."""
        mine = cast("RealSubscriber", reader)
        writes = self._writes(("put", "probe_write", "delete"), OK)
        lost = [op for op in writes if (op.key, op.result[0]) not in mine.stamps]
        return [Problem("lost", f"{reader.name} never got {op!r}") for op in lost[:5]]

    def _unlike(self, reader: Subscriber) -> list[Problem]:
        """Keys of which the reader's last image is not the row."""
        mine = cast("RealSubscriber", reader)
        wanted = {key: None if row is None else row.value for key, row in sorted(self.finals.items())}
        return [
            Problem("unlike", f"{reader.name} has {mine.value(key)!r} of {key}, the row {value!r}")
            for key, value in wanted.items()
            if mine.value(key) != value
        ][:5]


def value_of(image: dict[str, Any] | None) -> bytes | None:
    """The value in an image of a bucket's row: those that are written here are text."""
    return None if image is None else str(image["value"]).encode()
