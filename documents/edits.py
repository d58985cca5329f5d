"""Edits: what a PATCH does to a document, as values that the conditional path applies and others need not.

An edit has *pieces* (documents/cells.py) if it can be written without knowing the document, and always a
function `apply` from the document to what becomes of it, with the paths that it touched. `apply` is given a
value of its own, which it may change.

    documents/edits.py        RFC 7396 merge patches (always in pieces)
    documents/json_patch.py   RFC 6902 patches (never)
    documents/updates.py      update operators (in pieces unless one depends on the document)
    documents/pipeline_updates.py   stages of an aggregation (never)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from core import limits
from core.errors import RequestError
from core.json_values import JsonError, Value, checked, depth_of
from documents.cells import Path, Piece, merge_pieces, too_many
from query.document_values import MISSING


class EditError(RequestError):
    """An edit that cannot be taken, or cannot be done to this document; `code` is a stable word.

    bad_patch: whatever the document, too_large and too_deep likewise; patch_conflict: not with this document.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Edited(msgspec.Struct):
    """What became of a document (MISSING: there is none) and the paths that were touched."""

    document: Value
    touched: list[Path]


class Edit(msgspec.Struct, frozen=True):
    """See above. `bytes` is about what it holds in memory. Where what it does depends on the document's id,
    `of` makes the edit for one.
    """

    apply: Callable[[Value], Edited]
    pieces: tuple[Piece, ...] | None
    bytes: int
    of: Callable[[str], Edit] | None = None


def parsed(text: bytes, bytes_max: int) -> Value:
    """The value of a patch's text; raises EditError."""
    try:
        return checked(text, bytes_max)
    except JsonError as error:
        code = "bad_body" if error.code == "malformed" else error.code
        raise EditError(code, str(error)) from None


def merge_patch(text: bytes, bytes_max: int = limits.DOCUMENT_BYTES_MAX) -> Edit:
    """A JSON Merge Patch (RFC 7396); raises EditError."""
    patch = parsed(text, bytes_max)
    pieces = merge_pieces(patch)
    problem = too_many(len(pieces))
    if problem is not None:
        raise EditError("too_many_cells", problem)

    def apply(document: Value) -> Edited:
        touched = [path for path, _, _ in pieces]
        return Edited(merged(document, patch), touched)

    return Edit(apply, tuple(pieces), len(text))


def merged(target: Value, patch: Value) -> Value:
    """MergePatch of RFC 7396, section 2; `target` may be MISSING."""
    if type(patch) is not dict:
        return patch
    result: dict[str, Any] = target if type(target) is dict else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def check_result(document: Value, text: bytes, bytes_max: int) -> None:
    """Raises EditError if an edit made a document that cannot be kept; `text` is its rendering."""
    if len(text) > bytes_max:
        raise EditError(
            "document_too_large", f"the document would have {len(text)} bytes; {bytes_max} are the limit"
        )
    if document is not MISSING and depth_of(document) > limits.DOCUMENT_DEPTH_MAX:
        limit = limits.DOCUMENT_DEPTH_MAX
        raise EditError("too_deep", f"the document would be nested more than {limit} levels deep")
