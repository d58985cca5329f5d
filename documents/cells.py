"""What an edit of a document writes: cells by path, so that edits of different paths merge.

    PUT            the root value
    merge patch    a marker for every object that it names, a value or tombstone for every other member
    $set a.b       markers for the root and a, a value for a.b
    $unset a.b     a tombstone, and no markers: it makes no objects

These need not know the document. An edit that does know it (`written_after`) writes only the paths that it
touched, all the same: what others write to other paths meanwhile stays. Arrays are values, so the path of
whatever is within one ends at the array.

Pieces are cells without a column: (path of keys, kind, text or None).
"""

from __future__ import annotations

from collections.abc import Iterable

from core import limits
from core.cell import MARKER, VALUE
from core.json_values import Value, render
from core.requests import Write
from query.document_values import MISSING

Path = tuple[str, ...]
Piece = tuple[Path, int, bytes | None]


def put_pieces(text: bytes) -> list[Piece]:
    """The whole document is this text."""
    return [((), VALUE, text)]


def merge_pieces(patch: Value) -> list[Piece]:
    """RFC 7396: members of objects are merged, null removes, everything else replaces."""
    found: list[Piece] = []
    waiting: list[tuple[Path, Value]] = [((), patch)]
    while waiting:
        path, part = waiting.pop()
        if type(part) is dict:
            found.append((path, MARKER, b""))
            waiting += [((*path, name), value) for name, value in part.items()]
        elif part is None and path:
            found.append((path, VALUE, None))
        else:
            found.append((path, VALUE, render(part)))
    return found


def set_pieces(values: Iterable[tuple[Path, Value]]) -> list[Piece]:
    """These paths hold these values (MISSING: nothing); no path is above another."""
    found: dict[tuple[Path, int], Piece] = {}
    for path, value in values:
        if value is MISSING:
            found[path, VALUE] = (path, VALUE, None)
            continue
        for depth in range(len(path)):
            found.setdefault((path[:depth], MARKER), (path[:depth], MARKER, b""))
        found[path, VALUE] = (path, VALUE, render(value))
    return list(found.values())


def written_after(document: Value, touched: Iterable[Path]) -> list[Piece]:
    """What makes these paths be as they are in `document`, which is what an edit made."""
    kept: list[tuple[Path, Value]] = []
    for path, value in sorted((_end_of(document, path) for path in touched), key=lambda end: end[0]):
        if kept and path[: len(kept[-1][0])] == kept[-1][0]:
            continue
        kept.append((path, value))
    return set_pieces(kept)


def _end_of(document: Value, path: Path) -> tuple[Path, Value]:
    """The longest beginning of the path that leads through objects only, and what is there."""
    here = document
    for at, key in enumerate(path):
        if type(here) is list:
            return path[:at], here
        if type(here) is not dict:
            return path, MISSING
        here = here.get(key, MISSING)
    return path, here


def writes(column: int, pieces: Iterable[Piece]) -> tuple[Write, ...]:
    """The pieces as cells of a column."""
    return tuple(
        Write(column, tuple(key.encode() for key in path), kind, text) for path, kind, text in pieces
    )


def too_many(count: int) -> str | None:
    """Why a document cannot have so many cells, or None."""
    if count <= limits.DOCUMENT_CELLS_MAX:
        return None
    return (
        f"the document would be kept in {count} pieces, {limits.DOCUMENT_CELLS_MAX} are the limit: "
        "PUT it as a whole, then it is one piece again"
    )
