"""What becomes of a request whose beginning fails in the node."""

from __future__ import annotations

import asyncio

import pytest

from core.consistency import Level
from core.requests import Answer, Broken, ReadRequest, Request, WriteRequest
from server.bridge import Bridge
from tests.server.harness import run


class _Poisoned:
    """A node that cannot begin anything."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []

    def on_request(self, request_id: int, request: Request, deadline_us: int) -> None:
        raise AssertionError("nobody thought of this")

    def on_cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def on_want(self, request_id: int, parts: int) -> None:
        """Nothing is to be had."""


def _made() -> tuple[Bridge, _Poisoned, list[Request]]:
    node, told = _Poisoned(), []
    bridge = Bridge(asyncio.get_running_loop(), node)  # type: ignore[arg-type]
    bridge.on_bug = lambda request, error: told.append(request)
    return bridge, node, told


def test_a_bug_where_a_read_begins_fails_that_read_alone() -> None:
    async def work() -> None:
        bridge, node, told = _made()
        read = ReadRequest(1, b"p", b"", b"", True, Level.QUORUM)
        answers: list[Answer] = [await bridge.ask(read, 1)]
        bridge.call(read, 1, answers.append)
        answers += [part async for part in bridge.stream(read, 1)]
        both = asyncio.Event()

        def collected(answer: Answer) -> None:
            answers.append(answer)
            if len(answers) == 5:
                both.set()

        bridge.collect(read, 1, collected)
        bridge.collect_one(read, 1, collected)
        await asyncio.wait_for(both.wait(), 10)
        assert all(isinstance(answer, Broken) and not answer.unknown for answer in answers)
        assert told == [read] * 5 and node.cancelled == [1, 2, 3, 4, 5]
        assert bridge.waiting == 0

    run(work())


def test_of_a_write_that_began_with_a_bug_nothing_is_known() -> None:
    async def work() -> None:
        bridge, _, told = _made()
        write = WriteRequest(1, b"p", (), Level.ONE, operation=1)
        answer = await bridge.ask(write, 1)
        assert isinstance(answer, Broken) and answer.write and answer.unknown
        assert told == [write]

    run(work())


def test_where_nobody_is_told_of_bugs_they_are_raised() -> None:
    async def work() -> None:
        bridge, _, _ = _made()
        bridge.on_bug = None
        with pytest.raises(AssertionError, match="nobody thought"):
            await bridge.ask(ReadRequest(1, b"p", b"", b"", True, Level.QUORUM), 1)

    run(work())
