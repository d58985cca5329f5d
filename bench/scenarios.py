"""What is measured of a real cluster, one function per scenario; each returns what it found as plain data.

Three peers and the load share this machine, so a figure says what the machine does in all, not what one peer
could do. Processor time is counted from /proc over the seconds of the load, per peer and for the load itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from bench.cql_load import run_cql_load, run_statements
from bench.load import Figures, request_bytes, run_load
from bench.peers import Peers, Process

VALUE_BYTES: Final = 1024
MIB: Final = 1024 * 1024
STOPPED_S, RUNNING_S = 1.0, 0.05
"""A slow peer stands still for a second, runs for a moment, and so on: it answers after up to a second."""


class Loaded(msgspec.Struct, kw_only=True):
    """A load's figures, beside what they cost. Processor time in percent of one core."""

    figures: Figures
    cpu_percent: dict[str, float]
    memory_mib: dict[str, int]
    first_failure: str = ""


class Failed(Exception):
    """A load did not do what it was to do."""


def places(peers: Peers) -> list[tuple[str, int]]:
    """Where the REST ports are."""
    return [(peer.address, peer.rest) for peer in peers.peers]


async def writes(peers: Peers, count: int, connections: int) -> Loaded:
    """`count` PUTs of 1 KiB at QUORUM, each to a key of its own."""
    value = os.urandom(VALUE_BYTES)
    stamp = time.time_ns() // 1_000_000
    paths = (f"/v1/kv/bench/w{stamp}-{number:08d}?consistency=quorum" for number in range(count))
    return await loaded(peers, connections, (request_bytes("PUT", path, value) for path in paths))


async def reads(peers: Peers, count: int, connections: int, keys: int) -> Loaded:
    """`count` GETs at QUORUM over `keys` keys that were put before."""
    return await loaded(peers, connections, await _reads(peers, count, keys))


async def _reads(peers: Peers, count: int, keys: int) -> Iterator[bytes]:
    """Put the keys, and make the requests that read them, in an order of no meaning."""
    value = os.urandom(VALUE_BYTES)
    await put_all(peers, [(f"/v1/kv/bench/r{number:08d}", value) for number in range(keys)])
    made = [request_bytes("GET", f"/v1/kv/bench/r{number:08d}?consistency=quorum") for number in range(keys)]
    return (made[number * 7919 % keys] for number in range(count))


async def put_all(peers: Peers, items: Iterable[tuple[str, bytes]]) -> None:
    """Put values at paths. Raises `Failed`."""
    requests = (request_bytes("PUT", path, value) for path, value in items)
    figures, failure = await run_load(places(peers), 8, requests)
    if figures.failed:
        raise Failed(f"{figures.failed} puts failed, the first: {failure[:600]!r}")


async def bulk(peers: Peers, count: int, connections: int, lines: int) -> Loaded:
    """`count` puts of 1 KiB through `_bulk`, `lines` per request; latencies are those of whole requests."""
    value = os.urandom(VALUE_BYTES // 2).hex()
    stamp = time.time_ns() // 1_000_000
    good = b'"status":20'

    def request(first: int) -> bytes:
        keys = range(first, first + lines)
        puts = (f'{{"op":"put","key":"b{stamp}-{n:08d}","value":"{value}"}}\n' for n in keys)
        return request_bytes("POST", "/v1/kv/bench/_bulk?consistency=quorum", "".join(puts).encode())

    def judge(answer: bytes) -> bool:
        return answer.replace(b" ", b"").count(good) == lines

    requests = (request(first) for first in range(0, count, lines))
    found = await loaded(peers, connections, requests, judge)
    found.figures.operations *= lines
    found.figures.per_s = round(found.figures.per_s * lines, 1)
    return found


def cql_table(factor: int) -> tuple[str, ...]:
    """The table of the CQL loads, replicated so often."""
    replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
    return (
        f"CREATE KEYSPACE IF NOT EXISTS bench WITH replication = {replication}",
        "CREATE TABLE IF NOT EXISTS bench.plain (k text PRIMARY KEY, v blob)",
    )


def cql_places(peers: Peers) -> list[tuple[str, int]]:
    """Where CQL is spoken."""
    return [(peer.address, peers.cql) for peer in peers.peers]


async def cql_writes(
    peers: Peers, count: int, in_flight: int, *, first: int = 0, per_s: float = 0
) -> Loaded:
    """Prepared INSERTs of 1 KiB, so many in flight on one connection to each peer (or so many per second):
    of the rows from number `first` on, which are new where no load before has written them.
    """
    await run_statements(*cql_places(peers)[0], cql_table(min(3, len(peers.peers))))
    await asyncio.sleep(1)  # until the table is known everywhere; a statement is prepared per peer
    value = os.urandom(VALUE_BYTES)
    insert = "INSERT INTO bench.plain (k, v) VALUES (?, ?)"

    def values(n: int) -> tuple[bytes, ...]:
        return b"c%08d" % (first + n), value

    places = cql_places(peers)
    return await measured(peers, lambda: run_cql_load(places, in_flight, insert, values, count, per_s=per_s))


async def cql_reads(peers: Peers, count: int, in_flight: int, keys: int, per_s: float = 0) -> Loaded:
    """Prepared SELECTs by primary key of rows that `cql_writes` has written."""
    select = "SELECT v FROM bench.plain WHERE k = ?"

    def values(n: int) -> tuple[bytes, ...]:
        return (b"c%08d" % (n % keys),)

    places = cql_places(peers)
    return await measured(peers, lambda: run_cql_load(places, in_flight, select, values, count, per_s=per_s))


async def loaded(
    peers: Peers,
    connections: int,
    requests: Iterator[bytes],
    judge: Callable[[bytes], bool] | None = None,
) -> Loaded:
    """Run an HTTP load and count what it costs."""
    return await measured(peers, lambda: run_load(places(peers), connections, requests, judge))


async def measured(peers: Peers, load: Callable[[], Awaitable[tuple[Figures, bytes]]]) -> Loaded:
    """Run a load and count what it costs. Raises `Failed` if over one answer of a hundred is no success."""
    before = {peer.name: peer.cpu_s() for peer in peers.peers}
    own = time.process_time()
    began = time.perf_counter()
    figures, failure = await load()
    seconds = time.perf_counter() - began
    cpu = {peer.name: round(100 * (peer.cpu_s() - before[peer.name]) / seconds, 1) for peer in peers.peers}
    cpu["load"] = round(100 * (time.process_time() - own) / seconds, 1)
    if figures.failed > figures.operations / 100:
        raise Failed(f"{figures.failed} of {figures.operations} failed, the first: {failure[:600]!r}")
    memory = {peer.name: peer.memory_bytes() // MIB for peer in peers.peers}
    text = failure.decode("latin-1")
    return Loaded(figures=figures, cpu_percent=cpu, memory_mib=memory, first_failure=text)


def idle_memory(peers: Peers) -> dict[str, int]:
    """MiB of resident memory per peer."""
    return {peer.name: peer.memory_bytes() // MIB for peer in peers.peers}


async def big_read(peers: Peers, sent_bytes: Callable[[Process], float]) -> dict[str, Any]:
    """Bytes that all peers together sent to each other for one QUORUM read of a value of 1 MiB.

    What they say to each other at rest is measured as long and taken off; the median of five reads, which
    go through each peer in turn.
    """
    value = os.urandom(MIB)
    figures, failure = await _once(peers.peers[0], request_bytes("PUT", "/v1/kv/bench/big", value))
    if figures.failed:
        raise Failed(f"the value of 1 MiB was not put: {failure!r}")
    await asyncio.sleep(1.0)  # the third replica's copy is on its way
    found = []
    for index in range(5):
        peer = peers.peers[index % len(peers.peers)]
        start = sum(map(sent_bytes, peers.peers))
        await asyncio.sleep(0.3)
        rest = sum(map(sent_bytes, peers.peers)) - start
        start = sum(map(sent_bytes, peers.peers))
        began = time.perf_counter()
        await _once(peer, request_bytes("GET", "/v1/kv/bench/big?consistency=quorum"))
        await asyncio.sleep(max(0.0, 0.3 - (time.perf_counter() - began)))
        found.append(sum(map(sent_bytes, peers.peers)) - start - rest)
    return {"mib_each": [round(item / MIB, 3) for item in found], "mib_worst": round(max(found) / MIB, 3)}


async def _once(peer: Process, request: bytes) -> tuple[Figures, bytes]:
    return await run_load([(peer.address, peer.rest)], 1, iter([request]))


async def slow_replica(peers: Peers, count: int, keys: int) -> dict[str, Any]:
    """QUORUM reads through two peers while the third answers after up to a second."""
    requests = await _reads(peers, count, keys)
    with standing_still(peers.peers[-1]):
        figures, failure = await run_load(places(peers)[:-1], 4, requests)
    return {**msgspec.to_builtins(figures), "first_failure": failure.decode("latin-1")}


@contextlib.contextmanager
def standing_still(peer: Process) -> Iterator[None]:
    """The peer stops and goes on, again and again."""
    loop = asyncio.get_running_loop()

    async def turns() -> None:
        while True:
            peer.signal(signal.SIGSTOP)
            await asyncio.sleep(STOPPED_S)
            peer.signal(signal.SIGCONT)
            await asyncio.sleep(RUNNING_S)

    task = loop.create_task(turns())
    try:
        yield
    finally:
        task.cancel()
        peer.signal(signal.SIGCONT)


def machine() -> dict[str, Any]:
    """What these figures were measured on."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    load = os.getloadavg()
    return {"processor": model, "cores": os.cpu_count(), "load_before": [round(x, 2) for x in load]}


def as_json(found: Any) -> str:
    """What was found, for a file."""
    return json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False)
