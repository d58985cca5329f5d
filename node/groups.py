"""Consumer groups at this peer: the memberships whose clients are here, and what is asked about groups.

streams/groups.py says what a group is, node/membership.py how a member reads. Any peer acknowledges for any
member: what counts is session and fence in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from core.requests import Answer, Invalid, Overloaded, Told, Unready
from core.streaming import (
    ACK,
    FORGET,
    HEARTBEAT,
    LEAVE,
    LIST,
    MAKE,
    NOW,
    SHOW,
    SNAPSHOT,
    ChangesPart,
    ChangesRequest,
    GroupRequest,
    Join,
)
from lsm.keys import split_row_key
from node.group_lag import sum_of
from node.membership import FENCED, JOIN_US, Membership
from node.writes import no_such_table
from streams import groups
from streams.cursor import Cursor, cut_to, decode_cursor, encode_cursor, name_of
from streams.groups import MEMBERS_MAX, PARTS, Group, Part, part_range

if TYPE_CHECKING:
    from core.lag import Lag
    from node.group_lag import GroupLag, Lags
    from node.group_records import Done, GroupRecords, Result
    from node.metadata import Metadata
    from node.subscriptions import Reply, Subscription, Subscriptions

FOUND_MAX = 1_000
"""Parts of a stream that are looked at to find where it begins."""


class Groups:
    """All groups, as this peer serves them."""

    def __init__(
        self, metadata: Metadata, subscriptions: Subscriptions, records: GroupRecords, lag: GroupLag
    ) -> None:
        self.metadata = metadata
        self.subscriptions = subscriptions
        self.inside = subscriptions.inside
        self.records = records
        self._lag = lag
        self.lags: dict[tuple[str, str], tuple[Lag, int]] = {}
        """How far groups are behind whose first member is here, and when that was asked, for metrics."""
        self._members: dict[int, Membership] = {}
        self._making: dict[int, tuple[Subscription, Done]] = {}
        self._verbs: dict[str, Callable[[GroupRequest, Callable[[Answer], None]], None]] = {
            ACK: self._ack,
            HEARTBEAT: self._heartbeat,
            LEAVE: self._leave,
            LIST: self._list,
            SHOW: self._show,
            MAKE: self._make,
            FORGET: self._forget,
        }
        self.inside.on_timer("group_beat", self._on_beat)
        self.inside.on_timer("group_made", self._on_not_made)
        self.inside.on_timer("group_rows", self._on_rows_again)

    # --- members

    def begin(self, request_id: int, request: ChangesRequest, reply: Reply) -> None:
        """Stream to a member."""
        if len(self._members) >= MEMBERS_MAX:
            reply(
                Overloaded(f"{MEMBERS_MAX} members of groups are served here already: use another peer"), True
            )
            return
        if self.metadata.state.placement(request.table) is None:
            reply(no_such_table(), True)
            return
        member = self._members[request_id] = Membership(self, request_id, request, reply)
        member.start()

    def want(self, request_id: int, parts: int) -> None:
        """The client takes more parts."""
        member = self._members.get(request_id)
        if member is not None:
            member.want(parts)

    def cancel(self, request_id: int) -> None:
        """The client is gone."""
        member = self._members.get(request_id)
        if member is not None:
            member.stop()

    def ended(self, request_id: int) -> None:
        """A membership is over."""
        self._members.pop(request_id, None)

    def measure(self, group: Group) -> None:
        """Ask how far a group is behind."""

        def done(lags: Lags) -> None:
            known = tuple(lag for lag in lags.values() if lag is not None)
            if len(known) == len(lags):
                self.lags[group.table, group.group] = sum_of(known), self.inside.clock.now_us()

        self._lag.ask(group, done)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Metrics: name, labels, value. A group is told of at the peer of its first member."""
        here: dict[tuple[str, str], int] = {}
        for member in self._members.values():
            key = member.join.table, member.join.group
            here[key] = here.get(key, 0) + 1
        self.lags = {key: kept for key, kept in self.lags.items() if key in here}
        for (table, group), count in sorted(here.items()):
            labels = {"table": table, "group": group}
            yield "group_members", labels, float(count)
            if (table, group) in self.lags:
                lag, asked_us = self.lags[table, group]
                seconds = max(0, asked_us - lag.oldest_us) / 1e6 if lag.oldest_us else 0.0
                yield "group_lag_events", labels, float(lag.entries)
                yield "group_lag_bytes", labels, float(lag.bytes)
                yield "group_lag_seconds", labels, seconds

    def _on_beat(self, request_id: int) -> None:
        member = self._members.get(request_id)
        if member is not None:
            member.on_beat()

    def _on_rows_again(self, request_id: int) -> None:
        member = self._members.get(request_id)
        if member is not None:
            member.read_again()

    def open(self, request: ChangesRequest, reply: Reply) -> Subscription:
        """A stream for a part of this peer."""
        return self.subscriptions.open(-self.inside.new_op(), request, reply)

    def leave(self, table: str, group: str, session: str) -> None:
        """A membership has ended here; if that cannot be said now, the others find out."""
        self.records.change(table, group, lambda found: found and groups.left(found, (session,)), _whatever)

    def _changed(self, result: Result) -> None:
        """A record is so now: whose members are here need not wait for their next beat."""
        if isinstance(result, Group):
            for member in tuple(self._members.values()):
                if (member.join.table, member.join.group) == (result.table, result.group):
                    member.adopt(result)

    # --- making

    def make(self, request: ChangesRequest, done: Done) -> None:
        """Have a new group begin where `request` says; `done` is told the record, whoever made it."""

        def put(group: Group, done: Done) -> None:
            self.records.change(group.table, group.group, lambda found: found or group, done)

        self._find(request, put, done)

    def _find(self, request: ChangesRequest, put: Callable[[Group, Done], None], done: Done) -> None:
        """Find where a new group stands, and `put` it."""
        join = request.join
        assert join is not None, "a group to make"
        now_us = self.inside.clock.now_us()
        parts = (Part(),) * (join.parts or PARTS)
        group = Group(join.table, join.group, now_us, parts, since_us=request.since_us)
        if request.start not in (NOW, SNAPSHOT):
            put(group, done)
            return
        scanned = b"" if request.start == SNAPSHOT else None
        number = self.inside.new_op()

        def part(answer: Answer, last: bool) -> None:
            del last
            if not isinstance(answer, ChangesPart):
                self._stop_making(number)
                done(answer)
            elif answer.whole:
                self._stop_making(number)
                put(self._standing(group, answer, scanned), done)

        stream = self.open(ChangesRequest(request.table, NOW), part)
        self._making[number] = stream, done
        self.inside.timer(JOIN_US, "group_made", number)
        stream.want(FOUND_MAX)

    def _stop_making(self, number: int) -> Done | None:
        made = self._making.pop(number, None)
        if made is None:
            return None
        made[0].stop()
        return made[1]

    def _on_not_made(self, number: int) -> None:
        done = self._stop_making(number)
        if done is not None:
            done(
                Unready("not all of the table is served now, so a stream of it cannot begin: try again later")
            )

    def _standing(self, group: Group, found: ChangesPart, scanned: bytes | None) -> Group:
        """A group whose parts stand where a stream does, and have rows to read first, or not."""
        name, count = name_of(self.metadata.state.cluster, group.table), len(group.parts)
        whole = Cursor(name, found.table, found.since_us, found.places, found.began_us, scanned)
        texts = [encode_cursor(cut_to(whole, (part_range(number, count),))) for number in range(count)]
        parts = tuple(Part(cursor=text, acked_us=group.created_us) for text in texts)
        return Group(group.table, group.group, group.created_us, parts, began_us=found.began_us)

    # --- what is asked

    def ask(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        """Answer; `reply` is called once."""
        self._verbs[request.verb](request, reply)

    def _ack(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        cursor, now_us = decode_cursor(request.cursor), self.inside.clock.now_us()
        if not isinstance(cursor, Cursor):
            reply(Invalid("bad_cursor", cursor))
            return
        if cursor.name != name_of(self.metadata.state.cluster, request.table):
            reply(Invalid("bad_cursor", f"this is a cursor of {cursor.name}, not of {request.table}"))
            return
        if cursor.scanned and not _is_row_of(cursor.table, cursor.scanned):
            reply(Invalid("bad_cursor", "this cursor stands at no row of its table"))
            return
        acks = {number: (fence, cursor) for number, fence in request.acks}
        became: list[groups.Committed] = []

        def step(group: Group | None) -> Group | None:
            if group is None:
                return None
            became[:] = [groups.committed(group, request.session, acks, now_us)]
            return groups.heard(became[0].group, request.session)

        def done(result: Result) -> None:
            if not (result is None or isinstance(result, Group)):
                reply(result)
                return
            self._changed(result)
            accepted, refused = ((), tuple(acks)) if not became else (became[0].accepted, became[0].refused)
            if refused and not accepted:
                reply(_fenced())
            else:
                reply(Told({"acknowledged": list(accepted), "refused": list(refused)}))

        self.records.change(request.table, request.group, step, done)

    def _heartbeat(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        def done(result: Result) -> None:
            if not (result is None or isinstance(result, Group)):
                reply(result)
                return
            self._changed(result)
            is_member = result is not None and result.member(request.session) is not None
            reply(Told({}) if is_member else _fenced())

        session = request.session
        self.records.change(
            request.table, request.group, lambda found: found and groups.heard(found, session), done
        )

    def _leave(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        def done(result: Result) -> None:
            if result is None or isinstance(result, Group):
                self._changed(result)
                reply(Told({}))
            else:
                reply(result)

        sessions = (request.session,)
        self.records.change(
            request.table, request.group, lambda found: found and groups.left(found, sessions), done
        )

    def _list(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        del request

        def done(found: list[Group] | Answer) -> None:
            reply(Told({"groups": [shown(group) for group in found]}) if isinstance(found, list) else found)

        self.records.every(done)

    def _show(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        def done(result: Result) -> None:
            if isinstance(result, Group):
                group = result
                self._lag.ask(group, lambda lags: reply(Told(self._with_lag(group, lags))))
            else:
                reply(_no_such_group(request) if result is None else result)

        self.records.change(request.table, request.group, lambda found: found, done)

    def _make(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        keyspace, _, name = request.table.partition(".")
        table = self.metadata.state.table(keyspace, name)
        if table is None:
            reply(no_such_table())
            return
        busy: list[bool] = []

        def put(group: Group, done: Done) -> None:
            def step(found: Group | None) -> Group:
                busy[:] = [found is not None and bool(found.members)]
                if found is None or found.members:
                    return found or group
                return msgspec.structs.replace(group, generation=found.generation + 1)

            self.records.change(group.table, group.group, step, done)

        def done(result: Result) -> None:
            if busy == [True]:
                reply(Invalid("group_busy", f"{request.group} has members: they have to leave first"))
            else:
                reply(Told(shown(result)) if isinstance(result, Group) else result or _no_such_group(request))

        join = Join(request.table, request.group, "", "", request.parts)
        wanted = ChangesRequest(table.id, request.start, since_us=request.since_us, join=join)
        self._find(wanted, put, done)

    def _with_lag(self, group: Group, lags: Lags) -> dict[str, Any]:
        now_us, found = self.inside.clock.now_us(), shown(group)
        for number, part in enumerate(found["parts"]):
            lag = lags[number]
            part["lag"] = None if lag is None else _shown_lag(lag, now_us)
        known = tuple(lag for lag in lags.values() if lag is not None)
        found["lag"] = _shown_lag(sum_of(known), now_us) if len(known) == len(lags) else None
        return found

    def _forget(self, request: GroupRequest, reply: Callable[[Answer], None]) -> None:
        was_there: list[bool] = []

        def step(found: Group | None) -> None:
            was_there[:] = [found is not None]

        def done(result: Result) -> None:
            if result is not None and not isinstance(result, Group):
                reply(result)
            else:
                reply(Told({}) if was_there == [True] else _no_such_group(request))

        self.records.change(request.table, request.group, step, done)


def _is_row_of(table: int, key: bytes) -> bool:
    """A snapshot that was to go on from elsewhere could not be read by anybody."""
    try:
        return split_row_key(key)[0] == table
    except ValueError:
        return False


def _whatever(result: Result) -> None:
    """Nobody waits for it."""


def _fenced() -> Invalid:
    text = "this session is no member any more, or others own these parts by now; they get the events again"
    return Invalid(FENCED, text)


def _shown_lag(lag: Lag, now_us: int) -> dict[str, Any]:
    seconds = max(0, now_us - lag.oldest_us) / 1e6 if lag.oldest_us else 0.0
    at_least = lag.at_least
    return {"events": lag.entries, "bytes": lag.bytes, "seconds": round(seconds, 3), "at_least": at_least}


def _no_such_group(request: GroupRequest) -> Invalid:
    return Invalid("no_such_group", f"{request.table} has no group {request.group}")


def shown(group: Group) -> dict[str, Any]:
    """A group, JSON-able; times in microseconds since 1970."""
    names = {member.session: member.name for member in group.members}
    return {
        "table": group.table,
        "group": group.group,
        "generation": group.generation,
        "created_us": group.created_us,
        "members": [
            {"member": member.name, "peer": member.peer, "parts": sorted(group.owned(member.session))}
            for member in group.members
        ],
        "parts": [
            {
                "part": number,
                "member": names.get(part.owner, ""),
                "cursor": part.cursor,
                "acknowledged_us": part.acked_us,
            }
            for number, part in enumerate(group.parts)
        ],
    }
