"""A mutation: resolved cells for rows of one partition, under an id that is never used again.

A mutation is a *delta of state*: applying it is merging its header and rows into what is stored, so replicas
never compute. It travels and is logged in the bytes its coordinator made (`encode_mutation`), encoded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from core.cell import Cell, Version
from core.row import Header, RangeTombstone, Row, Tombstone

MutationId = tuple[int, int, int]
"""(start number of the coordinator, its sequence, attempt). An event's id is the first two."""

INSERT, UPDATE, DELETE = 0, 1, 2


class Mutation(msgspec.Struct, frozen=True, array_like=True):
    """What one write does to one partition.

    `rows` pairs a key suffix (see lsm/keys.py) with the cells to merge there. `stamped` says that the
    coordinator's clock made all versions, so that they may be made anew above a newer one (attempt 1), once.
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


class Touched(msgspec.Struct, frozen=True, array_like=True):
    """A mutation without its cells: which rows it is about. Reading no more takes a third of the time."""

    start: int
    sequence: int
    attempt: int
    admitted_us: int
    stamped: bool
    operation: int
    table: int
    token: int
    partition: bytes
    header: msgspec.Raw
    rows: tuple[tuple[bytes, msgspec.Raw], ...]


encode_mutation: Callable[[Mutation], bytes] = msgspec.msgpack.Encoder().encode
"""The bytes that are sent, logged and hinted."""

decode_mutation: Callable[[bytes], Mutation] = msgspec.msgpack.Decoder(Mutation).decode
"""The mutation of `encode_mutation`; raises msgspec.DecodeError for anything else."""

decode_touched: Callable[[bytes], Touched] = msgspec.msgpack.Decoder(Touched).decode
"""What the mutation of `encode_mutation` touches; raises msgspec.DecodeError for anything else."""


def restamped(mutation: Mutation, old_us: int, version: Version) -> Mutation:
    """The next attempt of a mutation stamped at `old_us`, which is admitted anew.

    Made anew at `version`, what was relative to the stamp stays so; what has a client's timestamp (writer 0)
    keeps it. What is dead from its admission on is so from the new one.
    """
    timestamp_us, writer = version
    shift_us = timestamp_us - old_us
    old = (shift_us, mutation.admitted_us)
    header = mutation.header
    if header is not None:
        deletion = header.deletion and _shifted(header.deletion, old, writer)
        header = Header(deletion, tuple(_shifted(r, old, writer) for r in header.ranges))
    rows = tuple(
        (
            suffix,
            Row(
                row.deletion and _shifted(row.deletion, old, writer),
                tuple(_shifted(cell, old, writer) for cell in row.cells),
            ),
        )
        for suffix, row in mutation.rows
    )
    return msgspec.structs.replace(
        mutation,
        attempt=mutation.attempt + 1,
        admitted_us=mutation.admitted_us + shift_us,
        header=header,
        rows=rows,
    )


Stamped = TypeVar("Stamped", Cell, Tombstone, RangeTombstone)


def _shifted(item: Stamped, old: tuple[int, int], writer: int) -> Stamped:
    """`old` is by how much the stamp grew, and when the mutation was admitted before."""
    shift_us, admitted_us = old
    if isinstance(item, Cell):
        if item.dead_from_us and item.dead_from_us == admitted_us:
            item = msgspec.structs.replace(item, dead_from_us=admitted_us + shift_us)
    elif item.admitted_us == admitted_us:
        item = msgspec.structs.replace(item, admitted_us=admitted_us + shift_us)
    if not item.writer:
        return item
    return msgspec.structs.replace(item, timestamp_us=item.timestamp_us + shift_us, writer=writer)
