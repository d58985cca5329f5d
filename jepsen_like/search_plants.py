"""Planted bugs of search and of the inverted index; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

from index.judging import Held
from index.naive_segments import NaiveSegments, NaiveView
from index.tiers import Tiers
from jepsen_like.plants import Plant
from node.search_index import FOLLOWING, OneIndex
from node.search_indexes import SearchIndexes
from node.search_serving import _Serving

INEXACT = ("missing", "stale", "wrong", "phantom")

_opened = OneIndex._opened
_bring_in = OneIndex._bring_in
_write = NaiveSegments.write
_adopt = Tiers.adopt


def _serve_without_following(self: Any) -> None:
    self._host.when_fresh(self._message.table, self._until_us, self._ready)


def _do_not_wait(self: Any, table: int, until_us: int, done: Any, mapping: str = "") -> None:
    self.when_open(table, until_us, done, mapping)


def _cover_what_was_not_read(self: Any, segments: Any) -> None:
    """What is brought in names more of the log than was read."""
    self.read_to += 3
    _bring_in(self, segments)


def _forget_what_followed(self: Any, result: Any) -> None:
    """At its start an index takes itself to be as far as the log is."""
    _opened(self, result)
    if self.state == FOLLOWING:
        self.read_to = self.reached = self._owner.log_end()


def _search_everything(self: Any, ranges: Any) -> list[Held]:
    del ranges
    return [self._of(key) for key in sorted(self._documents)]


def _never_delete(self: Any, changes: Any, covers: int) -> None:
    _write(self, [change for change in changes if change.document is not None], covers)


def _hide_nothing(self: Any, keys: Any) -> tuple[bytes, ...]:
    """What is young is found in its older version, too."""
    del self, keys
    return ()


def _forget_what_came_meanwhile(self: Any) -> None:
    """When something was folded, everything that was shown is forgotten."""
    _adopt(self)
    self._now = self._seen({}, self.covers())


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
        ((OneIndex, "_bring_in", _cover_what_was_not_read),),
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
        ((NaiveView, "_inside", _search_everything),),
        "search",
        1,
        ("duplicated", "disagreeing", *INEXACT),
    ),
    Plant("deletes not indexed", ((NaiveSegments, "write", _never_delete),), "search", 1, INEXACT),
    Plant(
        "old versions not hidden",
        ((NaiveSegments, "having", _hide_nothing),),
        "search",
        1,
        ("duplicated", "disagreeing", *INEXACT),
    ),
    Plant(
        "forgotten what came while folding",
        ((Tiers, "adopt", _forget_what_came_meanwhile),),
        "search",
        1,
        INEXACT,
    ),
)
