"""Documents: every client edits another path of the same document, and no edit may be lost.

An element is a number that is added to a document: as a field by a merge patch or by `$set`, which do not
look at the document, or to an array by `$addToSet`, which does and takes the conditional path. Beside them
`$inc` counts. A document takes `ELEMENTS` elements, then the next one is begun; a few are in use at a time,
so edits of all kinds meet in one document, on both sides of every cut. Elements are judged as those of a set;
a count must be between the increments that were acknowledged and those that may have been done.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from core.consistency import Level
from core.json_values import Value, render
from core.requests import MetadataRequest, ReadRequest, RowsRead
from documents import operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.edits import Edit, merge_patch
from documents.operations import Operation as Planned
from documents.updates import update_of
from jepsen_like.checkers import Problem, SetResult, Sighting, set_full
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, OK, PENDING, Operation
from jepsen_like.session import SECOND, Session
from sim.real import node_of

ELEMENTS = 40
"""Elements of one document."""
AT_ONCE = 3
"""Documents in use at a time."""
FINAL_PATIENCE_US = 30 * SECOND
SETUP_US = 60 * SECOND
NAME = "edited"


class DocumentsWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("merge", "add", "count", "read")

    def __init__(self) -> None:
        self._elements: dict[int, int] = dict.fromkeys(range(AT_ONCE), 0)
        self._in_use = list(range(AT_ONCE))
        self.sightings: list[Sighting] = []
        self.finals: list[Sighting] = []
        self.counts: dict[int, int] = {}
        self.result: SetResult | None = None
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """One collection."""
        self.session = session
        cluster = session.cluster
        factor = cluster.options.replication
        spec = CollectionSpec(NAME, None if factor == 3 else factor)
        made: list[Collection] = []

        def attempt(at: int) -> None:
            peer = at % len(cluster.machines)
            state = node_of(cluster, peer).metadata.state
            request = create_collection(spec, state.members)
            assert isinstance(request, MetadataRequest), request
            session.door.ask(peer, request, partial(judge, at))

        def judge(at: int, end: End) -> None:
            state = node_of(cluster, at % len(cluster.machines)).metadata.state
            collection = find(state, NAME)
            if end.status == OK and collection is not None:
                made.append(collection)
            else:
                cluster.scheduler.after(SECOND // 5, attempt, at + 1)

        attempt(0)
        cluster.run_until(lambda: bool(made), SETUP_US)
        if made:
            self.collection = made[0]
        return bool(made)

    # --- load

    def step(self) -> None:
        """Two merges to an addition to an array, a count and a read."""
        draw = self.session.random.randrange
        at, dice = draw(AT_ONCE), draw(5)
        document = self._in_use[at]
        if dice == 4:
            self._read("read", document, -1)
        elif dice == 3:
            self._count(document)
        else:
            self._add("add" if dice == 2 else "merge", document, -1)
            if self._elements[document] == ELEMENTS:
                self._in_use[at] = len(self._elements)
                self._elements[self._in_use[at]] = 0

    def probe(self, peer: int) -> None:
        """An element of a document of this peer's own, and a read of that."""
        document = -1 - peer
        self._elements.setdefault(document, 0)
        self._add("probe_write", document, peer)
        self._read("probe_read", document, peer)

    def _add(self, kind: str, document: int, peer: int) -> None:
        element = document * ELEMENTS + self._elements[document]
        if document >= 0:
            self._elements[document] += 1
        operation = self.session.begin(kind, document, element, peer)
        edit = self._edit(kind, element)
        self._send(operation, edit)

    def _edit(self, kind: str, element: int) -> Edit:
        if kind == "add":
            return update_of({"$addToSet": {"listed": element}}, 0)
        if element % 2:
            return update_of({"$set": {f"fields.e{element}": element}}, 0)
        return merge_patch(render({"fields": {f"e{element}": element}}))

    def _count(self, document: int) -> None:
        operation = self.session.begin("count", document)
        self._send(operation, update_of({"$inc": {"counted": 1}}, 0))

    def _send(self, operation: Operation, edit: Edit) -> None:
        planned = operations.edit(self.collection, f"d{operation.key}", edit)
        assert isinstance(planned, Planned), planned

        def done(end: End) -> None:
            if end.status == OK and end.result is False:
                end = End(FAIL, None, "not applied")  # there is no condition that could be false
            self.session.end(operation, end)

        self.session.door.ask(operation.peer, planned.request, done)

    def _read(self, kind: str, document: int, peer: int, level: Level = Level.QUORUM) -> None:
        session = self.session
        operation = session.begin(kind, document, None, peer)
        is_final = kind.startswith("final")
        request = operations.get(self.collection, f"d{document}", level)
        assert isinstance(request, ReadRequest), request

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end)
                if is_final:
                    session.cluster.scheduler.after(SECOND, self._read, kind, document, peer, level)
                return
            value = self._value(end.result[-1])
            seen = _elements_of(value)
            session.end(operation, end._replace(result=len(seen)))
            if is_final:
                self._final_left -= 1
                if level is Level.SERIAL:
                    self.counts[document] = value.get("counted", 0)
            if document >= 0:
                first = document * ELEMENTS
                sightings = self.finals if is_final else self.sightings
                sightings.append(Sighting(operation, first, first + ELEMENTS, seen))

        session.door.ask(operation.peer, request, done)

    def _value(self, rows: RowsRead) -> dict[str, Any]:
        document = operations.found(self.collection, rows)
        value: dict[str, Any] = {} if document is None else document.value
        return value

    # --- the end

    def final(self) -> None:
        """Every document, once nobody edits any more: at QUORUM through each peer, then at SERIAL."""
        peers = range(len(self.session.cluster.machines))
        documents = [document for document in self._elements if document >= 0]
        plan = [(document, Level.QUORUM, peer) for document in documents for peer in peers]
        plan += [(document, Level.SERIAL, document % len(peers)) for document in documents]
        self._final_left = len(plan)
        self.session.door.patience_us = FINAL_PATIENCE_US
        self._read_when_idle(plan)

    def _read_when_idle(self, plan: list[tuple[int, Level, int]]) -> None:
        if self.session.waiting:
            self.session.cluster.scheduler.after(SECOND // 5, self._read_when_idle, plan)
            return
        for document, level, peer in plan:
            self._read(f"final_{level}", document, peer, level)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Elements judged as a set, and the counts."""
        history = self.session.history.operations
        adds = [op for op in history if op.kind in ("add", "merge")]
        self.result = set_full(adds, self.sightings, self.finals)
        return self.result.problems + _miscounted(history, self.counts)


def _elements_of(value: Value) -> tuple[int, ...]:
    fields = value.get("fields", {})
    strange = [-1 for name, element in fields.items() if name != f"e{element}"]
    return (*fields.values(), *value.get("listed", ()), *strange)


def _miscounted(history: list[Operation], counts: dict[int, int]) -> list[Problem]:
    problems = []
    for document, counted in sorted(counts.items()):
        counting = [op for op in history if op.kind == "count" and op.key == document]
        least = sum(op.status == OK for op in counting)
        most = least + sum(op.status in (INFO, PENDING) for op in counting)
        if not least <= counted <= most:
            text = f"document {document} counts {counted}, of {least} acknowledged and {most} possible"
            problems.append(Problem("miscounted", text))
    return problems
