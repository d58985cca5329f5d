"""A queue: a million items of one partition, written, deleted one by one, and then its head is read.

    python -m bench --only queue

Every deletion leaves a tombstone, and a reader of the head has to pass all that are left, but for what is
over (node/floors.py) or summed up (lsm/passing.py). So figures are taken of a queue in use, to which so many
items come per second and from which as many go; and of one from which a million are deleted as fast as they
can be: meanwhile, right after it, and when all that is over.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any, Final

import aiohttp
import orjson

from bench.peers import Peers

ITEMS: Final = 1_000_000
LINES_PER_REQUEST: Final = 5_000
STREAMS: Final = 6
HEAD_READS: Final = 50
CAUGHT_UP_MS: Final = 5.0
CATCH_UP_S: Final = 600.0
BUCKET: Final = "queue"
STEADY: Final = "steady"
STEADY_PER_S: Final = 200
STEADY_DEPTH: Final = 200
STEADY_S: Final = 30.0
PAUSE_S: Final = 0.05


async def measure(peers: Peers, items: int = ITEMS) -> dict[str, Any]:
    """Write, delete, read; figures in milliseconds and seconds."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        urls = [f"http://{peer.address}:{peer.rest}" for peer in peers.peers]
        for name in (BUCKET, STEADY):
            async with session.put(f"{urls[0]}/v1/buckets/{name}", json={"ordered": True}) as answer:
                answer.raise_for_status()
        in_use = await _in_use(session, urls)
        began = time.monotonic()
        await _all(session, urls, "put", items)
        written_s = time.monotonic() - began
        began = time.monotonic()
        deleting = asyncio.create_task(_all(session, urls, "delete", items))
        during: list[float] = []
        while not deleting.done():
            during.append(await _head_ms(session, urls[0]))
            await asyncio.sleep(0.25)
        await deleting
        deleted_s = time.monotonic() - began
        began = time.monotonic()
        first_ms = await _head_ms(session, urls[0])
        latest: list[float] = []
        while time.monotonic() - began < CATCH_UP_S:
            latest = [await _head_ms(session, urls[0]) for _ in range(HEAD_READS)]
            if statistics.median(latest) < CAUGHT_UP_MS:
                break
            await asyncio.sleep(1.0)
        caught_up_s = time.monotonic() - began
    return {
        f"head of a queue in use, {STEADY_PER_S} items/s, p50 ms": round(statistics.median(in_use), 2),
        f"head of a queue in use, {STEADY_PER_S} items/s, p99 ms": round(
            sorted(in_use)[-len(in_use) // 100], 2
        ),
        "items": items,
        "writes per second": round(items / written_s),
        "deletions per second": round(items / deleted_s),
        "head while deleting, p50 ms": round(statistics.median(during), 2) if during else None,
        "head while deleting, worst ms": round(max(during), 2) if during else None,
        "head right after the last deletion, ms": round(first_ms, 2),
        "head once purged, p50 ms": round(statistics.median(latest), 2),
        "head once purged, worst ms": round(max(latest), 2),
        "purged after s": round(caught_up_s, 1),
    }


async def _in_use(session: aiohttp.ClientSession, urls: list[str]) -> list[float]:
    """Milliseconds that reads of the head took, while items came and went."""
    took: list[float] = []
    began = time.monotonic()

    async def one(method: str, number: int) -> None:
        target = f"{urls[number % len(urls)]}/v1/kv/{STEADY}/{number:012d}"
        async with session.request(method, target, data=b"an item" if method == "PUT" else None) as answer:
            answer.raise_for_status()

    async def come_and_go() -> None:
        async with asyncio.TaskGroup() as under_way:
            for number in range(int(STEADY_S * STEADY_PER_S)):
                for method, item in (("PUT", number), ("DELETE", number - STEADY_DEPTH)):
                    if item >= 0:
                        under_way.create_task(one(method, item))
                await asyncio.sleep(max(0.0, began + number / STEADY_PER_S - time.monotonic()))

    using = asyncio.create_task(come_and_go())
    while not using.done():
        took.append(await _head_ms(session, urls[0], STEADY))
        await asyncio.sleep(PAUSE_S)
    await using
    return took


async def _all(session: aiohttp.ClientSession, urls: list[str], operation: str, items: int) -> None:
    """Every item once, in order, in as many streams as there are."""
    starts = iter(range(0, items, LINES_PER_REQUEST))

    async def stream(number: int) -> None:
        for first in starts:
            last = min(items, first + LINES_PER_REQUEST)
            await _bulk(session, urls[number % len(urls)], operation, range(first, last))

    await asyncio.gather(*(stream(number) for number in range(STREAMS)))


async def _bulk(session: aiohttp.ClientSession, url: str, operation: str, numbers: range) -> None:
    rows: list[dict[str, Any]] = [{"op": operation, "key": f"{number:012d}"} for number in numbers]
    if operation == "put":
        for row in rows:
            row["value"] = "an item of the queue"
    body = b"\n".join(orjson.dumps(row) for row in rows)
    headers = {"Content-Type": "application/x-ndjson"}
    target = f"{url}/v1/kv/{BUCKET}/_bulk"
    async with session.post(target, data=body, headers=headers) as answer:
        outcomes = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    failed = [outcome for outcome in outcomes if outcome.get("status", 500) >= 300]
    if failed or len(outcomes) != len(rows):  # what was shed is done again, what was done changes nothing
        await asyncio.sleep(0.2)
        await _bulk(session, url, operation, numbers)


async def _head_ms(session: aiohttp.ClientSession, url: str, bucket: str = BUCKET) -> float:
    """Read the first item of the queue, at QUORUM; what is not answered in time counts until it is."""
    began = time.perf_counter()
    while True:
        async with session.get(f"{url}/v1/kv/{bucket}", params={"limit": "1"}) as answer:
            await answer.read()
        if answer.status < 300:
            return (time.perf_counter() - began) * 1000
