"""As much of an MQTT 5 broker as a publisher meets: connect, publish at QoS 1, ping, disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

CONNECT, PUBLISH, PING, DISCONNECT = 1, 3, 12, 14


class Message(NamedTuple):
    topic: str
    payload: bytes
    properties: bytes


class Broker:
    """Keeps messages; cuts the connection after `cut_after` more of them, before it acknowledges the last."""

    def __init__(self) -> None:
        self.port = 0
        self.messages: list[Message] = []
        self.logins: list[bytes] = []
        self.cut_after = -1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _varint(reader))
                kind = head >> 4
                if kind == CONNECT:
                    self.logins.append(body)
                    writer.write(b"\x20\x03\x00\x00\x00")
                elif kind == PUBLISH:
                    assert head >> 1 & 3 == 1, "QoS 1"
                    if not self._keep(body, writer):
                        break
                elif kind == PING:
                    writer.write(b"\xd0\x00")
                elif kind == DISCONNECT:
                    break
        writer.close()

    def _keep(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        end = 2 + int.from_bytes(body[:2], "big")
        number = body[end : end + 2]
        size, at, shift = 0, end + 2, 0
        while True:
            size |= (body[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if not body[at - 1] & 128:
                break
        self.messages.append(Message(body[2:end].decode(), body[at + size :], body[at : at + size]))
        if self.cut_after == 0:
            self.cut_after = -1
            return False
        self.cut_after -= 1
        writer.write(b"\x40\x02" + number)
        return True


async def _varint(reader: asyncio.StreamReader) -> int:
    value = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value


@asynccontextmanager
async def running() -> AsyncIterator[Broker]:
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
