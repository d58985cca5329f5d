"""Places in a document that is being updated: what a path leads to, and putting something else there.

An array on the way is entered only by a position. `put` makes what lacks on the way: objects in place of
whatever is no object, nulls up to a position beyond the end of an array. What was touched is noted.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from core.json_values import Value, type_name
from documents.cells import Path
from documents.edits import EditError
from documents.positional import is_mark
from query.document_values import MISSING, path_text, position_of

PADDING_MAX: Final = 10_000
"""An array grows by at most so many nulls to have a position."""


class Named(Protocol):
    """What messages call a step by."""

    @property
    def operator(self) -> str:
        """The operator."""

    @property
    def path(self) -> Path:
        """The path that it was given."""


def is_plain(path: Path) -> bool:
    """Whether a path means the same whatever the document is: no key could be a position in an array, or
    stand for some.
    """
    return all(position_of(key) is None and not is_mark(key) for key in path)


class Place:
    """Where a path leads to in the document that `holder` has under the empty key."""

    def __init__(self, holder: dict[str, Value], step: Named, touched: list[Path]) -> None:
        self._holder = holder
        self._step = step
        self._touched = touched
        self._path: Path = step.path

    def at(self, path: Path) -> Place:
        """Another place in the same document."""
        place = Place(self._holder, self._step, self._touched)
        place._path = path
        return place

    def conflict(self, why: str) -> EditError:
        """The error that this document is not one for this step."""
        where = f"{self._step.operator} {path_text(self._step.path)[:200]}"
        return EditError("patch_conflict", f"{where}: {why}")

    def is_in_array(self) -> bool:
        """Whether the path leads through an array."""
        here = self._holder.get("", MISSING)
        for key in self._path:
            if type(here) is list:
                return True
            here = here.get(key, MISSING) if type(here) is dict else MISSING
        return False

    def found(self) -> Value:
        """What is there; MISSING if nothing. A conflict if something else than an object is in the way."""
        here = self._holder.get("", MISSING)
        for at, key in enumerate(self._path):
            if here is MISSING:
                return MISSING
            if type(here) is dict:
                here = here.get(key, MISSING)
                continue
            position = position_of(key)
            if type(here) is not list or position is None:
                name = path_text(self._path[:at])[:60] or "the document"
                raise self.conflict(f"{name} is of type {type_name(here)}")
            here = here[position] if position < len(here) else MISSING
        return here

    def put(self, value: Value) -> None:
        """Have this there."""
        self._touched.append(self._path)
        holder: Any = self._holder
        key: Any = ""
        for step in self._path:
            below = holder[key] if type(holder) is list else holder.get(key)
            if type(below) is list and (position := position_of(step)) is not None:
                self._pad(below, position)
                holder, key = below, position
                continue
            if type(below) is not dict:
                below = {}
                holder[key] = below
            holder, key = below, step
        holder[key] = value

    def _pad(self, array: list[Value], position: int) -> None:
        lacking = position + 1 - len(array)
        if lacking > PADDING_MAX:
            raise self.conflict(f"position {position} is more than {PADDING_MAX} beyond the array's end")
        array += [None] * lacking

    def remove(self) -> None:
        """Have nothing there; an element of an array becomes null, so that no other moves."""
        holder: Any = self._holder
        key: Any = ""
        for step in self._path:
            below = holder[key] if type(holder) is list else holder.get(key)
            if type(below) is list:
                position = position_of(step)
                if position is None or position >= len(below):
                    return
                holder, key = below, position
            elif type(below) is dict and step in below:
                holder, key = below, step
            else:
                return
        self._touched.append(self._path)
        if type(holder) is list:
            holder[key] = None
        else:
            del holder[key]
