"""Bulk requests on a slow peer: lines wait, are tried again where that does no harm, and all are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.consistency import Level
from core.requests import (
    Broken,
    BulkAnswered,
    BulkRequest,
    ConditionalRequest,
    Overloaded,
    ReadRequest,
    Request,
    Timeout,
    Unavailable,
    Written,
)
from server.rest.bulk import Room
from tests.server.harness import run, until
from tests.server.rest_client import door, head

LATE = Timeout(1, 2, Level.QUORUM, write=True)


def puts(count: int, kind: str = "kv") -> bytes:
    if kind == "kv":
        return b"".join(b'{"op":"put","key":"k%d","value":"v"}\n' % n for n in range(count))
    return b"".join(b'{"op":"put","id":"k%d","document":{"n":%d}}\n' % (n, n) for n in range(count))


@pytest.mark.parametrize(("path", "kind"), [("/v1/kv/demo/_bulk", "kv"), ("/v1/docs/demo/_bulk", "docs")])
def test_a_node_without_room_is_asked_again_until_it_has_some(path: str, kind: str) -> None:
    async def work() -> None:
        async with door() as ask:
            assert (await ask("POST", path, puts(1, kind))).lines()[0]["status"] == 204
            ask.node.answers = [Overloaded("full")] * 6
            told = (await ask("POST", path, puts(300, kind))).lines()
            assert [line["status"] for line in told] == [204] * 300
            assert not ask.node.answers

    run(work())


def test_what_is_overloaded_for_too_long_is_told_so() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ask.node.answers = [Overloaded("full")] * 1_000
            told = (await ask("POST", "/v1/kv/demo/_bulk?timeout_ms=300", puts(3))).lines()
            found = [(line["key"], line["type"]) for line in told]
            assert found == [(f"k{n}", "overloaded") for n in range(3)]

    run(work())


def test_of_lines_that_came_together_one_that_is_overloaded_is_asked_again_alone() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            away = Unavailable(2, 1, Level.QUORUM)
            ask.node.answers = [BulkAnswered((Written((5, 7)), Overloaded("full"), LATE, away))]
            told = (await ask("POST", "/v1/kv/demo/_bulk", puts(4))).lines()
            assert [line["status"] for line in told] == [204, 204, 504, 503]
            assert told[2]["type"] == "outcome-unknown"
            asked = [each for each in ask.node.requests if isinstance(each, BulkRequest)]
            assert [[write.partition for write in each.writes] for each in asked] == [
                [b"k0", b"k1", b"k2", b"k3"],
                [b"k1"],
            ]

    run(work())


def test_conditional_lines_are_tried_again_under_their_ids_and_never_without() -> None:
    line = b'{"op":"patch","id":"a","update":{"$inc":{"n":1}}}\n'
    late: list[Any] = [LATE, Broken(1, 2, 1, "lost", write=True, unknown=True)]

    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a", b'{"n":1}')
            ask.node.answers = list(late)
            told = (await ask("POST", "/v1/docs/m/_bulk", line)).lines()
            assert (told[0]["status"], told[0]["type"]) == (504, "outcome-unknown")
            ask.node.answers = list(late)
            told = (await ask("POST", "/v1/docs/m/_bulk", line, {"Idempotency-Key": '"once"'})).lines()
            assert told[0]["status"] == 204 and not ask.node.answers
            decided: list[Request] = [
                one for one in ask.node.requests if isinstance(one, ConditionalRequest)
            ]
            assert decided[-3] is decided[-2] is decided[-1]
            before = await ask("GET", "/v1/docs/m/a")
            again = (await ask("POST", "/v1/docs/m/_bulk", line, {"Idempotency-Key": '"once"'})).lines()
            assert again[0]["status"] == 204
            assert (await ask("GET", "/v1/docs/m/a")).body == before.body, "it was done before"

    run(work())


def test_an_id_is_made_once_under_a_key() -> None:
    async def work() -> None:
        async with door() as ask:
            body, key = b'{"op":"put","document":{"n":1}}\n' * 2, {"Idempotency-Key": '"made"'}
            first = (await ask("POST", "/v1/docs/m/_bulk", body, key)).lines()
            again = (await ask("POST", "/v1/docs/m/_bulk", body, key)).lines()
            assert [line["id"] for line in first] == [line["id"] for line in again]
            assert len({line["id"] for line in first}) == 2

    run(work())


def test_reads_that_time_out_are_read_again() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ask.node.answers = [Timeout(1, 2, Level.QUORUM, write=False)] * 3
            told = (await ask("POST", "/v1/kv/demo/_bulk", b'{"op":"get","key":"k"}\n')).lines()
            assert told[0]["value"] == "v"
            assert sum(isinstance(each, ReadRequest) for each in ask.node.requests) == 4

    run(work())


def test_all_requests_together_have_so_much_room_and_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room.__init__, "__defaults__", (2_000,))

    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ask.node.silent = True
            lines = puts(200)
            writers = [(await ask.open())[1] for _ in range(3)]
            for writer in writers:
                writer.write(head("POST", "/v1/kv/demo/_bulk", lines) + lines)

            def in_work() -> int:
                return sum(len(each.writes) for each in ask.node.requests if isinstance(each, BulkRequest))

            await until(lambda: in_work() > 40)
            await asyncio.sleep(0.05)
            most = 2_000 // len(b'{"op":"put","key":"k0","value":"v"}')
            assert in_work() <= most
            asked = [n for n, each in enumerate(ask.node.requests, 1) if isinstance(each, BulkRequest)]
            ask.node.silent = False
            for number in asked:
                request = ask.node.requests[number - 1]
                assert isinstance(request, BulkRequest)
                answers = tuple(Written((9, 7)) for _ in request.writes)
                ask.node.on_reply(ask.node.numbers[number - 1], BulkAnswered(answers), True)
            await until(lambda: in_work() == 600)
            for writer in writers:
                writer.close()

    run(work())


def test_room_is_given_in_turn_and_what_is_cancelled_takes_none() -> None:
    async def work() -> None:
        room = Room(100)
        await room.take(80)
        first, second = asyncio.create_task(room.take(50)), asyncio.create_task(room.take(10))
        await asyncio.sleep(0)
        assert not room.take_now(1), "others have waited longer"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await second
        assert room.taken == 90
        large = asyncio.create_task(room.take(500))
        await asyncio.sleep(0)
        room.give(80)
        room.give(10)
        await large
        assert room.taken == 500, "who is larger than all room goes alone"

    run(work())


def test_outcomes_come_while_others_are_still_awaited() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            reader, writer = await ask.open()
            writer.write(head("POST", "/v1/kv/demo/_bulk", None, {"Transfer-Encoding": "chunked"}))
            first = puts(3)
            writer.write(b"%x\r\n%s\r\n" % (len(first), first))
            await until(lambda: isinstance(ask.node.requests[-1], BulkRequest))
            ask.node.silent = True
            writer.write(b"%x\r\n%s\r\n" % (len(first), first.replace(b"k", b"l", 1)))
            told = await reader.readuntil(b'"k2","status":204')
            assert b'"k0","status":204' in told
            writer.close()

    run(work())

