"""Reads by predicate: what is asked, what is found, and how to go on from it.

A read by predicate is served range by range of the ring, each by *one* replica that has followed enough of
its siblings first (node/finds.py). What rows it is to give is said as *checks*: a target of the row, such as
a column or the values of a map, makes terms (index/entries.py), bytes whose order is the order of values;
a check holds if one of them lies in one of its spans. An index whose terms are of the same target serves the
check by a scan; without one it filters. So whoever evaluates a check knows nothing of any door's types.

A cursor says how far a read got: what is left of ranges that were begun, and the token from which on nothing
was. It names no replica and no range of today's ring, so any peer can go on from it.
"""

from __future__ import annotations

import hashlib

import msgspec

from core.consistency import Level
from core.row import Row
from core.schema import IndexTarget
from core.trace import Trace

Span = tuple[bytes, bytes]
"""Terms in [first, end); the one term `first` if `end` is empty."""

OPEN = b"\xff" * 33
"""The end of a span that has none. No term is this: they end with a terminator or have 16 bytes at most."""

ROW_KEY = "row_key"
"""The kind of a target whose only term is the row's key suffix (lsm/keys.py)."""

ANYWHERE, AT_END = "anywhere", "at_end"


class Check(msgspec.Struct, frozen=True, array_like=True):
    """One of the target's terms lies in one of the spans, which are ascending and disjoint.

    With a `needle` it must also hold these bytes, `where` says (before its terminator, which ends text).
    """

    target: IndexTarget
    spans: tuple[Span, ...]
    needle: bytes = b""
    where: str = ANYWHERE


class Drive(msgspec.Struct, frozen=True):
    """An index that may serve a check: its id, and the spans to scan."""

    index: int
    spans: tuple[Span, ...]


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Tokens from `first` to `last`, of which everything up to `term` and `key` was given already."""

    first: int
    last: int
    term: bytes = b""
    key: bytes = b""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """`pieces` were begun, in this order; from the token `rest` on (None: nothing is left) nothing was.

    `index` is the one that drives, where there was a choice.
    """

    pieces: tuple[Piece, ...]
    rest: int | None
    index: int = 0


class FindRequest(msgspec.Struct, frozen=True):
    """Rows for which all checks hold, at most `rows_max`, from where `cursor` (b"": the beginning) stands.

    `others` are indexes that might drive instead, each for a check of its own: whichever leads to the fewest
    rows does. Rows come by token, but by term within a range if an index is scanned by more than one term.
    `partition` (a partition key) restricts it to one. `statics` asks for static rows too: those of the
    partitions of rows that are found, and as rows where a partition has nothing else. `now_us` as in
    ReadRequest.
    """

    table: int
    level: Level
    checks: tuple[Check, ...]
    drive: Drive | None = None
    first_token: int = -(2**63)
    last_token: int = 2**63 - 1
    partition: bytes = b""
    cursor: bytes = b""
    rows_max: int = 200
    statics: bool = False
    trace: Trace | None = None
    now_us: int = 0
    others: tuple[Drive, ...] = ()


class FoundRow(msgspec.Struct, frozen=True):
    """A row: its store key, its content (dead cells included), and the place to go on after it."""

    key: bytes
    row: Row
    term: bytes
    stage: int


class Found(msgspec.Struct, frozen=True):
    """Rows as of `now_us`; `more` says that rows may follow, after `cursor`.

    `statics` are (store key, content). `stages` are what was left when each piece was begun.
    """

    rows: tuple[FoundRow, ...]
    statics: tuple[tuple[bytes, Row], ...]
    now_us: int
    more: bool
    cursor: bytes
    stages: tuple[Cursor, ...]

    def cursor_after(self, row: FoundRow) -> bytes:
        """Where to go on after one of the rows."""
        begun = self.stages[row.stage]
        first = msgspec.structs.replace(begun.pieces[0], term=row.term, key=row.key)
        return encode_cursor(Cursor((first, *begun.pieces[1:]), begun.rest, begun.index))


_SUM_BYTES = 4
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Cursor)


def encode_cursor(cursor: Cursor) -> bytes:
    """Opaque bytes with a checksum."""
    data = _encoder.encode(cursor)
    return hashlib.blake2b(data, digest_size=_SUM_BYTES).digest() + data


def decode_cursor(data: bytes) -> Cursor | None:
    """The cursor in these bytes; None if they are damaged."""
    body = data[_SUM_BYTES:]
    if hashlib.blake2b(body, digest_size=_SUM_BYTES).digest() != data[:_SUM_BYTES]:
        return None
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError:
        return None
