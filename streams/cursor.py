"""Cursors: where a stream stands, as text that a client keeps and gives back to any peer.

A cursor holds the table, what is passed over as too old, and of each range of tokens how far the log of each
replica is delivered (core/streaming.py `Place`). It is opaque and versioned, carries a checksum, so that a
mistyped one is refused and not believed, and is bounded: the places of a large cluster are many, but most
ranges stand alike and share one vector.

While a snapshot is read the cursor says both how far it came, in the order of rows, and where the stream
began before it.

A whole cursor covers the ring. One of a single range comes with each event; laid over a whole one it says the
same and more.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import msgspec

from core.streaming import Offsets, Place
from lsm.keys import token_of as token_of_key
from ring.tokens import MAX_TOKEN, MIN_TOKEN

VERSION = 1
CURSOR_CHARS_MAX = 256 * 1024
"""One of a whole table takes 45 KiB for every hundred peers of 16 vnodes."""
INFLATED_BYTES_MAX = 4 * 1024 * 1024
PLACES_MAX = 65_536
OFFSETS_MAX = 64
"""Replicas of one range."""

_CRC_BYTES = 4
_U64_MAX = 2**63 - 1


class Cursor(msgspec.Struct, frozen=True):
    """Places in ascending order, disjoint."""

    name: str
    table: int
    since_us: int
    places: tuple[Place, ...]
    began_us: int = 0
    scanned: bytes | None = None
    """Of a snapshot that is under way: the row key up to which rows were read (b"": none yet)."""

    def covers(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether it says something of all of these ranges, so that a stream of them can go on from it."""
        left = sum(last - first + 1 for first, last in ranges)
        return left == sum(place.last - place.first + 1 for place in cut_to(self, ranges).places)


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    name: str
    table: int
    since_us: int
    began_us: int
    stands: tuple[tuple[int, Offsets], ...]
    """(server, offsets), which ranges share."""
    places: tuple[tuple[int, int, int], ...]
    """(first, last, which of `stands`)."""
    scanned: bytes | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


def encode_cursor(cursor: Cursor) -> str:
    """The text of a cursor: unpadded base64url."""
    stands: dict[tuple[int, Offsets], int] = {}
    places: list[tuple[int, int, int]] = []
    for place in cursor.places:
        at = stands.setdefault((place.server, place.offsets), len(stands))
        if places and places[-1][2] == at and places[-1][1] + 1 == place.first:
            places[-1] = (places[-1][0], place.last, at)
        else:
            places.append((place.first, place.last, at))
    head = VERSION, cursor.name, cursor.table, cursor.since_us, cursor.began_us
    data = _encode(_Wire(*head, tuple(stands), tuple(places), cursor.scanned))
    if len(data) > 256:
        data = b"z" + zlib.compress(data, 6)
    data += zlib.crc32(data).to_bytes(_CRC_BYTES, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_cursor(text: str) -> Cursor | str:
    """The cursor of a text, or why it is none."""
    if len(text) > CURSOR_CHARS_MAX:
        return f"a cursor has at most {CURSOR_CHARS_MAX} characters"
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return "this is no cursor of a change stream"
    body, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
    if len(crc) < _CRC_BYTES or zlib.crc32(body).to_bytes(_CRC_BYTES, "big") != crc:
        return "this is no cursor of a change stream, or a part of one"
    try:
        wire = _decode(_inflated(body[1:]) if body[:1] == b"z" else body)
    except (msgspec.DecodeError, zlib.error, ValueError):
        return "this is no cursor of a change stream"
    if wire.version != VERSION:
        return f"a cursor of version {wire.version}, which this peer does not know"
    return _checked(wire)


def _inflated(data: bytes) -> bytes:
    machine = zlib.decompressobj()
    found = machine.decompress(data, INFLATED_BYTES_MAX)
    if not machine.eof:
        raise ValueError("longer than any cursor")
    return found


def _checked(wire: _Wire) -> Cursor | str:
    at = MIN_TOKEN
    places = []
    good = len(wire.places) <= PLACES_MAX and wire.table >= 0 and 0 <= wire.since_us <= _U64_MAX
    good = good and 0 <= wire.began_us <= _U64_MAX
    for server, offsets in wire.stands:
        numbers = [number for number, _ in offsets]
        good = good and server >= 0 and len(offsets) <= OFFSETS_MAX
        good = good and numbers == sorted(dict.fromkeys(numbers))
        good = good and all(0 <= offset <= _U64_MAX for _, offset in offsets)
    for first, last, stand in wire.places:
        if not (good and at <= first <= last <= MAX_TOKEN and 0 <= stand < len(wire.stands)):
            return "this is no cursor of a change stream"
        places.append(Place(first, last, *wire.stands[stand]))
        at = last + 1
    if not good or not places:
        return "this is no cursor of a change stream"
    return Cursor(wire.name, wire.table, wire.since_us, tuple(places), wire.began_us, wire.scanned)


def _meeting(places: Sequence[Place], lasts: Sequence[int], place: Place) -> Iterator[Place]:
    """Those of some places, whose last tokens are `lasts`, that have tokens in common with one more."""
    for at in range(bisect_left(lasts, place.first), len(places)):
        if places[at].first > place.last:
            return
        yield places[at]


def laid_over(whole: Cursor, part: Cursor) -> Cursor:
    """A cursor that stands where `part` does in its ranges, elsewhere where `whole` does."""
    places: list[Place] = list(part.places)
    lasts = [other.last for other in part.places]
    for place in whole.places:
        at = place.first
        for other in _meeting(part.places, lasts, place):
            if at < other.first:
                places.append(Place(at, other.first - 1, place.server, place.offsets))
            at = other.last + 1
        if at <= place.last:
            places.append(Place(at, place.last, place.server, place.offsets))
    return msgspec.structs.replace(whole, table=part.table, places=tuple(sorted(places)))


def cut_to(cursor: Cursor, ranges: Sequence[tuple[int, int]]) -> Cursor:
    """The parts of a cursor in these ranges (ascending, disjoint)."""
    places = [
        Place(max(place.first, first), min(place.last, last), place.server, place.offsets)
        for place in cursor.places
        for first, last in ranges
        if place.first <= last and first <= place.last
    ]
    return msgspec.structs.replace(cursor, places=tuple(sorted(places)))


def advanced(old: Cursor, new: Cursor) -> Cursor:
    """A cursor of the ranges of both that says all that either says.

    All that a vector names was delivered, so of two offsets in one log the greater holds, too. Where both
    speak of a range, `new` says which replica was followed last. Of a snapshot under way the later place
    holds.
    """
    places: list[Place] = []
    lasts = [other.last for other in old.places]
    for place in new.places:
        at = place.first
        for other in _meeting(old.places, lasts, place):
            first, last = max(place.first, other.first), min(place.last, other.last)
            if at < first:
                places.append(Place(at, first - 1, place.server, place.offsets))
            offsets = dict(other.offsets)
            for number, offset in place.offsets:
                offsets[number] = max(offset, offsets.get(number, 0))
            places.append(Place(first, last, place.server, tuple(sorted(offsets.items()))))
            at = last + 1
        if at <= place.last:
            places.append(Place(at, place.last, place.server, place.offsets))
    is_over = old.scanned is None or new.scanned is None
    scanned = None if is_over else max(old.scanned or b"", new.scanned or b"")
    found = laid_over(old, msgspec.structs.replace(new, places=tuple(places)))
    return msgspec.structs.replace(found, scanned=scanned)


def scanned_within(cursor: Cursor, tokens: tuple[int, int]) -> Cursor:
    """A cursor of these tokens alone, of one that was read in the order of rows over more than these."""
    if not cursor.scanned:
        return cursor
    token = token_of_key(cursor.scanned)
    scanned = None if token > tokens[1] else b"" if token < tokens[0] else cursor.scanned
    return msgspec.structs.replace(cursor, scanned=scanned)


def name_of(cluster: bytes, table: str) -> str:
    """What cursors are of: offsets mean nothing to another cluster, or for another table (keyspace.table)."""
    return f"{cluster[:4].hex()}:{table}"


def after_event(places: Sequence[Place], token: int, offset: int) -> Place | None:
    """The place of an event's range when all up to its offset is delivered; None if it is in none of them."""
    for place in places:
        if place.first <= token <= place.last:
            offsets = dict(place.offsets)
            offsets[place.server] = offset
            return Place(place.first, place.last, place.server, tuple(sorted(offsets.items())))
    return None
