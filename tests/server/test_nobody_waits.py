"""Clients that leave while something of theirs goes wrong: nobody is told, and the peer goes on.

What a task raised and nobody took is a bug to the event loop, and bugs end the process.
"""

from __future__ import annotations

import asyncio
import gc

from core.consistency import Level
from core.requests import Unavailable
from tests.server.harness import run, until
from tests.server.rest_client import door, head


async def forgotten() -> None:
    """What nobody took by now is told to the loop."""
    for _ in range(3):
        await asyncio.sleep(0.01)
        gc.collect()


def test_a_bucket_that_cannot_be_made_once_its_client_is_gone() -> None:
    async def work() -> None:
        async with door() as ask:
            ask.node.silent = True
            _, writer = await ask.open()
            writer.write(head("PUT", "/v1/kv/new/k", b"v") + b"v")
            await until(lambda: ask.node.requests)
            writer.close()
            await until(lambda: not ask.service._busy)
            ask.node.on_reply(ask.node.numbers[0], Unavailable(2, 1, Level.QUORUM), True)
            await forgotten()
            ask.node.silent = False
            assert (await ask("PUT", "/v1/kv/new/k", b"v")).status == 204

    run(work())
