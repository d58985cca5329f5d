"""Sinks that cluster.yml declares: made once by whoever comes first, and what was said last counts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from core.requests import MetadataRequest
from kv.buckets import BucketSpec, create_bucket
from server.config import SinkConfig, parse_config
from server.rest.bodies import Budget
from server.rest.problems import ProblemError
from server.rest.sinks import SinksRoute
from server.sinks import declared
from server.sinks.declared import Declarations
from server.sinks.records import SinkRecords
from server.sinks.running import Sinks
from tests.server.fake_node import FakeNode
from tests.server.test_sinks import FAST, World, serving, until

FILMS = SinkConfig("films", {"table": "kv.films", "kind": "ndjson", "from": "start", "every_s": 1.0})


class Peer:
    """The sinks of one peer over the records of a world, and the doors to them."""

    def __init__(self, world: World, with_table: bool = True) -> None:
        self.world = world
        self.node = FakeNode()
        self.node.inside.clock = SimpleNamespace(now_us=lambda: 1_769_860_800_000_000)
        self.url = ""
        if with_table:
            self.make_table()

    def make_table(self) -> None:
        made = create_bucket(BucketSpec("films", changes="new"), self.node.state.members)
        assert isinstance(made, MetadataRequest)
        self.node.change(made.change)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        async with aiohttp.ClientSession() as session:
            sinks: Any = SimpleNamespace(records=SinkRecords(session, self.world.url), private=False)
            route = SinksRoute(self.node, sinks, Budget(1 << 20))  # type: ignore[arg-type]
            try:
                return await route.respond(request, request.path, "")
            except ProblemError as error:
                return error.response()

    async def ask(self, method: str, name: str = "", body: Any = None) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session:
            path = "/v1/sinks" + (f"/{name}" if name else "")
            async with session.request(method, self.url + path, json=body) as answer:
                said = await answer.read()
                return answer.status, json.loads(said) if said else None

    async def starts(self, *sinks: SinkConfig) -> list[str]:
        """A start with these declarations; what it noted."""
        noted: list[str] = []
        async with aiohttp.ClientSession() as session:
            await Declarations(session, self.url, sinks, lambda name, text: noted.append(text)).apply()
        return noted


@asynccontextmanager
async def peer_of(world: World, with_table: bool = True) -> AsyncIterator[Peer]:
    peer = Peer(world, with_table)
    runner = web.ServerRunner(web.Server(peer.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield peer
    finally:
        await runner.cleanup()


async def test_the_first_peer_makes_it_and_the_others_find_it() -> None:
    world = World(1)
    async with serving(world), peer_of(world) as one, peer_of(world) as two:
        assert await one.starts(FILMS) == [] and await two.starts(FILMS) == []
        record = world.record("films")
        assert (record.table, record.kind, record.start, record.every_s) == (
            "kv.films",
            "ndjson",
            "start",
            1.0,
        )
        generation = record.generation
        assert await one.starts(FILMS) == [] and world.record("films").generation == generation
        assert (await two.ask("GET", "films"))[1]["declared"] is True


async def test_what_was_said_last_counts() -> None:
    world = World(1)
    async with serving(world), peer_of(world) as peer:
        await peer.starts(FILMS)
        await peer.ask("PUT", "films", {"paused": True})
        await peer.starts(FILMS)
        assert world.record("films").paused, "the declaration is as it was"
        await peer.starts(SinkConfig("films", {**FILMS.wanted, "every_s": 7.0}))
        assert world.record("films").every_s == 7.0 and world.record("films").start == "start"
        assert (await peer.ask("DELETE", "films"))[0] == 204
        assert await peer.ask("GET") == (200, {"sinks": []}) and (await peer.ask("GET", "films"))[0] == 404
        await peer.starts(SinkConfig("films", {**FILMS.wanted, "every_s": 7.0}))
        assert (await peer.ask("GET", "films"))[0] == 404, "removed, and not declared anew"
        await peer.starts(FILMS)
        status, found = await peer.ask("GET", "films")
        assert status == 200 and found["every_s"] == 1.0 and found["cursor"] == ""


async def test_one_made_by_hand_is_gone_when_it_is_removed() -> None:
    world = World(1)
    async with serving(world), peer_of(world) as peer:
        assert (await peer.ask("PUT", "mine", dict(FILMS.wanted)))[0] == 201
        assert (await peer.ask("DELETE", "mine"))[0] == 204 and world.values == {}


async def test_a_declaration_waits_for_its_table_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "AGAIN_S", 0.0)
    world = World(1)
    noted: list[str] = []
    async with serving(world), peer_of(world, with_table=False) as peer, aiohttp.ClientSession() as session:
        waiting = Declarations(session, peer.url, [FILMS], lambda name, text: noted.append(text))
        await waiting.apply()
        await waiting.apply()
        assert len(noted) == 1 and "no-such-table" in noted[0] and world.values == {}
        peer.make_table()
        await waiting.apply()
        assert world.record("films").table == "kv.films"


async def test_a_removed_one_is_not_delivered(tmp_path: Path) -> None:
    world = World(1)
    world.add("ndjson", declared="hash", removed=True)
    async with serving(world):
        world.values["t"] = world.values["s"][0].replace(b'"s"', b'"t"').replace(b"true", b"false"), 0
        sinks = Sinks(world.url, "n1/1", tmp_path, lambda name, text: None, FAST)
        sinks.start()
        try:
            await until(lambda: world.record("t").cursor)  # which is looked at after the removed one
            await until(lambda: {labels["sink"] for _, labels, _ in sinks.samples()} == {"t"})
            assert world.record("s").owner == ""
        finally:
            await sinks.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


async def test_secrets_are_refused_unless_they_are_references() -> None:
    world = World(1)
    hook = {"table": "kv.films", "kind": "webhook", "url": "https://example.com/x", "secret": "hush"}
    async with serving(world), peer_of(world) as peer:
        status, said = await peer.ask("PUT", "hook", hook)
        assert (status, said["type"]) == (400, "bad-sink") and "env:SULLAE_SINK_NAME" in said["detail"]
        hook["secret"] = "env:SULLAE_SINK_HOOK"
        assert (await peer.ask("PUT", "hook", hook))[0] == 201
        assert (await peer.ask("PUT", "hook", {"kind": "kafka", "url": "kafka://h/t"}))[0] == 400
        assert (await peer.ask("PUT", "hook", {"mechanism": "NTLM"}))[0] == 400
        assert world.record("hook").kind == "webhook"


def test_the_file_says_it() -> None:
    config = parse_config(
        "cluster: c\npeers: [{name: a, address: 127.0.0.1}]\n"
        "settings: {sink_folder: files, sink_private_addresses: true}\n"
        "sinks:\n  - {name: bus, table: docs.m, kind: kafka, url: 'kafka://h/t', every: 500ms}\n",
        folder=Path("/somewhere"),
    )
    assert config.process.sink_folder == Path("/somewhere/files") and config.process.sink_secrets is None
    wanted = {"table": "docs.m", "kind": "kafka", "url": "kafka://h/t", "every_s": 0.5}
    assert config.sinks == (SinkConfig("bus", wanted),)
