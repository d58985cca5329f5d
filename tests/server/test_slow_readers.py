"""Answers that take their reader longer than an idle connection lives, whatever they answer."""

from __future__ import annotations

import asyncio

import pytest

from server.rest import service
from tests.server.harness import run
from tests.server.rest_client import door, head, problem

MERGE = {"Content-Type": "application/merge-patch+json"}


def test_a_large_answer_is_not_taken_for_an_idle_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "IDLE_S", 0.2)
    monkeypatch.setattr(service, "SWEEP_S", 0.05)

    async def work() -> None:
        async with door() as ask:
            for number in range(7):
                await ask("PUT", f"/v1/docs/demo/{number}", b'"%b"' % (b"x" * 1_000_000))
            body = b'{"filter": {}}'
            reader, writer = await asyncio.open_connection("127.0.0.1", ask.port, limit=1 << 10)
            writer.write(head("POST", "/v1/docs/demo/_find", body) + body)
            found = await reader.readuntil(b"\r\n\r\n")
            left, pauses = 7_000_000, 8
            while left > 0:
                part = await reader.read(1 << 18)
                assert part, f"cut off: {left} bytes are missing"
                left -= len(part)
                if pauses:
                    pauses -= 1
                    await asyncio.sleep(0.1)
            assert b" 200 " in found
            writer.close()

    run(work())


def test_answers_that_nobody_takes_are_bounded_but_what_was_done_is_told() -> None:
    async def work() -> None:
        async with door() as ask:
            for number in range(3):
                await ask("PUT", f"/v1/docs/demo/{number}", b'{"x": "%b"}' % (b"x" * 1_000_000))
            ask.service._budget.bytes_max = 1_000_000
            ask.service._budget.take(500_000)
            asked = [("_find", b'{"filter": {}}'), ("_aggregate", b'{"pipeline": []}')]
            for operation, body in asked:
                refused = await ask("POST", f"/v1/docs/demo/{operation}", body)
                assert problem(refused) == (503, "overloaded")
            done = await ask("PATCH", "/v1/docs/demo/1?return=document", b'{"y": 1}', MERGE)
            assert done.status == 200 and done.json()["y"] == 1
            assert ask.service._budget.taken == 500_000

    run(work())
