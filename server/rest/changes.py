"""`GET /v1/changes/{keyspace.table}`: what happens to a table, as it happens.

    from      now (the default), start, snapshot (all rows first), a cursor (or several with commas: later
              ones say more about their ranges), a time (RFC 3339) or how long ago (10m)
    format    ndjson (the default), sse, or by Accept; a WebSocket by upgrading
    envelope  plain (the default), debezium, cloudevents
    key, prefix, op, filter     only events of this key, of keys that begin so, of these operations, or
              with an image that the filter (JSON, as for finding documents) matches
    part      one of so many equal parts of the ring, as 2/3: several readers share a table
    limit     end after so many events

Every line is an object. In our own form its `type` is event, heartbeat (at least once a second, with the
whole `cursor`), restart, gap, or error, which is the last. What a slow reader does not
take is not read either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from aiohttp import web

from core.consistency import Level
from core.requests import Answer, Invalid, RowsRead, ScanRequest
from core.schema import Table
from core.streaming import CURSOR, NOW, TRUNCATED, ChangesPart, ChangesRequest, Place, TokenRange
from cql_lite.planner import Catalog
from cql_lite.system import Place as NodePlace
from documents import collections as documents_collections
from kv import buckets as kv_buckets
from lsm.keys import split_row_key, token_of as token_of_key
from node.node import Node
from ring.tokens import MIN_TOKEN, token_of
from server.bridge import Bridge
from server.rest.changes_shown import BucketShape, DocumentShape, Shape, shape_of, time_text
from server.rest.changes_wanted import NDJSON, SNAPSHOT, SSE, Judge, Wanted, wanted_of
from server.rest.problems import ProblemError, problem_of
from streams import events as streams_events
from streams.cursor import Cursor, after_event, cut_to, encode_cursor
from streams.events import Event, event_of_row, events_of, repaired_token
from streams.formats import FORMS, Shown, Source

CHANGES: Final = "/v1/changes/"
FOREVER_US: Final = 10**15
SCAN_TIMEOUT_US: Final = 30_000_000
"""For each page of a snapshot."""
SCAN_ROWS_MAX: Final = 2**62
LIMIT_MAX: Final = 2**53
WEBSOCKET_PING_S: Final = 20.0
WEBSOCKET_BYTES_MAX: Final = 64 * 1024
_NOWHERE: Final = NodePlace(b"", 0, 0, 0)
"""Views of tables need no place."""

Line = tuple[str, str, bytes]
"""Its kind, the cursor for who resumes after it if it has a whole one, and its JSON."""

_FAMILIES: Final = (kv_buckets.KEYSPACE, documents_collections.KEYSPACE)


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
        table = self._table(name)
        wanted = wanted_of(query, request.headers, self._node.inside.clock.now_us())
        stream = _Stream(table, wanted, self._node.inside.cluster_name, self._shape, self._node)
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

    async def _websocket(self, request: web.BaseRequest, stream: _Stream) -> web.StreamResponse:
        """One message per line; what the client says is not listened to, but for its going."""
        async with aclosing(self._lines(stream)) as parts:
            first = await anext(parts)
            socket = web.WebSocketResponse(heartbeat=WEBSOCKET_PING_S, max_msg_size=WEBSOCKET_BYTES_MAX)
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

    async def _lines(self, stream: _Stream) -> AsyncGenerator[list[Line], None]:
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

    async def _find_now(self, stream: _Stream) -> None:
        """Where logs are, before any row is read: the stream goes on from there after the last row."""
        request = ChangesRequest(stream.table.id, NOW, (), 0, stream.ranges)
        async with aclosing(self._bridge.stream(request, FOREVER_US)) as parts:
            async for answer in parts:
                if not isinstance(answer, ChangesPart):
                    raise _problem(answer)
                if answer.whole:
                    stream.begin_at(answer)
                    return

    def _table(self, name: str) -> Table:
        keyspace, dot, table_name = name.partition(".")
        state = self._node.metadata.state
        table = state.table(keyspace, table_name)
        if table is None and keyspace in _FAMILIES:
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

    def _shape(self, table: Table) -> Shape:
        state = self._node.metadata.state
        if self._catalog is None or self._catalog.state is not state:
            self._catalog = Catalog(state, _NOWHERE)
        return shape_of(table, state.keyspaces, self._catalog)


class _Stream:
    """Parts of the node's answers as lines of one response."""

    def __init__(
        self, table: Table, wanted: Wanted, cluster: str, shape_of: Callable[[Table], Shape], node: Node
    ) -> None:
        self._wanted = wanted
        self._node = node
        self._shape_of = shape_of
        self.table = table
        self._shape = shape_of(table)
        self._source = Source(cluster, table.keyspace, table.name)
        self._name = f"{node.metadata.state.cluster[:4].hex()}:{self._source.name}"
        """What cursors are of: offsets mean nothing to another cluster, or for another table."""
        self._event, self._control = FORMS[wanted.envelope]
        self._left = wanted.limit or LIMIT_MAX
        self._restarted: list[TokenRange] = []
        self._told_any = False
        self.ended = False
        self.ranges = self._ranges()
        self.places: tuple[Place, ...] = ()
        self._since_us, self._began_us = wanted.since_us, 0
        self.scan: ScanRequest | None = None
        self._first: list[tuple[str, dict[str, Any]]] = []
        if wanted.start == SNAPSHOT:
            self.scan = ScanRequest(table.id, b"", SCAN_ROWS_MAX, Level.QUORUM)
        if wanted.cursor is not None:
            self._go_on(wanted.cursor)

    def _go_on(self, cursor: Cursor) -> None:
        if cursor.name != self._name:
            detail = f"this is a cursor of {cursor.name} (cluster and table), not of {self._name}"
            raise ProblemError("bad-cursor", detail)
        if not cursor.covers(self.ranges):
            detail = "this cursor is of some ranges only: go on from that of a heartbeat, which has all"
            raise ProblemError("bad-cursor", detail)
        self.places = cut_to(cursor, self.ranges).places
        self._since_us, self._began_us = cursor.since_us, cursor.began_us
        if cursor.table != self.table.id:
            self._first.append((TRUNCATED, {}))
        elif cursor.scanned is not None:
            if cursor.scanned and not _is_row_of(self.table.id, cursor.scanned):
                raise ProblemError("bad-cursor", "this is no cursor of a snapshot")
            self.scan = ScanRequest(self.table.id, cursor.scanned, SCAN_ROWS_MAX, Level.QUORUM)

    def begin_at(self, part: ChangesPart) -> None:
        """A snapshot's stream is to go on from here."""
        self.places, self._began_us = part.places, part.began_us

    def request(self) -> ChangesRequest:
        """What to ask the node for."""
        start = CURSOR if self.places else self._wanted.start
        where = self.table.id, start, self.places
        return ChangesRequest(*where, self._since_us, self.ranges, self._began_us)

    def _ranges(self) -> tuple[TokenRange, ...]:
        """The tokens that matter: a part of the ring; one, if a key is asked for that is a partition."""
        key, shape = self._wanted.key, self._shape
        if key is None or not (isinstance(shape, DocumentShape) or _is_unordered(shape)):
            number, count = self._wanted.part
            return ((_bound(number - 1, count), _bound(number, count) - 1),)
        token = token_of(key.encode())
        return ((token, token),)

    def _failed(self, answer: Answer) -> list[Line]:
        """The last line; raises ProblemError if it is the first."""
        problem = _problem(answer)
        if not self._told_any:
            raise problem
        return [self._last(problem)]

    def _last(self, problem: ProblemError) -> Line:
        """The line that ends a stream: the members of a problem, whose type is `problem`."""
        self.ended = True
        body = problem.body()
        return self._told("error", {"problem": body.pop("type"), **body})

    def rows(self, answer: Answer, stopping: bool) -> list[Line]:
        """A page of a snapshot."""
        if not isinstance(answer, RowsRead):
            return self._failed(answer)
        self._told_any = True
        found: list[Line] = []
        for item in answer.rows:
            if not any(first <= token_of_key(item.key) <= last for first, last in self.ranges):
                continue
            found += self._shown(event_of_row(item.key, item.row, answer.now_us), None)
            if self._left <= 0:
                self.ended = True
                return found
        if answer.more and answer.after:
            place = self.table.id, self._since_us, self.places
            cursor = encode_cursor(Cursor(self._name, *place, self._began_us, answer.after))
            found.append(self._told("heartbeat", {"cursor": cursor}, cursor))
        return found + self._stopped(stopping)

    def lines(self, answer: Answer, stopping: bool) -> list[Line]:
        """A part of the stream: (kind, cursor for who resumes, JSON) of each line."""
        if not isinstance(answer, ChangesPart):
            return self._failed(answer)
        self._told_any = True
        self._follow_schema(answer.table)
        found: list[Line] = []
        for kind, members in self._first:
            found += self._notice(kind, members, answer)
        self._first = []
        for notice in answer.notices:
            if notice.kind == "restart":
                self._restarted += notice.ranges
            found += self._notice(notice.kind, {"ranges": notice.ranges, "why": notice.why}, answer)
        for entry in answer.entries:
            token = repaired_token(entry)
            if token is not None:
                why = "a row was repaired by its state, so its next image does not continue its last"
                found += self._notice("restart", {"ranges": [(token, token)], "why": why}, answer)
            for event in events_of(entry, self.table.options.changes):
                found += self._shown(event, answer)
                if self._left <= 0:
                    self.ended = True
                    return found
        if answer.whole or not (answer.entries or answer.notices):
            found.append(self._heartbeat(answer))
        return found + self._stopped(stopping)

    def _stopped(self, stopping: bool) -> list[Line]:
        return [self._last(ProblemError("not-ready", "this peer is stopping"))] if stopping else []

    def _follow_schema(self, table_id: int) -> None:
        table = self._node.metadata.state.tables.get(table_id)
        if table is not None and table is not self.table:
            self.table = table
            self._shape = self._shape_of(table)

    def _cursor(self, part: ChangesPart, places: tuple[Place, ...]) -> str:
        place = part.table, part.since_us, places, part.began_us
        return encode_cursor(Cursor(self._name, *place))

    def _told(self, kind: str, members: dict[str, Any], cursor: str = "") -> Line:
        now_us = self._node.inside.clock.now_us()
        line = self._control(self._source, kind, members, time_text(now_us), now_us)
        return kind, cursor, msgspec.json.encode(line)

    def _heartbeat(self, part: ChangesPart) -> Line:
        cursor = self._cursor(part, part.places) if part.whole else ""
        members: dict[str, Any] = {"cursor": cursor} if cursor else {}
        if part.unserved:
            members["unserved"] = part.unserved
        return self._told("heartbeat", members, cursor)

    def _notice(
        self, kind: str, members: dict[str, Any], part: ChangesPart
    ) -> list[Line]:
        """A notice; a truncation is an event like others."""
        if kind != TRUNCATED:
            return [self._told(kind, members)]
        if self._wanted.operations and "truncate" not in self._wanted.operations:
            return []
        now_us = self._node.inside.clock.now_us()
        epoch = self.table.changed_epoch
        shown = Shown(
            id=f"e{part.table}-truncate",
            operation=streams_events.TRUNCATED,
            scope="table",
            key=None,
            changed=None,
            before=None,
            after=None,
            imaged=(False, False),
            timestamp_us=now_us,
            admitted_us=now_us,
            time=time_text(now_us),
            epoch=epoch,
            flags=(),
            cursor="",
        )
        return [("event", "", msgspec.json.encode(self._event(self._source, shown)))]

    def _shown(self, event: Event, part: ChangesPart | None) -> list[Line]:
        wanted, shape = self._wanted, self._shape
        if wanted.operations and event.operation not in wanted.operations:
            return []
        key = shape.key(event)
        if wanted.key is not None and key != wanted.key:
            return []
        if wanted.prefix is not None and not (isinstance(key, str) and key.startswith(wanted.prefix)):
            return []
        if wanted.condition is not None and not self._matches(event, wanted.condition):
            return []
        self._left -= 1
        offset = event.offset if event.last else event.offset - 1
        place = None if part is None else after_event(part.places, event.token, offset)
        shown = Shown(
            id=event.id,
            operation=event.operation,
            scope=event.scope,
            key=key,
            changed=None if part is None else shape.changed(event.changed),
            before=None if event.before is None else shape.row(event, event.before),
            after=None if event.after is None else shape.row(event, event.after),
            imaged=event.imaged,
            timestamp_us=event.version[0],
            admitted_us=event.admitted_us,
            time=time_text(event.admitted_us),
            epoch=self.table.changed_epoch,
            flags=self._flags(event),
            cursor="" if place is None or part is None else self._cursor(part, (place,)),
            extent=shape.extent(event),
        )
        return [("event", "", msgspec.json.encode(self._event(self._source, shown)))]

    def _matches(self, event: Event, condition: Judge) -> bool:
        """Whether the image after, or what was deleted, meets the filter."""
        row = event.after if event.after is not None else event.before
        return row is not None and condition(self._shape.row(event, row))

    def _flags(self, event: Event) -> tuple[str, ...]:
        flags = [name for name, is_set in (("late", event.late), ("superseded", event.superseded)) if is_set]
        for pair in self._restarted:
            if pair[0] <= event.token <= pair[1]:
                self._restarted.remove(pair)
                return (*flags, "restart")
        return tuple(flags)


def _bound(number: int, count: int) -> int:
    """The token at which the part of the ring with this number begins, of so many, counted from 0."""
    return MIN_TOKEN + 2**64 * number // count


def _is_row_of(table: int, key: bytes) -> bool:
    try:
        return split_row_key(key)[0] == table
    except ValueError:
        return False


def _problem(answer: Answer) -> ProblemError:
    if isinstance(answer, Invalid) and answer.code == "no_such_table":
        return ProblemError("no-such-table", answer.detail)
    return problem_of(answer)


async def _listen(socket: web.WebSocketResponse) -> None:
    """Until the client has gone."""
    async for _ in socket:
        pass


def _is_unordered(shape: Shape) -> bool:
    return isinstance(shape, BucketShape) and not shape.ordered


def _bytes_of(lines: list[Line], is_sse: bool) -> bytes:
    if not is_sse:
        return b"".join(line + b"\n" for _, _, line in lines)
    parts = []
    for kind, cursor, line in lines:
        resume = f"id: {cursor}\n".encode() if cursor else b""
        parts.append(b"event: " + kind.encode() + b"\n" + resume + b"data: " + line + b"\n\n")
    return b"".join(parts)
