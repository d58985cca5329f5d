"""The files of an inverted index as tantivy leaves them: which of them are not as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

FOOTER_MAGIC: Final = 1_337


def damaged_files(directory: Path) -> tuple[str, ...]:
    """The names of files of the last commit that are not as they were written.

    Each ends in a footer: JSON with the CRC-32 of what is before it, its length, and a magic number. It is
    computed when a file is written, and checked by nobody who reads it.
    """
    found = []
    meta = msgspec.json.decode((directory / "meta.json").read_bytes(), type=_Meta)
    segments = {one.segment_id.replace("-", "") for one in meta.segments}
    for file in sorted(directory.iterdir()):
        if file.name.partition(".")[0] not in segments:
            continue
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            continue  # merged away
        if not _is_whole(data):
            found.append(file.name)
    return tuple(found)


class _Segment(msgspec.Struct, frozen=True):
    segment_id: str


class _Meta(msgspec.Struct, frozen=True):
    segments: tuple[_Segment, ...]


class _Footer(msgspec.Struct, frozen=True):
    crc: int


def _is_whole(data: bytes) -> bool:
    length, magic = int.from_bytes(data[-8:-4], "little"), int.from_bytes(data[-4:], "little")
    end = len(data) - 8 - length
    if magic != FOOTER_MAGIC or end < 0:
        return False
    try:
        footer = msgspec.json.decode(data[end : end + length], type=_Footer)
    except msgspec.DecodeError:
        return False
    return crc32(memoryview(data)[:end]) == footer.crc
