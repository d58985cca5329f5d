"""A member of a consumer group in a simulated cluster: reads, works on what it read, then acknowledges it.

What it reads it holds until it acknowledges; only then it counts as worked on. One that dies loses what it
held, its connection breaks, and later a new one may come under its name or another. One that *stands still*
keeps its last acknowledgement and says it seconds later, when others have its parts long since: that must be
refused. What can be judged while reading is:

    gap         nothing is said to be missing, where nothing was forgotten
    foreign     events are of parts that were assigned before, and of no others
    fence       a part's acknowledgements are accepted in the order of its owners
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from core.mutation import decode_mutation
from core.requests import Answer, Told
from core.row import OPERATION_SUFFIX
from core.streaming import ACK, GAP, START, ChangesPart, ChangesRequest, GroupRequest, Join, TokenRange
from jepsen_like.checkers import Problem
from jepsen_like.subscriber import may_lose_logs
from kv.buckets import Bucket
from ring.tokens import token_of
from sim.cluster import Reply, SimCluster
from sim.real import node_of
from streams.cursor import Cursor, encode_cursor, name_of
from streams.events import ENDED, Event, event_of_row, events_of, restarted
from streams.groups import part_range

SECOND = 1_000_000
SILENCE_US = 4 * SECOND
RETRY_US = SECOND // 5
WORK_US = SECOND // 2
SESSION_US = 5 * SECOND
ACK_TIMEOUT_US = 3 * SECOND
JOIN_US = 12 * SECOND
"""After so long without a first word a member tries another peer: joining is decided like a condition, and
over slow links by several at once takes a while.
"""


class Work(NamedTuple):
    """What an event says was done: the key, and what was written (None: a deletion)."""

    id: str
    key: str
    value: bytes | None


class Group:
    """What all members of a group did."""

    def __init__(
        self, cluster: SimCluster, bucket: Bucket, name: str, parts: int, start: str = START
    ) -> None:
        self.cluster = cluster
        self.bucket = bucket
        self.name = name
        self.parts = parts
        self.start = start
        self.cluster_id = node_of(cluster, cluster.running()[0]).metadata.state.cluster
        """Cursors name it; peers that were asked for one may be gone by then."""
        self.ids: dict[str, Work] = {}
        self.done: dict[tuple[str, bytes | None], str] = {}
        """What was worked on: the event's id."""
        self.deletes: dict[tuple[str, int], str] = {}
        self.repeats = self.acks = self.refused = self.handed_over = self.rows = 0
        self.problems: list[Problem] = []
        self.gaps: list[TokenRange] = []
        self._fences: dict[int, list[tuple[int, int, int]]] = {}
        """Of each part the accepted acknowledgements: fence, when it was sent, when it was known."""

    def worked(self, work: Work, timestamp_us: int) -> None:
        """A member has worked on an event."""
        known = self.ids.setdefault(work.id, work)
        if known != work:
            self.problem("id_changed", f"{work.id} was {known}, is {work}")
        if (work.key, work.value) in self.done:
            self.repeats += 1
        self.done[work.key, work.value] = work.id
        if work.value is None:
            self.deletes[work.key, timestamp_us] = work.id

    def accepted(self, part: int, fence: int, sent_us: int) -> None:
        """An acknowledgement was accepted: no later owner may have been heard before it was sent."""
        known = self._fences.setdefault(part, [])
        for other, _, known_us in known:
            if other > fence and known_us < sent_us:
                text = f"part {part} was acknowledged at fence {other}, then accepted at fence {fence}"
                self.problem("fence", text)
                break
        known.append((fence, sent_us, self.cluster.now_us))
        if len(known) > 1 and known[-2][0] < fence:
            self.handed_over += 1

    def misses(self, key: str) -> bool:
        """Whether a member was told that something of this key may be missing."""
        token = token_of(key.encode())
        return any(first <= token <= last for first, last in self.gaps)

    def problem(self, name: str, text: str) -> None:
        """Something is wrong."""
        if len(self.problems) < 10:
            self.problems.append(
                Problem(name, f"{self.name} at {self.cluster.now_us / SECOND:.3f} s: {text}")
            )


class GroupMember:
    """One member."""

    def __init__(self, group: Group, name: str) -> None:
        """It reads nothing before `open`."""
        self.group = group
        self.name = name
        self._cluster = group.cluster
        self._random = Random(f"{group.cluster.options.seed}:member:{name}")
        self._life = 0
        self.sessions = self._names = 0
        self._call = 0
        self._heard_us = 0
        self._session = ""
        self._held: list[tuple[Work, int]] = []
        self._worked = 0
        self.parts: tuple[int, ...] = ()
        self.peer = -1
        self.alive = False
        self._last: tuple[GroupRequest, int] | None = None
        """The last acknowledgement that could be said, and how much of what is held it stands for."""

    # --- life

    def open(self, peer: int = -1) -> None:
        """Come, at a peer (-1: any that runs), and again elsewhere whenever the stream ends."""
        self.alive = True
        self._life += 1
        self._held, self._worked, self._last, self.parts = [], 0, None, ()
        self._heard_us = self._cluster.now_us
        running = self._cluster.running()
        if not running:
            self._later()
            return
        self.peer = peer if peer >= 0 else running[self._random.randrange(len(running))]
        self.sessions += 1
        self._session = f"{self.name}/{self.sessions}"
        life = self._life

        def part(answer: Answer) -> None:
            if life == self._life:
                assert isinstance(answer, ChangesPart), answer
                self._take(answer)

        def ended(reply: Reply) -> None:
            del reply
            if life == self._life:
                self._later()

        bucket = self.group.bucket
        table = f"{bucket.keyspace}.{bucket.name}"
        if self._random.randrange(2):
            self._names += 1  # as one that does not know who it was
        name = f"{self.name}.{self._names}"
        join = Join(table, self.group.name, name, self._session, self.group.parts, SESSION_US)
        request = ChangesRequest(bucket.table, self.group.start, join=join)
        self._call = self._cluster.stream(self.peer, request, part, ended)
        self._cluster.scheduler.after(JOIN_US, self._watch, life)

    def _later(self) -> None:
        self._life += 1
        self.parts = ()
        self._cluster.scheduler.after(RETRY_US, self._again, self._life)

    def _again(self, life: int) -> None:
        if life == self._life and self.alive:
            self.open()

    def _watch(self, life: int) -> None:
        if life != self._life or not self.alive:
            return
        if self._cluster.now_us >= self._heard_us + SILENCE_US:
            self._cluster.leave(self._call)
            self.open()
        else:
            self._cluster.scheduler.after(SILENCE_US, self._watch, life)

    def die(self, stands_still_us: int = 0, vanish: bool = False) -> None:
        """What it held is gone. With a time, its last word is said so much later. One that vanishes leaves
        its connection behind, as a machine does whose power is gone.
        """
        if not self.alive:
            return
        self.alive = False
        self._life += 1
        self.parts = ()
        if not vanish:
            self._cluster.leave(self._call)
        if stands_still_us and self._last is not None:
            request, count = self._last
            held = self._held[self._worked : count]
            self._cluster.scheduler.after(stands_still_us, self._wake, held, request)
        self._last = None

    def _wake(self, held: list[tuple[Work, int]], request: GroupRequest) -> None:
        """Work on what was held, as if no time had passed."""
        for work, timestamp_us in held:
            self.group.worked(work, timestamp_us)
        self._say(request)

    # --- reading

    def _take(self, part: ChangesPart) -> None:
        self._heard_us = self._cluster.now_us
        if part.assigned is not None:
            self.parts = part.assigned.parts
        for notice in part.notices:
            if notice.kind == GAP and may_lose_logs(self._cluster):
                self.group.gaps += notice.ranges
            elif notice.kind == GAP:
                self.group.problem("gap", f"{notice.why} ({notice.ranges})")
        ranges = [part_range(number, self.group.parts) for number in self.parts]
        for key, row in part.rows:
            self._read_row(event_of_row(key, row, part.rows_us), ranges)
        for entry in part.entries:
            is_ours = any(first <= entry.token <= last for first, last in ranges)
            if restarted(entry) is None and not is_ours:  # a restart names more tokens than one
                self.group.problem("foreign", f"{self.name} of {self.parts} got an event at {entry.token}")
            events = events_of(entry, "new")
            mutation = decode_mutation(entry.data) if events and events[0].operation != ENDED else None
            values = {}
            for suffix, row in mutation.rows if mutation is not None else ():
                if suffix[:1] != OPERATION_SUFFIX:
                    cells = {cell.column: cell.value for cell in row.cells}
                    values[suffix] = cells.get(self.group.bucket.value_column)
            for event in events:
                work = Work(event.id, event.partition.decode(), values.get(event.suffix))
                self._held.append((work, event.version[0]))
        if part.acks:
            self._last = self._ack(part), len(self._held)
            after_us = self._random.randint(0, WORK_US)
            self._cluster.scheduler.after(after_us, self._work, self._life, *self._last)

    def _read_row(self, event: Event, ranges: list[TokenRange]) -> None:
        """A row of a snapshot is worked on like what wrote it."""
        if not any(first <= event.token <= last for first, last in ranges):
            self.group.problem("foreign", f"{self.name} of {self.parts} got a row at {event.token}")
        assert event.after is not None
        cells = {cell.column: cell.value for cell in event.after.cells}
        work = Work(event.id, event.partition.decode(), cells.get(self.group.bucket.value_column))
        self._held.append((work, event.version[0]))
        self.group.rows += 1

    def _ack(self, part: ChangesPart) -> GroupRequest:
        bucket = self.group.bucket
        table = f"{bucket.keyspace}.{bucket.name}"
        place = part.table, part.since_us, part.places, part.began_us, part.scanned
        cursor = encode_cursor(Cursor(name_of(self.group.cluster_id, table), *place))
        who = ACK, table, self.group.name, self._session
        return GroupRequest(*who, acks=part.acks, cursor=cursor)

    def _work(self, life: int, request: GroupRequest, count: int) -> None:
        """Work on all that came before an acknowledgement, and say it."""
        if not self.alive or life != self._life:
            return
        while self._worked < count:
            self.group.worked(*self._held[self._worked])
            self._worked += 1
        self._say(request)

    def _say(self, request: GroupRequest) -> None:
        """Acknowledge, at any peer."""
        running = self._cluster.running()
        if not running:
            return
        peer = running[self._random.randrange(len(running))]
        sent_us = self._cluster.now_us

        def heard(reply: Reply) -> None:
            answer = reply.answer
            if not isinstance(answer, Told):
                self.group.refused += 1
                return
            self.group.acks += 1
            self.group.refused += len(answer.body["refused"])
            for number, fence in request.acks:
                if number in answer.body["acknowledged"]:
                    self.group.accepted(number, fence, sent_us)

        self._cluster.request(peer, request, ACK_TIMEOUT_US, heard)
