"""The set: add unique integers, look for them, and count at the end. Finds lost, stale, invented and doubled
writes.

Elements go in turn into two sets: one row per element in a plain bucket, spread over the ring, and rows of
one partition in an ordered bucket. Reads look for one element, or page through a piece of the partition.
"""

from __future__ import annotations

from copy import copy
from functools import partial

from core.consistency import Level
from jepsen_like.checkers import Problem, SetResult, Sighting, set_full
from jepsen_like.door import End, Found
from jepsen_like.history import NEVER, OK, Operation
from jepsen_like.session import SECOND, Session
from kv.buckets import Bucket, BucketSpec

FINAL_PAGE_ROWS = 300
FINAL_PATIENCE_US = 30 * SECOND
PAGE_ROWS = 40
PLAIN, ROWS = "plain", "rows"
RECENT = 200


class SetWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("add", "get", "page")

    def __init__(
        self, levels: tuple[Level, Level] = (Level.QUORUM, Level.QUORUM), immediate: bool = True
    ) -> None:
        """`levels` for writes and reads; `immediate`: together they promise that a read sees a write."""
        self.write_level, self.read_level = levels
        self.immediate = immediate
        self.buckets: dict[str, Bucket] = {}
        self.counts = {PLAIN: 0, ROWS: 0}
        self.sightings: dict[str, list[Sighting]] = {PLAIN: [], ROWS: []}
        self.finals: dict[str, list[Sighting]] = {PLAIN: [], ROWS: []}
        self.results: dict[str, SetResult] = {}
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """Two buckets."""
        self.session = session
        factor = session.cluster.options.replication
        for name in (PLAIN, ROWS):
            spec = BucketSpec(f"set-{name}", None if factor == 3 else factor, 0, ordered=name == ROWS)
            bucket = session.make_bucket(spec)
            if bucket is None:
                return False
            self.buckets[name] = bucket
        return True

    def step(self) -> None:
        """Two adds to one read."""
        dice = self.session.random.randrange(6)
        if dice < 4:
            self._add(PLAIN if dice % 2 else ROWS, "add", -1)
        elif dice == 4:
            self._get("get", -1)
        else:
            start = self._recent(ROWS)
            self._page("page", start, -1)

    def probe(self, peer: int) -> None:
        """An add and a get."""
        self._add(PLAIN, "probe_write", peer)
        self._get("probe_read", peer)

    def _recent(self, name: str) -> int:
        count = self.counts[name]
        back = self.session.random.randrange(min(count, RECENT) + 1)
        return (
            max(0, count - back)
            if self.session.random.randrange(4)
            else self.session.random.randrange(count + 1)
        )

    def _add(self, name: str, kind: str, peer: int) -> None:
        session, element = self.session, self.counts[name]
        self.counts[name] += 1
        operation = session.begin(kind, name, element, peer)
        value = str(element).encode().rjust(session.cluster.options.value_bytes, b".")
        item = (_key(element), value)
        session.door.put(
            operation.peer, self.buckets[name], item, self.write_level, partial(session.end, operation)
        )

    def _get(self, kind: str, peer: int) -> None:
        element = min(self._recent(PLAIN), max(0, self.counts[PLAIN] - 1))
        operation = self.session.begin(kind, PLAIN, element, peer)

        def done(end: End) -> None:
            self.session.end(operation, end)
            if end.status == OK:
                seen = () if end.result is None else (_element(end.result),)
                self.sightings[PLAIN].append(Sighting(operation, element, element + 1, seen))

        self.session.door.get(operation.peer, self.buckets[PLAIN], _key(element), self.read_level, done)

    def _page(self, kind: str, start: int, peer: int) -> None:
        operation = self.session.begin(kind, ROWS, start, peer)

        def done(end: End) -> None:
            if end.status == OK:
                rows, more = end.result
                end = end._replace(result=len(rows))
                seen = tuple(_element(row) for row in rows)
                stop = (seen[-1] + 1 if seen else start) if more else NEVER
                self.sightings[ROWS].append(Sighting(operation, start, stop, seen))
            self.session.end(operation, end)

        window = ("", _key(start - 1) if start else "", PAGE_ROWS)
        self.session.door.page(operation.peer, self.buckets[ROWS], window, self.read_level, done)

    # --- the end

    def final(self) -> None:
        """Everything, at the read level through one peer and at ONE through each."""
        peers = range(len(self.session.cluster.machines))
        plan = [(name, Level.ONE, peer) for name in (PLAIN, ROWS) for peer in peers]
        plan += [(name, self.read_level, 0) for name in (PLAIN, ROWS)]
        self._final_left = len(plan)
        self.session.door.patience_us = FINAL_PATIENCE_US
        for name, level, peer in plan:
            self._final_page(name, level, peer, [])

    def _final_page(self, name: str, level: Level, peer: int, rows: list[Found], began: int = NEVER) -> None:
        """Page after page; the read counts from the first page's beginning (`began`)."""
        bucket = self.buckets[name]
        operation = self.session.begin(f"final_{level}", name, len(rows), peer)
        began = min(began, operation.invoked)

        def done(end: End) -> None:
            if end.status != OK:
                self.session.end(operation, end)
                self.session.cluster.scheduler.after(SECOND, self._final_page, name, level, peer, rows, began)
                return
            found, more = end.result
            everything = rows + found
            self.session.end(operation, end._replace(result=len(everything)))
            if more and found:
                self._final_page(name, level, peer, everything, began)
                return
            whole = copy(operation)
            whole.invoked = began
            seen = tuple(_element(row) for row in everything)
            self.finals[name].append(Sighting(whole, 0, NEVER, seen))
            self._final_left -= 1

        window = ("", rows[-1].key if rows else "", FINAL_PAGE_ROWS)
        self.session.door.page(peer, bucket, window, level, done)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Both sets judged."""
        problems: list[Problem] = []
        for name in (PLAIN, ROWS):
            adds = [op for op in self.session.history.operations if op.key == name and _is_add(op)]
            result = set_full(adds, self.sightings[name], self.finals[name])
            self.results[name] = result
            problems += [p for p in result.problems if self.immediate or p.name != "stale"]
        return problems


def _is_add(operation: Operation) -> bool:
    return operation.kind in ("add", "probe_write")


def _key(element: int) -> str:
    return f"e{element:08d}"


def _element(found: Found) -> int:
    """The element of a row whose value is its own; -1, which nobody added, if value and key disagree."""
    element = int(found.key[1:])
    return element if found.value.lstrip(b".") == str(element).encode() else -1
