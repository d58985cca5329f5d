"""The records of consumer groups, in the bucket `sullae_groups`: one by table and group, changed by
conditional updates at SERIAL alone. streams/groups.py says what a record becomes; here it is read and kept.
Changes that are wanted while one is under way here are made together by the next one.

Beats need no such care: each membership writes its own, plainly, into the ordered bucket `sullae_beats`, by
group and slot, where all of a group are read at once. A record that is only looked at is read plainly,
too: it may be a little old, which a membership knows by its generation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from core import limits
from core.consistency import Level
from core.families import DEFAULT_FACTOR
from core.requests import (
    Answer,
    Changed,
    ConditionalRequest,
    Invalid,
    Judged,
    MetadataRequest,
    PartRead,
    ReadRequest,
    RowsRead,
    ScanRequest,
    Unready,
    WriteRequest,
    Written,
)
from kv import buckets, operations
from kv.buckets import Bucket, BucketSpec
from streams.cursor import Cursor, decode_cursor
from streams.groups import MEMBERS_MAX, Group, Part, decode_group, encode_group

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata import Metadata
    from node.paxos import Paxos
    from node.scans import Scans
    from node.writes import Writes

BUCKET: Final = "sullae_groups"
PAGE_ROWS: Final = 1_000
"""Records that are read at a time, where all are."""
BEATS: Final = "sullae_beats"
SLOT_CHARS_MAX: Final = 9
"""What else is in the bucket somebody put there, as in any other."""
SINKS: Final = "sullae_sinks"
"""Where the records of sinks are (server/sinks/records.py), of which logs need to know how far they read."""
PATIENCE_US: Final = 4 * limits.SECOND_US
JSON: Final = "application/json"

Step = Callable[[Group | None], Group | None]
"""What a record becomes (None: none is there); pure, as it may be called again."""

Result = Group | Answer | None
Done = Callable[[Result], None]
"""Is told the record as it is then, or why nothing is known."""


class GroupRecords:
    """Reads and changes records."""

    def __init__(
        self, inside: Inside, metadata: Metadata, writes: Writes, paxos: Paxos, scans: Scans
    ) -> None:
        self._inside = inside
        self._metadata = metadata
        self._paxos = paxos
        self.scans = scans
        self._writes = writes
        self._waiting: dict[tuple[str, str], list[tuple[Step, Done]]] = {}
        """Of each group that is being changed here: what is wanted next."""

    def change(self, table: str, group: str, step: Step, done: Done) -> None:
        """Have the record of a group be what `step` makes of it; one that needs the bucket makes it."""
        key = (table, group)
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append((step, done))
            return
        self._waiting[key] = []
        self._begin(key, [(step, done)])

    def _begin(self, key: tuple[str, str], wanted: list[tuple[Step, Done]]) -> None:
        def step(group: Group | None) -> Group | None:
            for one, _ in wanted:
                group = one(group)
            return group

        def done(result: Result) -> None:
            waiting = self._waiting.pop(key)
            if waiting:
                self._waiting[key] = []
                self._begin(key, waiting)
            for _, told in wanted:
                told(result)

        bucket = buckets.find(self._metadata.state, BUCKET)
        if bucket is None and step(None) is None:
            done(None)
        elif bucket is None:
            self._make(BUCKET, lambda made: self._change(made, key, step, done), done)
        else:
            self._change(bucket, key, step, done)

    def _make(self, name: str, then: Callable[[Bucket], None], done: Callable[[Answer], None]) -> None:
        state = self._metadata.state
        keyspace = state.keyspaces.get(buckets.KEYSPACE)
        factors = () if keyspace is None else keyspace.replication.factors
        factor = max((number for _, number in factors), default=DEFAULT_FACTOR)
        spec = BucketSpec(name, ordered=name == BEATS)
        request = buckets.create_bucket(spec, state.members, factor)
        assert isinstance(request, MetadataRequest), request

        def made(answer: Changed | Unready) -> None:
            bucket = buckets.find(self._metadata.state, name)
            if bucket is not None:
                then(bucket)
            else:
                done(answer)

        self._metadata.change(request.change, made, self._deadline_us())

    def _deadline_us(self) -> int:
        return self._inside.world.monotonic_us() + PATIENCE_US

    def _change(self, bucket: Bucket, key: tuple[str, str], step: Step, done: Done) -> None:
        name = "/".join(key)
        blank = operations.delete(bucket, name, Level.QUORUM)
        if isinstance(blank, Invalid):
            done(blank)
            return

        def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
            before = _group_of(bucket, reads[0])
            if isinstance(before, Invalid):
                return before
            after = step(before)
            if after == before:
                return None
            if after is None:
                return blank
            return operations.put(bucket, name, encode_group(after), JSON, Level.QUORUM)

        def judged(answer: Answer) -> None:
            if not isinstance(answer, Judged):
                done(answer)
                return
            before = _group_of(bucket, answer.reads[0])
            done(before if isinstance(before, Invalid) else step(before))

        place = blank.partition, (PartRead(blank.rows[0].suffix),)
        request = ConditionalRequest(bucket.table, *place, decide, Level.QUORUM)
        self._paxos.begin(request, self._deadline_us(), judged)

    def look(self, table: str, group: str, done: Done) -> None:
        """The record, perhaps a little old."""
        bucket = buckets.find(self._metadata.state, BUCKET)
        request = None if bucket is None else operations.get(bucket, f"{table}/{group}", Level.QUORUM)
        if bucket is None or not isinstance(request, ReadRequest):
            done(None)
            return

        def read(answer: Answer) -> None:
            done(_group_of(bucket, answer) if isinstance(answer, RowsRead) else answer)

        self.scans.read(request, self._deadline_us(), read)

    # --- beats

    def beat(self, place: tuple[str, str, int], word: str, done: Callable[[bool], None]) -> None:
        """Say that a membership lives: (table, group, slot); `done` is told whether a quorum has it."""
        bucket = buckets.find(self._metadata.state, BEATS)
        if bucket is None:
            self._make(BEATS, lambda made: self._beat(made, place, word, done), lambda _: done(False))
        else:
            self._beat(bucket, place, word, done)

    def _beat(
        self, bucket: Bucket, place: tuple[str, str, int], word: str, done: Callable[[bool], None]
    ) -> None:
        table, group, slot = place
        key = f"{table}/{group}/{slot}"
        request = operations.put(bucket, key, word.encode(), operations.OCTETS, Level.QUORUM)
        assert isinstance(request, WriteRequest), request
        self._writes.begin(request, self._deadline_us(), lambda answer: done(isinstance(answer, Written)))

    def beats(self, table: str, group: str, done: Callable[[dict[int, str]], None]) -> None:
        """The last beats of a group by slot; of those that cannot be read now nothing."""
        bucket = buckets.find(self._metadata.state, BEATS)
        prefix = f"{table}/{group}/"
        request = (
            None if bucket is None else operations.listing(bucket, prefix, "", MEMBERS_MAX, Level.QUORUM)
        )
        if bucket is None or not isinstance(request, ReadRequest):
            done({})
            return

        def read(answer: Answer) -> None:
            found: dict[int, str] = {}
            for row in answer.rows if isinstance(answer, RowsRead) else ():
                slot = operations.key_of(bucket, row.key).removeprefix(prefix)
                value = operations.value_of(bucket, RowsRead((row,), 0, False))
                if slot.isdecimal() and len(slot) <= SLOT_CHARS_MAX and value is not None:
                    found[int(slot)] = value.value.decode(errors="replace")
            done(found)

        self.scans.read(request, self._deadline_us(), read)

    def every(self, done: Callable[[list[Group] | Answer], None]) -> None:
        """All groups, as of a QUORUM read."""
        bucket = buckets.find(self._metadata.state, BUCKET)
        if bucket is None:
            done([])
            return
        self._all(bucket, _group_of, done)

    def readers(self, done: Callable[[list[Group] | Answer], None]) -> None:
        """All for whom logs wait: groups, and sinks as if they were groups of one part."""

        def with_sinks(found: list[Group] | Answer) -> None:
            bucket = buckets.find(self._metadata.state, SINKS)
            if bucket is None or not isinstance(found, list):
                done(found)
                return
            groups = found

            def with_groups(sinks: list[Group] | Answer) -> None:
                done(groups + sinks if isinstance(sinks, list) else sinks)

            self._all(bucket, _sink_of, with_groups)

        self.every(with_sinks)

    def _all(
        self,
        bucket: Bucket,
        group_of: Callable[[Bucket, RowsRead], Group | Invalid | None],
        done: Callable[[list[Group] | Answer], None],
    ) -> None:
        """What all records of a bucket say."""
        found: list[Group] = []

        def part(answer: Answer, last: bool) -> None:
            if not isinstance(answer, RowsRead):
                done(answer)
                return
            for item in answer.rows:
                group = group_of(bucket, RowsRead((item,), answer.now_us, False))
                if isinstance(group, Group):
                    found.append(group)
            if last and answer.more:
                read(answer.after)
            elif last:
                done(sorted(found, key=lambda group: (group.table, group.group)))

        def read(after: bytes) -> None:
            request = ScanRequest(bucket.table, after, PAGE_ROWS, Level.QUORUM)
            number = -self._inside.new_op()  # no client's
            self.scans.scan(number, request, self._deadline_us(), part)
            self.scans.want(number, PAGE_ROWS)

        read(b"")


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no record: a bucket's values are whatever a client puts there."""


class _Sink(msgspec.Struct, frozen=True):
    """What matters of a sink's record."""

    name: str = ""
    cursor: str = ""
    removed: bool = False


def _sink_of(bucket: Bucket, read: RowsRead) -> Group | Invalid | None:
    """A sink that has delivered something, as a group of one part."""
    value = operations.value_of(bucket, read)
    if value is None:
        return None
    try:
        sink = msgspec.json.decode(value.value, type=_Sink)
    except _UNREADABLE as error:
        return Invalid("bad_record", f"{SINKS}: this is no record of a sink: {error}")
    cursor = decode_cursor(sink.cursor)
    if sink.removed or not isinstance(cursor, Cursor):
        return None
    return Group(cursor.name.partition(":")[2], sink.name, 0, (Part(cursor=sink.cursor),))


def _group_of(bucket: Bucket, read: RowsRead) -> Group | Invalid | None:
    value = operations.value_of(bucket, read)
    if value is None:
        return None
    try:
        return decode_group(value.value)
    except _UNREADABLE as error:
        return Invalid("bad_record", f"{BUCKET}: this is no record of a group: {error}")
