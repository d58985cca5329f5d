"""Members of consumer groups: what they ask, what counts as done, and how they come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

import sullae
from tests.client.fake import Asked, Script, client, ok, peers, problem
from tests.client.test_changes import event, taken
from tests.process.cluster import Cluster


def assigned(*parts: int, ack: str = "a0") -> dict[str, Any]:
    about = {"group": "etl", "member": "m", "session": "s1", "generation": 1}
    return {"type": "assigned", "table": "docs.c", **about, "of": 16, "parts": list(parts), "ack": ack}


def heartbeat(ack: str) -> dict[str, Any]:
    return {"type": "heartbeat", "table": "docs.c", "time": "t", "cursor": "w", "ack": ack}


GONE = {"type": "error", "status": 404, "problem": "no-such-table", "detail": "gone"}


class Group:
    """What a peer is asked about a group, and its answers in turn."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.acknowledged: list[dict[str, Any]] = []
        self.heartbeats = 0
        self.refusals: list[web.Response] = []

    @property
    def script(self) -> Script:
        async def script(asked: Asked) -> web.Response | None:
            verb = asked.target.rpartition("/")[2]
            if verb == "ack":
                self.acknowledged.append(json.loads(asked.body))
                return (
                    self.refusals.pop(0) if self.refusals else ok({"acknowledged": [0], "refused": []}, 200)
                )
            if verb == "heartbeat":
                assert json.loads(asked.body) == {"session": "s1"}
                self.heartbeats += 1
                return ok()
            told = self.answers.pop(0) if self.answers else [assigned(), GONE]
            return web.Response(body=b"".join(json.dumps(line).encode() + b"\n" for line in told))

        return script


async def test_what_was_asked_beyond_is_acknowledged_with_the_heartbeat_after_it() -> None:
    group = Group([assigned(0, 1), event(1), event(2), heartbeat("a2"), event(3, cursor="c3")])
    async with peers(group.script) as [peer], client(peer) as db:
        stream = db.changes("docs.c", group="etl", start="start", limit=3)
        found = [(change.id, list(stream.parts), len(group.acknowledged)) async for change in stream]
        assert found == [("e1", [0, 1], 0), ("e2", [0, 1], 0), ("e3", [0, 1], 1)]
    assert group.acknowledged == [{"ack": "a2"}, {"ack": "a2", "cursor": "c3"}]
    asked = peer.asked[0].target
    assert asked.startswith("/v1/changes/docs.c?limit=3&group=etl&member=py-") and "from=start" in asked


async def test_a_change_on_which_the_program_fails_is_not_acknowledged_and_comes_again() -> None:
    group = Group(
        [assigned(0), event(1), event(2), heartbeat("a2")], [assigned(0), event(2), heartbeat("b2")]
    )
    async with peers(group.script) as [peer], client(peer) as db:
        stream = db.changes("docs.c", group="etl")
        with pytest.raises(RuntimeError):
            async for change in stream:
                if change.id == "e2":
                    raise RuntimeError("in the program")
        assert group.acknowledged == []
        with pytest.raises(sullae.NotFound):
            async for change in stream:
                assert change.id == "e2"
    assert group.acknowledged == [{"ack": "b2"}]


async def test_a_member_comes_back_under_its_name_and_leaves_out_what_it_gave() -> None:
    group = Group([assigned(0), event(1)], [assigned(0, ack="b0"), event(1), event(2), heartbeat("b2")])
    async with peers(group.script) as [peer], client(peer) as db:
        stream = db.changes("docs.c", group="etl")
        found: dict[str, None] = {}
        with pytest.raises(sullae.NotFound):
            async for change in stream:
                found[change.id] = None
    assert list(found) == ["e1", "e2"] and group.acknowledged == [{"ack": "b2"}]
    joined = [one.target for one in peer.asked if one.method == "GET"]
    assert len({target.partition("member=")[2].partition("&")[0] for target in joined}) == 1


async def test_by_hand_nothing_counts_before_it_is_said() -> None:
    group = Group(
        [assigned(0), event(1, cursor="c1"), heartbeat("a1"), event(2, cursor="c2"), event(3, cursor="c3")]
    )
    async with peers(group.script) as [peer], client(peer) as db:
        stream = db.changes("docs.c", group="etl", acknowledge="manual")
        async for change in stream:
            if change.id == "e3":
                assert group.acknowledged == []
                assert await stream.acknowledge()
                break
        assert group.acknowledged == [{"ack": "a1", "cursor": "c2,c3"}]
        group.refusals = [problem("group-fenced", 409)]
        assert not await stream.acknowledge(), "somebody else has these parts"
    with pytest.raises(ValueError):
        await db.changes("docs.c").acknowledge()
    with pytest.raises(ValueError):
        db.changes("docs.c", member="m")


async def test_who_lost_a_name_that_the_program_gave_says_so_and_others_join_again() -> None:
    fenced = {"type": "error", "status": 409, "problem": "group-fenced", "detail": "another took your place"}
    group = Group([assigned(0), fenced])
    async with peers(group.script) as [peer], client(peer) as db:
        with pytest.raises(sullae.Conflict):
            await taken(db.changes("docs.c", group="etl", member="mine"), 1)
        group.answers = [[assigned(0), fenced], [assigned(0), event(1)]]
        assert [change.id for change in await taken(db.changes("docs.c", group="etl"), 1)] == ["e1"]


async def test_a_program_that_works_for_long_stays_a_member() -> None:
    group = Group([assigned(0), event(1), event(2)])
    async with peers(group.script) as [peer], client(peer) as db:
        async for change in db.changes("docs.c", group="etl", session_s=0.03, limit=2):
            if change.id == "e1":
                async with asyncio.timeout(5):
                    while group.heartbeats < 2:
                        await asyncio.sleep(0.001)
        assert "session=0.03" in peer.asked[0].target


# --- a real cluster


@pytest.fixture
async def db(urls: str) -> AsyncIterator[sullae.Database]:
    async with sullae.connect(urls) as db:
        yield db


class Reader:
    """A member that notes what it reads."""

    def __init__(self, db: sullae.Database, seen: dict[str, list[int]], number: int) -> None:
        self.number = number
        self.stream = db.changes("docs.grouped", group="etl", start="start")
        self._seen = seen
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for change in self.stream:
            self._seen.setdefault(change.key, []).append(self.number)


@pytest.mark.process
@pytest.mark.slow
async def test_three_members_share_a_table_while_one_ends_and_a_peer_is_killed(
    cluster: Cluster, db: sullae.Database
) -> None:
    await db.collection("grouped").configure(changes="new")
    seen: dict[str, list[int]] = {}
    written: set[str] = set()

    async def write(count: int) -> None:
        for _ in range(count):
            name = f"d{len(written)}"
            await db.collection("grouped").put(name, {"n": len(written)})
            written.add(name)

    async def all_seen() -> None:
        async with asyncio.timeout(30):
            while not written <= seen.keys():
                assert not any(reader.task.done() for reader in readers), [r.task for r in readers]
                await asyncio.sleep(0.01)

    readers = [Reader(db, seen, number) for number in range(3)]
    async with asyncio.timeout(20):
        while not all(reader.stream.parts for reader in readers):
            await asyncio.sleep(0.01)
    assert sorted(part for reader in readers for part in reader.stream.parts) == list(range(16))
    await write(60)
    await all_seen()
    assert {number for by in seen.values() for number in by} == {0, 1, 2}, "each has read something"
    ended = readers.pop(0)
    ended.task.cancel()
    await asyncio.gather(ended.task, return_exceptions=True)
    await write(30)
    await all_seen()
    await asyncio.to_thread(cluster.kill, "n3")
    readers.append(Reader(db, seen, 3))
    await write(60)
    await all_seen()
    for reader in readers:
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
    repeated = sum(len(by) > 1 for by in seen.values())
    assert repeated < len(written) // 2, f"{repeated} of {len(written)} were read twice"
