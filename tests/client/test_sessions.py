"""What a client remembers for the next peer: tokens of schema changes, and those of sessions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from aiohttp import web

import sullae
from tests.client.fake import Asked, FakePeer, Script, client, lines, ok, peers

HEADER = "Sullae-Session"


def answering(*tokens: str) -> Script:
    """Answers with these tokens in turn, then with none."""
    left = list(tokens)

    async def script(asked: Asked) -> web.Response | None:
        return web.Response(status=204, headers={HEADER: left.pop(0)} if left else {})

    return script


def named(peer: FakePeer) -> list[str]:
    return [asked.headers.get(HEADER, "") for asked in peer.asked]


async def test_each_peer_is_told_once_of_a_change_of_the_schema() -> None:
    async with peers(answering("made"), answering()) as those, client(*those) as db:
        for _ in range(8):
            await db.kv("b").put("k", b"v")
        first, second = those if "made" not in named(those[0]) else reversed(those)
        told = [*named(first), *named(second)]
        assert told.count("made") == 1 and set(told) == {"", "made"}, "not to who answered with it"


async def test_a_peer_that_could_not_serve_is_told_again() -> None:
    answers = [503, 204]

    async def behind(_: Asked) -> web.Response | None:
        return web.Response(status=answers.pop(0) if len(answers) > 1 else 204)

    async with peers(answering("made")) as [first], peers(behind) as [second], client(first) as db:
        await db.kv("b").put("k", b"v")
        db._transport.peers.all[0].url = second.url
        await db.kv("b").put("k", b"v")
        await db.kv("b").put("k", b"v")
    assert named(second) == ["made", "made", ""]


async def test_a_session_says_what_it_was_told_last() -> None:
    async with peers(answering("one", "two", "three")) as [peer], client(peer) as db:
        mine = db.session()
        for _ in range(4):
            await mine.kv("b").put("k", b"v")
        assert named(peer) == ["new", "one", "two", "three"]
        assert mine.session_token == "three" and db.session_token is None
        again = db.session(mine.session_token)
        await again.kv("b").put("k", b"v")
        await db.kv("b").put("k", b"v")
        assert named(peer)[4:] == ["three", ""], "outside of the session nothing is said"


async def test_requests_at_the_same_time_bring_a_token_each() -> None:
    waiting: list[asyncio.Event] = []
    tokens = iter(["a", "b", "c"])

    async def script(asked: Asked) -> web.Response | None:
        if len(waiting) < 2:
            waiting.append(asyncio.Event())
            if len(waiting) == 2:
                for each in waiting:
                    each.set()
            await waiting[-1].wait()
        return web.Response(status=204, headers={HEADER: next(tokens)})

    async with peers(script) as [peer], client(peer) as db:
        mine = db.session()
        await asyncio.gather(mine.kv("b").put("k", b"1"), mine.kv("b").put("l", b"2"))
        assert mine.session_token in ("a,b", "b,a")
        both = mine.session_token
        await mine.kv("b").put("k", b"3")
        assert named(peer) == ["new", "new", both] and mine.session_token == "c"


async def test_bulk_writes_searches_and_streams_are_of_the_session_too() -> None:
    async def script(asked: Asked) -> web.Response | None:
        if "/changes/" in asked.target:
            event = {"type": "event", "id": "1", "table": "docs.c", "op": "insert", "key": "k"}
            return lines(event)
        if "_bulk" in asked.target:
            return lines({"key": "k", "status": 204})
        hits: dict[str, object] = {"hits": [], "total": {"value": 0, "relation": "eq"}, "max_score": None}
        return ok({"hits": hits, "took_us": 1}, 200)

    async def told(work: Callable[[sullae.Database], Awaitable[None]]) -> list[str]:
        async with peers(script) as [peer], client(peer) as db:
            await work(db.session("mine"))
            return named(peer)

    async def bulk(db: sullae.Database) -> None:
        async with db.kv("b").bulk() as writer:
            await writer.put("k", b"v")

    async def stream(db: sullae.Database) -> None:
        async for _ in db.changes("docs.c", limit=1):
            pass

    async def search(db: sullae.Database) -> None:
        await db.search("c", "word")

    for work in (bulk, stream, search):
        assert await told(work) == ["mine"], work


async def test_closing_a_session_leaves_its_client_open() -> None:
    async with peers(answering()) as [peer], client(peer) as db:
        async with db.session() as mine:
            await mine.kv("b").put("k", b"v")
        await db.kv("b").put("k", b"v")
        await mine.kv("b").put("k", b"v")


def test_the_synchronous_face_has_sessions_too() -> None:
    async def up() -> FakePeer:
        peer = FakePeer(answering("one"))
        await peer.start()
        return peer

    loop = asyncio.new_event_loop()
    peer = loop.run_until_complete(up())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        with sullae.connect_sync(peer.url, discover=False) as db:
            mine = db.session()
            mine.kv("b").put("k", b"v")
            assert mine.session_token == "one"
            mine.close()
            db.kv("b").put("k", b"v")
    finally:
        asyncio.run_coroutine_threadsafe(peer.stop(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
