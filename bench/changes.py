"""What a change stream costs, and how soon it tells: three real peers, and a subscriber at the first of them.

- *Latency*: writes of 1 KiB at QUORUM at a given rate, spread over the peers; from the moment in which a
  write's acknowledgement is here to the moment in which its event is (0 if the event was here first).
- *Reading*: one subscriber reads from the start what was written before.
- *Cost*: the same load of writes to a bucket that keeps no changes and to one that keeps both images, in
  turns; processor time of all peers per write, and writes per second.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from bench.load import Figures, figures_of, request_bytes
from bench.peers import Peers, Process
from bench.scenarios import Failed, Loaded, loaded

VALUE_BYTES: Final = 1024
WRITERS: Final = 16
"""Connections to each peer, with one write at a time on each."""

PACE_S: Final = 0.001
SETTLE_S: Final = 5.0
LINE_BYTES_MAX: Final = 2**26

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def make_bucket(peers: Peers, name: str, changes: str) -> None:
    """A bucket that all peers know."""
    body = json.dumps({"changes": changes}).encode()
    for peer in peers.peers:
        connection = await asyncio.open_connection(peer.address, peer.rest)
        deadline_s = time.monotonic() + 10
        while await _answered(connection, request_bytes("PUT", f"/v1/buckets/{name}", body)) >= 300:
            if time.monotonic() > deadline_s:
                raise Failed(f"the bucket {name} could not be made at {peer.name}")
            await asyncio.sleep(0.05)
        connection[1].close()


async def _answered(connection: Connection, request: bytes) -> int:
    """Ask on a kept connection; the status. The body is read, and forgotten."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    return int(head.split(b" ", 2)[1])


class Subscriber:
    """Reads a stream, and notes when each key's event was here."""

    def __init__(self, peer: Process, target: str) -> None:
        self._peer = peer
        self._target = target
        self.seen_s: dict[str, float] = {}
        self.events = 0
        self.opened = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def stop(self) -> None:
        """No more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        reader, writer = await asyncio.open_connection(
            self._peer.address, self._peer.rest, limit=LINE_BYTES_MAX
        )
        writer.write(request_bytes("GET", self._target))
        held = b""
        try:
            while data := await reader.read(2**20):
                now_s = time.perf_counter()
                *lines, held = (held + data).split(b"\n")
                for line in lines:
                    if line.startswith(b'{"type":"event"'):
                        at = line.index(b'"key":"') + 7
                        self.seen_s.setdefault(line[at : line.index(b'"', at)].decode(), now_s)
                        self.events += 1
                    elif line.startswith(b'{"type":"heartbeat"'):
                        self.opened.set()
        finally:
            writer.close()


class _Writer(asyncio.Protocol):
    """A kept connection for writes, which are answered without a body; free again after each answer."""

    def __init__(self, done: Callable[[_Writer, str, bool], None]) -> None:
        self._done = done
        self._held = b""
        self._key = ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def put(self, key: str, value: bytes) -> None:
        """Write one value."""
        assert self._transport is not None
        self._key = key
        self._transport.write(request_bytes("PUT", f"/v1/kv/changed/{key}", value))

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._held.endswith(b"\r\n\r\n"):
            is_done, self._held = self._held[9:12] == b"204", b""
            self._done(self, self._key, is_done)

    def close(self) -> None:
        """End."""
        assert self._transport is not None
        self._transport.close()


async def _write_paced(peers: Peers, keys: Sequence[str], per_s: float) -> dict[str, float]:
    """Write these keys at this rate through all peers; when each was acknowledged. One that is due while all
    connections wait for an answer goes as soon as one is free.
    """
    loop, value = asyncio.get_running_loop(), os.urandom(VALUE_BYTES)
    acked_s: dict[str, float] = {}
    free: deque[_Writer] = deque()
    answered = 0

    def done(writer: _Writer, key: str, is_done: bool) -> None:
        nonlocal answered
        answered += 1
        if is_done:
            acked_s[key] = time.perf_counter()
        free.append(writer)

    for _ in range(WRITERS):
        for peer in peers.peers:
            _, writer = await loop.create_connection(lambda: _Writer(done), peer.address, peer.rest)
            free.append(writer)
    began_s, sent = time.perf_counter(), 0
    while sent < len(keys):
        due = min(len(keys), int((time.perf_counter() - began_s) * per_s) + 1)
        while sent < due and free:
            free.popleft().put(keys[sent], value)
            sent += 1
        await asyncio.sleep(PACE_S)
    await _until(lambda: answered == len(keys), SETTLE_S)
    for writer in free:
        writer.close()
    return acked_s


async def _until(predicate: Callable[[], bool], timeout_s: float) -> None:
    """Wait until it holds, or for so long."""
    until_s = time.perf_counter() + timeout_s
    while not predicate() and time.perf_counter() < until_s:  # noqa: ASYNC110 - a figure to the hundredth
        await asyncio.sleep(0.01)


async def latency(peers: Peers, count: int, per_s: float) -> Loaded:
    """From acknowledged to received, at this rate."""
    await make_bucket(peers, "changed", "new_and_old")
    subscriber = Subscriber(peers.peers[0], "/v1/changes/kv.changed")
    subscriber.start()
    await asyncio.wait_for(subscriber.opened.wait(), 10)
    stamp = time.time_ns()
    cpu_s = {peer.name: peer.cpu_s() for peer in peers.peers}
    began_s, own_s = time.perf_counter(), time.process_time()
    acked_s = await _write_paced(peers, [f"{stamp}-{number}" for number in range(count)], per_s)
    seconds = time.perf_counter() - began_s
    cpu = {peer.name: 100 * (peer.cpu_s() - cpu_s[peer.name]) / seconds for peer in peers.peers}
    cpu["load"] = 100 * (time.process_time() - own_s) / seconds
    await _until(lambda: len(subscriber.seen_s) >= len(acked_s), SETTLE_S)
    await subscriber.stop()
    lost = [key for key in acked_s if key not in subscriber.seen_s]
    if lost or not acked_s:
        raise Failed(f"{len(lost)} of {len(acked_s)} acknowledged writes were not in the stream")
    waits_s = [max(0.0, subscriber.seen_s[key] - at_s) for key, at_s in acked_s.items()]
    figures = figures_of(waits_s, seconds, count - len(acked_s))
    return Loaded(figures=figures, cpu_percent={n: round(c, 1) for n, c in cpu.items()}, memory_mib={})


async def reading(peers: Peers, count: int) -> dict[str, float]:
    """One subscriber from the start, of what was written by `_bulk`: events per second."""
    await make_bucket(peers, "read", "new")
    value = os.urandom(VALUE_BYTES // 4).hex()
    lines = [json.dumps({"op": "put", "key": f"k{number}", "value": value}) for number in range(count)]
    connection = await asyncio.open_connection(peers.peers[1].address, peers.peers[1].rest)
    for at in range(0, count, 500):
        body = "\n".join(lines[at : at + 500]).encode()
        request = request_bytes("POST", "/v1/kv/read/_bulk", body)
        request = request.replace(b"application/octet-stream", b"application/x-ndjson")
        if await _bulked(connection, request) != 200:
            raise Failed("what is to be read could not be written")
    connection[1].close()
    await asyncio.sleep(1.0)
    peer = peers.peers[0]
    cpu_s, began_s = {each.name: each.cpu_s() for each in peers.peers}, time.perf_counter()
    subscriber = Subscriber(peer, f"/v1/changes/kv.read?from=start&limit={count}")
    subscriber.start()
    await _until(lambda: subscriber.events >= count, 60.0)
    seconds = time.perf_counter() - began_s
    await subscriber.stop()
    if subscriber.events < count:
        raise Failed(f"{subscriber.events} of {count} events in {seconds:.0f} s")
    used_s = sum(each.cpu_s() - cpu_s[each.name] for each in peers.peers)
    return {
        "events_per_s": round(count / seconds),
        "us_of_all_peers_per_event": round(1e6 * used_s / count, 1),
    }


async def _bulked(connection: Connection, request: bytes) -> int:
    """Ask `_bulk`, whose answer comes in chunks."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)
    return int(head.split(b" ", 2)[1])


async def cost(peers: Peers, count: int, rounds: int = 3) -> dict[str, Any]:
    """What keeping changes adds to a write, in per cent: of processor time, and of writes per second."""
    kinds = ("none", "keys", "new_and_old")
    for kind in kinds:
        await make_bucket(peers, f"cost_{kind}", kind)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    value = os.urandom(VALUE_BYTES)
    for turn in range(rounds):
        for kind in kinds:
            paths = (f"/v1/kv/cost_{kind}/{turn}-{number % 2000}" for number in range(count))
            requests = (request_bytes("PUT", path, value) for path in paths)
            measured = await loaded(peers, 8, requests)
            used = sum(share for name, share in measured.cpu_percent.items() if name != "load")
            found[kind].append((used * 1e4 / measured.figures.per_s, measured.figures.per_s))
    us = {kind: min(pair[0] for pair in pairs) for kind, pairs in found.items()}
    rate = {kind: max(pair[1] for pair in pairs) for kind, pairs in found.items()}
    return {
        kind: {
            "us_of_all_peers_per_write": round(us[kind], 1),
            "writes_per_s": round(rate[kind]),
            "more_processor_time_percent": round(100 * (us[kind] / us["none"] - 1), 1),
            "fewer_writes_percent": round(100 * (1 - rate[kind] / rate["none"]), 1),
        }
        for kind in kinds
    }


def told(latencies: Figures) -> str:
    """The latency beside what is wanted."""
    p50, p99 = f"p50 {latencies.p50_ms} ms (wanted 5)", f"p99 {latencies.p99_ms} ms (wanted 25)"
    return f"acknowledged to received: {p50}, {p99}"
