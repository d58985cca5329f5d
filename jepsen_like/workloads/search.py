"""Search: documents change what they are found by, and every answer has to be complete and exact.

A document has a word, a group and the number of its write. It is looked for by its word (all hits at once,
or in pages that are each asked of another peer), by ranges of groups, by both, and in the text of all fields.
What a hit says of its document comes from the index (as values to sort by), so an index that lags behind its
rows is seen. Half of the writes never reach one of the replicas of their document, which has to learn of them
from its siblings.

The total, the hits and the facets of one answer must agree; at the end, all peers find the same at ONE.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from core.consistency import Level
from core.messages import ApplyMutation, Message
from core.mutation import decode_mutation
from core.requests import WriteRequest
from core.searching import SearchAnswer, SearchRequest
from documents import operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.values import id_of
from index.aggregation import Buckets, TermsOf
from index.query import ALL, EXACT, NUMBER, All, Bool, Compare, Match, Query, SortKey
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.index_checker import judge_answers
from jepsen_like.session import SECOND, Session
from sim.real import node_of

COLLECTION = "found"
WORDS = ("space", "odyssey", "한국", "solaris")
ROWS, GROUPS = 40, 5
PAGE, EVERYTHING = 6, 500
FINAL_PATIENCE_US = 30 * SECOND
SORT = (SortKey("row", NUMBER), SortKey("word", EXACT), SortKey("group", NUMBER), SortKey("n", NUMBER))
"""By what never changes first, so that pages stay apart while documents change."""

KINDS = ("by_word", "by_range", "by_both", "in_pages", "by_text")

State = tuple[str, int, int]
"""(word, group, number of the write)."""


class SearchWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("write", "delete", *KINDS)

    def __init__(self) -> None:
        self._number = 0
        self._final_left = 0
        self._missing_writes = True
        self._disagreeing: list[Problem] = []

    # --- before

    def setup(self, session: Session) -> bool:
        """A collection; and writes that do not arrive everywhere."""
        self.session = session
        cluster = session.cluster
        cluster.network.drop = self._is_lost
        factor = cluster.options.replication
        spec = CollectionSpec(COLLECTION, None if factor == 3 else factor)
        self._create(spec, 0)
        everybody = [machine.index for machine in cluster.machines]
        return cluster.run_until(lambda: all(self._collection(p) for p in everybody), 60 * SECOND)

    def _create(self, spec: CollectionSpec, at: int) -> None:
        """Have it made, however often it takes."""
        cluster = self.session.cluster
        peer = at % len(cluster.machines)
        request = create_collection(spec, node_of(cluster, peer).metadata.state.members)

        def judge(end: End) -> None:
            if end.status != OK:
                cluster.scheduler.after(SECOND // 5, self._create, spec, at + 1)

        self.session.door.ask(peer, request, judge)  # type: ignore[arg-type]

    def _collection(self, peer: int) -> Collection | None:
        cluster = self.session.cluster
        if cluster.machines[peer].process is None:
            return None
        return find(node_of(cluster, peer).metadata.state, COLLECTION)

    def _is_lost(self, _source: int, target: int, message: Message) -> bool:
        """Every other document has one replica that no coordinator's write reaches."""
        if not self._missing_writes or not isinstance(message, ApplyMutation):
            return False
        mutation = decode_mutation(message.mutation)
        cluster = self.session.cluster
        if cluster.machines[target].process is None or mutation.token % 2:
            return False
        placement = node_of(cluster, target).metadata.state.placement(mutation.table)
        if placement is None or placement.table.name != COLLECTION:
            return False
        replicas = placement.replicas(mutation.token)
        chosen = replicas[mutation.token // 2 % len(replicas)]
        return len(replicas) > 2 and chosen == cluster.machines[target].peer

    # --- load

    def step(self) -> None:
        """Writes, deletes, and searches of all kinds."""
        random = self.session.random
        dice = random.randrange(10)
        if dice < 5:
            self._write("write", random.randrange(ROWS), -1)
        elif dice == 5:
            self._write("delete", random.randrange(ROWS), -1)
        else:
            self._search(KINDS[random.randrange(len(KINDS))], -1, Level.QUORUM)

    def probe(self, peer: int) -> None:
        """A write and a search; from now on writes reach all replicas."""
        self._missing_writes = False
        self._write("probe_write", self.session.random.randrange(ROWS), peer)
        self._search("probe_read", peer, Level.QUORUM)

    def _write(self, kind: str, row: int, peer: int) -> None:
        session, random = self.session, self.session.random
        self._number += 1
        state: State = (WORDS[random.randrange(len(WORDS))], random.randrange(GROUPS), self._number)
        operation = session.begin(kind, row, None if kind == "delete" else state, peer)
        collection = self._collection(operation.peer)
        if collection is None:
            session.end(operation, End(FAIL, None, "refused"))
            return
        if kind == "delete":
            planned = operations.delete(collection, f"d{row}")
        else:
            word, group, number = state
            text = f"the {word} number {number}"
            document = {"row": row, "word": word, "group": group, "n": number, "text": text}
            planned = operations.put(collection, f"d{row}", json.dumps(document).encode())
        assert isinstance(planned, operations.Operation), planned
        assert isinstance(planned.request, WriteRequest), "unconditional"
        session.door.ask(operation.peer, planned.request, partial(session.end, operation))

    def _search(self, kind: str, peer: int, level: Level) -> None:
        random = self.session.random
        what = (WORDS[random.randrange(len(WORDS))], random.randrange(GROUPS))
        operation = self.session.begin(kind, what, None, peer)
        self._page(operation, level, None, [])

    def _page(self, operation: Operation, level: Level, after: Any, found: list[Any]) -> None:
        """Hits; of pages each is asked of another peer."""
        session = self.session
        peer = operation.peer if after is None else session.random.randrange(len(session.cluster.machines))
        collection = self._collection(peer)
        if collection is None:
            session.end(operation, End(FAIL, None, "the peer does not know the collection"))
            return
        size = PAGE if operation.kind == "in_pages" else EVERYTHING
        aggregations = (("groups", TermsOf("group", NUMBER, 100)),)
        query = _query(operation.kind.removeprefix("final_"), operation.key)
        request = SearchRequest(
            (collection.table,), query, level, size, 0, SORT, after, aggregations, documents=False
        )

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end)
                return
            answer = end.result
            assert isinstance(answer, SearchAnswer), answer
            self._check_agreement(operation, answer, size)
            hits = [(int(id_of(hit.key)[1:]), _state(hit.sort)) for hit in answer.hits]
            found.extend(hits)
            if len(hits) == size:
                row = answer.hits[-1].sort[0]  # after all that this document may be meanwhile
                self._page(operation, level, ((row, "\U0010ffff", 10**9, 10**9), b"\xff"), found)
            else:
                session.end(operation, End(OK, found, f"of {len(found)}"))

        session.door.ask(peer, request, done)

    def _check_agreement(self, operation: Operation, answer: SearchAnswer, size: int) -> None:
        """The total, the hits and the facets of one answer speak of the same documents."""
        partial_ = answer.tables[0].partials["groups"]
        assert isinstance(partial_, Buckets)
        facets = sum(bucket.count for bucket in partial_.buckets)
        whole = size == EVERYTHING and len(answer.hits) != answer.total
        if facets != answer.total or whole:
            text = f"total {answer.total}, facets {facets}, hits {len(answer.hits)} in {operation!r}"
            self._disagreeing.append(Problem("disagreeing", text))

    # --- the end

    def final(self) -> None:
        """Each kind, at QUORUM and at ONE through each peer."""
        self.session.door.patience_us = FINAL_PATIENCE_US
        peers = [machine.index for machine in self.session.cluster.machines]
        plan = [(level, peer) for level in (Level.QUORUM, Level.ONE) for peer in peers]
        asked = [("by_word", (word, 0)) for word in WORDS] + [("by_range", ("", g)) for g in range(GROUPS)]
        self._final_left = len(plan) * len(asked)
        for level, peer in plan:
            for kind, what in asked:
                self._final(kind, what, level, peer)

    def _final(self, kind: str, what: tuple[str, int], level: Level, peer: int) -> None:
        operation = self.session.begin(f"final_{kind}", what, None, peer)
        self._page(operation, level, None, [])
        cluster = self.session.cluster

        def look() -> None:
            if operation.status == OK:
                self._final_left -= 1
            elif operation.status == "pending":
                cluster.scheduler.after(SECOND // 5, look)
            else:
                cluster.scheduler.after(SECOND, self._final, kind, what, level, peer)

        look()

    def finished(self) -> bool:
        """All final searches are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """All answers judged."""
        history = self.session.history.operations
        writes = [op for op in history if op.kind in ("write", "delete", "probe_write")]
        reads = [op for op in history if op.kind.startswith(("by_", "in_pages", "final_", "probe_read"))]
        return judge_answers(writes, reads, _asks_for) + self._disagreeing


def _query(kind: str, what: tuple[str, int]) -> Query:
    word, group = what
    by_word, by_group = Match("word", word), Compare("group", group)
    if kind == "by_range":
        return by_group
    if kind == "by_both":
        return Bool(must=(by_word,), filter=(by_group,))
    if kind == "by_text":
        return Bool(must=(Match(ALL, word),), filter=(All(),))
    return by_word


def _state(values: tuple[Any, ...]) -> State:
    _, word, group, number = values
    return str(word), int(group), int(number)


def _asks_for(read: Operation, state: State) -> bool:
    word, group = read.key
    kind = read.kind.removeprefix("final_")
    if kind == "by_range":
        return bool(state[1] >= group)
    if kind == "by_both":
        return bool(state[0] == word and state[1] >= group)
    return bool(state[0] == word)
