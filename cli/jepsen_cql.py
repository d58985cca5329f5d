"""CQL for the clients of `sullae jepsen`, in the binary protocol."""

from __future__ import annotations

from typing import Any

from cli.native.client import values
from cli.native.connection import Access, Connection, LostError, RefusedError, open_connection
from core.consistency import Level
from cql_lite import wire
from server.rest.cql import problem_of_error


class NativeStatements:
    """CQL in the binary protocol, one connection per peer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: dict[str, Connection] = {}

    async def ask(
        self, address: str, text: str, level: Level, page_size: int
    ) -> tuple[str, list[dict[str, Any]]]:
        """See jepsen_like/real/door.py."""
        parameters = wire.Parameters(level, page_size=page_size)
        try:
            response = await (await self._to(address)).ask(wire.Query(text, parameters))
        except LostError as lost:
            self._connections.pop(address, None)
            return ("lost" if lost.sent else "refused"), []
        except RefusedError as refused:
            return problem_of_error(refused.error).kind, []
        if not isinstance(response, wire.Rows):
            return "", []
        names = [column.name for column in response.metadata.columns]
        return "", [dict(zip(names, row, strict=True)) for row in values(response)]

    async def _to(self, address: str) -> Connection:
        connection = self._connections.get(address)
        if connection is None or connection.lost is not None:
            connection = self._connections[address] = await open_connection(address, self._port, Access())
        return connection
