"""A mutation: resolved cells for rows of one partition, under an id that is never used again.

A mutation is a *delta of state*: applying it is merging its header and rows into what is stored, so replicas never
compute. It travels and is logged in the bytes its coordinator made (`encode_mutation`), encoded once.
"""

from __future__ import annotations

import msgspec

from core.cell import Version
from core.row import Header, Row

MutationId = tuple[int, int, int]
"""(start number of the coordinator, its sequence, attempt). An event's id is the first two."""

INSERT, UPDATE, DELETE = 0, 1, 2


class Mutation(msgspec.Struct, frozen=True, array_like=True):
    """What one write does to one partition.

    `rows` pairs a key suffix (see lsm/keys.py) with the cells to merge there. `stamped` says that the coordinator's
    clock made all versions, so that they may be made anew above a newer one (attempt 1), once.
    """

    start: int
    sequence: int
    attempt: int
    admitted_us: int
    stamped: bool
    operation: int
    table: int
    token: int
    partition: bytes
    header: Header | None
    rows: tuple[tuple[bytes, Row], ...]

    @property
    def id(self) -> MutationId:
        """The id, never repeated in the life of the cluster."""
        return (self.start, self.sequence, self.attempt)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Mutation)


def encode_mutation(mutation: Mutation) -> bytes:
    """The bytes that are sent, logged and hinted."""
    return _encoder.encode(mutation)


def decode_mutation(data: bytes) -> Mutation:
    """The mutation of `encode_mutation`; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)


def restamped(mutation: Mutation, version: Version) -> Mutation:
    """Attempt 1 of a coordinator-stamped mutation: every cell and tombstone at `version` instead."""
    timestamp_us, writer = version
    replace = msgspec.structs.replace

    def row_at(row: Row) -> Row:
        deletion = row.deletion and replace(row.deletion, timestamp_us=timestamp_us, writer=writer)
        cells = tuple(replace(c, timestamp_us=timestamp_us, writer=writer) for c in row.cells)
        return Row(deletion, cells)

    header = mutation.header
    if header is not None:
        deletion = header.deletion and replace(header.deletion, timestamp_us=timestamp_us, writer=writer)
        ranges = tuple(replace(r, timestamp_us=timestamp_us, writer=writer) for r in header.ranges)
        header = Header(deletion, ranges)
    rows = tuple((suffix, row_at(row)) for suffix, row in mutation.rows)
    return replace(mutation, attempt=mutation.attempt + 1, header=header, rows=rows)
