"""The records of consumer groups, in the bucket `sullae_groups`: one by table and group, changed by
conditional updates at SERIAL alone. streams/groups.py says what a record becomes; here it is read and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from core import limits
from core.consistency import Level
from core.requests import (
    Answer,
    Changed,
    ConditionalRequest,
    Invalid,
    Judged,
    MetadataRequest,
    PartRead,
    RowsRead,
    ScanRequest,
    Unready,
    WriteRequest,
)
from kv import buckets, operations
from kv.buckets import Bucket, BucketSpec
from streams.groups import Group, decode_group, encode_group

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata import Metadata
    from node.paxos import Paxos
    from node.scans import Scans

BUCKET: Final = "sullae_groups"
GROUPS_MAX: Final = 1_000
PATIENCE_US: Final = 2 * limits.SECOND_US
JSON: Final = "application/json"

Step = Callable[[Group | None], Group | None]
"""What a record becomes (None: none is there); pure, as it may be called again."""

Result = Group | Answer | None
Done = Callable[[Result], None]
"""Is told the record as it is then, or why nothing is known."""


class GroupRecords:
    """Reads and changes records."""

    def __init__(self, inside: Inside, metadata: Metadata, paxos: Paxos, scans: Scans) -> None:
        self._inside = inside
        self._metadata = metadata
        self._paxos = paxos
        self._scans = scans

    def change(self, table: str, group: str, step: Step, done: Done) -> None:
        """Have the record of a group be what `step` makes of it; one that needs the bucket makes it."""
        bucket = buckets.find(self._metadata.state, BUCKET)
        if bucket is None and step(None) is None:
            done(None)
        elif bucket is None:
            self._make(lambda made: self._change(made, (table, group), step, done), done)
        else:
            self._change(bucket, (table, group), step, done)

    def _make(self, then: Callable[[Bucket], None], done: Done) -> None:
        state = self._metadata.state
        keyspace = state.keyspaces.get(buckets.KEYSPACE)
        factors = () if keyspace is None else keyspace.replication.factors
        factor = max((number for _, number in factors), default=buckets.DEFAULT_FACTOR)
        request = buckets.create_bucket(BucketSpec(BUCKET), state.members, factor)
        assert isinstance(request, MetadataRequest), request

        def made(answer: Changed | Unready) -> None:
            bucket = buckets.find(self._metadata.state, BUCKET)
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

    def every(self, done: Callable[[list[Group] | Answer], None]) -> None:
        """All groups, as of a QUORUM read."""
        bucket = buckets.find(self._metadata.state, BUCKET)
        if bucket is None:
            done([])
            return
        found: list[Group] = []

        def part(answer: Answer, last: bool) -> None:
            if not isinstance(answer, RowsRead):
                done(answer)
                return
            for item in answer.rows:
                group = _group_of(bucket, RowsRead((item,), answer.now_us, False))
                if isinstance(group, Group):
                    found.append(group)
            if last:
                done(sorted(found, key=lambda group: (group.table, group.group)))

        request = ScanRequest(bucket.table, b"", GROUPS_MAX, Level.QUORUM)
        number = -self._inside.new_op()  # no client's
        self._scans.scan(number, request, self._deadline_us(), part)
        self._scans.want(number, GROUPS_MAX)


def _group_of(bucket: Bucket, read: RowsRead) -> Group | Invalid | None:
    value = operations.value_of(bucket, read)
    if value is None:
        return None
    try:
        return decode_group(value.value)
    except msgspec.DecodeError as error:
        return Invalid("bad_record", f"{BUCKET}: this is no record of a group: {error}")
