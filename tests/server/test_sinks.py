"""Sinks against a store and a stream in memory, with owners that end at random points."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from server.sinks import running
from server.sinks.files import REFUSED, FileSink
from server.sinks.records import BUCKET, SinkRecord, SinkRecords
from server.sinks.running import Sinks, Terms

EVENTS = 400
FAST = Terms(poll_s=0.01, expiry_s=0.15)


def event(number: int) -> dict[str, Any]:
    day = 29 + number * 3 // EVENTS
    return {
        "type": "event", "id": f"1-{number:x}-0", "table": "docs.m", "op": "insert", "key": f"k{number}",
        "after": {"n": number}, "changed": ["/n"], "timestamp_us": number, "epoch": 1,
        "time": f"2026-01-{day}T12:00:00.5Z", "cursor": "part",
    }  # fmt: skip


class World:
    """One bucket with conditional updates, and a stream of `EVENTS` events with cursors that are numbers."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.values: dict[str, tuple[bytes, int]] = {}
        self.version = 0
        self.trouble = 0.0
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/v1/changes/"):
            return await self.stream(request)
        name = request.path.removeprefix(f"/v1/kv/{BUCKET}").removeprefix("/")
        body = await request.read()
        if not name:
            lines = [{"key": key} for key in sorted(self.values)] + [{"cursor": None}]
            return web.Response(body=b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        if self.chance.random() < self.trouble / 2:
            return web.Response(status=503)
        answer = self.keep(request, name, body)
        # Done, and yet not known to be.
        return web.Response(status=504) if self.chance.random() < self.trouble / 2 else answer

    def keep(self, request: web.BaseRequest, name: str, body: bytes) -> web.Response:
        found = self.values.get(name)
        tag = f'"{found[1]}"' if found is not None else ""
        if request.method == "GET":
            assert request.query["consistency"] == "serial"
            return (
                web.Response(status=404)
                if found is None
                else web.Response(body=found[0], headers={"ETag": tag})
            )
        holds = request.headers["If-Match"] == tag if "If-Match" in request.headers else found is None
        if not holds:
            return web.Response(status=412)
        self.version += 1
        if request.method == "DELETE":
            del self.values[name]
        else:
            self.values[name] = body, self.version
        return web.Response(status=204)

    async def stream(self, request: web.BaseRequest) -> web.StreamResponse:
        at = int(request.query["from"].removeprefix("c")) if request.query["from"] != "start" else 0
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            lines: list[dict[str, Any]] = []
            for _ in range(self.chance.randrange(60)):
                if at < EVENTS:
                    lines.append(event(at))
                    at += 1
            lines.append({"type": "heartbeat", "time": "2026-01-31T12:00:00Z", "cursor": f"c{at}"})
            if self.chance.random() < self.trouble:
                lines = lines[: len(lines) // 2]  # the peer stops in the middle
                await response.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
                break
            await response.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            await asyncio.sleep(0.003)
        return response

    def record(self, name: str = "s") -> SinkRecord:
        import msgspec

        return msgspec.json.decode(self.values[name][0], type=SinkRecord)

    def add(self, kind: str, **more: Any) -> None:
        import msgspec

        record = SinkRecord(name="s", table="docs.m", kind=kind, start="start", every_s=0.0, **more)
        self.values["s"] = msgspec.json.encode(record), 0


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(world.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


async def die(sinks: Sinks) -> None:
    """End as a killed process does: in the middle, with nothing given back."""
    sinks._running = {name: (mark, _cancelled(task)) for name, (mark, task) in sinks._running.items()}
    names, sinks._running = list(sinks._running.values()), {}
    await asyncio.gather(*(task for _, task in names), return_exceptions=True)
    await sinks.stop()


def _cancelled(task: asyncio.Task[None]) -> asyncio.Task[None]:
    task.cancel()
    return task


def delivered(folder: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(folder.rglob(f"date=*/*.{kind}")):
        assert not path.name.startswith(".")
        if kind == "parquet":
            arrow = pytest.importorskip("pyarrow.parquet")
            rows = arrow.ParquetFile(path).read().to_pylist()
            found += [
                {**row, "after": json.loads(row["after"]), "time": row["time"].isoformat()} for row in rows
            ]
        else:
            found += [json.loads(line) for line in path.read_text().splitlines()]
        date = path.parent.name.removeprefix("date=")
        assert all(row["time"].startswith(date) for row in found[-1:])
    return found


async def until(condition: Any, timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
@pytest.mark.parametrize("seed", range(3))
async def test_killed_at_random_points_nothing_is_lost(
    tmp_path: Path, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BATCH_EVENTS", 25)
    monkeypatch.setattr(running, "PAUSES_S", (0.01,))
    world = World(seed)
    world.trouble = 0.05
    world.add(kind)
    chance = random.Random(seed)
    owners: set[str] = set()
    async with serving(world):
        for start in range(6):
            peer = f"n{chance.randrange(2)}"
            sinks = Sinks(world.url, f"{peer}/{start}", tmp_path / peer, lambda name, text: None, FAST)
            sinks.start()
            mine = f"{peer}/{start}"
            await until(
                lambda mine=mine: world.record().owner == mine or world.record().cursor == f"c{EVENTS}"
            )
            owners.add(world.record().owner)
            await asyncio.sleep(chance.random() * 0.03)
            await die(sinks)
        world.trouble = 0.0
        last = Sinks(world.url, "n0/last", tmp_path / "n0", lambda name, text: None, FAST)
        last.start()
        await until(lambda: world.record().owner == "n0/last")  # all may have been delivered before it came
        await until(lambda: world.record().cursor == f"c{EVENTS}")
        await last.stop()
    found = delivered(tmp_path, kind)
    unique = {row["id"]: row["after"]["n"] for row in found}
    assert unique == {event(number)["id"]: number for number in range(EVENTS)}
    assert world.record().owner == ""
    assert len(owners) > 1


async def test_two_peers_deliver_each_event_once_when_nothing_fails(tmp_path: Path) -> None:
    world = World(1)
    world.add("ndjson")
    async with serving(world):
        both = [
            Sinks(world.url, f"n{n}/1", tmp_path / f"n{n}", lambda name, text: None, Terms(0.01, 5.0))
            for n in range(2)
        ]
        for sinks in both:
            sinks.start()
        await until(lambda: world.record().cursor == f"c{EVENTS}")
        assert world.record().fence == 1 and world.record().delivered == EVENTS
        for sinks in both:
            await sinks.stop()
    found = delivered(tmp_path, "ndjson")
    assert [row["key"] for row in found] == [f"k{number}" for number in range(EVENTS)]


async def test_paused_changed_and_removed(tmp_path: Path) -> None:
    import msgspec

    world = World(1)
    world.add("ndjson", paused=True)
    async with serving(world):
        sinks = Sinks(world.url, "n1/1", tmp_path, lambda name, text: None, FAST)
        sinks.start()
        looked = world.chance.getstate()
        await until(lambda: world.chance.getstate() != looked)
        assert world.record().owner == "" and not list(tmp_path.rglob("*"))

        def going(record: SinkRecord) -> SinkRecord:
            return msgspec.structs.replace(record, paused=False, generation="2")

        await sinks.records.change("s", going)
        await until(lambda: world.record().delivered > 0)
        await sinks.records.change("s", lambda r: msgspec.structs.replace(r, paused=True, generation="3"))
        await until(lambda: world.record().owner == "" and not sinks._running)
        records: SinkRecords = sinks.records
        kept = await records.get("s")
        assert kept is not None and await records.swap(kept, None, "s")
        assert await records.names() == [] and await records.get("s") is None
        await sinks.stop()


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_a_batch_that_is_delivered_again_replaces_its_files(tmp_path: Path, kind: str) -> None:
    sink = FileSink(tmp_path, kind, fence=3)
    events = [event(number) for number in range(0, EVENTS, 40)]
    for _ in range(2):
        assert sink.deliver(7, 0, events) == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob(f"*.{kind}")) == [
        f"date=2026-01-{day}/00000007-0003-000.{kind}" for day in (29, 30, 31)
    ]
    assert len(delivered(tmp_path, kind)) == len(events)
    truncated = {
        "type": "event",
        "id": "e1-truncate",
        "op": "truncate",
        "key": None,
        "time": "0001-01-01T00:00:00Z",
    }
    assert sink.deliver(8, 0, [truncated, {"type": "event", "op": "insert"}]) == 1
    (line,) = (tmp_path / REFUSED).read_text().splitlines()
    assert json.loads(line)["why"] == "an event without an id"


NUMBERS = b'{"n":1e400,"many":[0.1234567890123456789012345,1.10,-0.0],"big":123456789012345678901234567890}'


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
async def test_numbers_are_delivered_as_they_are(tmp_path: Path, kind: str) -> None:
    """Also those that no float holds: a sink that cannot read one would stand there for ever."""

    class Exact(World):
        async def stream(self, request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            lines = json.dumps({**event(1), "after": "?"}).encode().replace(b'"?"', NUMBERS)
            beat = {"type": "heartbeat", "time": "2026-01-31T12:00:00Z", "cursor": f"c{EVENTS}"}
            await response.write(lines + b"\n" + json.dumps(beat).encode() + b"\n")
            await asyncio.sleep(1)
            return response

    world = Exact(1)
    world.add(kind)
    async with serving(world):
        sinks = Sinks(world.url, "n1/1", tmp_path, lambda name, text: None, FAST)
        sinks.start()
        await until(lambda: world.record().delivered)
        await sinks.stop()
    (path,) = tmp_path.rglob(f"date=*/*.{kind}")
    if kind == "parquet":
        arrow = pytest.importorskip("pyarrow.parquet")
        assert arrow.ParquetFile(path).read().to_pylist()[0]["after"].encode() == NUMBERS
    else:
        assert NUMBERS in path.read_bytes()


RECORD = {"name": "x", "table": "docs.m", "kind": "ndjson", "start": "start"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", b'{"name":"\xff"}'),
        ("x", b'{"a":' + b"[" * 5_000),
        ("x", json.dumps({**RECORD, "owner": "n1/1", "beat": 2**64 - 1}).encode()),
        ("x", json.dumps({**RECORD, "delivered_at": "soon"}).encode()),
        ("../x", json.dumps({**RECORD, "name": "../x"}).encode()),
        ("x", json.dumps({**RECORD, "name": "s"}).encode()),
    ],
)
async def test_a_value_that_is_no_record_of_a_sink_ends_nobody(
    tmp_path: Path, name: str, value: bytes
) -> None:
    """The bucket of records takes what a client puts there."""
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    world = World(1)
    world.values[name] = value, 0
    world.add("ndjson")
    async with serving(world):
        sinks = Sinks(world.url, "n1/1", tmp_path / "sinks", lambda name, text: None, FAST)
        sinks.start()
        await until(lambda: raised or world.record().cursor == f"c{EVENTS}")
        assert not raised
        assert list(sinks._running) == ["s"] and sinks.samples() is not None
        await sinks.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["sinks"]
