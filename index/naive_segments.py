"""The naive twin of the inverted index: every question is answered by looking at every document.

`NaiveView` answers: it is what the youngest documents of an index are searched by (index/tiers.py), and what
the real segments are compared with. `NaiveSegments` is an index of its own, which simulations run on. `kept`
outlives it: what was written there is what a crash leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from core.json_values import parse
from index.answering import Match, Scorers, answer, first_texts
from index.asking import Ask, Found, Refusal
from index.changing import Change, hash_of
from index.encoding import decoded, encoded
from index.judging import Counted, Held
from index.mapping import Rules
from index.query import EXACT, TEXT, FieldLength, Fuzzy, Statistics, TermKey, TokenRanges
from index.similar import keys_of, nearest
from lsm.keys import TOKEN_MAX, TOKEN_MIN, token_of

WHOLE: TokenRanges = ((TOKEN_MIN, TOKEN_MAX),)


class NaiveView:
    """Documents by key, as they are now. `known`: a view whose analyzed documents are taken over."""

    def __init__(
        self,
        rules: Rules,
        documents: Mapping[bytes, bytes],
        due_us: Mapping[bytes, int],
        known: NaiveView | None = None,
    ) -> None:
        self._rules = rules
        self._documents = documents
        self._due_us = due_us
        self._held: dict[bytes, tuple[bytes, Held]] = {}
        self._ordered: list[tuple[int, bytes]] | None = None
        if known is not None:
            held = known._held.copy()
            self._held = {key: one for key, one in held.items() if documents.get(key) is one[0]}

    def covers(self) -> int:
        """A view covers nothing by itself."""
        return 0

    def documents(self) -> int:
        """How many documents there are."""
        return len(self._documents)

    def held(self, ranges: TokenRanges) -> dict[bytes, bytes]:
        """Look at all."""
        return {
            key: hash_of(document)
            for key, document in self._documents.items()
            if any(first <= token_of(key) <= last for first, last in ranges)
        }

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Look at all."""
        expired = sorted((at, key) for key, at in self._due_us.items() if at <= now_us)
        return tuple(key for _, key in expired[:limit])

    def next_due_us(self) -> int:
        """The least."""
        return min(self._due_us.values(), default=0)

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """Count."""
        inside = self._inside(ranges)
        frequencies = {
            key: sum(held.frequency(key.field, key.term)[0] > 0 for held in inside) for key in terms
        }
        lengths = {}
        for name in fields:
            found_lengths = [held.length(name) for held in inside]
            lengths[name] = FieldLength(sum(map(bool, found_lengths)), sum(found_lengths))
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
        found = answer(ask, matches)
        if not ask.texts or isinstance(found, Refusal):
            return found
        texts = {hit.key: self._documents[hit.key] for hit in found.hits}
        return msgspec.structs.replace(found, texts=first_texts(texts))

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms within the distance."""
        terms = {term: None for each in self._inside(WHOLE) for term in sorted(each.terms(query.field, TEXT))}
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
        ordered = self._ordered
        if ordered is None:
            ordered = self._ordered = [(token_of(key), key) for key in sorted(self._documents)]
        if ranges == WHOLE:
            return [self._of(key) for _, key in ordered]
        return [
            self._of(key) for token, key in ordered if any(first <= token <= last for first, last in ranges)
        ]

    def _of(self, key: bytes) -> Held:
        found = self._held.get(key)
        if found is None:
            document = self._documents[key]
            found = self._held[key] = document, Counted(key, parse(document), self._rules)
        return found[1]


class Kept(msgspec.Struct):
    """What is durable: documents by key, and the offset that they cover."""

    documents: dict[bytes, bytes] = {}
    covers: int = 0
    due_us: dict[bytes, int] = {}
    gone_us: dict[bytes, int] = {}


class NaiveSegments(NaiveView):
    """Implements index.changing.Durable, and answers by what it has seen."""

    def __init__(self, rules: Rules, kept: Kept) -> None:
        super().__init__(rules, {}, {})
        self._kept = kept
        self._covers = 0
        self._added: list[Change] = []
        self.reload()

    def covers(self) -> int:
        """The offset covered."""
        return self._covers

    def add(self, changes: Sequence[Change]) -> None:
        """Remember them."""
        self._added += changes

    def write(self, changes: Sequence[Change], covers: int) -> None:
        """Take them all."""
        kept = self._kept
        added, self._added = self._added, []
        for change in (*added, *changes):
            kept.due_us.pop(change.key, None)
            kept.gone_us.pop(change.key, None)
            if change.document is None:
                kept.documents.pop(change.key, None)
            else:
                kept.documents[change.key] = change.document
                if change.due_us:
                    kept.due_us[change.key] = change.due_us
                    if change.is_gone_then:
                        kept.gone_us[change.key] = change.due_us
        kept.covers = covers

    def expire(self, now_us: int) -> bool:
        """Look at all."""
        kept = self._kept
        if all(at > now_us for at in kept.gone_us.values()):
            return False
        self.write((), kept.covers)
        gone = [key for key, at in kept.gone_us.items() if at <= now_us]
        self.write([Change(key, None) for key in gone], kept.covers)
        return True

    def reload(self) -> None:
        """See what is kept."""
        kept, held = self._kept, self._held
        self._documents, self._due_us = dict(kept.documents), dict(kept.due_us)
        self._held = {key: one for key, one in held.items() if kept.documents.get(key) is one[0]}
        self._ordered = None
        self._covers = kept.covers

    def refresh(self) -> bool:
        """There are no files."""
        return False

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Write, and see it."""
        self.write(changes, covers)
        self.reload()

    def having(self, keys: Sequence[bytes]) -> tuple[bytes, ...]:
        """Those that are there."""
        return tuple(key for key in keys if key in self._documents)

    def view(self, hidden: Sequence[bytes]) -> NaiveView:
        """All others."""
        without = frozenset(hidden)
        documents = {key: each for key, each in self._documents.items() if key not in without}
        due_us = {key: at for key, at in self._due_us.items() if key not in without}
        return NaiveView(self._rules, documents, due_us, self)

    def damaged(self) -> tuple[str, ...]:
        """There are no files."""
        return ()

    def bare(self) -> tuple[tuple[bytes, str], ...]:
        """Documents are kept as they are."""
        return ()

    def rest(self) -> None:
        """Changing needs nothing."""

    def close(self) -> None:
        """Forget what was analyzed."""
        self._held.clear()
