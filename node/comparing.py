"""What two siblings tell each other to find the rows that differ, in few bytes: pure functions.

Of 200,000 rows 2,000 may differ, of 200 bytes each. Whatever is said per leaf or row to find them has to be
small beside that:

- runs of leaves are said by their distances, which takes two or three bytes each;
- hashes below the first level are cut to three bytes, those of rows to four. Each session has its own salt:
  what collides under one does not under the next, so a difference that is missed is found a few seconds
  later. Only whole hashes (without a salt) prove that two replicas are equal, as those of the first level do;
- of the rows in a leaf only hashes go out, and only rows that differ come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from core.row import decode_header, decode_row, encode_header, encode_row, merge_headers, merge_rows
from lsm.hash_tree import LEAVES, record_hash
from lsm.keys import HEADER_SUFFIX, prefix_end

Span = tuple[int, int]
"""Leaves [first, end)."""

Row = tuple[bytes, bytes]

WHOLE_BYTES = 8
SHORT_BYTES = 3
ROW_BYTES = 4

FEW = 6
"""Where we hold rows in no more places than this, hashes of rows are shorter than those of more parts."""

_MASK = 2**64 - 1


def salt_of(op: int) -> int:
    """The salt of a session, from the number of its first operation: odd, 64 bits, never 0.

    Mixed well (splitmix64's finalizer): with salts that are multiples of each other the same would collide.
    """
    mixed = op * 0x9E37_79B9_7F4A_7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D0_49BB_1331_11EB & _MASK
    return mixed ^ mixed >> 31 | 1


def pack_spans(spans: Iterable[Span]) -> tuple[int, ...]:
    """Spans in ascending order, as distances and lengths."""
    packed: list[int] = []
    at = 0
    for first, end in spans:
        packed += (first - at, end - first)
        at = end
    return tuple(packed)


def unpack_spans(packed: Sequence[int]) -> tuple[Span, ...]:
    """The reverse; raises ValueError for what is no ascending sequence of runs of leaves."""
    if len(packed) % 2 or not packed:
        raise ValueError("no runs of leaves")
    spans: list[Span] = []
    at = 0
    for gap, length in zip(packed[::2], packed[1::2], strict=True):
        if gap < 0 or length <= 0 or at + gap + length > LEAVES:
            raise ValueError("no runs of leaves")
        spans.append((at + gap, at + gap + length))
        at += gap + length
    return tuple(spans)


def pack_hashes(hashes: Iterable[int], salt: int) -> bytes:
    """64-bit sums as they travel: whole without a salt, else short; 0 stays 0, nothing else becomes 0."""
    if not salt:
        return b"".join([value.to_bytes(WHOLE_BYTES, "big") for value in hashes])
    shift = 64 - 8 * SHORT_BYTES  # multiply-shift hashing: Dietzfelbinger et al. 1997
    short = [((value * salt & _MASK) >> shift or 1) if value else 0 for value in hashes]
    return b"".join([value.to_bytes(SHORT_BYTES, "big") for value in short])


def unpack_hashes(data: bytes, salt: int) -> list[int]:
    """The reverse of `pack_hashes`, as far as there is one."""
    width = SHORT_BYTES if salt else WHOLE_BYTES
    return [int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)]


def row_hashes(rows: Sequence[Row], salt: int) -> bytes:
    """`row_bytes(salt)` for each row: cut from the very hash that leaves sum up, multiplied with the salt. So
    what differs for a leaf differs here, too, in all but one session of 2**31.
    """
    width = row_bytes(salt)
    shift, factor = 64 - 8 * width, salt or 1
    hashes = [(record_hash(key, data) * factor & _MASK) >> shift for key, data in rows]
    return b"".join([value.to_bytes(width, "big") for value in hashes])


def row_bytes(salt: int) -> int:
    """The width of a row's hash."""
    return ROW_BYTES if salt else WHOLE_BYTES


def told_rows(rows: Sequence[Row], hashes: bytes, salt: int) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    """Our rows that whoever has these hashes lacks, and the positions of hashes of which we lack the row."""
    width, ours = row_bytes(salt), row_hashes(rows, salt)
    mine = [ours[at : at + width] for at in range(0, len(ours), width)]
    theirs = [hashes[at : at + width] for at in range(0, len(hashes), width)]
    known, held = dict.fromkeys(theirs), dict.fromkeys(mine)
    sent = tuple(row for row, value in zip(rows, mine, strict=True) if value not in known)
    return sent, tuple(at for at, value in enumerate(theirs) if value not in held)


def split(
    span: Span, own: Sequence[int], theirs: Sequence[int], filled: Sequence[int]
) -> tuple[list[Span], list[Span]]:
    """The parts of a span that differ: those to be looked at in parts, and those to be compared by rows."""
    first, end = span
    bounds = [first + (end - first) * i // len(own) for i in range(len(own) + 1)]
    deeper: list[Span] = []
    by_rows: list[Span] = []
    for a, b, places, part in zip(own, theirs, filled, pairwise(bounds), strict=True):
        if a != b:
            small = not a or not b or places <= FEW or part[1] - part[0] == 1
            (by_rows if small else deeper).append(part)
    return deeper, by_rows


def differences(
    mine: Mapping[bytes, bytes], theirs: Mapping[bytes, bytes]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """What I lack of theirs and what they lack of mine: (key, bytes) in key order, rows merged where both
    have one.
    """
    to_me: list[Row] = []
    to_them: list[Row] = []
    for key in sorted({**mine, **theirs}):
        a, b = mine.get(key), theirs.get(key)
        if a == b:
            continue
        if a is not None and b is not None:
            merged = merged_bytes(key, a, b)
        else:
            merged = mine[key] if b is None else b
        if merged != a:
            to_me.append((key, merged))
        if merged != b:
            to_them.append((key, merged))
    return tuple(to_me), tuple(to_them)


def merged_bytes(key: bytes, a: bytes, b: bytes) -> bytes:
    """The merge of two rows, or of two partition headers, of one key."""
    if key[prefix_end(key) :] == HEADER_SUFFIX:
        return encode_header(merge_headers(decode_header(a), decode_header(b)))
    return encode_row(merge_rows(decode_row(a), decode_row(b)))
