"""Coordinating a change stream: one replica followed per range of tokens, all of them merged for a client.

Each range is followed at one replica (node/change_serving.py), so a key's events come in one log's order
and their images chain. Ranges that stand alike at one peer are one *lane*, with one question under way and
at most one page held, which waits for the client's credit: a slow reader has nothing asked for it.

A lane's place is a vector: of each replica, up to where its log is delivered. Of the peer that is followed
that is the last page's end; of its siblings what came with a page that reached the end of the log. When the
peer dies, falls silent or does not hold a range any more, another replica goes on from its own offset in that
vector: events between were seen already and come again, under the same ids, and images may not continue, so a
RESTART says so. Nothing that was acknowledged at a quorum is missed: whoever goes on holds it, or gets it by
following a sibling, and then it is in its log behind that offset.

Every HEARTBEAT_US at the latest the client gets the places of all lanes: that is what a cursor is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.commands import AT_END
from core.messages import AskChanges, ChangesTold, OperationFailed, Stale
from core.ports import PeerId, TimerId
from core.requests import Answer, Invalid, Overloaded
from core.streaming import (
    CURSOR,
    GAP,
    NOW,
    RESTART,
    TRUNCATED,
    ChangesPart,
    ChangesRequest,
    Notice,
    Offsets,
    Place,
    TokenRange,
)
from node.scans import Replicas, joined_ranges
from node.writes import no_such_table

if TYPE_CHECKING:
    from node.change_serving import ChangeServing
    from node.reads import Reads

HEARTBEAT_US = 900_000
WAIT_US = 400_000
"""How long a replica keeps a question that it has no answer to."""

SILENCE_US = 1_500_000
"""A replica that says nothing for so long beyond that is passed over."""

RETRY_US = 200_000
"""Between two rounds through all replicas of a range, none of which could serve it."""

NOW_SLACK_US = 300 * limits.SECOND_US
"""What was admitted so long before a stream that begins now cannot be acknowledged after it began: where no
offset is known of a replica that takes over, its log is read from its beginning, without what is older.
"""

SUBSCRIPTIONS_MAX = 1_024

Reply = Callable[[Answer, bool], None]


UNFIT_US = 5 * limits.SECOND_US
"""A replica that failed us is not asked again for so long, as long as there are others."""


@dataclass(slots=True, eq=False)
class _Lane:
    """Ranges that stand alike, and the replica that is followed for them (None: nobody can be, now)."""

    ranges: list[TokenRange]
    offsets: dict[int, int]
    server: PeerId | None = None
    number: int = 0
    said: int = 0
    """The number of the peer whose events the client has: another one's begin with a RESTART."""
    op: int = 0
    timer: TimerId = 0
    fresh: bool = True
    """Nothing was read yet: wherever the log begins, nothing is missing before."""
    opened: bool = True
    """False: it is not known yet where the end of a log was that it begins at."""
    sifting: bool = False
    """The log is read from its beginning, as no offset was known: up to its end, what is old is left out."""
    heard_us: int = 0
    """When a replica last answered."""
    held: ChangesTold | None = None
    holes: dict[int, int] = field(default_factory=dict)

    def places(self) -> tuple[Place, ...]:
        offsets = tuple(sorted(self.offsets.items()))
        return tuple(Place(first, last, self.said, offsets) for first, last in self.ranges)


class Subscriptions:
    """The streams that this peer coordinates."""

    def __init__(self, reads: Reads, serving: ChangeServing) -> None:
        """Register."""
        self.reads = reads
        self.serving = serving
        self.inside = reads.inside
        self.under_way: dict[int, Subscription] = {}
        self.inside.on_timer("changes_beat", self._on_beat)
        self.inside.on_timer("changes_silence", self._on_silence)
        self.inside.on_timer("changes_retry", self._on_retry)
        reads.swim.on_change(self._on_liveness)

    def begin(self, request_id: int, request: ChangesRequest, reply: Reply) -> None:
        """Stream; the last reply is a refusal. None comes after `cancel`."""
        if len(self.under_way) >= SUBSCRIPTIONS_MAX:
            detail = f"this peer serves {SUBSCRIPTIONS_MAX} change streams already: use another"
            reply(Overloaded(detail), True)
            return
        if self.reads.metadata.state.placement(request.table) is None:
            reply(no_such_table(), True)
            return
        self.open(request_id, request, reply)

    def open(self, request_id: int, request: ChangesRequest, reply: Reply) -> Subscription:
        """Begin a stream that may be begun; parts of this peer have numbers below 0 for theirs."""
        subscription = Subscription(self, request_id, request, reply)
        self.under_way[request_id] = subscription
        self.inside.count("change_streams_now", len(self.under_way))
        subscription.start()
        return subscription

    def want(self, request_id: int, parts: int) -> None:
        """The client takes more parts."""
        subscription = self.under_way.get(request_id)
        if subscription is not None:
            subscription.want(parts)

    def cancel(self, request_id: int) -> None:
        """The client is gone."""
        subscription = self.under_way.get(request_id)
        if subscription is not None:
            subscription.stop()

    def ended(self, request_id: int) -> None:
        """A stream is over."""
        self.under_way.pop(request_id, None)
        self.inside.count("change_streams_now", len(self.under_way))

    def _on_beat(self, request_id: int) -> None:
        subscription = self.under_way.get(request_id)
        if subscription is not None:
            subscription.on_beat()

    def _on_silence(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if isinstance(operation, Subscription):
            operation.on_silence(op)

    def _on_retry(self, request_id: int) -> None:
        subscription = self.under_way.get(request_id)
        if subscription is not None:
            subscription.retry()

    def _on_liveness(self, peer: PeerId, state: int) -> None:
        del state
        if not self.reads.swim.is_alive(peer):
            for subscription in tuple(self.under_way.values()):
                subscription.on_death(peer)


class Subscription:
    """One stream."""

    def __init__(self, parent: Subscriptions, request_id: int, request: ChangesRequest, reply: Reply) -> None:
        self._parent = parent
        self._inside = parent.inside
        self._request_id = request_id
        self._reply: Reply | None = reply
        self._table = request.table
        self._since_us = request.since_us
        self._began_us = self._inside.clock.now_us() if request.start == NOW else request.began_us
        table = parent.reads.metadata.state.tables[request.table]
        self._name = (table.keyspace, table.name)
        self._credit = 0
        self._beat_due = False
        self._opened = False
        self._beat: TimerId = 0
        self._retrying = False
        self._unfit: dict[PeerId, int] = {}
        self._asked: dict[int, _Lane] = {}
        self._notices: list[Notice] = []
        if request.start == CURSOR:
            self._lanes = _lanes_of(request.places)
        else:
            self._lanes = [_Lane(list(request.ranges), {}, opened=request.start != NOW)]
        for lane in self._lanes:
            lane.heard_us = self._inside.world.monotonic_us()

    # --- life

    def start(self) -> None:
        """Choose whom to follow, and ask."""
        self._beat = self._inside.timer(HEARTBEAT_US, "changes_beat", self._request_id)
        self._assign(list(self._lanes))

    def stop(self) -> None:
        """Nothing is replied from now on."""
        self._reply = None
        self._parent.ended(self._request_id)
        for lane in self._lanes:
            self._close(lane)
        self._inside.world.cancel_timer(self._beat)

    def _end(self, answer: Answer) -> None:
        reply = self._reply
        self.stop()
        if reply is not None:
            reply(answer, True)

    def want(self, parts: int) -> None:
        """Credit for more parts."""
        self._credit += parts
        for lane in tuple(self._lanes):
            told = lane.held
            if told is not None and self._credit > 0:
                lane.held = None
                self._deliver(lane, told)
        if self._beat_due:
            self._send_beat()

    def places(self) -> tuple[Place, ...]:
        """How far each range is delivered."""
        return tuple(sorted(place for lane in self._lanes for place in lane.places()))

    @property
    def credit(self) -> int:
        """Parts that the client would take."""
        return self._credit

    @property
    def table(self) -> int:
        """The table's id, which TRUNCATE renews."""
        return self._table

    # --- whom to follow

    def _assign(self, lanes: list[_Lane]) -> None:
        """Give the ranges of these lanes to replicas; a lane is divided where they are several."""
        reads = self._parent.reads
        placement = reads.metadata.state.placement(self._table)
        if placement is None:
            self._renew()
            return
        now_us = self._inside.world.monotonic_us()
        self._unfit = {peer: until for peer, until in self._unfit.items() if until > now_us}
        there = joined_ranges(placement)
        for lane in lanes:
            if lane not in self._lanes:  # asking for another one ended in asking anew for all
                continue
            self._close(lane)
            self._lanes.remove(lane)
            made: dict[PeerId | None, _Lane] = {}
            for begin, end, replicas in _within(lane.ranges, there):
                alive = [peer for peer in replicas if reads.swim.is_alive(peer) and peer not in self._unfit]
                server = self._choice(lane, reads.preferred(alive, placement), list(made))
                if server not in made:
                    made[server] = self._beside(lane, server)
                made[server].ranges.append((begin, end))
            for part in made.values():
                self._lanes.append(part)
                self._ask(part)
                if self._reply is None:
                    return

    def _choice(self, lane: _Lane, order: list[PeerId], chosen: list[PeerId | None]) -> PeerId | None:
        """Whom to follow: whom we followed, if we can; else whom we know an offset of; else who is chosen
        already, so that few are; else anybody.
        """
        number_of = self._parent.reads.metadata.state.number_of

        def rank(peer: PeerId) -> tuple[bool, bool, bool]:
            number = number_of(peer)
            return (number != lane.number, number not in lane.offsets, peer not in chosen)

        return min(order, key=rank, default=None)

    def _beside(self, lane: _Lane, server: PeerId | None) -> _Lane:
        """A lane without ranges that stands where another one does, followed at a peer."""
        number = lane.number
        if server is not None:
            number = self._parent.reads.metadata.state.number_of(server) or 0
        return _Lane(
            [],
            dict(lane.offsets),
            server,
            number,
            lane.said,
            fresh=lane.fresh,
            opened=lane.opened,
            heard_us=lane.heard_us,
            holes=dict(lane.holes),
        )

    def retry(self) -> None:
        """All replicas may be tried again."""
        self._retrying = False
        self._unfit.clear()
        self._assign([lane for lane in self._lanes if lane.server is None])

    def on_death(self, peer: PeerId) -> None:
        """A peer is not alive any more, as far as we know."""
        self._assign([lane for lane in self._lanes if lane.server == peer and lane.held is None])

    def _pass_over(self, lane: _Lane) -> None:
        if lane.server is not None:
            self._unfit[lane.server] = self._inside.world.monotonic_us() + UNFIT_US
        self._assign([lane])

    # --- asking

    def _ask(self, lane: _Lane) -> None:
        inside, reads = self._inside, self._parent.reads
        if lane.server is None:
            if not self._retrying:
                self._retrying = True
                inside.timer(RETRY_US, "changes_retry", self._request_id)
            return
        lane.op = op = inside.new_op()
        inside.operations[op] = self
        self._asked[op] = lane
        lane.timer = inside.timer(WAIT_US + SILENCE_US, "changes_silence", op)
        after = lane.offsets.get(lane.number, 0) if lane.opened else AT_END
        since_us = self._since_us
        lane.sifting = lane.sifting or (lane.opened and lane.number not in lane.offsets)
        if lane.sifting and self._began_us:
            since_us = max(since_us, self._began_us - NOW_SLACK_US)
        message = AskChanges(
            op, reads.metadata.state.epoch, self._table, tuple(lane.ranges), after, since_us, WAIT_US
        )
        if lane.server == reads.me:
            self._parent.serving.serve(message, lambda told: self.on_message(reads.me, told))
        elif not inside.send(lane.server, message):
            self._pass_over(lane)

    def _close(self, lane: _Lane) -> None:
        """No answer is expected any more, and one that waits for credit is forgotten."""
        lane.held = None
        if self._asked.pop(lane.op, None) is not None:
            self._inside.operations.pop(lane.op, None)
            self._inside.world.cancel_timer(lane.timer)

    def on_silence(self, op: int) -> None:
        """A replica did not answer."""
        lane = self._asked.get(op)
        if lane is not None and lane.server is not None:
            self._parent.reads.was_slow(lane.server)
            self._pass_over(lane)

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a replica; late ones find no lane."""
        lane = self._asked.get(message.op)
        if lane is None or peer != lane.server or self._reply is None:
            return
        self._close(lane)
        if isinstance(message, ChangesTold):
            lane.heard_us = self._inside.world.monotonic_us()
            if self._credit > 0 or self._is_silent(lane, message):
                self._deliver(lane, message)
            else:
                lane.held = message
        elif self._renew():
            if isinstance(message, Stale) or message.why == "changed":
                self._ask(lane)  # the epochs that we lacked are adopted by now
            else:
                assert isinstance(message, OperationFailed), message
                self._pass_over(lane)

    def _is_silent(self, lane: _Lane, told: ChangesTold) -> bool:
        """Whether there is nothing to tell the client."""
        return not told.entries and lane.said in (0, lane.number) and not self._missing(lane, told)

    def _missing(self, lane: _Lane, told: ChangesTold) -> str:
        """Why something may be missing between the lane's place and this page, or ""."""
        if not lane.opened:
            return ""
        after = lane.offsets.get(lane.number, 0)
        if told.first > after + 1 and not lane.fresh:
            return "the log does not reach back so far any more"
        is_passed = after < told.hole or (after == told.hole and told.hole > 0 and not lane.fresh)
        if is_passed and lane.holes.get(lane.number) != told.hole:
            return "this replica was away for so long that the others had forgotten what it missed"
        return ""

    def _deliver(self, lane: _Lane, told: ChangesTold) -> None:
        """Pass a page on, and ask for the next one."""
        notices = []
        if lane.said not in (0, lane.number):
            notices.append(Notice(RESTART, tuple(lane.ranges), "another replica is followed from here on"))
        lane.said = lane.number
        lane.heard_us = self._inside.world.monotonic_us()
        why = self._missing(lane, told)
        if why:
            notices.append(Notice(GAP, tuple(lane.ranges), why))
        lane.holes[lane.number] = told.hole
        offsets = lane.offsets
        for number, offset in ((lane.number, told.next_after), *told.followed):
            offsets[number] = max(offsets.get(number, 0), offset)
        lane.fresh, lane.opened = False, True
        lane.sifting = lane.sifting and not told.followed
        if notices or told.entries:
            part = ChangesPart(self._table, self._since_us, lane.places(), entries=told.entries)
            self._part(part, notices)
        if self._reply is not None:
            self._ask(lane)
        if not self._opened and all(each.opened for each in self._lanes):
            self._opened = True
            self._send_beat()

    def _part(self, part: ChangesPart, notices: list[Notice]) -> None:
        assert self._reply is not None, "somebody to tell"
        self._credit -= 1
        told, self._notices = (*self._notices, *notices), []
        self._reply(msgspec.structs.replace(part, notices=told, began_us=self._began_us), False)

    # --- heartbeats

    def on_beat(self) -> None:
        """Time to tell where the stream stands."""
        self._beat = self._inside.timer(HEARTBEAT_US, "changes_beat", self._request_id)
        if self._renew():
            self._send_beat()

    def _send_beat(self) -> None:
        self._beat_due = self._credit <= 0
        if self._beat_due or self._reply is None:
            return
        places = self.places()
        since_us = self._inside.world.monotonic_us() - WAIT_US - SILENCE_US
        silent = [lane for lane in self._lanes if lane.heard_us < since_us and lane.held is None]
        unserved = [pair for lane in silent for pair in lane.ranges]
        if not all(lane.opened for lane in self._lanes):
            places = ()
        none = tuple(sorted(unserved))
        self._part(ChangesPart(self._table, self._since_us, places, whole=bool(places), unserved=none), [])

    # --- the table

    def _renew(self) -> bool:
        """Go on with the table that took this one's place, if one did; False if nothing is to be done now."""
        state = self._parent.reads.metadata.state
        if self._table in state.tables:
            return True
        found = state.table(*self._name)
        if found is None:
            self._end(Invalid("no_such_table", f"the table {'.'.join(self._name)} was dropped"))
            return False
        self._table = found.id
        ranges = tuple(sorted(pair for lane in self._lanes for pair in lane.ranges))
        self._notices.append(Notice(TRUNCATED, ranges, "all rows were removed at once"))
        self._assign(list(self._lanes))
        self._send_beat()
        return False


def _lanes_of(places: tuple[Place, ...]) -> list[_Lane]:
    """Places that stand alike as one lane."""
    lanes: dict[tuple[int, Offsets], _Lane] = {}
    for place in places:
        lane = lanes.get((place.server, place.offsets))
        if lane is None:
            server = place.server
            lane = _Lane([], dict(place.offsets), None, server, server, fresh=not place.offsets)
            lanes[place.server, place.offsets] = lane
        lane.ranges.append((place.first, place.last))
    return list(lanes.values())


def _within(
    ranges: list[TokenRange], there: list[tuple[int, int, Replicas]]
) -> list[tuple[int, int, Replicas]]:
    """The parts of these ranges that one set of replicas holds each."""
    found = []
    for first, last in ranges:
        for begin, end, replicas in there:
            if begin <= last and first <= end:
                found.append((max(first, begin), min(last, end), replicas))
    return found
