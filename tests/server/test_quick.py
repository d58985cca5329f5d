"""The short way past the HTTP library: the same answers, in the same order, and only where it is certain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.consistency import Level
from core.requests import Answer, Broken, Overloaded, Timeout, Unavailable, Unready
from server.rest.quick import Quick, Verdict, plain_headers, split
from tests.server.harness import run, until
from tests.server.rest_client import door, head, read_reply

LONG_WAY = {"X-Other": "1"}
QUORUM = Level.QUORUM


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """What became of each piece of bytes that was looked at."""
    found: list[Verdict] = []
    begin = Quick.begin

    def noted(self: Quick, client: Any, data: bytes) -> tuple[Verdict, int]:
        verdict = begin(self, client, data)
        found.append(verdict[0])
        return verdict

    monkeypatch.setattr(Quick, "begin", noted)
    return found


ASKED = [
    ("GET", "/v1/kv/demo/here", None),
    ("GET", "/v1/kv/demo/a%2Fb?consistency=one&timeout_ms=100", None),
    ("GET", "/v1/kv/demo/not-there", None),
    ("PUT", "/v1/kv/demo/here?ttl=60", b"again"),
    ("PUT", "/v1/kv/demo/here", b""),
    ("PUT", "/v1/kv/demo/here", bytes(range(256)) * 100),
]
REFUSALS: list[Answer] = [
    Timeout(1, 2, QUORUM, write=True),
    Timeout(1, 2, QUORUM, write=False),
    Unavailable(2, 1, QUORUM),
    Overloaded("a full disk"),
    Unready("stopping"),
    Broken(1, 2, 1, "a bad block", write=False, unknown=False),
    Broken(1, 2, 1, "a full disk", write=True, unknown=True),
]


@pytest.mark.parametrize(("method", "target", "body"), ASKED)
@pytest.mark.parametrize("answer", [None, *REFUSALS])
def test_both_ways_answer_alike(
    verdicts: list[Verdict], method: str, target: str, body: bytes | None, answer: Answer | None
) -> None:
    async def work() -> None:
        async with door() as ask:
            for key in ("here", "a%2Fb"):
                await ask("PUT", f"/v1/kv/demo/{key}", b"\x00value", {"Content-Type": "x/y; z=1", **LONG_WAY})
            verdicts.clear()
            replies = []
            for headers in ({}, LONG_WAY):
                if answer is not None:
                    ask.node.answers = [answer]
                ask.node._version = 5_000  # so that both give the same version
                reply = await ask(method, target, body, headers)
                replies.append(reply._replace(headers={**reply.headers, "date": ""}))
            assert verdicts == [Verdict.TAKEN, Verdict.OTHER]
            assert replies[0] == replies[1]
            assert ask.node.requests[-1] == ask.node.requests[-2]

    run(work())


@pytest.mark.parametrize(
    ("method", "target", "is_taken"),
    [
        ("GET", "/v1/search/movies?q=a%20b", True),
        ("GET", "/v1/search/movies", False),
        ("GET", "/v1/search/movies,books?q=a", False),
        ("GET", "/v1/search/movies/_analyze?q=a", False),
        ("POST", "/v1/search/movies?q=a", False),
        ("GET", "/v1/search/movies?q=a#b", False),
    ],
)
def test_a_search_by_a_query_string_in_one_collection_may_go_the_short_way(
    method: str, target: str, is_taken: bool
) -> None:
    assert (split(head(method, target, None)) is not None) is is_taken


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/kv/demo/k?consistency=most", 400),
        ("/v1/kv/demo/k?ttl=-1", 400),
        ("/v1/kv/demo/%ff", 400),
        ("/v1/kv/demo/%zz", 400),
        ("/v1/kv/new-bucket/k", 204),
    ],
)
def test_what_needs_more_is_left_to_the_long_way(verdicts: list[Verdict], target: str, status: int) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            verdicts.clear()
            reader, writer = await ask.open()
            writer.write(head("PUT", target, b"v") + b"v")
            reply = await read_reply(reader)
            assert reply.status == status
            assert verdicts == [Verdict.WHOLE]
            while reply.headers.get("connection") != "close" and verdicts[-1] is not Verdict.TAKEN:
                # Not at once, as aiohttp may hear this before it knows that it has done with the other.
                writer.write(head("GET", "/v1/kv/demo/k", None))
                assert (await read_reply(reader)).body == b"v"
            writer.close()

    run(work())


def test_a_large_value_goes_out_the_long_way(verdicts: list[Verdict]) -> None:
    async def work() -> None:
        async with door() as ask:
            value = b"x" * 300_000
            await ask("PUT", "/v1/kv/demo/large", value)
            reader, writer = await ask.open()
            for _ in range(2):
                writer.write(head("GET", "/v1/kv/demo/large", None))
                assert (await read_reply(reader)).body == value
            writer.close()
            assert verdicts[-1] is Verdict.TAKEN

    run(work())


def test_what_comes_while_one_is_in_work_waits_for_its_turn() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/a", b"A")
            await ask("PUT", "/v1/kv/demo/b", b"B")
            ask.node.silent = True
            before = len(ask.node.requests)
            reader, writer = await ask.open()
            writer.write(head("GET", "/v1/kv/demo/a", None))
            await until(lambda: len(ask.node.requests) == before + 1)
            first = ask.service._bridge._next_id
            writer.write(head("GET", "/v1/kv/demo/b", None) + head("GET", "/v1/kv/demo/a", None))
            await asyncio.sleep(0.05)  # long enough to be heard, if it were
            assert len(ask.node.requests) == before + 1
            ask.node.silent = False
            ask.node.on_reply(first, ask.node._answer(ask.node.requests[before]), True)
            assert [(await read_reply(reader)).body for _ in range(3)] == [b"A", b"B", b"A"]
            writer.close()

    run(work())


def test_what_comes_with_the_answer_that_is_left_to_the_library_comes_after_it() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/large", b"x" * 300_000)
            await ask("PUT", "/v1/kv/demo/small", b"y")
            ask.node.silent = True
            reader, writer = await ask.open()
            writer.write(head("GET", "/v1/kv/demo/large", None))
            await until(lambda: ask.service._bridge.waiting == 1)
            (connection,) = ask.service._server.connections
            ask.node.silent = False
            number = ask.service._bridge._next_id
            ask.node.on_reply(number, ask.node._answer(ask.node.requests[-1]), True)
            connection.data_received(head("GET", "/v1/kv/demo/small", None))  # in the same tick
            assert [len((await read_reply(reader)).body) for _ in range(2)] == [300_000, 1]
            writer.close()

    run(work())


def test_who_goes_away_while_the_library_is_to_answer_is_forgotten() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/large", b"x" * 300_000)
            ask.node.silent = True
            _, writer = await ask.open()
            writer.write(head("GET", "/v1/kv/demo/large", None))
            await until(lambda: ask.service._bridge.waiting == 1)
            (connection,) = ask.service._server.connections
            number, asked = ask.service._bridge._next_id, len(ask.node.requests)
            ask.node.on_reply(number, ask.node._answer(ask.node.requests[-1]), True)
            assert connection.transport is not None
            connection.transport.abort()
            await until(lambda: not ask.service._server.connections)
            assert len(ask.node.requests) <= asked + 1 and not ask.service._busy
            writer.close()

    run(work())


def test_a_bug_in_planning_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception here would end the process, where by the other way the request is answered with a 500."""

    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/demo/k", b"{}")
            bugs: list[BaseException | None] = []
            monkeypatch.setattr(ask.service, "_complain", lambda _, error: bugs.append(error))
            monkeypatch.setattr(ask.service._search, "_parsed", lambda given: 1 // 0)
            reply = await ask("GET", "/v1/search/demo?q=x")
            assert reply.status == 500 and reply.json()["type"] == "internal-error"
            assert [type(bug) for bug in bugs] == [ZeroDivisionError]

    run(work())


def test_a_request_in_pieces_is_answered_and_so_is_the_next(verdicts: list[Verdict]) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/a", b"A")
            verdicts.clear()
            reader, writer = await ask.open()
            for byte in head("PUT", "/v1/kv/demo/a", b"BC") + b"BC":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await read_reply(reader)).status == 204
            writer.write(head("GET", "/v1/kv/demo/a", None))
            assert (await read_reply(reader)).body == b"BC"
            writer.close()
            assert verdicts[0] is Verdict.OTHER
            assert len(verdicts) == 1, "it is not certain any more where a request ends"

    run(work())


def test_who_goes_away_is_forgotten_and_stopping_waits_for_who_stays() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/a", b"A")
            ask.node.silent = True
            _, gone = await ask.open()
            gone.write(head("GET", "/v1/kv/demo/a", None))
            await until(lambda: ask.service._bridge.waiting == 1)
            gone.transport.abort()
            await until(lambda: ask.node.cancelled)
            assert ask.service._bridge.waiting == 0
            reader, writer = await ask.open()
            writer.write(head("GET", "/v1/kv/demo/a", None))
            await until(lambda: ask.service._bridge.waiting == 1)
            stopping = asyncio.ensure_future(ask.service.stop(5.0))
            await asyncio.sleep(0.05)  # long enough to end, if it did not wait
            assert not stopping.done()
            number = ask.service._bridge._next_id
            ask.node.on_reply(number, ask.node._answer(ask.node.requests[-1]), True)
            assert (await read_reply(reader)).body == b"A"
            await stopping
            writer.close()

    run(work())


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"Host: x\r\n", (-1, "")),
        (b"host: x\r\nContent-Length: 12\r\nContent-Type: a/b\r\n", (12, "a/b")),
        (b"Host: x\r\nConnection: Keep-Alive\r\n", (-1, "")),
        (b"Host: x\r\nConnection: close\r\n", None),
        (b"Host: x\r\nConnection: keep-alive, X\r\n", None),
        (b"Accept: */*\r\n", None),
        (b"Host: x\r\nHost: y\r\n", None),
        (b"Host: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n", None),
        (b"Host: x\r\nContent-Length: +1\r\n", None),
        (b"Host: x\r\nContent-Length: 1, 1\r\n", None),
        (b"Host: x\r\nTransfer-Encoding: chunked\r\n", None),
        (b"Host: x\r\nContent-Encoding: gzip\r\n", None),
        (b"Host: x\r\nIf-Match: *\r\n", None),
        (b"Host: x\r\nExpect: 100-continue\r\n", None),
        (b"Host: x\r\nUpgrade: websocket\r\n", None),
    ],
)
def test_headers_that_change_something_are_not_for_the_short_way(
    block: bytes, found: tuple[int, str] | None
) -> None:
    assert plain_headers(block) == found
