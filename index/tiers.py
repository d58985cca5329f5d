"""An index in two tiers: a large one on disk, and the newest documents in memory before it.

A commit to the index on disk syncs some ten files, and soon merges what it wrote with its neighbours: far
too much for every few writes that a search wants to see. But nothing has to be durable here, since the log
replays. So what changed is *shown* first: kept as documents, and judged one by one (index/judging.py), which
for a few hundred costs less than the commit. A few hundred at a time, or once a second, it is *folded* into
the index on disk by one commit, which nobody waits for; meanwhile more is shown.

    show(changes)      young + changes                                      at once
    fold()             write young as it is now                             slow, beside shows
    adopt()            see what was written; young without it               at once
    commit(changes)    write young + changes, see it, young is empty        for many changes
    expire(now)        both without what is gone by now                     for many documents with a TTL
    add(changes)       begin with that, before all of them are there

A row that is young is hidden in the old tier, whether it is there in an older version or has gone. So a
question is answered by two disjoint sets of documents, and their answers are put together just like those of
two peers. All that a search sees is one immutable `_Now`, replaced as a whole.

The offset that is durable is the one that was written, with what it covers: a crash takes the young tier
back, and exactly what it held is replayed from the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from index.asking import Ask, Found, Refusal
from index.changing import Change, Durable, Visible
from index.mapping import Rules
from index.merging import merge_all
from index.naive_segments import NaiveView
from index.ordering import sorted_hits
from index.query import Fuzzy, Statistics, TermKey, TokenRanges, add_statistics
from index.similar import TERMS_MAX, nearest


class _Young(NamedTuple):
    """What was shown: changes by key, how many bytes they are, the documents among them, what they cover."""

    changes: dict[bytes, Change]
    size: int
    documents: NaiveView
    covers: int


class _Now(NamedTuple):
    """What a search sees. `hidden` are young rows that the old tier has, too."""

    old: Visible
    young: _Young
    hidden: tuple[bytes, ...]


class Tiers:
    """Implements index.changing.Changeable."""

    def __init__(self, rules: Rules, durable: Durable) -> None:
        self._rules = rules
        self._durable = durable
        self._folded: dict[bytes, Change] = {}
        self._has_added = False
        self._now = self._seen({}, durable.covers())

    def _seen(self, changes: dict[bytes, Change], covers: int, known: NaiveView | None = None) -> _Now:
        """These changes before what the old tier holds now."""
        hidden = self._durable.having(tuple(changes))
        return _Now(self._durable.view(hidden), self._young(changes, covers, known), hidden)

    def _young(self, changes: dict[bytes, Change], covers: int, known: NaiveView | None) -> _Young:
        documents = {key: each.document for key, each in changes.items() if each.document is not None}
        due_us = {key: each.due_us for key, each in changes.items() if each.due_us and key in documents}
        size = sum(map(len, changes)) + sum(map(len, documents.values()))
        return _Young(changes, size, NaiveView(self._rules, documents, due_us, known), covers)

    # --- changing

    def show(self, changes: Sequence[Change], covers: int) -> None:
        """Keep them."""
        assert not self._has_added, "what was added is committed first"
        now = self._now
        fresh = {change.key: change for change in changes}
        young = self._young({**now.young.changes, **fresh}, covers, now.young.documents)
        more = self._durable.having([key for key in fresh if key not in now.young.changes])
        hidden = now.hidden + more
        self._now = _Now(self._durable.view(hidden) if more else now.old, young, hidden)

    def fold(self) -> None:
        """Write what is young at this moment."""
        assert not self._has_added, "what was added is committed first"
        young = self._now.young
        self._durable.write(tuple(young.changes.values()), young.covers)
        self._folded = young.changes

    def adopt(self) -> None:
        """See what was written, and forget it where it did not change since."""
        young, folded = self._now.young, self._folded
        self._folded = {}
        self._durable.reload()
        left = {key: change for key, change in young.changes.items() if folded.get(key) is not change}
        self._now = self._seen(left, young.covers, young.documents)

    def add(self, changes: Sequence[Change]) -> None:
        """Begin to write what is young, and these."""
        if not self._has_added:
            self._has_added = True
            self._durable.add(tuple(self._now.young.changes.values()))
        self._durable.add(changes)

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Write what is young together with these and what was added, and see it."""
        latest = {change.key: change for change in changes}
        if not self._has_added:
            latest = {**self._now.young.changes, **latest}
        self._durable.write(tuple(latest.values()), covers)
        self._has_added = False
        self._durable.reload()
        self._now = self._seen({}, covers)

    def expire(self, now_us: int) -> bool:
        """Take out what is gone by now. What was added and is committed with it covers nothing yet."""
        young = self._now.young
        left = {
            key: Change(key, None) if each.is_gone_then and each.due_us <= now_us else each
            for key, each in young.changes.items()
        }
        if not self._durable.expire(now_us) and left == young.changes:
            return False
        self._durable.reload()
        self._now = self._seen(left, young.covers, young.documents)
        return True

    def shown(self) -> tuple[int, int]:
        """How many rows, and bytes."""
        young = self._now.young
        return len(young.changes), young.size

    def bare(self) -> tuple[tuple[bytes, str], ...]:
        """Of the old tier: the young one analyzes a document when it is judged."""
        return self._durable.bare()

    def rest(self) -> None:
        """Nothing will be written for a while."""
        self._durable.rest()
        self.refresh()

    def refresh(self) -> None:
        """See the same in fewer files, if it is."""
        if self._durable.refresh():
            young = self._now.young
            self._now = self._seen(young.changes, young.covers, young.documents)

    def close(self) -> None:
        """Let go of everything."""
        self._durable.close()

    # --- answering

    def covers(self) -> int:
        """The offset covered by what is visible."""
        return self._now.young.covers

    def documents(self) -> int:
        """How many documents there are."""
        now = self._now
        return now.old.documents() + now.young.documents.documents()

    def held(self, ranges: TokenRanges) -> dict[bytes, bytes]:
        """Those of both."""
        now = self._now
        return {**now.old.held(ranges), **now.young.documents.held(ranges)}

    def damaged(self) -> tuple[str, ...]:
        """Of the old tier; the young one has no files."""
        return self._durable.damaged()

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired, of both."""
        now = self._now
        return (now.young.documents.due(now_us, limit) + now.old.due(now_us, limit))[:limit]

    def next_due_us(self) -> int:
        """The earlier one."""
        now = self._now
        return min(filter(None, (now.young.documents.next_due_us(), now.old.next_due_us())), default=0)

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """Added up."""
        tiers = self._tiers()
        found = [tier.statistics(terms, fields, ranges) for tier in tiers]
        return found[0] if len(found) == 1 else add_statistics(found)

    def _tiers(self) -> tuple[Visible, ...]:
        """Those that hold documents."""
        old, young, _ = self._now
        return (old, young.documents) if young.documents.documents() else (old,)

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Put together as the answers of peers are."""
        founds: list[Found] = []
        for tier in self._tiers():
            found = tier.search(ask, ranges)
            if isinstance(found, Refusal):
                return found
            founds.append(found)
        if len(founds) == 1:
            return founds[0]
        hits = sorted_hits((hit for found in founds for hit in found.hits), ask.sort, ask.limit)
        texts = {key: text for found in founds for key, text in found.texts.items()}
        return Found(
            sum(found.total for found in founds),
            tuple(hits),
            merge_all(ask.aggregations, [found.aggregations for found in founds]),
            max(found.score_max for found in founds),
            {hit.key: texts[hit.key] for hit in hits if hit.key in texts},
        )

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms of both."""
        keys = {key.term: key for tier in self._tiers() for key in tier.similar(query)}
        return tuple(keys[term] for term in nearest(query, keys)[:TERMS_MAX])

    def expand(
        self, field: str, view: str, prefix: str, limit: int, ranges: TokenRanges
    ) -> tuple[tuple[str, int], ...]:
        """Terms of both, with the sum of their frequencies."""
        counts: dict[str, int] = {}
        for tier in self._tiers():
            for term, count in tier.expand(field, view, prefix, limit, ranges):
                counts[term] = counts.get(term, 0) + count
        return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit])
