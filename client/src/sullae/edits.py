"""What kind of edit a change is, and whether doing it twice would differ from doing it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sullae.errors import Invalid
from sullae.retrying import Repeat

MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
UPDATE: Final = "application/vnd.sullae.update+json"
_REPEATABLE: Final = frozenset(["$set", "$unset"])
"""Operators that neither look at the document nor add to it."""


@dataclass(frozen=True)
class Edit:
    """A kind of edit."""

    content_type: str
    member: str
    """What it is called in a line of a bulk request."""
    is_repeatable: bool

    def repeat_under(self, if_match: str | None, if_none_match: str | None) -> Repeat:
        """What a second time does."""
        plain = self.is_repeatable and if_match is None and if_none_match is None
        return Repeat.HARMLESS if plain else Repeat.KEYED


def edit_of(change: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Edit:
    """The kind of this change; raises Invalid if it mixes operators and members."""
    if not isinstance(change, Mapping):
        if change and all(len(each) == 1 and next(iter(each)).startswith("$") for each in change):
            return Edit(UPDATE, "update", is_repeatable=False)
        return Edit(JSON_PATCH, "patch", is_repeatable=False)
    dollars = [name.startswith("$") for name in change]
    if not any(dollars):
        return Edit(MERGE_PATCH, "merge", is_repeatable=True)
    if not all(dollars):
        raise Invalid("operators and members cannot be mixed in one change", kind="bad-patch")
    return Edit(UPDATE, "update", is_repeatable=_REPEATABLE.issuperset(change))
