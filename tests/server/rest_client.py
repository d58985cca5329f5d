"""A REST service on a fake node, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from core.settings import Settings
from server.bridge import Bridge
from server.metrics import Metrics
from server.rest.problems import TITLES
from server.rest.service import RestService
from tests.server.fake_node import FakeNode


class Reply(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Door:
    """The service under test, and how to talk to it."""

    def __init__(self, service: RestService, node: FakeNode, lines: list[str]) -> None:
        self.service = service
        self.port = service.port
        self.node = node
        self.lines = lines
        self.tls: ssl.SSLContext | None = None
        """With which connections are made."""

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26, ssl=self.tls)

    async def raw(self, data: bytes, wait_s: float = 10.0) -> bytes | None:
        """Send these bytes and read to the end, which the service makes; None if it does not."""
        reader, writer = await self.open()
        writer.write(data)
        try:
            async with asyncio.timeout(wait_s):
                return await reader.read()
        except ConnectionError:
            return b""
        except TimeoutError:
            return None
        finally:
            writer.close()

    async def __call__(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        reader, writer = await self.open()
        try:
            writer.write(head(method, target, body, headers) + (body or b""))
            return await read_reply(reader, method)
        finally:
            writer.close()


def head(method: str, target: str, body: bytes | None, headers: dict[str, str] | None = None) -> bytes:
    """A request's head."""
    lines = [f"{method} {target} HTTP/1.1"] + (["Host: x"] if "Host" not in (headers or {}) else [])
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def read_reply(reader: asyncio.StreamReader, method: str = "GET") -> Reply:
    """Read one answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    status = int(lines[0].split()[1])
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])
    }
    body = b""
    if method != "HEAD" and status not in {204, 304}:
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers["content-length"]))
    return Reply(status, headers, body)


def problem(reply: Reply) -> tuple[int, str]:
    """Status and type, after checking that it is a whole problem."""
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == reply.status
    assert body["title"] and body["detail"]
    assert TITLES[body["type"]][0] == reply.status
    return reply.status, body["type"]


@contextlib.asynccontextmanager
async def door(
    settings: Settings | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Door]:
    """A service on a fake node, which may speak TLS; a bug that it reports fails the test."""
    node = FakeNode(settings)
    bridge = Bridge(asyncio.get_running_loop(), node)  # type: ignore[arg-type]
    node.on_reply = bridge.on_reply
    bugs: list[BaseException] = []
    lines: list[str] = []

    def complain(text: str, error: BaseException | None) -> None:
        lines.append(text) if error is None else bugs.append(error)

    service = RestService(
        node,  # type: ignore[arg-type]
        bridge,
        Metrics(),
        complain,
        lambda: {"pid": 1},
    )
    await service.start("127.0.0.1", 0, tls)
    try:
        yield Door(service, node, lines)
    finally:
        await service.stop(0.5)
    assert not bugs, bugs
