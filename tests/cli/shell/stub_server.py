"""A peer that speaks the protocol and says what a test wants: for what a real one does not do on demand.

It is the server's own connection (`cql_lite/connection.py`) behind a socket; a function answers each request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from cql_lite import types, wire
from cql_lite.connection import Connection, Received

Answers = Callable[[wire.Request], "Awaitable[wire.Response | None]"]


def rows(names: str, *values: tuple[str | None, ...], state: bytes | None = None) -> wire.Rows:
    """Rows of text."""
    columns = [wire.ColumnSpec("ks", "t", name, types.TEXT) for name in names.split()]
    found = [[None if value is None else value.encode() for value in row] for row in values]
    return wire.Rows(wire.Metadata(columns), found, state)


class StubServer(asyncio.Protocol):
    """One connection."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._connection = Connection(authenticator=stub.authenticator)
        self._tasks: list[asyncio.Task[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._stub.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stub.connections.remove(self)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        if data[0] & 0x7F > self._stub.version and not self._connection.version:
            version = self._stub.version
            text = f"Invalid or unsupported protocol version ({data[0]}); the highest is {version}"
            opcode, body = wire.encode_response(wire.ProtocolFault(message=text), version)
            head = bytes([0x80 | version, 0]) + data[2:4] + bytes([opcode]) + len(body).to_bytes(4, "big")
            self.transport.write(head + body)
            self.transport.close()
            return
        for received in self._connection.receive(data):
            self._tasks.append(asyncio.get_running_loop().create_task(self._answer(received)))
        self.transport.write(self._connection.data_to_send())

    async def _answer(self, received: Received) -> None:
        self._stub.requests.append(received.request)
        self._stub.payloads.append(received.payload)
        response = await self._stub.answer(received.request)
        if response is None:
            self.transport.abort()
            return
        self._connection.respond(received.stream, response, warnings=self._stub.warnings)
        self.transport.write(self._connection.data_to_send())


class Stub:
    """The server: its connections, what it was asked, and how it answers; None ends the connection."""

    def __init__(self, answers: Answers, *, version: int = 5, authenticator: str = "") -> None:
        self.answers = answers
        self.version = version
        self.authenticator = authenticator
        self.connections: list[StubServer] = []
        self.requests: list[wire.Request] = []
        self.payloads: list[wire.Payload] = []
        self.warnings: tuple[str, ...] = ()
        self.port = 0

    async def answer(self, request: wire.Request) -> wire.Response | None:
        """What every peer can say, else the test's answer."""
        if isinstance(request, wire.Query):
            if "FROM system.peers" in request.text:
                return rows("native_address")
            if "FROM system.local" in request.text:
                return rows("cluster_name release_version", ("stub", "4.1"))
            if "FROM system_" in request.text:
                return rows("nothing")
            if request.text.startswith("USE "):
                return wire.SetKeyspace(request.text[4:])
        return await self.answers(request)

    def texts(self) -> list[str]:
        """The statements that were asked."""
        return [request.text for request in self.requests if isinstance(request, wire.Query)]


@asynccontextmanager
async def serving(*stubs: Stub, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """All of them, each on a port of its own."""
    loop = asyncio.get_running_loop()
    servers = []
    for stub in stubs:
        server = await loop.create_server(lambda stub=stub: StubServer(stub), "127.0.0.1", 0, ssl=tls)
        stub.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield
    finally:
        for server in servers:
            server.close()
        for stub in stubs:
            for connection in list(stub.connections):
                connection.transport.abort()
