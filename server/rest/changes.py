"""`GET /v1/changes/{keyspace.table}`: what happens to a table, as it happens.

    from      now (the default), start, a cursor (or several with commas: later ones say more about their
              ranges), a time (RFC 3339) or how long ago (10m)
    format    ndjson (the default), sse, or by Accept; a WebSocket by upgrading
    envelope  plain (the default), debezium, cloudevents
    key, prefix, op, filter     only events of this key, of keys that begin so, of these operations, or
              with an image that the filter (JSON, as for finding documents) matches
    limit     end after so many events

Every line is an object. In our own form its `type` is event, heartbeat (at least once a second, with the
whole `cursor`), restart, gap, or error, which is the last. What a slow reader does not
take is not read either.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from aiohttp import web

from core.json_values import JsonError, parse
from core.requests import Answer, Invalid
from core.schema import Table
from core.streaming import CURSOR, NOW, START, TRUNCATED, ChangesPart, ChangesRequest, Place, TokenRange
from cql_lite.planner import Catalog
from cql_lite.system import Place as NodePlace
from documents import collections as documents_collections
from kv import buckets as kv_buckets
from node.node import Node
from query.document_filter import cost_of, parse_filter
from query.document_match import predicate
from query.refusals import Refusal
from ring.tokens import MAX_TOKEN, MIN_TOKEN, token_of
from server.bridge import Bridge
from server.rest.changes_shown import BucketShape, DocumentShape, Shape, shape_of, time_text
from server.rest.problems import ProblemError, problem_of
from server.rest.targets import decoded
from streams import events as streams_events
from streams.cursor import Cursor, after_event, cut_to, decode_cursor, encode_cursor, laid_over
from streams.events import Event, events_of, repaired_token
from streams.formats import FORMS, PLAIN, Shown, Source

CHANGES: Final = "/v1/changes/"
NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
PARAMETERS: Final = ("from", "format", "envelope", "key", "prefix", "op", "filter", "limit")
OPERATIONS: Final = ("insert", "update", "delete", "truncate")
FOREVER_US: Final = 10**15
FILTER_CHARS_MAX: Final = 64 * 1024
LIMIT_MAX: Final = 2**53
_NOWHERE: Final = NodePlace(b"", 0, 0, 0)
"""Views of tables need no place."""
WHOLE_RING: Final[tuple[TokenRange, ...]] = ((MIN_TOKEN, MAX_TOKEN),)

Judge = Callable[[Any], bool]
"""Whether an image matches a filter."""

_AGO = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FAMILIES: Final = (kv_buckets.KEYSPACE, documents_collections.KEYSPACE)


class Wanted(msgspec.Struct, frozen=True):
    """What a request asks for."""

    start: str = NOW
    cursor: Cursor | None = None
    since_us: int = 0
    form: str = "ndjson"
    envelope: str = PLAIN
    key: str | None = None
    prefix: str | None = None
    operations: tuple[str, ...] = ()
    condition: Judge | None = None
    limit: int = 0


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
        wanted = _wanted(query, request.headers, self._node.inside.clock.now_us())
        is_sse = wanted.form == "sse"
        stream = _Stream(table, wanted, self._node.inside.cluster_name, self._shape, self._node)
        headers = {"Server": "sullae", "Content-Type": SSE if is_sse else NDJSON, "Cache-Control": "no-store"}
        response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
        async with aclosing(self._bridge.stream(stream.request, FOREVER_US)) as parts:
            async for answer in parts:
                lines = stream.lines(answer, response.prepared, self._stopping)
                if not response.prepared:
                    await response.prepare(request)
                await response.write(_bytes_of(lines, is_sse))
                if stream.ended:
                    break
        await response.write_eof()
        return response

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
    """Parts of the node's answer as lines of one response."""

    def __init__(
        self, table: Table, wanted: Wanted, cluster: str, shape_of: Callable[[Table], Shape], node: Node
    ) -> None:
        self._wanted = wanted
        self._node = node
        self._shape_of = shape_of
        self._table = table
        self._shape = shape_of(table)
        self._source = Source(cluster, table.keyspace, table.name)
        self._event, self._control = FORMS[wanted.envelope]
        self._left = wanted.limit or LIMIT_MAX
        self._restarted: list[TokenRange] = []
        self.ended = False
        ranges = self._ranges()
        cursor = wanted.cursor
        self._first: list[tuple[str, dict[str, Any]]] = []
        if cursor is None:
            self.request = ChangesRequest(table.id, wanted.start, (), wanted.since_us, ranges)
            return
        if cursor.name != self._source.name:
            raise ProblemError("bad-cursor", f"this is a cursor of {cursor.name}, not of {self._source.name}")
        if not cursor.covers(ranges):
            detail = "this cursor is of some ranges only: go on from that of a heartbeat, which has all"
            raise ProblemError("bad-cursor", detail)
        if cursor.table != table.id:
            self._first.append((TRUNCATED, {}))
        places = cut_to(cursor, ranges).places
        self.request = ChangesRequest(table.id, CURSOR, places, cursor.since_us, ranges)

    def _ranges(self) -> tuple[TokenRange, ...]:
        """The tokens that matter: one, if a key is asked for that is a partition of its own."""
        key, shape = self._wanted.key, self._shape
        if key is None or not (isinstance(shape, DocumentShape) or _is_unordered(shape)):
            return WHOLE_RING
        token = token_of(key.encode())
        return ((token, token),)

    def lines(self, answer: Answer, prepared: bool, stopping: bool) -> list[tuple[str, str, bytes]]:
        """(kind, cursor for who resumes, JSON) of each line; raises ProblemError for a refusal at first."""
        if not isinstance(answer, ChangesPart):
            problem = problem_of(answer)
            if isinstance(answer, Invalid) and answer.code == "no_such_table":
                problem = ProblemError("no-such-table", answer.detail)
            if not prepared:
                raise problem
            self.ended = True
            return [self._told("error", problem.body())]
        self._follow_schema(answer.table)
        found = []
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
            for event in events_of(entry, self._table.options.changes):
                found += self._shown(event, answer)
                if self._left <= 0:
                    self.ended = True
                    return found
        if answer.whole or not (answer.entries or answer.notices):
            found.append(self._heartbeat(answer))
        if stopping:
            self.ended = True
            found.append(self._told("error", ProblemError("not-ready", "this peer is stopping").body()))
        return found

    def _follow_schema(self, table_id: int) -> None:
        table = self._node.metadata.state.tables.get(table_id)
        if table is not None and table is not self._table:
            self._table = table
            self._shape = self._shape_of(table)

    def _cursor(self, part: ChangesPart, places: tuple[Place, ...]) -> str:
        return encode_cursor(Cursor(self._source.name, part.table, part.since_us, places))

    def _told(self, kind: str, members: dict[str, Any], cursor: str = "") -> tuple[str, str, bytes]:
        now_us = self._node.inside.clock.now_us()
        line = self._control(self._source, kind, members, time_text(now_us), now_us)
        return kind, cursor, msgspec.json.encode(line)

    def _heartbeat(self, part: ChangesPart) -> tuple[str, str, bytes]:
        cursor = self._cursor(part, part.places) if part.whole else ""
        members: dict[str, Any] = {"cursor": cursor} if cursor else {}
        if part.unserved:
            members["unserved"] = part.unserved
        return self._told("heartbeat", members, cursor)

    def _notice(
        self, kind: str, members: dict[str, Any], part: ChangesPart
    ) -> list[tuple[str, str, bytes]]:
        """A notice; a truncation is an event like others."""
        if kind != TRUNCATED:
            return [self._told(kind, members)]
        if self._wanted.operations and "truncate" not in self._wanted.operations:
            return []
        now_us = self._node.inside.clock.now_us()
        epoch = self._table.changed_epoch
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

    def _shown(self, event: Event, part: ChangesPart) -> list[tuple[str, str, bytes]]:
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
        place = after_event(part.places, event.token, offset)
        shown = Shown(
            id=event.id,
            operation=event.operation,
            scope=event.scope,
            key=key,
            changed=shape.changed(event.changed),
            before=None if event.before is None else shape.row(event, event.before),
            after=None if event.after is None else shape.row(event, event.after),
            imaged=event.imaged,
            timestamp_us=event.version[0],
            admitted_us=event.admitted_us,
            time=time_text(event.admitted_us),
            epoch=self._table.changed_epoch,
            flags=self._flags(event),
            cursor="" if place is None else self._cursor(part, (place,)),
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


def _is_unordered(shape: Shape) -> bool:
    return isinstance(shape, BucketShape) and not shape.ordered


def _bytes_of(lines: list[tuple[str, str, bytes]], is_sse: bool) -> bytes:
    if not is_sse:
        return b"".join(line + b"\n" for _, _, line in lines)
    parts = []
    for kind, cursor, line in lines:
        resume = f"id: {cursor}\n".encode() if cursor else b""
        parts.append(b"event: " + kind.encode() + b"\n" + resume + b"data: " + line + b"\n\n")
    return b"".join(parts)


# --- what is asked for


def _wanted(query: str, headers: Any, now_us: int) -> Wanted:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        name = decoded(name, "query")
        if name not in PARAMETERS:
            there = ", ".join(PARAMETERS)
            raise ProblemError("bad-query", f"unknown parameter {name[:60]!r}; there are: {there}")
        if name in found:
            raise ProblemError("bad-query", f"the parameter {name} is there twice")
        found[name] = decoded(value if name == "from" else value.replace("+", " "), "query")
    last_id = headers.get("Last-Event-ID", "")
    start, cursor, since_us = _start(last_id or found.get("from", NOW), now_us)
    accept = "sse" if SSE in headers.get("Accept", "") else "ndjson"
    return Wanted(
        start=start,
        cursor=cursor,
        since_us=since_us,
        form=_among("format", found.get("format", accept), ("ndjson", "sse")),
        envelope=_among("envelope", found.get("envelope", PLAIN), tuple(FORMS)),
        key=found.get("key"),
        prefix=found.get("prefix"),
        operations=_operations(found.get("op", "")),
        condition=_condition(found["filter"]) if "filter" in found else None,
        limit=_limit(found["limit"]) if "limit" in found else 0,
    )


def _start(text: str, now_us: int) -> tuple[str, Cursor | None, int]:
    """(where to start, the cursor, what is passed over as older)."""
    if text in (NOW, START):
        return text, None, 0
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return START, None, max(0, now_us - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000)
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return START, None, _time_us(text)
    cursor: Cursor | None = None
    for each in text.split(","):
        one = decode_cursor(each)
        if isinstance(one, str):
            raise ProblemError("bad-cursor", f"from is now, start, a time, 10m or a cursor; {one}")
        cursor = one if cursor is None else laid_over(cursor, one)
    return CURSOR, cursor, 0


def _time_us(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ProblemError("bad-query", f"from is no time (2026-01-31T12:00:00Z): {error}") from None
    if at.tzinfo is None:
        raise ProblemError("bad-query", "a time has its zone: 2026-01-31T12:00:00Z")
    return max(0, int(at.timestamp() * 1_000_000))


def _among(name: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise ProblemError("bad-query", f"{name} is {' or '.join(known)}; found {text[:60]!r}")
    return text


def _operations(text: str) -> tuple[str, ...]:
    return tuple(_among("op", name, OPERATIONS) for name in text.split(",")) if text else ()


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise ProblemError("bad-limit", f"limit is a whole number from 1; found {text[:60]!r}")
    return int(text)


@lru_cache(64)
def _condition(text: str) -> Judge:
    if len(text) > FILTER_CHARS_MAX:
        raise ProblemError("bad-filter", f"a filter has at most {FILTER_CHARS_MAX} characters here")
    try:
        value = parse(text.encode())
    except JsonError as error:
        raise ProblemError("bad-filter", f"the filter is no JSON: {error}") from None
    condition = parse_filter(value)
    if isinstance(condition, Refusal):
        raise ProblemError("bad-filter", condition.text)
    cost, matches = cost_of(condition), predicate(condition)

    def judge(image: Any) -> bool:
        """One that is too costly to judge is shown: a stream leaves nothing out in silence."""
        text = msgspec.json.encode(image)
        return cost.problem(text) is not None or matches(parse(text))

    return judge
