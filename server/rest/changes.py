"""`GET /v1/changes/{keyspace.table}`: what happens to a table, as it happens.

    from      now (the default), start, snapshot (all rows first), a cursor (or several with commas: later
              ones say more about their ranges), a time (RFC 3339) or how long ago (10m)
    format    ndjson (the default), sse, or by Accept; a WebSocket by upgrading
    envelope  plain (the default), debezium, cloudevents
    key, prefix, op, filter     only events of this key, of keys that begin so, of these operations, or
              with an image that the filter (JSON, as for finding documents) matches
    part      one of so many equal parts of the ring, as 2/3: several readers share a table
    group     read as a member of a consumer group, see server/rest/streams.py
    limit     end after so many events

Every line is an object. In our own form its `type` is event, heartbeat (at least once a second, with the
whole `cursor`), restart, gap, or error, which is the last. What a slow reader does not
take is not read either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from aiohttp import web

from core.schema import Table
from core.streaming import NOW, ChangesPart, ChangesRequest
from cql_lite.planner import Catalog
from cql_lite.system import Place as NodePlace
from documents import collections as documents_collections
from kv import buckets as kv_buckets
from node.node import Node
from server.bridge import Bridge
from server.rest.changes_shown import Shape, shape_of
from server.rest.changes_stream import Line, Stream, refusal_of
from server.rest.changes_wanted import NDJSON, SSE, wanted_of
from server.rest.problems import ProblemError

CHANGES: Final = "/v1/changes/"
FOREVER_US: Final = 10**15
SCAN_TIMEOUT_US: Final = 30_000_000
"""For each page of a snapshot."""
WEBSOCKET_BYTES_MAX: Final = 64 * 1024
_NOWHERE: Final = NodePlace(b"", 0, 0, 0)
"""Views of tables need no place."""

FAMILIES: Final = (kv_buckets.KEYSPACE, documents_collections.KEYSPACE)


class ChangesRoute:
    """The route on one node."""

    def __init__(self, node: Node, bridge: Bridge) -> None:
        self._node = node
        self._bridge = bridge
        self._stopping = False
        self._catalog: Catalog | None = None

    def stop(self) -> None:
        """Streams end soon, so that clients go on at another peer."""
        self._stopping = True

    async def respond(self, request: web.BaseRequest, name: str, query: str) -> web.StreamResponse:
        """Stream; what goes wrong before the first part is an ordinary problem."""
        ready, why = self._node.ready()
        if not ready:
            raise ProblemError("not-ready", why)
        table = subscribed_table(self._node, name)
        wanted = wanted_of(query, request.headers, self._node.inside.clock.now_us())
        stream = Stream(table, wanted, self._node.inside.cluster_name, self._shape, self._node)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request, stream)
        is_sse = wanted.form == "sse"
        headers = {"Server": "sullae", "Content-Type": SSE if is_sse else NDJSON, "Cache-Control": "no-store"}
        response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
        async with aclosing(self._lines(stream)) as parts:
            async for lines in parts:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(_bytes_of(lines, is_sse))
        await response.write_eof()
        return response

    async def _websocket(self, request: web.BaseRequest, stream: Stream) -> web.StreamResponse:
        """One message per line; what the client says is not listened to, but for its going.

        It is not pinged: there is a heartbeat every second, and who is not reading for a while, which is his
        right, would not answer.
        """
        async with aclosing(self._lines(stream)) as parts:
            first = await anext(parts)
            socket = web.WebSocketResponse(max_msg_size=WEBSOCKET_BYTES_MAX)
            try:
                await socket.prepare(request)
            except web.HTTPException as error:
                raise ProblemError("bad-request", f"this is no WebSocket's handshake: {error.text}") from None
            for line in first:
                await socket.send_str(line[2].decode())
            listening = asyncio.ensure_future(_listen(socket))
            try:
                async for lines in parts:
                    if listening.done():
                        break
                    for line in lines:
                        await socket.send_str(line[2].decode())
            finally:
                listening.cancel()
        await socket.close()
        return socket

    async def _lines(self, stream: Stream) -> AsyncGenerator[list[Line], None]:
        """What is to be told, part by part: rows first, if a snapshot is asked for, then what happens."""
        if stream.scan is not None:
            if not stream.places:
                await self._find_now(stream)
            async with aclosing(self._bridge.stream(stream.scan, SCAN_TIMEOUT_US)) as rows:
                async for answer in rows:
                    yield stream.rows(answer, self._stopping)
                    if stream.ended:
                        return
        async with aclosing(self._bridge.stream(stream.request(), FOREVER_US)) as parts:
            async for answer in parts:
                yield stream.lines(answer, self._stopping)
                if stream.ended:
                    return

    async def _find_now(self, stream: Stream) -> None:
        """Where logs are, before any row is read: the stream goes on from there after the last row."""
        request = ChangesRequest(stream.table.id, NOW, (), 0, stream.ranges)
        async with aclosing(self._bridge.stream(request, FOREVER_US)) as parts:
            async for answer in parts:
                if not isinstance(answer, ChangesPart):
                    raise refusal_of(answer)
                if answer.whole:
                    stream.begin_at(answer)
                    return

    def _shape(self, table: Table) -> Shape:
        state = self._node.metadata.state
        if self._catalog is None or self._catalog.state is not state:
            self._catalog = Catalog(state, _NOWHERE)
        return shape_of(table, state.keyspaces, self._catalog)


def subscribed_table(node: Node, name: str) -> Table:
    """The table of this name, which keeps changes; a ProblemError for any other."""
    keyspace, dot, table_name = name.partition(".")
    state = node.metadata.state
    table = state.table(keyspace, table_name)
    if table is None and keyspace in FAMILIES:
        table = state.table_across(keyspace, table_name)
    if table is None:
        rule = "a table is named keyspace.table, as in docs.movies"
        raise ProblemError("no-such-table", f"there is no table {name[:200]!r}; {rule}" if dot else rule)
    if table.options.changes == "none":
        detail = (
            f"set `changes` of {table.keyspace}.{table.name} to keys, new, old or new_and_old first: in "
            "the settings of the bucket or collection, or by ALTER TABLE ... WITH changes = 'new_and_old'"
        )
        raise ProblemError("changes-off", detail)
    return table


async def _listen(socket: web.WebSocketResponse) -> None:
    """Until the client has gone."""
    async for _ in socket:
        pass


def _bytes_of(lines: list[Line], is_sse: bool) -> bytes:
    if not is_sse:
        return b"".join(line + b"\n" for _, _, line in lines)
    parts = []
    for kind, cursor, line in lines:
        resume = f"id: {cursor}\n".encode() if cursor else b""
        parts.append(b"event: " + kind.encode() + b"\n" + resume + b"data: " + line + b"\n\n")
    return b"".join(parts)
