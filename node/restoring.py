"""Rows of a snapshot come back: written as they were, with the versions that they had.

Each partition's rows are one mutation of their own, sent to the replicas of now and waited for at the
request's level, so following, hints, indexes, images and the change stream treat them as any write. What is
newer here stays: merging decides, and nothing is stamped again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.mutation import INSERT, Mutation
from core.requests import (
    Answer,
    Invalid,
    Overloaded,
    Restored,
    RestoreRequest,
    Unavailable,
    WriteRequest,
)
from core.row import decode_header, decode_row, newest_version
from node.batches import Join
from node.tally import reachable
from node.writes import WriteOperation, no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata import Metadata
    from node.stamps import Stamps
    from node.swim import Swim
    from node.writes import Writes


class Restoring:
    """The coordinator's side."""

    def __init__(
        self, inside: Inside, metadata: Metadata, swim: Swim, writes: Writes, stamps: Stamps
    ) -> None:
        self._inside = inside
        self._metadata = metadata
        self._swim = swim
        self._writes = writes
        self._stamps = stamps

    def begin(self, request: RestoreRequest, deadline_us: int, reply: Callable[[Answer], None]) -> None:
        """Write them; `reply` is called exactly once."""
        if not 0 < len(request.partitions) <= limits.BATCH_MUTATIONS_MAX:
            text = f"1 to {limits.BATCH_MUTATIONS_MAX} partitions are restored at a time"
            reply(Invalid("bad_request", text))
            return

        def stamped(stamp_us: int) -> None:
            join = Join(len(request.partitions), "UNLOGGED_BATCH", reply)
            for partition in request.partitions:
                self._write(partition, request, stamp_us, deadline_us, join)

        self._stamps.take(stamped, lambda why: reply(Overloaded(why)))

    def _write(
        self, restored: Restored, request: RestoreRequest, stamp_us: int, deadline_us: int, join: Join
    ) -> None:
        placement = self._metadata.state.placement(restored.table)
        if placement is None or placement.table.reserves:
            join.on_answer(no_such_table())
            return
        token = token_of(restored.partition)
        try:
            mutation = Mutation(
                self._writes.writer,
                self._writes.next_sequence(),
                0,
                stamp_us,
                False,
                INSERT,
                restored.table,
                token,
                restored.partition,
                decode_header(restored.header) if restored.header else None,
                tuple((suffix, decode_row(data)) for suffix, data in restored.rows),
            )
        except msgspec.DecodeError as error:
            join.on_answer(Invalid("bad_row", f"a restored row does not decode: {error}"))
            return
        refusal = wrong(mutation, self._inside.clock.bound_us())
        if refusal is not None:
            join.on_answer(refusal)
            return
        wanted = placement.need(request.level, token, self._inside.identity.datacentre)
        replicas = placement.writers(token)
        alive = [peer for peer in replicas if self._swim.is_alive(peer)]
        reach = reachable(wanted, placement, self._inside.identity.datacentre, alive)
        if not reach.met:
            join.on_answer(Unavailable(wanted.total, reach.received, request.level))
            return
        asked = WriteRequest(restored.table, restored.partition, (), request.level, INSERT)
        operation = WriteOperation(
            self._writes, asked, mutation, placement=placement, wanted=wanted, reply=join.on_answer
        )
        operation.send(replicas, alive, deadline_us)


def wrong(mutation: Mutation, wall_us: int) -> Invalid | None:
    """What is wrong with rows that were not written here; all peers' clocks follow what they meet."""
    if not 0 < len(mutation.partition) <= limits.KEY_BYTES_MAX:
        return Invalid("bad_key", f"a partition key has 1 to {limits.KEY_BYTES_MAX} bytes")
    header = mutation.header
    deleted = () if header is None else (*header.ranges, *((header.deletion,) if header.deletion else ()))
    newest_us = max(
        (*(newest_version(row)[0] for _, row in mutation.rows), *(one.timestamp_us for one in deleted)),
        default=0,
    )
    if newest_us > wall_us + limits.FUTURE_TIMESTAMP_US_MAX:
        text = "a restored row is from more than a minute ahead of this peer's clock"
        return Invalid("timestamp_ahead", text)
    return None
