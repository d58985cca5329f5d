"""Slices as several replicas answered them: the merge of all, and what each of them lacks.

A slice is cut by limits on each replica. Where one of them has more to say beyond its last row, rows of the
others beyond that are not complete: the *frontier* is the least of the last keys of all that were cut, and
the merge ends there. Whoever wants more goes on after it (node/scans.py), which is all there is to short
reads.

Each replica has left out what its own tombstones cover. So a partition's header, wherever in the partition
the slice begins, has to be known to the merge: what one replica deleted another may still send.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile
from typing import Any, Protocol, TypeVar

import msgspec

from core.commands import Rows, Slice
from core.messages import SliceRead
from core.ports import PeerId
from core.row import (
    EMPTY_HEADER,
    EMPTY_ROW,
    Passed,
    Row,
    covered,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
    is_empty,
    merge_headers,
    merge_rows,
    normal,
)
from lsm.keys import HEADER_SUFFIX, partition_begun, split_row_key, token_range_bounds
from lsm.reading import digest_of


class Ranges(Protocol):
    """Where ranges end."""

    def last_token(self, token: int) -> int:
        """Of the range of this one."""


Result = TypeVar("Result")


class SliceResult(msgspec.Struct, frozen=True):
    """Merged rows in the slice's order, up to the frontier; `more`: rows after the last key, or after `end`,
    may follow.

    `end` is the key the slice is complete up to, b"" if it is complete. `passed` rows before these are dead.
    `disputed`: what comes after `end` is not the same everywhere, and has to be read row by row.
    """

    rows: tuple[tuple[bytes, Row], ...]
    more: bool
    end: bytes
    passed: int = 0
    disputed: bool = False


def result_of(part: Slice, message: SliceRead) -> SliceResult:
    """The answer when all agree: no merge, rows are decoded once."""
    rows = tuple(
        (key, decode_row(data))
        for key, data in message.rows
        if part.partition or part.point or not _is_header(key)
    )
    last = message.rows or message.passed
    end = last[-1][0] if message.more and last else b""
    return SliceResult(rows, message.more, end, sum(count for _, _, count in message.passed))


def agree(one: SliceRead, other: SliceRead) -> bool:
    """Whether two replicas answered the same."""
    same = one.rows == other.rows and one.header == other.header and one.more == other.more
    return same and one.passed == other.passed


def digest_told(message: SliceRead) -> bytes:
    """The digest of such an answer."""
    return digest_of(Rows(message.rows, message.header, message.more, passed=message.passed))


def passed_alike(answers: Collection[SliceRead]) -> SliceResult:
    """As far as answers to a slice with `live_us` agree that everything is dead.

    What comes after that is disputed, unless a replica has only not got any further.
    """
    shortest = min(answers, key=lambda answer: len(answer.passed))
    beside = zip(*(answer.passed for answer in answers), strict=False)
    alike = [chunks[0] for chunks in takewhile(_is_one, beside)]
    is_cut = len(alike) == len(shortest.passed) > 0 and shortest.more and not shortest.rows
    end, count = (alike[-1][0] if alike else b""), sum(chunk[2] for chunk in alike)
    return SliceResult((), True, end, count, disputed=not is_cut)


def _is_one(chunks: tuple[Passed, ...]) -> bool:
    return all(chunk == chunks[0] for chunk in chunks)


def _is_header(key: bytes) -> bool:
    return key.endswith(HEADER_SUFFIX) and split_row_key(key)[3] == HEADER_SUFFIX


Lacking = dict[PeerId, tuple[tuple[bytes, bytes], ...]]


def merge_slices(
    part: Slice, answers: dict[PeerId, SliceRead], has_clustering: bool
) -> tuple[SliceResult, Lacking]:
    """Merge the answers of several replicas to one slice; and per replica, the rows and headers it lacks.

    Pure. Rows beyond the frontier are left out: some replica may hold them and was cut before it could say
    so.
    """
    frontier = _frontier(part, answers)
    found: dict[bytes, dict[PeerId, bytes]] = {}
    for peer, answer in answers.items():
        for key, data in answer.rows:
            if frontier is None or (key >= frontier if part.reverse else key <= frontier):
                found.setdefault(key, {})[peer] = data
    lacking: dict[PeerId, list[tuple[bytes, bytes]]] = {}
    header, partition = EMPTY_HEADER, part.partition
    if has_clustering and not partition:
        partition = partition_begun(part.first)
    if partition:
        headers = {peer: answer.header for peer, answer in answers.items() if answer.header}
        header = _merge_header(headers, answers, partition + HEADER_SUFFIX, lacking)
    rows: list[tuple[bytes, Row]] = []
    for key in sorted(found):  # in key order, as a partition's header comes before its rows
        held = found[key]
        suffix = b""
        if has_clustering:
            suffix = split_row_key(key)[3]
            prefix = key[: len(key) - len(suffix)]
            if suffix == HEADER_SUFFIX:
                header, partition = _merge_header(held, answers, key, lacking), prefix
                continue
            if prefix != partition:
                header, partition = EMPTY_HEADER, prefix
        floor = covered(header, suffix)
        merged = EMPTY_ROW
        for data in held.values():
            merged = merge_rows(merged, decode_row(data), floor)
        merged = normal(merged.deletion, merged.cells, floor)
        if is_empty(merged):
            continue
        rows.append((key, merged))
        _note_lacking(key, encode_row(merged), held, answers, lacking)
    if part.reverse:
        rows.reverse()
    result = SliceResult(tuple(rows), frontier is not None, frontier or b"")
    return result, {peer: tuple(items) for peer, items in lacking.items()}


def _frontier(part: Slice, answers: dict[PeerId, SliceRead]) -> bytes | None:
    cut = [answer.rows[-1][0] for answer in answers.values() if answer.more and answer.rows]
    if not cut:
        return None
    return max(cut) if part.reverse else min(cut)


def _merge_header(
    held: dict[PeerId, bytes],
    answers: dict[PeerId, SliceRead],
    key: bytes,
    lacking: dict[PeerId, list[tuple[bytes, bytes]]],
) -> Any:
    header = EMPTY_HEADER
    for data in held.values():
        header = merge_headers(header, decode_header(data))
    if held:
        _note_lacking(key, encode_header(header), held, answers, lacking)
    return header


def _note_lacking(
    key: bytes,
    merged: bytes,
    held: dict[PeerId, bytes],
    answers: dict[PeerId, SliceRead],
    lacking: dict[PeerId, list[tuple[bytes, bytes]]],
) -> None:
    for peer in answers:
        if held.get(peer) != merged:
            lacking.setdefault(peer, []).append((key, merged))


def within_range(part: Slice, token: int, placement: Ranges) -> tuple[Slice, bool]:
    """A slice that begins at this token, cut where the token's range ends, and whether it was."""
    if part.point or part.partition or part.reverse:
        return part, False
    end = token_range_bounds(part.table, token, placement.last_token(token))[1]
    return (msgspec.structs.replace(part, end=end), True) if end < part.end else (part, False)


def cut_at(result: Result, bound: bytes) -> Result:
    """The result of a slice that was cut at a key: complete up to there, and more may follow."""
    if isinstance(result, SliceResult) and not result.more:
        return msgspec.structs.replace(result, more=True, end=bound)
    return result
