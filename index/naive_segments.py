"""The naive twin of the inverted index: every question is answered by looking at every document.

It is what simulations run on and what the real segments are compared with. `kept` outlives it: what a commit
put there is what a crash leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from core.json_values import parse
from index.answering import Match, Scorers, answer
from index.asking import Ask, Found, Refusal
from index.changing import Change
from index.encoding import decoded, encoded
from index.judging import Held
from index.mapping import Rules
from index.query import EXACT, TEXT, FieldLength, Fuzzy, Statistics, TermKey, TokenRanges
from index.similar import keys_of, nearest
from lsm.keys import token_of


class Kept(msgspec.Struct):
    """What is durable: documents by key, and the offset that they cover."""

    documents: dict[bytes, bytes] = {}
    covers: int = 0
    due_us: dict[bytes, int] = {}


class NaiveSegments:
    """Implements index.changing.Changeable."""

    def __init__(self, rules: Rules, kept: Kept) -> None:
        self._rules = rules
        self._kept = kept
        self._held: dict[bytes, Held] = {}

    def covers(self) -> int:
        """The offset covered."""
        return self._kept.covers

    def documents(self) -> int:
        """How many documents there are."""
        return len(self._kept.documents)

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Take them all."""
        for change in changes:
            self._held.pop(change.key, None)
            if change.document is None:
                self._kept.documents.pop(change.key, None)
            else:
                self._kept.documents[change.key] = change.document
            self._kept.due_us.pop(change.key, None)
            if change.document is not None and change.due_us:
                self._kept.due_us[change.key] = change.due_us
        self._kept.covers = covers

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Look at all."""
        expired = sorted((at, key) for key, at in self._kept.due_us.items() if at <= now_us)
        return tuple(key for _, key in expired[:limit])

    def next_due_us(self) -> int:
        """The least."""
        return min(self._kept.due_us.values(), default=0)

    def rest(self) -> None:
        """Changing needs nothing."""

    def close(self) -> None:
        """Forget what was analyzed."""
        self._held.clear()

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """Count."""
        inside = self._inside(ranges)
        frequencies = {key: sum(key.term in held.terms(key.field, TEXT) for held in inside) for key in terms}
        lengths = {}
        for name in fields:
            texts = [text.length for text in (held.text(name) for held in inside) if text is not None]
            lengths[name] = FieldLength(len(texts), sum(texts))
        found = {key: count for key, count in frequencies.items() if count}
        return Statistics(len(inside), found, lengths)

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Judge every document."""
        scorers = Scorers(ask.statistics)
        score_of = scorers.of(ask.query)
        matches = []
        for held in self._inside(ranges):
            score = score_of(held)
            if score is not None:
                matches.append(Match(held, score if ask.scored else 0.0, scorers))
        return answer(ask, matches)

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms within the distance."""
        held = [self._of(key) for key in sorted(self._kept.documents)]
        terms = {term: None for each in held for term in sorted(each.terms(query.field, TEXT))}
        return keys_of(query, nearest(query, terms))

    def expand(
        self, field: str, view: str, prefix: str, limit: int, ranges: TokenRanges
    ) -> tuple[tuple[str, int], ...]:
        """Terms that begin so."""
        head = prefix if view == TEXT else encoded(EXACT, prefix) or ""
        counts = Counter(
            term for held in self._inside(ranges) for term in held.terms(field, view) if term.startswith(head)
        )
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
        return tuple((term if view == TEXT else str(decoded(view, term)), count) for term, count in ordered)

    def _inside(self, ranges: TokenRanges) -> list[Held]:
        return [
            self._of(key)
            for key in sorted(self._kept.documents)
            if any(first <= token_of(key) <= last for first, last in ranges)
        ]

    def _of(self, key: bytes) -> Held:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(key, parse(self._kept.documents[key]), self._rules)
        return held
