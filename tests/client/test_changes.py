"""A stream of changes goes on across the deaths of peers, each event once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

import sullae
from tests.client.fake import Asked, Script, always, client, peers, problem
from tests.process.cluster import Cluster


def event(number: int, **more: Any) -> dict[str, Any]:
    about = {"id": f"e{number}", "table": "docs.c", "op": "insert", "key": f"k{number}"}
    return {"type": "event", **about, "after": {"n": number}, "timestamp_us": number, "cursor": "c", **more}


def heartbeat(cursor: str) -> dict[str, Any]:
    return {"type": "heartbeat", "table": "docs.c", "time": "t", "cursor": cursor}


def telling(*parts: list[dict[str, Any]]) -> Script:
    """One answer after the other, each ending after its lines."""
    left = list(parts)

    async def script(_: Asked) -> web.Response | None:
        told = left.pop(0) if left else [heartbeat("end")]
        return web.Response(body=b"".join(json.dumps(line).encode() + b"\n" for line in told))

    return script


async def taken(stream: sullae.ChangeStream, count: int) -> list[sullae.Change]:
    found: list[sullae.Change] = []
    async for change in stream:
        found.append(change)
        if len(found) == count:
            break
    return found


async def test_a_stream_goes_on_from_the_last_whole_cursor_and_leaves_out_what_it_gave() -> None:
    script = telling(
        [heartbeat("w0"), event(1), event(2)],
        [event(1), event(2), event(3), heartbeat("w3"), event(4)],
        [event(4), event(5)],
    )
    async with peers(script) as [peer], client(peer) as db:
        stream = db.changes("docs.c", start="start")
        assert [change.id for change in await taken(stream, 5)] == ["e1", "e2", "e3", "e4", "e5"]
        assert stream.cursor == "w3"
    asked = [one.target.partition("from=")[2] for one in peer.asked]
    assert asked == ["start", "w0", "w3"]
    assert peer.asked[0].target == "/v1/changes/docs.c?from=start"


async def test_who_keeps_images_gets_repeats_and_is_told_so() -> None:
    script = telling([event(1)], [event(1, after={"n": 9})])
    async with peers(script) as [peer], client(peer) as db:
        first, again = await taken(db.changes("docs.c", repeats=True), 2)
    assert (first.is_repeat, again.is_repeat) == (False, True)
    assert (first.after, again.after) == ({"n": 1}, {"n": 9})


async def test_rows_of_one_write_are_events_of_their_own() -> None:
    script = telling([event(1), event(1, key="other")])
    async with peers(script) as [peer], client(peer) as db:
        assert [change.key for change in await taken(db.changes("docs.c"), 2)] == ["k1", "other"]


async def test_what_is_lost_for_good_is_told() -> None:
    script = telling([{"type": "gap", "table": "docs.c", "time": "t", "ranges": [[1, 2]], "why": "late"}])
    async with peers(script) as [peer], client(peer) as db:
        [gap] = await taken(db.changes("docs.c"), 1)
    assert gap.operation == "gap" and gap.members["ranges"] == [[1, 2]]


async def test_the_end_that_a_peer_announces_is_not_the_streams() -> None:
    stopping = {"type": "error", "problem": "not-ready", "status": 503, "detail": "this peer is stopping"}
    script = telling([event(1), stopping], [event(2)])
    async with peers(script) as [peer], client(peer) as db:
        assert [change.id for change in await taken(db.changes("docs.c"), 2)] == ["e1", "e2"]


async def test_a_problem_in_the_middle_that_no_peer_can_mend_ends_it() -> None:
    dropped = {"type": "error", "problem": "no-such-table", "status": 404, "detail": "it was dropped"}
    async with peers(telling([event(1), dropped])) as [peer], client(peer) as db:
        with pytest.raises(sullae.NotFound, match="dropped"):
            await taken(db.changes("docs.c"), 2)


@pytest.mark.parametrize(("kind", "status"), [("no-such-table", 404), ("bad-cursor", 400)])
async def test_what_no_peer_can_mend_ends_it(kind: str, status: int) -> None:
    async with peers(always(lambda: problem(kind, status))) as [peer], client(peer) as db:
        with pytest.raises(sullae.RequestError) as caught:
            await taken(db.changes("docs.c"), 1)
    assert caught.value.kind == kind and len(peer.asked) == 1


async def test_a_stream_gives_up_when_nobody_answers() -> None:
    async with peers(always(lambda: None)) as [peer], client(peer) as db:
        with pytest.raises(sullae.ConnectionFailed):
            await taken(db.changes("docs.c", patience_s=0.1), 1)


async def test_a_program_may_work_on_a_change_for_longer_than_peers_may_be_silent() -> None:
    async with peers(telling([event(1)], [event(2)])) as [peer], client(peer) as db:
        found = []
        async for change in db.changes("docs.c", patience_s=0.2, limit=2):
            found.append(change.id)
            await asyncio.sleep(0.3)
    assert found == ["e1", "e2"]


async def test_many_events_before_a_heartbeat_are_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sullae.changes.SEEN_MAX", 2)
    many = [event(number) for number in range(9)]
    async with peers(telling(many, [*many, heartbeat("w"), event(9)])) as [peer], client(peer) as db:
        found = await taken(db.changes("docs.c", start="start"), 10)
    assert [change.id for change in found] == [f"e{number}" for number in range(10)]


async def test_what_is_asked_for_is_asked_for() -> None:
    async with peers(telling([event(1)])) as [peer], client(peer) as db:
        stream = db.changes(
            "docs.c", key="k", prefix="p", operations=["insert", "delete"], filter={"n": 1}, limit=1
        )
        assert len([change async for change in stream]) == 1
    assert peer.asked[0].target.partition("?")[2] == (
        "key=k&prefix=p&op=insert%2Cdelete&filter=%7B%22n%22%3A1%7D&limit=1&from=now"
    )


@pytest.mark.process
async def test_every_write_comes_once_though_the_peer_that_streams_is_killed(
    cluster: Cluster, urls: str
) -> None:
    async with sullae.connect(urls) as db:
        documents = db.collection("streamed")
        await documents.configure(changes="new_and_old")
        stream = db.changes("docs.streamed", start="start")
        found: dict[str, sullae.Change] = {}

        async def listen() -> None:
            async for change in stream:
                assert change.id not in found
                found[change.id] = change
                if len(found) == 240:
                    return

        listening = asyncio.create_task(listen())
        for number in range(240):
            await documents.put(f"d{number}", {"n": number})
            if number == 80:
                async with asyncio.timeout(20.0):
                    while len(found) < 60:
                        await asyncio.sleep(0.005)
                serving = next(peer for peer in db._transport.peers.all if peer.outstanding)
                name = serving.name
                await asyncio.to_thread(cluster.kill, name)
        async with asyncio.timeout(20.0):
            await listening
    assert {change.key for change in found.values()} == {f"d{number}" for number in range(240)}
    assert all(change.after == {"n": int(change.key[1:])} for change in found.values())
