"""The files of an inverted index as tantivy leaves them: which there are, and whether they are whole."""

from __future__ import annotations

from typing import Final
from zlib import crc32

import msgspec

FOOTER_MAGIC: Final = 1_337


def segments_of(meta: bytes) -> frozenset[str]:
    """What the names of the files of the last commit begin with, by its meta.json."""
    segments = msgspec.json.decode(meta, type=_Meta).segments
    return frozenset(one.segment_id.replace("-", "") for one in segments)


class _Segment(msgspec.Struct, frozen=True):
    segment_id: str


class _Meta(msgspec.Struct, frozen=True):
    segments: tuple[_Segment, ...]


class _Footer(msgspec.Struct, frozen=True):
    crc: int


def is_whole(data: bytes) -> bool:
    """Whether a file is as it was written.

    Each ends in a footer: JSON with the CRC-32 of what is before it, its length, and a magic number. It is
    computed when a file is written, and checked by nobody who reads it.
    """
    length, magic = int.from_bytes(data[-8:-4], "little"), int.from_bytes(data[-4:], "little")
    end = len(data) - 8 - length
    if magic != FOOTER_MAGIC or end < 0:
        return False
    try:
        footer = msgspec.json.decode(data[end : end + length], type=_Footer)
    except msgspec.DecodeError:
        return False
    return crc32(memoryview(data)[:end]) == footer.crc
