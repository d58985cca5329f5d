"""Bulk writers: bounded, in order per key, tried again line by line, and honest about what failed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

import sullae
from tests.client.fake import Asked, FakePeer, always, client, in_turn, lines, ok, peers, problem

Outcome = Callable[[dict[str, Any]], dict[str, Any]]


def said(asked: Asked) -> list[dict[str, Any]]:
    return [json.loads(line) for line in asked.body.splitlines()]


def each(outcome: Outcome) -> Any:
    """A peer that answers every line so."""

    async def script(asked: Asked) -> web.Response | None:
        return lines(*(outcome(line) for line in said(asked)))

    return script


def done(line: dict[str, Any]) -> dict[str, Any]:
    return {"key": line.get("key"), "status": 204, "etag": '"1-1"'}


def failed(kind: str, status: int) -> dict[str, Any]:
    return {"key": None, "type": kind, "title": kind, "status": status, "detail": kind}


async def test_operations_travel_in_batches_of_the_size_asked_for() -> None:
    async with peers(each(done)) as [peer], client(peer) as db, db.kv("b").bulk(batch=10) as bulk:
        for number in range(25):
            await bulk.put(f"k{number}", b"\x00\xff" if number % 2 else "text", ttl_s=9)
        await bulk.put_json("j", {"n": 2**70})
        await bulk.delete("d")
    assert bulk.done == 27
    assert sorted(len(said(one)) for one in peer.asked) == [7, 10, 10]
    every = [line for one in peer.asked for line in said(one)]
    assert {"op": "put", "key": "k1", "base64": "AP8=", "ttl": 9} in every
    assert {"op": "put", "key": "k0", "value": "text", "ttl": 9} in every
    assert {"op": "put", "key": "j", "json": {"n": 2**70}} in every
    assert all(one.target.startswith("/v1/kv/b/_bulk?") for one in peer.asked)


async def test_a_batch_takes_as_long_as_it_gets_on() -> None:
    async def outcomes(asked: Asked) -> AsyncIterator[bytes]:
        for line in said(asked):
            await asyncio.sleep(0.1)
            yield json.dumps(done(line)).encode() + b"\n"

    async def slowly(asked: Asked) -> web.Response | None:
        return web.Response(body=outcomes(asked))

    async with (
        peers(slowly) as [peer],
        client(peer, timeout_s=0.6, attempt_timeout_s=0.2) as db,
        db.kv("b").bulk(batch=12) as bulk,
    ):
        for number in range(12):
            await bulk.put(f"k{number}", "v")
    assert bulk.done == 12
    assert len(peer.asked) == 1, "twice the time of an operation, and not given up"


async def test_a_writer_waits_while_enough_is_under_way() -> None:
    release = asyncio.Event()

    async def script(asked: Asked) -> web.Response | None:
        await release.wait()
        return lines(*map(done, said(asked)))

    async with peers(script) as [peer], client(peer) as db, db.kv("b").bulk(batch=1, requests=2) as bulk:
        writes = asyncio.create_task(_puts(bulk, 6))
        while len(peer.asked) < 2:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(peer.asked) == 2 and not writes.done()
        release.set()
        await writes
    assert len(peer.asked) == 6


async def test_a_put_that_is_given_up_on_takes_no_other_with_it() -> None:
    release = asyncio.Event()

    async def script(asked: Asked) -> web.Response | None:
        await release.wait()
        return lines(*map(done, said(asked)))

    async with peers(script) as [peer], client(peer) as db, db.kv("b").bulk(batch=2, requests=1) as bulk:
        await _puts(bulk, 3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(bulk.put("late", b"v"), 0.05)
        release.set()
    assert {line["key"] for one in peer.asked for line in said(one)} == {"k0", "k1", "k2", "late"}
    assert bulk.done == 4


async def _puts(bulk: sullae.KvBulk, count: int) -> None:
    for number in range(count):
        await bulk.put(f"k{number}", b"v")


async def test_two_operations_on_one_key_are_never_under_way_at_once() -> None:
    under_way: list[str] = []
    order: list[str] = []

    async def script(asked: Asked) -> web.Response | None:
        keys = [line["key"] for line in said(asked)]
        assert len({*keys}) == len(keys) and not {*keys} & {*under_way}
        under_way.extend(keys)
        await asyncio.sleep(0.001)
        order.extend(line["value"] for line in said(asked) if line["key"] == "same")
        for key in keys:
            under_way.remove(key)
        return lines(*map(done, said(asked)))

    async with peers(script) as [peer], client(peer) as db, db.kv("b").bulk(batch=3) as bulk:
        for number in range(20):
            await bulk.put("same", f"{number}")
            await bulk.put(f"k{number}", "x")
    assert order == [f"{number}" for number in range(20)]


async def test_only_lines_that_failed_are_sent_again() -> None:
    tries: dict[str, int] = {}

    def outcome(line: dict[str, Any]) -> dict[str, Any]:
        tries[line["key"]] = tries.get(line["key"], 0) + 1
        if line["key"] == "k3" and tries["k3"] < 3:
            return failed("outcome-unknown", 504)
        return done(line)

    async with peers(each(outcome)) as [peer], client(peer) as db, db.kv("b").bulk() as bulk:
        await _puts(bulk, 6)
    assert tries == {"k0": 1, "k1": 1, "k2": 1, "k3": 3, "k4": 1, "k5": 1}
    assert (bulk.done, bulk.failures) == (6, [])


async def test_what_failed_is_told_at_the_end() -> None:
    def outcome(line: dict[str, Any]) -> dict[str, Any]:
        return failed("bad-key", 400) if line["key"] == "k1" else done(line)

    async with peers(each(outcome)) as [peer], client(peer) as db:
        with pytest.raises(sullae.BulkError) as caught:
            async with db.kv("b").bulk() as bulk:
                await _puts(bulk, 3)
        async with db.kv("b").bulk(raise_failures=False) as quiet:
            await _puts(quiet, 3)
    [failure] = caught.value.failures
    assert (failure.operation, failure.key, type(failure.error)) == ("put", "k1", sullae.Invalid)
    assert (caught.value.done, len(quiet.failures), quiet.done) == (2, 1, 2)


async def test_a_batch_that_nobody_answers_fails_line_by_line_as_unknown() -> None:
    async with (
        peers(always(lambda: None)) as [peer],
        client(peer, attempts_max=3) as db,
        db.kv("b").bulk(raise_failures=False) as bulk,
    ):
        await _puts(bulk, 2)
    assert [type(one.error) for one in bulk.failures] == [sullae.OutcomeUnknown] * 2


async def test_an_answer_that_breaks_off_is_continued() -> None:
    answered: list[int] = []

    async def script(asked: Asked) -> web.Response | None:
        answered.append(len(said(asked)))
        return lines(*map(done, said(asked)[:2]))

    async with peers(script) as [peer], client(peer) as db, db.kv("b").bulk() as bulk:
        await _puts(bulk, 6)
    assert answered == [6, 4, 2]
    assert bulk.done == 6


async def test_edits_that_are_not_the_same_twice_are_requests_of_their_own_with_a_key() -> None:
    async def script(asked: Asked) -> web.Response | None:
        return ok() if asked.method == "PATCH" else lines(*map(done, said(asked)))

    async with peers(script) as [peer], client(peer) as db, db.collection("c").bulk() as bulk:
        await bulk.put("a", {"n": 1})
        await bulk.patch("a", {"$inc": {"n": 1}})
        await bulk.patch("b", {"$set": {"n": 1}})
        await bulk.patch("b", {"n": 2})
        made = await bulk.insert({"n": 3})
        await bulk.delete("c")
    alone = [one for one in peer.asked if one.method == "PATCH"]
    assert len(alone) == 1 and alone[0].key
    batches = [said(one) for one in peer.asked if one.method == "POST"]
    assert batches[0] == [{"op": "put", "id": "a", "document": {"n": 1}}]
    assert [line["op"] for batch in batches[1:] for line in batch] == ["patch", "patch", "put", "delete"]
    assert made in json.dumps(batches)
    assert bulk.done == 6


async def test_after_an_error_of_the_program_the_rest_is_not_sent() -> None:
    async with peers(each(done)) as [peer], client(peer) as db:
        with pytest.raises(ZeroDivisionError):
            async with db.kv("b").bulk() as bulk:
                await bulk.put("a", b"v")
                raise ZeroDivisionError
    assert peer.asked == []


async def test_a_whole_batch_that_is_refused_for_now_is_tried_elsewhere() -> None:
    def busy() -> web.Response:
        return problem("overloaded", 503)

    async with peers(in_turn(busy), each(done)) as those, client(*those) as db:
        assert all(isinstance(peer, FakePeer) for peer in those)
        async with db.kv("b").bulk() as bulk:
            await _puts(bulk, 3)
    assert bulk.done == 3


async def test_an_exception_that_nobody_foresaw_is_not_lost() -> None:
    """Of a batch that ended before the writer did, too: its operations are neither done nor failed."""

    def raising(_: sullae.Event) -> None:
        raise ZeroDivisionError

    async with peers(each(done)) as [peer], client(peer, on_event=raising) as db:
        bulk = db.kv("b").bulk(batch=1)
        with pytest.raises(ZeroDivisionError):
            async with bulk:
                await bulk.put("k", b"v")
                while not peer.asked or bulk._tasks:
                    await asyncio.sleep(0.001)
        assert bulk.done == 0 and not bulk.failures
