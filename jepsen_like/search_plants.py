"""Planted bugs of search and of the inverted index; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

from index.judging import Held
from index.naive_segments import NaiveSegments
from jepsen_like.plants import Plant
from node.search_index import FOLLOWING, OneIndex
from node.search_indexes import SearchIndexes
from node.search_serving import _Serving

INEXACT = ("missing", "stale", "wrong", "phantom")

_opened = OneIndex._opened
_commit_one = OneIndex._commit
_commit = NaiveSegments.commit


def _serve_without_following(self: Any) -> None:
    self._host.when_fresh(self._message.table, self._until_us, self._ready)


def _do_not_wait(self: Any, table: int, until_us: int, done: Any, mapping: str = "") -> None:
    self.when_open(table, until_us, done, mapping)


def _cover_what_was_not_read(self: Any, covers: int) -> None:
    """The marker of a commit names more of the log than was read."""
    _commit_one(self, covers + 3 if covers else 0)


def _forget_what_followed(self: Any, result: Any) -> None:
    """At its start an index takes itself to be as far as the log is."""
    _opened(self, result)
    if self.state == FOLLOWING:
        self.read_to = self.reached = self._owner.log_end()


def _search_everything(self: Any, ranges: Any) -> list[Held]:
    del ranges
    return [self._of(key) for key in sorted(self._kept.documents)]


def _never_delete(self: Any, changes: Any, covers: int) -> None:
    _commit(self, [change for change in changes if change.document is not None], covers)


SEARCH_PLANTS = (
    Plant(
        "not followed before searching",
        ((_Serving, "start", _serve_without_following),),
        "search",
        1,
        INEXACT,
    ),
    Plant("index not waited for", ((SearchIndexes, "when_fresh", _do_not_wait),), "search", 1, INEXACT),
    Plant(
        "marker ahead of what was read",
        ((OneIndex, "_commit", _cover_what_was_not_read),),
        "search",
        1,
        INEXACT,
    ),
    Plant(
        "index not replayed after a crash",
        ((OneIndex, "_opened", _forget_what_followed),),
        "search",
        1,
        INEXACT,
    ),
    Plant(
        "range filter forgotten",
        ((NaiveSegments, "_inside", _search_everything),),
        "search",
        1,
        ("duplicated", "disagreeing", *INEXACT),
    ),
    Plant("deletes not indexed", ((NaiveSegments, "commit", _never_delete),), "search", 1, INEXACT),
)
