"""What is seen of one commit of an inverted index: answers that fail alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from core.errors import CorruptionError
from index.asking import Ask, Found, Refusal
from index.query import Fuzzy, Statistics, TermKey, TokenRanges
from index.viewing import View

Answer = TypeVar("Answer")


class Seen:
    """Implements index.changing.Visible: what is seen of one commit."""

    def __init__(self, view: View, covers: int) -> None:
        self._view = view
        self._covers = covers

    def without(self, hidden: Sequence[bytes]) -> Seen:
        """The same without these rows."""
        return Seen(guarded(lambda: self._view.without(hidden)), self._covers) if hidden else self

    def covers(self) -> int:
        """The offset covered."""
        return self._covers

    def documents(self) -> int:
        """How many documents there are."""
        return self._view.documents

    def held(self, ranges: TokenRanges) -> dict[bytes, bytes]:
        """By key, a hash of each document in these ranges."""
        return guarded(lambda: self._view.held(ranges))

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired."""
        return guarded(lambda: self._view.due(now_us, limit))

    def next_due_us(self) -> int:
        """When the first is due."""
        return guarded(self._view.next_due_us)

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """The weights of terms, and the lengths of fields."""
        return guarded(lambda: self._view.statistics(terms, fields, ranges))

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Hits and aggregations."""
        return guarded(lambda: self._view.search(ask, ranges))

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms within the distance."""
        return guarded(lambda: self._view.similar(query))

    def expand(
        self, field: str, view: str, prefix: str, limit: int, ranges: TokenRanges
    ) -> tuple[tuple[str, int], ...]:
        """Terms that begin so."""
        return guarded(lambda: self._view.expand(field, view, prefix, limit))


def guarded(question: Callable[[], Answer]) -> Answer:
    """Ask. A question that tantivy fails at fails alone: it must not end the peer.

    Its panics are no `Exception` in Python, and their class cannot be imported.
    """
    try:
        return question()
    except ValueError as error:
        raise CorruptionError(f"an inverted index cannot answer: {error}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise CorruptionError(f"an inverted index cannot answer: {error}") from error
        raise
