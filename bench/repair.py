"""A replica that missed rows is made equal: how soon, and what is sent for it.

    python -m bench --only repair

200,000 rows lie on three peers. One of them is stopped, and every hundredth row is taken from its database,
together with what its hash tree says of it: as if it had never held them. No hint is kept and no log tells of
it, since it has followed them: only the hash trees differ. Then it is started. What counts is the time from
then until it holds all rows again, the time until it says so itself, and the bytes that it was sent for it,
beside what peers send each other anyway.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from bench.peers import Peers, Process
from lsm.hash_tree import HashTree, leaf_of, record_hash
from lsm.keys import successor, table_prefix, token_of
from lsm.rocks import RocksEngine

ROWS: Final = 200_000
EVERY: Final = 100
VALUE: Final = "a row that is neither large nor small, as rows of orders and films are: "
LINES_PER_REQUEST: Final = 5_000
BUCKET: Final = "repair"
PATIENCE_S: Final = 120.0
QUIET_S: Final = 5.0
RECEIVED: Final = "sullae_peer_bytes_received_total"
LAG: Final = "following_lag_entries"
SAVED_S: Final = 12.0
"""How far logs were followed is noted every few seconds: else it would be asked once more."""

SETTINGS: Final = {"hinted_handoff": "false"}


async def measure(peers: Peers, rows: int = ROWS) -> dict[str, Any]:
    """Load, take away, start, wait; seconds and bytes."""
    victim = peers.peers[-1]
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await _load(session, peers, rows)
        table = await _table(session, peers.peers[0])
        await _until_equal(session, victim, 0.0)
        await _until_followed(victim)  # else it would do so now, beside
        await asyncio.sleep(SAVED_S)
        peers.stop(victim.name)
        taken, size = take_rows(victim.data, table, EVERY)
        began = time.monotonic()
        peers.start(victim.name)
        peers.wait_ready(victim.name)
        ready_s = time.monotonic() - began
        lacking = list(taken)
        while lacking and time.monotonic() - began < PATIENCE_S:
            lacking = await _lacking(session, victim, lacking)
        whole_s = time.monotonic() - began
        told_s = await _until_equal(session, victim, began)
        spent_s, received = time.monotonic() - began, _received(victim)
        await asyncio.sleep(QUIET_S)
        idle = (_received(victim) - received) / QUIET_S
    return {
        "rows": rows,
        "rows missing": len(taken),
        "ready after s": round(ready_s, 2),
        "all rows there after s": None if lacking else round(whole_s, 2),
        "proven equal after s": round(told_s, 2),
        "bytes of the missing rows": size,
        "bytes received since the start": received,
        "of which as many as when nothing happens": round(idle * spent_s),
    }


def take_rows(folder: Path, table: int, every: int) -> tuple[list[str], int]:
    """Every so many-th row of a table, from a stopped peer's database: their names, and bytes."""
    engine = RocksEngine.open(folder, lambda: time.monotonic_ns() // 1_000, compact=False)
    try:
        tree = HashTree(engine)
        prefix = table_prefix(table)
        puts: list[tuple[bytes, bytes | None]] = []
        deltas: dict[int, int] = {}
        names, size = [], 0
        for number, (key, value) in enumerate(engine.scan(prefix, successor(prefix))):
            if number % every == 0:
                leaf = leaf_of(token_of(key))
                deltas[leaf] = deltas.get(leaf, 0) - record_hash(key, value)
                puts.append((key, None))
                names.append(key[key.rindex(b"k-") :][:9].decode())
                size += len(key) + len(value)
        tree.stage(table, deltas, puts)
        engine.write(puts)
        engine.sync()
    finally:
        engine.close()
    return names, size


async def _load(session: aiohttp.ClientSession, peers: Peers, rows: int) -> None:
    """Names are of one length."""
    starts = iter(range(0, rows, LINES_PER_REQUEST))

    async def stream(url: str) -> None:
        for first in starts:
            lines = [
                orjson.dumps({"op": "put", "key": f"k-{number:07d}", "value": f"{VALUE}{number}"})
                for number in range(first, min(rows, first + LINES_PER_REQUEST))
            ]
            await _put(session, f"{url}/v1/kv/{BUCKET}/_bulk", b"\n".join(lines))

    await asyncio.gather(*(stream(f"http://{peer.address}:{peer.rest}") for peer in peers.peers * 2))


async def _put(session: aiohttp.ClientSession, target: str, body: bytes) -> None:
    for _ in range(10):
        async with session.post(
            target, data=body, headers={"Content-Type": "application/x-ndjson"}
        ) as answer:
            outcomes = [orjson.loads(line) for line in (await answer.read()).splitlines()]
        if outcomes and all(outcome.get("status", 500) < 300 for outcome in outcomes):
            return
        await asyncio.sleep(0.5)
    raise RuntimeError("rows are not taken")


async def _table(session: aiohttp.ClientSession, peer: Process) -> int:
    async with session.get(f"http://{peer.address}:{peer.rest}/v1/admin/schema") as answer:
        tables = (await answer.json())["tables"]
    return next(int(table["id"]) for table in tables if table["name"] == f"kv.{BUCKET}")


async def _until_equal(session: aiohttp.ClientSession, peer: Process, since: float) -> float:
    """Until a peer has proven, after this moment, that it equals both siblings; how long that took since."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        async with session.get(f"http://{peer.address}:{peer.rest}/v1/admin/repair") as answer:
            proven = (await answer.json()).get("proven_equal_s", {})
        now = time.monotonic()
        ages = [tables.get(f"kv.{BUCKET}") for tables in proven.values()]
        if len(ages) == 2 and all(age is not None and now - age > since for age in ages):
            return now - since
        await asyncio.sleep(0.1)
    raise RuntimeError(f"not equal within {PATIENCE_S} s")


async def _until_followed(peer: Process) -> None:
    for _ in range(int(PATIENCE_S)):
        if not any(value for name, value in peer.metrics().items() if LAG in name):
            return
        await asyncio.sleep(1.0)
    raise RuntimeError("the siblings' logs are not followed")


async def _lacking(session: aiohttp.ClientSession, peer: Process, names: list[str]) -> list[str]:
    """Those of these rows that this peer does not hold; the first that it lacks ends the search."""
    for number, name in enumerate(names):
        url = f"http://{peer.address}:{peer.rest}/v1/kv/{BUCKET}/{name}"
        async with session.get(url, params={"consistency": "ONE"}) as answer:
            await answer.read()
            if answer.status != 200:
                await asyncio.sleep(0.02)
                return names[number:]
    return []


def _received(peer: Process) -> int:
    """What it was sent by other peers since its start."""
    return int(peer.metrics().get(RECEIVED, 0))
