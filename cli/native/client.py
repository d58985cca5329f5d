"""A session with a cluster: any peer will do, and another one when that dies.

The peers known are those given, and those that `system.peers_v2` (or `system.peers`) names once connected.
When the connection breaks, the next peer is tried; USE is done again there. A request that was on its way is
not sent again, because it may have been done: its `LostError` goes to the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cli.native.connection import (
    Access,
    Connection,
    LostError,
    OnEvent,
    RefusedError,
    open_connection,
)
from cli.native.protocol import Reply
from core.consistency import Level
from cql_lite import wire
from cql_lite.formatting import identifier

Endpoint = tuple[str, int]


class NobodyError(Exception):
    """No peer could be reached; `tried` says why for each."""

    def __init__(self, tried: Sequence[LostError]) -> None:
        super().__init__("; ".join(str(error) for error in tried))
        self.tried = tuple(tried)


@dataclass(slots=True)
class Prepared:
    """A prepared statement, and under which id the present peer knows it."""

    text: str
    keyspace: str
    columns: tuple[wire.ColumnSpec, ...] = ()
    id: bytes = b""
    known_by: Connection | None = field(default=None, repr=False)


class Client:
    """See the top of the file. For one event loop; `connection` is the present one, if any."""

    def __init__(self, endpoints: Sequence[Endpoint], access: Access) -> None:
        assert endpoints
        self.endpoints = list(endpoints)
        self.access = access
        self.keyspace = ""
        self.connection: Connection | None = None
        self.on_moved: Callable[[str], None] | None = None
        self.on_event: OnEvent | None = None
        self._connecting = asyncio.Lock()

    # --- being connected

    @property
    def where(self) -> str:
        """The peer that is spoken to."""
        return self.connection.where if self.connection is not None else "nobody"

    async def connected(self) -> Connection:
        """The connection, a new one if it broke; raises NobodyError, or RefusedError."""
        if self.connection is not None and self.connection.lost is None:
            return self.connection
        async with self._connecting:
            connection = self.connection
            if connection is not None and connection.lost is None:
                return connection
            if connection is not None:
                self.endpoints.append(self.endpoints.pop(0))  # whose connection broke is asked last
            return await self._connect(moving=connection is not None)

    async def _connect(self, *, moving: bool) -> Connection:
        tried: list[LostError] = []
        for endpoint in list(self.endpoints):
            try:
                connection = await open_connection(*endpoint, self.access, self.on_event)
            except LostError as lost:
                tried.append(lost)
                continue
            try:
                await self._settle(connection)
            except LostError as lost:
                tried.append(lost)
                continue
            except BaseException:
                connection.close()
                raise
            # Who answered is asked first next time, who did not last.
            self.endpoints.remove(endpoint)
            self.endpoints.insert(0, endpoint)
            self.connection = connection
            if moving and self.on_moved is not None:
                self.on_moved(connection.where)
            return connection
        raise NobodyError(tried)

    async def _settle(self, connection: Connection) -> None:
        if self.keyspace:
            try:
                await connection.ask(wire.Query(f"USE {identifier(self.keyspace)}", wire.Parameters()))
            except RefusedError:
                self.keyspace = ""  # it was dropped
        if self.on_event is not None:
            await connection.ask(wire.Register(("SCHEMA_CHANGE",)))
        await self._learn_peers(connection)

    async def _learn_peers(self, connection: Connection) -> None:
        """Add the peers that this one knows."""
        port = self.endpoints[0][1]
        for text in (
            "SELECT native_address, native_port FROM system.peers_v2",
            "SELECT rpc_address FROM system.peers",
        ):
            try:
                response = await connection.ask(wire.Query(text, wire.Parameters()))
            except RefusedError:
                continue
            for row in values(response):
                if row[0] is not None:
                    self._add((str(ipaddress.ip_address(row[0])), row[1] if len(row) > 1 else port))
            return

    def _add(self, endpoint: Endpoint) -> None:
        if endpoint not in self.endpoints and not ipaddress.ip_address(endpoint[0]).is_unspecified:
            self.endpoints.append(endpoint)

    async def log_in(self, username: str, password: str) -> None:
        """Be somebody else from now on; raises what connecting raises, and then nothing has changed."""
        access = replace(self.access, username=username, password=password)
        before, self.access = self.access, access
        try:
            old = self.connection
            await self._connect(moving=False)
        except BaseException:
            self.access = before
            raise
        if old is not None:
            old.close()

    def close(self) -> None:
        """End the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # --- requests

    async def request(
        self, request: wire.Request, *, tracing: bool = False, payload: wire.Payload | None = None
    ) -> Reply:
        """The answer; raises RefusedError, LostError, NobodyError."""
        connection = await self.connected()
        reply = await connection.request(request, tracing=tracing, payload=payload)
        if isinstance(reply.response, wire.Error):
            raise RefusedError(reply.response)
        if isinstance(reply.response, wire.SetKeyspace):
            self.keyspace = reply.response.keyspace
        return reply

    async def rows(self, text: str, *, level: Level = Level.ONE) -> list[tuple[Any, ...]]:
        """All rows of a query in Python forms."""
        found: list[tuple[Any, ...]] = []
        parameters = wire.Parameters(level, page_size=1000)
        while True:
            response = (await self.request(wire.Query(text, parameters))).response
            found += values(response)
            state = response.paging_state if isinstance(response, wire.Rows) else None
            if state is None:
                return found
            parameters = wire.Parameters(level, page_size=1000, paging_state=state)

    async def prepare(self, prepared: Prepared) -> Prepared:
        """Have the present peer know a statement; its columns are those of its variables."""
        connection = await self.connected()
        if prepared.known_by is not connection:
            response = await connection.ask(wire.Prepare(prepared.text))
            assert isinstance(response, wire.Prepared)
            prepared.id, prepared.columns = response.id, response.variables.columns
            prepared.known_by = connection
        return prepared

    async def execute(
        self, prepared: Prepared, parameters: wire.Parameters, payload: wire.Payload | None = None
    ) -> Reply:
        """A prepared statement's answer; prepared (again) where the peer does not know it."""
        await self.prepare(prepared)
        try:
            return await self.request(wire.Execute(prepared.id, parameters), payload=payload)
        except RefusedError as refused:
            if not isinstance(refused.error, wire.Unprepared):
                raise
        prepared.known_by = None
        await self.prepare(prepared)
        return await self.request(wire.Execute(prepared.id, parameters), payload=payload)

    async def pages(
        self, text: str, parameters: wire.Parameters, *, tracing: bool = False
    ) -> AsyncIterator[Reply]:
        """The answer to a text, page after page."""
        state = parameters.paging_state
        while True:
            reply = await self.request(wire.Query(text, _with_state(parameters, state)), tracing=tracing)
            yield reply
            state = reply.response.paging_state if isinstance(reply.response, wire.Rows) else None
            if state is None:
                return


def _with_state(parameters: wire.Parameters, state: bytes | None) -> wire.Parameters:
    import msgspec

    return msgspec.structs.replace(parameters, paging_state=state)


def values(response: wire.Response) -> list[tuple[Any, ...]]:
    """Rows in Python forms."""
    if not isinstance(response, wire.Rows):
        return []
    types = [column.type for column in response.metadata.columns]
    return [
        tuple(None if value is None else of.decode(value) for of, value in zip(types, row, strict=True))
        for row in response.rows
    ]


@contextlib.asynccontextmanager
async def session(endpoints: Sequence[Endpoint], access: Access) -> AsyncIterator[Client]:
    """A client that is connected, closed at the end."""
    client = Client(endpoints, access)
    try:
        await client.connected()
        yield client
    finally:
        client.close()
