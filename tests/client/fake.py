"""Peers that answer as a test says: each request of theirs is kept, and goes to a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

import sullae


@dataclass
class Asked:
    """A request that came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers.get("Idempotency-Key", "")


Script = Callable[[Asked], "Awaitable[web.Response | None]"]
"""Answers a request; None cuts the connection."""


@dataclass
class FakePeer:
    """One peer."""

    script: Script
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.runner = web.ServerRunner(
            web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = int(self.runner.addresses[0][1])

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(request.method, request.raw_path, dict(request.headers), await request.content.read())
        self.asked.append(asked)
        answer = await self.script(asked)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


def ok(body: Any = None, status: int = 200, **headers: str) -> web.Response:
    """An answer in JSON, or an empty one."""
    data = b"" if body is None else json.dumps(body).encode()
    return web.Response(status=204 if body is None else status, body=data, headers=headers)


def lines(*bodies: Any) -> web.Response:
    """An answer in lines of JSON."""
    return web.Response(body=b"".join(json.dumps(body).encode() + b"\n" for body in bodies))


def problem(kind: str, status: int, **members: Any) -> web.Response:
    """An answer that is a problem."""
    return ok({"type": kind, "title": kind, "status": status, "detail": f"it is {kind}", **members}, status)


def always(answer: Callable[[], web.Response | None]) -> Script:
    async def script(_: Asked) -> web.Response | None:
        return answer()

    return script


def in_turn(*answers: Callable[[], web.Response | None]) -> Script:
    """One after the other, and then the last one for ever."""
    left = list(answers)

    async def script(_: Asked) -> web.Response | None:
        return (left.pop(0) if len(left) > 1 else left[0])()

    return script


def cut() -> None:
    """No answer: the connection is cut."""


async def hang(_: Asked) -> web.Response | None:
    await asyncio.Event().wait()
    return None


QUICK = sullae.Backoff(first_s=0.001, most_s=0.005)


@asynccontextmanager
async def peers(*scripts: Script) -> AsyncIterator[list[FakePeer]]:
    """So many peers."""
    found = [FakePeer(script) for script in scripts]
    for peer in found:
        await peer.start()
    try:
        yield found
    finally:
        for peer in found:
            await peer.stop()


@asynccontextmanager
async def client(*those: FakePeer, **given: Any) -> AsyncIterator[sullae.Database]:
    """A client of these peers, asked in this order while they do equally well."""
    settings = sullae.Settings(**{"discover": False, "backoff": QUICK, "tracing": False, **given})
    async with sullae.Database([peer.url for peer in those], settings) as db:
        yield db
