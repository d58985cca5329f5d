"""The header `Sullae-Session`: who gets one, what it changes, and what becomes of a wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from core.consistency import Level
from core.requests import ReadRequest, ScanRequest, WriteRequest
from core.session import Token, decode_token, encode_token
from node.sessions import prepared
from tests.server.fake_node import FakeNode
from tests.server.harness import run
from tests.server.rest_client import Reply, door, problem

HEADER = "sullae-session"


def with_sessions(node: FakeNode) -> None:
    """A node whose epochs come when the test says so."""
    waiting: list[tuple[int, Callable[[bool], None]]] = []

    def reach(epoch: int, deadline_us: int, then: Callable[[bool], None]) -> None:
        waiting.append((epoch, then))

    def told(request: object, token: Token) -> object:
        return prepared(request, token, node.state, "dc1")  # type: ignore[arg-type]

    node.sessions = SimpleNamespace(reach=reach, prepared=told, waiting=waiting)  # type: ignore[attr-defined]


def token_of(reply: Reply) -> Token:
    token = decode_token(reply.headers[HEADER])
    assert token is not None
    return token


def test_requests_of_a_session_are_done_by_a_quorum_and_others_as_they_ask() -> None:
    async def work() -> None:
        async with door() as ask:
            with_sessions(ask.node)
            first = await ask("PUT", "/v1/kv/demo/k?consistency=one", b"v", {"Sullae-Session": "new"})
            assert token_of(first).full and token_of(first).epoch == ask.node.state.epoch
            named = {"Sullae-Session": first.headers[HEADER]}
            second = await ask("GET", "/v1/kv/demo/k?consistency=one", None, named)
            assert second.body == b"v" and token_of(second) == token_of(first)
            listed = await ask("GET", "/v1/kv/demo?consistency=one", None, named)
            assert token_of(listed).wide, "a stream's head has the session, too"
            outside = await ask("GET", "/v1/kv/demo/k?consistency=one")
            assert HEADER not in outside.headers
            data = [r for r in ask.node.requests if isinstance(r, (WriteRequest, ReadRequest, ScanRequest))]
            assert [r.level for r in data] == [Level.QUORUM, Level.QUORUM, Level.QUORUM, Level.ONE]

    run(work())


def test_who_changes_the_schema_gets_a_token_that_changes_no_levels() -> None:
    async def work() -> None:
        async with door() as ask:
            with_sessions(ask.node)
            made = await ask("PUT", "/v1/buckets/demo", b"{}")
            assert token_of(made) == Token(ask.node.state.epoch, full=False)
            named = {"Sullae-Session": made.headers[HEADER]}
            await ask("PUT", "/v1/kv/demo/k?consistency=one", b"v", named)
            assert [r.level for r in ask.node.requests if isinstance(r, WriteRequest)] == [Level.ONE]

    run(work())


def test_a_peer_that_is_behind_waits_until_it_is_not() -> None:
    async def work() -> None:
        async with door() as ask:
            with_sessions(ask.node)
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ahead = encode_token(Token(ask.node.state.epoch + 1))
            asked = asyncio.ensure_future(ask("GET", "/v1/kv/demo/k", None, {"Sullae-Session": ahead}))
            while not ask.node.sessions.waiting:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            ask.node.sessions.waiting.pop()[1](True)  # type: ignore[attr-defined]
            assert (await asked).body == b"v"
            asked = asyncio.ensure_future(ask("GET", "/v1/kv/demo/k", None, {"Sullae-Session": ahead}))
            while not ask.node.sessions.waiting:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            ask.node.sessions.waiting.pop()[1](False)  # type: ignore[attr-defined]
            assert problem(await asked) == (503, "not-ready")

    run(work())


@pytest.mark.parametrize("text", ["", "old", "AAAA", "x" * 5_000, encode_token(Token(1))[:-2]])
def test_what_is_no_token_is_refused(text: str) -> None:
    async def work() -> None:
        async with door() as ask:
            with_sessions(ask.node)
            reply = await ask("GET", "/v1/kv/demo/k", None, {"Sullae-Session": text})
            assert problem(reply) == (400, "bad-session")

    run(work())
