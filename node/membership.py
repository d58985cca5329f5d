"""One member of a consumer group: an open stream of the parts that the group gives to it.

A membership is a stream (node/subscriptions.py) whose ranges change. Every BEAT_US it beats, looks at the
beats of the others and at the group's record. Where something is to be done (to join, to put out members
whose beats were not seen to change for EXPIRY_US of its own clock, to give up parts that are to go to
others), it changes the record by a conditional update. From what the record says follows what it reads:

    a part that is new     begins at the record's cursor
    a part that stays      goes on where it was delivered, without a repetition
    a part that is to go   is read no more; when all that was delivered is acknowledged, or RELEASE_US later,
                           it is released, and its new owner begins at the record's cursor

In a group that begins with a snapshot rows come first (node/group_rows.py).

A membership that could not beat for EXPIRY_US may have been put out by others, so it ends: its client
comes back at a peer that can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.requests import Answer, Invalid, Timeout, Unready
from core.streaming import CURSOR, TRUNCATED, Assigned, ChangesPart, ChangesRequest, Notice, Place, TokenRange
from node.group_rows import GroupRows
from node.leases import Lease, LeaseWatch
from streams import groups
from streams.cursor import Cursor, cut_to, decode_cursor, name_of
from streams.groups import Group, Member, part_range

if TYPE_CHECKING:
    from core.ports import TimerId
    from node.group_records import Result
    from node.groups import Groups
    from node.subscriptions import Reply, Subscription

BEAT_US = 800_000
EXPIRY_US = 2_500_000
JOIN_US = 10 * limits.SECOND_US
"""How long joining may take: a group's first member makes it."""
RELEASE_US = 2_000_000
"""How long what was delivered of a part that is to go may take to be acknowledged."""
MEASURE_BEATS = 16
"""Every so many beats the first member has the group's lag measured."""
IDLE_ACK_US = 10 * limits.SECOND_US
"""How often what a member took counts where there was nothing for it: logs grow by what others write, too."""
AHEAD = 2
"""Parts of an answer that were told and may not have reached the client yet (server/bridge.py)."""

FENCED = "group_fenced"


class Membership:
    """One member's stream; its client is at this peer."""

    def __init__(self, parent: Groups, request_id: int, request: ChangesRequest, reply: Reply) -> None:
        """Nothing is read before `start`."""
        assert request.join is not None, "somebody joins"
        self._parent = parent
        self._inside = parent.inside
        self._request_id = request_id
        self._request = request
        self.join = request.join
        self._watch = LeaseWatch(request.join.session, EXPIRY_US)
        self._reply: Reply | None = reply
        self._credit = 0
        self._stream: Subscription | None = None
        self._rows: GroupRows | None = None
        """As long as rows of a snapshot are to be given out there is no stream."""
        self._reading: dict[int, int] = {}
        """Fences of the parts that are read now."""
        self._leaving: dict[int, tuple[int, int, Cursor]] = {}
        """Parts that are to go: fence, until when, what was delivered."""
        self._name = request.join.table.partition(".")
        self._due: ChangesPart | None = None
        """An assignment to be told when there is credit."""
        self._told: list[dict[int, tuple[int, Cursor]]] = []
        """What the last lines stood for, if that is to count by itself."""
        self._acks: dict[int, tuple[int, Cursor]] = {}
        """What counts with the next beat."""
        self._told_news = 0
        self._has_news = False
        self._committed_us = 0
        self._group: Group | None = None
        self._beats = 0
        self._others: dict[int, str] = {}
        """The last beats that were seen, by slot."""
        self._busy = False
        self._again = False
        self._timer: TimerId = 0
        self._beaten_us = self._inside.world.monotonic_us()
        self._heard = (-1, self._beaten_us)

    # --- life

    def start(self) -> None:
        """Join."""
        self._arm()
        self._change()

    def _arm(self) -> None:
        jitter_us = self._inside.world.below(BEAT_US // 8)
        self._timer = self._inside.timer(BEAT_US + jitter_us, "group_beat", self._request_id)

    def stop(self) -> None:
        """The client is gone: leave the group, so that others go on at once."""
        if self._reply is not None:
            self._close()
            self._leave()

    def _leave(self) -> None:
        self._parent.leave(self.join.table, self.join.group, self.join.session)

    def _close(self) -> None:
        self._reply = None
        self._stop_reading()
        self._inside.world.cancel_timer(self._timer)
        self._parent.ended(self._request_id)

    def _end(self, answer: Answer) -> None:
        reply = self._reply
        self._close()
        if reply is not None:
            reply(answer, True)

    def want(self, parts: int) -> None:
        """The client takes more parts."""
        self._credit += parts
        self._flush()

    def _flush(self) -> None:
        if self._due is not None and self._credit > 0:
            due, self._due = self._due, None
            self._tell(due)
        if self._due is None and self._stream is not None and self._credit > 0:
            self._stream.want(self._credit - self._stream.credit)
        if self._due is None and self._rows is not None and self._credit > 0:
            self._rows.want()

    def _tell(self, part: ChangesPart) -> None:
        if self._reply is not None:
            self._credit -= 1
            if self.join.auto and part.acks:
                self._count_auto(part)
            self._reply(part, False)

    # --- the record

    def on_beat(self) -> None:
        """Time to change the record."""
        now_us = self._inside.world.monotonic_us()
        is_in = self._group is not None
        if now_us - self._beaten_us > (EXPIRY_US if is_in else JOIN_US):
            self._leave()
            self._end(Unready("the group's record cannot be reached from this peer: use another"))
            return
        session_us = self.join.session_us
        if is_in and not self._reading and not self._leaving:
            self._heard = self._heard[0], now_us  # who has no parts has nothing to acknowledge
        if is_in and session_us and now_us - self._heard[1] > session_us:
            self._leave()
            why = f"nothing was acknowledged and no heartbeat came for {session_us / limits.SECOND_US:g} s"
            self._end(Invalid(FENCED, why))
            return
        spare = 0 if self._rows is None else 1  # of a page that is being read
        if self._stream is None and self._due is None and self._credit > spare and is_in:
            self._tell(ChangesPart(self._request.table, 0, ()))
        self._arm()
        if is_in:
            self._beat()
        else:
            self._change()

    def _beat(self) -> None:
        """Say that we live, and look around."""
        join, records, group = self.join, self._parent.records, self._group
        me = None if group is None else group.member(join.session)
        assert me is not None, "a member"
        began_us = self._inside.world.monotonic_us()
        is_known = (join.table, join.group) in self._parent.lags
        if me.slot == 0 and group is not None and (self._beats % MEASURE_BEATS == 0 or not is_known):
            self._parent.measure(group)
        self._beats += 1

        def beaten(good: bool) -> None:
            if good:
                self._beaten_us = max(self._beaten_us, began_us)

        records.beat((join.table, join.group, me.slot), f"{join.session} {self._beats}", beaten)
        records.beats(join.table, join.group, self._on_beats)
        records.look(join.table, join.group, self._on_looked)

    def _on_beats(self, beats: dict[int, str]) -> None:
        self._others = beats
        is_late = self._inside.world.monotonic_us() - self._committed_us >= IDLE_ACK_US
        is_due = bool(self._acks) and (self._has_news or is_late)
        if self._reply is not None and (is_due or self._dead()):
            self._change()

    def _on_looked(self, result: Result) -> None:
        if self._reply is not None and isinstance(result, Group):
            self.adopt(result)

    def _change(self) -> None:
        """Change the record now, or as soon as the change under way is decided."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        join, now_us, is_new = self.join, self._inside.clock.now_us(), self._group is None
        dead, gone = self._dead(), self._released()
        acks, self._acks = self._acks, {}
        self._has_news, self._committed_us = False, self._inside.world.monotonic_us()
        me = Member(join.member, join.session, self._inside.identity.name)

        def step(group: Group | None) -> Group | None:
            if group is None or (group.member(join.session) is None and not is_new):
                return group
            if is_new:
                group = groups.joined(group, me)
            group = groups.committed(group, join.session, acks, now_us).group
            return groups.left(groups.released(group, join.session, gone), dead)

        self._parent.records.change(join.table, join.group, step, self._on_record)

    def _dead(self) -> tuple[str, ...]:
        """Sessions that have not beaten for too long, as far as we have seen."""
        if self._group is None:
            return ()
        now_us = self._inside.world.monotonic_us()
        dead = []
        for member in self._group.members:
            session, _, beat = self._others.get(member.slot, "").partition(" ")
            lease = Lease(member.session, 0, int(beat) if session == member.session else -1)
            if self._watch.is_over(member.session, lease, now_us) and member.session != self.join.session:
                dead.append(member.session)
        return tuple(dead)

    def _released(self) -> tuple[int, ...]:
        """Parts that may go now."""
        now_us, group = self._inside.world.monotonic_us(), self._group
        if group is None:
            return ()

        def is_acknowledged(number: int, cursor: Cursor) -> bool:
            text = group.parts[number].cursor
            return groups.moved(text, cursor) == text

        found = []
        for number in group.owned(self.join.session):
            if not group.parts[number].to or number in self._reading:
                continue
            left = self._leaving.get(number)  # None: it was never read by this session
            if left is None or now_us >= left[1] or is_acknowledged(number, left[2]):
                found.append(number)
        return tuple(found)

    def _on_record(self, result: Result) -> None:
        self._busy = False
        if self._reply is None:
            self._leave()
            return
        if isinstance(result, Group):
            if self._group is None:
                self._beaten_us = self._inside.world.monotonic_us()
            self.adopt(result)
        elif result is None and self._group is None:
            self._busy = True
            self._parent.make(self._request, self._on_record)
        elif result is None:
            self._end(Invalid(FENCED, "the group was removed"))
        elif isinstance(result, Invalid) or (self._group is None and not isinstance(result, Timeout)):
            self._end(result)
        if self._again and self._reply is not None:
            self._again = False
            self._change()

    def adopt(self, group: Group) -> None:
        """The record is so now."""
        if self._reply is None or (self._group is not None and group.generation < self._group.generation):
            return
        me = group.member(self.join.session)
        if me is None and self._group is None:
            self._again = True  # it has just been made
            return
        if me is None:
            self._end(Invalid(FENCED, "another connection took this member's place, or it was put out"))
            return
        is_first, self._group = self._group is None, group
        self._watch.keep([member.session for member in group.members])
        if me.heard != self._heard[0]:
            self._heard = me.heard, self._inside.world.monotonic_us()
        owned = group.owned(self.join.session)
        wanted = {number: fence for number, fence in owned.items() if not group.parts[number].to}
        self._leaving = {
            number: kept for number, kept in self._leaving.items() if owned.get(number) == kept[0]
        }
        if wanted != self._reading or is_first:
            self._read(group, wanted)
        if self._released():
            self._change()

    # --- what is read

    def _read(self, group: Group, wanted: dict[int, int]) -> None:
        """Go on with these parts."""
        table = self._parent.metadata.state.table(self._name[0], self._name[2])
        if table is None:
            self._leave()
            self._end(Invalid("no_such_table", f"the table {self.join.table} was dropped"))
            return
        standing, notices = self._stands(group, wanted, table.id)
        self._reading = dict(wanted)
        self._stop_reading()
        places = [place for cursor in standing.values() for place in cursor.places]
        kept = [place for _, _, cursor in self._leaving.values() for place in cursor.places]
        acks = {**wanted, **{number: kept[0] for number, kept in self._leaving.items()}}
        unread = [*standing.items(), *((number, kept[2]) for number, kept in self._leaving.items())]
        for number, cursor in unread:
            if cursor.scanned is not None:  # such a word says up to which row, which one cursor cannot of all
                acks.pop(number, None)
        due = ChangesPart(table.id, group.since_us, tuple(sorted([*places, *kept])), began_us=group.began_us)
        count = len(group.parts)
        assigned = Assigned(group.generation, count, tuple(sorted(wanted)))
        self._due = msgspec.structs.replace(
            due, assigned=assigned, acks=tuple(sorted(acks.items())), notices=tuple(notices)
        )
        if any(cursor.scanned is not None for cursor in standing.values()):
            self._rows = GroupRows(
                self._parent.records.scans,
                self._inside,
                self._on_rows,
                request_id=self._request_id,
                table=table.id,
                count=count,
                standing=standing,
                fences=self._reading,
            )
        elif wanted:
            self._open(group, table.id, tuple(sorted(places)))
        self._flush()

    def _open(self, group: Group, table: int, places: tuple[Place, ...]) -> None:
        """Stream what happens to the parts that are read."""
        ranges = tuple(part_range(number, len(group.parts)) for number in sorted(self._reading))
        start = table, CURSOR, places, group.since_us, ranges, group.began_us
        self._stream = self._parent.open(ChangesRequest(*start), self._on_part)

    def _stop_reading(self) -> None:
        if self._stream is not None:
            self._stream.stop()
        if self._rows is not None:
            self._rows.stop()
        self._stream = self._rows = None

    def _on_rows(self, page: ChangesPart) -> None:
        """Rows of a snapshot; after the last ones come events."""
        if page.rows:
            self._told_news = AHEAD + 2
        self._tell(page)
        rows, group = self._rows, self._group
        if rows is not None and group is not None and not rows.left:
            self._rows = None
            places = [place for cursor in rows.standing.values() for place in cursor.places]
            self._open(group, page.table, tuple(sorted(places)))
        self._flush()

    def read_again(self) -> None:
        """Rows could not be read a moment ago."""
        if self._reply is not None and self._rows is not None and self._group is not None:
            self._read(self._group, dict(self._reading))

    def _stands(
        self, group: Group, wanted: dict[int, int], table: int
    ) -> tuple[dict[int, Cursor], list[Notice]]:
        """From where to go on with parts, and what to say about it; parts that are to go are put aside."""
        count, now_us = len(group.parts), self._inside.world.monotonic_us()
        owned, whole = group.owned(self.join.session), self._delivered(group)
        standing = {} if self._rows is None else self._rows.standing

        def delivered(number: int) -> Cursor:
            return standing.get(number) or cut_to(whole, (part_range(number, count),))

        for number, fence in self._reading.items():
            if wanted.get(number) != fence and owned.get(number) == fence:
                self._leaving[number] = fence, now_us + RELEASE_US, delivered(number)
        found: dict[int, Cursor] = {}
        emptied: list[TokenRange] = []
        for number, fence in wanted.items():
            bounds = part_range(number, count)
            left = self._leaving.pop(number, None)
            if self._reading.get(number) == fence:
                cursor: Cursor | str = delivered(number)
            elif left is not None and left[0] == fence:
                cursor = left[2]
            else:
                cursor = decode_cursor(group.parts[number].cursor)
            if not isinstance(cursor, Cursor) or not cursor.covers((bounds,)):
                cursor = msgspec.structs.replace(whole, table=table, places=(Place(*bounds, 0, ()),))
            if cursor.table != table:
                emptied.append(bounds)
                cursor = msgspec.structs.replace(cursor, scanned=None)
            found[number] = cursor
        why = "all rows were removed at once"
        return found, [Notice(TRUNCATED, tuple(sorted(emptied)), why)] if emptied else []

    def _delivered(self, group: Group) -> Cursor:
        """How far the parts that are read are delivered."""
        stream = self._stream
        places, table = ((), 0) if stream is None else (stream.places(), stream.table)
        name = name_of(self._parent.metadata.state.cluster, self.join.table)
        return Cursor(name, table, group.since_us, places, group.began_us)

    def _on_part(self, answer: Answer, last: bool) -> None:
        """The stream has something."""
        if last or not isinstance(answer, ChangesPart):
            self._leave()
            self._end(answer)
            return
        if answer.entries:
            self._told_news = AHEAD + 2  # the lines after which it counts
        if answer.whole:
            answer = msgspec.structs.replace(answer, acks=tuple(sorted(self._reading.items())))
        self._tell(answer)

    def _count_auto(self, part: ChangesPart) -> None:
        """Lines that the client must have taken by now count as acknowledged."""
        group = self._group
        assert group is not None, "parts of a group"
        name = name_of(self._parent.metadata.state.cluster, self.join.table)
        cursor = Cursor(name, part.table, group.since_us, part.places, group.began_us, part.scanned)
        self._told.append({number: (fence, cursor) for number, fence in part.acks})
        if len(self._told) > AHEAD:
            counted = self._told.pop(0)
            self._has_news = self._has_news or self._told_news > 0
            self._told_news -= 1
            self._acks.update(counted)
