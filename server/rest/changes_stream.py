"""Parts of a node's answer to a subscriber, as the lines of one response."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from core.consistency import Level
from core.requests import Answer, Invalid, RowsRead, ScanRequest
from core.schema import Table
from core.streaming import (
    CURSOR,
    SNAPSHOT,
    TRUNCATED,
    Assigned,
    ChangesPart,
    ChangesRequest,
    Join,
    Place,
    TokenRange,
)
from lsm.keys import split_row_key, token_of as token_of_key
from node.node import Node
from ring.tokens import token_of
from server.rest.changes_shown import BucketShape, DocumentShape, Shape, time_text
from server.rest.changes_wanted import Judge, Wanted
from server.rest.problems import ProblemError, problem_of
from streams import events as streams_events
from streams.cursor import Cursor, after_event, cut_to, encode_cursor, name_of
from streams.events import Event, event_of_row, events_of, restarted
from streams.formats import FORMS, Shown, Source
from streams.groups import Ack, encode_ack, part_range

SCAN_ROWS_MAX: Final = 2**62
LIMIT_MAX: Final = 2**53

Line = tuple[str, str, bytes]
"""Its kind, the cursor for who resumes after it if it has a whole one, and its JSON."""


class Stream:
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
        self._name = name_of(node.metadata.state.cluster, self._source.name)
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
        self._join: Join | None = None
        if wanted.joining is not None:
            group, member, parts, session_us, auto = wanted.joining
            session = secrets.token_hex(8)
            who = group, member or f"member-{session}", session
            self._join = Join(self._source.name, *who, parts, session_us, auto)
        if wanted.start == SNAPSHOT and self._join is None:
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
        return ChangesRequest(*where, self._since_us, self.ranges, self._began_us, self._join)

    def _ranges(self) -> tuple[TokenRange, ...]:
        """The tokens that matter: a part of the ring; one, if a key is asked for that is a partition."""
        key, shape = self._wanted.key, self._shape
        if key is None or not (isinstance(shape, DocumentShape) or _is_unordered(shape)):
            number, count = self._wanted.part
            return (part_range(number - 1, count),)
        token = token_of(key.encode())
        return ((token, token),)

    def _failed(self, answer: Answer) -> list[Line]:
        """The last line; raises ProblemError if it is the first."""
        problem = refusal_of(answer)
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
        if answer.assigned is not None:
            found.append(self._assigned(answer.assigned, answer))
        for kind, members in self._first:
            found += self._notice(kind, members, answer)
        self._first = []
        for notice in answer.notices:
            if notice.kind == "restart":
                self._restarted += notice.ranges
            found += self._notice(notice.kind, {"ranges": notice.ranges, "why": notice.why}, answer)
        for key, row in answer.rows:
            found += self._shown(event_of_row(key, row, answer.rows_us), None)
        if self._left <= 0:
            self.ended = True
            return found
        for entry in answer.entries:
            tokens = restarted(entry)
            if tokens is not None:
                why = "rows were repaired by their state, so their next images do not continue their last"
                found += self._notice("restart", {"ranges": [tokens], "why": why}, answer)
            for event in events_of(entry, self.table.options.changes):
                found += self._shown(event, answer)
                if self._left <= 0:
                    self.ended = True
                    return found
        if answer.whole or not (answer.entries or answer.notices or answer.assigned or answer.rows):
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
        place = part.table, part.since_us, places, part.began_us, part.scanned
        return encode_cursor(Cursor(self._name, *place))

    def _told(self, kind: str, members: dict[str, Any], cursor: str = "") -> Line:
        now_us = self._node.inside.clock.now_us()
        line = self._control(self._source, kind, members, time_text(now_us), now_us)
        return kind, cursor, msgspec.json.encode(line)

    def _assigned(self, assigned: Assigned, part: ChangesPart) -> Line:
        """Which parts a member reads from here on."""
        join = self._join
        assert join is not None, "a member"
        members = {"group": join.group, "member": join.member, "session": join.session}
        members |= {"generation": assigned.generation, "of": assigned.of, "parts": assigned.parts}  # type: ignore[dict-item]
        return self._told("assigned", {**members, **self._ack(part)})

    def _ack(self, part: ChangesPart) -> dict[str, str]:
        """What a member gives back to acknowledge what it was told up to here."""
        if self._join is None or not part.acks:
            return {}
        return {"ack": encode_ack(Ack(self._join.session, part.acks, self._cursor(part, part.places)))}

    def _heartbeat(self, part: ChangesPart) -> Line:
        cursor = self._cursor(part, part.places) if part.whole else ""
        members: dict[str, Any] = {"cursor": cursor, **self._ack(part)} if cursor else {}
        if part.unserved:
            members["unserved"] = part.unserved
        return self._told("heartbeat", members, cursor)

    def _notice(self, kind: str, members: dict[str, Any], part: ChangesPart) -> list[Line]:
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
            before=None if event.before is None else shape.row(_before(event), event.before),
            after=None if event.after is None else shape.row(event, event.after),
            imaged=event.imaged,
            timestamp_us=event.version[0],
            admitted_us=event.admitted_us,
            time=time_text(event.admitted_us),
            epoch=self.table.changed_epoch,
            flags=self._flags(event),
            cursor="" if place is None or part is None else self._cursor(part, (place,)),
            extent=shape.extent(event),
            remains=event.remains,
            key_name=shape.key_name,
        )
        return [("event", "", msgspec.json.encode(self._event(self._source, shown)))]

    def _matches(self, event: Event, condition: Judge) -> bool:
        """Whether the image after, or what was deleted, meets the filter."""
        row, seen = event.after, event
        if row is None:
            row, seen = event.before, _before(event)
        document_id = event.partition.decode() if isinstance(self._shape, DocumentShape) else None
        return row is not None and condition(self._shape.row(seen, row), document_id)

    def _flags(self, event: Event) -> tuple[str, ...]:
        flags = [name for name, is_set in (("late", event.late), ("superseded", event.superseded)) if is_set]
        for pair in self._restarted:
            if pair[0] <= event.token <= pair[1]:
                self._restarted.remove(pair)
                return (*flags, "restart")
        return tuple(flags)


def _before(event: Event) -> Event:
    """As of when the image before is looked at: of what ran out a moment earlier."""
    if event.operation != streams_events.ENDED:
        return event
    return msgspec.structs.replace(event, admitted_us=event.admitted_us - 1)


def _is_row_of(table: int, key: bytes) -> bool:
    try:
        return split_row_key(key)[0] == table
    except ValueError:
        return False


def refusal_of(answer: Answer) -> ProblemError:
    """The problem that a node's refusal to stream is."""
    if isinstance(answer, Invalid) and answer.code == "no_such_table":
        return ProblemError("no-such-table", answer.detail)
    return problem_of(answer)


def _is_unordered(shape: Shape) -> bool:
    return isinstance(shape, BucketShape) and not shape.ordered
